#include "runtime/cli/event_line.h"

#include <gtest/gtest.h>

namespace annal::cli {
namespace {

TEST(EventLine, ShowsWhoDidWhatToWhat) {
    EXPECT_EQ(
        event_line(
            R"({"id":"evt_1","action":"user.created","created_at":"2026-05-14T18:42:13.001234Z",)"
            R"("target_type":"user","target_id":"u1","actor":{"type":"user","id":"u2","email":"a@b.c"},)"
            R"("seq":42,"ip":"192.0.2.1","description":"said"})"
        ),
        "2026-05-14T18:42:13.001Z        42  user.created                  user:a@b.c              "
        "  "
        "user:u1                   192.0.2.1  said"
    );
    EXPECT_EQ(
        event_line(R"({"id":"evt_1","action":"a.b","created_at":"2026-05-14T18:42:13.001234Z",)"
                   R"("target_type":null,"actor":{"type":"system","id":null},"seq":1})"),
        "2026-05-14T18:42:13.001Z         1  a.b                           system                  "
        "  "
        "-                         -"
    );
    EXPECT_EQ(event_line(R"({"id":"evt_1","seq":7,"deleted":true})"), "       7  (deleted)");
}

TEST(EventLine, WhatOthersWroteCannotSteerTheTerminal) {
    const std::string line =
        event_line(R"({"seq":1,"action":"a.b","description":"x\u001b[2Jy\nz\u009b1m\u007f\u0000é"})"
        );
    EXPECT_NE(line.find(R"(x\x1b[2Jy\x0az\x9b1m\x7f\x00é)"), std::string::npos) << line;
    EXPECT_EQ(event_line("no json \x1b[0m"), R"(no json \x1b[0m)");
}

}  // namespace
}  // namespace annal::cli
