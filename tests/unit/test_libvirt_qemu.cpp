#include <doctest/doctest.h>
#include <fmt/format.h>

#include "libvirt/qemu_arguments.hpp"

using namespace storctl;
using namespace storctl::libvirt;

namespace {

struct Row {
    const char* option;
    const char* text;
    const char* expected;  ///< "usb …", "pci …", several with ", "; "?…" a part of what is unclear; "": nothing
};

constexpr Row rows[]{
    {"-device", "usb-host,hostbus=1,hostaddr=4", "usb /dev/bus/usb/001/004"},
    {"-device", "usb-host,hostbus=0x1,hostaddr=012", "usb /dev/bus/usb/001/010"},
    {"-device", "driver=usb-host,hostbus=1,hostaddr=4", "usb /dev/bus/usb/001/004"},
    {"-device", "usb-host,hostbus=1,hostaddr=4,hostaddr=5", "usb /dev/bus/usb/001/005"},
    {"-device", "usb-host,hostbus=1,hostaddr=4,vendorid=0x46d", "usb /dev/bus/usb/001/004 optional"},
    {"-device", "usb-host,hostbus=1,hostport=2.1", "usb 1-2.1 optional"},
    {"-device", "usb-host,hostbus=1,hostport=2.1,vendorid=0x046d,productid=0xc31c", "usb 1-2.1 optional"},
    {"-device", "usb-host,vendorid=0x046d,productid=0xc31c", "usb 046d:c31c optional"},
    {"-device", "usb-host,vendorid=1133,productid=49948", "usb 046d:c31c optional"},
    {"-device", "usb-host,hostdevice=/dev/bus/usb/001/004", "usb /dev/bus/usb/001/004"},
    {"-device", "usb-host,hostdevice=/dev/storctl/../bus/usb/001/004", "usb /dev/bus/usb/001/004"},
    {"-device", "usb-host,hostdevice=/dev/my,,dongle", "usb /dev/my,dongle"},
    {"-device", "usb-host,hostdevice=/dev/storctl/usb/0000:00:14.0-2.1", ""},
    {"-device", "usb-host,hostdevice=/dev/fdset/3", "?does not say which device"},
    {"-device", "usb-host,hostdevice=key", "?does not say which device"},
    {"-device", "usb-host", "?takes whatever fits"},
    {"-device", "usb-host,hostbus=1", "?takes whatever fits"},
    {"-device", "usb-host,hostport=1", "?takes whatever fits"},
    {"-device", "usb-host,vendorid=0x046d", "?takes whatever fits"},
    {"-device", "usb-host,vendorid=keyboard,productid=1", "?vendorid=keyboard is no number"},
    {"-device", "usb-host,hostbus=1,hostport=2.0", "?hostport=2.0"},
    {"-device", "vfio-pci,host=0000:00:14.0", "pci 0000:00:14.0"},
    {"-device", "vfio-pci,id=a,,host=00:01.0,host=00:14.0", "pci 0000:00:14.0"},
    {"-device", "vfio-pci-nohotplug,host=01:00.0", "pci 0000:01:00.0"},
    {"-device", "vfio-pci,sysfsdev=/sys/bus/pci/devices/0000:01:00.0", "pci 0000:01:00.0"},
    {"-device", "vfio-pci,sysfsdev=/sys/bus/mdev/devices/c2177883-f1bb-47f0-914d-32a22e3a8804", ""},
    {"-device", "vfio-pci,sysfsdev=/sys/devices/pci0000:00/0000:00:02.0/c2177883-f1bb-47f0-914d-32a22e3a8804", ""},
    {"-device", "vfio-pci,host=gpu", "?'gpu' is no address"},
    {"-device", "vfio-pci,fd=7", "?does not say which function"},
    {"-device", R"({"driver":"vfio-pci","host":"0000:01:00.0"})", "pci 0000:01:00.0"},
    {"-device", R"({"driver":"usb-host","hostbus":1,"hostport":"1.2"})", "usb 1-1.2 optional"},
    {"-device", R"({"driver":"usb-host","vendorid":1133,"productid":49948})", "usb 046d:c31c optional"},
    {"-device", "{'driver':'vfio-pci','host':'0000:01:00.0'}", "?its JSON cannot be read"},
    {"-device", "{'driver':'virtio-net-pci'}", ""},
    {"-device", "virtio-net-pci,host=00:14.0", ""},
    {"-device", "", ""},
    {"-netdev", "usb-host,hostbus=1,hostaddr=4", ""},
    {"device", "usb-host,hostbus=1,hostaddr=4", ""},
    {"-usbdevice", "host:1.4", "usb /dev/bus/usb/001/004"},
    {"-usbdevice", "host:046d:c31c", "usb 046d:c31c optional"},
    {"-usbdevice", "host:auto:*.*", "?takes whatever fits"},
    {"-usbdevice", "tablet", ""},
    {"-drive", "file=nvme://0000:01:00.0/1,if=none,id=a", "pci 0000:01:00.0"},
    {"-drive", "if=none,file.driver=nvme,file.device=0000:01:00.0,file.namespace=1", "pci 0000:01:00.0"},
    {"-drive", R"(if=none,file=json:{"driver":"raw",,"file":{"driver":"nvme",,"device":"0000:01:00.0"}})",
     "pci 0000:01:00.0"},
    {"-blockdev", R"({"driver":"raw","file":{"driver":"nvme","device":"0000:01:00.0","namespace":1}})",
     "pci 0000:01:00.0"},
    {"-blockdev", "nvme,device=0000:01:00.0,namespace=1,node-name=a", "pci 0000:01:00.0"},
    {"-drive", "file=/run/storctl/block/a,device=0000:01:00.0", ""},
};

std::string told(const HostDevices& host) {
    std::string out;
    for (const auto& device : host.devices) {
        out += fmt::format("{}{} {}{}", out.empty() ? "" : ", ", to_text(device.bus), device.what,
                           device.startup == StartupPolicy::optional ? " optional" : "");
    }
    return out;
}

}  // namespace

