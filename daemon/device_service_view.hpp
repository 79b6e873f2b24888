#pragma once
// A device as io.storctl.Device shows it: the inventory's device with what depends on this moment (boot mark, use,
// sharing), and its form in JSON. Pure.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "daemon/device_service.hpp"
#include "daemon/state_db.hpp"
#include "locality/inventory.hpp"
#include "locality/sharing.hpp"
#include "locality/usage.hpp"

namespace storctl {

struct DeviceView {
    locality::Device device;
    std::optional<bool> boot;
    locality::Sharing sharing;
    std::vector<std::string> in_use;
    bool operator==(const DeviceView&) const = default;
};

/// What the views are made of besides the block devices.
struct ViewInputs {
    const std::string& host;
    const std::vector<std::string>& extra_placeholders;
    const std::map<std::string, SharingOverride>& overrides;  ///< by the identifier they were given for
    const std::map<std::string, std::string>& nodes;          ///< device id to the node on it
    const locality::UsageTexts& texts;
};

std::vector<DeviceView> build_views(const locality::KnownBlocks& blocks, const ViewInputs& inputs);

/// The administrator's decision that applies: the one for the best of its usable identifiers, so that it stays in force
/// when a device learns to give a better one.
const SharingOverride* override_for(const locality::Device& device,
                                    const std::map<std::string, SharingOverride>& overrides);

/// The sharing rule for one device, as the decisions stand.
locality::Sharing sharing_of(const DeviceView& view, const std::string& host,
                             const std::map<std::string, SharingOverride>& overrides);
locality::SharingCase sharing_case(const DeviceView& view, const std::string& host);
nlohmann::json to_json(const DeviceView& view);
DeviceSummary summary_of(const DeviceView& view);

/// Which devices a name given by a user means, as indices into `views`: by id, usable identifier (with or without its
/// type, "0x…", "naa.…", "eui.…" and "uuid." also), kernel name, device node, link; partitions and paths lead to their
/// device. An identifier that is in conflict gives all that have it.
std::vector<size_t> resolve_device(const std::string& name, const std::vector<DeviceView>& views,
                                   const locality::KnownBlocks& blocks);
/// The same for a block device's number (a device node under any other name).
std::vector<size_t> resolve_device(locality::DeviceNumber number, const std::vector<DeviceView>& views,
                                   const locality::KnownBlocks& blocks);

}  // namespace storctl
