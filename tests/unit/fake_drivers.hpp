#pragma once
// A made-up kernel for actuation: a sysfs folder in which a write to "unbind", "bind", "drivers_probe",
// "driver_override" or "bConfigurationValue" has the effect that Linux gives it. Any one write can be made to fail.

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include <doctest/doctest.h>
#include <fcntl.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "temporary_folder.hpp"
#include "usbarb/actuation_kernel.hpp"

namespace storctl::test {

namespace fs = std::filesystem;

struct FakeFolders {
    TemporaryFolder folder;
};

class FakeDrivers : private FakeFolders, public usbarb::ActuationKernel {
 public:
    FakeDrivers() : ActuationKernel({.sys = folder / "sys", .dev = folder / "dev"}) {
        for (const auto* driver : {"vfio-pci", "xhci_hcd", "nvme"}) fs::create_directories(pci("drivers/") + driver);
        for (const auto* driver : {"usb", "hub", "usb-storage", "usbhid"}) {
            fs::create_directories(usb("drivers/") + driver);
        }
        fs::create_directories(paths().sys + "/kernel/iommu_groups");
        fs::create_directories(paths().sys + "/devices");
        fs::create_directories(pci("devices"));
        fs::create_directories(paths().dev + "/vfio");
    }

    // ---- hardware

    /// `group` -1: the IOMMU is off.
    void add_function(const std::string& name, const std::string& driver, int group) {
        const std::string path = pci("devices/") + name;
        fs::create_directories(path);
        write_file(path + "/driver_override", "(null)\n");
        native_[name] = driver;
        if (!driver.empty()) link_driver(path, pci("drivers/") + driver);
        if (group < 0) return;
        const std::string members = paths().sys + "/kernel/iommu_groups/" + std::to_string(group);
        fs::create_directories(members + "/devices");
        fs::create_symlink(members, path + "/iommu_group");
        fs::create_symlink(path, members + "/devices/" + name);
    }
    /// Its interfaces with the driver of each; "" for one that no driver fits.
    std::string add_device(const std::string& name, const std::vector<std::string>& drivers) {
        const std::string path = paths().sys + "/devices/usb1/" + name;
        fs::create_directories(path);
        interfaces_[name] = drivers;
        write_file(path + "/authorized", "1\n");
        set_number(name, 4);
        // device descriptor, then a configuration of value 3
        std::string descriptors(27, '\0');
        descriptors[18 + 5] = 3;
        write_file(path + "/descriptors", descriptors);
        link_driver(path, usb("drivers/usb"));
        configure(path, true);
        return path;
    }
    /// As plugging it in again does.
    void set_number(const std::string& name, int address) {
        write_file(paths().sys + "/devices/usb1/" + name + "/busnum", "1\n");
        write_file(paths().sys + "/devices/usb1/" + name + "/devnum", std::to_string(address) + "\n");
    }
    void unplug(const std::string& name) { fs::remove_all(paths().sys + "/devices/usb1/" + name); }
    void hold_port_of(const std::string& device) { held_devices_.insert(device); }

    std::string function_driver(const std::string& name) { return usbarb::bound_driver(pci("devices/") + name); }
    std::string override_of(const std::string& name) {
        return read_attribute(pci("devices/") + name + "/driver_override");
    }
    void set_override(const std::string& name, const std::string& text) {
        write_file(pci("devices/") + name + "/driver_override", text + "\n");
    }
    std::string interface_driver(const std::string& name) {
        return usbarb::bound_driver(paths().sys + "/devices/usb1/" + name.substr(0, name.find(':')) + "/" + name);
    }
    /// Every attribute and every driver, to compare before and after.
    std::map<std::string, std::string> state() const {
        std::map<std::string, std::string> all;
        for (const auto& part : {"/devices", "/bus/pci/devices"}) {
            for (const auto& entry : fs::recursive_directory_iterator(paths().sys + part)) {
                const std::string path = entry.path();
                if (entry.is_symlink()) {
                    all[path] = read_link(path);
                } else if (entry.is_regular_file()) {
                    all[path] = read_attribute(path);
                }
            }
        }
        return all;
    }

    // ---- what tests turn

    std::optional<size_t> fail_at;      ///< this write fails, counted from 0
    std::set<std::string> fail_always;  ///< writes to files whose path ends like this
    bool viable = true;
    std::set<uint8_t> busy_ports;
    std::vector<std::string> log;  ///< writes and port calls, in order

    // ---- ActuationKernel