TEST_CASE("arguments for QEMU that take a device of the host") {
    for (const auto& row : rows) {
        CAPTURE(row.option);
        CAPTURE(row.text);
        HostDevices host;
        read_qemu_arguments({row.option, row.text}, host);
        const std::string_view expected = row.expected;
        if (expected.starts_with('?')) {
            CHECK(host.devices.empty());
            REQUIRE(host.unclear.size() == 1);
            CHECK(host.unclear[0].starts_with("qemu:arg 2: "));
            CHECK(host.unclear[0].find(expected.substr(1)) != std::string::npos);
        } else {
            CHECK(told(host) == expected);
            CHECK(host.unclear.empty());
        }
    }
}

TEST_CASE("an option at the end of the command line has no value") {
    HostDevices host;
    read_qemu_arguments({"-device"}, host);
    read_qemu_arguments({}, host);
    CHECK((host.devices.empty() && host.unclear.empty()));
}

TEST_CASE("QEMU's quoting of commas") {
    CHECK(parse_key_values("a,,b,c=d,,e,,,f,g", "x") == Options{{"x", "a,b"}, {"c", "d,e,"}, {"f", "on"}, {"g", "on"}});
    CHECK(parse_key_values("a=b,a=c", "x") == Options{{"a", "c"}});
    CHECK(parse_key_values("", "x").empty());
    CHECK(parse_json_options(R"({"a":{"b":1},"c":"d,e","f":true,"g":[1],"h":null})") ==
          Options{{"a.b", "1"}, {"c", "d,e"}, {"f", "true"}, {"h", "null"}});
    CHECK_FALSE(parse_json_options("[1]").has_value());
    CHECK_FALSE(parse_json_options("{\"a\":\"\xff\"}").has_value());
}
