// USB devices, hubs and their ports (Linux: drivers/usb/core/{driver,generic,hub,devio}.c). A port that an open hub
// holds keeps host drivers off twice: the kernel chooses no configuration for a new device in it, and no driver of an
// interface is bound there, not even on request.

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "usbarb/actuation_kernel.hpp"

namespace storctl::usbarb {
namespace {

/// A module that is being loaded for a fresh device may bind behind our back, so one look is not enough.
constexpr int most_passes = 5;
constexpr size_t device_descriptor_bytes = 18;
constexpr size_t configuration_value_offset = device_descriptor_bytes + 5;
constexpr std::string_view device_driver = "usb";  // of whole devices; it chooses the configuration

struct Interface {
    std::string path, name, driver;
};

std::vector<Interface> interfaces_of(const std::string& device) {
    std::vector<Interface> found;
    const std::string prefix = base_name(device) + ":";
    for (const auto& name : list_directory(device)) {
        if (!name.starts_with(prefix)) continue;
        const std::string path = device + "/" + name;
        found.push_back({.path = path, .name = name, .driver = bound_driver(path)});
    }
    return found;
}

bool is_host_driver(const std::string& driver) { return !driver.empty() && driver != "usbfs" && driver != "hub"; }

bool is_configured(const std::string& device) {
    const std::string value = read_attribute(device + "/bConfigurationValue");
    return !value.empty() && value != "0";
}

bool is_authorized(const std::string& device) { return read_attribute(device + "/authorized") != "0"; }

class Work {
 public:
    explicit Work(ActuationKernel& kernel) : kernel_(kernel) {}

    Result<void> detach(const std::string& device, UndoList& undo);
    Result<void> attach(const std::string& device);
    Result<void> configure(const std::string& device);
    Result<void> choose_configuration(const std::string& device);

    /// Devices of the job that are there; the others are remembered for the message.
    std::vector<std::string> present(const Job& job) {
        std::vector<std::string> there;
        for (const auto& device : job.devices) {
            if (path_exists(device)) {
                there.push_back(device);
            } else {
                notes_.push_back(base_name(device) + " is gone");
            }
        }
        return there;
    }
    Outcome done() const { return {.done = true, .message = join(notes_, "; ")}; }

 private:
    std::string bus(std::string_view file) const { return kernel_.paths().sys + "/bus/usb/" + std::string(file); }
    Result<void> bind_back(const Interface& interface);

