#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

// The architecture's absences, read from the sources: which folder may know which, who may load
// libraries, and where Asio may not be seen.

namespace annal::abi_test {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

/// A folder of runtime/ may include those of a lower rank. Equal ranks do not know each other.
const std::map<std::string, int, std::less<>> kRanks = {
    {"core", 0},
    {"event", 1},
    {"store", 2},
    {"bus", 3},
    {"plugin", 4},
    {"http", 5},
    {"delivery", 5},
    {"webhooks", 6},
    {"retention", 6},
    {"jobs", 6},
    {"control", 7},
    {"app", 8},
    {"cli", 9}};

struct Include {
    int line = 0;
    bool quoted = false;
    std::string path;
};

struct Source {
    fs::path path;     ///< relative to the root
    std::string text;  ///< without comments, line breaks kept
    std::vector<Include> includes;
    [[nodiscard]] std::string part(std::size_t index) const {
        auto step = path.begin();
        for (; index > 0 && step != path.end(); --index) ++step;
        return step == path.end() ? std::string() : step->string();
    }
    /// x_test.cpp, and what several tests share: testing_x.h.
    [[nodiscard]] bool is_test() const {
        const auto stem = path.stem().string();
        return stem.ends_with("_test") || stem.starts_with("testing_");
    }
    [[nodiscard]] bool is_header() const {
        return path.extension() == ".h" || path.extension() == ".hpp";
    }
};

/// Comments become blanks; text in quotes stays, so that "//" in it is none.
std::string without_comments(const std::string& text) {
    std::string out = text;
    enum class In { code, line, block, string, character } in = In::code;
    for (std::size_t i = 0; i < out.size(); ++i) {
        const char c = text[i], next = i + 1 < text.size() ? text[i + 1] : '\0';
        switch (in) {
            case In::code:
                if (c == '/' && next == '/') in = In::line;
                if (c == '/' && next == '*') in = In::block;
                if (c == '"') in = In::string;
                // A digit before it makes it a separator: 10'000.
                if (c == '\'' && (i == 0 || !std::isalnum(static_cast<unsigned char>(text[i - 1]))))
                    in = In::character;
                if (in == In::line || in == In::block) out[i] = ' ';
                break;
            case In::line:
                if (c == '\n')
                    in = In::code;
                else
                    out[i] = ' ';
                break;
            case In::block:
                if (c == '/' && text[i - 1] == '*') in = In::code;
                if (c != '\n') out[i] = ' ';
                break;
            case In::string:
            case In::character:
                if (c == '\\')
                    ++i;
                else if (c == (in == In::string ? '"' : '\'') || c == '\n')
                    in = In::code;
                break;
        }
    }
    return out;
}

std::optional<Source> read_source(const fs::path& root, const fs::path& file) {
    static const std::regex kInclude(R"re(^\s*#\s*include\s*([<"])([^>"]+)[>"])re");
    const auto extension = file.extension();
    if (extension != ".h" && extension != ".hpp" && extension != ".cpp" && extension != ".c" &&
        extension != ".cc")
        return std::nullopt;
    std::ifstream in(file, std::ios::binary);
    Source out{
        fs::relative(file, root),
        without_comments({std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()}),
        {}};
    std::istringstream lines(out.text);
    std::string line;
    for (int number = 1; std::getline(lines, line); ++number) {
        std::smatch match;
        if (line.find("include") == std::string::npos) continue;
        if (std::regex_search(line, match, kInclude))
            out.includes.push_back({number, match[1] == "\"", match[2]});
    }
    return out;
}

std::string first_part(const std::string& path) {
    return path.substr(0, path.find('/'));
}

const std::optional<std::string> kTestsOnly = "only tests include what is made for tests";

bool is_for_tests(const Include& include) {
    return include.path.starts_with("tests/") ||
           fs::path(include.path).filename().string().starts_with("testing_");
}

