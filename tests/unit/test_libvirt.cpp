#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "base/file.hpp"
#include "libvirt/address.hpp"
#include "libvirt/domain_xml.hpp"

using namespace storctl;
using namespace storctl::libvirt;

namespace {

/// DOMAIN_XML_FOLDER is the fuzz target's corpus: every form is written down once.
std::string file(const std::string& name) {
    auto text = read_file(DOMAIN_XML_FOLDER "/" + name);
    REQUIRE_MESSAGE(text.has_value(), name);
    return *text;
}

Domain domain(const std::string& name) {
    auto parsed = parse_domain(file(name));
    REQUIRE_MESSAGE(parsed.has_value(), name);
    return *parsed;
}

/// "usb 1-2.1 (hostdev 1) managed optional missing"
std::vector<std::string> lines(const HostDevices& host) {
    std::vector<std::string> out;
    for (const auto& device : host.devices) {
        out.push_back(fmt::format(
            "{} {} ({}){}{}{}", to_text(device.bus), device.what, device.where, device.managed ? " managed" : "",
            device.startup == StartupPolicy::mandatory ? "" : fmt::format(" {}", to_text(device.startup)),
            device.missing ? " missing" : ""));
    }
    return out;
}

std::string wrapped(const std::string& devices) {
    return "<domain><name>a</name><devices>" + devices + "</devices></domain>";
}

struct Row {
    const char* name;  ///< the sentence
    const char* file;
    std::vector<std::string> devices;
    std::vector<std::string> unclear;  ///< each a part of the sentence
};

const std::vector<Row> rows{
    {"a domain without host devices has none", "no_host_devices.xml", {}, {}},
    {"before the start a USB device is what the administrator wrote",
     "usb_at_prepare.xml",
     {"usb 046d:c31c (hostdev 1)", "usb /dev/bus/usb/001/004 (hostdev 2)", "usb 0951:1666 (hostdev 3) optional",
      "usb 1a86:7523 (hostdev 4) requisite"},
     {}},
    {"from the start on it is the address that libvirt found, or missing",
     "usb_at_start.xml",
     {"usb /dev/bus/usb/003/012 (hostdev 1)", "usb 0951:1666 (hostdev 2) optional missing"},
     {}},
    {"as libvirt 9.0 gives it to a hook: USB by vendor and product, found",
     "libvirt_9_start.xml",
     {"usb /dev/bus/usb/003/003 (hostdev 1)"},
     {}},
    {"as libvirt 9.0 gives it to a hook: a managed PCI function",
     "libvirt_9_start_pci.xml",
     {"pci 0000:05:00.0 (hostdev 1) managed"},
     {}},
    {"a port counts where there is no device number, and before vendor and product",
     "usb_by_port.xml",
     {"usb 1-1.2 (hostdev 1)", "usb /dev/bus/usb/002/009 (hostdev 2)", "usb /dev/bus/usb/003/010 (hostdev 3)",
      "usb 1-3 (hostdev 4)"},
     {}},
    {"a USB device that is not named is not guessed",
     "usb_unclear.xml",
     {},
     {"hostdev 1: names no device", "hostdev 2: names no device", "hostdev 3: names no device",
      "hostdev 4: its <address> has a number that is none", "hostdev 5: port '2.0'", "hostdev 6: names no device"}},
    {"PCI functions as hostdev and interface, in hexadecimal, octal and decimal",
     "pci.xml",
     {"pci 0000:00:14.0 (hostdev 1) managed", "pci 0000:3b:02.7 (hostdev 2)", "pci 0000:10:08.1 (hostdev 3)",
      "pci 0000:07:10.2 (interface 1) managed", "usb /dev/bus/usb/002/003 (interface 2)"},
     {}},
    {"a PCI function without an address is not guessed",
     "pci_unclear.xml",
     {},
     {"hostdev 1: has no <address>", "hostdev 2: its <address>", "hostdev 3: its <address>",
      "interface 1: has no <address>", "disk 1: has no <address>"}},
    {"NVMe disks, those below an image and those that it is copied to",
     "nvme.xml",
     {"pci 0000:01:00.0 (disk 1) managed", "pci 0000:03:00.0 (disk 2) managed", "pci 0000:02:00.0 (disk 2)",
      "pci 0000:01:00.0 (disk 3) managed"},
     {}},
    {"mediated devices, SCSI units, vhost and networks are no devices of their own", "ignored.xml", {}, {}},
    {"QEMU's own arguments are read, our nodes and values without an option are not",
     "qemu_arguments.xml",
     {"usb /dev/bus/usb/001/004 (qemu:arg 2)", "pci 0000:00:14.0 (qemu:arg 6)", "usb 046d:c31c (qemu:arg 8) optional",
      "pci 0000:3b:00.0 (qemu:override of 'hostdev0')"},
     {}},
    {"what counts is QEMU's namespace, not the prefix",
     "other_prefix.xml",
     {"pci 0000:00:02.0 (qemu:arg 2)", "pci 0000:00:03.0 (qemu:arg 2)"},
     {}},
};

struct BadRow {
    const char* name;
    const char* file;
    std::errc code;
    const char* says;
};

const std::vector<BadRow> bad_rows{
    {"nothing at all", "empty.xml", std::errc::bad_message, "at byte 0"},
    {"a text that was cut off", "cut.xml", std::errc::bad_message, "at byte 82"},
    {"elements that cross", "crossed.xml", std::errc::bad_message, "at byte 33"},
    {"bytes that are no text", "binary.xml", std::errc::bad_message, "not well formed"},
    {"a NUL in the middle", "nul.xml", std::errc::bad_message, "NUL at byte 15"},
    {"another document of libvirt's", "no_domain.xml", std::errc::invalid_argument, "<domainsnapshot>"},
    {"a domain without a name", "no_name.xml", std::errc::invalid_argument, "no <name>"},
};

}  // namespace

