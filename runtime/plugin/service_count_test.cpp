// The counting part of the store service and numbered pages, through the C ABI, as a plugin sees
// it.
#include "runtime/plugin/service_count.h"

#include <gtest/gtest.h>

#include "tests/support/test_host.h"

namespace annal {
namespace {

using test::Promised;
using test::TestCall;
using test::TestHost;
using test::TestPlugin;

struct TotalCopy {
    std::int64_t count = 0;
    std::optional<Error> error;
};
struct RowsCopy {
    std::vector<std::string> rows;  ///< "start key count", the key "-" when it is null
    std::optional<Error> error;
};
struct SeqsCopy {
    std::vector<Seq> seqs;
    bool has_more = false;
    std::optional<Error> error;
};

void take_total(void* user, const annal_total* total, const annal_error* error) {
    EXPECT_NE(total == nullptr, error == nullptr);
    TotalCopy out;
    if (error != nullptr) out.error = to_error(*error);
    if (total != nullptr) out.count = total->count;
    static_cast<Promised<TotalCopy>*>(user)->set(out);
}

void take_rows(void* user, const annal_aggregate* rows, const annal_error* error) {
    EXPECT_NE(rows == nullptr, error == nullptr);
    RowsCopy out;
    if (error != nullptr) out.error = to_error(*error);
    for (std::uint32_t i = 0; rows != nullptr && i < rows->count; ++i) {
        const auto& row = *ANNAL_AT(annal_aggregate_row, rows->rows, rows->stride, i);
        const std::string start =
            row.start_us == ANNAL_TIME_NONE ? "-" : std::to_string(row.start_us);
        const std::string key = row.key.ptr == nullptr ? "-" : std::string(to_view(row.key));
        out.rows.push_back(start + " " + key + " " + std::to_string(row.count));
    }
    static_cast<Promised<RowsCopy>*>(user)->set(out);
}

void take_seqs(void* user, const annal_page* page, const annal_error* error) {
    SeqsCopy out;
    if (error != nullptr) out.error = to_error(*error);
    for (std::uint32_t i = 0; page != nullptr && i < page->batch->count; ++i) {
        const auto& event = *ANNAL_AT(annal_event, page->batch->events, page->batch->stride, i);
        out.seqs.push_back(event.seq);
        out.has_more = page->has_more != 0;
    }
    static_cast<Promised<SeqsCopy>*>(user)->set(out);
}

class ServiceCountTest : public testing::Test {
protected:
    void SetUp() override {
        plugin.manifest.permissions.store_read = true;
        host.store.hop = true;
        instance = plugin.create(host.environment).value();
        fill(7, "a.b");
        fill(5, "c.d");
    }
    void fill(int count, std::string_view action) {
        EventDraft draft;
        draft[Column::action] = action;
        draft[Column::actor_type] = "user";
        draft[Column::metadata] = "{}";
        host.store.fill("proj_a", draft, count);
    }
    const annal_store_v1& store() { return *plugin.service<annal_store_v1>(ANNAL_SERVICE_STORE); }

    TotalCopy count(const std::vector<annal_term>& terms) {
        const annal_filter filter = filter_of(terms);
        Promised<TotalCopy> result;
        store().count(plugin.ctx(), call.handle, &filter, &result, &take_total);
        return result.get();
    }
    RowsCopy aggregate(annal_aggregation what) {
        what.struct_size = sizeof what;
        Promised<RowsCopy> result;
        store().aggregate(plugin.ctx(), call.handle, &what, &result, &take_rows);
        return result.get();
    }
    SeqsCopy scan(annal_query query) {
        Promised<SeqsCopy> result;
        store().scan(plugin.ctx(), call.handle, &query, &result, &take_seqs);
        return result.get();
    }
    /// 3 events newest first, behind `skip` others.
    static annal_query page(std::int64_t skip) {
        annal_query query{};
        query.struct_size = sizeof query;
        query.limit = 3;
        query.skip = skip;
        return query;
    }
    static annal_filter filter_of(const std::vector<annal_term>& terms) {
        return {
            sizeof(annal_filter),
            static_cast<std::uint32_t>(terms.size()),
            sizeof(annal_term),
            0,
            terms.data()};
    }
    static annal_term action(std::string_view text) {
        return {ANNAL_FIELD_ACTION, ANNAL_OP_EQ, to_abi(text), 0};
    }

