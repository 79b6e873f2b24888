// Prints what USB discovery and the use scanner say on this machine (or under umockdev-run), one JSON object per line:
//
//   usb_dump            {"controllers": …, "devices": …, "uses": …}
//   usb_dump --follow   the same, then one line per event as it comes; "u" on standard input asks for the uses, "r" for
//   all
//   usb_dump --strings NODE VENDOR PRODUCT     {"vendor": …, "product": …}: asked of the device itself

#include <cstdlib>
#include <iostream>
#include <string_view>

#include <fmt/format.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "daemon/usb_discovery.hpp"
#include "daemon/use_scan.hpp"
#include "usbarb/usb_strings.hpp"

namespace {

using namespace storctl;
using nlohmann::json;

json to_json(const usbarb::DeviceFacts& facts) {
    json interfaces = json::array();
    for (const auto& one : facts.interfaces) interfaces.push_back({one.number, one.device_class, one.driver});
    return {{"socket", to_text(facts.socket)},
            {"half", to_text(facts.half)},
            {"kernel_name", facts.kernel_name},
            {"devnode", facts.devnode()},
            {"description", facts.description()},
            {"serial", facts.identity.serial},
            {"hub", facts.hub},
            {"ports", facts.ports},
            {"configured", facts.configured},
            {"interfaces", interfaces}};
}

json to_json(const usbarb::ControllerFacts& facts) {
    json group = json::array(), companions = json::array();
    for (const auto& one : facts.group) group.push_back({one.path, one.driver, one.bridge});
    for (const auto& one : facts.companions) companions.push_back({one.path, one.driver});
    return {{"path", facts.path},
            {"kind", to_text(facts.kind)},
            {"description", facts.description()},
            {"driver", facts.driver},
            {"iommu_group", facts.iommu_group ? json(*facts.iommu_group) : json()},
            {"group", group},
            {"companions", companions},
            {"buses", facts.buses}};
}

struct EventToJson {
    json operator()(const UsbPlugged& plug) const {
        return {{"event", "plug"}, {"device", to_json(plug.device)}, {"settled", plug.settled}, {"first", plug.first}};
    }
    json operator()(const UsbUnplugged& unplug) const {
        return {{"event", "unplug"}, {"socket", to_text(unplug.socket)}, {"half", to_text(unplug.half)}};
    }
    json operator()(const ControllerChanged& changed) const {
        return {{"event", "controller"}, {"controller", to_json(changed.controller)}};
    }
    json operator()(const ControllerRemoved& removed) const { return {{"event", "gone"}, {"path", removed.path}}; }
};

json uses() {
    json out = json::object();
    const auto scan = scan_uses({.consoles = true}, {});
    if (!scan) return scan.error().message();
    for (const auto& [socket, list] : scan->uses) {
        json texts = json::array();
        for (const auto& use : list) texts.push_back(fmt::format("{}: {}", to_text(use.kind), use.text));
        out[to_text(socket)] = texts;
    }
    return out;
}

void print(const UsbBatch& batch) {
    if (batch.full) {
        json controllers = json::array(), devices = json::array();
        for (const auto& facts : batch.scan.controllers) controllers.push_back(to_json(facts));
        for (const auto& facts : batch.scan.devices) devices.push_back(to_json(facts));
        std::cout << json{{"controllers", controllers}, {"devices", devices}, {"uses", uses()}}.dump() << std::endl;
    }
    for (const auto& event : batch.events) std::cout << std::visit(EventToJson{}, event).dump() << std::endl;
}

Result<int> run(bool follow) {
    EventLoop loop = TRY(EventLoop::create());
    const auto discovery = TRY(UsbDiscovery::open(loop, {}, print));
    TRY(discovery->coldplug());
    if (!follow) return 0;
    const auto input = TRY(loop.add_io(STDIN_FILENO, EPOLLIN | EPOLLHUP, 1, [&](uint32_t) {
        char byte = 0;
        if (::read(STDIN_FILENO, &byte, 1) <= 0) return loop.exit(0);
        if (byte == 'u') std::cout << json{{"uses", uses()}}.dump() << std::endl;
        if (byte == 'r' && !discovery->refresh()) loop.exit(1);
    }));
    return loop.run();
}

Result<int> ask(const std::string& node, int vendor, int product) {
    const usbarb::MissingStrings wanted{.vendor = static_cast<uint8_t>(vendor),
                                        .product = static_cast<uint8_t>(product)};
    const auto words = TRY(usbarb::read_strings(node, wanted, std::chrono::seconds(5)));
    std::cout << json{{"vendor", words.vendor}, {"product", words.product}}.dump() << std::endl;
    return 0;
}

}  // namespace

int main(int count, char** words) {
    const std::string_view mode = count > 1 ? words[1] : "";
    const bool strings = mode == "--strings" && count == 5;
    const auto outcome = strings ? ask(words[2], std::atoi(words[3]), std::atoi(words[4])) : run(mode == "--follow");
    if (outcome) return *outcome;
    std::cerr << "usb_dump: " << outcome.error().message() << "\n";
    return 1;
}
