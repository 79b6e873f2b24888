#include "daemon/node/describe.hpp"

#include <unistd.h>

#include "base/text.hpp"
#include "daemon/node/reservation_json.hpp"
#include "storctl_version.hpp"

namespace storctl::node {

using Json = nlohmann::json;

namespace {

Json reservations_or_null(const std::optional<scsi::ReservationState>& state) {
    return state ? reservations_json(*state) : Json(nullptr);
}

}  // namespace

Json to_json(const std::vector<Opener>& openers) {
    Json list = Json::array();
    for (const Opener& opener : openers) {
        list.push_back({{"pid", opener.pid},
                        {"program", escape_unprintable(opener.program)},
                        {"mode", opener.writes ? "write" : "read"},
                        {"since", format_time(opener.since)}});
    }
    return list;
}

Json to_json(const Description& description) {
    Json forms = Json::array();
    for (const Form& form : description.forms) forms.push_back({{"type", form.type}, {"path", form.path}});
    return {{"name", description.name},
            {"pid", ::getpid()},
            {"version", STORCTL_VERSION},
            {"state", description.state},
            {"message", description.message},
            {"backing_path", description.backing_path},
            {"backing_kind", description.backing_kind},
            {"size_bytes", description.size_bytes},
            {"logical_block_bytes", description.logical_block_bytes},
            {"direct", description.direct},
            {"forms", std::move(forms)},
            {"openers", to_json(description.openers)},
            {"reservations", reservations_or_null(description.reservations)},
            {"proposed", reservations_or_null(description.proposed)}};
}

Json to_json(const NodeStats& stats, const OperationStats& more_reads) {
    static const OperationStats none;
    Json operations = Json::array();
    for (const auto& row : EnumNames<BlockOp>::table) {
        const OperationStats& operation = stats.of(row.value);
        const OperationStats& more = row.value == BlockOp::read ? more_reads : none;
        const auto sum = [&](Counter OperationStats::*counter) {
            return (operation.*counter).get() + (more.*counter).get();
        };
        Json latency = Json::array();
        for (size_t i = 0; i < latency_buckets; ++i)
            latency.push_back(operation.latency[i].get() + more.latency[i].get());
        operations.push_back({{"operation", std::string(row.name)},
                              {"operations", sum(&OperationStats::operations)},
                              {"bytes", sum(&OperationStats::bytes)},
                              {"errors", sum(&OperationStats::errors)},
                              {"in_flight", sum(&OperationStats::in_flight)},
                              {"latency_total_ns", sum(&OperationStats::latency_total_ns)},
                              {"latency_ns", std::move(latency)}});
    }
    return {{"refused_opens", stats.refused_opens.get()}, {"operations", std::move(operations)}};
}

}  // namespace storctl::node
