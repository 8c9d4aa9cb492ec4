#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace annal::bench {

/// One line of JSON on standard output: what was measured, beside its reference and its budget.
class Line {
public:
    explicit Line(const std::string& scenario) { add("scenario", scenario); }
    /// Prints.
    ~Line();
    Line(const Line&) = delete;
    Line& operator=(const Line&) = delete;

    Line& add(const std::string& name, const std::string& value);
    /// Three significant digits and more: figures, not measurements of the clock.
    Line& add(const std::string& name, double value);
    /// What the project promises, and whether this run kept it.
    Line& budget(const std::string& text, bool met);

private:
    std::string text_;
};

}  // namespace annal::bench
