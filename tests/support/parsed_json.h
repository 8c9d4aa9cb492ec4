#pragma once

#include <gtest/gtest.h>

#include <annal/sdk/json.hpp>
#include <string>

namespace annal::test {

/// `text`, which must be JSON.
inline Json parse(const std::string& text) {
    Json json;
    Json::Failure failure;
    EXPECT_TRUE(Json::parse(text, json, failure)) << text;
    return json;
}

}  // namespace annal::test