    TestHost host;
    TestPlugin plugin;
    std::unique_ptr<Instance> instance;
    TestCall call;
};

TEST_F(ServiceCountTest, CountsWhatAFilterSelects) {
    EXPECT_EQ(count({}).count, 12);
    EXPECT_EQ(count({action("c.d")}).count, 5);
    EXPECT_EQ(count({action("e.f")}).count, 0);
    const auto wrong = count({annal_term{99, ANNAL_OP_EQ, to_abi(std::string_view("x")), 0}});
    ASSERT_TRUE(wrong.error);
    EXPECT_EQ(wrong.error->code, Errc::invalid);
    host.store.fail_reads({Errc::unavailable, "not now"});
    EXPECT_EQ(count({}).error->code, Errc::unavailable);
}

TEST_F(ServiceCountTest, AggregatesByGroupAndInterval) {
    annal_aggregation what{};
    EXPECT_EQ(aggregate(what).rows, std::vector<std::string>{"- - 12"});
    what.group_by = ANNAL_FIELD_ACTION;
    EXPECT_EQ(aggregate(what).rows, (std::vector<std::string>{"- a.b 7", "- c.d 5"}));
    what.interval = ANNAL_INTERVAL_WEEK;
    const auto weeks = aggregate(what).rows;
    ASSERT_EQ(weeks.size(), 2U);
    EXPECT_NE(weeks[0][0], '-');
}

TEST_F(ServiceCountTest, RefusesAggregationsThatTheContractDoesNotHave) {
    const auto refused = [&](const annal_aggregation& what, const std::string& word) {
        const auto answer = aggregate(what);
        ASSERT_TRUE(answer.error) << word;
        EXPECT_EQ(answer.error->code, Errc::invalid);
        EXPECT_NE(answer.error->detail.find(word), std::string::npos) << answer.error->detail;
    };
    annal_aggregation what{};
    what.interval = 4;
    refused(what, "interval");
    what = {};
    what.group_by = ANNAL_FIELD_TEXT;
    refused(what, "text");
    what = {};
    what.n_unique = 17;
    refused(what, "16");
    const std::uint32_t fields[] = {ANNAL_FIELD_USER_ID, ANNAL_FIELD_CREATED_AT};
    what.n_unique = 2;
    what.unique = fields;
    refused(what, "created_at");
}

TEST_F(ServiceCountTest, PassesOverSoManyMatchesFirst) {
    EXPECT_EQ(scan(page(0)).seqs, (std::vector<Seq>{11, 10, 9}));
    const auto second = scan(page(3));
    EXPECT_EQ(second.seqs, (std::vector<Seq>{8, 7, 6}));
    EXPECT_TRUE(second.has_more);
    const auto last = scan(page(10));
    EXPECT_EQ(last.seqs, (std::vector<Seq>{1, 0}));
    EXPECT_FALSE(last.has_more);
    EXPECT_TRUE(scan(page(12)).seqs.empty());
    EXPECT_TRUE(scan(page(1'000'000)).seqs.empty());
    const std::vector<annal_term> terms{action("a.b")};
    const annal_filter filter = filter_of(terms);
    annal_query query = page(5);
    query.filter = &filter;
    EXPECT_EQ(scan(query).seqs, (std::vector<Seq>{1, 0}));
}

TEST_F(ServiceCountTest, APluginBuiltBeforePagesHadNumbersIsServedAsBefore) {
    annal_query query = page(7);
    query.struct_size = offsetof(annal_query, skip);
    EXPECT_EQ(scan(query).seqs, (std::vector<Seq>{11, 10, 9}));
}

TEST_F(ServiceCountTest, RefusesToPassOverWhereItCant) {
    const auto refused = [&](const annal_query& query, Errc code) {
        const auto answer = scan(query);
        ASSERT_TRUE(answer.error);
        EXPECT_EQ(answer.error->code, code) << answer.error->detail;
    };
    refused(page(-1), Errc::invalid);
    annal_query query = page(1);
    query.order = ANNAL_OLDEST_FIRST;
    refused(query, Errc::invalid);
    const std::vector<annal_term> terms{action("a.b")};
    const annal_filter filter = filter_of(terms);
    query = page(100'001);
    query.filter = &filter;
    refused(query, Errc::too_large);
}

}  // namespace
}  // namespace annal
