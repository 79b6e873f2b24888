#include <cstring>

#include <fmt/format.h>

#include "tests/lab/usbfs_client/cases.hpp"
#include "tests/lab/usbfs_client/raw_disk.hpp"
#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

constexpr unsigned no_such_interface = 9;

long detach_and_claim(const RawNode& node, unsigned interface, unsigned flags, const char* driver) {
    usbdevfs_disconnect_claim call{.interface = interface, .flags = flags};
    std::strncpy(call.driver, driver, sizeof call.driver - 1);
    return node.call(USBDEVFS_DISCONNECT_CLAIM, &call);
}

void drivers(const RawNode& node) {
    report("driver.before", node.driver(0));
    report("driver.nowhere", node.driver(no_such_interface));
    report("detach", outcome(node.detach(0)));
    report("driver.detached", node.driver(0));
    report("detach.again", outcome(node.detach(0)));
    report("detach.nowhere", outcome(node.detach(no_such_interface)));
    usbdevfs_ioctl of_driver{.ifno = 0, .ioctl_code = _IO('U', 99), .data = nullptr};
    report("driver.ioctl", outcome(node.call(USBDEVFS_IOCTL, &of_driver)));
    report("driver.bad_pointer", outcome(node.call(USBDEVFS_GETDRIVER, untouchable_page())));
}

void claims(const std::string& path, const RawNode& node) {
    report("claim", outcome(node.claim(0)));
    report("claim.again", outcome(node.claim(0)));
    report("claim.driver", node.driver(0));
    report("claim.nowhere", outcome(node.claim(no_such_interface)));
    {
        const RawNode other(path);
        report("claim.other_open", outcome(other.claim(0)));
        report("release.other_open", outcome(other.release(0)));
        report("detach.other_open",
               outcome(detach_and_claim(other, 0, USBDEVFS_DISCONNECT_CLAIM_EXCEPT_DRIVER, "usbfs")));
    }
    int configuration = 1;
    report("configuration.claimed", outcome(node.call(USBDEVFS_SETCONFIGURATION, &configuration)));
    report("release", outcome(node.release(0)));
    report("release.again", outcome(node.release(0)));
    report("release.nowhere", outcome(node.release(no_such_interface)));
    report("claim.bad_pointer", outcome(node.call(USBDEVFS_CLAIMINTERFACE, untouchable_page())));
    report("claim.with_detach", outcome(detach_and_claim(node, 0, 0, "")));
    report("claim.with_detach.nowhere", outcome(detach_and_claim(node, no_such_interface, 0, "")));
    report("release.with_detach", outcome(node.release(0)));
}

void settings(const RawNode& node) {
    int configuration = 1;
    report("configuration", outcome(node.call(USBDEVFS_SETCONFIGURATION, &configuration)));
    configuration = 77;
    report("configuration.unknown", outcome(node.call(USBDEVFS_SETCONFIGURATION, &configuration)));
    node.detach(0);  // a configuration that is set brings the host's drivers back
    if (const long result = node.claim(0); result != 0) give_up("claim", result);
    usbdevfs_setinterface setting{.interface = 0, .altsetting = 0};
    report("setting", outcome(node.call(USBDEVFS_SETINTERFACE, &setting)));
    setting.altsetting = 5;
    report("setting.unknown", outcome(node.call(USBDEVFS_SETINTERFACE, &setting)));
    setting = {.interface = no_such_interface, .altsetting = 0};
    report("setting.nowhere", outcome(node.call(USBDEVFS_SETINTERFACE, &setting)));
}

void endpoints(RawDisk& disk) {
    const RawNode& node = disk.node();
    unsigned endpoint = disk.in();
    report("clear_halt", outcome(node.call(USBDEVFS_CLEAR_HALT, &endpoint)));
    report("reset_endpoint", outcome(node.call(USBDEVFS_RESETEP, &endpoint)));
    endpoint = 0x8e;
    report("clear_halt.nowhere", outcome(node.call(USBDEVFS_CLEAR_HALT, &endpoint)));
    report("reset_endpoint.nowhere", outcome(node.call(USBDEVFS_RESETEP, &endpoint)));

    std::vector<std::byte> storage(sizeof(usbdevfs_streams) + 2);
    auto* const streams = reinterpret_cast<usbdevfs_streams*>(storage.data());
    streams->num_streams = 2;
    streams->num_eps = 2;
    streams->eps[0] = disk.in();
    streams->eps[1] = disk.out();
    report("streams.alloc", outcome(node.call(USBDEVFS_ALLOC_STREAMS, streams)));
    report("streams.free", outcome(node.call(USBDEVFS_FREE_STREAMS, streams)));
    streams->num_eps = 31;
    report("streams.too_many_endpoints", outcome(node.call(USBDEVFS_ALLOC_STREAMS, streams)));
    streams->num_eps = 1;
    streams->eps[0] = 0x8e;
    report("streams.nowhere", outcome(node.call(USBDEVFS_ALLOC_STREAMS, streams)));
    report("reset", outcome(node.call(USBDEVFS_RESET, nullptr)));
    report("reset.driver", node.driver(0));
    disk.claim();
    report("reset.inquiry", disk.inquire());
}

}  // namespace

void claim_cases(const std::string& path) {
    {
        const RawNode node(path);
        drivers(node);
        claims(path, node);
        settings(node);
    }
    report("close.claims", RawNode(path).driver(0));
    RawDisk disk(path);
    endpoints(disk);
}

}  // namespace storctl::usbfs_client
