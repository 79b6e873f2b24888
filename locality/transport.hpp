#pragma once
// How a device is attached, and what that alone says of its locality: whether other hosts may have it too.

#include <array>
#include <string>

#include "base/enum_text.hpp"
#include "locality/block_facts.hpp"

namespace storctl::locality {

enum class Transport {
    sata,
    usb,
    firewire,
    mmc,
    nvme,
    nvme_tcp,
    nvme_rdma,
    nvme_fc,
    nvme_loop,
    sas,
    iscsi,
    fc,
    fcoe,
    srp,
    scsi,
    virtio,
    xen,
    hyperv,
    nbd,
    rbd,
    pmem,
    memory,
    loop,
    stacked,
    unknown,
};

enum class Locality { yes, no, unknown };

struct Verdict {
    Locality locality = Locality::unknown;
    std::string reason;
    bool operator==(const Verdict&) const = default;
};

Transport transport_of(const BlockFacts& facts);
/// Of one NVMe controller, by its `transport` file.
Transport controller_transport(const ControllerFacts& controller);
Verdict locality_of(Transport transport);
/// Of what is made of several: one remote part makes it remote, one unknown part unknown.
Verdict combine(const Verdict& one, const Verdict& other);

}  // namespace storctl::locality

namespace storctl {

template <>
struct EnumNames<locality::Transport> {
    using E = locality::Transport;
    static constexpr std::array<EnumName<E>, 25> table{{
        {E::sata, "sata"},
        {E::usb, "usb"},
        {E::firewire, "firewire"},
        {E::mmc, "mmc"},
        {E::nvme, "nvme"},
        {E::nvme_tcp, "nvme-tcp"},
        {E::nvme_rdma, "nvme-rdma"},
        {E::nvme_fc, "nvme-fc"},
        {E::nvme_loop, "nvme-loop"},
        {E::sas, "sas"},
        {E::iscsi, "iscsi"},
        {E::fc, "fc"},
        {E::fcoe, "fcoe"},
        {E::srp, "srp"},
        {E::scsi, "scsi"},
        {E::virtio, "virtio"},
        {E::xen, "xen"},
        {E::hyperv, "hyperv"},
        {E::nbd, "nbd"},
        {E::rbd, "rbd"},
        {E::pmem, "pmem"},
        {E::memory, "memory"},
        {E::loop, "loop"},
        {E::stacked, "stacked"},
        {E::unknown, "unknown"},
    }};
};
static_assert(round_trips<locality::Transport>());

template <>
struct EnumNames<locality::Locality> {
    using E = locality::Locality;
    static constexpr std::array<EnumName<E>, 3> table{{{E::yes, "yes"}, {E::no, "no"}, {E::unknown, "unknown"}}};
};
static_assert(round_trips<locality::Locality>());

}  // namespace storctl
