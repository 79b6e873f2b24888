// What a policy lets through, answers itself and stalls.

#include <doctest/doctest.h>

#include "daemon/node/usbfs/denial_log.hpp"
#include "daemon/node/usbfs/policy.hpp"
#include "tests/unit/usbfs_devices.hpp"

using namespace storctl::node::usbfs;
using namespace storctl::test;

namespace {

using Kind = ControlVerdict::Kind;
using Set = std::set<uint8_t>;

const std::set<Denial> nothing;

struct Row {
    const char* name;
    Setup setup;
    Kind kind;
};

void check_rows(const Filter& filter, std::span<const Row> rows) {
    for (const auto& row : rows) {
        CAPTURE(row.name);
        const auto verdict = filter.control(row.setup);
        CHECK(verdict.kind == row.kind);
        CHECK(verdict.reason.empty() == (row.kind != Kind::stall));
        if (row.kind != Kind::answer) CHECK(verdict.data.empty());
    }
}

}  // namespace

TEST_CASE("a setup packet in the wire's order") {
    const auto setup = Setup::parse({0x81, 0x06, 0x02, 0x22, 0x04, 0x03, 0x40, 0x01});
    CHECK(setup.request_type == 0x81);
    CHECK(setup.request == 6);
    CHECK(setup.value == 0x2202);
    CHECK(setup.index == 0x0304);
    CHECK(setup.length == 0x0140);
    CHECK(setup.to_host());
    CHECK_FALSE(Setup{.request_type = 0x21}.to_host());
}

TEST_CASE("without a policy everything goes to the device") {
    const Filter filter({.deny = nothing}, headset());
    CHECK(filter.shown() == headset());
    const Row rows[] = {
        {"GET_DESCRIPTOR(configuration)", {0x80, 6, 0x0200, 0, 255}, Kind::allow},
        {"GET_DESCRIPTOR(other speed)", {0x80, 6, 0x0700, 0, 255}, Kind::allow},
        {"SET_CONFIGURATION", {0x00, 9, 2, 0, 0}, Kind::allow},
        {"SET_INTERFACE", {0x01, 11, 1, 1, 0}, Kind::allow},
        {"SET_ADDRESS", {0x00, 5, 9, 0, 0}, Kind::allow},
        {"DFU_DNLOAD", {0x21, 1, 0, 3, 64}, Kind::allow},
        {"vendor", {0x40, 1, 2, 3, 4}, Kind::allow},
        {"an interface that does not exist", {0x21, 9, 0, 77, 1}, Kind::allow},
        {"an endpoint that does not exist", {0x02, 1, 0, 0x8f, 0}, Kind::allow},
    };
    check_rows(filter, rows);
    for (int number = 0; number < 256; ++number) CHECK(filter.interface_allowed(static_cast<uint8_t>(number)));
    for (int address = 0; address < 256; ++address) CHECK(filter.endpoint_allowed(static_cast<uint8_t>(address)));
}

