#pragma once
// Host devices that a domain takes past libvirt, by arguments of its own for QEMU (<qemu:commandline>). Pure.
//
//   -device usb-host,…    hostbus and hostaddr, hostbus and hostport, vendorid and productid, hostdevice
//   -device vfio-pci,…    host, sysfsdev
//   -usbdevice host:…     BUS.ADDRESS or VENDOR:PRODUCT (QEMU up to 5.2)
//   -drive, -blockdev     QEMU's own NVMe driver: driver=nvme,device=…, file=nvme://…
//
// What is left alone: nodes of ours (/dev/storctl/…), which are arbitrated when they are opened; mediated devices.

#include <string>
#include <string_view>
#include <vector>

#include "libvirt/host_device.hpp"
#include "libvirt/qemu_option.hpp"

namespace storctl::libvirt {

/// In the order of the command line; adds to `out`.
void read_qemu_arguments(const std::vector<std::string>& arguments, HostDevices& out);
/// The options of one device, whatever they came from; other drivers' are ignored.
void read_qemu_device(std::string_view driver, const Options& options, const std::string& where, HostDevices& out);

}  // namespace storctl::libvirt
