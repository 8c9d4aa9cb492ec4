#pragma once

#include <boost/json/object.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/bus/noticeboard.h"
#include "runtime/delivery/audit_stream.h"
#include "runtime/delivery/dead_letter.h"
#include "runtime/delivery/destinations.h"
#include "runtime/delivery/stream.h"
#include "runtime/event/host_event.h"
#include "runtime/plugin/formats.h"

namespace annal {

/// All streams of a node: those that manifests declare, and those that were made over REST, which
/// are rows that every node of a store reads and works on as the leases say.
///
/// Each change is one commit of the row, the events that record it, and what the engine needs; a
/// node that hears of it stops the stream that ran before and starts what the row says now. Between
/// nodes that takes Noticeboard::kFresh.
///
/// Threads: any. Lifetime: `stop` has returned before what it was given ends.
/// Limits: kStreamsMax a node.
class Streams final : public StreamKeeper {
public:
    struct Environment {
        HostEnvironment& host;
        boost::asio::thread_pool& sink_pool;
        const Destinations& destinations;
        const Formats& formats;
        const SecretBox& secrets;
        Noticeboard& board;
    };
    static constexpr std::size_t kStreamsMax = 1'000;

    explicit Streams(Environment environment);
    ~Streams() override;

    /// Reads all rows, before anything runs.
    [[nodiscard]] Task<Result<void>> load();
    [[nodiscard]] Task<Result<void>> reload(std::string project);
    /// A stream of a manifest.
    /// @error Errc::unprocessable  There is no such format, or the sink takes none.
    [[nodiscard]] Result<void> add(const EventsTrigger& trigger, std::shared_ptr<Instance> sink);
    /// Sets everything to work; until then rows are known and nothing is delivered.
    void start();
    /// Ends all of them, each after the delivery in flight.
    [[nodiscard]] Task<void> stop();
    /// Lets go of the sinks of manifests; after `stop`, or instead of `start`.
    void clear() { declared_.clear(); }

    enum class Start { latest, earliest, at_seq, at_time };
    /// What POST /v1/audit/streams asks for.
    struct Request {
        std::string name, destination;
        boost::json::object config;
        std::vector<ActionPattern> patterns;
        Start start = Start::latest;
        Seq start_seq = 0;            ///< at_seq: the first to be delivered
        TimeUs start_time = kNoTime;  ///< at_time: of the first that may be delivered
        StreamDefinition::OnPoison on_poison = StreamDefinition::OnPoison::dead_letter;
        std::uint32_t batch_events_max = 500;
        std::uint64_t batch_bytes_max = 1U << 20;
        std::string format;
        double requests_per_second = 0;
        bool probe = false;
    };
    /// @error Errc::unprocessable  The destination is unknown, or does not take the configuration;
    /// or its probe failed, when asked for. @error Errc::busy  kStreamsMax.
    /// and what `Appender::append` says.
    [[nodiscard]] Task<Result<AuditStream>> create(
        std::string project, Request request, Actor actor
    );

    /// What PATCH changes; absent stays. In `config` null takes a key away.
    struct Change {
        std::optional<std::string> name;
        std::optional<boost::json::object> config;
        std::optional<std::vector<ActionPattern>> patterns;
        std::optional<StreamDefinition::OnPoison> on_poison;
        std::optional<std::uint32_t> batch_events_max;
        std::optional<std::uint64_t> batch_bytes_max;
        std::optional<std::string> format;  ///< empty: the sink's own
        std::optional<double> requests_per_second;
    };
    /// A failed stream goes on. @error Errc::not_found, Errc::conflict (revoked, or changed by
    /// somebody else at the same time), and as `create`.
    [[nodiscard]] Task<Result<AuditStream>> change(
        std::string project, std::string id, Change change, Actor actor
    );
    /// No attempt begins afterwards on this node; on others after Noticeboard::kFresh, for which
    /// this waits. Idempotent. @error Errc::not_found, Errc::conflict (revoked).
    [[nodiscard]] Task<Result<AuditStream>> pause(std::string project, std::string id, Actor actor);
    [[nodiscard]] Task<Result<AuditStream>> resume(
        std::string project, std::string id, Actor actor
    );
    /// For good; its secrets and what it has planned are erased, and so are its dead letters.
    /// Otherwise as `pause`.
    [[nodiscard]] Task<Result<void>> revoke(std::string project, std::string id, Actor actor);
    /// Asks the destination whether it would take a delivery; if it would, a failed stream goes on.
    /// A destination that can't be asked counts as one that would. @error of the probe.
    [[nodiscard]] Task<Result<AuditStream>> probe(std::string project, std::string id, Actor actor);
    /// Sends [from, to] again beside the stream, in order, with the stream's configuration of now.
    /// @return the replay's id.
    /// @error Errc::unprocessable  Not a range of events that are there.
    /// @error Errc::conflict       The destination keeps its own position, so takes no event again.
    [[nodiscard]] Task<Result<std::string>> replay(
        std::string project, std::string id, Seq from, Seq to, Actor actor
    );

