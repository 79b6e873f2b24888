#pragma once
// A disk on bulk-only transport through libusb, on a node that libusb is given as an open file.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.hpp"
#include "tests/lab/usbfs_client/mass_storage.hpp"

struct libusb_context;
struct libusb_device_handle;

namespace storctl::usbfs_client {

/// libusb's name of it: "LIBUSB_ERROR_BUSY"; a result of 0 or more as it is.
std::string libusb_outcome(long result);

struct BulkPipes {
    uint8_t in = 0, out = 0;
};

/// One open of a node with a libusb of its own. Ends the run when libusb does not take it.
class LibusbNode {
 public:
    explicit LibusbNode(const std::string& path);
    ~LibusbNode();
    LibusbNode(const LibusbNode&) = delete;
    LibusbNode& operator=(const LibusbNode&) = delete;

    libusb_context* context() const { return context_; }
    libusb_device_handle* handle() const { return handle_; }
    /// The bulk endpoints of interface 0.
    BulkPipes bulk_pipes() const;

 private:
    UniqueFd fd_;
    libusb_context* context_ = nullptr;
    libusb_device_handle* handle_ = nullptr;
};

class LibusbDisk {
 public:
    explicit LibusbDisk(LibusbNode& node) : node_(node), pipes_(node.bulk_pipes()) {}

    /// Command, data, status, each synchronous: "0, 36 of 36, status 0 residue 0". After a stall the status is not
    /// asked for.
    std::string run(const ScsiCommand& command, std::span<std::byte> data);
    /// The same with the data in `pieces` equal transfers, which are submitted at once together with the command.
    std::string run_queued(const ScsiCommand& command, std::span<std::byte> data, size_t pieces);

    LibusbNode& node() const { return node_; }
    BulkPipes pipes() const { return pipes_; }

 private:
    std::string status();

    LibusbNode& node_;
    BulkPipes pipes_;
    uint32_t tag_ = 0;
};

}  // namespace storctl::usbfs_client
