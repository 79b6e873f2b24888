#include "libvirt/qemu_arguments.hpp"

#include <filesystem>

#include <fmt/format.h>

#include "base/text.hpp"
#include "libvirt/address.hpp"

namespace storctl::libvirt {
namespace {

constexpr std::string_view how_to_name =
    "name it by hostbus and hostaddr, hostbus and hostport, or vendorid and productid";

/// One device being read.
struct Reading {
    const std::string& where;
    HostDevices& out;

    void usb(std::string what, bool may_be_absent = false) {
        out.devices.push_back({.bus = Bus::usb,
                               .what = std::move(what),
                               .where = where,
                               .startup = may_be_absent ? StartupPolicy::optional : StartupPolicy::mandatory});
    }
    void pci(std::string_view address) {
        if (const auto full = parse_pci_address(address)) {
            out.devices.push_back({.bus = Bus::pci, .what = *full, .where = where});
        } else {
            unclear(fmt::format("'{}' is no address of a PCI function", address));
        }
    }
    void unclear(std::string_view why) { out.unclear.push_back(fmt::format("{}: {}", where, why)); }
};

/// Numbers of a usb-host; 0 stands for "any", as in QEMU.
struct UsbMatch {
    uint32_t bus = 0, address = 0, vendor = 0, product = 0;
};

std::optional<UsbMatch> usb_match(const Options& options, Reading& reading) {
    UsbMatch match;
    const auto fields = {std::pair{"hostbus", &match.bus},
                         {"hostaddr", &match.address},
                         {"vendorid", &match.vendor},
                         {"productid", &match.product}};
    for (const auto& [key, value] : fields) {
        const auto text = value_of(options, key);
        if (text.empty()) continue;
        const auto number = parse_number(text, UINT16_MAX);
        if (!number) {
            reading.unclear(fmt::format("{}={} is no number", key, text));
            return std::nullopt;
        }
        *value = *number;
    }
    return match;
}

void read_usb_node(const std::string& path, Reading reading) {
    const std::string normal = std::filesystem::path(path).lexically_normal().string();
    if (normal.starts_with("/dev/storctl/")) return;
    if (!normal.starts_with('/') || normal.starts_with("/dev/fdset/") || normal.starts_with("/proc/")) {
        return reading.unclear(fmt::format("hostdevice={} does not say which device it is; give its node", path));
    }
    reading.usb(normal);
}

void read_usb_host(const Options& options, Reading reading) {
    if (const auto node = value_of(options, "hostdevice"); !node.empty()) {
        return read_usb_node(std::string(node), reading);
    }
    const auto match = usb_match(options, reading);
    if (!match) return;
    const auto port = value_of(options, "hostport");
    // all but the plain address: QEMU waits until something is plugged in that fits
    const bool waits = !port.empty() || match->vendor != 0 || match->product != 0;
    if (match->bus != 0 && match->address != 0) return reading.usb(usb_node(match->bus, match->address), waits);
    if (match->bus != 0 && !port.empty()) {
        if (const auto name = usb_kernel_name(match->bus, port)) return reading.usb(*name, waits);
        return reading.unclear(fmt::format("hostport={} is no chain of ports", port));
    }
    if (match->vendor != 0 && match->product != 0) return reading.usb(usb_ids(match->vendor, match->product), waits);
    reading.unclear(fmt::format("usb-host takes whatever fits; {}", how_to_name));
}

void read_vfio(const Options& options, Reading reading) {
    if (const auto host = value_of(options, "host"); !host.empty()) return reading.pci(host);
    const auto path = value_of(options, "sysfsdev");
    if (!path.empty()) {
        const auto last = std::filesystem::path(path).filename().string();
        const bool mediated = path.find("/mdev/") != std::string_view::npos || last.size() == 36;
        if (!mediated) reading.pci(last);
    } else if (!value_of(options, "fd").empty()) {
        reading.unclear("vfio-pci with fd= does not say which function it is; add host=");
    }
}

/// "host:1.4", "host:046d:c31c"
void read_usbdevice(std::string_view text, Reading reading) {
    if (!text.starts_with("host:")) return;
    const std::string_view what = text.substr(5);
    const auto dot = what.find('.'), colon = what.find(':');
    if (dot != std::string_view::npos && colon == std::string_view::npos) {
        const auto bus = parse_number(what.substr(0, dot)), address = parse_number(what.substr(dot + 1));
        if (bus && address) return reading.usb(usb_node(*bus, *address));
    } else if (colon != std::string_view::npos && dot == std::string_view::npos) {
        const auto vendor = parse_number("0x" + std::string(what.substr(0, colon)), UINT16_MAX);
        const auto product = parse_number("0x" + std::string(what.substr(colon + 1)), UINT16_MAX);
        if (vendor && product) return reading.usb(usb_ids(*vendor, *product), true);
    }
    reading.unclear(fmt::format("-usbdevice {} takes whatever fits; use -device usb-host, and {}", text, how_to_name));
}

/// "nvme://0000:01:00.0/1"
void read_nvme_url(std::string_view text, Reading& reading) {
    constexpr std::string_view scheme = "nvme://";
    if (!text.starts_with(scheme)) return;
    text.remove_prefix(scheme.size());
    reading.pci(text.substr(0, text.find('/')));
}

void read_drive(const Options& options, Reading reading) {
    constexpr std::string_view json_file = "json:";
    for (const auto& [key, value] : options) {
        read_nvme_url(value, reading);
        if (value.starts_with(json_file)) {
            if (const auto inner = parse_json_options(std::string_view(value).substr(json_file.size()))) {
                read_drive(*inner, reading);
            }
        }
        if (value != "nvme" || (key != "driver" && !key.ends_with(".driver"))) continue;
        const auto device = value_of(options, key.substr(0, key.size() - std::string_view("driver").size()) + "device");
        if (!device.empty()) reading.pci(device);
    }
}

/// Something of the host may be meant: then a text that cannot be read is a question, else nobody's business.
bool names_host_device(std::string_view text) {
    return text.find("usb-host") != std::string_view::npos || text.find("vfio-pci") != std::string_view::npos ||
           text.find("nvme") != std::string_view::npos;
}

void read_option(std::string_view option, std::string_view text, Reading reading) {
    if (option == "usbdevice") return read_usbdevice(text, reading);
    const bool device = option == "device";
    if (!device && option != "drive" && option != "blockdev") return;
    const auto options = parse_options(text, device ? "driver" : option == "drive" ? "file" : "driver");
    if (!options) {
        if (names_host_device(text)) reading.unclear("its JSON cannot be read");
        return;
    }
    if (device) return read_qemu_device(value_of(*options, "driver"), *options, reading.where, reading.out);
    read_drive(*options, reading);
}

}  // namespace

void read_qemu_device(std::string_view driver, const Options& options, const std::string& where, HostDevices& out) {
    if (driver == "usb-host") read_usb_host(options, {where, out});
    if (driver.starts_with("vfio-pci")) read_vfio(options, {where, out});
}

void read_qemu_arguments(const std::vector<std::string>& arguments, HostDevices& out) {
    for (size_t i = 0; i + 1 < arguments.size(); ++i) {
        std::string_view option = arguments[i];
        if (!option.starts_with('-')) continue;
        option.remove_prefix(option.starts_with("--") ? 2 : 1);  // QEMU takes both
        const std::string where = fmt::format("qemu:arg {}", i + 2);
        read_option(option, arguments[i + 1], {where, out});
    }
}

}  // namespace storctl::libvirt
