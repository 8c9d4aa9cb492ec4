#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/chaos/store_kill_plan.h"

namespace annal::test {

/// What `store_kill_writer` was told over all its lives, held against what its directory has.
class KillAccount {
public:
    void record(const KillAck& ack);
    [[nodiscard]] std::int64_t acknowledged() const { return acknowledged_; }
    /// Newest stamp that the last look found.
    [[nodiscard]] TimeUs newest() const { return newest_; }

    /// Opens the store and reads everything: what was acknowledged and is not there, is there twice
    /// or in another order; holes; what commits together and is not together; keys that were
    /// forgotten. Empty: all is well.
    [[nodiscard]] std::vector<std::string> problems(const std::filesystem::path& directory);
    /// The same of a store that is open.
    [[nodiscard]] std::vector<std::string> problems(EventStore& store);

private:
    struct Log {
        std::map<std::string, Seq> names;  // external id → seq
        std::set<Seq> tombstones;
        std::vector<TimeUs> at;  // by seq
    };
    void read_log(EventStore& store, const std::string& project, Log& log);
    void check_caller(EventStore& store, int caller, const Log& log);
    void check_keys(EventStore& store, int caller, const Log& log);
    void say(std::string problem) { problems_.push_back(std::move(problem)); }

    std::map<std::int64_t, std::map<std::int64_t, Seq>> acks_;  // caller → n → first seq
    std::map<std::string, std::set<Seq>> erased_;
    std::int64_t acknowledged_ = 0;
    TimeUs newest_ = 0;
    std::vector<std::string> problems_;
};

}  // namespace annal::test
