#include "runtime/plugin/manifest_yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>

#include <algorithm>
#include <sstream>
#include <string_view>

namespace annal {
namespace {

constexpr int kNestingMax = 100;

/// Follows the parser through a stream before anything is built of it. yaml-cpp 0.7 passes over
/// some stray tokens without taking them, so that `LoadAll` would add empty documents until memory
/// ends (a file that holds "," is enough).
class Preflight : public YAML::EventHandler {
public:
    void OnDocumentStart(const YAML::Mark& mark) override {
        if (mark.pos == last_) throw YAML::ParserException(mark, "unexpected character");
        last_ = mark.pos;
        depth_ = 0;
    }
    void OnDocumentEnd() override {}
    void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
    void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
    void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&)
        override {}
    void OnSequenceStart(
        const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value
    ) override {
        deeper(mark);
    }
    void OnSequenceEnd() override { --depth_; }
    void OnMapStart(
        const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value
    ) override {
        deeper(mark);
    }
    void OnMapEnd() override { --depth_; }

private:
    void deeper(const YAML::Mark& mark) {
        if (++depth_ > kNestingMax)
            throw YAML::ParserException(mark, "nested more than 100 levels deep");
    }

    int last_ = -1;
    int depth_ = 0;
};

struct Parsed {
    std::vector<YAML::Node> documents;
    int line = 0;         ///< of the error
    std::string message;  ///< empty: none
};

/// yaml-cpp's exceptions end here.
Parsed parse(const std::string& text) {
    Parsed out;
    try {
        std::istringstream stream(text);
        YAML::Parser parser(stream);
        Preflight preflight;
        while (parser.HandleNextDocument(preflight)) {
        }
        out.documents = YAML::LoadAll(text);
    } catch (const YAML::Exception& e) {
        out.line = e.mark.is_null() ? 0 : e.mark.line + 1;
        out.message = e.msg;
    } catch (const std::exception& e) {
        out.message = e.what();
    }
    return out;
}

/// The documents that end before the one that holds `line`.
std::string documents_before(std::string_view text, int line) {
    std::size_t end = 0;
    int current = 1;
    for (std::size_t begin = 0; begin < text.size() && current <= line; ++current) {
        if (text.substr(begin).starts_with("---")) end = begin;
        begin = std::min(text.find('\n', begin), text.size()) + 1;
    }
    return std::string(text.substr(0, end));
}

}  // namespace

std::vector<YAML::Node> read_yaml(const std::string& text, ManifestErrors& errors) {
    auto parsed = parse(text);
    if (parsed.message.empty()) return std::move(parsed.documents);
    errors.add(parsed.line, "", "is no YAML: " + parsed.message);
    return parse(documents_before(text, parsed.line)).documents;
}

}  // namespace annal
