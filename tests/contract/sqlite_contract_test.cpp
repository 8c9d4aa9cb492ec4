// The contract over the embedded store.
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "runtime/store/sqlite/sqlite_store.h"
#include "tests/contract/faulty_vfs.h"
#include "tests/contract/store_contract.h"

namespace annal::test {
namespace {

namespace fs = std::filesystem;

class SqliteHarness final : public StoreHarness {
public:
    SqliteHarness() {
        install_faulty_vfs();
        std::string pattern = (fs::temp_directory_path() / "annal-contract-XXXXXX").string();
        directory_ = ::mkdtemp(pattern.data());
    }
    ~SqliteHarness() override {
        std::error_code error;
        fs::remove_all(directory_, error);
    }

    Result<std::unique_ptr<EventStore>> open(
        const Clock& clock, Metrics& metrics, std::uint32_t segment_events
    ) override {
        SqliteOptions options;
        options.directory = directory_ / "data";
        options.segment_events_max = segment_events;
        options.readers = 3;
        options.open_files_max = 4;
        return open_sqlite_store(options, clock, metrics);
    }

    // Every segment but the newest has its sidecar in the end, and nothing is on its way any more.
    // What makes them gives way to everything else that the machine has to do, and a purge takes
    // some of them away again.
    void settle() override {
        int calm = 0;
        for (int i = 0; i < 3'000 && calm < 5; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            calm = is_settled() ? calm + 1 : 0;
        }
        EXPECT_EQ(calm, 5);
    }

    void fail_writes(bool fail) override { vfs_fail_writes = fail; }

    // Closed segments stay without their sidecar, which can't be written.
    void hold_search(bool hold) override {
        vfs_fail_only(hold ? ".search" : "");
        vfs_fail_writes = hold;
    }

private:
    [[nodiscard]] bool is_settled() const {
        int segments = 0, sidecars = 0;
        std::error_code error;
        for (const auto& file :
             fs::recursive_directory_iterator(directory_ / "data/segments", error)) {
            segments += file.path().extension() == ".db" ? 1 : 0;
            sidecars += file.path().extension() == ".search" ? 1 : 0;
        }
        return sidecars >= segments - 1;
    }

    fs::path directory_;
};

}  // namespace

std::vector<StoreKind> store_kinds() {
    return {StoreKind{"Default", [] { return std::make_unique<SqliteHarness>(); }}};
}

namespace {

INSTANTIATE_TEST_SUITE_P(Sqlite, StoreContract, testing::ValuesIn(store_kinds()), kind_name);

}  // namespace
}  // namespace annal::test
