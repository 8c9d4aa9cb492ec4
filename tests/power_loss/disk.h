#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace annal::test {

/// What a disk holds for certain, and what it may hold besides: files and folders below one root,
/// each as of its last sync and with what was done to it since. Keeps everything in memory.
///
/// Threads: one at a time.
class Disk {
public:
    using Node = std::size_t;
    static constexpr Node kRoot = 0;
    using Random = std::mt19937_64;

    Disk();

    // Names: relative to the root, parts separated by '/'. They are resolved by what programs see.
    [[nodiscard]] std::optional<Node> find(std::string_view path) const;
    /// The folder that holds `path`, and the last part of it.
    struct Place {
        Node folder = kRoot;
        std::string name;
    };
    [[nodiscard]] std::optional<Place> place_of(std::string_view path) const;

    Node create(const Place& place, bool is_folder);
    void link(const Place& place, Node node);
    void unlink(const Place& place);
    /// Within one folder either both names change or none; between folders each by itself.
    void rename(const Place& from, const Place& to);

    void write(Node file, std::uint64_t offset, std::string_view bytes);
    void resize(Node file, std::uint64_t size);
    /// What was done to this file, or to the names in this folder, is kept from now on.
    void sync(Node node);
    /// Everything so far is kept.
    void sync_all();

    /// How much of what was not synced a loss took away.
    struct Loss {
        std::uint64_t sectors = 0, names = 0;
    };
    /// Power is lost: leaves a tree that only has synced state.
    Loss lose_power(Random& random);
    /// Makes the tree's content in `folder`, which must exist and be empty; files are their
    /// owner's alone. `-shm` files are left out.
    void write_out(const std::filesystem::path& folder) const;
    /// Content of a file as programs see it.
    [[nodiscard]] std::string content(Node file) const;

private:
    struct Write {
        std::uint64_t offset = 0;  ///< of a truncation: the new size
        std::string bytes;
        bool is_truncation = false;
    };
    using Names = std::map<std::string, Node>;
    /// Names that change together; nullopt: removed.
    using NameChange = std::vector<std::pair<std::string, std::optional<Node>>>;
    struct Entry {
        bool is_folder = false;
        std::string synced;
        std::vector<Write> writes;
        Names names, synced_names;
        std::vector<NameChange> changes;
    };

    static void apply(const Write& write, std::string& bytes);
    static void apply(const NameChange& change, Names& names);
    void change_names(Node folder, NameChange change);
    static std::uint64_t settle_file(Entry& file, Random& random);
    static std::uint64_t settle_folder(Entry& folder, Random& random);
    void write_out(Node folder, const std::filesystem::path& path) const;

    std::vector<Entry> entries_;
};

}  // namespace annal::test
