#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace annal::abi_test {

/// One field, or one enumerator or text constant: what a released header promised about it.
struct Field {
    std::string name;
    std::size_t offset = 0, size = 0;
    std::string type;
    friend bool operator==(const Field&, const Field&) = default;
};

/// How a struct may grow. `sized` begins with struct_size; `strided` only ever comes in arrays with
/// a stride; `fixed` has neither, so that it can't grow at all.
enum class Growth { sized, strided, fixed };

struct Struct {
    Growth growth = Growth::fixed;
    std::size_t size = 0, align = 0;
    std::vector<Field> fields;
    friend bool operator==(const Struct&, const Struct&) = default;
};

/// Everything of `annal/abi.h` that a compiled plugin relies on.
struct Layout {
    std::map<std::string, Struct> structs;
    std::map<std::string, std::string>
        constants;  ///< enumerators and the ids of services and component types
    friend bool operator==(const Layout&, const Layout&) = default;
};

/// Of the header that this program was compiled with.
[[nodiscard]] Layout current_layout();

/// One line a struct, field or constant; `parse_layout` reads it back.
[[nodiscard]] std::string to_text(const Layout& layout);
[[nodiscard]] Layout parse_layout(std::string_view text);

/// Why a plugin built against `released` could not run on a host built against `current`; empty
/// when it can.
[[nodiscard]] std::vector<std::string> breaks(const Layout& released, const Layout& current);

/// What the text of the header declares, found without a compiler, so that nothing can be left out
/// of `current_layout`.
struct Declared {
    std::vector<std::string> structs, constants;  ///< sorted
};
[[nodiscard]] Declared declared_in(std::string_view header);

}  // namespace annal::abi_test