TEST_CASE("requests to hidden interfaces and their endpoints stall") {
    const Filter filter({.interfaces = Set{0, 2}, .deny = nothing}, headset());
    const Row rows[] = {
        {"GET_STATUS of the device", {0x80, 0, 0, 0, 2}, Kind::allow},
        {"GET_STATUS of a shown interface", {0x81, 0, 0, 2, 2}, Kind::allow},
        {"GET_STATUS of a hidden interface", {0x81, 0, 0, 1, 2}, Kind::stall},
        {"GET_STATUS of a shown endpoint", {0x82, 0, 0, 0x83, 2}, Kind::allow},
        {"GET_STATUS of a hidden endpoint", {0x82, 0, 0, 0x01, 2}, Kind::stall},
        {"GET_STATUS of endpoint 0", {0x82, 0, 0, 0, 2}, Kind::allow},
        {"GET_STATUS of endpoint 0 in", {0x82, 0, 0, 0x80, 2}, Kind::allow},
        {"CLEAR_FEATURE(halt) of a shown endpoint", {0x02, 1, 0, 0x83, 0}, Kind::allow},
        {"CLEAR_FEATURE(halt) of a hidden endpoint", {0x02, 1, 0, 0x01, 0}, Kind::stall},
        {"of a hidden endpoint in the wrong direction, which the kernel corrects", {0x02, 1, 0, 0x81, 0}, Kind::stall},
        {"of a hidden endpoint with reserved bits", {0x02, 1, 0, 0x71, 0}, Kind::stall},
        {"of a hidden endpoint with a high byte", {0x02, 1, 0, 0x0101, 0}, Kind::stall},
        {"of an endpoint that nobody has", {0x02, 1, 0, 0x85, 0}, Kind::allow},
        {"SET_FEATURE(halt) of a hidden endpoint", {0x02, 3, 0, 0x01, 0}, Kind::stall},
        {"SYNCH_FRAME of a hidden endpoint", {0x82, 12, 0, 0x01, 2}, Kind::stall},
        {"SET_INTERFACE of a shown interface", {0x01, 11, 0, 2, 0}, Kind::allow},
        {"SET_INTERFACE of a hidden interface", {0x01, 11, 1, 1, 0}, Kind::stall},
        {"GET_INTERFACE of a hidden interface", {0x81, 10, 0, 1, 1}, Kind::stall},
        {"SET_INTERFACE of an interface that does not exist", {0x01, 11, 0, 9, 0}, Kind::stall},
        {"function suspend of a shown interface, options in the high byte", {0x01, 3, 0, 0x0302, 0}, Kind::allow},
        {"function suspend of a hidden interface", {0x01, 3, 0, 0x0301, 0}, Kind::stall},
        {"SET_CUR of the shown control's unit 5", {0x21, 1, 0x0100, 0x0500, 2}, Kind::allow},
        {"SET_CUR of a hidden interface's unit", {0x21, 1, 0x0100, 0x0501, 2}, Kind::stall},
        {"sampling rate of a hidden endpoint", {0x22, 1, 0x0100, 0x0001, 3}, Kind::stall},
        {"SET_REPORT of a shown interface", {0x21, 9, 0x0200, 2, 8}, Kind::allow},
        {"class request to the device", {0x20, 0, 0, 1, 8}, Kind::allow},
        {"class request to another recipient", {0x23, 0, 0, 1, 8}, Kind::allow},
        {"a reserved recipient whose low bits say interface", {0x25, 0, 0, 1, 8}, Kind::stall},
        {"a reserved type to a hidden interface", {0x61, 0, 0, 1, 8}, Kind::stall},
        {"HID report descriptor of a shown interface", {0x81, 6, 0x2200, 2, 255}, Kind::allow},
        {"HID report descriptor of a hidden interface", {0x81, 6, 0x2200, 3, 255}, Kind::stall},
        {"vendor request to a shown interface", {0x41, 1, 0, 2, 0}, Kind::allow},
        {"vendor request to a hidden interface", {0x41, 1, 0, 3, 0}, Kind::stall},
        {"vendor request whose index is no interface's", {0xc1, 1, 0, 5, 40}, Kind::allow},
        {"vendor request to a hidden endpoint", {0x42, 1, 0, 0x01, 0}, Kind::stall},
        {"vendor request to the device", {0x40, 1, 0, 3, 0}, Kind::allow},
    };
    check_rows(filter, rows);
    CHECK(filter.interface_allowed(0));
    CHECK_FALSE(filter.interface_allowed(1));
    CHECK(filter.endpoint_allowed(0x83));
    CHECK_FALSE(filter.endpoint_allowed(0x01));
    CHECK(filter.endpoint_allowed(0x81));  // nobody's
    CHECK(filter.endpoint_allowed(0x00));
    CHECK(filter.endpoint_allowed(0x80));
}

