#include <gtest/gtest.h>

#include <annal/sdk/json.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <thread>

#include "line_file.h"
#include "tests/support/mini_host.h"

namespace {

namespace fs = std::filesystem;
using annal::test::Encoded;
using annal::test::in_ms;
using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::RawBatch;
using annal::test::SinkReply;
using annal::test::StoredEvent;

class SinkFileTest : public testing::Test {
protected:
    void SetUp() override {
        std::string name = (fs::temp_directory_path() / "annal_sink_file_XXXXXX").string();
        folder_ = ::mkdtemp(name.data());
        path_ = (fs::path(folder_) / "out.jsonl").string();
    }
    void TearDown() override { fs::remove_all(folder_); }

    std::unique_ptr<Instance> open(const std::string& more = "") {
        return std::make_unique<Instance>(
            host_, *annal_module_v1()->components[0], R"({"path":")" + path_ + "\"" + more + "}"
        );
    }
    std::unique_ptr<Instance> opened() {
        auto sink = open();
        EXPECT_EQ(sink->status(), ANNAL_OK) << sink->error();
        return sink;
    }
    static const annal_sink_v1& table(const Instance& sink) { return sink.table<annal_sink_v1>(); }
    SinkReply send(
        const Instance& sink, const std::vector<StoredEvent>& events, std::int64_t ms = 5000
    ) {
        const RawBatch batch(events);
        const Encoded encoded = annal::test::encode(table(sink), sink.self(), batch.get());
        EXPECT_EQ(encoded.status, ANNAL_OK);
        return annal::test::send(table(sink), sink.self(), batch.get(), encoded, in_ms(ms));
    }
    std::int64_t position(const Instance& sink, std::string_view project = "proj_1") {
        std::int64_t seq = -7;
        EXPECT_EQ(
            table(sink).position(sink.self(), annal::to_str(project), &seq, nullptr), ANNAL_OK
        );
        return seq;
    }
    std::vector<StoredEvent> events(
        std::int64_t first, std::int64_t last, const std::string& project = "proj_1"
    ) {
        std::vector<StoredEvent> out;
        for (std::int64_t seq = first; seq <= last; ++seq) {
            StoredEvent& event = out.emplace_back();
            event.seq = seq;
            event.created_at_us = host_.wall_us + seq;
            event.id = "evt_" + std::to_string(seq);
            event.project = project;
            event.set("action", "a.b")
                .set("metadata", R"({"seq":99999,"project_id":"proj_1","x":"}{\"","n":1e999})");
        }
        return out;
    }
    std::string text() const {
        std::ifstream file(path_, std::ios::binary);
        std::ostringstream out;
        out << file.rdbuf();
        return out.str();
    }
    void write(const std::string& content) const {
        std::ofstream(path_, std::ios::binary) << content;
    }
    std::vector<std::int64_t> seqs() const {
        std::vector<std::int64_t> out;
        std::istringstream in(text());
        for (std::string line; std::getline(in, line);) {
            bool tombstone = false;
            out.push_back(sink_file::seq_of_line(line, "proj_1", tombstone));
        }
        return out;
    }

    MiniHost host_;
    std::string folder_, path_;
};

