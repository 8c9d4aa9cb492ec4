#include <gtest/gtest.h>

#include <annal/sdk/status.hpp>

#include "tests/support/mini_host.h"

namespace {

using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::RawBatch;
using annal::test::TextWriter;

class JsonlTest : public testing::Test {
protected:
    annal_status begin(const annal_pair* options, std::uint32_t count) {
        error_.struct_size = sizeof(error_);
        return table_.begin(format_.self(), options, count, &document_, &writer_, &error_);
    }
    void TearDown() override {
        if (document_ != nullptr) table_.release(document_);
    }

    MiniHost host_;
    Instance format_{host_, *annal_module_v1()->components[0]};
    const annal_format_v1& table_ = format_.table<annal_format_v1>();
    TextWriter text_;
    annal_writer writer_ = text_.writer();
    annal_error error_{};
    void* document_ = nullptr;
};

TEST_F(JsonlTest, WritesALineForEachEventThatIsThere) {
    host_.fill(3);
    host_.events[0].set("metadata", R"({"n":1.10})");
    host_.events[1].deleted = true;
    const RawBatch batch(host_.events);
    ASSERT_EQ(begin(nullptr, 0), ANNAL_OK);
    ASSERT_EQ(table_.encode(document_, batch.get(), &writer_, &error_), ANNAL_OK);
    ASSERT_EQ(table_.end(document_, &writer_, &error_), ANNAL_OK);
    EXPECT_EQ(
        text_.text,
        R"({"id":"evt_0","action":"auth.signin","created_at":"2026-05-28T20:26:41.000000Z","project_id":"proj_1",)"
        R"("target_id":null,"metadata":{"n":1.10},"seq":0})"
        "\n"
        R"({"id":"evt_2","action":"auth.signin","created_at":"2026-05-28T20:26:43.000000Z","project_id":"proj_1",)"
        R"("target_id":null,"metadata":{},"seq":2})"
        "\n"
    );
}

TEST_F(JsonlTest, RefusesOptions) {
    const annal_pair option{annal::to_str("csv_safe"), annal::to_str("true")};
    EXPECT_EQ(begin(&option, 1), ANNAL_INVALID);
    EXPECT_EQ(annal::Status::from(&error_).text(), "jsonl has no option csv_safe");
    EXPECT_EQ(document_, nullptr);
}

TEST_F(JsonlTest, ReportsAFullBuffer) {
    host_.fill(1);
    const RawBatch batch(host_.events);
    ASSERT_EQ(begin(nullptr, 0), ANNAL_OK);
    TextWriter small(20);
    const annal_writer writer = small.writer();
    EXPECT_EQ(table_.encode(document_, batch.get(), &writer, &error_), ANNAL_TOO_LARGE);
}

}  // namespace
