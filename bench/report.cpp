#include "bench/report.h"

#include <cstdio>

namespace annal::bench {

Line::~Line() {
    std::printf("{%s}\n", text_.c_str());
    std::fflush(stdout);
}

Line& Line::add(const std::string& name, const std::string& value) {
    if (!text_.empty()) text_ += ", ";
    text_ += '"' + name + "\": \"" + value + '"';
    return *this;
}

Line& Line::add(const std::string& name, double value) {
    char number[32];
    const char* format = std::fabs(value) >= 100 ? "%.0f" : std::fabs(value) >= 1 ? "%.2f" : "%.3f";
    std::snprintf(number, sizeof number, format, value);
    text_ += ", \"" + name + "\": " + number;
    return *this;
}

Line& Line::budget(const std::string& text, bool met) {
    add("budget", text);
    text_ += std::string(", \"met\": ") + (met ? "true" : "false");
    return *this;
}

}  // namespace annal::bench
