#include "cli/connection.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>

#include "base/text.hpp"
#include "cli/claim_view.hpp"
#include "cli/fields.hpp"
#include "cli/output.hpp"

namespace storctl::cli {
namespace {

/// How an error of stord's interfaces ends storctl; by its name without the interface.
struct Meaning {
    std::string_view error;
    Exit exit;
    std::string_view key;     ///< the parameter that names the subject
    std::string_view phrase;  ///< {0}: the subject; used when stord sent no message of its own
    std::string_view items;   ///< the parameter that lists blockers or candidates
    std::string_view advice;
};

/// After this long somebody wonders what is going on.
constexpr std::chrono::seconds slow{3};

constexpr auto meanings = std::to_array<Meaning>({
    {"Device.NotFound", Exit::not_found, "id", "no device '{}'", "", "'storctl device list' shows all"},
    {"Device.Ambiguous", Exit::ambiguous, "id", "'{}' is more than one device; give one of", "candidates", ""},
    {"Device.Refused", Exit::refused, "id", "refused for device '{}'", "blockers", ""},
    {"Device.InvalidValue", Exit::usage, "parameter", "the value of '{}' is not right", "", ""},
    {"Node.NotFound", Exit::not_found, "name", "no node '{}'", "", "'storctl node list' shows all"},
    {"Node.AlreadyExists", Exit::failed, "name", "there is a node '{}' already", "",
     "choose another name, or 'storctl node remove' it"},
    {"Node.InvalidValue", Exit::usage, "parameter", "the value of '{}' is not right", "", ""},
    {"Node.Refused", Exit::refused, "", "refused", "blockers", ""},
    {"Node.Failed", Exit::failed, "", "failed", "", ""},
    {"Node.DeviceNotFound", Exit::not_found, "id", "no device '{}'", "", "'storctl device list' shows all"},
    {"Node.DeviceAmbiguous", Exit::ambiguous, "id", "'{}' is more than one device; give one of", "candidates", ""},
    {"Arbiter.NotFound", Exit::not_found, "what", "no '{}'", "",
     "'storctl usb list', 'storctl usb claims' and 'storctl pci list' show all"},
    {"Arbiter.Ambiguous", Exit::ambiguous, "what", "'{}' is more than one device; give one of", "candidates", ""},
    {"Arbiter.InvalidValue", Exit::usage, "parameter", "the value of '{}' is not right", "", ""},
    {"Arbiter.Refused", Exit::refused, "", "refused", "blockers", ""},
    {"Arbiter.Failed", Exit::failed, "", "failed", "", ""},
    {"Arbiter.RuleNotFound", Exit::not_found, "id", "no rule {}", "", "'storctl usb rule list' shows all"},
});

/// A name, or a number.
std::string subject_of(const Json& parameters, std::string_view key) {
    const Json& value = member(parameters, key);
    return value.is_number() ? value.dump() : text_of(parameters, key);
}

/// Sentences, or blockers of the arbiter.
std::vector<std::string> items_of(const Json& parameters, std::string_view key) {
    std::vector<std::string> out;
    for (const Json& element : list_of(parameters, key)) {
        if (element.is_string()) out.push_back(element.get_ref<const std::string&>());
        if (element.is_object()) out.push_back(describe_blocker(element));
    }
    return out;
}

Failure explain_standard(const std::string& name, const Json& parameters) {
    const std::string message = text_of(parameters, "message");
    if (name == "org.varlink.service.PermissionDenied") {
        return {Exit::not_permitted,
                message.empty() ? "not permitted: changes want root, or the group that stord's configuration names"
                                : message,
                {}};
    }
    if (name == "org.varlink.service.InvalidParameter") {
        return {Exit::usage,
                fmt::format("stord does not take the parameter '{}'{}{}", text_of(parameters, "parameter"),
                            message.empty() ? "" : ": ", message),
                {}};
    }
    if (name == "org.varlink.service.MethodNotFound" || name == "org.varlink.service.InterfaceNotFound" ||
        name == "org.varlink.service.MethodNotImplemented") {
        return {Exit::failed,
                fmt::format("the running stord does not know this ({}): it is older than storctl; restart it",
                            text_of(parameters, name.ends_with("InterfaceNotFound") ? "interface" : "method")),
                {}};
    }
    return {Exit::failed, fmt::format("stord answered {}{}{}", name, message.empty() ? "" : ": ", message), {}};
}

}  // namespace

Failure explain_reply(const std::string& error_name, const Json& parameters) {
    constexpr std::string_view prefix = "io.storctl.";
    const std::string_view name = error_name;
    const auto meaning = std::find_if(meanings.begin(), meanings.end(), [&](const Meaning& row) {
        return name.starts_with(prefix) && name.substr(prefix.size()) == row.error;
    });
    if (meaning == meanings.end()) return explain_standard(error_name, parameters);
    Failure failure{meaning->exit, text_of(parameters, "message"), items_of(parameters, meaning->items)};
    const std::string subject = subject_of(parameters, meaning->key), value = text_of(parameters, "value");
    if (meaning->exit == Exit::usage && !failure.message.empty() && failure.message.find(value) == std::string::npos) {
        failure.message = fmt::format("{} '{}': {}", subject, value, failure.message);
    }
    if (failure.message.empty()) failure.message = fmt::format(fmt::runtime(meaning->phrase), subject);
    // a sentence that names a command has its advice
    const bool advised = failure.message.find("'storctl ") != std::string::npos;
    if (!meaning->advice.empty() && !advised) failure.message += fmt::format("; {}", meaning->advice);
    if (!failure.items.empty()) failure.message += ':';
    return failure;
}

Failure explain_transport(const Error& error, const std::string& socket_path, bool connected) {
    if (error.code == std::errc::permission_denied && !connected) {
        return {
            Exit::not_permitted, fmt::format("{}; look at the mode of the socket and its folder", error.message()), {}};
    }
    if (error.code == std::errc::operation_canceled) {
        return {.exit = Exit::failed, .message = error.message(), .items = {}, .stopped = true};
    }
    if (error.code == std::errc::timed_out) {
        return {Exit::unreachable,
                fmt::format("stord took the call on '{}' and does not answer: {}", socket_path, error.message()),
                {"look at it: systemctl status stord; journalctl -u stord"},
                connected};
    }
    if (connected) {
        return {Exit::unreachable,
                fmt::format("the connection to stord on '{}' broke: {}", socket_path, error.message()),
                {"look at it: systemctl status stord; journalctl -u stord"}};
    }
    return {Exit::unreachable,
            fmt::format("stord does not answer: {}", error.message()),
            {"start it: systemctl start stord", "elsewhere? --run-dir DIR or STORCTL_RUN_DIR name its run directory"}};
}

Failure still_at_work(std::string_view awaited, std::chrono::milliseconds waited) {
    return {Exit::unreachable,
            fmt::format("no end within {} minutes, and the work goes on: {}",
                        std::chrono::duration_cast<std::chrono::minutes>(waited).count(), awaited),
            {"watch it: storctl usb claims; storctl monitor"}};
}

Exit report_failure(const Failure& failure) {
    report(failure.message, failure.items);
    return failure.exit;
}

Connection::Connection(const std::string& run_dir) : socket_path_(run_dir + "/io.storctl") {}
Connection::~Connection() = default;

bool Connection::connect() {
    if (client_) return true;
    auto connected = control::Client::connect(socket_path_);
    if (connected) {
        client_ = std::move(connected).value();
    } else {
        failure_ = explain_transport(connected.error(), socket_path_, false);
    }
    return client_ != nullptr;
}

std::optional<Json> Connection::try_call(const std::string& method, Json parameters,
                                         std::chrono::milliseconds timeout) {
    descriptors_.clear();
    if (!connect()) return std::nullopt;
    auto reply = client_->call(method, std::move(parameters), timeout);
    if (!reply) {
        failure_ = explain_transport(reply.error(), socket_path_, true);
        client_.reset();
        return std::nullopt;
    }
    if (reply->error) {
        failure_ = explain_reply(*reply->error, reply->parameters);
        return std::nullopt;
    }
    descriptors_ = std::move(reply->descriptors);
    return std::move(reply->parameters);
}

std::optional<Json> Connection::try_long_call(const std::string& method, Json parameters, const std::string& awaited,
                                              int stop) {
    if (!connect()) return std::nullopt;
    client_->stop_waiting_at(stop);
    client_->when_slow(slow, [&awaited] { report("waiting: " + awaited); });
    auto answer = try_call(method, std::move(parameters), drivers_timeout);
    if (client_) client_->when_slow({}, nullptr);
    if (client_) client_->stop_waiting_at(-1);
    if (!answer && failure_.timed_out) failure_ = still_at_work(awaited, drivers_timeout);
    return answer;
}

std::optional<Json> Connection::call(const std::string& method, Json parameters, std::chrono::milliseconds timeout) {
    auto answer = try_call(method, std::move(parameters), timeout);
    if (!answer) report_failure(failure_);
    return answer;
}

Exit Connection::stream(const std::string& method, const std::function<bool(const Json&)>& on_answer) {
    if (!connect()) return report_failure(failure_);
    bool enough = false;
    std::optional<Failure> refused;
    const auto ended = client_->subscribe(method, Json::object(), [&](const control::Reply& reply) {
        if (reply.error) {
            refused = explain_reply(*reply.error, reply.parameters);
            return false;
        }
        enough = !on_answer(reply.parameters);
        return !enough;
    });
    if (refused) return report_failure(*refused);
    if (enough) return Exit::done;
    if (!ended) return report_failure(explain_transport(ended.error(), socket_path_, true));
    return report_failure({Exit::unreachable, fmt::format("stord ended the stream on '{}'", socket_path_), {}});
}

}  // namespace storctl::cli
