#include "daemon/node_request.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "daemon/node/spec.hpp"
#include "daemon/node_identity.hpp"

namespace storctl {
namespace {

using nlohmann::json;

constexpr uint64_t sector_bytes = 512;
constexpr unsigned loop_major = 7;

using Checked = std::variant<CheckedNode, NodeRefusal>;

NodeRefusal invalid(const char* parameter, const std::string& value, const std::string& message) {
    return {"InvalidValue", {{"parameter", parameter}, {"value", value}, {"message", message}}};
}

std::optional<struct stat> status_of(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return std::nullopt;
    return status;
}

/// One identity for a block device under any name, and for a file under any hard link.
std::optional<std::pair<dev_t, ino_t>> backing_identity(const std::string& path) {
    const auto status = status_of(path);
    if (!status) return std::nullopt;
    if (S_ISBLK(status->st_mode)) return std::pair{status->st_rdev, ino_t{0}};
    return std::pair{status->st_dev, status->st_ino};
}

std::optional<NodeRefusal> taken_by_another(const NodeRecord& wanted, const std::vector<NodeRecord>& existing) {
    const auto identity = backing_identity(wanted.backing_path);
    for (const auto& other : existing) {
        const bool same_device = wanted.device_id && wanted.device_id == other.device_id;
        const bool same_backing = identity && identity == backing_identity(other.backing_path);
        if (!same_device && !same_backing) continue;
        return refused(fmt::format("'{}' is already behind a node", wanted.backing_path),
                       {fmt::format("node '{}'", other.name)});
    }
    return std::nullopt;
}

/// A partition, or a path of a multipath device, leads to its device when it is looked up; as a node's backing it would
/// be more than was asked for.
std::optional<NodeRefusal> only_a_part(const std::string& asked, const DeviceSummary& device) {
    const std::string path = asked.starts_with('/') ? asked : "/dev/" + asked;
    const auto named = status_of(path);
    const auto whole = status_of(device.devnode);
    if (!named || !whole || !S_ISBLK(named->st_mode) || named->st_rdev == whole->st_rdev) return std::nullopt;
    return invalid(
        "device", asked,
        fmt::format("it is a partition of, or a path to, '{}' ({}): a node takes the whole device, give that",
                    device.devnode, device.id));
}

/// A disk on a USB device or a PCI function that a virtual machine has is not the host's to serve.
std::optional<NodeRefusal> claimed_by_a_machine(const NodeRecord& wanted, const DeviceService& devices,
                                                const ClaimedBelow& claimed) {
    const auto device = wanted.device_id ? devices.find(*wanted.device_id).device : std::nullopt;
    const std::string block = device ? device->name : block_name(wanted);
    const auto claim = block.empty() || !claimed ? std::nullopt : claimed(block);
    if (!claim) return std::nullopt;
    return refused(
        fmt::format("'{}' lies on something that is claimed; release that first (storctl usb release, storctl "
                    "pci release)",
                    wanted.backing_path),
        {*claim});
}

Checked check_device(const NodeRequest& request, const DeviceSummary& device) {
    if (auto part = only_a_part(request.device, device)) return *part;
    if (device.conflict) {
        return refused(
            fmt::format(
                "device '{}' has an identifier that another device here has too: which one is meant cannot be told",
                device.id),
            {});
    }
    if (!device.ready)
        return refused(fmt::format("device '{}' is not ready: udev has not finished with it", device.id), {});
    CheckedNode out;
    out.record = {.device_id = device.id,
                  .backing_path = device.devnode,
                  .backing_kind = "block",
                  .open = request.open.value_or(device.read_only ? "read-only" : "single-writer"),
                  .size_bytes = device.size_bytes,
                  .logical_block_bytes = device.logical_block_bytes};
    const bool writes = out.record.open != "read-only";
    if (device.read_only && writes) {
        return invalid("open", out.record.open, fmt::format("device '{}' is read-only", device.id));
    }
    if (device.shared && writes) {
        out.warnings.push_back(fmt::format(
            "device '{}' is shared with other hosts and there is no cluster that would keep them from writing "
            "to it: make sure that only this host does",
            device.id));
    }
    return out;
}

Checked check_path(const NodeRequest& request) {
    const std::string& path = request.device;
    const auto status = status_of(path);
    if (!status && errno == ENOENT) return NodeRefusal{"DeviceNotFound", {{"id", path}}};
    if (!status) return invalid("device", path, errno_error("cannot look at it").message());
    CheckedNode out;
    out.record = {.backing_path = path, .backing_kind = "file", .open = request.open.value_or("single-writer")};
    if (S_ISBLK(status->st_mode)) {
        out.record.backing_kind = major(status->st_rdev) == loop_major ? "loop" : "block";
        return out;
    }
    if (!S_ISREG(status->st_mode)) return invalid("device", path, "it is neither a block device nor a regular file");
    out.record.size_bytes = static_cast<uint64_t>(status->st_size);
    if (out.record.size_bytes == 0 || out.record.size_bytes % sector_bytes != 0) {
        return invalid(
            "device", path,
            fmt::format("its size, {} bytes, is not a positive multiple of {}: a disk consists of whole sectors "
                        "(truncate -s gives the file another size)",
                        out.record.size_bytes, sector_bytes));
    }
    return out;
}

bool wants_sg(const std::optional<bool>& asked, const SgMeans& means) {
    if (asked) return *asked;
    switch (means.by_default) {
        case SgDefault::automatic:
            return means.cuse;
        case SgDefault::yes:
            return true;
        case SgDefault::no:
            return false;
    }
    __builtin_unreachable();
}

Checked check_backing(const NodeRequest& request, const DeviceService& devices) {
    const DeviceMatch match = devices.find(request.device);
    switch (match.outcome) {
        case DeviceMatch::Outcome::found:
            return check_device(request, *match.device);
        case DeviceMatch::Outcome::ambiguous:
            return NodeRefusal{"DeviceAmbiguous", {{"id", request.device}, {"candidates", match.candidates}}};
        case DeviceMatch::Outcome::not_found:
            break;
    }
    if (!request.device.starts_with('/')) return NodeRefusal{"DeviceNotFound", {{"id", request.device}}};
    return check_path(request);
}

}  // namespace

NodeRefusal refused(std::string message, std::vector<std::string> blockers) {
    return {"Refused", {{"message", std::move(message)}, {"blockers", std::move(blockers)}}};
}

std::string block_name(const NodeRecord& record) {
    const auto path = real_path(record.backing_path);
    const auto status = path ? status_of(*path) : std::nullopt;
    if (!status || !S_ISBLK(status->st_mode)) return "";
    const std::string link = fmt::format("/sys/dev/block/{}:{}", major(status->st_rdev), minor(status->st_rdev));
    return base_name(read_link(link));
}

Checked check_node_request(const NodeRequest& request, const DeviceService& devices,
                           const std::vector<NodeRecord>& existing, const ClaimedBelow& claimed, const SgMeans& sg) {
    if (auto good = node::check_node_name(request.name); !good) {
        return invalid("name", request.name, good.error().context);
    }
    const bool exists = std::any_of(existing.begin(), existing.end(),
                                    [&](const NodeRecord& other) { return other.name == request.name; });
    if (exists) return NodeRefusal{"AlreadyExists", {{"name", request.name}}};
    if (request.open && !from_text<node::OpenPolicy>(*request.open)) {
        return invalid("open", *request.open, fmt::format("it is not {}", all_names<node::OpenPolicy>()));
    }
    if (request.sg == true && !sg.cuse) {
        return invalid(
            "sg", "true",
            "there is no /dev/cuse, through which a SCSI generic device is served (modprobe cuse; the kernel "
            "needs CONFIG_CUSE): create the node without it, or load the module first");
    }
    Checked checked = check_backing(request, devices);
    auto* node = std::get_if<CheckedNode>(&checked);
    if (node == nullptr) return checked;
    node->record.name = request.name;
    node->record.loop = request.loop;
    if (wants_sg(request.sg, sg)) {
        node->record.scsi.sg = {.asked = request.sg.value_or(false), .minor = free_sg_minor(existing)};
    }
    if (auto taken = taken_by_another(node->record, existing)) return *taken;
    if (auto held = claimed_by_a_machine(node->record, devices, claimed)) return *held;
    return checked;
}

}  // namespace storctl
