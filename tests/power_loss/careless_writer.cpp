// Writes files, and syncs as much of it as it is told: careless_writer FOLDER HOW. What it has done
// safely, so it thinks, it says on standard output. HOW:
//   nothing   neither the file nor its folder
//   file      the file, not its folder
//   all       both
//   replace   a new file, synced, renamed over the old one; then the folder
//   hasty     the same, but the new file is not synced before it takes the place of the old one
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <string>

namespace {

void write_file(const std::string& path, char letter, bool synced) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const std::string bytes(3'000, letter);
    for (std::size_t at = 0; at < bytes.size(); at += 1'000) {
        (void)!::write(file, bytes.data() + at, 1'000);
    }
    if (synced) {
        ::fsync(file);
    }
    ::close(file);
}

void sync_folder(const std::string& folder) {
    const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY);
    ::fsync(file);
    ::close(file);
}

void say(char letter) {
    (void)!::write(STDOUT_FILENO, &letter, 1);
}

}  // namespace

int main(int, char** arguments) {
    const std::string folder = arguments[1], how = arguments[2];
    for (char letter = 'a'; letter <= 'z'; ++letter) {
        if (how == "replace" || how == "hasty") {
            write_file(folder + "/new", letter, how == "replace");
            ::rename((folder + "/new").c_str(), (folder + "/file").c_str());
        } else {
            write_file(folder + "/" + letter, letter, how != "nothing");
        }
        if (how != "nothing" && how != "file") {
            sync_folder(folder);
        }
        say(letter);
    }
    return 0;
}
