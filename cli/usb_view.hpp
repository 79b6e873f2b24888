#pragma once
// USB devices, rules and PCI functions of io.storctl.Arbiter as people read them. Pure; any thread.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace storctl::cli {

/// "0781:5581"; a rule's without a product is "0781"; of a function vendor and device. Empty where there is none.
std::string usb_ids(const nlohmann::json& object);
/// "SanDisk Ultra": vendor and product, the vendor once.
std::string usb_names(const nlohmann::json& device);
/// "480M", "5G" of sysfs' "480", "5000".
std::string format_speed(std::string_view mbps);
/// "mounted on /srv (sda1)", one per use.
std::vector<std::string> use_texts(const nlohmann::json& object);
/// "storage"; a class without a name is its number, "class 42".
std::string class_name(uint64_t code);
/// All names, separated by blanks.
std::string usb_class_names();
/// "storage (08)"; a class without a name is only its number.
std::string class_text(uint64_t code);

}  // namespace storctl::cli
