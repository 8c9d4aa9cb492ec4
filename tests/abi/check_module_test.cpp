#include "runtime/plugin/check_module.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <ostream>

#include "runtime/plugin/loader.h"
#include "tests/abi/good_module.h"

namespace annal::abi_test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(CheckModule, TakesAGoodModule) {
    const GoodModule good;
    EXPECT_THAT(module_defects(&good.module), IsEmpty());
    EXPECT_TRUE(check_module(&good.module));
}

TEST(CheckModule, OptionalPartsMayBeMissing) {
    GoodModule good;
    good.sink.encode = nullptr;
    good.sink.position = nullptr;
    good.module.vendor = nullptr;
    good.module.license = nullptr;
    EXPECT_THAT(module_defects(&good.module), IsEmpty());
}

TEST(CheckModule, TakesStructsThatANewerHeaderMadeLonger) {
    GoodModule good;
    good.http.struct_size += 64;
    good.components[0].struct_size += 64;
    good.module.struct_size += 64;
    EXPECT_THAT(module_defects(&good.module), IsEmpty());
}

TEST(CheckModule, RefusesNothingAtAll) {
    EXPECT_THAT(module_defects(nullptr), ElementsAre(HasSubstr("is null")));
}

/// One thing wrong with an otherwise good module, and what its refusal must say.
struct Spoiled {
    std::string name;
    std::function<void(GoodModule&)> spoil;
    std::vector<std::string> says;

    friend void PrintTo(const Spoiled& one, std::ostream* out) { *out << one.name; }
};

class CheckModuleRefuses : public ::testing::TestWithParam<Spoiled> {};

TEST_P(CheckModuleRefuses, NamingTheThing) {
    GoodModule module;
    GetParam().spoil(module);
    const auto defects = module_defects(&module.module);
    ASSERT_THAT(defects, ::testing::SizeIs(1)) << ::testing::PrintToString(defects);
    for (const auto& part : GetParam().says) EXPECT_THAT(defects[0], HasSubstr(part));
    const auto checked = check_module(&module.module);
    ASSERT_FALSE(checked);
    EXPECT_EQ(checked.error().code, Errc::unsupported);
    EXPECT_EQ(checked.error().detail, defects[0]);
}

std::string test_name(const ::testing::TestParamInfo<Spoiled>& info) {
    return info.param.name;
}

/// Null one function of a table.
#define WITHOUT(table, function)                                                            \
    Spoiled {                                                                               \
#table "_without_" #function, [](GoodModule & m) { m.table.function = nullptr; }, { \
            "module \"com.example.good\"", "component \"one-" #table "\"",                  \
                "lacks the function " #function                                             \
        }                                                                                   \
    }
/// What ended with `last` in ABI 1.0.
#define SIZE_1_0(type, last) (offsetof(type, last) + sizeof(type::last))
/// State one byte less than that.
#define SHORT(table, type, last)                                                      \
    Spoiled {                                                                         \
#table "_too_short",                                                          \
            [](GoodModule & m) { m.table.struct_size = SIZE_1_0(type, last) - 1; }, { \
            "component \"one-" #table "\"",                                           \
                #type " of " + std::to_string(SIZE_1_0(type, last) - 1) + " bytes",   \
                "needs " + std::to_string(SIZE_1_0(type, last)), "annal-sdk 1"        \
        }                                                                             \
    }
#define EMPTY(table, type)                                                      \
    Spoiled {                                                                   \
#table "_of_size_0", [](GoodModule & m) { m.table.struct_size = 0; }, { \
#type " of 0 bytes"                                                 \
        }                                                                       \
    }

INSTANTIATE_TEST_SUITE_P(
    Functions,
    CheckModuleRefuses,
    ::testing::Values(
        WITHOUT(http, create),
        WITHOUT(http, destroy),
        WITHOUT(http, handle),
        WITHOUT(http, render_problem),
        WITHOUT(format, create),
        WITHOUT(format, destroy),
        WITHOUT(format, begin),
        WITHOUT(format, encode),
        WITHOUT(format, end),
        WITHOUT(format, release),
        WITHOUT(sink, create),
        WITHOUT(sink, destroy),
        WITHOUT(sink, send),
        WITHOUT(job, create),
        WITHOUT(job, destroy),
        WITHOUT(job, run)
    ),
    test_name
);

INSTANTIATE_TEST_SUITE_P(
    Sizes,
    CheckModuleRefuses,
    ::testing::Values(
        SHORT(http, annal_http_v1, render_problem),
        SHORT(format, annal_format_v1, release),
        SHORT(sink, annal_sink_v1, position),
        SHORT(job, annal_job_v1, run),
        EMPTY(http, annal_http_v1),
        EMPTY(format, annal_format_v1),
        EMPTY(sink, annal_sink_v1),
        EMPTY(job, annal_job_v1),
        Spoiled{
            "component_too_short",
            [](GoodModule& m) {
                m.components[1].struct_size = SIZE_1_0(annal_component, vtable) - 1;
            },
            {"component 1", "annal_component of 39 bytes", "needs 40"}},
        Spoiled{
            "module_too_short",
            [](GoodModule& m) { m.module.struct_size = sizeof(annal_module) - 1; },
            {"module \"com.example.good\"", "annal_module of 55 bytes", "needs 56"}},
        Spoiled{
            "module_of_size_0",
            [](GoodModule& m) { m.module.struct_size = 0; },
            {"annal_module of 0 bytes"}}
    ),
    test_name
);

