#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace annal::cli {

// Exit codes of every command.
inline constexpr int kDone = 0, kFailed = 1, kBadInput = 2;

/// Arguments of all commands; each command reads its own.
struct Arguments {
    std::string config, project, name, id, key, value, format = "jsonl", output, file;
    std::vector<std::string> scopes, filters, paths;
    std::string expires_at;
    std::string data_dir;
    bool check = false, json = false, without_keyring = false;
    bool resume = false, overwrite = false, no_progress = false;  ///< of an export
    std::string tail_format;                                      ///< empty: by the terminal
    std::optional<std::int64_t> after;
    std::string destination, start, on_poison, stream_format;  ///< of a stream
    std::vector<std::string> values;                           ///< of its configuration: key=value
    std::vector<std::int64_t> seqs;
    std::int64_t from_seq = 0, to_seq = 0;
    bool probe = false;
    std::string user_id;                                            ///< whose data are to be erased
    std::optional<std::string> url, description, signature_scheme;  ///< of a webhook endpoint
    std::optional<std::int64_t> grace_seconds;
    std::string since;
    std::optional<std::string> endpoint, status, event_id;  ///< of webhook deliveries
    std::int64_t limit = INT64_MAX;                         ///< of what is listed
    std::string key_id = "k1";                              ///< of a new master key
    bool dry_run = false;
};

}  // namespace annal::cli
