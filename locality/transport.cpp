#include "locality/transport.hpp"

#include <array>
#include <cctype>
#include <string_view>

namespace storctl::locality {
namespace {

struct NameRow {
    std::string_view prefix;
    Transport transport;
};

// the kernel's own names decide where the driver is one with the transport
constexpr std::array<NameRow, 13> by_name{{
    {"mmcblk", Transport::mmc},
    {"nbd", Transport::nbd},
    {"rbd", Transport::rbd},
    {"pmem", Transport::pmem},
    {"loop", Transport::loop},
    {"zram", Transport::memory},
    {"ram", Transport::memory},
    {"vd", Transport::virtio},
    {"xvd", Transport::xen},
    {"dm-", Transport::stacked},
    {"md", Transport::stacked},
    {"bcache", Transport::stacked},
    {"zd", Transport::stacked},
}};

/// "ata1" for "ata": the word and then only digits.
bool numbered(std::string_view name, std::string_view word) {
    if (!name.starts_with(word) || name.size() == word.size()) return false;
    for (const char c : name.substr(word.size())) {
        if (!std::isdigit(static_cast<unsigned char>(c))) return false;
    }
    return true;
}

/// SCSI disks: the nearest parent that belongs to a transport class tells it.
Transport scsi_transport(const BlockFacts& facts) {
    for (const auto& parent : facts.parents) {
        if (parent.subsystem == "usb") return Transport::usb;
        if (parent.subsystem == "firewire" || parent.subsystem == "ieee1394") return Transport::firewire;
        if (parent.subsystem == "virtio") return Transport::virtio;
        if (parent.subsystem == "vmbus" || parent.name.starts_with("vmbus_")) return Transport::hyperv;
        if (parent.subsystem == "xen") return Transport::xen;
        if (numbered(parent.name, "session")) return Transport::iscsi;
        if (parent.name.starts_with("end_device-")) return Transport::sas;
        if (numbered(parent.name, "ata")) return Transport::sata;
        if (parent.name.starts_with("rport-")) {
            const bool ethernet = facts.host_symbolic_name.find(" over ") != std::string::npos;
            return ethernet ? Transport::fcoe : Transport::fc;
        }
    }
    if (facts.host_driver == "ib_srp") return Transport::srp;
    return Transport::scsi;
}

Transport nvme_transport(const BlockFacts& facts) {
    Transport found = Transport::unknown;
    for (const auto& controller : facts.controllers) {
        const Transport one = controller_transport(controller);
        // one way over a network makes the namespace another host's as well
        if (found == Transport::unknown || locality_of(one).locality == Locality::no) found = one;
    }
    return found;
}

}  // namespace

Transport controller_transport(const ControllerFacts& controller) {
    if (controller.transport == "pcie" || controller.transport == "apple-nvme") return Transport::nvme;
    if (controller.transport == "tcp") return Transport::nvme_tcp;
    if (controller.transport == "rdma") return Transport::nvme_rdma;
    if (controller.transport == "fc") return Transport::nvme_fc;
    if (controller.transport == "loop") return Transport::nvme_loop;
    return Transport::unknown;
}

Transport transport_of(const BlockFacts& facts) {
    if (facts.name.starts_with("nvme")) return nvme_transport(facts);
    for (const auto& row : by_name) {
        if (facts.name.starts_with(row.prefix)) return row.transport;
    }
    for (const auto& parent : facts.parents) {
        if (parent.subsystem == "scsi") return scsi_transport(facts);
    }
    return Transport::unknown;
}

Verdict locality_of(Transport transport) {
    switch (transport) {
        case Transport::sata:
            return {Locality::yes, "a SATA disk on this host's own controller"};
        case Transport::usb:
            return {Locality::yes, "a USB device plugged into this host"};
        case Transport::firewire:
            return {Locality::yes, "a FireWire device plugged into this host"};
        case Transport::mmc:
            return {Locality::yes, "a memory card or eMMC of this host"};
        case Transport::nvme:
            return {Locality::yes, "an NVMe disk on this host's PCI Express bus"};
        case Transport::nvme_tcp:
            return {Locality::no, "an NVMe namespace reached over TCP"};
        case Transport::nvme_rdma:
            return {Locality::no, "an NVMe namespace reached over RDMA"};
        case Transport::nvme_fc:
            return {Locality::no, "an NVMe namespace reached over Fibre Channel"};
        case Transport::nvme_loop:
            return {Locality::yes, "an NVMe namespace that this host serves to itself"};
        case Transport::sas:
            return {Locality::unknown, "SAS: inside this host, or in an enclosure that others reach too"};
        case Transport::iscsi:
            return {Locality::no, "a LUN reached over iSCSI"};
        case Transport::fc:
            return {Locality::no, "a LUN reached over Fibre Channel"};
        case Transport::fcoe:
            return {Locality::no, "a LUN reached over Fibre Channel over Ethernet"};
        case Transport::srp:
            return {Locality::no, "a LUN reached over SRP (RDMA)"};
        case Transport::scsi:
            return {Locality::unknown, "a SCSI disk whose host adapter does not say where the disk is kept"};
        case Transport::virtio:
            return {Locality::unknown, "virtio: only the hypervisor knows where the disk is kept"};
        case Transport::xen:
            return {Locality::unknown, "Xen: only the hypervisor knows where the disk is kept"};
        case Transport::hyperv:
            return {Locality::unknown, "Hyper-V: only the hypervisor knows where the disk is kept"};
        case Transport::nbd:
            return {Locality::no, "a network block device"};
        case Transport::rbd:
            return {Locality::no, "a Ceph block device"};
        case Transport::pmem:
            return {Locality::yes, "persistent memory of this host"};
        case Transport::memory:
            return {Locality::yes, "this host's memory"};
        case Transport::loop:
            return {Locality::yes, "a loop device of this host"};
        case Transport::stacked:
            return {Locality::unknown, "made of parts that are not known"};
        case Transport::unknown:
            return {Locality::unknown, "how it is attached is not known"};
    }
    return {};
}

Verdict combine(const Verdict& one, const Verdict& other) {
    const auto weight = [](Locality locality) {
        return locality == Locality::no ? 2 : locality == Locality::unknown ? 1 : 0;
    };
    return weight(other.locality) > weight(one.locality) ? other : one;
}

}  // namespace storctl::locality
