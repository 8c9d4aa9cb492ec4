#include "runtime/cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

namespace annal::cli {

namespace {

using std::chrono::milliseconds;

constexpr auto kEvery = milliseconds(100);
constexpr std::size_t kBarWidth = 24, kBarWidthMin = 8, kUsualWidth = 80;

std::string grouped(std::uint64_t number) {
    std::string text = std::to_string(number);
    for (std::size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, " ");
    return text;
}

std::string size_text(std::uint64_t bytes) {
    static constexpr std::array<const char*, 5> kUnits = {"B", "kB", "MB", "GB", "TB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    for (; value >= 1000 && unit + 1 < kUnits.size(); ++unit) value /= 1000;
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
    return text.data();
}

std::string time_text(milliseconds elapsed) {
    const auto seconds = static_cast<std::uint64_t>(elapsed.count()) / 1000;
    std::array<char, 48> text{};
    const auto hours = static_cast<unsigned long>(seconds / 3600);
    const auto minutes = static_cast<unsigned long>(seconds / 60 % 60);
    const auto rest = static_cast<unsigned long>(seconds % 60);
    if (hours > 0)
        std::snprintf(text.data(), text.size(), "%lu:%02lu:%02lu", hours, minutes, rest);
    else
        std::snprintf(text.data(), text.size(), "%lu:%02lu", minutes, rest);
    return text.data();
}

std::string bar(double share, std::size_t width) {
    const auto full = static_cast<std::size_t>(share * static_cast<double>(width));
    std::string text = "[" + std::string(full, '=');
    if (full < width) text += ">" + std::string(width - full - 1, ' ');
    return text + "]";
}

std::size_t terminal_width() {
    winsize size{};
    const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : kUsualWidth;
}

void put(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stderr);
    std::fflush(stderr);
}

}  // namespace

void RowCounter::add(std::string_view bytes) {
    if (!quotes_) {
        rows_ += static_cast<std::uint64_t>(std::count(bytes.begin(), bytes.end(), '\n'));
        return;
    }
    for (const char c : bytes) {
        quoted_ = quoted_ != (c == '"');
        if (c == '\n' && !quoted_) ++rows_;
    }
}

std::string progress_line(const ProgressState& state, std::size_t width) {
    const double share =
        state.total == 0
            ? 0
            : std::min(1.0, static_cast<double>(state.rows) / static_cast<double>(state.total));
    std::vector<std::string> parts;
    if (state.total > 0) {
        std::array<char, 16> percent{};
        std::snprintf(percent.data(), percent.size(), "%3d %%", static_cast<int>(share * 100));
        parts.emplace_back(percent.data());
        parts.push_back(grouped(state.rows) + " of " + grouped(state.total) + " rows");
    } else {
        parts.push_back(grouped(state.rows) + " rows");
    }
    parts.push_back(size_text(state.bytes));
    const std::uint64_t own = state.rows - std::min(state.rows, state.rows_before);
    const auto ms = static_cast<std::uint64_t>(std::max<std::int64_t>(state.elapsed.count(), 1));
    parts.push_back(grouped(own * 1000 / ms) + " rows/s");
    parts.push_back(time_text(state.elapsed));
    std::string line;
    for (const std::string& part : parts) {
        const std::size_t gap = line.empty() ? 0 : 2;
        if (line.size() + gap + part.size() > width) break;
        line += std::string(gap, ' ') + part;
    }
    const std::size_t room = width > line.size() + 4 ? width - line.size() - 4 : 0;
    if (state.total > 0 && room >= kBarWidthMin)
        line.insert(0, bar(share, std::min(room, kBarWidth)) + "  ");
    return line;
}

Progress::Progress(bool wanted) : shown_(wanted && ::isatty(STDERR_FILENO) != 0) {}

void Progress::show(ProgressState state, bool at_once) {
    const auto now = Clock::now();
    if (!shown_ || (!at_once && there_ && now - last_ < kEvery)) return;
    last_ = now;
    there_ = true;
    state.elapsed = std::chrono::duration_cast<milliseconds>(now - begun_);
    // One column is left free: a full line would make some terminals go to the next.
    put("\r\x1b[K" + progress_line(state, terminal_width() - 1));
}

void Progress::clear() {
    if (there_) put("\r\x1b[K");
    there_ = false;
}

void Progress::finish(ProgressState state) {
    if (!shown_) return;
    state.total = state.rows;
    show(state, true);
    put("\n");
    there_ = false;
}

}  // namespace annal::cli