TEST_CASE("what acts on the whole device stalls while interfaces are hidden") {
    const Filter filter({.interfaces = Set{2}, .deny = nothing}, headset());
    const Row rows[] = {
        {"SET_ADDRESS", {0x00, 5, 9, 0, 0}, Kind::stall},
        {"SET_DESCRIPTOR", {0x00, 7, 0x0200, 0, 9}, Kind::stall},
        {"SET_CONFIGURATION to another", {0x00, 9, 2, 0, 0}, Kind::stall},
        {"SET_CONFIGURATION to the same", {0x00, 9, 1, 0, 0}, Kind::stall},
        {"SET_CONFIGURATION in the wrong direction", {0x80, 9, 2, 0, 0}, Kind::stall},
        {"SET_CONFIGURATION to a shown interface", {0x01, 9, 2, 2, 0}, Kind::stall},
        {"GET_CONFIGURATION", {0x80, 8, 0, 0, 1}, Kind::allow},
        {"SET_FEATURE(test mode)", {0x00, 3, 2, 0x0400, 0}, Kind::stall},
        {"SET_FEATURE(remote wakeup)", {0x00, 3, 1, 0, 0}, Kind::allow},
        {"CLEAR_FEATURE(remote wakeup)", {0x00, 1, 1, 0, 0}, Kind::allow},
        {"GET_DESCRIPTOR(device)", {0x80, 6, 0x0100, 0, 18}, Kind::allow},
        {"GET_DESCRIPTOR(string)", {0x80, 6, 0x0302, 0x0409, 255}, Kind::allow},
        {"GET_DESCRIPTOR(device qualifier)", {0x80, 6, 0x0600, 0, 10}, Kind::allow},
        {"GET_DESCRIPTOR(BOS)", {0x80, 6, 0x0f00, 0, 5}, Kind::allow},
        {"GET_DESCRIPTOR(other speed)", {0x80, 6, 0x0700, 0, 255}, Kind::stall},
    };
    check_rows(filter, rows);
}

TEST_CASE("hiding interfaces denies other configurations, where their numbers mean others") {
    const Filter hiding({.interfaces = Set{0, 1, 2, 3}, .deny = nothing}, headset());
    CHECK(hiding.denies(Denial::configuration));
    CHECK_FALSE(hiding.denies(Denial::reset));
    CHECK_FALSE(hiding.denies(Denial::firmware));
    CHECK_FALSE(hiding.denies(Denial::vendor));
    CHECK(hiding.policy().deny.empty());
    CHECK_FALSE(Filter({.deny = nothing}, headset()).denies(Denial::configuration));
}

TEST_CASE("the configuration's descriptor is answered from what is shown") {
    const auto second = usb_configuration(2, 1, headset_dfu());
    const Filter filter({.interfaces = Set{2}, .deny = nothing}, headset() + second);
    const auto shown = usb_configuration(1, 1, headset_hid());
    CHECK(filter.shown() == usb_device() + shown + usb_configuration(2, 0, {}));
    struct Question {
        const char* name;
        Setup setup;
        Bytes data;
    };
    const Question questions[] = {
        {"the head alone", {0x80, 6, 0x0200, 0, 9}, Bytes(shown.begin(), shown.begin() + 9)},
        {"all of it", {0x80, 6, 0x0200, 0, static_cast<uint16_t>(shown.size())}, shown},
        {"more than there is", {0x80, 6, 0x0200, 0, 0xffff}, shown},
        {"nothing", {0x80, 6, 0x0200, 0, 0}, {}},
        {"the second", {0x80, 6, 0x0201, 0, 255}, usb_configuration(2, 0, {})},
        {"as if an interface had it", {0x81, 6, 0x0200, 2, 255}, shown},
    };
    for (const auto& question : questions) {
        CAPTURE(question.name);
        const auto verdict = filter.control(question.setup);
        CHECK(verdict.kind == Kind::answer);
        CHECK(verdict.data == question.data);
    }
    CHECK(filter.control({0x80, 6, 0x0202, 0, 255}).kind == Kind::stall);
    CHECK(filter.control({0x81, 6, 0x0200, 3, 255}).kind == Kind::stall);
    // also before a configuration is chosen
    CHECK(filter.control({0x80, 6, 0x0200, 0, 255}).data == shown);
    // nothing comes back from it
    CHECK(filter.control({0x00, 6, 0x0200, 0, 0}).kind == Kind::allow);
}

