#include "runtime/delivery/followed_epoch.h"

#include <boost/json.hpp>

#include "runtime/core/json_row.h"

namespace annal {
namespace json = boost::json;

std::string FollowedEpoch::to_text() const {
    json::object row;
    row["epoch"] = epoch;
    row["restarts"] = restarts;
    if (accepted) row["accepted"] = true;
    return json::serialize(row);
}

std::optional<FollowedEpoch> FollowedEpoch::from_text(std::string_view text) {
    const auto row = parse_row(text);
    if (!row) return std::nullopt;
    FollowedEpoch followed;
    followed.epoch = text_in(*row, "epoch");
    followed.restarts = integer_in(*row, "restarts", 0);
    followed.accepted = row->contains("accepted");
    if (followed.epoch.empty()) return std::nullopt;
    return followed;
}

void FollowedEpoch::put_into(AppendUnit& unit, const std::string& subscription) const {
    unit.kv.push_back({KvOp::Kind::put, kSpace, unit.project, subscription, to_text()});
}

std::string FollowedEpoch::name_of(const std::string& stream) const {
    return restarts == 0 ? stream : stream + "_r" + std::to_string(restarts);
}

}  // namespace annal
