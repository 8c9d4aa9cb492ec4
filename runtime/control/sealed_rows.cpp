#include "runtime/control/sealed_rows.h"

#include <openssl/crypto.h>

#include <boost/json.hpp>

namespace annal::control {
namespace json = boost::json;
namespace {

/// Null where `row` has no such text.
const json::string* text_of(const json::object& row, const char* member) {
    const json::value* value = member == nullptr ? nullptr : row.if_contains(member);
    const json::string* text = value == nullptr ? nullptr : value->if_string();
    return text != nullptr && !text->empty() ? text : nullptr;
}

std::string quoted(std::string_view text) {
    return json::serialize(json::value(json::string_view(text.data(), text.size())));
}

/// A sealed text is nowhere twice by chance: its key and nonce are random.
bool replace(std::string& row, std::string_view before, std::string_view after) {
    const std::string from = quoted(before), to = quoted(after);
    const std::size_t at = row.find(from);
    if (at == std::string::npos || row.find(from, at + 1) != std::string::npos) return false;
    row.replace(at, from.size(), to);
    return true;
}

}  // namespace

Result<SealedRow> reseal(const SealedSpace& space, const KvRow& row, const SecretBox& box) {
    const Error damaged{Errc::internal, "the row is damaged"};
    boost::system::error_code error;
    const json::value value = json::parse(row.value, error);
    if (error || !value.is_object()) return damaged;
    const json::object& object = value.get_object();
    const json::string* owner = text_of(object, space.object);
    const std::string bound_to = owner != nullptr ? std::string(owner->c_str()) : row.key;
    SealedRow result;
    std::string changed = row.value;
    for (const char* member : space.members) {
        const json::string* found = text_of(object, member);
        if (found == nullptr) continue;
        ++result.secrets;
        const std::string_view sealed(found->data(), found->size());
        // Also what is current: that it can be opened is what counts.
        BOOST_OUTCOME_TRY(std::string plain, box.open(row.project, bound_to, sealed));
        const std::string anew =
            box.is_current(sealed) ? std::string() : box.seal(row.project, bound_to, plain);
        OPENSSL_cleanse(plain.data(), plain.size());
        if (!anew.empty() && !replace(changed, sealed, anew)) return damaged;
    }
    if (changed != row.value) result.resealed = std::move(changed);
    return result;
}

}  // namespace annal::control
