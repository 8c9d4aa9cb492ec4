#include <iostream>

#include "runtime/cli/commands.h"
#include "runtime/cli/node.h"
#include "runtime/store/sqlite/precheck.h"

namespace annal::cli {

namespace {

int migrate_database(const NodeSettings& settings, bool only_look) {
    const auto done = migrate_postgres(settings.postgres, only_look);
    if (!done) return fail(done.error());
    for (const std::string& name : done.value().applied) std::cout << "applied " << name << "\n";
    for (const std::string& name : done.value().missing) std::cout << "missing " << name << "\n";
    const std::string version = "version " + std::to_string(done.value().version);
    if (!done.value().missing.empty()) {
        std::cout << "`annal migrate` brings the database to " << version << "\n";
        return kFailed;
    }
    std::cout << (done.value().applied.empty() ? "nothing to do, " : "") << version << "\n";
    return kDone;
}

/// What opening the store does by itself; a command's own runtime does just that.
int migrate_files(const Arguments& arguments, const NodeSettings& settings) {
    if (!arguments.check) {
        return with_node(arguments, [](Node&) -> Result<int> {
            std::cout << "the store is at this program's schema\n";
            return kDone;
        });
    }
    const auto errors = precheck_sqlite_store(settings.data_dir);
    for (const std::string& error : errors) std::cerr << "annal: " << error << "\n";
    if (!errors.empty()) return kFailed;
    std::cout << "the files are brought to this program's schema as they are opened\n";
    return kDone;
}

}  // namespace

int migrate(const Arguments& arguments) {
    const auto settings = settings_of(arguments);
    if (!settings) return fail(settings.error(), kBadInput);
    return settings.value().shares_store() ? migrate_database(settings.value(), arguments.check)
                                           : migrate_files(arguments, settings.value());
}

}  // namespace annal::cli