TEST_F(SinkFileTest, AppendsLinesAndKnowsWhereItIs) {
    auto sink = opened();
    EXPECT_EQ(position(*sink), -1);
    EXPECT_EQ(send(*sink, events(0, 2)).verdict, ANNAL_DELIVERED);
    auto more = events(3, 4);
    more[1].deleted = true;
    EXPECT_EQ(send(*sink, more).verdict, ANNAL_DELIVERED);
    EXPECT_TRUE(text().ends_with("{\"id\":\"evt_4\",\"seq\":4,\"deleted\":true}\n"));
    EXPECT_EQ(position(*sink), 4);
    sink.reset();
    EXPECT_EQ(position(*opened()), 4);
    EXPECT_EQ(seqs(), (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
    struct stat info {};
    ASSERT_EQ(::stat(path_.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777U, 0640U & ~022U);
}

TEST_F(SinkFileTest, CutsATornLineOff) {
    std::string whole;
    {
        auto sink = opened();
        send(*sink, events(0, 3));
        whole = text();
    }
    const std::size_t last_line = whole.rfind('\n', whole.size() - 2) + 1;
    for (const std::size_t keep : {whole.size() - 1, last_line + 1, last_line + 40}) {
        write(whole.substr(0, keep));
        auto sink = opened();
        EXPECT_EQ(text(), whole.substr(0, last_line));
        EXPECT_EQ(position(*sink), 2);
        EXPECT_EQ(send(*sink, events(3, 3)).verdict, ANNAL_DELIVERED);
        EXPECT_EQ(text(), whole);
    }
    write("torn from the start");
    EXPECT_EQ(position(*opened()), -1);
    EXPECT_EQ(text(), "");
    write(whole + std::string(300'000, 'x'));  // longer than a chunk
    EXPECT_EQ(position(*opened()), 3);
    EXPECT_EQ(text(), whole);
}

TEST_F(SinkFileTest, CutsWhatAnotherWriterLeftTorn) {
    auto sink = opened();
    send(*sink, events(0, 0));
    const std::string whole = text();
    std::ofstream(path_, std::ios::app) << "{\"torn";
    send(*sink, events(1, 1));
    EXPECT_EQ(seqs(), (std::vector<std::int64_t>{0, 1}));
    EXPECT_TRUE(text().starts_with(whole));
}

TEST_F(SinkFileTest, FindsEachProjectsOwnLine) {
    auto sink = opened();
    send(*sink, events(0, 5));
    send(*sink, events(0, 9, "proj_2"));
    send(*sink, events(6, 6));
    send(*sink, events(10, 11, "proj_2"));
    EXPECT_EQ(position(*sink), 6);
    EXPECT_EQ(position(*sink, "proj_2"), 11);
    EXPECT_EQ(position(*sink, "proj_"), -1);
    EXPECT_EQ(position(*sink, "proj_22"), -1);
}

TEST_F(SinkFileTest, TakesTombstonesForItsOwnOnlyWhenTheyAre) {
    auto sink = opened();
    auto tail = events(2, 4);
    for (auto& event : tail) event.deleted = true;
    send(*sink, events(0, 1));
    send(*sink, tail);
    EXPECT_EQ(position(*sink), 4);
    send(*sink, events(0, 0, "proj_2"));
    EXPECT_EQ(position(*sink), 1);  // in doubt they come again: a repeat, never a gap
}

TEST_F(SinkFileTest, SearchesBackOverLongLinesAndManyChunks) {
    auto sink = opened();
    auto long_one = events(0, 0);
    long_one[0].set("metadata", "{\"x\":\"" + std::string(200'000, 'y') + "\"}");
    send(*sink, long_one);
    EXPECT_EQ(position(*sink), 0);
    for (int i = 0; i < 40; ++i) send(*sink, events(i * 100, i * 100 + 99, "proj_2"));
    EXPECT_EQ(position(*sink), 0);
    std::ofstream(path_, std::ios::app)
        << std::string(sink_file::LineFile::kLineBytesMax + 10, 'z') << "\n\nnot json\n";
    EXPECT_EQ(position(*sink), 0);
    EXPECT_EQ(position(*sink, "proj_2"), 3999);
}

TEST_F(SinkFileTest, NeedsAFileThatCanBeWritten) {
    const std::string file = path_;
    path_ = folder_;
    EXPECT_NE(open()->error().find("Is a directory"), std::string::npos) << open()->error();
    path_ = folder_ + "/no/such/folder/out.jsonl";
    EXPECT_NE(open()->error().find("make the folder first"), std::string::npos) << open()->error();
    path_ = "/dev/null";
    EXPECT_NE(open()->error().find("not a regular file"), std::string::npos) << open()->error();
    path_ = folder_ + "/fifo";
    ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
    EXPECT_NE(open()->error().find("not a regular file"), std::string::npos) << open()->error();
    path_ = "/proc/version";
    EXPECT_NE(open()->status(), ANNAL_OK);
    path_ = "";
    EXPECT_EQ(open()->error(), "configuration: /path: length must be from 1 to 4096");
    path_ = file;
    EXPECT_EQ(open(R"(,"fsync":"no")")->error(), "configuration: /fsync: must be true or false");
    EXPECT_EQ(open(R"(,"fsync":false)")->status(), ANNAL_OK);
    host_.withheld = {ANNAL_SERVICE_CODEC};
    EXPECT_EQ(open()->status(), ANNAL_UNAVAILABLE);
}

TEST_F(SinkFileTest, MakesAFileAnewThatWasMovedAway) {
    auto sink = opened();
    send(*sink, events(0, 1));
    fs::rename(path_, path_ + ".1");
    EXPECT_EQ(send(*sink, events(2, 3)).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(seqs(), (std::vector<std::int64_t>{2, 3}));
    fs::remove(path_);
    fs::create_directory(path_);
    const SinkReply reply = send(*sink, events(4, 4));
    EXPECT_EQ(reply.verdict, ANNAL_RETRY);
    EXPECT_NE(reply.text.find("Is a directory"), std::string::npos);
}

TEST_F(SinkFileTest, WaitsForTheLockUntilTheDeadline) {
    auto sink = opened();
    const int other = ::open(path_.c_str(), O_RDWR);
    ASSERT_EQ(::flock(other, LOCK_EX), 0);
    const SinkReply reply = send(*sink, events(0, 0), 30);
    EXPECT_EQ(reply.verdict, ANNAL_RETRY);
    EXPECT_NE(reply.text.find("can't lock"), std::string::npos);
    EXPECT_EQ(text(), "");
    ::close(other);
    EXPECT_EQ(send(*sink, events(0, 0)).verdict, ANNAL_DELIVERED);
}

/// Runs `work` in a child; returns its exit status.
template <class F>
int in_child(F work) {
    const pid_t child = ::fork();
    if (child == 0) {
        work();
        ::_exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return status;
}

// A limit on the file's size stands for a full disk: the write is cut short, then refused.
TEST_F(SinkFileTest, UndoesABatchThatDidNotFit) {
    auto sink = opened();
    ASSERT_EQ(send(*sink, events(0, 9)).verdict, ANNAL_DELIVERED);
    const std::string before = text();
    const int status = in_child([&] {
        ::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{before.size() + 500, before.size() + 500};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        const SinkReply reply = send(*sink, events(10, 40));
        EXPECT_EQ(reply.verdict, ANNAL_RETRY);
        EXPECT_NE(reply.text.find("File too large"), std::string::npos) << reply.text;
    });
    EXPECT_EQ(status, 0);
    EXPECT_EQ(text(), before);
    EXPECT_EQ(position(*sink), 9);
    EXPECT_EQ(send(*sink, events(10, 40)).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(position(*sink), 40);
}

// Killed at any moment, the file tells where to go on: nothing is missing and nothing is there
// twice.
TEST_F(SinkFileTest, ResumesAfterKillsWithoutLossOrRepeat) {
    std::mt19937 random(std::random_device{}());
    const auto seed = random();
    SCOPED_TRACE("seed " + std::to_string(seed));
    random.seed(seed);
    for (int round = 0; round < 30; ++round) {
        const pid_t child = ::fork();
        if (child == 0) {
            auto sink = opened();
            for (std::int64_t next = position(*sink) + 1;; next += 50) {
                if (send(*sink, events(next, next + 49)).verdict != ANNAL_DELIVERED) ::_exit(1);
            }
        }
        ::usleep(2'000 + random() % 30'000);
        ::kill(child, SIGKILL);
        int status = 0;
        ::waitpid(child, &status, 0);
        ASSERT_TRUE(WIFSIGNALED(status));
        // What a power cut may leave besides: the last write cut anywhere.
        if (round % 3 == 0 && fs::exists(path_) && fs::file_size(path_) > 200) {
            fs::resize_file(path_, fs::file_size(path_) - random() % 200);
        }
    }
    auto sink = opened();
    const std::vector<std::int64_t> found = seqs();
    ASSERT_GT(found.size(), 50U);
    for (std::size_t i = 0; i < found.size(); ++i)
        ASSERT_EQ(found[i], static_cast<std::int64_t>(i));
    EXPECT_EQ(position(*sink), static_cast<std::int64_t>(found.size()) - 1);
}

/// The files that were put aside, the oldest first, and what they hold.
std::vector<std::string> put_aside(const std::string& path) {
    return sink_file::LineFile(path, false).put_aside();
}
std::string content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

class RotationTest : public SinkFileTest {
protected:
    std::vector<std::int64_t> seqs_of(const std::string& lines, const std::string& project) const {
        std::vector<std::int64_t> out;
        std::istringstream in(lines);
        for (std::string line; std::getline(in, line);) {
            bool tombstone = false;
            const auto seq = sink_file::seq_of_line(line, project, tombstone);
            if (seq >= 0) out.push_back(seq);
        }
        return out;
    }
    /// Over all files, the oldest first.
    std::vector<std::int64_t> all_seqs(const std::string& project = "proj_1") const {
        std::string lines;
        for (const std::string& file : put_aside(path_)) lines += content(file);
        return seqs_of(lines + text(), project);
    }
    static void expect_run(const std::vector<std::int64_t>& seqs, std::size_t least) {
        ASSERT_GE(seqs.size(), least);
        for (std::size_t i = 0; i < seqs.size(); ++i)
            ASSERT_EQ(seqs[i], static_cast<std::int64_t>(i));
    }
    void make_old(std::int64_t seconds) const {
        const timespec at{::time(nullptr) - seconds, 0};
        const timespec both[2] = {at, at};
        ASSERT_EQ(::utimensat(AT_FDCWD, path_.c_str(), both, 0), 0);
    }
};

TEST_F(RotationTest, PutsAFileAsideBeforeItGrowsTooLarge) {
    auto sink = opened();
    send(*sink, events(0, 4));
    const std::size_t batch = text().size();
    fs::remove(path_);
    sink = open(",\"rotate_bytes\":" + std::to_string(batch * 5 / 2));
    for (std::int64_t next = 0; next < 50; next += 5)
        ASSERT_EQ(send(*sink, events(next, next + 4)).verdict, ANNAL_DELIVERED);
    const auto aside = put_aside(path_);
    EXPECT_EQ(aside.size(), 4U);
    for (const std::string& file : aside) {
        EXPECT_EQ(seqs_of(content(file), "proj_1").size(), 10U);  // whole batches
        EXPECT_LE(fs::file_size(file), batch * 5 / 2);
    }
    expect_run(all_seqs(), 50);
    EXPECT_EQ(position(*sink), 49);
    // A batch that is larger than a file may be gets one of its own.
    ASSERT_EQ(send(*sink, events(50, 99)).verdict, ANNAL_DELIVERED);
    ASSERT_EQ(send(*sink, events(100, 100)).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(seqs_of(content(put_aside(path_).back()), "proj_1").size(), 50U);
    expect_run(all_seqs(), 101);
}

TEST_F(RotationTest, BeginsAFileForEachSpan) {
    auto sink = open(",\"rotate_every\":24");
    send(*sink, events(0, 0));
    send(*sink, events(1, 1));
    EXPECT_TRUE(put_aside(path_).empty());
    make_old(24 * 3'600);
    send(*sink, events(2, 2));
    send(*sink, events(3, 3));
    EXPECT_EQ(put_aside(path_).size(), 1U);
    make_old(24 * 3'600);
    sink.reset();
    sink = open(",\"rotate_every\":24");  // the file itself tells, also after a restart
    send(*sink, events(4, 4));
    EXPECT_EQ(put_aside(path_).size(), 2U);
    EXPECT_EQ(seqs(), (std::vector<std::int64_t>{4}));
    expect_run(all_seqs(), 5);
}

TEST_F(RotationTest, KeepsSoManyFilesOnly) {
    auto sink = open(R"(,"rotate_bytes":1,"keep_files":2)");
    write("");
    std::ofstream(path_ + ".1") << "somebody else's\n";
    std::ofstream(path_ + ".20260101T000000.000000Z.gz") << "somebody else's\n";
    for (std::int64_t seq = 0; seq < 6; ++seq) send(*sink, events(seq, seq));
    EXPECT_EQ(all_seqs(), (std::vector<std::int64_t>{3, 4, 5}));
    EXPECT_TRUE(fs::exists(path_ + ".1"));
    EXPECT_TRUE(fs::exists(path_ + ".20260101T000000.000000Z.gz"));
}

TEST_F(RotationTest, NamesSortByAgeThoughTheClockWasSetBack) {
    auto sink = open(R"(,"rotate_bytes":1)");
    std::ofstream(path_ + ".29991231T235959.999999Z") << "";
    for (std::int64_t seq = 0; seq < 4; ++seq) send(*sink, events(seq, seq));
    EXPECT_EQ(put_aside(path_).at(1), path_ + ".30000101T000000.000000Z");
    expect_run(all_seqs(), 4);
}

// What a crash leaves between the rename and the first line of the new file.
TEST_F(RotationTest, FindsItsPlaceInTheFileThatWasPutAside) {
    auto sink = open(R"(,"rotate_bytes":1)");
    for (std::int64_t seq = 0; seq < 4; ++seq) send(*sink, events(seq, seq));
    write("");
    EXPECT_EQ(position(*sink), 2);
    fs::remove(path_);
    EXPECT_EQ(position(*opened()), 2);
    EXPECT_EQ(position(*opened(), "proj_2"), -1);
    // Without fsync a power cut may tear what was put aside, too.
    const std::string newest = put_aside(path_).back();
    fs::resize_file(newest, fs::file_size(newest) - 3);
    EXPECT_EQ(position(*opened()), 1);
    std::ofstream(newest, std::ios::trunc) << "{\"project_id\":\"proj_1\",\"seq\":9";
    EXPECT_EQ(position(*opened()), 1);
}

TEST_F(RotationTest, OthersWhoShareTheFileGoOnWithTheNewOne) {
    auto rotating = open(R"(,"rotate_bytes":1)");
    auto other = opened();
    for (std::int64_t seq = 0; seq < 5; ++seq) {
        ASSERT_EQ(send(*other, events(seq, seq, "proj_2")).verdict, ANNAL_DELIVERED);
        ASSERT_EQ(send(*rotating, events(seq, seq)).verdict, ANNAL_DELIVERED);
    }
    expect_run(all_seqs("proj_1"), 5);
    expect_run(all_seqs("proj_2"), 5);
    EXPECT_EQ(position(*other), 4);
    EXPECT_EQ(position(*rotating, "proj_2"), 4);  // its last line was put aside
}

// Both wait for one lock; whoever gets it second finds the file moved under his feet.
TEST_F(RotationTest, NobodyWritesIntoAFileThatWasPutAside) {
    std::vector<std::thread> writers;
    for (const char* project : {"proj_1", "proj_2", "proj_3"}) {
        writers.emplace_back([this, project] {
            sink_file::LineFile file(path_, false, {2'000, 0, 0});
            EXPECT_TRUE(file.open().ok());
            for (int seq = 0; seq < 200; ++seq) {
                const std::string line = "{\"project_id\":\"" + std::string(project) +
                                         "\",\"seq\":" + std::to_string(seq) + "}\n";
                const annal::Status status = file.append(line, in_ms(20'000));
                EXPECT_TRUE(status.ok()) << status.text();
            }
        });
    }
    for (std::thread& writer : writers) writer.join();
    EXPECT_GE(put_aside(path_).size(), 8U);
    for (const std::string& file : put_aside(path_)) EXPECT_LE(fs::file_size(file), 2'000U);
    for (const char* project : {"proj_1", "proj_2", "proj_3"}) expect_run(all_seqs(project), 200);
}

// Killed at any moment, of a rotation too, the files tell where to go on.
TEST_F(RotationTest, ResumesAfterKillsWithoutLossOrRepeat) {
    std::mt19937 random(std::random_device{}());
    const auto seed = random();
    SCOPED_TRACE("seed " + std::to_string(seed));
    random.seed(seed);
    const std::string often = R"(,"rotate_bytes":30000)";
    for (int round = 0; round < 30; ++round) {
        const pid_t child = ::fork();
        if (child == 0) {
            auto sink = open(often);
            for (std::int64_t next = position(*sink) + 1;; next += 50) {
                if (send(*sink, events(next, next + 49)).verdict != ANNAL_DELIVERED) ::_exit(1);
            }
        }
        ::usleep(2'000 + random() % 30'000);
        ::kill(child, SIGKILL);
        int status = 0;
        ::waitpid(child, &status, 0);
        ASSERT_TRUE(WIFSIGNALED(status));
        if (round % 3 == 0 && fs::exists(path_) && fs::file_size(path_) > 200) {
            fs::resize_file(path_, fs::file_size(path_) - random() % 200);
        }
        // As if the kill had come right behind a rename.
        if (round % 7 == 1 && fs::exists(path_) && fs::file_size(path_) > 0) {
            auto sink = open();  // cuts a torn line off, as whoever renames has done
            sink.reset();
            const std::string year = std::to_string(3'000 + round);  // behind all others
            fs::rename(path_, path_ + "." + year + "0101T000000.000000Z");
        }
    }
    EXPECT_GE(put_aside(path_).size(), 3U);
    expect_run(all_seqs(), 500);
    EXPECT_EQ(position(*open(often)), static_cast<std::int64_t>(all_seqs().size()) - 1);
}

TEST(SeqOfLine, LooksAtTheOutermostMembersOnly) {
    const auto seq = [](std::string_view line) {
        bool tombstone = false;
        const auto found = sink_file::seq_of_line(line, "p", tombstone);
        return tombstone ? -100 - found : found;
    };
    EXPECT_EQ(seq(R"({"project_id":"p","metadata":{"seq":5},"seq":7})"), 7);
    EXPECT_EQ(seq(R"({"seq":7,"project_id":"p"})"), 7);
    EXPECT_EQ(seq(R"({"project_id":"q","metadata":{"project_id":"p"},"seq":7})"), -1);
    EXPECT_EQ(seq(R"({"a":"\"","b":"\\","c":"},{","project_id":"p","seq":8})"), 8);
    EXPECT_EQ(seq(R"({"id":"x","seq":3,"deleted":true})"), -103);
    EXPECT_EQ(seq(R"({"id":"x","seq":3,"deleted":false})"), -1);
    EXPECT_EQ(seq(R"({"project_id":"p","deleted":true,"seq":3})"), 3);
    for (const char* line :
         {"",
          "{",
          "{}",
          "[]",
          "null",
          R"({"project_id":"p"})",
          R"({"project_id":"p","seq":-3})",
          R"({"project_id":"p","seq":"3"})",
          R"({"project_id":"p","seq":99999999999999999999})",
          "{\"project_id\":\"p",
          "}}}}",
          R"({"project_id)"}) {
        EXPECT_EQ(seq(line), -1) << line;
    }
}

}  // namespace
