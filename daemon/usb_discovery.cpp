#include "daemon/usb_discovery.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <libudev.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "daemon/burst.hpp"
#include "daemon/udev_monitor.hpp"
#include "daemon/usb_touches.hpp"
#include "daemon/worker.hpp"
#include "usbarb/sysfs_pci.hpp"
#include "usbarb/usb_strings.hpp"

namespace storctl {
namespace {

using usbarb::ControllerFacts, usbarb::DeviceFacts;

/// A device that answers at all does so in a few milliseconds.
constexpr std::chrono::milliseconds string_timeout{200};

std::string text_or_empty(const char* text) { return text == nullptr ? std::string() : std::string(text); }

bool is_gone(const Error& error) { return error.code == std::errc::no_such_device; }

/// A USB host controller off PCI is one as long as it has a bus.
bool is_controller(const ControllerFacts& facts) { return facts.pci || facts.buses != std::array<uint16_t, 2>{}; }

}  // namespace

class UsbDiscovery::Impl {
 public:
    Impl(EventLoop& loop, UsbDiscoveryOptions options, Listener listener)
        : loop_(loop), options_(std::move(options)), listener_(std::move(listener)), reader_(options_.kernel) {}

    Result<void> open();
    Result<void> coldplug();
    Result<void> rescan();
    Result<void> refresh();
    const UdevMonitor& monitor() const { return *monitor_; }

 private:
    void touch(udev_device* event);
    void touch_device(const std::string& syspath, std::string_view action);
    void flush();
    void add_event(const UsbTouch& touch, UsbBatch& batch);
    void add_controller(Result<ControllerFacts> facts, const std::string& path, UsbBatch& batch);
    void add_neighbours(const std::set<std::string>& paths, UsbBatch& batch);
    void add_words(ControllerFacts& facts) const;
    void remember(const ControllerFacts& facts);
    bool is_settled(const std::string& syspath) const;
    Result<DeviceFacts> read_device(const std::string& syspath);
    void complete(DeviceFacts& facts);
    void ask(const DeviceFacts& facts, usbarb::MissingStrings missing);

    Result<void> begin_scan();
    Result<void> scan_in_steps();
    void step_scan();
    void read_step();
    void finish_scan();
    void owe_scan(const Error& error);

    EventLoop& loop_;
    UsbDiscoveryOptions options_;
    Listener listener_;
    usbarb::UsbReader reader_;
    UsbTouches touches_;
    std::map<std::string, std::set<std::string>> neighbours_;  ///< by function: those whose facts name it

    struct Asked {
        uint16_t address = 0;
        usbarb::UsbStrings words;
    };
    std::map<std::string, Asked> asked_;  ///< by sysfs path: devices that were asked for words, once

    struct Scan {
        std::vector<std::string> functions, devices;  ///< addresses; sysfs paths
        size_t at = 0;                                ///< over both
        bool again = false;
        UsbBatch batch;
        size_t size() const { return functions.size() + devices.size(); }
    };
    std::optional<Scan> scan_;
    std::string trouble_;  ///< why the last enumeration failed; empty: it did not