TEST_CASE("every form of a host device in a domain's XML") {
    for (const auto& row : rows) {
        SUBCASE(row.name) {
            const auto read = domain(row.file);
            CHECK(lines(read.host) == row.devices);
            REQUIRE(read.host.unclear.size() == row.unclear.size());
            for (size_t i = 0; i < row.unclear.size(); ++i) {
                CHECK_MESSAGE(read.host.unclear[i].find(row.unclear[i]) != std::string::npos, read.host.unclear[i]);
            }
        }
    }
}

TEST_CASE("what is no domain is an error that says where") {
    for (const auto& row : bad_rows) {
        SUBCASE(row.name) {
            const auto read = parse_domain(file(row.file));
            REQUIRE_FALSE(read.has_value());
            CHECK(read.error().code == row.code);
            CHECK_MESSAGE(read.error().context.find(row.says) != std::string::npos, read.error().context);
        }
    }
}

TEST_CASE("names are taken as libvirt takes them") {
    CHECK(domain("no_host_devices.xml").uuid == "3fa0d5e1-6d1b-4a39-9d7b-0f3a6a6f5b11");
    CHECK(domain("odd_name.xml").name == "Büro & <Söhne> $(reboot) \"x\"");
    CHECK(domain("byte_order_mark.xml").name == "bom");
}

TEST_CASE("entities of a document's own have no effect") {
    // an entity that was resolved would have put a file's text, or megabytes, in its place
    CHECK(domain("external_entity.xml").name == "&secret;");
    CHECK(lines(domain("external_entity.xml").host) ==
          std::vector<std::string>{"usb /dev/bus/usb/001/004 (hostdev 1)"});
    CHECK(domain("entity_bomb.xml").name == "bomb&e;");
}

TEST_CASE("limits of size, depth and number") {
    const auto code = [](const std::string& text) {
        const auto read = parse_domain(text);
        return read ? std::errc{} : read.error().code;
    };
    const std::string device =
        "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='4'/></source></hostdev>";
    std::string many;
    for (size_t i = 0; i < max_host_devices; ++i) many += device;
    CHECK(code(wrapped(many)) == std::errc{});
    CHECK(code(wrapped(many + device)) == std::errc::file_too_large);

    const std::string around = wrapped("<!--" + std::string(max_domain_bytes, 'x'));
    CHECK(code(around) == std::errc::file_too_large);
    const size_t frame = wrapped("<!---->").size();
    CHECK(code(wrapped("<!--" + std::string(max_domain_bytes - frame, 'x') + "-->")) == std::errc{});

    const auto nested = [](size_t depth) {
        std::string open, close;
        for (size_t i = 0; i < depth; ++i) open += "<a>", close += "</a>";
        return wrapped(open + close);
    };
    CHECK(code(nested(200)) == std::errc{});
    CHECK(code(nested(max_domain_depth)) == std::errc::file_too_large);
    CHECK(code(nested(500'000)) == std::errc::file_too_large);
}

TEST_CASE("numbers and addresses as libvirt and QEMU write them") {
    CHECK(parse_number("0x1f") == 31);
    CHECK(parse_number("010") == 8);
    CHECK(parse_number("0") == 0);
    CHECK(parse_number("4294967295") == 4294967295);
    for (const char* bad : {"", "0x", "09", "-1", "+1", " 1", "1 ", "4294967296", "0xg", "1e3"}) {
        CHECK_MESSAGE(!parse_number(bad).has_value(), bad);
    }
    CHECK_FALSE(parse_number("65536", UINT16_MAX).has_value());

    CHECK(parse_pci_address("0:14.0") == "0000:00:14.0");
    CHECK(parse_pci_address("0000:3B:0a.7") == "0000:3b:0a.7");
    CHECK(parse_pci_address("10000:e1:00.0") == "10000:e1:00.0");  // behind a VMD
    for (const char* bad :
         {"", "14.0", "00:14", "00:20.0", "00:14.8", "100:14.0", "0:0:0:14.0", "0000:00:14.0x", "::."}) {
        CHECK_MESSAGE(!parse_pci_address(bad).has_value(), bad);
    }
    CHECK(usb_kernel_name(1, "2.1") == "1-2.1");
    CHECK(usb_kernel_name(1, "04") == "1-4");
    for (const char* bad : {"", ".", "1.", ".1", "1..2", "0", "256", "a", "1.1.1.1.1.1.1.1"}) {
        CHECK_MESSAGE(!usb_kernel_name(1, bad).has_value(), bad);
    }
    CHECK_FALSE(usb_kernel_name(0, "1").has_value());
}
