#include <boost/json.hpp>
#include <chrono>
#include <iostream>
#include <thread>

#include "runtime/app/key_ring.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/node.h"

namespace annal::cli {

namespace json = boost::json;

namespace {

constexpr int kTries = 20;  // of a page, while the node is too busy
constexpr auto kPause = std::chrono::milliseconds(500);

std::string secrets(std::int64_t count) {
    return std::to_string(count) + (count == 1 ? " secret" : " secrets");
}

/// One after the other, as the node does it page by page.
class Rekey {
public:
    Rekey(const Node& node, const KeyRing& ring, bool dry_run)
        : node_(node),
          ids_(ring.ids()),
          first_key_(ring.fingerprints().front()),
          dry_run_(dry_run) {}

    Result<int> run() {
        BOOST_OUTCOME_TRYV(walk());
        const std::string& key = ids_.front();
        if (dry_run_) {
            std::cout << secrets(stale_) << " would be re-sealed under " << key << ", " << current_
                      << " current already, " << unopened_ << " can't be opened\n";
            return unopened_ == 0 ? kDone : kFailed;
        }
        std::cout << secrets(resealed_) << " re-sealed under " << key << ", " << current_
                  << " current already, " << unopened_ << " can't be opened\n";
        if (unopened_ > 0)
            return Error{
                Errc::conflict,
                "keep every key of the ring, and mend what is named above: put the missing key "
                "back into the ring, or give the object its secret anew, or revoke it"};
        json::object body;
        body["action"] = "finish";
        BOOST_OUTCOME_TRYV(ask(std::move(body)));
        std::cout << what_can_go() << "\n";
        return kDone;
    }

private:
    Result<void> walk() {
        json::value from;
        for (;;) {
            json::object body;
            body["action"] = dry_run_ ? "count" : "reseal";
            if (!from.is_null()) body["from"] = from;
            BOOST_OUTCOME_TRY(const json::value answer, ask(std::move(body)));
            const json::object& page = answer.as_object();
            resealed_ += page.at("resealed").as_int64();
            stale_ += page.at("stale").as_int64();
            current_ += page.at("current").as_int64();
            for (const json::value& row : page.at("unopened").as_array()) report(row.as_object());
            const json::value* next = page.if_contains("next");
            if (next == nullptr) return ok();
            from = *next;
        }
    }

    void report(const json::object& row) {
        ++unopened_;
        std::cerr << "annal: " << row.at("id").as_string().c_str() << " of project "
                  << row.at("project_id").as_string().c_str() << ": "
                  << row.at("reason").as_string().c_str() << "\n";
    }

    Result<json::value> ask(json::object body) const {
        body["first_key"] = first_key_;
        LocalClient::Call call;
        call.method = "POST";
        call.target = "/v1/secrets/rekey";
        call.content_type = "application/json";
        call.body = json::serialize(body);
        for (int tries = 1;; ++tries) {
            auto answer = node_.ask(call);
            if (answer || answer.error().code != Errc::busy || tries == kTries) return answer;
            std::this_thread::sleep_for(kPause);
        }
    }

    std::string what_can_go() const {
        std::string others;
        for (std::size_t i = 1; i < ids_.size(); ++i) others += (i == 1 ? "" : ", ") + ids_[i];
        if (others.empty()) return "the key ring holds no other key";
        return "no secret needs another key now: " + others + " can be removed from the key ring";
    }

    const Node& node_;
    std::vector<std::string> ids_;
    std::string first_key_;
    bool dry_run_;
    std::int64_t resealed_ = 0, stale_ = 0, current_ = 0, unopened_ = 0;
};

}  // namespace

int secrets_new_key(const Arguments& arguments) {
    if (!KeyRing::is_id(arguments.key_id))
        return fail(
            {Errc::invalid, "--id: a key's name is 1 to 32 letters, digits, '-' or '_'"}, kBadInput
        );
    std::cout << KeyRing::new_line(arguments.key_id);
    return kDone;
}

int secrets_rekey(const Arguments& arguments) {
    const auto settings = settings_of(arguments);
    if (!settings) return fail(settings.error(), kBadInput);
    const auto ring = KeyRing::open(settings.value().master_key_file, false);
    if (!ring) return fail(ring.error(), kBadInput);
    return with_node(arguments, [&](const Node& node) {
        return Rekey(node, ring.value(), arguments.dry_run).run();
    });
}

}  // namespace annal::cli
