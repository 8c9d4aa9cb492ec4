#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/contract/store_contract.h"

namespace annal::test {

/// Draws valid events, and filters that select some of them, from one seed. Not thread-safe.
class RandomEvents {
public:
    explicit RandomEvents(std::uint32_t seed) : random_(seed) {}

    [[nodiscard]] std::size_t below(std::size_t n) { return random_() % n; }
    [[nodiscard]] bool one_in(std::size_t n) { return below(n) == 0; }
    [[nodiscard]] std::uint32_t seed() { return static_cast<std::uint32_t>(random_()); }

    /// Up to so many characters: letters of either case, signs that mean something to SQL and to
    /// search engines, and characters of two to four bytes.
    [[nodiscard]] std::string text(std::size_t characters_max);
    /// Adds an event with any of the columns, of few values, of many, empty or null.
    void add_event(Unit& unit, TimeUs now, Text key = {});
    /// Parts that hold for some event of the log, together or alone, or that hold for none.
    [[nodiscard]] Filter filter(const Truth& log);

private:
    void set_column(EventDraft& draft, Column column, std::vector<std::string>& kept);
    [[nodiscard]] std::string action();
    [[nodiscard]] std::string metadata();
    [[nodiscard]] TimeUs occurred_at(TimeUs now);
    [[nodiscard]] const Event* any_event(const Truth& log);
    /// A piece of one text, of two that stand side by side, or of none.
    [[nodiscard]] std::string needle(const Truth& log);
    void add_part(Filter& filter, const Event& event);

    std::mt19937 random_;
};

}  // namespace annal::test