std::optional<std::string> runtime_fault(const Source& source, const Include& include) {
    const auto target = first_part(include.path);
    if (target == "plugins" || target == "examples") return "runtime knows no plugin";
    if (is_for_tests(include)) return source.is_test() ? std::nullopt : kTestsOnly;
    if (target != "runtime") return std::nullopt;
    const auto own = source.part(1), other = first_part(include.path.substr(8));
    const auto from = kRanks.find(own), to = kRanks.find(other);
    if (from == kRanks.end() || to == kRanks.end())
        return "folder without a rank: add it to the test";
    if (own == other || from->second > to->second) return std::nullopt;
    return "runtime/" + own + " may not know runtime/" + other;
}

bool is_asio(const Include& include) {
    return include.path.starts_with("boost/asio") || include.path.starts_with("boost/beast");
}

/// Folders may use Asio in headers of their own; another folder's include would drag it in. Only
/// headers whose name says so (task_impl.h) are made for that.
void check_asio(const std::vector<Source>& sources, std::vector<std::string>& out) {
    std::set<std::string> heavy;
    for (const auto& source : sources) {
        const bool offered = source.path.stem().string().ends_with("_impl");
        const auto& includes = source.includes;
        if (source.is_header() && !offered &&
            std::any_of(includes.begin(), includes.end(), is_asio)) {
            heavy.insert(source.path.generic_string());
        }
    }
    for (const auto& source : sources) {
        for (const auto& include : source.includes) {
            const bool foreign = fs::path(include.path).parent_path() != source.path.parent_path();
            if (!foreign || !heavy.contains(include.path)) continue;
            out.push_back(
                source.path.generic_string() + ":" + std::to_string(include.line) + ": " +
                include.path +
                ": brings Asio into another folder; declare forward, or name it *_impl.h"
            );
        }
    }
}

std::optional<std::string> plugin_fault(
    const fs::path& root, const Source& source, const Include& include
) {
    const auto target = first_part(include.path);
    if (include.path.find("..") != std::string::npos) return "a plugin stays in its own folder";
    if (is_for_tests(include)) return source.is_test() ? std::nullopt : kTestsOnly;
    for (const char* foreign : {"runtime", "plugins", "examples", "sdk"}) {
        if (target == foreign)
            return "a plugin includes annal/… of the SDK, the standard library and third parties "
                   "only";
    }
    if (!include.quoted || target == "annal") return std::nullopt;
    if (fs::exists((root / source.path).parent_path() / include.path)) return std::nullopt;
    return "is not in the plugin's own folder";
}

/// Those that a plugin asks for by name, since they bring libraries of their own.
const std::map<std::string, std::string, std::less<>> kSdkOnRequest = {
    {"annal/sdk/digest.hpp", "openssl/"},
    {"annal/sdk/gzip.hpp", "zlib.h"},
    {"annal/sdk/record.hpp", "annal/sdk/gzip.hpp"}};

std::optional<std::string> sdk_fault(const Source& source, const Include& include) {
    if (source.part(1) == "webhooks" && source.is_header()) {
        const bool third = include.path.starts_with("openssl/");
        if (third || (!include.quoted && include.path.find('/') == std::string::npos)) {
            return std::nullopt;
        }
        return "receivers copy this file alone: the standard library and OpenSSL only";
    }
    const auto name = source.path.lexically_relative("sdk/include").generic_string();
    const auto own = kSdkOnRequest.find(name);
    if (own != kSdkOnRequest.end() && include.path.starts_with(own->second)) return std::nullopt;
    if (source.part(1) == "include" && kSdkOnRequest.contains(include.path)) {
        return "a header that brings a library is for plugins that ask for it";
    }
    if (source.part(1) != "include" || include.path.find('/') == std::string::npos ||
        include.path.starts_with("annal/")) {
        return std::nullopt;
    }
    return "the SDK needs the standard library only";
}

