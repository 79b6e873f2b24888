#pragma once
// A DeviceService with the devices that a test puts into it.

#include <map>

#include "daemon/device_service.hpp"

namespace storctl::test {

class FakeDevices : public DeviceService {
 public:
    std::vector<DeviceSummary> devices;
    std::map<std::string, std::vector<std::string>> ambiguous;
    std::map<std::string, std::string> node_on;
    std::function<void(const std::string&)> listener;

    Result<void> coldplug() override { return {}; }
    Result<void> serve(control::Server&) override { return {}; }
    Result<void> rescan() override { return {}; }
    DeviceMatch find(const std::string& name) const override {
        if (const auto found = ambiguous.find(name); found != ambiguous.end()) {
            return {.outcome = DeviceMatch::Outcome::ambiguous, .candidates = found->second};
        }
        for (const auto& device : devices) {
            if (name == device.id || name == device.devnode || name == device.name) {
                return {.outcome = DeviceMatch::Outcome::found, .device = device};
            }
        }
        return {};
    }
    nlohmann::json describe_all() const override { return nlohmann::json::array(); }
    size_t total() const override { return devices.size(); }
    size_t shared() const override { return 0; }
    size_t conflicts() const override { return 0; }
    std::string event_source() const override { return "kernel"; }
    std::vector<std::string> findings() const override { return {}; }
    void set_node_on(const std::string& device_id, const std::string& node_name) override {
        node_on[device_id] = node_name;
    }
    void on_device_event(std::function<void(const std::string&)> callback) override { listener = std::move(callback); }
};

}  // namespace storctl::test
