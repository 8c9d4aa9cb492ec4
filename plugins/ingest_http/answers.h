#pragma once

#include <annal/sdk/http.hpp>

#include <cstdint>
#include <vector>

namespace ingest {

/// What became of a stream of lines so far.
struct StreamTotals {
    static constexpr std::size_t kIssuesMax = 1'000;

    std::uint64_t last_durable_line = 0;
    std::uint64_t chunks = 0, events = 0;
    std::uint64_t stored = 0, replayed = 0, rejected = 0;
    std::int64_t first_seq = -1, last_seq = -1;
    std::vector<annal_issue> issues;  ///< the first kIssuesMax, counted from the stream's start;
                                      ///< text in the call's arena

    /// Takes over the issues of a chunk that begins behind `events` events.
    void note_issues(const annal_parsed& chunk);
    void note_receipts(const std::vector<annal_receipt>& receipts);
};

/// Error documents of this dialect beyond the plain problem: what a broken stream has stored.
void append_stream_problem(
    annal::Buffer& out, const annal_problem& problem, const StreamTotals& totals
);

/// {"id","seq","created_at"}
void append_single(annal::Buffer& out, const annal::Host& host, const annal_receipt& receipt);

/// {"data":[…]}; with `partial` also each row's index and {"errors":[…]}.
void append_batch(
    annal::Buffer& out,
    const annal::Host& host,
    const std::vector<annal_receipt>& receipts,
    const annal_parsed& parsed,
    bool partial
);

/// {"last_durable_line",…}
void append_totals(annal::Buffer& out, const StreamTotals& totals, bool partial);

}  // namespace ingest
