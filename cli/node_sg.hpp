#pragma once
// The SCSI generic form of a block node on the command line: asked for, its reservations, and as a virtual machine
// takes it. Main thread; all but the options is pure.

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cli/table.hpp"

namespace storctl::cli {

class Invocation;

/// --sg and --no-sg of "node create"; nothing: the words are right so far.
std::optional<std::string> wrong_sg_options(const Invocation& invocation);
/// Nothing: as the configuration says.
std::optional<bool> wants_sg(const Invocation& invocation);

/// Nothing to say of a node without the form that nobody is registered with. Each nexus by its initiator, with its port
/// where that is not the first.
std::vector<Property> describe_reservations(const nlohmann::json& node);
/// "write-exclusive by alpha:vm:web1"; empty: nothing is reserved.
std::string reserved_text(const nlohmann::json& node);

struct SgSnippets {
    std::string path;
    std::string qemu_drive;           ///< -drive … -device …
    std::string qemu_blockdev;        ///< -blockdev … -device …
    std::string libvirt_controller;   ///< <controller>, one line
    std::string libvirt_commandline;  ///< <qemu:commandline>…, several lines
};
/// Nothing: the node has no such device.
std::optional<SgSnippets> sg_snippets(const nlohmann::json& node);

}  // namespace storctl::cli
