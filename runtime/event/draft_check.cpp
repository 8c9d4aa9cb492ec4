#include "runtime/event/draft_check.h"

#include <arpa/inet.h>

#include <array>
#include <cstring>

#include "runtime/core/json_text.h"
#include "runtime/core/limits.h"
#include "runtime/event/action.h"
#include "runtime/event/event_json.h"
#include "runtime/event/json_scanner.h"

namespace annal {
namespace {

bool is_ip(std::string_view text) {
    std::array<char, INET6_ADDRSTRLEN> copy;
    if (text.size() >= copy.size() || text.find('\0') != std::string_view::npos) {
        return false;
    }
    std::memcpy(copy.data(), text.data(), text.size());
    copy[text.size()] = '\0';
    std::array<unsigned char, 16> address;
    const int family = text.find(':') == std::string_view::npos ? AF_INET : AF_INET6;
    return inet_pton(family, copy.data(), address.data()) == 1;
}

ColumnProblem too_long(std::size_t size, std::size_t limit) {
    return {
        "too_long",
        "is " + std::to_string(size) + " bytes long; at most " + std::to_string(limit) +
            " are allowed"};
}

/// For text that has been checked already.
class NoProblems final : public JsonProblems {
public:
    void problem(std::string_view, std::size_t, std::string) override {}
};

/// Value of the member `description` when it is a string, cut to the column's length; else null.
Text metadata_description(std::string_view metadata, Arena& arena) {
    NoProblems none;
    JsonScanner scanner(metadata, arena, none);
    Text found;
    const auto on_member = [&](std::string_view key, std::size_t) {
        if (key != "description" || scanner.peek() != JsonScanner::Kind::string) {
            return scanner.skip(kMetadataDepthMax);
        }
        JsonScanner::String value;
        if (!scanner.string(value)) {
            return false;
        }
        found = utf8_prefix(scanner.text(value), size_max(Column::description));
        return true;
    };
    return scanner.peek() == JsonScanner::Kind::object && scanner.object(on_member) ? found
                                                                                    : Text();
}

/// Collects what is wrong with a draft that did not come from JSON.
class DraftCheck final : private JsonProblems {
public:
    explicit DraftCheck(const EventDraft& draft) : draft_(draft) {}

    std::vector<Issue> run() {
        require(Column::action);
        require(Column::actor_type);
        for (std::size_t i = 0; i < kColumns; ++i) {
            check(static_cast<Column>(i));
        }
        check_idempotency_key();
        return std::move(issues_);
    }

private:
    void add(std::string pointer, std::string_view code, std::string detail) {
        if (issues_.size() < kIssuesPerEventMax) {
            Issue issue;
            issue.pointer = std::move(pointer);
            issue.code = code;
            issue.detail = std::move(detail);
            issues_.push_back(std::move(issue));
        }
    }

    void problem(std::string_view code, std::size_t, std::string detail) override {
        add("/metadata" + metadata_scanner_->pointer(), code, std::move(detail));
    }

    static std::string pointer_of(Column column) { return "/" + std::string(name(column)); }

    void require(Column column) {
        if (draft_[column].is_null()) {
            add(pointer_of(column), "missing_field", "an event needs this field");
        }
    }

    /// Text that JSON could not have carried here.
    bool is_text(const std::string& pointer, std::string_view text) {
        if (!is_utf8(text)) {
            add(pointer, "bad_utf8", "the text is not UTF-8");
            return false;
        }
        if (text.find('\0') != std::string_view::npos) {
            add(pointer, "nul_character", "U+0000 is not allowed in text");
            return false;
        }
        return true;
    }

    void check(Column column) {
        const Text& text = draft_[column];
        if (text.is_null() || !is_text(pointer_of(column), text.view())) {
            return;
        }
        if (auto found = check_column(column, text.view()); !found.code.empty()) {
            add(pointer_of(column), found.code, std::move(found.detail));
        } else if (column == Column::metadata) {
            check_metadata(text.view());
        }
    }

    void check_metadata(std::string_view text) {
        if (!text.starts_with('{') || !text.ends_with('}')) {
            add("/metadata", "wrong_type", "must be a JSON object without white space around it");
            return;
        }
        Arena arena;
        JsonScanner scanner(text, arena, *this);
        metadata_scanner_ = &scanner;
        if (!scanner.skip(kMetadataDepthMax) || !scanner.end()) {
            add("/metadata",
                "malformed",
                scanner.error_detail() + " at byte " + std::to_string(scanner.error_offset()) +
                    " of the metadata");
        }
    }

    void check_idempotency_key() {
        const std::string pointer = "/idempotency_key";
        const Text& key = draft_.idempotency_key;
        if (key.is_null() || !is_text(pointer, key.view())) {
            return;
        }
        if (auto found = annal::check_idempotency_key(key.view()); !found.code.empty()) {
            add(pointer, found.code, std::move(found.detail));
        }
    }

    const EventDraft& draft_;
    const JsonScanner* metadata_scanner_ = nullptr;
    std::vector<Issue> issues_;
};

}  // namespace

ColumnProblem check_column(Column column, std::string_view text) {
    if (text.size() > size_max(column)) {
        return too_long(text.size(), size_max(column));
    }
    switch (column) {
        case Column::action:
            if (!is_action(text)) {
                return {
                    "bad_action",
                    "an action is 2 to 8 words of a-z, 0-9 and _ joined by dots, like "
                    "user.created"};
            }
            break;
        case Column::actor_type:
            if (text.empty()) {
                return {"missing_field", "must not be empty; name the kind of actor, like user"};
            }
            break;
        case Column::ip:
            if (!is_ip(text)) {
                return {"bad_ip", "must be an IPv4 or IPv6 address without port or zone"};
            }
            break;
        default:
            break;
    }
    return {};
}

ColumnProblem check_idempotency_key(std::string_view key) {
    if (key.empty()) {
        return {"missing_field", "must not be empty; leave it out when there is none"};
    }
    return key.size() > kIdempotencyKeyBytesMax ? too_long(key.size(), kIdempotencyKeyBytesMax)
                                                : ColumnProblem{};
}

std::vector<Issue> check_draft(const EventDraft& draft) {
    return DraftCheck(draft).run();
}

void apply_defaults(EventDraft& draft, Arena& arena) {
    if (draft[Column::auth_type].is_null()) {
        draft[Column::auth_type] = draft[Column::actor_type];
    }
    if (draft[Column::metadata].is_null()) {
        draft[Column::metadata] = "{}";
    }
    if (draft[Column::description].is_null()) {
        draft[Column::description] = metadata_description(draft[Column::metadata].view(), arena);
    }
}

}  // namespace annal
