// Prints what the device service finds, as io.storctl.Device describes it: the program that the device tests run on
// mocked and real sysfs trees. device_dump [--mountinfo FILE] [--swaps FILE] [NAME...]: with names, how each resolves.

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "daemon/device_service.hpp"

namespace {

using namespace storctl;

int fail(const Error& error) {
    std::cerr << "device_dump: " << error.message() << "\n";
    return 1;
}

nlohmann::json describe(const DeviceMatch& match) {
    switch (match.outcome) {
        case DeviceMatch::Outcome::found:
            return match.device->id;
        case DeviceMatch::Outcome::ambiguous:
            return match.candidates;
        case DeviceMatch::Outcome::not_found:
            return nullptr;
    }
    return nullptr;
}

int run(const std::string& folder, DeviceServiceOptions options, const std::vector<std::string>& names) {
    auto loop = EventLoop::create();
    if (!loop) return fail(loop.error());
    auto db = StateDb::open(folder + "/state.db");
    if (!db) return fail(db.error());
    EventHub hub;
    auto service = DeviceService::open(*loop, *db, hub, std::move(options));
    if (!service) return fail(service.error());
    if (auto found = (*service)->coldplug(); !found) return fail(found.error());
    nlohmann::json out{{"devices", (*service)->describe_all()},
                       {"source", (*service)->event_source()},
                       {"findings", (*service)->findings()},
                       {"resolved", nlohmann::json::object()}};
    for (const auto& name : names) out["resolved"][name] = describe((*service)->find(name));
    std::cout << out.dump(2) << "\n";
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    DeviceServiceOptions options{.host = "dump"};
    std::vector<std::string> names;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word == "--mountinfo" && i + 1 < argc) {
            options.kernel.mountinfo = argv[++i];
        } else if (word == "--swaps" && i + 1 < argc) {
            options.kernel.swaps = argv[++i];
        } else {
            names.push_back(word);
        }
    }
    std::string folder = std::filesystem::temp_directory_path() / "device_dump.XXXXXX";
    if (::mkdtemp(folder.data()) == nullptr) return fail(errno_error("cannot make a temporary folder"));
    const int code = run(folder, std::move(options), names);
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
    return code;
}
