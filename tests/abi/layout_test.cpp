#include "tests/abi/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "annal/abi.h"

namespace annal::abi_test {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const fs::path kReleased = fs::path(ANNAL_SOURCE_DIR) / "tests/abi/released";

std::string read(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

fs::path file_of_this_version() {
    return kReleased /
           (std::to_string(ANNAL_ABI_MAJOR) + "." + std::to_string(ANNAL_ABI_MINOR) + ".txt");
}

constexpr const char* kHead =
    "# Layout of annal/abi.h on LP64: struct NAME GROWTH SIZE ALIGNMENT, then NAME OFFSET SIZE "
    "TYPE of each field.\n"
    "# Plugins in the field rely on it. UPDATE_GOLDEN=1 adds to it; nothing changes it.\n";

TEST(Layout, EveryReleasedStructIsAPrefixOfTodays) {
    int files = 0;
    for (const auto& entry : fs::directory_iterator(kReleased)) {
        if (entry.path().extension() != ".txt") continue;
        ++files;
        const auto released = parse_layout(read(entry.path()));
        EXPECT_GT(released.structs.size(), 40U) << entry.path();
        EXPECT_THAT(breaks(released, current_layout()), IsEmpty()) << "against " << entry.path();
    }
    EXPECT_GE(files, 1);
}

TEST(Layout, TheReleaseOfThisVersionIsComplete) {
    const auto file = file_of_this_version();
    const auto current = current_layout();
    const auto released = parse_layout(read(file));
    if (std::getenv("UPDATE_GOLDEN") && breaks(released, current).empty()) {
        std::ofstream(file, std::ios::binary) << kHead << to_text(current);
    }
    EXPECT_EQ(parse_layout(read(file)), current)
        << file
        << ": abi.h says more or other than this release of it. An addition belongs to a new "
           "ANNAL_ABI_MINOR; then run "
        << "this test with UPDATE_GOLDEN=1. A change breaks plugins: see the other test.";
}

TEST(Layout, NothingOfTheHeaderIsLeftOut) {
    const auto declared = declared_in(read(fs::path(ANNAL_SOURCE_DIR) / "sdk/include/annal/abi.h"));
    const auto current = current_layout();
    std::vector<std::string> structs, constants;
    for (const auto& [name, unused] : current.structs) structs.push_back(name);
    for (const auto& [name, unused] : current.constants) constants.push_back(name);
    EXPECT_THAT(structs, ::testing::ElementsAreArray(declared.structs));
    EXPECT_THAT(constants, ::testing::ElementsAreArray(declared.constants));
}

TEST(Layout, ItsTextReadsBackTheSame) {
    const auto current = current_layout();
    EXPECT_EQ(parse_layout(kHead + to_text(current)), current);
}

// --- The checker itself
// ---------------------------------------------------------------------------------------------

Layout sample() {
    Layout layout;
    layout.structs["annal_s"] = {
        Growth::sized,
        24,
        8,
        {{"struct_size", 0, 4, "unsigned int"},
         {"count", 4, 4, "unsigned int"},
         {"first", 8, 8, "void (*)(int)"},
         {"second", 16, 4, "int"}}};
    layout.structs["annal_f"] = {
        Growth::fixed, 16, 8, {{"ptr", 0, 8, "char const*"}, {"len", 8, 8, "unsigned long"}}};
    layout.constants = {{"ANNAL_A", "1"}, {"ANNAL_SERVICE_X", "annal.x/1"}};
    return layout;
}

TEST(LayoutChecker, AdditionsAtTheEndAreFine) {
    auto now = sample();
    now.structs["annal_s"].fields.push_back({"third", 24, 8, "void (*)()"});
    now.structs["annal_s"].size = 32;
    now.structs["annal_t"] = {Growth::sized, 4, 4, {{"struct_size", 0, 4, "unsigned int"}}};
    now.constants["ANNAL_B"] = "2";
    EXPECT_THAT(breaks(sample(), now), IsEmpty());
}

TEST(LayoutChecker, ReportsSwappedFields) {
    auto now = sample();
    auto& fields = now.structs["annal_s"].fields;
    std::swap(fields[2], fields[3]);
    fields[2].offset = 8;
    fields[3].offset = 16;
    EXPECT_THAT(
        breaks(sample(), now),
        ElementsAre(
            HasSubstr("annal_s.first was at offset 8"), HasSubstr("annal_s.second was at offset 16")
        )
    );
}

TEST(LayoutChecker, ReportsAnInsertedField) {
    auto now = sample();
    auto& s = now.structs["annal_s"];
    s.fields.insert(s.fields.begin() + 2, {"between", 8, 8, "long"});
    s.fields[3].offset = 16;
    s.fields[4].offset = 24;
    s.size = 32;
    EXPECT_THAT(
        breaks(sample(), now),
        Contains(HasSubstr("annal_s.between is new, but lies within the 24 bytes"))
    );
    EXPECT_THAT(breaks(sample(), now), Contains(HasSubstr("annal_s.first was at")));
}

TEST(LayoutChecker, ReportsAFieldInReleasedPadding) {
    auto now = sample();
    now.structs["annal_s"].fields.push_back({"third", 20, 4, "int"});
    EXPECT_THAT(
        breaks(sample(), now), ElementsAre(HasSubstr("annal_s.third is new, but lies within"))
    );
}

TEST(LayoutChecker, ReportsAnotherSignatureOfTheSameSize) {
    auto now = sample();
    now.structs["annal_s"].fields[2].type = "void (*)(long)";
    EXPECT_THAT(breaks(sample(), now), ElementsAre(HasSubstr("annal_s.first was at")));
}

TEST(LayoutChecker, ReportsRemovalsRenamesAndNewValues) {
    auto now = sample();
    now.structs["annal_s"].fields[3].name = "zweites";
    now.structs.erase("annal_f");
    now.constants["ANNAL_A"] = "7";
    now.constants.erase("ANNAL_SERVICE_X");
    EXPECT_THAT(
        breaks(sample(), now),
        ElementsAre(
            "annal_f is gone",
            "annal_s.second is gone",
            HasSubstr("annal_s.zweites is new, but"),
            "ANNAL_A was 1, it is 7",
            "ANNAL_SERVICE_X is gone"
        )
    );
}

TEST(LayoutChecker, ReportsGrowthOfWhatCannotGrow) {
    auto now = sample();
    now.structs["annal_f"].fields.push_back({"extra", 16, 8, "long"});
    now.structs["annal_f"].size = 24;
    EXPECT_THAT(breaks(sample(), now), ElementsAre(HasSubstr("annal_f has grown, which it can't")));
    now.structs["annal_f"].growth = Growth::sized;
    EXPECT_THAT(breaks(sample(), now), Contains(HasSubstr("which its first field belies")));
}

TEST(LayoutChecker, FindsWhatAHeaderDeclares) {
    const auto declared = declared_in(
        "/* typedef struct annal_no { */\ntypedef struct annal_a { int x; } annal_a;\ntypedef "
        "struct annal_opaque annal_opaque;\n"
        "enum { /* ANNAL_NOT = 1 */ ANNAL_ONE = 1, ANNAL_TWO = 2u /* x */ };\n#define "
        "ANNAL_SERVICE_X \"x\"\n#define ANNAL_HAS(p) p\n"
    );
    EXPECT_THAT(declared.structs, ElementsAre("annal_a"));
    EXPECT_THAT(declared.constants, ElementsAre("ANNAL_ONE", "ANNAL_SERVICE_X", "ANNAL_TWO"));
}

}  // namespace
}  // namespace annal::abi_test
