#pragma once

#include <annal/sdk/component.hpp>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace annal::inline sdk_v1 {

/// Options of one document, in the order given; a format must refuse those that it does not know.
class Options {
public:
    explicit Options(std::span<const annal_pair> pairs) : pairs_(pairs) {}
    [[nodiscard]] auto begin() const { return pairs_.begin(); }
    [[nodiscard]] auto end() const { return pairs_.end(); }
    [[nodiscard]] bool empty() const { return pairs_.empty(); }

private:
    std::span<const annal_pair> pairs_;
};

/// Writes events as a document. An author's class has:
///
///     static constexpr auto kName = "csv";
///     static constexpr auto kContentType = "text/csv; charset=utf-8";
///     static constexpr auto kFileExtension = "csv";
///     static auto config();  annal::Status open();                              optional
///     struct Document {
///         annal::Status encode(const annal::Batch&, annal::Writer&);
///         annal::Status end(annal::Writer&);
///     };
///     annal::Status begin(const annal::Options&, std::unique_ptr<Document>&, annal::Writer&);
///
/// Threads: different documents at once, one document never.
class Format : public Component {};

namespace detail {

template <class T>
struct FormatThunks {
    static_assert(
        requires { typename T::Document; }, "annal: a format needs a nested type Document"
    );
    using Document = typename T::Document;
    static_assert(
        requires(T & t, const Options& o, std::unique_ptr<Document>& d, Writer& w) {
            { t.begin(o, d, w) } -> std::same_as<Status>;
        },
        "annal: a format needs `annal::Status begin(const annal::Options&, "
        "std::unique_ptr<Document>&, annal::Writer&)`"
    );
    static_assert(
        requires(Document & d, const Batch& b, Writer& w) {
            { d.encode(b, w) } -> std::same_as<Status>;
        },
        "annal: Document needs `annal::Status encode(const annal::Batch&, annal::Writer&)`"
    );
    static_assert(
        requires(Document & d, Writer& w) {
            { d.end(w) } -> std::same_as<Status>;
        },
        "annal: Document needs `annal::Status end(annal::Writer&)`"
    );

    static annal_status begin(
        void* self,
        const annal_pair* options,
        std::uint32_t n_options,
        void** document,
        const annal_writer* out,
        annal_error* error
    ) noexcept {
        *document = nullptr;
        return guarded(error, [&]() -> Status {
            std::unique_ptr<Document> made;
            Status status = written(*out, [&](Writer& writer) {
                return static_cast<T*>(self)->begin(Options({options, n_options}), made, writer);
            });
            if (status.ok() && made == nullptr) {
                return {ANNAL_INTERNAL, "the format began without making a document"};
            }
            if (status.ok()) {
                *document = made.release();
            }
            return status;
        });
    }
    static annal_status encode(
        void* document, const annal_batch* batch, const annal_writer* out, annal_error* error
    ) noexcept {
        return guarded(error, [&] {
            return written(*out, [&](Writer& writer) {
                return static_cast<Document*>(document)->encode(Batch(batch), writer);
            });
        });
    }
    static annal_status end(void* document, const annal_writer* out, annal_error* error) noexcept {
        return guarded(error, [&] {
            return written(*out, [&](Writer& writer) {
                return static_cast<Document*>(document)->end(writer);
            });
        });
    }
    static void release(void* document) noexcept { delete static_cast<Document*>(document); }

    static constexpr annal_format_v1 make() {
        annal_format_v1 table{};
        table.struct_size = sizeof(table);
        table.content_type = to_str(T::kContentType);
        table.file_extension = to_str(T::kFileExtension);
        table.create = create<T>;
        table.destroy = destroy<T>;
        table.begin = begin;
        table.encode = encode;
        table.end = end;
        table.release = release;
        return table;
    }

private:
    template <class F>
    static Status written(const annal_writer& out, F&& write) {
        Writer writer(out);
        Status status = write(writer);
        return status.ok() ? writer.status() : status;
    }
};

template <class T>
requires std::derived_from<T, Format>
struct ComponentTraits<T> {
    static constexpr const char* kType = ANNAL_COMPONENT_FORMAT;
    static constexpr annal_format_v1 kTable = FormatThunks<T>::make();
};

}  // namespace detail
}  // namespace annal::inline sdk_v1
