#pragma once
// The texts of our interface files, as they are installed. Constants: any thread.

#include <string_view>

namespace storctl::control {

extern const std::string_view io_storctl;
extern const std::string_view io_storctl_arbiter;
extern const std::string_view io_storctl_device;
extern const std::string_view io_storctl_node;
extern const std::string_view io_storctl_node_process;
/// What every Varlink service answers (https://varlink.org/Service).
extern const std::string_view org_varlink_service;

}  // namespace storctl::control
