// Jobs and outcomes as JSON. What does not have exactly this form is refused: it goes to a program that runs as root
// and writes to sysfs.

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "usbarb/actuation.hpp"

namespace storctl::usbarb {
namespace {

using Json = nlohmann::json;

constexpr int most_ports = 255;
constexpr size_t longest_message = 32 << 10;

Error bad(const std::string& what) { return make_error(std::errc::bad_message, what); }

std::string to_line(const Json& json) { return json.dump(-1, ' ', true, Json::error_handler_t::replace); }

Result<void> only_members(const Json& object, const std::set<std::string>& known, const std::string& where) {
    if (!object.is_object()) return bad(where + " is not an object");
    for (const auto& [name, value] : object.items()) {
        if (!known.contains(name))
            return bad(fmt::format("{} has an unknown member '{}'", where, escape_unprintable(name)));
    }
    return {};
}

/// The member's array; a missing one is empty.
Result<Json> array_member(const Json& object, const char* name) {
    const auto found = object.find(name);
    if (found == object.end()) return Json(Json::array());
    if (!found->is_array()) return bad(fmt::format("'{}' is not an array", name));
    return *found;
}

Result<std::string> text_member(const Json& object, const char* name) {
    const auto found = object.find(name);
    if (found == object.end() || !found->is_string()) return bad(fmt::format("'{}' is not a string", name));
    return found->get<std::string>();
}

/// Absolute, and it cannot lead anywhere else than it says.
Result<std::string> path_text(const Json& value, std::string_view what) {
    const std::string text = value.is_string() ? value.get<std::string>() : "";
    bool plain = text.starts_with('/') && text.find('\0') == std::string::npos && text.find('\n') == std::string::npos;
    for (const auto& part : split(text, '/')) plain = plain && part != ".." && part != ".";
    if (!plain) return bad(fmt::format("{} '{}' is not an absolute path", what, escape_unprintable(text)));
    return text;
}

bool is_function(std::string_view text) {
    // DDDD:BB:DD.F; domains of some hosts have more digits
    constexpr std::string_view tail = "hh:hh.o";
    const size_t colon = text.find(':');
    const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    if (colon == std::string_view::npos || colon < 4 || colon > 8 || text.size() != colon + 1 + tail.size())
        return false;
    if (!std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(colon), hex)) return false;
    for (size_t i = 0; i < tail.size(); ++i) {
        const char c = text[colon + 1 + i];
        const bool fits = tail[i] == 'h' ? hex(c) : tail[i] == 'o' ? c >= '0' && c <= '7' : c == tail[i];
        if (!fits) return false;
    }
    return true;
}

Result<HubPorts> parse_hub(const Json& object) {
    TRY(only_members(object, {"devnode", "ports"}, "a hub"));
    HubPorts hub;
    hub.devnode = TRY(path_text(object.value("devnode", Json()), "device node"));
    const Json ports = TRY(array_member(object, "ports"));
    for (const auto& port : ports) {
        const bool fits = port.is_number_unsigned() && port.get<uint64_t>() >= 1 && port.get<uint64_t>() <= most_ports;
        if (!fits) return bad(fmt::format("port '{}' is not 1 to {}", to_line(port), most_ports));
        hub.ports.push_back(port.get<uint8_t>());
    }
    return hub;
}

Result<DeviceNode> parse_node(const Json& object) {
    TRY(only_members(object, {"devnode", "interfaces"}, "a node"));
    DeviceNode node;
    node.devnode = TRY(path_text(object.value("devnode", Json()), "device node"));
    if (!object.contains("interfaces")) return node;
    const Json interfaces = TRY(array_member(object, "interfaces"));
    node.interfaces.emplace();
    for (const auto& number : interfaces) {
        const bool fits = number.is_number_unsigned() && number.get<uint64_t>() <= highest_restricted_interface;
        if (!fits)
            return bad(fmt::format("interface '{}' is not 0 to {}", to_line(number), highest_restricted_interface));
        node.interfaces->push_back(number.get<uint8_t>());
    }
    return node;
}

Result<FunctionWork> parse_function(const Json& object) {
    TRY(only_members(object, {"path", "former_driver"}, "a function"));
    FunctionWork work;
    work.path = TRY(text_member(object, "path"));
    if (!is_function(work.path)) {
        return bad(fmt::format("'{}' is not the address of a PCI function", escape_unprintable(work.path)));
    }
    if (object.contains("former_driver")) work.former_driver = TRY(text_member(object, "former_driver"));
    const std::string& driver = work.former_driver;
    if (driver.find_first_of(std::string_view("/\n\0", 3)) != std::string::npos || driver.starts_with('.')) {
        return bad(fmt::format("'{}' is not the name of a driver", escape_unprintable(driver)));
    }
    return work;
}

Result<Json> parse_object(std::string_view text, const std::set<std::string>& known, const std::string& where) {
    Json root = Json::parse(text, nullptr, false);
    if (root.is_discarded()) return bad(where + " is not JSON");
    TRY(only_members(root, known, where));
    return root;
}

}  // namespace

