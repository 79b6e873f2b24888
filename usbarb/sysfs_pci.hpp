#pragma once
// The adapter that reads PCI functions from sysfs: their drivers, IOMMU groups and companions.

#include <string>
#include <vector>

#include "base/result.hpp"
#include "usbarb/facts.hpp"
#include "usbarb/sysfs_usb.hpp"

namespace storctl::usbarb {

/// Every function of the PCI buses, bridges too.
Result<std::vector<ControllerFacts>> read_functions(const KernelPaths& paths = {});
/// Their addresses.
Result<std::vector<std::string>> list_functions(const KernelPaths& paths = {});
/// One as it is now; no_such_device when it is not there.
Result<ControllerFacts> read_function(const std::string& path, const KernelPaths& paths = {});

}  // namespace storctl::usbarb