TEST_CASE("configurations are denied") {
    const Filter filter({.deny = {Denial::configuration}}, headset());
    const Row rows[] = {
        {"the active one, as far as the caller knows", {0x00, 9, 1, 0, 0}, Kind::stall},
        {"another", {0x00, 9, 2, 0, 0}, Kind::stall},
        {"none", {0x00, 9, 0, 0, 0}, Kind::stall},
        {"another, in the wrong direction", {0x80, 9, 2, 0, 0}, Kind::stall},
        {"a class request of that number", {0x21, 9, 2, 0, 0}, Kind::allow},
        {"SET_INTERFACE", {0x01, 11, 1, 1, 0}, Kind::allow},
        {"SET_ADDRESS", {0x00, 5, 9, 0, 0}, Kind::allow},
    };
    check_rows(filter, rows);
    CHECK(filter.denies(Denial::configuration));
    CHECK_FALSE(filter.denies(Denial::reset));
    CHECK(filter.control({0x00, 9, 0, 0, 0}).kind == Kind::stall);
    CHECK(filter.control({0x00, 9, 2, 0, 0}).reason ==
          "control request 00 09, value 0002, index 0000, length 0: changing the configuration is denied");
}

TEST_CASE("firmware is denied by default") {
    const Filter filter({}, headset());
    const Row rows[] = {
        {"DFU_DETACH", {0x21, 0, 1000, 3, 0}, Kind::stall},
        {"DFU_DNLOAD", {0x21, 1, 0, 3, 64}, Kind::stall},
        {"DFU_UPLOAD", {0xa1, 2, 0, 3, 64}, Kind::stall},
        {"DFU_GETSTATUS", {0xa1, 3, 0, 3, 6}, Kind::stall},
        {"DFU_DNLOAD with a high byte", {0x21, 1, 0, 0x0103, 64}, Kind::stall},
        {"SET_INTERFACE of it", {0x01, 11, 0, 3, 0}, Kind::allow},
        {"its descriptor", {0x81, 6, 0x2100, 3, 9}, Kind::allow},
        {"the same numbers to another interface", {0x21, 1, 0, 2, 64}, Kind::allow},
        {"DFU_DETACH, to the device", {0x20, 0, 1000, 3, 0}, Kind::stall},
        {"DFU_DNLOAD, to the device", {0x20, 1, 0, 3, 64}, Kind::stall},
        {"DFU_DNLOAD, to another recipient", {0x23, 1, 0, 3, 64}, Kind::stall},
        {"DFU_DNLOAD, to a reserved recipient", {0x24, 1, 0, 3, 64}, Kind::stall},
        {"DFU_DNLOAD, to a reserved recipient whose low bits say endpoint", {0x26, 1, 0, 3, 64}, Kind::stall},
        {"DFU_DNLOAD, of the reserved type", {0x61, 1, 0, 3, 64}, Kind::stall},
        {"DFU_DNLOAD, of the reserved type to the device", {0x60, 1, 0, 3, 64}, Kind::stall},
        {"DFU_ABORT, to the device", {0x20, 6, 0, 3, 0}, Kind::stall},
        {"DFU_DETACH in the wrong direction, which is a printer's GET_DEVICE_ID", {0xa1, 0, 0, 3, 64}, Kind::stall},
        {"a class request to the device whose number is none of DFU's", {0x20, 7, 0, 3, 0}, Kind::allow},
        {"a request to it whose number is none of DFU's", {0x21, 7, 0, 3, 0}, Kind::stall},
        {"an HCI command of Bluetooth, a class request to the device with index 0", {0x20, 0, 0, 0, 3}, Kind::allow},
        {"the sampling rate of the endpoint of that number", {0x22, 1, 0x0100, 3, 3}, Kind::allow},
        {"a vendor request to it", {0x41, 1, 0, 3, 0}, Kind::allow},
    };
    check_rows(filter, rows);
    CHECK(filter.control({0x21, 1, 0, 3, 64}).reason ==
          "control request 21 01, value 0000, index 0003, length 64: interface 3 is for firmware upgrades, which are "
          "denied");
    CHECK(filter.shown() == headset());
}

