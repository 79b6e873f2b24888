#include "libvirt/domain_xml.hpp"

#include <pugixml.hpp>

#include <fmt/format.h>

#include "base/text.hpp"
#include "libvirt/address.hpp"
#include "libvirt/qemu_arguments.hpp"

namespace storctl::libvirt {
namespace {

constexpr std::string_view qemu_namespace = "http://libvirt.org/schemas/domain/qemu/1.0";

bool is(const pugi::xml_attribute& attribute, std::string_view value) { return attribute.value() == value; }

/// One element that takes a device, being read.
struct Reading {
    std::string where;
    HostDevices& out;

    HostDevice& add(Bus bus, std::string what) {
        out.devices.push_back({.bus = bus, .what = std::move(what), .where = where});
        return out.devices.back();
    }
    void unclear(std::string_view why) { out.unclear.push_back(fmt::format("{}: {}", where, why)); }
};

/// libvirt's numbers: base 0, so that "0x10" and "16" are the same. A missing one is 0.
std::optional<uint32_t> number(const pugi::xml_node& node, const char* name) {
    const auto attribute = node.attribute(name);
    if (!attribute) return 0;
    return parse_number(attribute.value());
}

void read_pci(const pugi::xml_node& source, bool managed, Reading reading) {
    const auto address = source.child("address");
    if (!address) return reading.unclear("has no <address> in its <source>");
    const auto domain = number(address, "domain"), bus = number(address, "bus"), slot = number(address, "slot"),
               function = number(address, "function");
    const auto full = domain && bus && slot && function ? pci_address(*domain, *bus, *slot, *function) : std::nullopt;
    if (!full) return reading.unclear("its <address> is no address of a PCI function");
    reading.add(Bus::pci, *full).managed = managed;
}

/// By address, else by port, else by vendor and product.
std::optional<std::string> usb_name(const pugi::xml_node& source, Reading& reading) {
    const auto address = source.child("address");
    const auto bus = number(address, "bus"), device = number(address, "device");
    if (!bus || !device) {
        reading.unclear("its <address> has a number that is none");
        return std::nullopt;
    }
    if (*bus != 0 && *device != 0) return usb_node(*bus, *device);
    if (const auto port = address.attribute("port"); port && *bus != 0) {
        auto name = usb_kernel_name(*bus, port.value());
        if (!name) reading.unclear(fmt::format("port '{}' is no chain of ports", port.value()));
        return name;
    }
    const auto vendor = parse_number(source.child("vendor").attribute("id").value(), UINT16_MAX);
    const auto product = parse_number(source.child("product").attribute("id").value(), UINT16_MAX);
    if (vendor && product) return usb_ids(*vendor, *product);
    reading.unclear("names no device: it has neither an <address> nor <vendor> and <product>");
    return std::nullopt;
}

void read_usb(const pugi::xml_node& source, Reading reading) {
    const auto what = usb_name(source, reading);
    if (!what) return;
    auto& device = reading.add(Bus::usb, *what);
    device.startup =
        from_text<StartupPolicy>(source.attribute("startupPolicy").value()).value_or(StartupPolicy::mandatory);
    device.missing = is(source.attribute("missing"), "yes");
}

void read_hostdev(const pugi::xml_node& hostdev, Reading reading) {
    if (!is(hostdev.attribute("mode"), "subsystem")) return;
    const auto type = hostdev.attribute("type");
    if (is(type, "usb")) read_usb(hostdev.child("source"), reading);
    if (is(type, "pci")) read_pci(hostdev.child("source"), is(hostdev.attribute("managed"), "yes"), reading);
}

/// A network of type hostdev shows as such an interface once libvirt has picked a function, that is from "start" on.
void read_interface(const pugi::xml_node& interface, Reading reading) {
    if (!is(interface.attribute("type"), "hostdev")) return;
    const auto source = interface.child("source");
    if (is(source.child("address").attribute("type"), "usb")) return read_usb(source, reading);
    read_pci(source, is(interface.attribute("managed"), "yes"), reading);
}

/// A disk with the images that it stands on or is copied to.
void read_disk(const pugi::xml_node& disk, const Reading& reading) {
    std::vector<pugi::xml_node> images{disk};
    while (!images.empty()) {
        const auto image = images.back();
        images.pop_back();
        if (is(image.attribute("type"), "nvme")) {
            const auto source = image.child("source");
            read_pci(source, is(source.attribute("managed"), "yes"), reading);
        }
        for (const char* name : {"backingStore", "mirror"}) {
            if (const auto below = image.child(name)) images.push_back(below);
        }
    }
}

/// The namespace of an element: that of its prefix, wherever above it was declared.
std::string_view namespace_of(const pugi::xml_node& element) {
    const std::string_view name = element.name();
    const auto colon = name.find(':');
    const std::string key = colon == std::string_view::npos ? "xmlns" : fmt::format("xmlns:{}", name.substr(0, colon));
    for (auto node = element; node; node = node.parent()) {
        if (const auto attribute = node.attribute(key.c_str())) return attribute.value();
    }
    return {};
}

std::string_view local_name(const pugi::xml_node& element) {
    const std::string_view name = element.name();
    return name.substr(name.find(':') + 1);
}

void read_commandline(const pugi::xml_node& commandline, HostDevices& out) {
    std::vector<std::string> arguments;
    for (const auto& child : commandline.children()) {
        if (local_name(child) == "arg") arguments.emplace_back(child.attribute("value").value());
    }
    read_qemu_arguments(arguments, out);
}

/// Properties that take the place of those that libvirt would give a device.
void read_override(const pugi::xml_node& override_, HostDevices& out) {
    for (const auto& device : override_.children()) {
        if (local_name(device) != "device") continue;
        Options options;
        for (const auto& part : device.children()) {
            if (local_name(part) != "frontend") continue;
            for (const auto& property : part.children()) {
                options[property.attribute("name").value()] = property.attribute("value").value();
            }
        }
        const std::string where = fmt::format("qemu:override of '{}'", device.attribute("alias").value());
        const auto has = [&](std::string_view key) { return options.find(key) != options.end(); };
        if (has("host") || has("sysfsdev")) read_qemu_device("vfio-pci", options, where, out);
        if (has("hostdevice") || has("hostbus") || has("hostaddr") || has("hostport") || has("vendorid") ||
            has("productid")) {
            read_qemu_device("usb-host", options, where, out);
        }
    }
}

void read_devices(const pugi::xml_node& devices, HostDevices& out) {
    int hostdevs = 0, interfaces = 0, disks = 0;
    for (const auto& element : devices.children()) {
        const std::string_view name = element.name();
        if (name == "hostdev") read_hostdev(element, {fmt::format("hostdev {}", ++hostdevs), out});
        if (name == "interface") read_interface(element, {fmt::format("interface {}", ++interfaces), out});
        if (name == "disk") read_disk(element, {fmt::format("disk {}", ++disks), out});
    }
}

void read_qemu(const pugi::xml_node& domain, HostDevices& out) {
    for (const auto& element : domain.children()) {
        if (namespace_of(element) != qemu_namespace) continue;
        if (local_name(element) == "commandline") read_commandline(element, out);
        if (local_name(element) == "override") read_override(element, out);
    }
}

struct DepthLimit : pugi::xml_tree_walker {
    bool for_each(pugi::xml_node&) override { return depth() < max_domain_depth; }
};

Result<void> check_text(std::string_view xml) {
    if (xml.size() > max_domain_bytes) {
        return make_error(
            std::errc::file_too_large,
            fmt::format("the domain XML has {} bytes; more than {} are not read", xml.size(), max_domain_bytes));
    }
    // pugixml would take it for the end
    if (const auto nul = xml.find('\0'); nul != std::string_view::npos) {
        return make_error(std::errc::bad_message, fmt::format("the domain XML has a NUL at byte {}", nul));
    }
    return {};
}

Result<Domain> read_domain(const pugi::xml_node& root) {
    const auto text = [&](const char* name) { return std::string(root.child(name).text().get()); };
    Domain domain{.name = text("name"), .uuid = std::string(trim(text("uuid")))};
    if (domain.name.empty()) return make_error(std::errc::invalid_argument, "the domain XML has no <name>");
    for (const auto& devices : root.children("devices")) read_devices(devices, domain.host);
    read_qemu(root, domain.host);
    if (domain.host.devices.size() + domain.host.unclear.size() > max_host_devices) {
        return make_error(std::errc::file_too_large,
                          fmt::format("the domain XML has more than {} host devices", max_host_devices));
    }
    return domain;
}

}  // namespace

Result<Domain> parse_domain(std::string_view xml) {
    TRY(check_text(xml));
    pugi::xml_document document;
    const auto parsed = document.load_buffer(xml.data(), xml.size(), pugi::parse_default, pugi::encoding_utf8);
    if (!parsed) {
        return make_error(std::errc::bad_message, fmt::format("the domain XML is not well formed at byte {}: {}",
                                                              parsed.offset, parsed.description()));
    }
    DepthLimit limit;
    if (!document.traverse(limit)) {
        return make_error(std::errc::file_too_large,
                          fmt::format("the domain XML is nested deeper than {}", max_domain_depth));
    }
    const auto root = document.document_element();
    if (std::string_view(root.name()) != "domain") {
        return make_error(std::errc::invalid_argument,
                          fmt::format("the XML is no domain: it begins with <{}>", escape_unprintable(root.name())));
    }
    return read_domain(root);
}

}  // namespace storctl::libvirt
