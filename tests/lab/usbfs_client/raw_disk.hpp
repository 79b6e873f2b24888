#pragma once
// A device with bulk pipes, and a disk on bulk-only transport, through usbfs calls.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/lab/usbfs_client/mass_storage.hpp"
#include "tests/lab/usbfs_client/raw_node.hpp"

namespace storctl::usbfs_client {

/// All that reads of the node give, from where it stands.
std::vector<std::byte> read_descriptors(const RawNode& node, size_t piece = 256);

/// A device with bulk pipes, claimed.
class RawDevice {
 public:
    /// Claims it; ends the run when that does not work.
    explicit RawDevice(const std::string& path);

    RawNode& node() { return node_; }
    uint8_t in() const { return in_; }
    uint8_t out() const { return out_; }

    /// Host driver off, interface claimed. A reset takes the claim and brings the driver back: to be done again at
    /// once, before the driver talks to the disk.
    void claim();

    /// A bulk URB of so many bytes from the device.
    Urb incoming(size_t bytes) const { return Urb(USBDEVFS_URB_TYPE_BULK, in_, bytes); }

 private:
    RawNode node_;
    uint8_t in_ = 0, out_ = 0;
};

class RawDisk : public RawDevice {
 public:
    using RawDevice::RawDevice;

    /// A URB with a command.
    Urb outgoing(const ScsiCommand& command);
    uint32_t tag() const { return tag_; }

    /// By three synchronous calls. "31, 36, status 0 residue 0".
    std::string run(const ScsiCommand& command, std::span<std::byte> data);
    /// An INQUIRY; what came of it. The device works.
    std::string inquire();

 private:
    uint32_t tag_ = 0x100;
};

}  // namespace storctl::usbfs_client
