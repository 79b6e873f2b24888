// One option for QEMU, as each of the options whose values are read.

#include <string>

#include "libvirt/qemu_arguments.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace storctl::libvirt;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    for (const auto& [key, value] : parse_key_values(text, "driver")) {
        FUZZ_CHECK(key.size() + value.size() <= size + 8);
        FUZZ_CHECK(key.find_first_of("=,") == std::string::npos);
    }
    for (const char* option : {"-device", "-usbdevice", "-drive", "-blockdev"}) {
        HostDevices host;
        read_qemu_arguments({option, text}, host);
        for (const auto& device : host.devices) {
            FUZZ_CHECK(!device.what.empty() && device.where == "qemu:arg 2");
            FUZZ_CHECK(!device.what.starts_with("/dev/storctl/"));
        }
        for (const auto& sentence : host.unclear) FUZZ_CHECK(sentence.starts_with("qemu:arg 2: "));
    }
    return 0;
}
