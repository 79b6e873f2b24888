// A domain's XML: what is read of it holds to its own limits and forms, whatever the text is.

#include <algorithm>
#include <string_view>

#include "libvirt/domain_xml.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace storctl;
using namespace storctl::libvirt;

void check_device(const HostDevice& device) {
    FUZZ_CHECK(!device.what.empty() && !device.where.empty());
    if (device.bus == Bus::pci) {
        const auto& what = device.what;
        FUZZ_CHECK(what.size() >= 12 && what[what.size() - 2] == '.' && what.find(':') != std::string::npos);
        FUZZ_CHECK(what.find_first_not_of("0123456789abcdef:.") == std::string::npos);
    } else if (!device.what.starts_with('/')) {
        FUZZ_CHECK(device.what.find_first_not_of("0123456789abcdef:.-") == std::string::npos);
    } else {
        FUZZ_CHECK(!device.what.starts_with("/dev/storctl/"));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto domain = parse_domain({reinterpret_cast<const char*>(data), size});
    if (!domain) {
        FUZZ_CHECK(!domain.error().context.empty());
        return 0;
    }
    FUZZ_CHECK(!domain->name.empty() && domain->name.find('\0') == std::string::npos);
    // no entity grows: what comes out was in the text
    FUZZ_CHECK(domain->name.size() <= size);
    FUZZ_CHECK(domain->host.devices.size() + domain->host.unclear.size() <= max_host_devices);
    std::for_each(domain->host.devices.begin(), domain->host.devices.end(), check_device);
    return 0;
}
