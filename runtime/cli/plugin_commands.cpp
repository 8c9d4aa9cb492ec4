#include "runtime/cli/commands.h"

#include <boost/json.hpp>
#include <iostream>

#include "runtime/app/configuration_check.h"
#include "runtime/cli/node.h"

namespace annal::cli {

namespace json = boost::json;

int plugins_list(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        LocalClient::Call call;
        call.target = "/v1/plugins";
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        for (const json::value& plugin : answer.at("data").get_array()) print(plugin);
        return kDone;
    });
}

int plugins_validate(const Arguments& arguments) {
    auto settings = settings_of(arguments);
    if (!settings) return fail(settings.error(), kBadInput);
    std::vector<std::filesystem::path> paths(arguments.paths.begin(), arguments.paths.end());
    if (paths.empty()) paths = settings.value().manifests;
    const ManifestSet set = read_manifests(paths);
    // A secret need not be there yet: whether the rest fits can be told without it.
    const SecretLookup any_secret = [](const std::string&) {
        return std::optional<std::string>("secret");
    };
    const std::string errors = check_manifests(set, settings.value(), any_secret);
    std::cerr << errors;
    if (!errors.empty()) return kBadInput;
    std::cout << set.manifests.size() << " manifests are valid\n";
    return kDone;
}

}  // namespace annal::cli
