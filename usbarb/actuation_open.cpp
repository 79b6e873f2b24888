// A device's own node for a program that is to have it unmediated. open(2) waits for the device's lock, which a reset
// or a driver may hold for as long as the device does not answer, and resumes the device first.

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "usbarb/actuation_kernel.hpp"

namespace storctl::usbarb {
namespace {

/// The node that the kernel has for this device now; empty: the device is gone.
std::string node_of(const std::string& device, const ActuationPaths& paths) {
    const auto bus = parse_unsigned(read_attribute(device + "/busnum"), "bus");
    const auto address = parse_unsigned(read_attribute(device + "/devnum"), "address");
    if (!bus || !address) return {};
    return fmt::format("{}/bus/usb/{:03}/{:03}", paths.dev, *bus, *address);
}

Result<UniqueFd> open_own_node(const std::string& device, const DeviceNode& node, ActuationKernel& kernel) {
    UniqueFd file = TRY(kernel.open_node(node.devnode));
    // looked at with the file open: what was plugged in since has another number, and this file is not its
    if (node_of(device, kernel.paths()) != node.devnode) {
        return make_error(std::errc::no_such_device,
                          fmt::format("'{}' is not {}'s node any more: it was unplugged, plugged in again or reset",
                                      node.devnode, base_name(device)));
    }
    if (!node.interfaces) return file;
    uint32_t mask = 0;
    for (const uint8_t number : *node.interfaces) mask |= uint32_t{1} << number;
    if (auto restricted = kernel.restrict_to(file.get(), mask); !restricted) {
        return std::move(restricted)
            .error()
            .within(
                fmt::format("cannot restrict '{}' to interfaces {}", node.devnode, fmt::join(*node.interfaces, ",")));
    }
    return file;
}

}  // namespace

Outcome open_device(const Job& job, std::vector<UniqueFd>& held, ActuationKernel& kernel) {
    held.clear();
    if (job.devices.size() != 1 || !job.node) return {.message = "to open a device takes one device and its node"};
    auto file = open_own_node(job.devices[0], *job.node, kernel);
    if (!file) return {.message = file.error().message()};
    held.push_back(std::move(*file));
    return {.done = true};
}

}  // namespace storctl::usbarb