TEST_CASE("firmware in a later setting only") {
    const auto body = usb_interface(0, 0, 0, 3) + usb_interface(0, 1, 0, 0xfe, 1, 2);
    const Filter filter({}, usb_device() + usb_configuration(1, 1, body));
    CHECK(filter.control({0x21, 1, 0, 0, 64}).kind == Kind::stall);
    // which DFU_DETACH cannot be told from
    CHECK(filter.control({0x20, 0, 0, 0, 3}).kind == Kind::stall);
}

TEST_CASE("a hidden interface for firmware gets no request of its class by way of the device") {
    const Filter hidden({.interfaces = Set{2}, .deny = nothing}, headset());
    const Filter shown({.interfaces = Set{3}, .deny = nothing}, headset());
    for (const uint8_t type : {0x20, 0x23, 0x60, 0x61}) {
        CAPTURE(type);
        CHECK(hidden.control({type, 1, 0, 3, 64}).kind == Kind::stall);
        CHECK(shown.control({type, 1, 0, 3, 64}).kind == Kind::allow);
    }
}

TEST_CASE("standard requests to hidden parts stall whatever they are said to be for") {
    const auto body = usb_interface(0, 0, 2) + usb_endpoint(0x81) + usb_endpoint(0x01) + usb_interface(1, 0, 2) +
                      usb_endpoint(0x82) + usb_endpoint(0x05);
    const auto descriptors = usb_device() + usb_configuration(1, 2, body);
    const Filter filter({.interfaces = Set{0}, .deny = nothing}, descriptors);
    const Row rows[] = {
        {"SET_INTERFACE of a hidden interface, to the device", {0x00, 11, 1, 1, 0}, Kind::stall},
        {"SET_INTERFACE of a hidden interface, to an endpoint", {0x02, 11, 1, 1, 0}, Kind::stall},
        {"SET_INTERFACE of a hidden interface, to another", {0x03, 11, 1, 1, 0}, Kind::stall},
        {"SET_INTERFACE of a shown interface, to the device", {0x00, 11, 1, 0, 0}, Kind::allow},
        {"GET_INTERFACE of a hidden interface, from the device", {0x80, 10, 0, 1, 1}, Kind::stall},
        {"GET_INTERFACE of a hidden interface, from an endpoint", {0x82, 10, 0, 1, 1}, Kind::stall},
        {"CLEAR_FEATURE(halt) of a hidden endpoint, to the device", {0x00, 1, 0, 0x82, 0}, Kind::stall},
        {"CLEAR_FEATURE(halt) of a hidden endpoint, to another", {0x03, 1, 0, 0x05, 0}, Kind::stall},
        {"CLEAR_FEATURE(halt) of a hidden endpoint, to a reserved recipient", {0x06, 1, 0, 0x05, 0}, Kind::stall},
        {"CLEAR_FEATURE(halt) of a shown endpoint, to the device", {0x00, 1, 0, 0x81, 0}, Kind::allow},
        {"CLEAR_FEATURE(halt) of a shown endpoint with a hidden interface's number", {0x02, 1, 0, 1, 0}, Kind::allow},
        {"SET_FEATURE(halt) of a hidden endpoint, to the device", {0x00, 3, 0, 0x82, 0}, Kind::stall},
        {"function suspend of a hidden interface, to the device", {0x00, 3, 0, 0x0301, 0}, Kind::stall},
        {"function suspend of a shown interface", {0x01, 3, 0, 0x0300, 0}, Kind::allow},
        {"test mode, to an interface", {0x01, 3, 2, 0x0400, 0}, Kind::stall},
        {"test mode, to another", {0x03, 3, 2, 0x0400, 0}, Kind::stall},
        {"test mode with a high byte", {0x00, 3, 0x0102, 0x0400, 0}, Kind::stall},
        {"remote wakeup", {0x00, 3, 1, 0, 0}, Kind::allow},
        {"U1, of USB 3", {0x00, 3, 48, 0, 0}, Kind::allow},
    };
    check_rows(filter, rows);
    const Filter second({.interfaces = Set{1}, .deny = nothing}, descriptors);
    CHECK(second.control({0x00, 3, 1, 0, 0}).kind == Kind::allow);       // remote wakeup is the device's
    CHECK(second.control({0x00, 3, 0, 0x0300, 0}).kind == Kind::stall);  // function suspend of interface 0 is not
}

