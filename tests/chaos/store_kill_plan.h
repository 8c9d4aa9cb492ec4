#pragma once

#include <cstdint>
#include <string>

#include "runtime/store/event_store.h"

namespace annal::test {

inline constexpr int kKillCallers = 4;

/// What caller `caller` appends as its `n`th unit (from 1), the same in every run: events whose
/// external_id names them, a request key, a kv row and a cursor that say `n`, guarded by what they
/// said before.
struct KillUnit {
    KillUnit(int caller, std::int64_t n) {
        const std::string who = std::to_string(caller);
        const std::string name = who + "/" + std::to_string(n);
        unit.project = project_of(caller);
        unit.request_key = "unit/" + name;
        const int count = count_of(caller, n);
        auto arena = std::make_shared<Arena>();
        for (int i = 0; i < count; ++i) {
            EventDraft draft;
            draft[Column::action] = i % 2 == 0 ? "chaos.first" : "chaos.second";
            draft[Column::external_id] =
                Text(arena->copy(std::string_view(name + "/" + std::to_string(i))));
            draft[Column::description] = "what a kill must not lose";
            draft[Column::metadata] = R"({"k":"v","n":1.10})";
            unit.events.push_back(draft);
        }
        unit.memory = std::move(arena);
        if (n == 1) {
            unit.kv.push_back({KvOp::Kind::require_absent, "plugin.chaos", unit.project, who, ""});
        } else {
            unit.kv.push_back(
                {KvOp::Kind::require_equals,
                 "plugin.chaos",
                 unit.project,
                 who,
                 std::to_string(n - 1)}
            );
        }
        unit.kv.push_back({KvOp::Kind::put, "plugin.chaos", unit.project, who, std::to_string(n)});
        unit.cursors.push_back({"chaos" + who, n});
    }

    static std::string project_of(int caller) { return "p" + std::to_string(caller % 3); }
    static int count_of(int caller, std::int64_t n) {
        return 1 + static_cast<int>((n * 7 + caller) % 23);
    }

    AppendUnit unit;
};

/// Reported through the pipe once the append was answered; smaller than PIPE_BUF, so it arrives
/// whole.
struct KillAck {
    std::int64_t caller = 0, n = 0, first_seq = 0, count = 0;
    std::int64_t erased = kNoSeq;
};

}  // namespace annal::test
