#include "daemon/node_spec.hpp"

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl {

using nlohmann::json;

Result<node::Spec> spec_of(const NodeRecord& record, const NodePaths& paths, const SpecMoment& moment) {
    const auto policy = from_text<node::OpenPolicy>(record.open);
    if (!policy) {
        return make_error(std::errc{}, fmt::format("node '{}': the state database has the unknown open policy '{}'",
                                                   record.name, record.open));
    }
    node::Spec out{.name = record.name,
                   .kind = record.kind(),
                   .usb = {},
                   .sg = {},
                   .identity = {},
                   .host = {},
                   .reservations = {},
                   .backing_path = record.backing_path,
                   .backing_kind = record.backing_kind,
                   .control_socket = paths.socket(record.name),
                   .open = *policy,
                   .poll_limit_us = moment.poll_limit_us,
                   .wait_for_backing = !moment.first_start};
    // a device that is not here now must not be taken by its former name, which may be another's by now
    if ((record.device_id || record.usb) && !moment.located) out.backing_path.clear();
    switch (out.kind) {
        case node::NodeKind::block:
            out.mount_path = paths.mount(record.name);
            out.loop_link = record.loop ? paths.loop_link(record.name) : "";
            out.expected_size_bytes = moment.first_start ? 0 : record.size_bytes;
            out.expected_logical_block_bytes = record.logical_block_bytes;
            if (const auto& sg = record.scsi.sg) {
                out.sg = {.device_name = "storctl/sg/" + record.name,
                          .major = node::sg_node_major,
                          .minor = sg->minor,
                          .required = sg->asked};
            }
            out.identity = record.scsi.identity;
            out.host = moment.host;
            out.reservations = moment.reservations;
            break;
        case node::NodeKind::usb:
            out.usb = {.device_name = "storctl/usb/" + record.name,
                       .major = node::usb_node_major,
                       .minor = record.usb->minor,
                       .policy = record.usb->policy,
                       .descriptors = record.usb->descriptors};
            break;
    }
    return out;
}

json usb_json(const NodeRecord& record, const std::optional<std::string>& devnode) {
    if (!record.usb) return nullptr;
    const UsbNodeRecord& usb = *record.usb;
    json deny = json::array();
    for (const auto what : usb.policy.deny) deny.push_back(to_text(what));
    const auto clean = [](const std::string& text) { return valid_utf8(text) ? text : escape_unprintable(text); };
    return {{"socket", usbarb::to_text(usb.socket)},
            {"description", clean(usb.description)},
            {"holder", clean(usb.holder)},
            {"claim", usb.claim},
            {"own_claim", usb.own_claim},
            {"devnode", devnode ? json(*devnode) : json(nullptr)},
            {"major", node::usb_node_major},
            {"minor", usb.minor},
            {"interfaces", usb.policy.interfaces ? json(*usb.policy.interfaces) : json(nullptr)},
            {"deny", std::move(deny)}};
}

}  // namespace storctl