TEST_CASE("an interface for firmware in one configuration is so in all") {
    const auto descriptors = usb_device(2) + usb_configuration(1, 1, usb_interface(0, 0, 0, 3)) +
                             usb_configuration(2, 2, usb_interface(0, 0, 0, 3) + usb_interface(1, 0, 0, 0xfe, 1, 2));
    const Filter filter({}, descriptors);
    const Row rows[] = {
        {"DFU_DNLOAD", {0x21, 1, 0, 1, 64}, Kind::stall},
        {"the same numbers to an interface that is never for firmware", {0x21, 1, 0, 0, 64}, Kind::allow},
    };
    check_rows(filter, rows);
    // the second configuration could not be read
    const Bytes cut(descriptors.begin(), descriptors.end() - 1);
    CHECK(Filter({}, cut).control({0x21, 1, 0, 1, 64}).kind == Kind::stall);
    CHECK(Filter({.deny = nothing}, cut).control({0x21, 1, 0, 1, 64}).kind == Kind::allow);
}

TEST_CASE("vendor requests are denied") {
    const Filter filter({.deny = {Denial::vendor}}, headset());
    const Row rows[] = {
        {"to the device", {0x40, 1, 0, 0, 0}, Kind::stall},   {"from the device", {0xc0, 1, 0, 0, 4}, Kind::stall},
        {"to an interface", {0x41, 1, 0, 2, 0}, Kind::stall}, {"to an endpoint", {0x42, 1, 0, 0x83, 0}, Kind::stall},
        {"to another", {0x43, 1, 0, 0, 0}, Kind::stall},      {"of the reserved type", {0x61, 1, 0, 2, 0}, Kind::stall},
        {"a class request", {0x21, 1, 0, 2, 0}, Kind::allow}, {"a standard request", {0x80, 0, 0, 0, 2}, Kind::allow},
    };
    check_rows(filter, rows);
}

TEST_CASE("a printer's GET_DEVICE_ID has its interface in the high byte") {
    const auto body = usb_interface(0, 0, 1, 0xff) + usb_endpoint(0x81) + usb_interface(1, 0, 1, 7, 1, 2) +
                      usb_endpoint(0x02) + usb_interface(1, 1, 1, 7, 1, 4) + usb_endpoint(0x03);
    const auto descriptors = usb_device() + usb_configuration(1, 2, body);
    const Filter printer({.interfaces = Set{1}, .deny = nothing}, descriptors);
    const Row rows[] = {
        {"setting 0", {0xa1, 0, 0, 0x0100, 255}, Kind::allow},
        {"setting 1", {0xa1, 0, 0, 0x0101, 255}, Kind::allow},
        {"a setting that it does not have, so the low byte counts", {0xa1, 0, 0, 0x0102, 255}, Kind::stall},
        {"of no printer, so the low byte counts", {0xa1, 0, 0, 0x0001, 255}, Kind::allow},
        {"of the hidden one", {0xa1, 0, 0, 0x0000, 255}, Kind::stall},
        {"GET_PORT_STATUS has it in the low byte", {0xa1, 1, 0, 0x0100, 1}, Kind::stall},
    };
    check_rows(printer, rows);
    const Filter scanner({.interfaces = Set{0}, .deny = nothing}, descriptors);
    CHECK(scanner.control({0xa1, 0, 0, 0x0100, 255}).kind == Kind::stall);
}

