#include "cli/usb_view.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "cli/fields.hpp"
#include "cli/usb_class.hpp"

namespace storctl::cli {

Result<uint8_t> parse_usb_class(std::string_view text) {
    if (const auto named = from_text<UsbClass>(to_lower(text))) return static_cast<uint8_t>(*named);
    std::string_view digits = text;
    if (digits.starts_with("0x") || digits.starts_with("0X")) digits.remove_prefix(2);
    const auto bytes = hex_decode(digits.size() == 1 ? "0" + std::string(digits) : std::string(digits));
    if (bytes && bytes->size() == 1) return bytes->front();
    return make_error(std::errc::invalid_argument,
                      fmt::format("'{}' is no USB class: a number from 00 to ff in hexadecimal, or {}",
                                  escape_unprintable(text), all_names<UsbClass>()));
}

std::string usb_ids(const Json& object) {
    const std::string vendor = text_of(object, "vendor_id");
    const char* second = member(object, "device_id").is_string() ? "device_id" : "product_id";
    const std::string product = text_of(object, second);
    return product.empty() ? vendor : fmt::format("{}:{}", vendor, product);
}

std::string usb_names(const Json& device) {
    const std::string vendor(trim(text_of(device, "vendor"))), product(trim(text_of(device, "product")));
    if (vendor.empty() || product.starts_with(vendor)) return product;
    return product.empty() ? vendor : fmt::format("{} {}", vendor, product);
}

std::string format_speed(std::string_view mbps) {
    const auto number = parse_unsigned(mbps, "speed");
    if (number && *number >= 1000) {
        return *number % 1000 == 0 ? fmt::format("{}G", *number / 1000) : fmt::format("{}M", *number);
    }
    return mbps.empty() ? "" : fmt::format("{}M", mbps);
}

std::vector<std::string> use_texts(const Json& object) {
    std::vector<std::string> out;
    for (const Json& use : list_of(object, "uses")) out.push_back(text_of(use, "text"));
    return out;
}

std::string usb_class_names() {
    std::vector<std::string> names;
    for (const auto& row : EnumNames<UsbClass>::table) names.emplace_back(row.name);
    return join(names, " ");
}

std::string class_name(uint64_t code) {
    const auto name = code <= 0xff ? to_text(static_cast<UsbClass>(code)) : "?";
    return name == "?" ? fmt::format("class {:02x}", code) : std::string(name);
}

std::string class_text(uint64_t code) {
    const std::string name = class_name(code);
    return name.starts_with("class ") ? fmt::format("{:02x}", code) : fmt::format("{} ({:02x})", name, code);
}

}  // namespace storctl::cli
