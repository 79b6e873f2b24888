// PCI functions between host drivers and vfio-pci, by driver_override (Linux: drivers/pci/pci-driver.c,
// drivers/vfio/group.c). With an override the function matches that driver and no other, so on the way back the
// override goes before a driver is asked for.

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "usbarb/actuation_kernel.hpp"

namespace storctl::usbarb {
namespace {

constexpr std::string_view vfio_driver = "vfio-pci";
constexpr std::string_view no_override = "(null)";  // what the kernel prints for none

class Functions {
 public:
    explicit Functions(ActuationKernel& kernel) : kernel_(kernel) {}

    Result<void> bind(const FunctionWork& work, UndoList& undo, Outcome& outcome);
    Result<void> check_group(const FunctionWork& work);
    /// As far as it can be without a host driver: no override of ours, not with vfio-pci.
    Result<void> let_go(const std::string& function);
    /// With any driver if it had one before. Empty `former`: with what the kernel picks, if any.
    Result<void> give_to_host(const std::string& function, const std::string& former);

    bool is_with_vfio(const std::string& function) const { return bound_driver(folder(function)) == vfio_driver; }
    bool present(const std::string& function) const { return path_exists(folder(function)); }

 private:
    std::string folder(const std::string& function) const {
        return kernel_.paths().sys + "/bus/pci/devices/" + function;
    }
    std::string driver_folder(std::string_view driver) const {
        return kernel_.paths().sys + "/bus/pci/drivers/" + std::string(driver);
    }
    std::string group_of(const std::string& function) const {
        return base_name(read_link(folder(function) + "/iommu_group"));
    }
    std::string override_of(const std::string& function) const {
        const std::string text = read_attribute(folder(function) + "/driver_override");
        return text == no_override ? "" : text;
    }
    Result<void> set_override(const std::string& function, std::string_view driver) {
        // an empty line takes it away
        return kernel_.write_attribute(folder(function) + "/driver_override", std::string(driver) + "\n");
    }
    Result<void> unbind(const std::string& function) {
        auto done = kernel_.write_attribute(folder(function) + "/driver/unbind", function);
        if (!done && bound_driver(folder(function)).empty()) return {};
        return done;
    }
    Result<void> probe(const std::string& function) {
        return kernel_.write_attribute(kernel_.paths().sys + "/bus/pci/drivers_probe", function);
    }
    Result<void> restore(const std::string& function, const std::string& override, const std::string& driver);
    std::string host_functions_of(const std::string& group) const;

