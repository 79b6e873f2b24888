#pragma once
// How a virtual machine takes a node: ready lines for QEMU and libvirt. Pure; any thread.

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace storctl::cli {

struct VmSnippets {
    std::string form;           ///< fuse, loop
    std::string path;           ///< what the machine opens
    std::string qemu_drive;     ///< -drive …: the short form
    std::string qemu_blockdev;  ///< -blockdev … -device …
    std::string libvirt_disk;   ///< <disk>…</disk>, several lines
};

/// A comma ends a QEMU option; two are one comma of the value.
std::string qemu_escape(const std::string& text);
std::string xml_escape(const std::string& text);
/// A node's name as QEMU takes it: letters, digits and -._, starting with a letter, at most 31 long.
std::string qemu_node_name(const std::string& name);

/// One per form of the node (io.storctl.Node's type Node) that is a file or a block device.
std::vector<VmSnippets> vm_snippets(const nlohmann::json& node);

}  // namespace storctl::cli
