#include "answers.h"

namespace ingest {
namespace {

using Json = annal::JsonWriter<annal::Buffer>;

void append_receipt(Json& json, const annal::Host& host, const annal_receipt& receipt) {
    json.member("id", receipt.id)
        .member("seq", receipt.seq)
        .member("created_at", host.format_time(receipt.created_at_us));
}

void append_issues(Json& json, annal::Rows<annal_issue> issues) {
    json.key("errors").begin_array();
    for (const annal_issue& issue : issues) {
        annal::append_issue(json, issue);
    }
    json.end_array();
}

void append_counts(Json& json, const StreamTotals& totals) {
    json.member("last_durable_line", totals.last_durable_line);
    json.member("stored", totals.stored).member("replayed", totals.replayed);
    if (totals.last_seq >= 0) {
        json.member("first_seq", totals.first_seq).member("last_seq", totals.last_seq);
    }
}

}  // namespace

void StreamTotals::note_issues(const annal_parsed& chunk) {
    for (annal_issue issue : annal::Rows(chunk.issues, chunk.n_issues, chunk.issue_stride)) {
        if (issue.index != UINT32_MAX) {
            issue.index += static_cast<std::uint32_t>(events);
        }
        if (issues.size() < kIssuesMax) {
            issues.push_back(issue);
        }
    }
}

void StreamTotals::note_receipts(const std::vector<annal_receipt>& receipts) {
    for (const annal_receipt& receipt : receipts) {
        (receipt.replayed != 0 ? replayed : stored) += 1;
        first_seq = first_seq < 0 ? receipt.seq : first_seq;
        last_seq = receipt.seq;
    }
}

void append_stream_problem(
    annal::Buffer& out, const annal_problem& problem, const StreamTotals& totals
) {
    annal::append_problem_json(out, problem, [&](Json& json) { append_counts(json, totals); });
}

void append_single(annal::Buffer& out, const annal::Host& host, const annal_receipt& receipt) {
    Json json(out);
    json.begin_object();
    append_receipt(json, host, receipt);
    json.end_object();
}

void append_batch(
    annal::Buffer& out,
    const annal::Host& host,
    const std::vector<annal_receipt>& receipts,
    const annal_parsed& parsed,
    bool partial
) {
    Json json(out);
    json.begin_object().key("data").begin_array();
    for (std::size_t i = 0; i < receipts.size(); ++i) {
        json.begin_object();
        append_receipt(json, host, receipts[i]);
        if (partial) {
            json.member("index", parsed.indexes[i]);
        }
        if (receipts[i].replayed != 0) {
            json.member("replayed", true);
        }
        json.end_object();
    }
    json.end_array();
    if (partial) {
        append_issues(json, annal::Rows(parsed.issues, parsed.n_issues, parsed.issue_stride));
    }
    json.end_object();
}

void append_totals(annal::Buffer& out, const StreamTotals& totals, bool partial) {
    Json json(out);
    json.begin_object();
    append_counts(json, totals);
    if (partial) {
        json.member("rejected", totals.rejected);
        append_issues(json, annal::Rows(totals.issues.data(), totals.issues.size()));
    }
    json.end_object();
}

}  // namespace ingest
