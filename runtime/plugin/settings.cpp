#include "runtime/plugin/settings.h"

#include <boost/json.hpp>
#include <optional>

#include "runtime/core/task_impl.h"
#include "runtime/store/read_space.h"

namespace annal {
namespace {

namespace json = boost::json;

constexpr const char* kSpace = "host.settings";
constexpr std::uint32_t kRowsPerRead = 1'000;
constexpr std::int64_t kRetentionDaysMax = 36'500;
constexpr std::size_t kValueBytesMax = 1'024;

/// One setting: its default, and what it takes.
struct Setting {
    const char* name;
    const char* fallback;
    const char* range;  ///< for people
    bool (*takes)(const json::value& value);
};

bool is_one_of(const json::value& value, std::string_view a, std::string_view b) {
    return value.is_string() && (value.get_string() == a || value.get_string() == b);
}

constexpr Setting kSettings[] = {
    {"audit_reads",
     "\"access_log\"",
     "\"access_log\" or \"own_log\"",
     [](const json::value& value) { return is_one_of(value, "access_log", "own_log"); }},
    {"audit_retention_days",
     "null",
     "an integer from 1 to 36500, or null for no limit of its own",
     [](const json::value& value) {
         if (value.is_null()) return true;
         if (value.is_int64())
             return value.get_int64() >= 1 && value.get_int64() <= kRetentionDaysMax;
         return false;
     }},
    {"catalog",
     "\"open\"",
     "\"open\" or \"strict\"",
     [](const json::value& value) { return is_one_of(value, "open", "strict"); }},
    {"legal_hold",
     "false",
     "true or false",
     [](const json::value& value) { return value.is_bool(); }},
};

Result<const Setting*> find_setting(const std::string& key) {
    std::string known;
    for (const Setting& setting : kSettings) {
        if (key == setting.name) return &setting;
        known += (known.empty() ? "" : ", ") + std::string(setting.name);
    }
    return Error{
        Errc::not_found, "no setting has the name " + key + "; there are: " + known, "key", 0};
}

/// The value in the one form it is kept in. @error Errc::unprocessable  Out of the setting's range.
Result<std::string> check_value(const Setting& setting, const std::string& text) {
    boost::system::error_code error;
    json::value value;
    if (text.size() <= kValueBytesMax) value = json::parse(text, error);
    if (text.size() > kValueBytesMax || error || !setting.takes(value)) {
        return Error{
            Errc::unprocessable,
            std::string(setting.name) + " must be " + setting.range,
            "/value",
            0};
    }
    return json::serialize(value);
}

/// The text of the event that records a change.
struct Change {
    std::string actor_type, actor_id, key, metadata;
};

AppendUnit change_unit(const std::string& project, std::shared_ptr<Change> change) {
    EventDraft draft;
    draft[Column::action] = "project.setting.updated";
    draft[Column::actor_type] = change->actor_type;
    if (!change->actor_id.empty()) draft[Column::actor_id] = change->actor_id;
    draft[Column::auth_type] = change->actor_type;
    draft[Column::target_type] = "setting";
    draft[Column::target_id] = change->key;
    draft[Column::metadata] = change->metadata;
    AppendUnit unit;
    unit.project = project;
    unit.events.push_back(draft);
    unit.memory = std::move(change);
    return unit;
}

}  // namespace

Task<Result<void>> Settings::load() {
    auto rows = co_await read_space(store_, kSpace);
    if (!rows) co_return std::move(rows).error();
    std::map<std::pair<std::string, std::string>, std::string> values;
    for (const KvRow& row : rows.value()) values[{row.project, row.key}] = row.value;
    const std::lock_guard lock(mutex_);
    values_ = std::move(values);
    co_return ok();
}

Task<Result<void>> Settings::reload(std::string project) {
    for (;;) {
        std::uint64_t before = 0;
        {
            const std::lock_guard lock(mutex_);
            before = edits_;
        }
        auto rows = co_await store_.kv_scan(kSpace, project, "", "", kRowsPerRead);
        if (!rows) co_return std::move(rows).error();
        const std::lock_guard lock(mutex_);
        if (edits_ != before) continue;  // what was read may be older than that
        const auto begin = values_.lower_bound({project, ""});
        auto end = begin;
        while (end != values_.end() && end->first.first == project) ++end;
        values_.erase(begin, end);
        for (const KvRow& row : rows.value()) values_[{row.project, row.key}] = row.value;
        co_return ok();
    }
}

Task<Result<void>> Settings::catch_up() {
    if (board_ == nullptr) co_return ok();
    co_return co_await board_->catch_up();
}

Result<std::string> Settings::get(const std::string& project, const std::string& key) const {
    BOOST_OUTCOME_TRY(const Setting* setting, find_setting(key));
    const std::lock_guard lock(mutex_);
    const auto found = values_.find({project, key});
    return found == values_.end() ? std::string(setting->fallback) : found->second;
}

Task<Result<void>> Settings::put(
    Appender& appender,
    std::string project,
    std::string key,
    std::string json,
    std::string actor_type,
    std::string actor_id
) {
    const auto setting = find_setting(key);
    if (!setting) co_return setting.error();
    auto value = check_value(*setting.value(), json);
    if (!value) co_return std::move(value).error();
    const std::string to = std::move(value).value();
    BOOST_OUTCOME_CO_TRYV(co_await catch_up());
    std::optional<std::string> stored;
    {
        const std::lock_guard lock(mutex_);
        const auto found = values_.find({project, key});
        if (found != values_.end()) stored = found->second;
    }
    const std::string from = stored.value_or(setting.value()->fallback);
    if (from == to) co_return ok();

    auto change = std::make_shared<Change>();
    change->actor_type = std::move(actor_type);
    change->actor_id = std::move(actor_id);
    change->key = key;
    change->metadata = "{\"from\":" + from + ",\"to\":" + to + "}";
    AppendUnit unit = change_unit(project, std::move(change));
    // Another change in between makes this one fail instead of recording a `from` that never was.
    const auto guard = stored ? KvOp::Kind::require_equals : KvOp::Kind::require_absent;
    unit.kv.push_back({guard, kSpace, project, key, stored.value_or("")});
    const bool unset = to == setting.value()->fallback;
    unit.kv.push_back(
        {unset ? KvOp::Kind::erase : KvOp::Kind::put, kSpace, project, key, unset ? "" : to}
    );
    if (board_ != nullptr) board_->put_up(unit, project);
    auto outcome = co_await appender.append(std::move(unit));
    if (!outcome) co_return std::move(outcome).error();

    const std::lock_guard lock(mutex_);
    ++edits_;
    if (unset)
        values_.erase({project, key});
    else
        values_[{project, key}] = to;
    co_return ok();
}

std::vector<std::string> Settings::names() {
    std::vector<std::string> names;
    for (const Setting& setting : kSettings) names.emplace_back(setting.name);
    return names;
}

}  // namespace annal
