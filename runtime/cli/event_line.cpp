#include "runtime/cli/event_line.h"

#include <boost/json.hpp>

namespace annal::cli {

namespace json = boost::json;

namespace {

constexpr std::size_t kSeqWidth = 8, kActionWidth = 28, kActorWidth = 24, kTargetWidth = 24;

/// Text that somebody else wrote, harmless on a terminal: C0, DEL and C1 become \x…
std::string harmless(std::string_view text) {
    static const char* digits = "0123456789abcdef";
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        auto c = static_cast<unsigned char>(text[i]);
        const bool c1 =
            c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
        if (c1) c = static_cast<unsigned char>(text[++i]);
        if (c1 || c < 0x20 || c == 0x7f) {
            out += {'\\', 'x', digits[c >> 4U], digits[c & 15U]};
        } else {
            out += static_cast<char>(c);
        }
    }
    return out;
}

std::string text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains({name.data(), name.size()});
    if (value == nullptr || !value->is_string()) return {};
    return harmless({value->get_string().data(), value->get_string().size()});
}

void add(std::string& line, std::string_view text, std::size_t width) {
    if (!line.empty()) line += "  ";
    line += text.empty() ? "-" : text;
    if (text.size() < width) line.append(width - std::max<std::size_t>(text.size(), 1), ' ');
}

std::string pair_of(const std::string& type, const std::string& id) {
    if (type.empty() || id.empty()) return type + id;
    return type + ":" + id;
}

std::string actor_of(const json::object& event) {
    const json::value* actor = event.if_contains("actor");
    if (actor == nullptr || !actor->is_object()) return {};
    const std::string email = text_of(actor->get_object(), "email");
    const std::string id = text_of(actor->get_object(), "id");
    return pair_of(text_of(actor->get_object(), "type"), email.empty() ? id : email);
}

/// To the millisecond: the rest is for machines.
std::string time_of(const json::object& event) {
    std::string at = text_of(event, "created_at");
    constexpr std::size_t kMilliseconds = std::string_view("2026-05-14T18:42:13.001").size();
    if (at.size() > kMilliseconds) at.replace(kMilliseconds, std::string::npos, "Z");
    return at;
}

}  // namespace

std::string event_line(std::string_view text) {
    boost::system::error_code error;
    const json::value value = json::parse({text.data(), text.size()}, error);
    if (error || !value.is_object()) return harmless(text);
    const json::object& event = value.get_object();
    const json::value* seq = event.if_contains("seq");
    std::string number = seq != nullptr ? json::serialize(*seq) : "";
    if (number.size() < kSeqWidth) number.insert(0, kSeqWidth - number.size(), ' ');
    if (event.contains("deleted")) return number + "  (deleted)";
    std::string line = time_of(event);
    add(line, number, 0);
    add(line, text_of(event, "action"), kActionWidth);
    add(line, actor_of(event), kActorWidth);
    add(line, pair_of(text_of(event, "target_type"), text_of(event, "target_id")), kTargetWidth);
    add(line, text_of(event, "ip"), 0);
    if (const std::string said = text_of(event, "description"); !said.empty()) add(line, said, 0);
    return line;
}

}  // namespace annal::cli
