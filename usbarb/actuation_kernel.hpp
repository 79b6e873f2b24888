#pragma once
// The system calls that move drivers, in one place so that a made-up kernel can stand in for them; and what the two
// halves of the work (usbarb/actuation_usb.cpp, usbarb/actuation_pci.cpp) share. Blocking; in stor-actuate.

#include <functional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "usbarb/actuation.hpp"

namespace storctl::usbarb {

class ActuationKernel {
 public:
    explicit ActuationKernel(ActuationPaths paths) : paths_(std::move(paths)) {}
    ActuationKernel(const ActuationKernel&) = delete;
    ActuationKernel& operator=(const ActuationKernel&) = delete;
    virtual ~ActuationKernel() = default;

    const ActuationPaths& paths() const { return paths_; }
    /// In one write(2), as sysfs wants it.
    virtual Result<void> write_attribute(const std::string& path, const std::string& text);
    /// Of a hub or another device, for reading and writing.
    virtual Result<UniqueFd> open_node(const std::string& devnode);
    /// What is open can be used for these interfaces only, for ever (USBDEVFS_DROP_PRIVILEGES).
    virtual Result<void> restrict_to(int device, uint32_t interfaces);
    /// device_or_resource_busy: some open file holds the port, be it this one.
    virtual Result<void> claim_port(int hub, uint8_t port);
    /// operation_not_permitted: this open file does not hold it.
    virtual Result<void> release_port(int hub, uint8_t port);
    virtual Result<void> load_module(const std::string& name);
    /// False: a function of this VFIO group is with a host driver. A group that a virtual machine has open is viable.
    virtual Result<bool> group_viable(const std::string& devnode);

 private:
    ActuationPaths paths_;
};

Outcome carry_out(const Job& job, std::vector<UniqueFd>& held, ActuationKernel& kernel);

/// What was done, and how it is taken back. A step checks for itself whether it is needed.
class UndoList {
 public:
    void add(std::function<Result<void>()> step) { steps_.push_back(std::move(step)); }
    /// Last first. What could not be taken back, as a sentence's end; all was: "; everything was undone".
    std::string run();

 private:
    std::vector<std::function<Result<void>()>> steps_;
};

bool path_exists(const std::string& path);
/// Of a device, function or interface; empty: none.
std::string bound_driver(const std::string& path);

// ---- one per Action

Outcome detach_devices(const Job& job, ActuationKernel& kernel);
Outcome attach_devices(const Job& job, const std::vector<UniqueFd>& held, ActuationKernel& kernel);
Outcome hold_hubs(const Job& job, std::vector<UniqueFd>& held, ActuationKernel& kernel);
Outcome configure_devices(const Job& job, ActuationKernel& kernel);
Outcome free_hub_port(const Job& job, const std::vector<UniqueFd>& held, ActuationKernel& kernel);
Outcome open_device(const Job& job, std::vector<UniqueFd>& held, ActuationKernel& kernel);
Outcome bind_to_vfio(const Job& job, ActuationKernel& kernel);
Outcome return_to_host(const Job& job, ActuationKernel& kernel);

}  // namespace storctl::usbarb
