// Writes fields as CSV and reads them back with a reader of RFC 4180 that shares nothing with the
// writer: every field comes back as it was, null and the empty text stay apart, and with csv_safe
// no cell begins like a formula.
//
// Input: a byte whose lowest bit is csv_safe, then the fields, 0x1F between them; a field that is
// 0x1E alone is null. Fields go on into further events.

#include <annal/abi.h>

#include <algorithm>
#include <annal/sdk/status.hpp>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzzing.h"
#include "tests/support/mini_host.h"

namespace {

using annal::fuzz::require;
using annal::test::StoredEvent;
using Field = std::optional<std::string>;
using Record = std::vector<Field>;

constexpr std::array<const char*, 9> kTexts{
    "action",
    "actor_type",
    "actor_id",
    "user_id",
    "target_type",
    "target_id",
    "ip",
    "user_agent",
    "description"};
/// Where they stand among the columns of a record.
constexpr std::array<std::size_t, 9> kPlaces{2, 3, 4, 5, 7, 8, 9, 10, 11};

std::vector<Field> fields_of(std::string_view text) {
    std::vector<Field> out;
    for (;;) {
        const std::size_t end = text.find('\x1F');
        const std::string_view field = text.substr(0, end);
        out.push_back(field == "\x1E" ? Field() : Field(field));
        if (end == std::string_view::npos) {
            return out;
        }
        text.remove_prefix(end + 1);
    }
}

std::string written(const std::vector<StoredEvent>& events, bool safe) {
    static annal::test::MiniHost host;
    static const annal::test::Instance format(host, *annal_module_v1()->components[0]);
    const auto& table = format.table<annal_format_v1>();
    const annal_pair option{annal::to_str("csv_safe"), annal::to_str(safe ? "true" : "false")};
    annal::test::TextWriter text;
    const annal_writer writer = text.writer();
    annal_error error{};
    error.struct_size = sizeof(error);
    void* document = nullptr;
    require(table.begin(format.self(), &option, 1, &document, &writer, &error) == ANNAL_OK);
    const annal::test::RawBatch batch(events);
    require(table.encode(document, batch.get(), &writer, &error) == ANNAL_OK);
    require(table.end(document, &writer, &error) == ANNAL_OK);
    table.release(document);
    return std::move(text.text);
}

/// Reads RFC 4180 strictly: CR LF ends records, quotes stand around whole fields only.
class CsvReader {
public:
    explicit CsvReader(std::string_view text) : text_(text) {}
    [[nodiscard]] bool at_end() const { return at_ == text_.size(); }

    Record record() {
        Record out;
        for (;;) {
            out.push_back(field());
            require(at_ < text_.size());
            if (text_[at_] == ',') {
                ++at_;
                continue;
            }
            require(text_.substr(at_, 2) == "\r\n");
            at_ += 2;
            return out;
        }
    }

private:
    Field field() {
        if (at_ < text_.size() && text_[at_] == '"') {
            return quoted();
        }
        const std::size_t end = std::min(text_.find_first_of(",\r\n\"", at_), text_.size());
        const std::string_view bare = text_.substr(at_, end - at_);
        at_ = end;
        return bare.empty() ? Field() : Field(bare);
    }
    Field quoted() {
        std::string out;
        ++at_;
        for (;;) {
            const std::size_t quote = text_.find('"', at_);
            require(quote != std::string_view::npos);
            out += text_.substr(at_, quote - at_);
            at_ = quote + 1;
            if (at_ == text_.size() || text_[at_] != '"') {
                return out;
            }
            out += '"';
            ++at_;
        }
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

bool begins_formula(std::string_view text) {
    return !text.empty() &&
           std::string_view("=+-@\t\r\n").find(text.front()) != std::string_view::npos;
}

void check_field(const Field& read, const Field& meant, bool safe) {
    if (safe && meant && begins_formula(*meant)) {
        require(read == "'" + *meant);
    } else {
        require(read == meant);
    }
    require(!safe || !read || !begins_formula(*read));
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    const bool safe = (annal::fuzz::take_byte(text) & 1U) != 0;
    std::vector<Field> fields = fields_of(text);
    fields.resize((fields.size() + kTexts.size() - 1) / kTexts.size() * kTexts.size());
    std::vector<StoredEvent> events(fields.size() / kTexts.size());
    for (std::size_t i = 0; i < fields.size(); ++i) {
        if (fields[i]) {
            events[i / kTexts.size()].set(kTexts[i % kTexts.size()], *fields[i]);
        }
    }
    const std::string document = written(events, safe);
    CsvReader reader(document);
    require(reader.record().size() == 12);
    for (std::size_t e = 0; e < events.size(); ++e) {
        const Record record = reader.record();
        require(record.size() == 12);
        for (std::size_t i = 0; i < kTexts.size(); ++i) {
            check_field(record[kPlaces[i]], fields[e * kTexts.size() + i], safe);
        }
    }
    require(reader.at_end());
    return 0;
}
