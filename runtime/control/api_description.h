#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace annal::control {

/// A route, as far as its description depends on it.
struct DescribedRoute {
    std::string name;  ///< of the operation that describes it: its trigger's, or "GET /v1/projects"
    std::vector<std::string> methods;
    std::string pattern;  ///< "/v1/audit/events/{id}"
    std::string scope;    ///< empty: open to anybody
};

/// Routes that one document describes: those of a component's instance, or the host's own.
struct RouteGroup {
    std::string name;  ///< the instance's; empty: the host's own
    std::string text;  ///< as `annal_component::openapi`; empty: it describes nothing
    std::vector<DescribedRoute> routes;
};

/// What does not fit in what a group says of its routes.
struct DescriptionFault {
    enum class Kind {
        unreadable,   ///< its document can't be read: none of its routes is described
        undescribed,  ///< a route without an operation
        unused        ///< an operation without a route: the manifest leaves it out
    } kind;
    std::string group, detail;
};

struct ApiDescription {
    std::string json;  ///< an OpenAPI 3.1 document
    std::vector<DescriptionFault> faults;
};

/// One document out of all groups. Paths, methods, path parameters, security and the errors that
/// the host makes itself are those of the routes; the rest is what the groups say. A route without
/// a description is shown with what the host knows of it.
///
/// Names of a group's components and operations get its name in front ("query-porta.Event"), so
/// that no two groups can collide; the host's own stay as they are. Its `errors` hold for every
/// group without any. Takes ms, no lock, no I/O.
[[nodiscard]] ApiDescription describe_api(const std::vector<RouteGroup>& groups);

/// What describes the host's own routes, each by "METHOD pattern": runtime/control/openapi.yaml.
[[nodiscard]] std::string_view host_route_text();

}  // namespace annal::control