TEST_CASE("a printer's setting is not taken for an interface for firmware of that number") {
    const auto firmware = usb_interface(0, 0, 0, 0xfe, 1, 1);
    const auto printing = firmware + usb_interface(1, 0, 0, 7, 1, 2) + usb_interface(1, 1, 0, 7, 1, 4);
    const auto descriptors = usb_device() + usb_configuration(1, 2, printing);
    const Row rows[] = {
        {"GET_DEVICE_ID of setting 0", {0xa1, 0, 0, 0x0100, 255}, Kind::allow},
        {"GET_DEVICE_ID of setting 1", {0xa1, 0, 0, 0x0101, 255}, Kind::allow},
        {"the same to the interface for firmware itself", {0xa1, 0, 0, 0x0000, 255}, Kind::stall},
        {"the same to an interface that there is not", {0xa1, 0, 0, 0x0200, 255}, Kind::stall},
        {"DFU_DETACH with the printer in the high byte", {0x21, 0, 0, 0x0100, 0}, Kind::stall},
        {"the printer's next request, whose low byte the kernel takes", {0xa1, 1, 0, 0x0100, 1}, Kind::stall},
        {"to the device", {0xa0, 0, 0, 0x0100, 255}, Kind::stall},
        {"of the reserved type", {0xe1, 0, 0, 0x0100, 255}, Kind::stall},
    };
    check_rows(Filter({}, descriptors), rows);
    const Filter shown({.interfaces = Set{1}, .deny = nothing}, descriptors);
    CHECK(shown.control({0xa1, 0, 0, 0x0100, 255}).kind == Kind::allow);
    CHECK(shown.control({0xa1, 0, 0, 0x0000, 255}).kind == Kind::stall);
    // in another configuration the kernel takes the low byte for the interface
    const auto two = usb_device(2) + usb_configuration(1, 2, printing) + usb_configuration(2, 1, firmware);
    CHECK(Filter({}, two).control({0xa1, 0, 0, 0x0100, 255}).kind == Kind::stall);
    // the second configuration could not be read
    const Bytes cut(two.begin(), two.end() - 1);
    CHECK(Filter({}, cut).control({0xa1, 0, 0, 0x0100, 255}).kind == Kind::stall);
}

TEST_CASE("an address that a shown and a hidden interface have is hidden") {
    const auto body = usb_interface(0, 0, 1) + usb_endpoint(0x81) + usb_interface(1, 0, 1) + usb_endpoint(0x81);
    const Filter filter({.interfaces = Set{1}, .deny = nothing}, usb_device() + usb_configuration(1, 2, body));
    CHECK_FALSE(filter.endpoint_allowed(0x81));
}

TEST_CASE("a shown endpoint whose other direction is hidden may be used") {
    const auto body = usb_interface(0, 0, 1) + usb_endpoint(0x81) + usb_interface(1, 0, 1) + usb_endpoint(0x01);
    const Filter filter({.interfaces = Set{1}, .deny = nothing}, usb_device() + usb_configuration(1, 2, body));
    CHECK(filter.control({0x02, 1, 0, 0x01, 0}).kind == Kind::allow);
    CHECK(filter.control({0x02, 1, 0, 0x81, 0}).kind == Kind::stall);
}

