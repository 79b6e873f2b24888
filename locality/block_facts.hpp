#pragma once
// What sysfs and udev say of one kernel block device, as plain values: the only thing the decisions in this room look
// at. Whoever fills it (locality/sysfs_block.hpp, daemon/discovery.hpp, a test) does no I/O to the device itself.

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace storctl::locality {

struct DeviceNumber {
    uint32_t major = 0;
    uint32_t minor = 0;
    auto operator<=>(const DeviceNumber&) const = default;
};

/// One device above in sysfs' tree, as "0000:00:1f.2" of subsystem "pci" with driver "ahci".
struct ParentFacts {
    std::string name;
    std::string subsystem;
    std::string driver;
    bool operator==(const ParentFacts&) const = default;
};

/// An NVMe controller through which the namespace is reached; several with the kernel's own multipath.
struct ControllerFacts {
    std::string name;
    std::string transport;  ///< "pcie", "tcp", "rdma", "fc", "loop"
    std::string address;
    std::string state;
    bool operator==(const ControllerFacts&) const = default;
};

struct BlockFacts {
    std::string name;     ///< kernel name, "sda"
    std::string syspath;  ///< "/sys/devices/…/block/sda"
    std::string devnode;  ///< empty when the kernel gives none (a hidden path)
    DeviceNumber number;
    std::string partition_of;  ///< the whole disk's kernel name; empty: this is one

    uint64_t size_bytes = 0;
    uint32_t logical_block_bytes = 512;
    uint32_t physical_block_bytes = 512;
    bool read_only = false;
    bool removable = false;
    bool hidden = false;
    std::optional<bool> rotational;

    std::string vendor, model, revision;  ///< device/{vendor,model,rev}, as the device says, trimmed
    std::string serial;                   ///< device/serial (NVMe, MMC) or serial (virtio)
    std::string state;                    ///< device/state
    std::string wwid;                     ///< wwid (NVMe) or device/wwid (SCSI)
    std::string nguid, eui64, nsid;       ///< NVMe, as the files say
    std::vector<uint8_t> vpd_pg80, vpd_pg83;
    std::string usb_serial;          ///< of the USB device above
    std::string ata_port;            ///< ata_port/ataN/port_no: the socket on its controller
    std::string host_driver;         ///< scsi_host/hostN/proc_name
    std::string host_symbolic_name;  ///< fc_host/hostN/symbolic_name
    std::vector<ControllerFacts> controllers;

    std::string dm_uuid, dm_name;
    std::string md_uuid, md_level;

    std::vector<ParentFacts> parents;  ///< nearest first
    std::vector<std::string> slaves;   ///< kernel names of what this one is made of

    std::map<std::string, std::string> properties;  ///< udev's, those that this room asks for; empty without udev
    std::vector<std::string> links;                 ///< "/dev/disk/by-id/…"
    bool initialized = true;                        ///< udev has run its rules for it (always true without udev)

    bool operator==(const BlockFacts&) const = default;

    std::string property(const std::string& key) const {
        const auto found = properties.find(key);
        return found == properties.end() ? std::string() : found->second;
    }
};

}  // namespace storctl::locality
