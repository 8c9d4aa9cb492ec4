#include "tests/power_loss/disk.h"

#include <algorithm>
#include <fstream>

namespace annal::test {
namespace {

constexpr std::uint64_t kSector = 512;

std::uint64_t sectors_of(std::uint64_t size) {
    return (size + kSector - 1) / kSector;
}

}  // namespace

Disk::Disk() {
    entries_.emplace_back().is_folder = true;
}

std::optional<Disk::Node> Disk::find(std::string_view path) const {
    Node at = kRoot;
    for (std::size_t begin = 0; begin < path.size();) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        const std::string part(path.substr(begin, end - begin));
        begin = end + 1;
        if (part.empty() || part == ".") {
            continue;
        }
        const auto found = entries_[at].names.find(part);
        if (found == entries_[at].names.end()) {
            return std::nullopt;
        }
        at = found->second;
    }
    return at;
}

std::optional<Disk::Place> Disk::place_of(std::string_view path) const {
    while (path.ends_with('/')) {
        path.remove_suffix(1);
    }
    const std::size_t slash = path.rfind('/');
    const bool nested = slash != std::string_view::npos;
    const auto folder = find(nested ? path.substr(0, slash) : std::string_view());
    const auto name = nested ? path.substr(slash + 1) : path;
    if (!folder || !entries_[*folder].is_folder || name.empty()) {
        return std::nullopt;
    }
    return Place{*folder, std::string(name)};
}

Disk::Node Disk::create(const Place& place, bool is_folder) {
    const Node node = entries_.size();
    entries_.emplace_back().is_folder = is_folder;
    link(place, node);
    return node;
}

void Disk::link(const Place& place, Node node) {
    change_names(place.folder, {{place.name, node}});
}

void Disk::unlink(const Place& place) {
    change_names(place.folder, {{place.name, std::nullopt}});
}

void Disk::rename(const Place& from, const Place& to) {
    const Node node = entries_[from.folder].names.at(from.name);
    if (from.folder == to.folder) {
        change_names(from.folder, {{from.name, std::nullopt}, {to.name, node}});
        return;
    }
    change_names(to.folder, {{to.name, node}});
    change_names(from.folder, {{from.name, std::nullopt}});
}

void Disk::change_names(Node folder, NameChange change) {
    apply(change, entries_[folder].names);
    entries_[folder].changes.push_back(std::move(change));
}

void Disk::write(Node file, std::uint64_t offset, std::string_view bytes) {
    entries_[file].writes.push_back({offset, std::string(bytes), false});
}

void Disk::resize(Node file, std::uint64_t size) {
    entries_[file].writes.push_back({size, {}, true});
}

void Disk::sync(Node node) {
    Entry& entry = entries_[node];
    for (const Write& write : entry.writes) {
        apply(write, entry.synced);
    }
    entry.writes.clear();
    entry.synced_names = entry.names;
    entry.changes.clear();
}

void Disk::sync_all() {
    for (Node node = 0; node < entries_.size(); ++node) {
        sync(node);
    }
}

void Disk::apply(const Write& write, std::string& bytes) {
    if (write.is_truncation) {
        bytes.resize(write.offset);
        return;
    }
    bytes.resize(std::max<std::size_t>(bytes.size(), write.offset + write.bytes.size()));
    std::copy(
        write.bytes.begin(),
        write.bytes.end(),
        bytes.begin() + static_cast<std::ptrdiff_t>(write.offset)
    );
}

void Disk::apply(const NameChange& change, Names& names) {
    for (const auto& [name, node] : change) {
        if (node) {
            names[name] = *node;
        } else {
            names.erase(name);
        }
    }
}

Disk::Loss Disk::lose_power(Random& random) {
    Loss loss;
    for (Entry& entry : entries_) {
        if (entry.is_folder) {
            loss.names += settle_folder(entry, random);
        } else {
            loss.sectors += settle_file(entry, random);
        }
    }
    return loss;
}

// Each sector is as it was after some number of the writes that touched it; the length is one that
// the file has had since its last sync.
std::uint64_t Disk::settle_file(Entry& file, Random& random) {
    if (file.writes.empty()) {
        return 0;
    }
    std::uint64_t size = file.synced.size(), largest = size;
    std::vector<std::uint64_t> lengths{size};
    for (const Write& write : file.writes) {
        size =
            write.is_truncation ? write.offset : std::max(size, write.offset + write.bytes.size());
        largest = std::max(largest, size);
        lengths.push_back(size);
    }
    // Now and then all or nothing: what lies between is most, but not all, of what happens.
    const auto kind = random() % 8;
    const std::size_t sectors = sectors_of(largest);
    const auto touched = [&](const Write& write) {
        const std::uint64_t end = write.is_truncation ? largest : write.offset + write.bytes.size();
        return std::pair(write.offset / kSector, sectors_of(end));
    };
    std::vector<std::uint32_t> keep(sectors), seen(sectors);
    for (const Write& write : file.writes) {
        const auto [first, end] = touched(write);
        for (std::uint64_t s = first; s < end; ++s) {
            ++keep[s];
        }
    }
    std::uint64_t lost = 0;
    for (std::uint32_t& count : keep) {
        const std::uint32_t all = count;
        count = kind == 0 ? 0 : kind == 1 ? all : static_cast<std::uint32_t>(random() % (all + 1));
        lost += count < all ? 1 : 0;
    }
    file.synced.resize(largest);
    for (const Write& write : file.writes) {
        const auto [first, end] = touched(write);
        for (std::uint64_t s = first; s < end; ++s) {
            if (++seen[s] > keep[s]) {
                continue;
            }
            const std::uint64_t begin = std::max(write.offset, s * kSector);
            const std::uint64_t until = std::min<std::uint64_t>(
                (s + 1) * kSector, write.is_truncation ? largest : write.offset + write.bytes.size()
            );
            for (std::uint64_t at = begin; at < until; ++at) {
                file.synced[at] = write.is_truncation ? '\0' : write.bytes[at - write.offset];
            }
        }
    }
    file.synced.resize(
        kind == 0   ? lengths.front()
        : kind == 1 ? lengths.back()
                    : lengths[random() % lengths.size()]
    );
    file.writes.clear();
    return lost;
}

std::uint64_t Disk::settle_folder(Entry& folder, Random& random) {
    const auto kind = random() % 4;
    std::uint64_t lost = 0;
    for (const NameChange& change : folder.changes) {
        if (kind == 0 || (kind != 1 && random() % 2 == 0)) {
            ++lost;
            continue;
        }
        apply(change, folder.synced_names);
    }
    folder.changes.clear();
    folder.names = folder.synced_names;
    return lost;
}

void Disk::write_out(const std::filesystem::path& folder) const {
    write_out(kRoot, folder);
}

void Disk::write_out(Node folder, const std::filesystem::path& path) const {
    for (const auto& [name, node] : entries_[folder].names) {
        const auto to = path / name;
        if (entries_[node].is_folder) {
            std::filesystem::create_directory(to);
            write_out(node, to);
        } else if (!name.ends_with("-shm")) {
            const std::string bytes = content(node);
            std::ofstream(to, std::ios::binary)
                .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
            std::filesystem::permissions(
                to, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write
            );
        }
    }
}

std::string Disk::content(Node file) const {
    std::string bytes = entries_[file].synced;
    for (const Write& write : entries_[file].writes) {
        apply(write, bytes);
    }
    return bytes;
}

}  // namespace annal::test
