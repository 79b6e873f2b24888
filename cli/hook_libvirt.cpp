// storctl hook libvirt. libvirt waits for it, without a time limit of its own: everything here has one.
#include "cli/hook_libvirt.hpp"

#include <algorithm>
#include <array>
#include <chrono>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "base/file.hpp"
#include "cli/commands.hpp"
#include "cli/connection.hpp"
#include "cli/fields.hpp"
#include "cli/output.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {
namespace {

using Clock = std::chrono::steady_clock;
using libvirt::Domain;
using libvirt::HostDevice;

constexpr std::chrono::seconds input_patience{5};
/// For everything that one call of the hook asks of stord.
constexpr std::chrono::seconds answer_patience{5};

std::chrono::milliseconds left_until(Clock::time_point deadline) {
    return std::max(std::chrono::milliseconds(1),
                    std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()));
}

/// Standard input to its end.
Result<std::string> read_input(size_t limit_bytes) {
    const auto deadline = Clock::now() + input_patience;
    std::string out;
    std::array<char, 64 << 10> buffer;
    for (;;) {
        pollfd item{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
        const int ready = ::poll(&item, 1, static_cast<int>(left_until(deadline).count()));
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 0) return errno_error("cannot wait for the domain XML on standard input");
        if (ready == 0 || Clock::now() >= deadline) {
            return make_error(std::errc::timed_out,
                              fmt::format("the domain XML on standard input did not end within {}", "5 s"));
        }
        const ssize_t got = ::read(STDIN_FILENO, buffer.data(), buffer.size());
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got < 0) return errno_error("cannot read the domain XML from standard input");
        if (got == 0) return out;
        out.append(buffer.data(), static_cast<size_t>(got));
        if (out.size() > limit_bytes) {
            return make_error(std::errc::file_too_large,
                              fmt::format("the domain XML has more than {} bytes", limit_bytes));
        }
    }
}

/// A link such as udev makes ("/dev/my-dongle") is what it leads to.
void follow_links(std::vector<HostDevice>& devices) {
    for (auto& device : devices) {
        if (!device.what.starts_with('/') || device.what.starts_with("/dev/bus/usb/")) continue;
        if (auto real = real_path(device.what)) device.what = std::move(real).value();
    }
    std::erase_if(devices, [](const HostDevice& device) { return device.what.starts_with("/dev/storctl/"); });
}

Result<Domain> read_domain(const std::string& guest) {
    const auto text = TRY(read_input(libvirt::max_domain_bytes));
    auto domain = TRY(libvirt::parse_domain(text));
    if (domain.name != guest) {
        return make_error(std::errc::invalid_argument,
                          fmt::format("the domain XML on standard input is of '{}', not of '{}'", domain.name, guest));
    }
    follow_links(domain.host.devices);
    return domain;
}

/// One call of the hook.
class Hook {
 public:
    explicit Hook(const Invocation& invocation)
        : guest_(invocation.value("GUEST")),
          holder_("vm:" + guest_),
          socket_path_(invocation.run_dir() + "/io.storctl") {}

    Exit run(HookStep step);

 private:
    struct Answer {
        std::optional<Json> parameters;  ///< of a good one
        std::string error;               ///< a Varlink error's name; empty: nobody answered
        Json error_parameters;
        std::string why;  ///< nobody answered
    };

    Exit prepare();
    Exit start();
    Exit started();
    Exit release();
    Exit claim(const std::vector<HostDevice>& devices, Exit unanswered, Json& claimed);
    Exit adopt(const std::vector<HostDevice>& devices);
    Exit adopt_from_input();

    Answer ask(const std::string& method, Json parameters);
    Json claim_request(Json targets) const;
    void give_back(const Json& kept);
    Exit refuse(const std::vector<HostDevice>& devices, const Answer& answer);
    const HostDevice* culprit(const std::vector<HostDevice>& devices, Answer& answer);
    static Exit tell(Exit exit, std::string_view message);

    std::string guest_, holder_, socket_path_;
    std::unique_ptr<control::Client> client_;
    std::optional<Clock::time_point> deadline_;
};

Exit Hook::tell(Exit exit, std::string_view message) {
    report(message);
    return exit;
}

Hook::Answer Hook::ask(const std::string& method, Json parameters) {
    if (!deadline_) deadline_ = Clock::now() + answer_patience;
    if (!client_) {
        auto connected = control::Client::connect(socket_path_, left_until(*deadline_));
        if (!connected) return {.why = explain_transport(connected.error(), socket_path_, false).message};
        client_ = std::move(connected).value();
    }
    auto reply = client_->call("io.storctl.Arbiter." + method, std::move(parameters), left_until(*deadline_));
    if (!reply) {
        client_.reset();
        return {.why = explain_transport(reply.error(), socket_path_, true).message};
    }
    if (reply->error) return {.error = *reply->error, .error_parameters = std::move(reply->parameters)};
    return {.parameters = std::move(reply->parameters)};
}

Json Hook::claim_request(Json targets) const {
    return {{"targets", std::move(targets)}, {"holder", holder_}, {"keep_drivers", true}, {"origin", "libvirt"}};
}

Exit Hook::run(HookStep step) {
    switch (step) {
        case HookStep::nothing:
            return Exit::done;
        case HookStep::prepare:
            return prepare();
        case HookStep::start:
            return start();
        case HookStep::started:
            return started();
        case HookStep::release:
            return release();
        case HookStep::adopt:
            return adopt_from_input();
    }
    return Exit::done;
}