    /// Oldest first, `limit` of those behind `after`.
    [[nodiscard]] Task<Result<std::vector<DeadLetter>>> dead_letters(
        std::string project, std::string id, Seq after, std::uint32_t limit
    );
    /// Asks for `seqs` again, or for all when empty. @return how many will be sent.
    [[nodiscard]] Task<Result<std::size_t>> redrive(
        std::string project, std::string id, std::vector<Seq> seqs, Actor actor
    );

    /// Streams of the project that are not revoked, oldest first, with what other nodes have
    /// committed.
    [[nodiscard]] Task<Result<std::vector<AuditStream>>> list(std::string project);
    /// Revoked ones too. @error Errc::not_found
    [[nodiscard]] Task<Result<AuditStream>> get(std::string project, std::string id);
    /// What this node knows of a stream at work; nothing where it does not work on it.
    [[nodiscard]] std::optional<StreamStatus> status(
        const std::string& project, const std::string& id
    ) const;
    /// How far each stream of the project has come that may still want events: all but the revoked
    /// ones, whether they work or not. By stream: the first event that it has not delivered.
    [[nodiscard]] Task<Result<std::map<std::string, Seq>>> positions(std::string project);
    /// The longest that an attempt of the project's streams takes; 0: it has none.
    [[nodiscard]] std::chrono::milliseconds longest_attempt(const std::string& project) const;
    /// Of every stream on this node.
    [[nodiscard]] std::vector<StreamStatus> statuses() const;

    [[nodiscard]] Task<Result<void>> stream_failed(
        StreamDefinition stream, std::int64_t fence, std::string why
    ) override;
    [[nodiscard]] Task<Result<void>> replay_done(StreamDefinition stream, std::int64_t fence)
        override;
    [[nodiscard]] bool is_out_of_date() const override { return environment_.board.is_stale(); }

private:
    using Id = std::pair<std::string, std::string>;  // project, id
    struct Slot;
    struct Known {
        AuditStream stream;
        std::string row;  ///< as it is stored
    };
    void take_row(AuditStream stream, std::string row);
    std::shared_ptr<Slot> place(AuditStream stream, std::string row);
    void settle(const std::shared_ptr<Slot>& slot);
    void settle_replays(const Id& parent);
    [[nodiscard]] bool is_wanted(const Slot& slot) const;
    Task<void> keep_settled(std::shared_ptr<Slot> slot);
    Task<void> end_running(std::shared_ptr<Slot> slot, std::shared_ptr<Stream> stream);
    Task<void> begin_running(std::shared_ptr<Slot> slot, AuditStream wanted);
    [[nodiscard]] Result<Outlet> make_outlet(const AuditStream& stream) const;
    [[nodiscard]] Result<Outlet> with_format(
        std::shared_ptr<Instance> sink, const std::string& format
    ) const;
    [[nodiscard]] Task<Result<void>> check_sink(AuditStream stream, bool probe);
    [[nodiscard]] Task<Result<Known>> find(std::string project, std::string id);
    [[nodiscard]] Task<Result<AuditStream>> commit(
        AuditStream stream, std::string before, AppendUnit unit
    );
    [[nodiscard]] Task<Result<AuditStream>> set_status(
        Known known, AuditStream::Status status, std::string reason, Actor actor
    );
    [[nodiscard]] Task<Result<void>> accept_epoch(AppendUnit& unit, const AuditStream& stream);
    [[nodiscard]] Task<Result<Seq>> cursor_before(std::string project, Request request);
    [[nodiscard]] Task<Result<void>> drop_dead_letters(std::string project, std::string id);

    Environment environment_;
    mutable std::mutex mutex_;
    bool started_ = false, stopping_ = false;
    std::uint64_t edits_ = 0;  // of this node
    std::map<Id, std::shared_ptr<Slot>> slots_;
    std::vector<std::unique_ptr<Stream>> declared_;  // by manifests
};

}  // namespace annal
