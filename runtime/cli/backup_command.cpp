#include <iostream>

#include "runtime/cli/commands.h"
#include "runtime/cli/node.h"
#include "runtime/store/sqlite/backup.h"

namespace annal::cli {

int back_up(const Arguments& arguments) {
    auto settings = settings_of(arguments);
    if (!settings) return fail(settings.error(), kBadInput);
    if (arguments.data_dir.empty()) {
        const auto files = need_files(settings.value(), "use pg_dump or a base backup");
        if (!files) return fail(files.error(), kBadInput);
    }
    std::filesystem::path source = settings.value().data_dir;
    std::filesystem::path ring = settings.value().master_key_file;
    if (!arguments.data_dir.empty()) {
        source = arguments.data_dir;
        ring = source / "keyring";
    }
    std::vector<std::filesystem::path> also;
    std::error_code error;
    if (!arguments.without_keyring && std::filesystem::exists(ring, error)) also.push_back(ring);
    auto report = back_up_sqlite_store(source, arguments.output, also);
    if (!report) return fail(report.error());
    std::cout << report.value().segments << " segments, " << report.value().bytes
              << " bytes are in " << arguments.output << "\n";
    if (!also.empty())
        std::cerr << "annal: it holds the master key (" << ring.filename().string()
                  << "): keep it as closely as the server's own, or use --without-keyring\n";
    return kDone;
}

}  // namespace annal::cli