std::string job_text(const Job& job) {
    Json hubs = Json::array();
    for (const auto& hub : job.hubs) hubs.push_back({{"devnode", hub.devnode}, {"ports", hub.ports}});
    Json functions = Json::array();
    for (const auto& work : job.functions) {
        functions.push_back({{"path", work.path}, {"former_driver", work.former_driver}});
    }
    Json object{
        {"action", storctl::to_text(job.action)}, {"devices", job.devices}, {"hubs", hubs}, {"functions", functions}};
    if (job.node) object["node"] = {{"devnode", job.node->devnode}};
    if (job.node && job.node->interfaces) object["node"]["interfaces"] = *job.node->interfaces;
    return to_line(object);
}

Result<Job> parse_job(std::string_view text) {
    const Json root = TRY(parse_object(text, {"action", "devices", "hubs", "functions", "node"}, "a job"));
    Job job;
    const std::string name = TRY(text_member(root, "action"));
    const auto action = from_text<Action>(name);
    if (!action) return bad(fmt::format("action '{}' is not {}", escape_unprintable(name), all_names<Action>()));
    job.action = *action;
    const Json devices = TRY(array_member(root, "devices"));
    const Json hubs = TRY(array_member(root, "hubs"));
    const Json functions = TRY(array_member(root, "functions"));
    for (const auto& device : devices) {
        auto path = TRY(path_text(device, "device"));
        job.devices.push_back(std::move(path));
    }
    for (const auto& object : hubs) {
        auto hub = TRY(parse_hub(object));
        job.hubs.push_back(std::move(hub));
    }
    for (const auto& object : functions) {
        auto work = TRY(parse_function(object));
        job.functions.push_back(std::move(work));
    }
    if (root.contains("node")) job.node = TRY(parse_node(root.at("node")));
    return job;
}

std::string outcome_text(const Outcome& outcome) {
    return to_line({{"done", outcome.done},
                    {"message", outcome.message.substr(0, longest_message)},
                    {"former_drivers", outcome.former_drivers}});
}

Result<Outcome> parse_outcome(std::string_view text) {
    const Json root = TRY(parse_object(text, {"done", "message", "former_drivers"}, "an outcome"));
    Outcome outcome;
    const auto done = root.find("done");
    if (done == root.end() || !done->is_boolean()) return bad("'done' is not true or false");
    outcome.done = done->get<bool>();
    outcome.message = TRY(text_member(root, "message"));
    const auto formers = root.find("former_drivers");
    if (formers == root.end() || !formers->is_object()) return bad("'former_drivers' is not an object");
    for (const auto& [function, driver] : formers->items()) {
        if (!driver.is_string()) return bad("a former driver is not a string");
        outcome.former_drivers[function] = driver.get<std::string>();
    }
    return outcome;
}

}  // namespace storctl::usbarb