    Result<void> write_attribute(const std::string& path, const std::string& text) override {
        log.push_back(path.substr(paths().sys.size()) + " " + std::string(trim(text)));
        bool fails = fail_at && writes_ == *fail_at;
        ++writes_;
        for (const auto& end : fail_always) fails = fails || path.ends_with(end);
        if (fails) return make_error(std::errc::io_error, "cannot write to '" + path + "'");
        return apply(path, std::string(trim(text)));
    }
    Result<UniqueFd> open_node(const std::string& devnode) override {
        if (devnode.ends_with("/gone")) return make_error(std::errc::no_such_device, "cannot open '" + devnode + "'");
        if (during_open) during_open();
        return open_file("/dev/null", O_RDWR);
    }
    Result<void> restrict_to(int, uint32_t interfaces) override {
        log.push_back("restrict " + std::to_string(interfaces));
        if (fail_restriction)
            return make_error(std::errc::inappropriate_io_control_operation, "USBDEVFS_DROP_PRIVILEGES");
        return {};
    }
    Result<void> claim_port(int, uint8_t port) override {
        log.push_back("claim " + std::to_string(port));
        if (busy_ports.contains(port)) return make_error(std::errc::device_or_resource_busy, "USBDEVFS_CLAIM_PORT");
        return {};
    }
    Result<void> release_port(int, uint8_t port) override {
        log.push_back("release " + std::to_string(port));
        if (busy_ports.contains(port)) return make_error(std::errc::operation_not_permitted, "USBDEVFS_RELEASE_PORT");
        held_devices_.clear();
        return {};
    }
    Result<void> load_module(const std::string& name) override {
        log.push_back("modprobe " + name);
        if (fail_module) return make_error(std::errc{}, "cannot load the module " + name);
        fs::create_directories(pci("drivers/") + name);
        return {};
    }
    Result<bool> group_viable(const std::string&) override { return viable; }

    void unload_module(const std::string& name) { fs::remove_all(pci("drivers/") + name); }
    bool fail_module = false;
    bool fail_restriction = false;
    std::function<void()> during_open;  ///< between the look at a node's name and the open file

 private:
    std::string pci(const std::string& rest) const { return paths().sys + "/bus/pci/" + rest; }
    std::string usb(const std::string& rest) const { return paths().sys + "/bus/usb/" + rest; }
    static void write_file(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
    static void link_driver(const std::string& device, const std::string& driver) {
        fs::create_symlink(driver, device + "/driver");
    }
    Error refuse(const std::string& path) {
        return make_error(std::errc::no_such_device, "cannot write to '" + path + "'");
    }

    void configure(const std::string& device, bool with_drivers) {
        const std::string name = base_name(device);
        write_file(device + "/bConfigurationValue", "3\n");
        const auto& drivers = interfaces_[name];
        for (size_t i = 0; i < drivers.size(); ++i) {
            const std::string interface = device + "/" + name + ":3." + std::to_string(i);
            fs::create_directories(interface);
            if (with_drivers && !drivers[i].empty()) link_driver(interface, usb("drivers/") + drivers[i]);
        }
    }
    void unconfigure(const std::string& device) {
        for (const auto& name : list_directory(device)) {
            if (name.find(':') != std::string::npos) fs::remove_all(device + "/" + name);
        }
        write_file(device + "/bConfigurationValue", "");
    }
    std::string interface_path(const std::string& name) const {
        return paths().sys + "/devices/usb1/" + name.substr(0, name.find(':')) + "/" + name;
    }
    bool bind_interface(const std::string& name) {
        const std::string path = interface_path(name);
        const std::string device = name.substr(0, name.find(':'));
        if (!fs::exists(path) || !usbarb::bound_driver(path).empty() || held_devices_.contains(device)) return false;
        const std::string& driver = interfaces_[device].at(static_cast<size_t>(name.back() - '0'));
        if (!driver.empty()) link_driver(path, usb("drivers/") + driver);
        return !driver.empty();
    }

    Result<void> apply(const std::string& path, const std::string& text) {
        const std::string file = base_name(path);
        const std::string above = dir_name(path);
        if (file == "driver_override") {
            write_file(path, (text.empty() ? "(null)" : text) + "\n");
            return {};
        }
        if (file == "bConfigurationValue") {
            configure(above, !held_devices_.contains(base_name(above)));
            return {};
        }
        if (above == usb("drivers/usb")) {
            const std::string device = paths().sys + "/devices/usb1/" + text;
            fs::remove(device + "/driver");
            if (file == "unbind") {
                unconfigure(device);
            } else {
                link_driver(device, above);
                if (!held_devices_.contains(text)) configure(device, true);
            }
            return {};
        }
        if (file == "unbind") {
            if (!fs::remove(above)) return refuse(path);
            return {};
        }
        if (path.starts_with(usb(""))) {
            if (file == "drivers_probe") {
                bind_interface(text);
                return {};
            }
            return bind_interface(text) ? Result<void>() : refuse(path);
        }
        const std::string function = pci("devices/") + text;
        const std::string override = override_of(text);
        const std::string wanted = override == "(null)" ? native_[text] : override;
        if (file == "bind" && base_name(above) != wanted) return refuse(path);
        if (wanted.empty() || !usbarb::bound_driver(function).empty()) return {};
        link_driver(function, pci("drivers/") + wanted);
        if (wanted == "vfio-pci" && make_groups) {
            write_file(paths().dev + "/vfio/" + base_name(read_link(function + "/iommu_group")), "");
        }
        return {};
    }

 public:
    bool make_groups = true;  ///< vfio-pci makes the group's node

 private:
    std::map<std::string, std::string> native_;                   // driver by function
    std::map<std::string, std::vector<std::string>> interfaces_;  // drivers by device
    std::set<std::string> held_devices_;
    size_t writes_ = 0;
};

}  // namespace storctl::test
