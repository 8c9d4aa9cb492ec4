#include "runtime/control/erasures.h"

#include <gtest/gtest.h>

namespace annal::control {
namespace {

constexpr auto bit = Scrub::bit;

Event event_of(std::initializer_list<std::pair<Column, Text>> columns) {
    Event event;
    event[Column::action] = "user.changed";
    for (const auto& [column, text] : columns) event[column] = text;
    return event;
}

TEST(Subject, AnEventIsAboutWhoItsUserActorOrTargetIs) {
    for (const Column column : {Column::user_id, Column::actor_id, Column::target_id})
        EXPECT_NE(columns_of_subject(event_of({{column, "usr_x"}}), "usr_x"), 0U) << name(column);
    for (const Column column : {Column::external_id, Column::client_id, Column::actor_email})
        EXPECT_EQ(columns_of_subject(event_of({{column, "usr_x"}}), "usr_x"), 0U) << name(column);
    EXPECT_EQ(columns_of_subject(event_of({{Column::user_id, "usr_xy"}}), "usr_x"), 0U);
    EXPECT_EQ(columns_of_subject(event_of({}), ""), 0U);
}

TEST(Subject, AnotherPersonsIdStays) {
    const Event event = event_of(
        {{Column::user_id, "usr_x"},
         {Column::actor_id, "usr_admin"},
         {Column::actor_email, "admin@example.com"},
         {Column::target_id, "usr_other"},
         {Column::client_id, "usr_x"},
         {Column::external_id, "login/usr_x/7"}}
    );
    EXPECT_EQ(
        columns_of_subject(event, "usr_x"),
        Scrub::kAlways | bit(Column::user_id) | bit(Column::client_id) | bit(Column::external_id)
    );
}

TEST(Subject, TheAddressGoesWithTheActorOrWhereNobodyElseIsOne) {
    const Event own = event_of({{Column::actor_id, "usr_x"}, {Column::actor_email, "x@x.example"}});
    EXPECT_TRUE((columns_of_subject(own, "usr_x") & bit(Column::actor_email)) != 0);
    const Event nobody =
        event_of({{Column::user_id, "usr_x"}, {Column::actor_email, "x@x.example"}});
    EXPECT_TRUE((columns_of_subject(nobody, "usr_x") & bit(Column::actor_email)) != 0);
}

TEST(Subject, TheActionIsNeverPersonal) {
    const Event event = event_of({{Column::action, "usr.x"}, {Column::user_id, "usr.x"}});
    EXPECT_EQ(columns_of_subject(event, "usr.x") & bit(Column::action), 0U);
}

TEST(Subject, ATextNamesAWholeIdOnly) {
    for (const char* text :
         {"usr_1", "of usr_1.", "{\"id\":\"usr_1\"}", "a/usr_1/b", "usr_10 usr_1"})
        EXPECT_TRUE(names_subject(text, "usr_1")) << text;
    for (const char* text : {"", "usr_10", "xusr_1", "usr_1_2", "usr_"})
        EXPECT_FALSE(names_subject(text, "usr_1")) << text;
    EXPECT_TRUE(names_subject(R"({"id":"a\"b"})", "a\"b")) << "as JSON writes it";
    EXPECT_TRUE(names_subject("to <x@example.com>", "x@example.com"));
}

TEST(ErasureRow, ComesBackAsItWasWritten) {
    Erasure erasure;
    erasure.id = "era_1";
    erasure.completed = true;
    erasure.requested_by = {"api_key", "apikey_1"};
    erasure.requested_at = 5;
    erasure.completed_at = 6;
    erasure.through_seq = 7;
    erasure.events = 8;
    erasure.dead_letters = 9;
    erasure.attempts = 10;
    erasure.plugin_rows = 11;
    erasure.objects = 12;
    const auto read = Erasure::from_row({"p", "era_1", erasure.to_text()});
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(read.value().id, "era_1");
    EXPECT_TRUE(read.value().completed);
    EXPECT_EQ(read.value().requested_by.id, "apikey_1");
    EXPECT_EQ(read.value().completed_at, 6);
    EXPECT_EQ(read.value().through_seq, 7);
    EXPECT_EQ(read.value().to_text(), erasure.to_text());
    EXPECT_EQ(Erasure::from_row({"p", "era_1", "[]"}).error().code, Errc::internal);
}

}  // namespace
}  // namespace annal::control
