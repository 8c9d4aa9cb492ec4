#pragma once

#include <boost/json/value.hpp>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/app/node_settings.h"
#include "runtime/app/runtime.h"
#include "runtime/cli/arguments.h"
#include "runtime/cli/local_client.h"

namespace annal::cli {

/// A node to talk to: the one that runs, or one of this process's own for as long as the command
/// lasts.
class Node {
public:
    /// @error what Runtime::start says, when none runs and none can be started.
    [[nodiscard]] static Result<std::unique_ptr<Node>> reach(const NodeSettings& settings);

    /// @error of the answer when it is not 2xx, in the node's own words; of a 503 also whose node
    /// it is.
    [[nodiscard]] Result<LocalClient::Answer> send(const LocalClient::Call& call) const;
    /// `send`, and its body as JSON; null when it is empty.
    [[nodiscard]] Result<boost::json::value> ask(const LocalClient::Call& call) const;

private:
    explicit Node(const NodeSettings& settings)
        : client_(settings.unix_socket()), data_dir_(settings.data_dir) {}

    LocalClient client_;
    std::filesystem::path data_dir_;
    std::unique_ptr<Runtime> own_;
};

/// Says on standard error what went wrong; returns `code`.
int fail(const Error& error, int code = kFailed);
/// One line of JSON on standard output; returns kDone.
int print(const boost::json::value& value);
/// What the node said in an answer that is not 2xx. Errc::busy: it may be tried again as it is.
[[nodiscard]] Error refusal_of(const LocalClient::Answer& answer);
/// "?name=value&…" of `--filter name=value`; empty without filters.
/// @error Errc::invalid  One that has no such form.
[[nodiscard]] Result<std::string> query_of(const std::vector<std::string>& filters);
/// For a part of a path or a query.
[[nodiscard]] std::string percent_encode(std::string_view text);
[[nodiscard]] Result<NodeSettings> settings_of(const Arguments& arguments);

/// What is about SQLite's files says so where the store is another. @error Errc::unsupported
[[nodiscard]] Result<void> need_files(const NodeSettings& settings, const char* instead);

/// Runs `use` with a node; what it fails with is printed.
template <class Use>
int with_node(const Arguments& arguments, Use use) {
    auto settings = settings_of(arguments);
    if (!settings) return fail(settings.error(), kBadInput);
    auto node = Node::reach(settings.value());
    if (!node) return fail(node.error());
    Result<int> code = use(*node.value());
    return code ? code.value() : fail(code.error());
}

}  // namespace annal::cli