INSTANTIATE_TEST_SUITE_P(
    Versions,
    CheckModuleRefuses,
    ::testing::Values(
        Spoiled{
            "major_newer",
            [](GoodModule& m) { m.module.abi_major = ANNAL_ABI_MAJOR + 1; },
            {"was built for Annal plugin ABI 2.3, this host speaks 1.3: rebuild it against "
             "annal-sdk 1"}},
        Spoiled{
            "major_older",
            [](GoodModule& m) { m.module.abi_major = 0; },
            {"ABI 0.3, this host speaks 1.3: rebuild it against annal-sdk 1"}},
        Spoiled{
            "minor_newer",
            [](GoodModule& m) { m.module.abi_minor = ANNAL_ABI_MINOR + 3; },
            {"module \"com.example.good\" was built for Annal plugin ABI 1.6, this host speaks "
             "1.3: update Annal, or rebuild"}},
        Spoiled{
            "major_newer_and_all_else_other",
            [](GoodModule& m) {
                m.module.abi_major = 2;
                m.module.id = nullptr;
                m.module.components = nullptr;
            },
            {"the module was built for Annal plugin ABI 2.3"}}
    ),
    test_name
);

const std::string kLong(200, 'x');

INSTANTIATE_TEST_SUITE_P(
    Descriptions,
    CheckModuleRefuses,
    ::testing::Values(
        Spoiled{"no_id", [](GoodModule& m) { m.module.id = nullptr; }, {"the module has no id"}},
        Spoiled{"empty_id", [](GoodModule& m) { m.module.id = ""; }, {"has no id"}},
        Spoiled{"odd_id", [](GoodModule& m) { m.module.id = "a\nb"; }, {"has the id \"a\\x0ab\""}},
        Spoiled{"long_id", [](GoodModule& m) { m.module.id = kLong.c_str(); }, {"at most 128"}},
        Spoiled{
            "no_version", [](GoodModule& m) { m.module.version = nullptr; }, {"has no version"}},
        Spoiled{
            "no_components",
            [](GoodModule& m) { m.module.n_components = 0; },
            {"has no components"}},
        Spoiled{
            "no_component_list",
            [](GoodModule& m) { m.module.components = nullptr; },
            {"has no components"}},
        Spoiled{
            "many_components",
            [](GoodModule& m) { m.module.n_components = 257; },
            {"has 257 components, at most 256"}},
        Spoiled{
            "null_component",
            [](GoodModule& m) { m.list[2] = nullptr; },
            {"null pointer for component 2"}},
        Spoiled{
            "no_type",
            [](GoodModule& m) { m.components[2].type = nullptr; },
            {"component \"one-sink\" has no type", "annal.http/1"}},
        Spoiled{
            "unknown_type",
            [](GoodModule& m) { m.components[2].type = "annal.sink/2"; },
            {"component \"one-sink\"",
             "type \"annal.sink/2\"",
             "known types are annal.http/1, annal.format/1, annal.sink/1 or annal.job/1"}},
        Spoiled{
            "no_name",
            [](GoodModule& m) { m.components[2].name = nullptr; },
            {"component 2 has no name"}},
        Spoiled{
            "odd_name",
            [](GoodModule& m) { m.components[2].name = "a/b"; },
            {"has the name \"a/b\""}},
        Spoiled{
            "no_vtable",
            [](GoodModule& m) { m.components[3].vtable = nullptr; },
            {"component \"one-job\" has no vtable"}},
        Spoiled{
            "no_schema",
            [](GoodModule& m) { m.components[3].config_schema = nullptr; },
            {"component \"one-job\" has no config_schema"}},
        Spoiled{
            "schema_no_json",
            [](GoodModule& m) { m.components[3].config_schema = "{"; },
            {"component \"one-job\"", "no JSON Schema: is no JSON"}},
        Spoiled{
            "schema_unsound",
            [](GoodModule& m) { m.components[3].config_schema = R"({"type":"strng"})"; },
            {"did you mean \"string\"?"}},
        Spoiled{
            "twice",
            [](GoodModule& m) { m.components[3] = m.components[2]; },
            {"component \"one-sink\" is there twice with the type \"annal.sink/1\""}},
        Spoiled{
            "no_content_type",
            [](GoodModule& m) {
                m.format.content_type = {nullptr, 0};
            },
            {"component \"one-format\" has no content_type"}},
        Spoiled{
            "odd_content_type",
            [](GoodModule& m) {
                m.format.content_type = {"text/x\r\nA: b", 12};
            },
            {"has no content_type"}},
        Spoiled{
            "no_extension",
            [](GoodModule& m) {
                m.format.file_extension = {"", 0};
            },
            {"component \"one-format\" has no file_extension"}},
        Spoiled{
            "odd_extension",
            [](GoodModule& m) {
                m.format.file_extension = {"a/b", 3};
            },
            {"has no file_extension"}}
    ),
    test_name
);

TEST(CheckModule, OneNameMayServeTwoTypes) {
    GoodModule good;
    good.components[1].name = good.components[2].name;
    EXPECT_THAT(module_defects(&good.module), IsEmpty());
}

TEST(CheckModule, TellsEverythingAtOnce) {
    GoodModule bad;
    bad.module.version = nullptr;
    bad.http.handle = nullptr;
    bad.job.run = nullptr;
    EXPECT_THAT(
        module_defects(&bad.module),
        ElementsAre(HasSubstr("version"), HasSubstr("handle"), HasSubstr("run"))
    );
    EXPECT_THAT(
        check_module(&bad.module).error().detail,
        AllOf(
            HasSubstr("no version, as in \"1.2.0\"; module"), HasSubstr("handle"), HasSubstr("run")
        )
    );
}

}  // namespace
}  // namespace annal::abi_test
