#include "tests/power_loss/disk.h"

#include <gtest/gtest.h>

#include <set>

namespace annal::test {
namespace {

/// What a file holds after a loss, over many seeds; "-" when it is gone.
template <class Do>
std::set<std::string> outcomes(Do work, std::string_view path = "f") {
    std::set<std::string> found;
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        Disk disk;
        work(disk);
        Disk::Random random(seed);
        disk.lose_power(random);
        const auto node = disk.find(path);
        found.insert(node ? disk.content(*node) : "-");
    }
    return found;
}

Disk::Node add(Disk& disk, std::string_view path, bool is_folder = false) {
    return disk.create(*disk.place_of(path), is_folder);
}

TEST(SimulatedDisk, KeepsWhatWasSynced) {
    const auto found = outcomes([](Disk& disk) {
        const auto file = add(disk, "f");
        disk.write(file, 0, "kept");
        disk.sync(file);
        disk.sync(Disk::kRoot);
    });
    EXPECT_EQ(found, std::set<std::string>{"kept"});
}

TEST(SimulatedDisk, MayForgetANameWhoseFolderWasNotSynced) {
    const auto found = outcomes([](Disk& disk) {
        const auto file = add(disk, "f");
        disk.write(file, 0, "kept");
        disk.sync(file);
    });
    EXPECT_EQ(found, (std::set<std::string>{"-", "kept"}));
}

TEST(SimulatedDisk, MayForgetOrShortenOrZeroWhatWasNotSynced) {
    const auto found = outcomes([](Disk& disk) {
        const auto file = add(disk, "f");
        disk.sync(Disk::kRoot);
        disk.write(file, 0, "new");
    });
    EXPECT_EQ(found, (std::set<std::string>{"", "new", std::string(3, '\0')}));
}

TEST(SimulatedDisk, TearsWritesAtSectors) {
    const auto found = outcomes([](Disk& disk) {
        const auto file = add(disk, "f");
        disk.write(file, 0, std::string(1024, 'o'));
        disk.sync_all();
        disk.write(file, 0, std::string(1024, 'n'));
    });
    const std::string old(512, 'o'), fresh(512, 'n');
    EXPECT_EQ(found, (std::set<std::string>{old + old, old + fresh, fresh + old, fresh + fresh}));
}

TEST(SimulatedDisk, KeepsTheOrderWithinASector) {
    const auto found = outcomes([](Disk& disk) {
        const auto file = add(disk, "f");
        disk.write(file, 0, "00");
        disk.sync_all();
        disk.write(file, 0, "1");
        disk.write(file, 1, "2");
    });
    EXPECT_EQ(found, (std::set<std::string>{"00", "10", "12"}));
}

TEST(SimulatedDisk, MayUndoATruncation) {
    const auto found = outcomes([](Disk& disk) {
        const auto file = add(disk, "f");
        disk.write(file, 0, "abcd");
        disk.sync_all();
        disk.resize(file, 2);
    });
    EXPECT_TRUE(found.contains("abcd"));
    EXPECT_TRUE(found.contains("ab"));
}

TEST(SimulatedDisk, RenamesWholeOrNot) {
    const auto work = [](Disk& disk) {
        disk.write(add(disk, "f"), 0, "old");
        disk.write(add(disk, "f.new"), 0, "new");
        disk.sync_all();
        disk.rename(*disk.place_of("f.new"), *disk.place_of("f"));
    };
    EXPECT_EQ(outcomes(work), (std::set<std::string>{"old", "new"}));
    EXPECT_EQ(outcomes(work, "f.new"), (std::set<std::string>{"-", "new"}));
}

TEST(SimulatedDisk, MayBringBackWhatWasRemoved) {
    const auto found = outcomes([](Disk& disk) {
        disk.write(add(disk, "f"), 0, "back");
        disk.sync_all();
        disk.unlink(*disk.place_of("f"));
    });
    EXPECT_EQ(found, (std::set<std::string>{"-", "back"}));
}

TEST(SimulatedDisk, LosesFilesWithTheirFolder) {
    const auto found = outcomes(
        [](Disk& disk) {
            const auto folder = add(disk, "d", true);
            const auto file = add(disk, "d/f");
            disk.write(file, 0, "deep");
            disk.sync(file);
            disk.sync(folder);
        },
        "d/f"
    );
    EXPECT_EQ(found, (std::set<std::string>{"-", "deep"}));
}

}  // namespace
}  // namespace annal::test
