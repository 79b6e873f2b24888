#include "base/qemu_guest.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/file.hpp"
#include "base/text.hpp"

namespace storctl {
namespace {

constexpr size_t command_line_limit_bytes = 4 << 20;

bool is_machine(const std::string& program) {
    constexpr auto tools = std::to_array<std::string_view>({"qemu-bridge-helper", "qemu-edid", "qemu-ga", "qemu-img",
                                                            "qemu-io", "qemu-keymap", "qemu-nbd", "qemu-pr-helper",
                                                            "qemu-storage-daemon", "qemu-vmsr-helper"});
    if (!program.starts_with("qemu") && !program.starts_with("kvm")) return false;
    return std::find(tools.begin(), tools.end(), program) == tools.end();
}

/// At commas; a doubled one is part of a value.
std::vector<std::string> split_options(std::string_view text) {
    std::vector<std::string> out(1);
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] != ',') {
            out.back() += text[i];
        } else if (i + 1 < text.size() && text[i + 1] == ',') {
            out.back() += text[i++];
        } else {
            out.emplace_back();
        }
    }
    return out;
}

std::string name_in(std::string_view value) {
    constexpr std::string_view guest = "guest=";
    const auto options = split_options(value);
    // only the first may go without its key
    if (options.front().find('=') == std::string::npos) return options.front();
    const auto found = std::find_if(options.begin(), options.end(), [&](auto& one) { return one.starts_with(guest); });
    return found == options.end() ? std::string() : found->substr(guest.size());
}

}  // namespace

std::optional<QemuGuest> qemu_guest(const std::vector<std::string>& arguments) {
    if (arguments.empty() || !is_machine(base_name(arguments.front()))) return std::nullopt;
    QemuGuest out;
    for (size_t i = 1; i + 1 < arguments.size(); ++i) {
        std::string_view option = arguments[i];
        if (option.starts_with("--")) option.remove_prefix(1);
        if (option == "-name") out.name = name_in(arguments[i + 1]);
        if (option == "-uuid") out.uuid = arguments[i + 1];
    }
    return out;
}

Result<std::optional<QemuGuest>> qemu_guest_of(const std::string& process) {
    const std::string line = TRY(read_file(process + "/cmdline", command_line_limit_bytes));
    return qemu_guest(split(line, '\0'));
}

}  // namespace storctl
