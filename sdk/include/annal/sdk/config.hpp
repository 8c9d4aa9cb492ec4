#pragma once

#include <annal/sdk/json.hpp>
#include <annal/sdk/status.hpp>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace annal::inline sdk_v1 {

/// A JSON object whose values are strings.
using StringMap = std::map<std::string, std::string>;

template <class V>
concept ConfigValue = std::same_as<V, std::string> || std::same_as<V, std::int64_t> ||
    std::same_as<V, bool> || std::same_as<V, double> || std::same_as<V, std::vector<std::string>> ||
    std::same_as<V, StringMap>;

/// One key of a component's configuration and the member that takes its value. Made by `required`,
/// `optional`, `secret`, `optional_secret`.
template <class T, class V>
class Field {
public:
    static_assert(
        ConfigValue<V>,
        "annal: a configuration member must be a std::string, std::int64_t, bool, double, "
        "std::vector<std::string> or std::map<std::string, std::string>"
    );
    Field(const char* name, V T::*member, std::optional<V> fallback, bool is_secret)
        : name_(name), member_(member), fallback_(std::move(fallback)), secret_(is_secret) {}

    /// A sentence for whoever writes the manifest.
    [[nodiscard]] Field about(const char* text) && {
        about_ = text;
        return std::move(*this);
    }
    /// Numbers: the smallest and the largest value. Text: the shortest and the longest length in
    /// bytes.
    [[nodiscard]] Field range(std::int64_t least, std::int64_t most) && {
        least_ = least;
        most_ = most;
        return std::move(*this);
    }

    /// Text: one of these words, and nothing else.
    [[nodiscard]] Field one_of(std::initializer_list<const char*> words) && {
        static_assert(std::same_as<V, std::string>, "annal: one_of is for a std::string");
        words_.assign(words.begin(), words.end());
        return std::move(*this);
    }

    [[nodiscard]] const char* name() const { return name_; }
    [[nodiscard]] bool is_required() const { return !fallback_.has_value(); }

    void write_schema(JsonWriter<StringOut>& json) const {
        json.key(name_).begin_object();
        write_type(json);
        if (least_) {
            constexpr bool kText = std::same_as<V, std::string>;
            json.member(kText ? "minLength" : "minimum", *least_);
            json.member(kText ? "maxLength" : "maximum", *most_);
        }
        if (!words_.empty()) {
            json.key("enum").begin_array();
            for (const char* word : words_) {
                json.value(word);
            }
            json.end_array();
        }
        if (about_ != nullptr) {
            json.member("description", about_);
        }
        if (secret_) {
            json.member("x-secret", true);
        }
        if (fallback_ && !secret_) {
            json.key("default");
            write_value(json, *fallback_);
        }
        json.end_object();
    }

    /// Sets the member from `value`, or to its default when `value` is null; says what is wrong
    /// otherwise ("" if nothing).
    [[nodiscard]] std::string read(T& object, const Json* value) const {
        if (value == nullptr) {
            if (!fallback_) {
                return "/" + std::string(name_) + ": missing";
            }
            object.*member_ = *fallback_;
            return {};
        }
        std::string wrong = read_value(object.*member_, *value);
        return wrong.empty() ? wrong : "/" + std::string(name_) + ": " + wrong;
    }

private:
    static void write_type(JsonWriter<StringOut>& json) {
        if constexpr (std::same_as<V, std::string>) {
            json.member("type", "string");
        } else if constexpr (std::same_as<V, bool>) {
            json.member("type", "boolean");
        } else if constexpr (std::same_as<V, std::int64_t>) {
            json.member("type", "integer");
        } else if constexpr (std::same_as<V, double>) {
            json.member("type", "number");
        } else if constexpr (std::same_as<V, StringMap>) {
            json.member("type", "object")
                .key("additionalProperties")
                .begin_object()
                .member("type", "string")
                .end_object();
        } else {
            json.member("type", "array")
                .key("items")
                .begin_object()
                .member("type", "string")
                .end_object();
        }
    }
    static void write_value(JsonWriter<StringOut>& json, const V& value) {
        if constexpr (std::same_as<V, std::vector<std::string>>) {
            json.begin_array();
            for (const std::string& item : value) {
                json.value(item);
            }
            json.end_array();
        } else if constexpr (std::same_as<V, StringMap>) {
            json.begin_object();
            for (const auto& [name, text] : value) {
                json.member(name, text);
            }
            json.end_object();
        } else {
            json.value(value);
        }
    }
    [[nodiscard]] std::string read_value(V& out, const Json& value) const {
        if constexpr (std::same_as<V, std::string>) {
            if (!value.is(Json::Kind::string)) {
                return "must be a string";
            }
            out = value.string();
            if (std::string wrong = check_word(out); !wrong.empty()) {
                return wrong;
            }
            return check_range(static_cast<std::int64_t>(out.size()), "length ");
        } else if constexpr (std::same_as<V, bool>) {
            if (!value.is(Json::Kind::boolean)) {
                return "must be true or false";
            }
            out = value.boolean();
            return {};
        } else if constexpr (std::same_as<V, std::int64_t>) {
            if (!value.is(Json::Kind::integer)) {
                return "must be an integer";
            }
            out = value.integer();
            return check_range(out, "");
        } else if constexpr (std::same_as<V, double>) {
            if (!value.is(Json::Kind::integer) && !value.is(Json::Kind::number)) {
                return "must be a number";
            }
            out = value.number();
            return check_range(out, "");
        } else if constexpr (std::same_as<V, StringMap>) {
            if (!value.is(Json::Kind::object)) {
                return "must be an object of strings";
            }
            out.clear();
            for (const Json::Member& member : value.members()) {
                if (!member.second.is(Json::Kind::string)) {
                    return "must be an object of strings";
                }
                out.emplace(member.first, member.second.string());
            }
            return {};
        } else {
            if (!value.is(Json::Kind::array)) {
                return "must be a list of strings";
            }
            out.clear();
            for (const Json& item : value.items()) {
                if (!item.is(Json::Kind::string)) {
                    return "must be a list of strings";
                }
                out.push_back(item.string());
            }
            return {};
        }
    }
    [[nodiscard]] std::string check_word(const std::string& text) const {
        std::string list;
        for (const char* word : words_) {
            if (text == word) {
                return {};
            }
            list += (list.empty() ? "" : ", ") + std::string(word);
        }
        return list.empty() ? list : "must be one of " + list;
    }
    template <class N>
    [[nodiscard]] std::string check_range(N number, const char* what) const {
        if (!least_ || (number >= static_cast<N>(*least_) && number <= static_cast<N>(*most_))) {
            return {};
        }
        return what + std::string("must be from ") + std::to_string(*least_) + " to " +
               std::to_string(*most_);
    }

