#pragma once
// CreateUsb's parameters, checked as far as that can be done without knowing what is there. Pure.

#include <optional>
#include <string>
#include <variant>

#include <nlohmann/json.hpp>

#include "daemon/node/spec.hpp"
#include "daemon/node_request.hpp"

namespace storctl {

struct UsbNodeRequest {
    std::string name;
    std::string target;  ///< as io.storctl.Arbiter's Target on usb
    std::string holder;
    std::string open;
    node::usbfs::Policy policy;
    std::string reason;
    bool dry_run = false;
};

std::variant<UsbNodeRequest, NodeRefusal> usb_node_request(const nlohmann::json& parameters);

/// The lowest that none of these nodes has.
unsigned free_minor(const std::vector<NodeRecord>& existing);

}  // namespace storctl
