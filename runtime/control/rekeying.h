#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/bus/appender.h"
#include "runtime/bus/noticeboard.h"
#include "runtime/control/common_ring.h"
#include "runtime/control/sealed_rows.h"

namespace annal::control {

/// Seals every secret of the store anew under the ring's first key, page by page, while nodes
/// serve. Each row is a commit of its own and is left alone when it is sealed so already: whoever
/// stops in between begins anew.
///
/// A row is written only if nobody has changed it since it was read, and read again otherwise.
/// Those who keep rows in memory are told; a sealed text alone is no change of what it belongs to.
///
/// Threads: any. Lifetime: outlives its callers.
class Rekeying {
public:
    struct Environment {
        EventStore& store;
        Appender& appender;
        Noticeboard& board;
        const SecretBox& box;
        CommonRing& common;
    };
    explicit Rekeying(Environment environment) : environment_(environment) {}

    /// Where a page begins.
    struct Position {
        std::size_t space = 0;     ///< of kSealedSpaces
        std::string project, key;  ///< of the row before it; both empty: there is none
    };
    /// A row whose secrets stay as they are.
    struct Unopened {
        std::string space, project, key, reason;
    };
    struct Page {
        std::int64_t resealed = 0;  ///< secrets
        std::int64_t stale = 0;     ///< that are under another key, and were only counted
        std::int64_t current = 0;   ///< that were under the first key
        std::vector<Unopened> unopened;
        std::optional<Position> next;  ///< none: that was all
    };
    enum class Mode { count, reseal };
    /// @error Errc::busy  Another page is being sealed here. Otherwise of the store and the
    /// appender; what was sealed until then stays.
    [[nodiscard]] Task<Result<Page>> page(Position from, Mode mode);

    /// Sees that everything is under the first key, whoever sealed it, and lets rings do without
    /// the others. @error Errc::conflict  Something is not; the detail says how much.
    [[nodiscard]] Task<Result<void>> finish();

    static constexpr std::uint32_t kRowsPerPage = 100;

private:
    [[nodiscard]] Task<Result<Page>> walk(Position from, Mode mode);
    [[nodiscard]] Task<Result<void>> take(
        const SealedSpace& space, KvRow row, Mode mode, Page& page, std::set<std::string>& changed
    );

    Environment environment_;
    std::atomic<bool> at_work_{false};
};

}  // namespace annal::control
