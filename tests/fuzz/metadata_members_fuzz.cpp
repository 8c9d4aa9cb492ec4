// Finds members of metadata. Whatever the bytes are, nothing beyond them is read; in a valid object
// what is found is the value that a whole parser finds under that name, and nothing where it finds
// none.
//
// Input: the object.

#include "plugins/query_authpi/metadata_members.h"

#include <annal/sdk/json.hpp>

#include <array>
#include <string>
#include <string_view>

#include "tests/fuzz/fuzzing.h"

namespace {

using annal::Json;
using annal::fuzz::require;

constexpr std::array<std::string_view, 4> kNames{"request", "response", "duration_ms", "a"};

bool same(const Json& a, const Json& b) {
    if (a.kind() != b.kind() || a.string() != b.string() || a.items().size() != b.items().size() ||
        a.members().size() != b.members().size()) {
        return false;
    }
    for (std::size_t i = 0; i < a.items().size(); ++i) {
        if (!same(a.items()[i], b.items()[i])) return false;
    }
    for (std::size_t i = 0; i < a.members().size(); ++i) {
        if (a.members()[i].first != b.members()[i].first ||
            !same(a.members()[i].second, b.members()[i].second)) {
            return false;
        }
    }
    if (a.is(Json::Kind::integer)) return a.integer() == b.integer();
    return !a.is(Json::Kind::boolean) || a.boolean() == b.boolean();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);  // exactly as long
    std::array<std::string_view, kNames.size()> values{};
    authpi::find_members(text, kNames, values);
    Json object;
    Json::Failure failure;
    if (!Json::parse(text, object, failure) || !object.is(Json::Kind::object)) return 0;
    for (std::size_t i = 0; i < kNames.size(); ++i) {
        const Json* const expected = object.find(kNames[i]);
        require((expected != nullptr) == !values[i].empty());
        if (expected == nullptr) continue;
        Json found;
        require(Json::parse(values[i], found, failure));
        require(same(found, *expected));
    }
    return 0;
}
