#pragma once
// Mediated USB nodes on the command line: made, and as a virtual machine takes them. Main thread; the snippets are
// pure.

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/result.hpp"
#include "cli/exit.hpp"

namespace storctl::cli {

class Invocation;

/// What "--deny" takes, separated by commas; or else nothing_denied alone.
inline constexpr std::array<std::string_view, 4> deniable{"reset", "configuration", "firmware", "vendor"};
inline constexpr std::string_view nothing_denied = "none";

bool is_usb_node(const nlohmann::json& node);

/// "node create --usb"; nothing: the words are right so far. Of the options, which go together.
std::optional<std::string> wrong_usb_options(const Invocation& invocation);
Exit create_usb_node(const Invocation& invocation);

/// "0,2" as [0, 2]: numbers of interfaces, 0 to 255.
Result<nlohmann::json> parse_interfaces(const std::string& text);

struct UsbSnippets {
    std::string path;
    std::string qemu_device;          ///< -device usb-host,…
    std::string libvirt_commandline;  ///< <qemu:commandline>…, several lines
};
/// Nothing: the node has no character device.
std::optional<UsbSnippets> usb_snippets(const nlohmann::json& node);

}  // namespace storctl::cli