    const char* name_;
    V T::*member_;
    std::optional<V> fallback_;
    bool secret_;
    const char* about_ = nullptr;
    std::optional<std::int64_t> least_, most_;
    std::vector<const char*> words_;
};

/// A key that the manifest must give.
template <class T, class V>
[[nodiscard]] auto required(const char* name, V T::*member) {
    return Field<T, V>(name, member, std::nullopt, false);
}
/// A key with a default.
template <class T, class V>
[[nodiscard]] auto optional(const char* name, V T::*member, std::type_identity_t<V> fallback) {
    return Field<T, V>(name, member, std::move(fallback), false);
}
/// A required text that is to be given as `{"secretRef": name}`; never log it.
template <class T>
[[nodiscard]] auto secret(const char* name, std::string T::*member) {
    return Field<T, std::string>(name, member, std::nullopt, true);
}
/// As `secret`, but it may be left out and is empty then; with a `range` from 1 on, what is given
/// is not.
template <class T>
[[nodiscard]] auto optional_secret(const char* name, std::string T::*member) {
    return Field<T, std::string>(name, member, std::string(), true);
}

namespace detail {

template <class T>
concept HasConfig = requires {
    T::config();
};

template <class T>
[[nodiscard]] auto config_fields() {
    if constexpr (HasConfig<T>) {
        return T::config();
    } else {
        return std::tuple<>();
    }
}

}  // namespace detail

/// JSON Schema (draft 7) of the configuration of `T`, whose static `config()` returns a std::tuple
/// of fields.
template <class T>
[[nodiscard]] std::string config_schema() {
    std::string text;
    StringOut out(text);
    JsonWriter json(out);
    const auto fields = detail::config_fields<T>();
    json.begin_object();
    json.member("$schema", "http://json-schema.org/draft-07/schema#");
    json.member("type", "object").member("additionalProperties", false);
    json.key("properties").begin_object();
    std::apply([&](const auto&... field) { (field.write_schema(json), ...); }, fields);
    json.end_object();
    json.key("required").begin_array();
    const auto name_required = [&](const auto& field) {
        if (field.is_required()) {
            json.value(field.name());
        }
    };
    std::apply([&](const auto&... field) { (name_required(field), ...); }, fields);
    json.end_array().end_object();
    return text;
}

/// Sets the members of `object` from `text`, a JSON object. Unknown keys, wrong types and missing
/// keys are errors, all of them reported at once, each with its pointer.
template <class T>
Status read_config(T& object, std::string_view text) {
    Json document;
    Json::Failure failure;
    if (!Json::parse(text.empty() ? "{}" : text, document, failure)) {
        return {ANNAL_INVALID, "the configuration is not JSON: " + failure.text()};
    }
    if (!document.is(Json::Kind::object)) {
        return {ANNAL_INVALID, "the configuration must be an object"};
    }
    std::string wrong;
    const auto note = [&](const std::string& problem) {
        wrong += problem.empty() || wrong.empty() ? problem : "; " + problem;
    };
    const auto fields = detail::config_fields<T>();
    std::apply(
        [&](const auto&... field) { (note(field.read(object, document.find(field.name()))), ...); },
        fields
    );
    for (const Json::Member& member : document.members()) {
        const std::string& key = member.first;
        const bool known = std::apply(
            [&](const auto&... field) { return ((key == field.name()) || ...); }, fields
        );
        note(known ? "" : "/" + key + ": unknown key");
    }
    return wrong.empty() ? Status() : Status(ANNAL_UNPROCESSABLE, "configuration: " + wrong);
}

}  // namespace annal::inline sdk_v1
