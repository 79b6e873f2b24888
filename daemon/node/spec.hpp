#pragma once
// What a stor-node process is told to be: RUN_DIR/node/NAME.json, written by stord, read once at the node's start.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/enum_text.hpp"
#include "base/result.hpp"
#include "daemon/node/scsi/identity.hpp"
#include "daemon/node/scsi/reservation_state.hpp"
#include "daemon/node/usbfs/policy.hpp"

namespace storctl::node {

/// Who may open: any number of readers always; writers as the policy says. One holder is one process (thread group).
enum class OpenPolicy { single_writer, shared, read_only };

/// block: a disk, as FUSE file and loop device. usb: a USB device, as a character device that speaks usbfs.
enum class NodeKind { block, usb };

/// Of kind usb.
struct UsbSpec {
    std::string device_name;  ///< the character device's, below /dev: "storctl/usb/token"
    unsigned major = 0, minor = 0;
    usbfs::Policy policy;
    std::vector<uint8_t> descriptors;  ///< of the device that it is, as usbfs gives them; empty: not known yet
};

/// The major number of USB device nodes (Documentation/admin-guide/devices.txt): rules for device access that name it
/// let the mediated nodes in too. The kernel's own take the minors below 64 buses of 128 devices.
inline constexpr unsigned usb_node_major = 189;
inline constexpr unsigned usb_node_first_minor = 64 * 128;

/// A block node's SCSI generic device.
struct SgSpec {
    std::string device_name;  ///< below /dev: "storctl/sg/web1"
    unsigned major = 0, minor = 0;
    bool required = false;  ///< asked for by name: the node does not start without it; else it serves what it can
};

/// sg_dd and sgp_dd know an sg device by its major number; the sg driver takes the minors below 32768.
inline constexpr unsigned sg_node_major = 21;
inline constexpr unsigned sg_node_first_minor = 40000;

struct Spec {
    std::string name;
    NodeKind kind = NodeKind::block;
    UsbSpec usb;
    std::optional<SgSpec> sg;
    scsi::Identity identity;              ///< of a block node, as far as it is known: what INQUIRY says
    std::string host;                     ///< of a block node: the first half of every initiator's name
    scsi::ReservationState reservations;  ///< of a block node, as last stored
    std::string backing_path;    ///< device node or regular file, absolute; empty: absent until Reopen says where
    std::string backing_kind;    ///< last known: block, loop, file, usb
    std::string control_socket;  ///< where the process serves io.storctl.NodeProcess
    std::string mount_path;      ///< the FUSE file, created and mounted over; of a block node
    std::string loop_link;       ///< symbolic link to the loop device; empty: no loop device
    OpenPolicy open = OpenPolicy::single_writer;
    uint64_t expected_size_bytes =
        0;  ///< last known size: served (with EIO) while the backing is absent; 0: must be present
    uint32_t expected_logical_block_bytes = 512;
    uint64_t poll_limit_us = 100;   ///< busy-poll for waits up to this long while I/O flows; 0: never
    bool wait_for_backing = false;  ///< start in state backing-lost when the backing cannot be opened

    /// Errors name the file and the key.
    static Result<Spec> load(const std::string& path);
    static Result<Spec> parse(const std::string& json_text, const std::string& where);
    std::string to_json() const;
};

/// stor-node's exit status when somebody else holds the backing: another attempt soon is of no use.
inline constexpr int exit_refused = 8;

/// A node's name is a file name, a unit instance and part of a path: 1 to 64 of [A-Za-z0-9._-], not starting with . or
/// -.
Result<void> check_node_name(const std::string& name);

}  // namespace storctl::node

namespace storctl {

template <>
struct EnumNames<node::OpenPolicy> {
    static constexpr auto table = std::to_array<EnumName<node::OpenPolicy>>({
        {node::OpenPolicy::single_writer, "single-writer"},
        {node::OpenPolicy::shared, "shared"},
        {node::OpenPolicy::read_only, "read-only"},
    });
};
static_assert(round_trips<node::OpenPolicy>());

template <>
struct EnumNames<node::NodeKind> {
    static constexpr auto table = std::to_array<EnumName<node::NodeKind>>({
        {node::NodeKind::block, "block"},
        {node::NodeKind::usb, "usb"},
    });
};
static_assert(round_trips<node::NodeKind>());

}  // namespace storctl
