#pragma once
// The checks before a node is created: what was asked for becomes a record, or the interface's error. Reads the file
// system and the inventory, changes nothing. Loop thread only.

#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/enum_text.hpp"
#include "daemon/device_service.hpp"
#include "daemon/state_db.hpp"

namespace storctl {

struct NodeRequest {
    std::string name;
    std::string device;               ///< as the user named it
    std::optional<std::string> open;  ///< none: single-writer, or read-only where the device is
    bool loop = false;
    std::optional<bool> sg;  ///< none: as SgMeans says
};

/// Whether a new node over a disk gets a SCSI generic device when its creation does not say. automatic: where
/// /dev/cuse is.
enum class SgDefault { automatic, yes, no };

struct SgMeans {
    SgDefault by_default = SgDefault::automatic;
    bool cuse = false;  ///< /dev/cuse is there
};

/// An error of io.storctl.Node with its parameters.
struct NodeRefusal {
    std::string error;
    nlohmann::json parameters;
};

struct CheckedNode {
    NodeRecord record;  ///< without `created` and `created_by`
    std::vector<std::string> warnings;
};

/// Who has claimed what a block device ("sda") lies on; nothing: nobody.
using ClaimedBelow = std::function<std::optional<std::string>(const std::string& block)>;

/// `existing`: the nodes that there are.
std::variant<CheckedNode, NodeRefusal> check_node_request(const NodeRequest& request, const DeviceService& devices,
                                                          const std::vector<NodeRecord>& existing,
                                                          const ClaimedBelow& claimed = {}, const SgMeans& sg = {});

/// The kernel's name of what a node has as its backing ("sda", "dm-3"); empty where it is no block device.
std::string block_name(const NodeRecord& record);

NodeRefusal refused(std::string message, std::vector<std::string> blockers);

}  // namespace storctl

namespace storctl {

template <>
struct EnumNames<SgDefault> {
    static constexpr auto table = std::to_array<EnumName<SgDefault>>({
        {SgDefault::automatic, "auto"},
        {SgDefault::yes, "yes"},
        {SgDefault::no, "no"},
    });
};
static_assert(round_trips<SgDefault>());

}  // namespace storctl