TEST_CASE("what one configuration hides is hidden in all") {
    const auto descriptors = usb_device(2) +
                             usb_configuration(1, 2,
                                               usb_interface(0, 0, 2) + usb_endpoint(0x81) + usb_endpoint(0x82) +
                                                   usb_endpoint(0x03) + usb_interface(1, 0, 0)) +
                             usb_configuration(2, 2,
                                               usb_interface(1, 0, 2) + usb_endpoint(0x81) + usb_endpoint(0x83) +
                                                   usb_interface(0, 0, 0) + usb_interface(5, 0, 0));
    const Filter filter({.interfaces = Set{0}, .deny = nothing}, descriptors);
    const Row rows[] = {
        {"an endpoint that is hidden in the second", {0x02, 1, 0, 0x81, 0}, Kind::stall},
        {"an endpoint that is shown in the first, and in the second nobody's", {0x02, 1, 0, 0x82, 0}, Kind::allow},
        {"shown in the first; the kernel would take the second's hidden one", {0x02, 1, 0, 0x03, 0}, Kind::stall},
        {"a vendor request to an interface of the second", {0x41, 1, 0, 5, 0}, Kind::stall},
        {"a vendor request to an interface of none", {0x41, 1, 0, 6, 0}, Kind::allow},
    };
    check_rows(filter, rows);
    CHECK_FALSE(filter.endpoint_allowed(0x81));
    CHECK(filter.endpoint_allowed(0x82));
    CHECK(filter.endpoint_allowed(0x03));
    CHECK_FALSE(filter.endpoint_allowed(0x83));
    // the second configuration could not be read
    const Filter partly({.interfaces = Set{0}, .deny = nothing}, Bytes(descriptors.begin(), descriptors.end() - 1));
    CHECK_FALSE(partly.endpoint_allowed(0x82));
    CHECK(partly.endpoint_allowed(0x80));
    CHECK(partly.control({0x02, 1, 0, 0x82, 0}).kind == Kind::stall);
    CHECK(partly.control({0x41, 1, 0, 6, 0}).kind == Kind::stall);
}

TEST_CASE("a printer of one configuration only") {
    const auto descriptors = usb_device(2) + usb_configuration(1, 1, usb_interface(1, 0, 0, 7, 1, 2)) +
                             usb_configuration(2, 1, usb_interface(0, 0, 0, 0xff));
    const Filter filter({.interfaces = Set{1}, .deny = nothing}, descriptors);
    CHECK(filter.control({0xa1, 0, 0, 0x0100, 255}).kind == Kind::stall);
    const Filter both({.interfaces = Set{0, 1}, .deny = nothing}, descriptors);
    CHECK(both.control({0xa1, 0, 0, 0x0100, 255}).kind == Kind::allow);
}

TEST_CASE("each denial is logged once, and the end of logging too") {
    DenialLog log;
    for (size_t i = 0; i < DenialLog::most_told; ++i) {
        const auto what = std::to_string(i);
        CHECK(log.note(what) == what);
        CHECK(log.note(what).empty());
    }
    CHECK(log.note("one more") == "more than 256 different requests; further ones are not logged");
    CHECK(log.note("another").empty());
    CHECK(log.note("one more").empty());
    CHECK(log.note("7").empty());
}

TEST_CASE("descriptors that cannot be read hide everything that could be hidden") {
    const Filter filter({.interfaces = Set{0}}, {});
    CHECK(filter.shown().empty());
    CHECK(filter.interface_allowed(0));
    CHECK_FALSE(filter.interface_allowed(1));
    CHECK_FALSE(filter.endpoint_allowed(0x81));
    CHECK(filter.control({0x80, 6, 0x0200, 0, 255}).kind == Kind::stall);
    CHECK(filter.control({0x82, 0, 0, 0x81, 2}).kind == Kind::stall);
    CHECK(filter.control({0x80, 6, 0x0100, 0, 18}).kind == Kind::allow);
}
