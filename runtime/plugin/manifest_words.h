#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace annal {

// The vocabulary of manifests and configurations, and the sentences that errors are made of.

/// `text` with control characters and malformed UTF-8 escaped: one line, safe to print whatever a
/// file holds.
[[nodiscard]] std::string in_one_line(std::string_view text);
/// As `in_one_line`, in double quotes and cut at 64 bytes.
[[nodiscard]] std::string in_quotes(std::string_view text);
/// "a, b or c".
[[nodiscard]] std::string either(std::span<const std::string_view> words);
/// ` (did you mean "scope"?)` when a candidate is one or two slips of the pen away, else nothing.
[[nodiscard]] std::string did_you_mean(
    std::string_view word, std::span<const std::string_view> candidates
);
/// One more step of a JSON pointer, escaped: ("/spec", "a/b") is "/spec/a~1b".
[[nodiscard]] std::string pointer_to(std::string_view parent, std::string_view key);

/// Every scope that a key can have and a route can ask for; `none` stands for a route that is open
/// to anybody.
[[nodiscard]] std::span<const std::string_view> scope_words();
[[nodiscard]] std::span<const std::string_view> method_words();

/// `^[a-z0-9][a-z0-9-]{0,62}$`: names of instances and triggers.
[[nodiscard]] bool is_label_name(std::string_view text);
/// `^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`: names of libraries and components; never a path.
[[nodiscard]] bool is_library_name(std::string_view text);
/// Why `route` can't be one, or nothing. "/v1/audit/events.{format}": segments of literals, each
/// with at most one {name}, at its end.
[[nodiscard]] std::optional<std::string> route_defect(std::string_view route);
/// The route with its {name}s made equal: two routes with one shape answer the same paths.
[[nodiscard]] std::string route_shape(std::string_view route);
/// "in.acme.example:443", "10.0.0.1:9000", "[::1]:8080".
[[nodiscard]] bool is_host_port(std::string_view text);
/// "acme/token" or "acme/*".
[[nodiscard]] bool is_secret_pattern(std::string_view text);
/// `^[a-z][a-z0-9_]{0,62}$`: what the REST API calls a destination.
[[nodiscard]] bool is_destination_name(std::string_view text);
/// A project's id as a manifest may name it: 1 to 64 of letters, digits and `_-.:`.
[[nodiscard]] bool is_project_word(std::string_view text);

}  // namespace annal
