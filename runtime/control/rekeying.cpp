#include "runtime/control/rekeying.h"

#include "runtime/core/task_impl.h"
#include "runtime/core/turn.h"

namespace annal::control {
namespace {

std::string counted(std::int64_t secrets) {
    return std::to_string(secrets) + (secrets == 1 ? " secret" : " secrets");
}

}  // namespace

Task<Result<Rekeying::Page>> Rekeying::page(Position from, Mode mode) {
    if (mode == Mode::count) co_return co_await walk(std::move(from), mode);
    const Turn turn(at_work_);
    if (!turn.mine())
        co_return Error{Errc::busy, "secrets are being sealed anew already", {}, 1'000};
    co_return co_await walk(std::move(from), mode);
}

Task<Result<Rekeying::Page>> Rekeying::walk(Position from, Mode mode) {
    Page page;
    if (from.space >= kSealedSpaces.size()) co_return page;
    const SealedSpace& space = kSealedSpaces[from.space];
    const bool first = from.project.empty() && from.key.empty();
    const std::string after = first ? std::string() : from.project + '\0' + from.key;
    BOOST_OUTCOME_CO_TRY(
        auto rows, co_await environment_.store.kv_scan(space.space, "", "", after, kRowsPerPage)
    );
    std::set<std::string> changed;
    Result<void> taken = ok();
    const bool last = rows.size() < kRowsPerPage;
    if (!last) from = {from.space, rows.back().project, rows.back().key};
    for (KvRow& row : rows) {
        taken = co_await take(space, std::move(row), mode, page, changed);
        if (!taken) break;
    }
    // Also after a failure: what was written is written.
    std::vector<std::string> projects(changed.begin(), changed.end());
    if (!projects.empty()) {
        BOOST_OUTCOME_CO_TRYV(co_await environment_.board.read_anew(std::move(projects)));
    }
    if (!taken) co_return taken.error();
    if (!last) {
        page.next = std::move(from);
    } else if (from.space + 1 < kSealedSpaces.size()) {
        page.next = Position{from.space + 1, {}, {}};
    }
    co_return page;
}

/// Until the row is sealed under the first key, or gone, or can't be opened.
Task<Result<void>> Rekeying::take(
    const SealedSpace& space, KvRow row, Mode mode, Page& page, std::set<std::string>& changed
) {
    for (;;) {
        auto sealed = reseal(space, row, environment_.box);
        if (!sealed) {
            page.unopened.push_back({space.space, row.project, row.key, sealed.error().detail});
            co_return ok();
        }
        const auto secrets = static_cast<std::int64_t>(sealed.value().secrets);
        std::string& anew = sealed.value().resealed;
        if (anew.empty()) {
            page.current += secrets;
            co_return ok();
        }
        if (mode == Mode::count) {
            page.stale += secrets;
            co_return ok();
        }
        AppendUnit unit;
        unit.project = row.project;
        unit.kv.push_back(
            {KvOp::Kind::require_equals, space.space, row.project, row.key, std::move(row.value)}
        );
        unit.kv.push_back({KvOp::Kind::put, space.space, row.project, row.key, std::move(anew)});
        environment_.board.put_up(unit, row.project);
        const auto done = co_await environment_.appender.append(std::move(unit));
        if (done) {
            page.resealed += secrets;
            changed.insert(row.project);
            co_return ok();
        }
        if (done.error().code != Errc::conflict) co_return done.error();
        BOOST_OUTCOME_CO_TRY(
            auto now, co_await environment_.store.kv_get(space.space, row.project, row.key)
        );
        if (!now) co_return ok();
        row.value = std::move(*now);
    }
}

Task<Result<void>> Rekeying::finish() {
    std::int64_t stale = 0;
    std::size_t unopened = 0;
    for (std::optional<Position> at = Position{}; at;) {
        Position from = std::move(*at);
        BOOST_OUTCOME_CO_TRY(Page found, co_await walk(std::move(from), Mode::count));
        stale += found.stale;
        unopened += found.unopened.size();
        at = std::move(found.next);
    }
    if (unopened > 0)
        co_return Error{
            Errc::conflict, "there are secrets that can't be opened: keep every key of the ring"};
    if (stale > 0)
        co_return Error{
            Errc::conflict,
            counted(stale) +
                " came to be sealed under another key meanwhile: see that every node was started "
                "with this ring, and run it again"};
    co_return co_await environment_.common.move_on();
}

}  // namespace annal::control