    ActuationKernel& kernel_;
};

Result<void> Functions::restore(const std::string& function, const std::string& override, const std::string& driver) {
    if (!present(function)) return {};
    if (override_of(function) != override) TRY(set_override(function, override));
    const std::string now = bound_driver(folder(function));
    if (now == driver) return {};
    if (!now.empty()) TRY(unbind(function));
    if (driver.empty()) return {};
    return give_to_host(function, driver);
}

Result<void> Functions::bind(const FunctionWork& work, UndoList& undo, Outcome& outcome) {
    const std::string& function = work.path;
    if (!present(function)) {
        return make_error(std::errc::no_such_device, fmt::format("there is no PCI function {}", function));
    }
    if (group_of(function).empty()) {
        return make_error(std::errc::no_such_device,
                          fmt::format("{} has no IOMMU group, because the IOMMU is off: turn on VT-d or AMD-Vi in the "
                                      "firmware's settings, and on Intel start the kernel with intel_iommu=on",
                                      function));
    }
    const std::string driver = bound_driver(folder(function));
    const std::string override = override_of(function);
    const bool ours = override == vfio_driver;
    if (ours && driver == vfio_driver) {
        if (work.former_driver.empty()) outcome.former_drivers[function] = driver;
        return {};
    }
    // with our override and no driver an earlier try was interrupted, and what was there before is not known any more
    if (!ours || !driver.empty()) outcome.former_drivers[function] = driver;
    undo.add([this, function, driver, override = ours ? std::string() : override] {
        return restore(function, override, driver);
    });
    if (!ours) TRY(set_override(function, vfio_driver));
    if (driver != vfio_driver) {
        if (!driver.empty()) TRY(unbind(function));
        const auto probed = probe(function);
        if (!probed && bound_driver(folder(function)) != vfio_driver) return probed.error();
    }
    const std::string now = bound_driver(folder(function));
    if (now == vfio_driver) return {};
    return make_error(std::errc::no_such_device,
                      fmt::format("{} was not taken by vfio-pci ({}): the kernel's log says why", function,
                                  now.empty() ? "it has no driver" : "it is with " + now));
}

/// "0000:00:1f.3 (i801_smbus), …": those that keep the group from being viable.
std::string Functions::host_functions_of(const std::string& group) const {
    std::vector<std::string> found;
    const std::string members = kernel_.paths().sys + "/kernel/iommu_groups/" + group + "/devices";
    for (const auto& member : list_directory(members)) {
        const std::string driver = bound_driver(members + "/" + member);
        const bool stays = driver.empty() || driver == vfio_driver || driver == "pcieport" || driver == "pci-stub";
        if (!stays) found.push_back(fmt::format("{} ({})", member, driver));
    }
    return found.empty() ? "unknown functions" : join(found, ", ");
}

Result<void> Functions::check_group(const FunctionWork& work) {
    const std::string group = group_of(work.path);
    const std::string node = kernel_.paths().dev + "/vfio/" + group;
    if (!path_exists(node)) {
        return make_error(std::errc::no_such_device,
                          fmt::format("vfio-pci took {} but made no '{}': the IOMMU is off for it", work.path, node));
    }
    const bool viable = TRY(kernel_.group_viable(node));
    if (viable) return {};
    return make_error(std::errc::device_or_resource_busy,
                      fmt::format("IOMMU group {} of {} cannot be given away: the host still uses {} in it", group,
                                  work.path, host_functions_of(group)));
}

Result<void> Functions::let_go(const std::string& function) {
    if (override_of(function) == vfio_driver) TRY(set_override(function, ""));
    if (bound_driver(folder(function)) == vfio_driver) TRY(unbind(function));
    return {};
}

Result<void> Functions::give_to_host(const std::string& function, const std::string& former) {
    if (!bound_driver(folder(function)).empty()) return {};
    auto asked = probe(function);
    if (bound_driver(folder(function)).empty() && !former.empty()) {
        asked = kernel_.write_attribute(driver_folder(former) + "/bind", function);
    }
    if (!present(function) || !bound_driver(folder(function)).empty() || former.empty()) return {};
    if (!asked) return std::move(asked).error().within(function + " has no driver any more");
    return make_error(
        std::errc::no_such_device,
        fmt::format("{} has no driver any more: {} did not take it back, the kernel's log says why", function, former));
}

}  // namespace

Outcome bind_to_vfio(const Job& job, ActuationKernel& kernel) {
    if (!path_exists(kernel.paths().sys + "/bus/pci/drivers/" + std::string(vfio_driver))) {
        if (auto loaded = kernel.load_module(std::string(vfio_driver)); !loaded) {
            return {.message = loaded.error().message()};
        }
    }
    Functions functions(kernel);
    UndoList undo;
    Outcome outcome{.done = true};
    const auto failed = [&undo](const Error& error) -> Outcome { return {.message = error.message() + undo.run()}; };
    for (const auto& work : job.functions) {
        if (auto bound = functions.bind(work, undo, outcome); !bound) return failed(bound.error());
    }
    for (const auto& work : job.functions) {
        if (auto usable = functions.check_group(work); !usable) return failed(usable.error());
    }
    return outcome;
}

/// All are let go before any goes back: a host driver cannot have one while a virtual machine has another one of the
/// same group.
Outcome return_to_host(const Job& job, ActuationKernel& kernel) {
    Functions functions(kernel);
    std::vector<std::string> failures, notes;
    for (const auto& work : job.functions) {
        if (!functions.present(work.path)) {
            notes.push_back(work.path + " is gone");
            continue;
        }
        if (work.former_driver == vfio_driver) {
            notes.push_back(work.path + " stays with vfio-pci, where it was before it was claimed");
            continue;
        }
        auto gone = functions.let_go(work.path);
        if (!gone && functions.present(work.path)) failures.push_back(gone.error().message());
    }
    for (const auto& work : job.functions) {
        if (!functions.present(work.path) || work.former_driver == vfio_driver) continue;
        auto given = functions.give_to_host(work.path, work.former_driver);
        if (given || !functions.present(work.path)) continue;
        // the claim is over once the function is off vfio-pci: a driver that is gone would keep it for ever
        (functions.is_with_vfio(work.path) ? failures : notes).push_back(given.error().message());
    }
    if (failures.empty()) return {.done = true, .message = join(notes, "; ")};
    return {.message = join(failures, "; ")};
}

}  // namespace storctl::usbarb
