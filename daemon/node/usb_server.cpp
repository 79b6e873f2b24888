#include "daemon/node/usb_server.hpp"

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "base/log.hpp"
#include "daemon/node/usb_server_state.hpp"

namespace storctl::node {
namespace {

using nlohmann::json;

constexpr size_t most_descriptor_bytes = 256 << 10;
constexpr auto end_limit = std::chrono::seconds(5);
constexpr auto revoke_limit = std::chrono::seconds(3);
/// As long as a device may take to enumerate (hub.c gives its reset and first requests about this).
constexpr auto again_limit = std::chrono::seconds(8);

Result<std::vector<uint8_t>> read_descriptors(const std::string& path) {
    const UniqueFd file = TRY(open_file(path, O_RDONLY | O_CLOEXEC));
    std::vector<uint8_t> out;
    while (out.size() < most_descriptor_bytes) {
        const size_t at = out.size();
        out.resize(at + 4096);
        const ssize_t got = ::read(file.get(), out.data() + at, 4096);
        if (got < 0) return errno_error(fmt::format("cannot read the descriptors of '{}'", path));
        out.resize(at + static_cast<size_t>(got));
        if (got == 0) break;
    }
    return out;
}

json to_json(const usbfs::TrafficCounters& counters, std::string_view name) {
    json latency = json::array();
    for (const auto& bucket : counters.latency) latency.push_back(bucket.load(std::memory_order_relaxed));
    return {{"operation", std::string(name)},
            {"operations", counters.operations.load(std::memory_order_relaxed)},
            {"bytes", counters.bytes.load(std::memory_order_relaxed)},
            {"errors", counters.errors.load(std::memory_order_relaxed)},
            {"in_flight", counters.in_flight.load(std::memory_order_relaxed)},
            {"latency_total_ns", counters.latency_total_ns.load(std::memory_order_relaxed)},
            {"latency_ns", std::move(latency)}};
}

}  // namespace

UsbServer::State::State(UsbServerOptions the_options, UsbServerListener the_listener)
    : options(std::move(the_options)),
      listener(std::move(the_listener)),
      descriptors(options.descriptors),
      table(options.open) {
    if (!descriptors.empty()) filter = std::make_unique<usbfs::Filter>(options.policy, descriptors);
}

UsbServer::State::~State() = default;

Result<void> UsbServer::State::give_device(const std::string& new_path) {
    auto found = TRY(read_descriptors(new_path));
    const std::scoped_lock lock(device_mutex);
    if (!descriptors.empty() && !usbfs::same_device(descriptors, found)) {
        return make_error(std::errc::invalid_argument,
                          fmt::format("'{}' is another device than node '{}' was made for: its descriptors differ",
                                      new_path, options.name));
    }
    if (descriptors.empty()) {
        descriptors = std::move(found);
        filter = std::make_unique<usbfs::Filter>(options.policy, descriptors);
    }
    path = new_path;
    device_changed.notify_all();
    return {};
}

void UsbServer::State::take_device_away(const std::string& which) {
    {
        const std::scoped_lock lock(device_mutex);
        if (path.empty() || (!which.empty() && path != which)) return;
        path.clear();
    }
    listener.device_gone();
}

/// Where the device is that has just left, once it is back: a new enumeration has a new address.
std::string UsbServer::State::find_again(const std::string& left) {
    take_device_away(left);
    std::unique_lock lock(device_mutex);
    device_changed.wait_for(lock, again_limit, [&] { return !path.empty() || ending; });
    return path;
}

std::vector<Opener> UsbServer::State::openers() {
    const std::scoped_lock lock(opens_mutex);
    return table.openers();
}

void UsbServer::State::tell_openers() { listener.opens_changed(openers()); }

bool UsbServer::State::revoke() {
    std::vector<std::shared_ptr<UsbOpen>> all;
    revoked = true;
    {
        const std::scoped_lock lock(opens_mutex);
        table.set_closed(true);
        for (const auto& [id, open] : opens) all.push_back(open);
    }
    for (const auto& open : all) {
        open->session->revoke();
        {
            const std::scoped_lock lock(open->legs_mutex);
            open->legs.clear();
        }
        notify(*open);
    }
    return shake_off(revoke_limit);
}

// ---- the server

UsbServer::UsbServer(std::shared_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<UsbServer>> UsbServer::start(UsbServerOptions options, UsbServerListener listener) {
    const std::string path = options.path;
    const auto state = std::make_shared<State>(std::move(options), std::move(listener));
    if (!path.empty()) TRY(state->give_device(path));
    TRY(state->start());
    return std::unique_ptr<UsbServer>(new UsbServer(state));
}

UsbServer::~UsbServer() {
    state_->revoke();
    if (!state_->end(end_limit)) {
        log::warning("node {}: a thread is still inside a call of the device; left behind", state_->options.name);
    }
}

Result<void> UsbServer::give_device(const std::string& path) { return state_->give_device(path); }

void UsbServer::take_device_away() { state_->take_device_away(""); }

bool UsbServer::device_present() const {
    const std::scoped_lock lock(state_->device_mutex);
    return !state_->path.empty();
}

std::vector<uint8_t> UsbServer::descriptors() const {
    const std::scoped_lock lock(state_->device_mutex);
    return state_->descriptors;
}

std::vector<Opener> UsbServer::close_if_unused() {
    const std::scoped_lock lock(state_->opens_mutex);
    auto openers = state_->table.openers();
    if (!state_->revoked) state_->table.set_closed(openers.empty());
    return openers;
}

bool UsbServer::revoke() { return state_->revoke(); }

json UsbServer::stats() const {
    json operations = json::array();
    for (const auto& row : EnumNames<usbfs::Traffic>::table) {
        operations.push_back(to_json(state_->statistics.of(row.value), row.name));
    }
    return {{"refused_opens", state_->statistics.refused_opens.load(std::memory_order_relaxed)},
            {"operations", std::move(operations)}};
}

}  // namespace storctl::node