void check(const fs::path& root, const Source& source, std::vector<std::string>& out) {
    static const std::regex kLoading(R"(\bdl(m?open|sym)\s*\(|\bboost::dll\b)");
    const auto area = source.part(0);
    const bool loads = area == "runtime" && source.part(1) == "plugin";
    const auto where = [&](int line) {
        return source.path.generic_string() + ":" + std::to_string(line) + ": ";
    };
    for (const auto& include : source.includes) {
        std::optional<std::string> fault;
        if (area == "runtime") fault = runtime_fault(source, include);
        if (area == "plugins" || area == "examples") fault = plugin_fault(root, source, include);
        if (area == "sdk") fault = sdk_fault(source, include);
        const bool loader = include.path == "dlfcn.h" || include.path.starts_with("boost/dll");
        if (loader && !loads) fault = "only runtime/plugin loads libraries";
        if (fault) out.push_back(where(include.line) + include.path + ": " + *fault);
    }
    std::smatch match;
    // std::regex is slow; hardly any file holds these letters.
    if (source.text.find("dl") == std::string::npos) return;
    if (!loads && std::regex_search(source.text, match, kLoading)) {
        const auto line =
            1 + std::count(source.text.begin(), source.text.begin() + match.position(), '\n');
        out.push_back(
            where(static_cast<int>(line)) + match.str() + ": only runtime/plugin loads libraries"
        );
    }
}

struct Checked {
    int files = 0;
    std::vector<std::string> violations;
};

Checked check_tree(const fs::path& root) {
    Checked out;
    std::vector<Source> sources;
    for (const char* area : {"runtime", "plugins", "examples", "sdk"}) {
        if (!fs::exists(root / area)) continue;
        for (const auto& entry : fs::recursive_directory_iterator(root / area)) {
            if (!entry.is_regular_file()) continue;
            auto source = read_source(root, entry.path());
            if (!source) continue;
            ++out.files;
            check(root, *source, out.violations);
            sources.push_back(std::move(*source));
        }
    }
    check_asio(sources, out.violations);
    return out;
}

TEST(IncludeDirection, TheTreeObeys) {
    const auto checked = check_tree(ANNAL_SOURCE_DIR);
    EXPECT_GT(checked.files, 50);
    for (const auto& violation : checked.violations) ADD_FAILURE() << violation;
}

class PlantedViolation : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "annal-includes-XXXXXX").string();
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        root_ = pattern;
    }
    void TearDown() override { fs::remove_all(root_); }
    void plant(const std::string& file, const std::string& text) {
        fs::create_directories((root_ / file).parent_path());
        std::ofstream(root_ / file) << text;
    }
    std::vector<std::string> violations() { return check_tree(root_).violations; }
    fs::path root_;
};

TEST_F(PlantedViolation, UpwardAndSidewaysIncludes) {
    plant("runtime/core/a.cpp", "\n#include \"runtime/event/event.h\"\n");
    plant(
        "runtime/http/a.cpp",
        "#include \"runtime/delivery/stream.h\"\n#include \"runtime/plugin/call.h\"\n"
    );
    plant(
        "runtime/store/sqlite/a.cpp",
        "#include \"runtime/bus/appender.h\"\n#include \"runtime/store/filter.h\"\n"
    );
    plant("runtime/store/b.cpp", "#  include <runtime/app/steps.h>\n");
    plant("runtime/core/c.cpp", "#include \"runtime/novel/x.h\"\n");
    EXPECT_THAT(
        violations(),
        UnorderedElementsAre(
            "runtime/core/a.cpp:2: runtime/event/event.h: runtime/core may not know runtime/event",
            "runtime/http/a.cpp:1: runtime/delivery/stream.h: runtime/http may not know "
            "runtime/delivery",
            "runtime/store/sqlite/a.cpp:1: runtime/bus/appender.h: runtime/store may not know "
            "runtime/bus",
            "runtime/store/b.cpp:1: runtime/app/steps.h: runtime/store may not know runtime/app",
            HasSubstr("folder without a rank")
        )
    );
}

TEST_F(PlantedViolation, PluginsThatKnowTooMuch) {
    plant(
        "plugins/sink_x/own.h", "#include <annal/sdk.hpp>\n#include <zlib.h>\n#include \"own2.h\"\n"
    );
    plant("plugins/sink_x/own2.h", "");
    EXPECT_THAT(violations(), IsEmpty());
    plant(
        "plugins/sink_x/a.cpp",
        "#include \"runtime/core/clock.h\"\n#include \"../sink_y/y.h\"\n#include "
        "\"plugins/sink_y/y.h\"\n#include \"gone.h\"\n#include \"tests/support/x.h\"\n"
    );
    plant("examples/one/b.cpp", "#include <runtime/core/clock.h>\n");
    EXPECT_THAT(violations(), ::testing::SizeIs(6));
}

