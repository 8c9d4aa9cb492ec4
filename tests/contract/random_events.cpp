#include "tests/contract/random_events.h"

#include <algorithm>
#include <array>

#include "runtime/event/event_json.h"

namespace annal::test {
namespace {

constexpr TimeUs kHour = 3'600 * kSecondUs;
constexpr std::size_t kNeedleCharactersMax = 12;
constexpr std::array kSearched{
    Column::action, Column::actor_id, Column::target_id, Column::description};

// Some fold to an ASCII letter in Unicode (K, ſ, İ), which the filter's letters do not.
const std::vector<std::string> kCharacters = {
    "a", "b", "e", "k", "s", "i", "A", "B",  "E",  "K",    "S",    "I",    "0",    "9",    ".",
    "_", "%", "*", "-", " ", ":", "(", "^",  "'",  "\"",   "\\",   "\n",   "\t",   "ä",    "Ä",
    "ß", "K", "ſ", "İ", "ı", "é", "é", "日", "本", "🦉", "🪵", "\x01", "\x7f", "NEAR", "AND"};

std::vector<std::string> characters(std::string_view text) {
    std::vector<std::string> all;
    for (const char c : text) {
        if ((static_cast<unsigned char>(c) & 0xC0) == 0x80) {
            all.back() += c;
        } else {
            all.emplace_back(1, c);
        }
    }
    return all;
}

void flip_letter(std::string& character) {
    char& c = character.front();
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        c = static_cast<char>(c ^ 0x20);
    }
}

}  // namespace

std::string RandomEvents::text(std::size_t characters_max) {
    std::string made;
    for (std::size_t n = below(characters_max + 1); n > 0; --n) {
        made += kCharacters[below(kCharacters.size())];
    }
    return made;
}

std::string RandomEvents::action() {
    static const std::vector<std::string> words = {
        "auth", "user", "login", "log", "a", "b2", "mfa_x", "0", "created"};
    std::string made = words[below(words.size())];
    for (std::size_t n = 1 + below(one_in(5) ? 7 : 2); n > 0; --n) {
        made += "." + words[below(words.size())];
    }
    return made;
}

std::string RandomEvents::metadata() {
    static const std::vector<std::string> all = {
        "{}",
        "{ }",
        R"({"a" : 1.10,"b":12345678901234567890})",
        R"({"ü":"\u00fc\n","Ü":[true , null,{"x":{}}]})",
        "{\"日本\":\"🦉\"}"};
    return one_in(2) ? all[below(all.size())] : "{\"n\":  " + std::to_string(random_()) + "e-1}";
}

TimeUs RandomEvents::occurred_at(TimeUs now) {
    switch (below(6)) {
        case 0:
        case 1:
            return now - static_cast<TimeUs>(below(7'200)) * kSecondUs;
        case 2:
            return static_cast<TimeUs>(random_()) - INT64_C(2'000'000'000);
        default:
            return kNoTime;
    }
}

void RandomEvents::set_column(EventDraft& draft, Column column, std::vector<std::string>& kept) {
    static const std::vector<std::string> addresses = {
        "10.0.0.1", "255.255.255.255", "::1", "2001:db8::ff00:42:8329"};
    const auto keep = [&](std::string value) {
        kept.push_back(std::move(value));
        draft[column] = Text(kept.back());
    };
    if (column == Column::action) {
        keep(action());
    } else if (column == Column::actor_type) {
        keep(one_in(4) ? "x" + text(8) : "user");
    } else if (one_in(4)) {
        return;
    } else if (column == Column::ip) {
        keep(addresses[below(addresses.size())]);
    } else if (column == Column::metadata) {
        keep(metadata());
    } else if (one_in(8)) {
        keep("");
    } else if (column == Column::description) {
        keep(text(one_in(20) ? 900 : 40));
    } else if (one_in(2)) {
        keep(std::string(name(column)) + std::to_string(below(4)));
    } else {
        keep(text(column == Column::auth_type ? 12 : 24));
    }
}

void RandomEvents::add_event(Unit& unit, TimeUs now, Text key) {
    std::vector<std::string> kept;
    kept.reserve(kColumns);
    EventDraft draft;
    for (std::size_t c = 0; c < kColumns; ++c) {
        set_column(draft, static_cast<Column>(c), kept);
    }
    draft.occurred_at = occurred_at(now);
    draft.idempotency_key = key;
    for (const auto& issue : check_draft(draft)) {
        ADD_FAILURE() << "not a valid event: " << issue.pointer << " " << issue.detail;
    }
    unit.draft(draft);
}

const Event* RandomEvents::any_event(const Truth& log) {
    for (int tries = 0; tries < 100 && !log.events.empty(); ++tries) {
        const Event& event = log.events[below(log.events.size())];
        if (!event.deleted) {
            return &event;
        }
    }
    return nullptr;
}

std::string RandomEvents::needle(const Truth& log) {
    const Event* event = any_event(log);
    const std::size_t size = 1 + below(kNeedleCharactersMax);
    if (event == nullptr || one_in(8)) {
        return "k" + text(size - 1);
    }
    std::string found((*event)[kSearched[below(kSearched.size())]].view());
    std::size_t begin_max = characters(found).size();
    if (one_in(6)) {
        const std::size_t other = below(kSearched.size() - 1);
        found = (*event)[kSearched[other]].view();
        begin_max = characters(found).size();
        found += (*event)[kSearched[other + 1]].view();
    }
    auto all = characters(found);
    if (all.empty()) {
        return "a";
    }
    std::string made;
    const std::size_t begin = below(std::max<std::size_t>(begin_max, 1));
    for (std::size_t i = begin; i < all.size() && i < begin + size; ++i) {
        if (one_in(3)) {
            flip_letter(all[i]);
        }
        made += all[i];
    }
    return made;
}

void RandomEvents::add_part(Filter& filter, const Event& event) {
    using Kind = ActionPattern::Kind;
    const std::string action(event[Column::action].view());
    const TimeUs at = event.created_at + static_cast<TimeUs>(below(3)) - 1;
    const TimeUs occurred = event.occurred_at == kNoTime ? event.created_at : event.occurred_at;
    switch (below(9)) {
        case 0:
            filter.actions.push_back({Kind::exact, action});
            break;
        case 1:
            filter.actions.push_back({Kind::prefix, action.substr(0, action.find('.') + 1)});
            break;
        case 2:
            filter.action_prefix = action.substr(0, below(action.size() + 1));
            break;
        case 3:
        case 4: {
            const std::size_t column = below(static_cast<std::size_t>(Column::ip) + 1);
            if (!event.columns[column].is_null()) {
                filter.equals[column] = event.columns[column].view();
            }
            break;
        }
        case 5:
            filter.from = at;
            break;
        case 6:
            filter.before = at;
            break;
        case 7:
            filter.occurred_from = occurred - static_cast<TimeUs>(below(2)) * kHour;
            break;
        default:
            filter.occurred_before = occurred + static_cast<TimeUs>(below(2)) * kHour;
            break;
    }
}

Filter RandomEvents::filter(const Truth& log) {
    Filter made;
    if (!one_in(4)) {
        made.text = needle(log);
    }
    // Parts of one event select it at least; parts of several are likely to select nothing.
    const Event* event = any_event(log);
    for (std::size_t n = below(4); n > 0 && event != nullptr; --n) {
        add_part(made, *event);
        event = one_in(4) ? any_event(log) : event;
    }
    return made;
}

}  // namespace annal::test