    ActuationKernel& kernel_;
    std::vector<std::string> notes_;
};

Result<void> Work::bind_back(const Interface& interface) {
    if (!path_exists(interface.path) || !bound_driver(interface.path).empty()) return {};
    TRY(kernel_.write_attribute(bus("drivers/" + interface.driver + "/bind"), interface.name));
    return {};
}

Result<void> Work::detach(const std::string& device, UndoList& undo) {
    for (int pass = 0; pass < most_passes; ++pass) {
        bool clean = true;
        for (const auto& interface : interfaces_of(device)) {
            if (!is_host_driver(interface.driver)) continue;
            clean = false;
            undo.add([this, interface] { return bind_back(interface); });
            const auto unbound = kernel_.write_attribute(interface.path + "/driver/unbind", interface.name);
            // a driver of several interfaces lets all of them go at once, and a device may be gone by now
            if (!unbound && bound_driver(interface.path) == interface.driver) return unbound.error();
        }
        if (clean) return {};
    }
    return make_error(std::errc::device_or_resource_busy,
                      fmt::format("host drivers come back to {} as soon as they are taken off", base_name(device)));
}

/// Takes the device from its driver and gives it back: that makes the kernel choose a configuration, and hub drivers
/// start. Unlike "authorized" it leaves no trace that could be an administrator's decision when it is interrupted.
Result<void> Work::choose_configuration(const std::string& device) {
    const std::string name = base_name(device);
    const std::string driver = bound_driver(device);
    if (!driver.empty() && driver != device_driver) {
        return make_error(std::errc::device_or_resource_busy, fmt::format("{} belongs to the driver {}", name, driver));
    }
    if (!driver.empty()) TRY(kernel_.write_attribute(bus("drivers/usb/unbind"), name));
    TRY(kernel_.write_attribute(bus("drivers/usb/bind"), name));
    if (is_configured(device) || !path_exists(device)) return {};
    return make_error(std::errc::device_or_resource_busy,
                      fmt::format("the kernel chooses no configuration for {}: another program holds its port, or the "
                                  "port has not enough power",
                                  name));
}

Result<void> Work::attach(const std::string& device) {
    if (!is_authorized(device)) {
        notes_.push_back(base_name(device) + " is not authorized, so it stays without drivers");
        return {};
    }
    if (!is_configured(device)) TRY(choose_configuration(device));
    for (const auto& interface : interfaces_of(device)) {
        if (!interface.driver.empty()) continue;
        const auto probed = kernel_.write_attribute(bus("drivers_probe"), interface.name);
        if (!probed && path_exists(interface.path)) return probed.error();
    }
    return {};
}

Result<void> Work::configure(const std::string& device) {
    const std::string name = base_name(device);
    if (!is_configured(device)) {
        if (!is_authorized(device)) {
            return make_error(std::errc::operation_not_permitted,
                              fmt::format("{} is not authorized: write 1 to '{}/authorized' first", name, device));
        }
        const auto descriptors = TRY(read_bytes(device + "/descriptors"));
        if (descriptors.size() <= configuration_value_offset) {
            return make_error(std::errc::bad_message, fmt::format("{} describes no configuration", name));
        }
        const std::string value = std::to_string(descriptors[configuration_value_offset]);
        TRY(kernel_.write_attribute(device + "/bConfigurationValue", value));
        if (!is_configured(device) && path_exists(device)) {
            return make_error(std::errc::io_error, fmt::format("{} does not take configuration {}", name, value));
        }
    }
    // drivers would be there if nobody held the port
    UndoList kept_off;
    return detach(device, kept_off);
}

/// A failure of a device that went meanwhile is none.
template <class Step>
Result<void> unless_gone(const std::string& device, Step step) {
    auto done = step();
    if (!done && !path_exists(device)) return {};
    return done;
}

/// Every device as far as it goes; all failures in one message.
template <class Step>
Outcome each_for_itself(const Job& job, Work& work, Step step) {
    std::vector<std::string> failures;
    for (const auto& device : work.present(job)) {
        if (auto done = unless_gone(device, [&] { return step(device); }); !done) {
            failures.push_back(done.error().message());
        }
    }
    if (failures.empty()) return work.done();
    return {.message = join(failures, "; ")};
}

Error port_error(const Error& error, const HubPorts& hub, uint8_t port) {
    std::string text = fmt::format("cannot hold port {} of the hub '{}'", port, hub.devnode);
    if (error.code == std::errc::device_or_resource_busy) {
        text += ": another program (usbip, a virtual machine manager, another stord) holds it";
    }
    return make_error(error.code, std::move(text));
}

std::string free_port_text(const HubPorts& hub, uint8_t port, const Error& error) {
    return fmt::format("cannot free port {} of '{}': {}", port, hub.devnode, error.message());
}

Result<void> hold_ports(const Job& job, std::vector<UniqueFd>& held, ActuationKernel& kernel) {
    for (const auto& hub : job.hubs) {
        UniqueFd node = TRY(kernel.open_node(hub.devnode));
        for (const uint8_t port : hub.ports) {
            if (auto claimed = kernel.claim_port(node.get(), port); !claimed) {
                return port_error(claimed.error(), hub, port);
            }
        }
        held.push_back(std::move(node));
    }
    return {};
}

Result<void> detach_all(const Job& job, Work& work, UndoList& undo) {
    for (const auto& device : work.present(job)) {
        TRY(unless_gone(device, [&] { return work.detach(device, undo); }));
    }
    return {};
}

}  // namespace

Outcome detach_devices(const Job& job, ActuationKernel& kernel) {
    Work work(kernel);
    UndoList undo;
    if (auto done = detach_all(job, work, undo); !done) return {.message = done.error().message() + undo.run()};
    return work.done();
}

/// The ports first, each by its call: other processes may have the same file open, so closing it here frees nothing.
Outcome attach_devices(const Job& job, const std::vector<UniqueFd>& held, ActuationKernel& kernel) {
    if (held.size() != job.hubs.size()) return {.message = "to free ports takes the open hub of each"};
    Work work(kernel);
    std::vector<std::string> failures;
    for (size_t i = 0; i < held.size(); ++i) {
        for (const uint8_t port : job.hubs[i].ports) {
            const auto freed = kernel.release_port(held[i].get(), port);
            // not held any more, or the hub went with its ports
            const bool is_free = freed || freed.error().code == std::errc::operation_not_permitted ||
                                 freed.error().code == std::errc::no_such_device;
            if (!is_free) failures.push_back(free_port_text(job.hubs[i], port, freed.error()));
        }
    }
    auto outcome = each_for_itself(job, work, [&](const std::string& device) { return work.attach(device); });
    if (failures.empty()) return outcome;
    if (!outcome.message.empty()) failures.push_back(outcome.message);
    return {.message = join(failures, "; ")};
}

Outcome configure_devices(const Job& job, ActuationKernel& kernel) {
    Work work(kernel);
    return each_for_itself(job, work, [&](const std::string& device) { return work.configure(device); });
}

Outcome hold_hubs(const Job& job, std::vector<UniqueFd>& held, ActuationKernel& kernel) {
    Work work(kernel);
    UndoList undo;
    held.clear();
    auto done = hold_ports(job, held, kernel);
    if (done) done = detach_all(job, work, undo);
    if (done) return work.done();
    // the ports first: no driver binds in a held one
    held.clear();
    return {.message = done.error().message() + undo.run()};
}

Outcome free_hub_port(const Job& job, const std::vector<UniqueFd>& held, ActuationKernel& kernel) {
    if (held.size() != 1 || job.hubs.size() != 1 || job.hubs[0].ports.size() != 1) {
        return {.message = "to free a port takes one open hub and one port"};
    }
    Work work(kernel);
    UndoList undo;
    const int hub = held[0].get();
    const uint8_t port = job.hubs[0].ports[0];
    const auto freed = kernel.release_port(hub, port);
    const bool was_free = !freed && freed.error().code == std::errc::operation_not_permitted;
    if (!freed && !was_free) {
        return {.message = free_port_text(job.hubs[0], port, freed.error())};
    }
    if (!was_free) undo.add([&kernel, hub, port] { return kernel.claim_port(hub, port); });
    for (const auto& device : work.present(job)) {
        if (is_configured(device)) continue;
        if (auto done = unless_gone(device, [&] { return work.choose_configuration(device); }); !done) {
            return {.message = done.error().message() + undo.run()};
        }
    }
    return work.done();
}

}  // namespace storctl::usbarb