TEST_F(PlantedViolation, TestsSupportInTheProduct) {
    plant(
        "runtime/http/a_test.cpp",
        "#include \"tests/support/x.h\"\n#include \"runtime/http/testing_x.h\"\n"
    );
    plant("runtime/http/testing_x.h", "#include \"tests/support/x.h\"\n");
    EXPECT_THAT(violations(), IsEmpty());
    plant(
        "runtime/http/a.cpp",
        "#include \"tests/support/x.h\"\n#include \"runtime/http/testing_x.h\"\n"
    );
    EXPECT_THAT(violations(), ::testing::SizeIs(2));
}

TEST_F(PlantedViolation, LoadersElsewhere) {
    plant("runtime/plugin/a.cpp", "#include <dlfcn.h>\nvoid* f() { return dlopen(0, 0); }\n");
    EXPECT_THAT(violations(), IsEmpty());
    plant("runtime/app/a.cpp", "#include <boost/dll/shared_library.hpp>\n");
    plant(
        "runtime/app/b.cpp",
        "// dlopen( in a comment\nconst char* s = \"// \"; auto n = 10'000;\nvoid* f() { return "
        "dlopen (0, 0); }\n"
    );
    plant("plugins/x/a.cpp", "void* f() { return dlsym(0, 0); }\n");
    EXPECT_THAT(
        violations(),
        UnorderedElementsAre(
            HasSubstr("runtime/app/a.cpp:1: "),
            HasSubstr("runtime/app/b.cpp:3: "),
            HasSubstr("plugins/x/a.cpp:1: ")
        )
    );
}

TEST_F(PlantedViolation, AsioAcrossFoldersAndBoostInTheSdk) {
    plant("runtime/http/a.h", "#include <boost/asio/awaitable.hpp>\n");
    plant("runtime/http/a_impl.h", "#include <boost/beast/core.hpp>\n");
    plant("runtime/http/a.cpp", "#include \"runtime/http/a.h\"\n");
    plant(
        "runtime/app/a.cpp", "#include \"runtime/http/a_impl.h\"\n#include \"runtime/http/a.h\"\n"
    );
    plant(
        "sdk/include/annal/x.hpp",
        "#include <boost/json.hpp>\n#include <annal/abi.h>\n#include <vector>\n"
    );
    EXPECT_THAT(
        violations(),
        UnorderedElementsAre(
            HasSubstr("runtime/app/a.cpp:2: runtime/http/a.h: brings Asio"),
            HasSubstr("sdk/include/annal/x.hpp:1: ")
        )
    );
}

TEST_F(PlantedViolation, LibrariesThatEveryPluginWouldHaveToBring) {
    plant(
        "sdk/include/annal/sdk/digest.hpp", "#include <openssl/evp.h>\n#include <boost/json.hpp>\n"
    );
    plant("sdk/include/annal/sdk/x.hpp", "#include <openssl/evp.h>\n");
    plant("sdk/include/annal/sdk.hpp", "#include <annal/sdk/digest.hpp>\n");
    plant("plugins/sink_x/a.cpp", "#include <annal/sdk/digest.hpp>\n");
    EXPECT_THAT(
        violations(),
        UnorderedElementsAre(
            HasSubstr("sdk/include/annal/sdk/digest.hpp:2: "),
            HasSubstr("sdk/include/annal/sdk/x.hpp:1: "),
            HasSubstr("sdk/include/annal/sdk.hpp:1: ")
        )
    );
}

TEST_F(PlantedViolation, AVerifierThatCannotBeCopiedAlone) {
    plant(
        "sdk/webhooks/cpp/x.hpp",
        "#include <openssl/hmac.h>\n#include <string>\n#include <annal/sdk/digest.hpp>\n"
        "#include <boost/json.hpp>\n#include \"hex.hpp\"\n"
    );
    EXPECT_THAT(
        violations(),
        UnorderedElementsAre(
            HasSubstr("sdk/webhooks/cpp/x.hpp:3: "),
            HasSubstr("sdk/webhooks/cpp/x.hpp:4: "),
            HasSubstr("sdk/webhooks/cpp/x.hpp:5: ")
        )
    );
}

}  // namespace
}  // namespace annal::abi_test
