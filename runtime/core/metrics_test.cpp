#include "runtime/core/metrics.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

TEST(MetricsTest, RendersEachKind) {
    Metrics metrics;
    metrics.define(MetricKind::counter, "annal_events_total", "Events.").record(2);
    metrics.define(MetricKind::counter, "annal_events_total", "Events.").record(3);
    metrics.define(MetricKind::gauge, "annal_queue_bytes", "Bytes.").record(7);
    metrics.define(MetricKind::gauge, "annal_queue_bytes", "Bytes.").record(4);
    metrics.define(MetricKind::histogram, "annal_commit_seconds", "Commit.").record(0.003);
    const std::string text = metrics.render();
    EXPECT_NE(text.find("# TYPE annal_events_total counter"), std::string::npos);
    EXPECT_NE(text.find("\nannal_events_total 5\n"), std::string::npos) << text;
    EXPECT_NE(text.find("\nannal_queue_bytes 4\n"), std::string::npos) << text;
    EXPECT_NE(text.find("annal_commit_seconds_bucket{le=\"0.005\"} 1"), std::string::npos) << text;
    EXPECT_NE(text.find("annal_commit_seconds_bucket{le=\"0.0025\"} 0"), std::string::npos);
    EXPECT_NE(text.find("annal_commit_seconds_count 1"), std::string::npos);
}

TEST(MetricsTest, OtherLabelsAreAnotherSeries) {
    Metrics metrics;
    Metric& a = metrics.define(MetricKind::counter, "annal_x_total", "X.", {{"sink", "a\"b"}});
    Metric& b = metrics.define(MetricKind::counter, "annal_x_total", "X.", {{"sink", "b"}});
    EXPECT_NE(&a, &b);
    EXPECT_EQ(&a, &metrics.define(MetricKind::counter, "annal_x_total", "X.", {{"sink", "a\"b"}}));
    a.record(1);
    const std::string text = metrics.render();
    EXPECT_NE(text.find(R"(annal_x_total{sink="a\"b"} 1)"), std::string::npos) << text;
    EXPECT_NE(text.find(R"(annal_x_total{sink="b"} 0)"), std::string::npos) << text;
}

TEST(MetricsTest, HistogramsOfSecondsAndOfSizesHaveTheirOwnBuckets) {
    Metrics metrics;
    metrics.define(MetricKind::histogram, "annal_wait_seconds", "Wait.").record(0.0001);
    metrics.define(MetricKind::histogram, "annal_batch_events", "Batch.").record(3'000);
    const std::string text = metrics.render();
    EXPECT_NE(text.find("annal_wait_seconds_bucket{le=\"0.0001\"} 1"), std::string::npos) << text;
    EXPECT_NE(text.find("annal_batch_events_bucket{le=\"2000\"} 0"), std::string::npos) << text;
    EXPECT_NE(text.find("annal_batch_events_bucket{le=\"5000\"} 1"), std::string::npos) << text;
}

TEST(MetricsTest, CountersNeverFall) {
    Metrics metrics;
    Metric& counter = metrics.define(MetricKind::counter, "annal_c_total", "C.");
    counter.record(1);
    counter.record(-5);
    EXPECT_NE(metrics.render().find("\nannal_c_total 1\n"), std::string::npos);
}

TEST(MetricsTest, ForeignNamesAreCheckedAndBounded) {
    Metrics metrics;
    EXPECT_EQ(metrics.try_define(MetricKind::gauge, "bad name", "."), nullptr);
    EXPECT_EQ(metrics.try_define(MetricKind::gauge, "", "."), nullptr);
    EXPECT_EQ(metrics.try_define(MetricKind::gauge, "good", ".", {{"bad-label", ""}}), nullptr);
    EXPECT_EQ(metrics.try_define(MetricKind::histogram, "good", ".", {{"le", "1"}}), nullptr);
    ASSERT_NE(metrics.try_define(MetricKind::gauge, "good", "."), nullptr);
    EXPECT_EQ(metrics.try_define(MetricKind::counter, "good", "."), nullptr);
    for (int i = 1; i < 1000; ++i) {
        ASSERT_NE(
            metrics.try_define(MetricKind::gauge, "good", ".", {{"id", std::to_string(i)}}), nullptr
        );
    }
    EXPECT_EQ(metrics.try_define(MetricKind::gauge, "good", ".", {{"id", "more"}}), nullptr);
    EXPECT_NE(metrics.try_define(MetricKind::gauge, "good", ".", {{"id", "1"}}), nullptr);
}

TEST(MetricsDeathTest, OneNameHasOneKind) {
    Metrics metrics;
    metrics.define(MetricKind::gauge, "annal_g", "G.");
    EXPECT_EXIT(
        metrics.define(MetricKind::counter, "annal_g", "G."),
        ::testing::ExitedWithCode(70),
        "annal_g"
    );
}

}  // namespace
}  // namespace annal