Exit Hook::prepare() {
    const auto domain = read_domain(guest_);
    if (!domain) return tell(Exit::failed, domain.error().message());
    const auto& host = domain->host;
    if (!host.unclear.empty()) return tell(Exit::failed, unclear_devices(guest_, host.unclear));
    if (host.devices.empty()) return Exit::done;
    Json claimed;
    return claim(host.devices, Exit::failed, claimed);
}

/// `unanswered`: how to end when stord says nothing.
Exit Hook::claim(const std::vector<HostDevice>& devices, Exit unanswered, Json& claimed) {
    Json request = claim_request(targets_of(devices));
    if (request["targets"].empty()) return Exit::done;
    request["provisional"] = true;
    auto answer = ask("Claim", std::move(request));
    if (!answer.parameters && answer.error.empty()) return tell(unanswered, no_answer(guest_, devices, answer.why));
    if (!answer.parameters) return refuse(devices, answer);
    claimed = std::move(*answer.parameters);
    const std::string hub = hub_refusal(holder_, claimed);
    if (hub.empty()) return Exit::done;
    give_back(Json::object());
    return tell(Exit::failed, hub);
}

Exit Hook::start() {
    const auto domain = read_domain(guest_);
    if (!domain) return tell(Exit::done, domain.error().message());
    const auto& devices = domain->host.devices;
    if (devices.empty()) return Exit::done;
    Json kept;
    const Exit exit = claim(devices, Exit::done, kept);
    if (exit == Exit::done) give_back(kept);
    return exit;
}

/// libvirt may have found another device than the one that was claimed, or do without one that is gone.
void Hook::give_back(const Json& kept) {
    const auto all = ask("Claims", Json::object());
    if (!all.parameters) return;
    Json targets = Json::array();
    for (const auto id : left_over(*all.parameters, holder_, kept)) {
        targets.push_back({{"bus", "usb"}, {"what", fmt::format("#{}", id)}});
    }
    if (targets.empty()) return;
    const auto answer = ask("Release", {{"targets", std::move(targets)}, {"holder", holder_}});
    if (!answer.parameters) report(fmt::format("claims of {} are left to end by themselves", holder_));
}

Exit Hook::started() {
    const auto domain = read_domain(guest_);
    const bool known = domain.has_value();
    if (known && domain->host.devices.empty()) return Exit::done;
    const auto answer = ask("Confirm", {{"holder", holder_}, {"origin", "libvirt"}});
    if (!answer.parameters) {
        return tell(Exit::done, answer.error.empty()
                                    ? answer.why
                                    : refusal(holder_, nullptr, answer.error, answer.error_parameters));
    }
    // a machine whose start took longer than a provisional claim lasts has its devices all the same
    if (known && list_of(*answer.parameters, "claims").size() < targets_of(domain->host.devices).size()) {
        return adopt(domain->host.devices);
    }
    return Exit::done;
}

Exit Hook::release() {
    const auto answer = ask("Release", {{"holder", holder_}, {"origin", "libvirt"}});
    if (answer.parameters) return Exit::done;
    return tell(Exit::done,
                answer.error.empty() ? answer.why : refusal(holder_, nullptr, answer.error, answer.error_parameters));
}

Exit Hook::adopt_from_input() {
    const auto domain = read_domain(guest_);
    if (!domain) return tell(Exit::done, domain.error().message());
    return adopt(domain->host.devices);
}

Exit Hook::adopt(const std::vector<HostDevice>& devices) {
    const auto claim = [&](Json targets) {
        Json request = claim_request(std::move(targets));
        request["adopt"] = true;
        return ask("Claim", std::move(request));
    };
    Json targets = targets_of(devices);
    if (targets.empty()) return Exit::done;
    auto answer = claim(targets);
    if (answer.parameters) return Exit::done;
    if (answer.error.empty()) return tell(Exit::done, no_answer(guest_, devices, answer.why));
    // one that cannot be had does not keep the others from being registered
    for (const Json& target : targets) {
        answer = claim(Json::array({target}));
        if (answer.parameters) continue;
        const std::string why =
            answer.error.empty() ? answer.why : refusal(holder_, nullptr, answer.error, answer.error_parameters);
        report(fmt::format("{} runs with {} unregistered: {}", holder_, text_of(target, "what"), why));
    }
    return Exit::done;
}

Exit Hook::refuse(const std::vector<HostDevice>& devices, const Answer& answer) {
    Answer precise = answer;
    const HostDevice* device = culprit(devices, precise);
    return tell(Exit::failed, refusal(holder_, device, precise.error, precise.error_parameters));
}

/// Which of them the error is about; for a refusal of several, each is asked for, and what stands against the one that
/// it is takes the place of what stood against all.
const HostDevice* Hook::culprit(const std::vector<HostDevice>& devices, Answer& answer) {
    if (devices.size() == 1) return &devices.front();
    const auto what = text_of(answer.error_parameters, "what");
    for (const auto& device : devices) {
        if (!what.empty() && device.what == what) return &device;
    }
    if (!answer.error.ends_with(".Refused")) return nullptr;
    for (const auto& device : devices) {
        if (device.missing) continue;
        const auto verdict =
            ask("Explain", {{"target", {{"bus", to_text(device.bus)}, {"what", device.what}}}, {"holder", holder_}});
        if (!verdict.parameters || flag_of(*verdict.parameters, "granted")) continue;
        answer.error_parameters["blockers"] = list_of(*verdict.parameters, "blockers");
        answer.error_parameters["message"] = text_of(*verdict.parameters, "why");
        return &device;
    }
    return nullptr;
}

}  // namespace

Exit hook_libvirt(const Invocation& invocation) {
    const auto step = hook_step(invocation.value("OPERATION"), invocation.value("SUB-OPERATION"));
    return Hook(invocation).run(step);
}

}  // namespace storctl::cli
