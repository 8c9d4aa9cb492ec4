#include "aggregate_json.h"

#include <annal/sdk/json.hpp>

namespace authpi {
namespace {

using Json = annal::JsonWriter<annal::Buffer>;

constexpr std::int64_t kUsPerMs = 1000;

void write_name(Json& json, std::string_view key, std::string_view name) {
    json.key(key);
    if (name.empty()) {
        json.value(nullptr);
    } else {
        json.value(name);
    }
}

void write_row(Json& json, const Parameters& asked, const annal::AggregateRow& row) {
    json.begin_object();
    if (asked.group_by != nullptr) {
        json.member("key", std::string_view(row.key));
    }
    json.member("count", row.count);
    if (!asked.unique.empty()) {
        json.key("uniques").begin_object();
        for (std::size_t i = 0; i < asked.unique.size(); ++i) {
            json.member(asked.unique[i]->name, row.uniques[i]);
        }
        json.end_object();
    }
    json.end_object();
}

void begin_bucket(Json& json, const Parameters& asked, std::int64_t start_us) {
    json.begin_object();
    if (asked.interval != ANNAL_INTERVAL_NONE) {
        json.member("ts", start_us / kUsPerMs);
    }
    json.key("rows").begin_array();
}

void end_bucket(Json& json) {
    json.end_array().end_object();
}

}  // namespace

void append_aggregate(
    annal::Buffer& out, const Parameters& asked, const annal::Aggregate& aggregate
) {
    Json json(out);
    json.begin_object();
    write_name(json, "interval", asked.interval_name);
    write_name(json, "group_by", asked.group_by != nullptr ? asked.group_by->name : "");
    json.key("buckets").begin_array();
    const bool is_one = asked.interval == ANNAL_INTERVAL_NONE;
    if (is_one) {
        begin_bucket(json, asked, ANNAL_TIME_NONE);
    }
    const annal::AggregateRow* before = nullptr;
    for (const annal::AggregateRow& row : aggregate.rows) {
        if (!is_one && (before == nullptr || before->start_us != row.start_us)) {
            if (before != nullptr) {
                end_bucket(json);
            }
            begin_bucket(json, asked, row.start_us);
        }
        write_row(json, asked, row);
        before = &row;
    }
    if (is_one || before != nullptr) {
        end_bucket(json);
    }
    json.end_array().end_object();
}

}  // namespace authpi
