#pragma once
// A mocked sysfs with SCSI disks that come and go, for the hotplug tests. The process runs under umockdev-wrapper.

#include <chrono>
#include <functional>
#include <string>

#include <doctest/doctest.h>
#include <umockdev.h>
#include <unistd.h>

#include "base/event_loop.hpp"
#include "base/file.hpp"

namespace storctl::test {

class Testbed {
 public:
    Testbed() : testbed_(umockdev_testbed_new()) {
        adapter_ =
            add("pci", "0000:00:1f.2", "", {{"class", "0x010601"}, {"vendor", "0x8086"}, {"device", "0xa352"}}, {});
        host_ = add("scsi", "host0", adapter_, {}, {{"DEVTYPE", "scsi_host"}});
    }
    Testbed(const Testbed&) = delete;
    Testbed& operator=(const Testbed&) = delete;
    ~Testbed() { g_object_unref(testbed_); }

    using Pairs = std::vector<std::pair<std::string, std::string>>;

    /// Adds a device and sends its "add" event; gives its path in sysfs.
    std::string add(const std::string& subsystem, const std::string& name, const std::string& parent,
                    const Pairs& attributes, const Pairs& properties) {
        auto attribute_words = words(attributes), property_words = words(properties);
        gchar* path = umockdev_testbed_add_devicev(testbed_, subsystem.c_str(), name.c_str(),
                                                   parent.empty() ? nullptr : parent.c_str(),
                                                   attribute_words.pointers.data(), property_words.pointers.data());
        REQUIRE(path != nullptr);
        std::string out(path);
        g_free(path);
        return out;
    }
    /// A disk with a world-wide name; its events are the unit's and the disk's.
    std::string add_disk(int number, const std::string& naa) {
        const std::string unit =
            add("scsi", "0:0:0:" + std::to_string(number), host_,
                {{"vendor", "ACME"}, {"model", "Disk"}, {"state", "running"}, {"wwid", "naa." + naa}}, {});
        const std::string name = "sd" + std::to_string(number);
        const std::string path =
            add("block", name, unit, {{"size", "2048"}, {"ro", "0"}, {"removable", "0"}},
                {{"DEVNAME", "/dev/" + name}, {"DEVTYPE", "disk"}, {"MAJOR", "8"}, {"MINOR", std::to_string(number)}});
        umockdev_testbed_set_attribute_link(testbed_, path.c_str(), "device", "..");
        return path;
    }
    void set(const std::string& path, const std::string& attribute, const std::string& value) {
        umockdev_testbed_set_attribute(testbed_, path.c_str(), attribute.c_str(), value.c_str());
    }
    void set_link(const std::string& path, const std::string& attribute, const std::string& target) {
        umockdev_testbed_set_attribute_link(testbed_, path.c_str(), attribute.c_str(), target.c_str());
    }
    void set_property(const std::string& path, const std::string& key, const std::string& value) {
        umockdev_testbed_set_property(testbed_, path.c_str(), key.c_str(), value.c_str());
    }
    void event(const std::string& path, const std::string& action) {
        umockdev_testbed_uevent(testbed_, path.c_str(), action.c_str());
    }
    /// The "remove" event is sent first, then the device goes, as with the kernel.
    void remove(const std::string& path) {
        event(path, "remove");
        umockdev_testbed_remove_device(testbed_, path.c_str());
        // libumockdev forgets its link
        ::unlink((sys_folder() + "/block/" + base_name(path)).c_str());
    }
    /// Where the mocked /sys really is.
    std::string sys_folder() const {
        gchar* sys = umockdev_testbed_get_sys_dir(testbed_);
        std::string out(sys);
        g_free(sys);
        return out;
    }

 private:
    struct Words {
        std::vector<std::string> texts;
        std::vector<gchar*> pointers;  ///< ends with a null
    };
    static Words words(const Pairs& pairs) {
        Words out;
        for (const auto& [key, value] : pairs) {
            out.texts.push_back(key);
            out.texts.push_back(value);
        }
        for (auto& text : out.texts) out.pointers.push_back(text.data());
        out.pointers.push_back(nullptr);
        return out;
    }

    UMockdevTestbed* testbed_;
    std::string adapter_, host_;
};

/// Turns the loop until `done`, or fails the test after ten seconds.
inline void run_until(EventLoop& loop, const std::string& what, const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!done()) {
        CAPTURE(what);
        REQUIRE(std::chrono::steady_clock::now() < deadline);
        REQUIRE(loop.run_once(std::chrono::milliseconds(100)).has_value());
    }
}

}  // namespace storctl::test