    // last: they end before what they call into
    std::unique_ptr<UdevMonitor> monitor_;
    std::unique_ptr<Burst> burst_;
    EventSource scan_turn_;
    EventSource retry_;  ///< armed while an enumeration is owed
    std::unique_ptr<Worker> worker_;
};

Result<void> UsbDiscovery::Impl::open() {
    retry_ = TRY(loop_.add_timer(options_.retry, options_.step_priority, [this] {
        if (auto begun = rescan(); !begun) log::debug("enumerating USB devices again: {}", begun.error().message());
    }));
    retry_.enable(false);
    burst_ = TRY(Burst::open(loop_, options_.quiet, options_.longest, options_.priority, [this] { flush(); }));
    monitor_ = TRY(UdevMonitor::open(loop_,
                                     {.matches = {{.subsystem = "usb", .devtype = "usb_device"},
                                                  {.subsystem = "usb", .devtype = "usb_interface"},
                                                  {.subsystem = "pci"}},
                                      .buffer_bytes = options_.monitor_buffer_bytes,
                                      .priority = options_.priority},
                                     {.event = [this](udev_device* event) { touch(event); },
                                      .lost =
                                          [this] {
                                              if (auto begun = rescan(); !begun) {
                                                  log::debug("after lost events: {}", begun.error().message());
                                              }
                                          },
                                      .drained = [this] { burst_->wait(); }}));
    if (options_.may_ask) worker_ = TRY(Worker::open(loop_, options_.priority, "words of USB devices"));
    return {};
}

// ---- events

void UsbDiscovery::Impl::touch(udev_device* event) {
    const std::string syspath = text_or_empty(udev_device_get_syspath(event));
    const std::string action = text_or_empty(udev_device_get_action(event));
    if (syspath.empty()) return;
    burst_->touch();
    if (text_or_empty(udev_device_get_subsystem(event)) == "pci") {
        if (action == "remove") {
            touches_.removed(UsbTouch::What::function, syspath, {});
        } else {
            touches_.present(UsbTouch::What::function, syspath, false);
        }
    } else if (text_or_empty(udev_device_get_devtype(event)) == "usb_interface") {
        // a driver came to it or left it; that the device itself comes or goes is told by its own event
        const std::string device = dir_name(syspath);
        if (usbarb::root_hub_of(device) != device) touches_.present(UsbTouch::What::device, device, false);
    } else {
        touch_device(syspath, action);
    }
}

void UsbDiscovery::Impl::touch_device(const std::string& syspath, std::string_view action) {
    const bool removed = action == "remove";
    if (usbarb::root_hub_of(syspath) == syspath) {
        if (action == "add") reader_.forget_bus(syspath);
        // what it says is its controller's buses
        touches_.present(UsbTouch::What::root_hub, syspath, false);
    } else if (removed) {
        // while it is known where its bus was
        auto place = reader_.place_of(syspath);
        if (!place) log::debug("'{}' went, and was not known: {}", syspath, place.error().message());
        touches_.removed(UsbTouch::What::device, syspath, place ? std::optional(std::move(*place)) : std::nullopt);
    } else {
        touches_.present(UsbTouch::What::device, syspath, action == "add" || action == "bind");
    }
}

void UsbDiscovery::Impl::flush() {
    // while an enumeration runs, what it has read may be older than these events: they come after it
    if (scan_ || touches_.empty()) return;
    burst_->clear();
    UsbBatch batch;
    std::set<std::string> neighbours, told;
    for (const auto& touch : touches_.take()) {
        add_event(touch, batch);
        if (touch.what != UsbTouch::What::function) continue;
        const std::string path = base_name(touch.syspath);
        told.insert(path);
        const auto& beside = neighbours_[path];
        neighbours.insert(beside.begin(), beside.end());
        if (touch.removed) neighbours_.erase(path);
    }
    for (const auto& path : told) neighbours.erase(path);
    add_neighbours(neighbours, batch);
    if (!batch.events.empty()) listener_(std::move(batch));
}

void UsbDiscovery::Impl::add_event(const UsbTouch& touch, UsbBatch& batch) {
    switch (touch.what) {
        case UsbTouch::What::function: {
            const std::string path = base_name(touch.syspath);
            if (touch.removed) {
                batch.events.emplace_back(ControllerRemoved{path});
            } else {
                add_controller(usbarb::read_function(path, options_.kernel), path, batch);
            }
            return;
        }
        case UsbTouch::What::root_hub:
            add_controller(reader_.read_controller_of(touch.syspath), usbarb::controller_of(touch.syspath), batch);
            return;
        case UsbTouch::What::device:
            break;
    }
    if (touch.removed) {
        asked_.erase(touch.syspath);
        if (touch.place) batch.events.emplace_back(UsbUnplugged{touch.place->first, touch.place->second});
        return;
    }
    auto facts = read_device(touch.syspath);
    if (facts) {
        batch.events.emplace_back(
            UsbPlugged{.device = std::move(*facts), .settled = is_settled(touch.syspath), .first = touch.first});
    } else if (!is_gone(facts.error())) {
        // its removal is an event of its own
        log::error("the USB device '{}' is left out: {}", touch.syspath, facts.error().message());
    }
}

void UsbDiscovery::Impl::add_controller(Result<ControllerFacts> facts, const std::string& path, UsbBatch& batch) {
    if (facts && is_controller(*facts)) {
        add_words(*facts);
        remember(*facts);
        batch.events.emplace_back(ControllerChanged{std::move(*facts)});
    } else if (facts || is_gone(facts.error())) {
        batch.events.emplace_back(ControllerRemoved{path});
    } else {
        log::error("the function '{}' is left as it was known: {}", path, facts.error().message());
    }
}

/// A function's facts name the drivers of those in its group, and of its companions.
void UsbDiscovery::Impl::add_neighbours(const std::set<std::string>& paths, UsbBatch& batch) {
    for (const auto& path : paths) {
        auto facts = usbarb::read_function(path, options_.kernel);
        // one that is not there any more, or cannot be read, is told by its own event
        if (facts) add_controller(std::move(facts), path, batch);
    }
}

void UsbDiscovery::Impl::remember(const ControllerFacts& facts) {
    for (const auto* list : {&facts.group, &facts.companions}) {
        for (const auto& neighbour : *list) {
            neighbours_[neighbour.path].insert(facts.path);
            neighbours_[facts.path].insert(neighbour.path);
        }
    }
}

void UsbDiscovery::Impl::add_words(ControllerFacts& facts) const {
    if (!facts.pci) return;
    const UdevDevice device = monitor_->device(facts.syspath);
    if (!device) return;
    facts.vendor = text_or_empty(udev_device_get_property_value(device.get(), "ID_VENDOR_FROM_DATABASE"));
    facts.model = text_or_empty(udev_device_get_property_value(device.get(), "ID_MODEL_FROM_DATABASE"));
}

bool UsbDiscovery::Impl::is_settled(const std::string& syspath) const {
    if (!monitor_->settles()) return true;
    const UdevDevice device = monitor_->device(syspath);
    return device && udev_device_get_is_initialized(device.get()) > 0;
}

Result<DeviceFacts> UsbDiscovery::Impl::read_device(const std::string& syspath) {
    DeviceFacts facts = TRY(reader_.read(syspath));
    if (worker_ && (facts.vendor.empty() || facts.product.empty())) complete(facts);
    return facts;
}

/// With the words that the device itself had, or will have: it is asked once per plug, while nobody has it.
void UsbDiscovery::Impl::complete(DeviceFacts& facts) {
    const auto known = asked_.find(facts.syspath);
    if (known != asked_.end() && known->second.address == facts.address) {
        if (facts.vendor.empty()) facts.vendor = known->second.words.vendor;
        if (facts.product.empty()) facts.product = known->second.words.product;
    } else if (!facts.hub && facts.configured && options_.may_ask(facts.socket) && is_settled(facts.syspath)) {
        asked_[facts.syspath] = {.address = facts.address};
        const auto missing = usbarb::missing_strings(facts);
        if (missing.any()) ask(facts, missing);
    }
}

void UsbDiscovery::Impl::ask(const DeviceFacts& facts, usbarb::MissingStrings missing) {
    worker_->run([this, missing, node = facts.devnode(), path = facts.syspath, address = facts.address]() {
        return [this, path, address, words = usbarb::read_strings(node, missing, string_timeout)] {
            const auto asked = asked_.find(path);
            if (!words) log::debug("{}", words.error().message());
            if (!words || asked == asked_.end() || asked->second.address != address) return;
            asked->second.words = *words;
            touches_.present(UsbTouch::What::device, path, false);
            burst_->touch();
            burst_->wait();
        };
    });
}

// ---- enumerations

Result<void> UsbDiscovery::Impl::begin_scan() {
    Scan scan{.batch = {.full = true}};
    scan.batch.scan = TRY(reader_.read_controllers());
    auto& controllers = scan.batch.scan.controllers;
    // those on PCI are read with all functions
    controllers.erase(std::remove_if(controllers.begin(), controllers.end(), [](const auto& one) { return one.pci; }),
                      controllers.end());
    scan.devices = TRY(reader_.list_devices());
    scan.functions = TRY(usbarb::list_functions(options_.kernel));
    neighbours_.clear();
    scan_ = std::move(scan);
    return {};
}

void UsbDiscovery::Impl::read_step() {
    auto& found = scan_->batch.scan;
    const size_t end = std::min(scan_->at + options_.step_devices, scan_->size());
    for (; scan_->at < end; ++scan_->at) {
        if (scan_->at < scan_->functions.size()) {
            const auto& path = scan_->functions[scan_->at];
            auto facts = usbarb::read_function(path, options_.kernel);
            if (!facts && !is_gone(facts.error())) {
                log::error("the PCI function '{}' is left as it was known: {}", path, facts.error().message());
                found.unreadable.push_back(path);
            }
            if (!facts) continue;
            add_words(*facts);
            remember(*facts);
            found.controllers.push_back(std::move(*facts));
        } else {
            const auto& path = scan_->devices[scan_->at - scan_->functions.size()];
            auto facts = read_device(path);
            if (!facts && !is_gone(facts.error())) {
                log::error("the USB device '{}' is left as it was known: {}", path, facts.error().message());
                found.unreadable.push_back(path);
            }
            if (!facts) continue;
            if (!is_settled(path)) found.unsettled.insert(path);
            found.devices.push_back(std::move(*facts));
        }
    }
}

void UsbDiscovery::Impl::step_scan() {
    read_step();
    if (scan_->at == scan_->size()) return finish_scan();
    auto turn = loop_.add_defer(options_.step_priority, [this] { step_scan(); });
    if (turn) {
        scan_turn_ = std::move(*turn);
    } else {
        while (scan_->at < scan_->size()) read_step();  // no turns to be had: the rest at once
        finish_scan();
    }
}

void UsbDiscovery::Impl::finish_scan() {
    scan_turn_.reset();
    Scan scan = std::move(*scan_);
    scan_.reset();
    if (scan.again) {
        flush();
        // what was found is older than what has just been told
        if (const auto again = scan_in_steps(); !again) owe_scan(again.error());
        return;
    }
    trouble_.clear();
    listener_(std::move(scan.batch));
    burst_->wait();
}

Result<void> UsbDiscovery::Impl::scan_in_steps() {
    TRY(begin_scan());
    auto turn = loop_.add_defer(options_.step_priority, [this] { step_scan(); });
    if (!turn) {
        scan_.reset();
        return std::move(turn).error();
    }
    scan_turn_ = std::move(*turn);
    retry_.enable(false);
    return {};
}

/// Until one succeeds, what was known holds.
void UsbDiscovery::Impl::owe_scan(const Error& error) {
    if (const auto before = std::exchange(trouble_, error.message()); before != trouble_) {
        log::error("{}; the USB devices known so far are kept, and looked for again", trouble_);
    }
    retry_.arm(options_.retry);
}

Result<void> UsbDiscovery::Impl::coldplug() {
    TRY(monitor_->listen());
    return refresh();
}

Result<void> UsbDiscovery::Impl::rescan() {
    if (scan_) {
        scan_->again = true;
        return {};
    }
    if (auto listening = monitor_->listen(); !listening) {
        log::error("{}; USB devices that come and go are only seen by 'storctl device rescan'",
                   listening.error().message());
    }
    // What came before is told before. Told after it, the removal of a device whose return was lost would take away
    // what the enumeration has found.
    flush();
    auto begun = scan_in_steps();
    if (!begun) owe_scan(begun.error());
    return begun;
}

Result<void> UsbDiscovery::Impl::refresh() {
    const uint64_t overflows = monitor_->overflows();
    bool owed = scan_.has_value();
    scan_turn_.reset();
    scan_.reset();
    // what came before is told before, in its order
    monitor_->receive();
    owed = owed || monitor_->overflows() != overflows;
    scan_turn_.reset();
    scan_.reset();
    // Whoever asked for this one looks for an answer, not for what is new: that is for the one that was to come.
    if (owed) retry_.arm(std::chrono::microseconds(0));
    flush();
    TRY(begin_scan());
    while (scan_->at < scan_->size()) read_step();
    finish_scan();
    return {};
}

// ---- the class itself

UsbDiscovery::UsbDiscovery(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
UsbDiscovery::~UsbDiscovery() = default;

Result<std::unique_ptr<UsbDiscovery>> UsbDiscovery::open(EventLoop& loop, UsbDiscoveryOptions options,
                                                         Listener listener) {
    auto impl = std::make_unique<Impl>(loop, std::move(options), std::move(listener));
    TRY(impl->open());
    return std::unique_ptr<UsbDiscovery>(new UsbDiscovery(std::move(impl)));
}

Result<void> UsbDiscovery::coldplug() { return impl_->coldplug(); }
Result<void> UsbDiscovery::rescan() { return impl_->rescan(); }
Result<void> UsbDiscovery::refresh() { return impl_->refresh(); }
const std::string& UsbDiscovery::source() const { return impl_->monitor().source(); }
bool UsbDiscovery::monitoring() const { return impl_->monitor().listening(); }
uint64_t UsbDiscovery::overflows() const { return impl_->monitor().overflows(); }

}  // namespace storctl
