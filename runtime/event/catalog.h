#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/event/event_json.h"

namespace annal {

/// A metadata key that a known action has, and the type of its value.
struct CatalogField {
    enum class Type { string, integer, boolean, object, timestamp, string_list };
    std::string name;
    Type type = Type::string;
    bool shown = false;  ///< a published sample holds it: strict projects are held to its type
};

/// What is known of one action. Times, severities and categories are advice, not rules.
struct CatalogEntry {
    std::string action;
    std::string category;     ///< "webhooks"
    std::string description;  ///< one sentence
    std::string severity;     ///< info, notice, warning or critical
    std::vector<CatalogField> fields;
};

/// The known actions. Advisory: every action that fits the grammar is accepted, unless a project
/// asks for `catalog: strict`. Immutable and thread-safe.
class Catalog {
public:
    /// The catalog that is built in (catalog/catalog.yaml), read at the first call.
    static const Catalog& shipped();
    /// @error Errc::invalid  Not YAML, or an entry is malformed; the detail names the line.
    [[nodiscard]] static Result<Catalog> parse(const std::string& yaml);

    [[nodiscard]] bool known(std::string_view action) const { return find(action) != nullptr; }
    /// Null when the action is not known. Owned by the catalog.
    [[nodiscard]] const CatalogEntry* find(std::string_view action) const;
    [[nodiscard]] std::size_t size() const { return entries_.size(); }

    /// What a strict project refuses in a draft that is valid otherwise: an action that is not
    /// known (unknown_action), and a metadata value whose type is not that of the published sample
    /// (wrong_type). Keys that no sample shows are allowed; null counts as absent.
    [[nodiscard]] std::vector<Issue> strict_check(const EventDraft& draft) const;

private:
    std::map<std::string, CatalogEntry, std::less<>> entries_;
};

}  // namespace annal
