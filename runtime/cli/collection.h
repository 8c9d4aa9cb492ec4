#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/cli/arguments.h"

namespace annal::cli {

/// The objects of a project behind one path of the API, and what every group of commands does with
/// them. Each function is a whole command: it prints what the node answers, a line of JSON an
/// object, and returns the exit code. A secret in an answer is said to be shown this once.
///
/// `Arguments::project` says whose they are, `Arguments::id` which of them is meant.
class Collection {
public:
    /// @param path  like "/v1/api-keys"; borrowed for good
    constexpr explicit Collection(std::string_view path) : path_(path) {}

    [[nodiscard]] int create(const Arguments& arguments, const boost::json::object& body) const;
    [[nodiscard]] int list(const Arguments& arguments) const;
    [[nodiscard]] int get(const Arguments& arguments) const;
    [[nodiscard]] int change(const Arguments& arguments, const boost::json::object& body) const;
    [[nodiscard]] int revoke(const Arguments& arguments) const;
    /// POST to `verb` of the object.
    /// @param body  null: none
    [[nodiscard]] int act(
        const Arguments& arguments, std::string_view verb, const boost::json::value& body = nullptr
    ) const;

    /// Lists page after page, as far as `rows_max`.
    ///
    /// @param part     what is listed of the object named by `Arguments::id`; empty: the collection
    /// @param filters  as of `query_of`
    [[nodiscard]] int list_pages(
        const Arguments& arguments,
        std::string_view part,
        std::vector<std::string> filters = {},
        std::int64_t rows_max = std::numeric_limits<std::int64_t>::max()
    ) const;

private:
    [[nodiscard]] std::string path_of(const Arguments& arguments, std::string_view part = {}) const;

    std::string_view path_;
};

}  // namespace annal::cli
