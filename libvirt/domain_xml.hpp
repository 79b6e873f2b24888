#pragma once
// What a libvirt domain takes of this host, read from its XML as hooks get it. Pure; any thread.
//
//   <hostdev mode='subsystem' type='usb'>   by address, by port, by vendor and product
//   <hostdev mode='subsystem' type='pci'>, <interface type='hostdev'>, <disk type='nvme'>
//   <qemu:commandline>, <qemu:override>     see libvirt/qemu_arguments.hpp
//
// Left alone, as they are no USB devices and no PCI functions of their own: mediated devices, SCSI units, vhost.
// The text is foreign: no entity but XML's own five is resolved, nothing outside of the text is ever read.

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "libvirt/host_device.hpp"

namespace storctl::libvirt {

inline constexpr size_t max_domain_bytes = 4 << 20;
inline constexpr int max_domain_depth = 256;
inline constexpr size_t max_host_devices = 1024;

struct Domain {
    std::string name;
    std::string uuid;  ///< empty: none given
    HostDevices host;
};

/// Where libvirt has filled in an address, that is what counts: at "prepare" a device is named as the administrator
/// did, from "start" on as it was found. bad_message with the offset where it is not well formed, invalid_argument
/// where it is no domain, file_too_large past the limits above.
Result<Domain> parse_domain(std::string_view xml);

}  // namespace storctl::libvirt
