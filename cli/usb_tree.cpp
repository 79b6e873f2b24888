// Places are found by their sockets alone, "CONTROLLER/PORT.PORT": each hangs below the longest socket that is a part
// of its own, so that also what is left of a hub that has gone has its place.
#include "cli/usb_tree.hpp"

#include <algorithm>
#include <iterator>
#include <map>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "cli/claim_view.hpp"
#include "cli/fields.hpp"
#include "cli/usb_view.hpp"

namespace storctl::cli {
namespace {

/// How the description of a function begins that is one.
constexpr std::string_view usb_controller = "USB controller ";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Port 10 after port 9.
struct NumbersInOrder {
    bool operator()(const std::string& a, const std::string& b) const {
        size_t i = 0, j = 0;
        while (i < a.size() && j < b.size()) {
            if (is_digit(a[i]) && is_digit(b[j])) {
                const std::string left = digits(a, i), right = digits(b, j);
                if (left != right) return left.size() != right.size() ? left.size() < right.size() : left < right;
            } else if (a[i] != b[j]) {
                return a[i] < b[j];
            } else {
                ++i;
                ++j;
            }
        }
        return a.size() - i < b.size() - j;
    }

 private:
    /// Takes a run of digits, without the zeros before it.
    static std::string digits(const std::string& text, size_t& at) {
        const size_t begin = at;
        while (at < text.size() && is_digit(text[at])) ++at;
        const std::string run = text.substr(begin, at - begin);
        return run.substr(std::min(run.find_first_not_of('0'), run.size() - 1));
    }
};

/// What is at one socket.
struct Place {
    std::vector<const Json*> devices;  ///< by half
    const Json* lost = nullptr;        ///< the claim that waits for a device here
};
using Places = std::map<std::string, Place, NumbersInOrder>;

struct Controller {
    Json facts;
    Places places;
};

class Inventory {
 public:
    explicit Inventory(const Json& inventory, const Screen& screen) : arrow_(screen.utf8 ? "→ " : "-> ") {
        for (const Json& controller : list_of(inventory, "controllers")) {
            if (text_of(controller, "kind") == "usb") controllers_[text_of(controller, "path")].facts = controller;
        }
        for (const Json& entry : list_of(inventory, "claims")) {
            if (member(entry, "id").is_number()) claims_[number_of(entry, "id")] = &entry;
        }
        for (const Json& device : list_of(inventory, "devices")) add_device(device);
        for (const auto& [id, entry] : claims_) add_claim(*entry);
    }

    std::vector<Branch> branches() const {
        std::vector<Branch> out;
        for (const auto& [path, controller] : controllers_) out.push_back(branch_of(path, controller));
        return out;
    }

 private:
    /// The controller's part of a socket; one that is not known gets a branch all the same.
    std::string controller_of(const std::string& socket) const {
        std::string found;
        for (const auto& [path, controller] : controllers_) {
            const bool part = socket == path || socket.starts_with(path + "/");
            if (part && path.size() > found.size()) found = path;
        }
        return found.empty() ? socket.substr(0, socket.rfind('/')) : found;
    }

    void add_device(const Json& device) {
        const std::string socket = text_of(device, "socket"), path = controller_of(socket);
        if (socket.empty()) return;
        Controller& controller = controllers_[path];
        if (socket != path) controller.places[socket].devices.push_back(&device);  // the root hub is the controller
    }

    void add_claim(const Json& entry) {
        const std::string socket = text_of(entry, "target");
        if (text_of(entry, "state") != "lost" || socket.empty()) return;
        if (text_of(entry, "kind") == "controller") {
            const bool known = controllers_.find(socket) != controllers_.end();
            if (!known && text_of(entry, "description").starts_with(usb_controller)) {
                controllers_[socket].facts = facts_of_lost(entry);
            }
            return;
        }
        const std::string path = controller_of(socket);
        if (socket == path) return;
        controllers_[path].places[socket].lost = &entry;
    }

    /// Of a controller that has gone, as far as its claim tells.
    static Json facts_of_lost(const Json& entry) {
        return {{"description", text_of(entry, "description")},
                {"driver", "gone"},
                {"holder", text_of(entry, "holder")},
                {"claim", number_of(entry, "id")}};
    }

    const Json* claim_of(const Json& object) const {
        const auto found = claims_.find(number_of(object, "claim"));
        return member(object, "claim").is_number() && found != claims_.end() ? found->second : nullptr;
    }

    /// "vm:web1 #12 provisional"
    static Cell state_of(const std::string& holder, const Json* entry) {
        if (entry == nullptr) return {holder};
        const std::string state = text_of(*entry, "state");
        const bool failed = text_of(*entry, "phase") == "failed";
        std::string text = fmt::format("{} {}", holder, claim_number(member(*entry, "id")));
        if (state != "active") text += " " + state;
        return {text, failed ? Style::bad : claim_state_style(state)};
    }

    /// Why it is held, where the claim is of this very target.
    static void add_reasons(std::vector<std::string>& remarks, const Json* entry, const std::string& target) {
        if (entry == nullptr || text_of(*entry, "target") != target) return;
        const std::string reason = text_of(*entry, "reason"), deadline = text_of(*entry, "deadline");
        const std::string phase = text_of(*entry, "phase"), message = text_of(*entry, "message");
        if (!deadline.empty()) remarks.push_back("until " + deadline);
        if (!reason.empty()) remarks.push_back(reason);
        if (phase == "failed" || phase == "pending") {
            remarks.push_back(fmt::format("drivers {}{}{}", phase, message.empty() ? "" : ": ", message));
        }
    }

    /// A claim of all that is on the controller, through its root hub.
    const Json* root_hub_claim(const std::string& path) const {
        for (const auto& [id, entry] : claims_) {
            if (text_of(*entry, "kind") == "hub" && text_of(*entry, "target") == path) return entry;
        }
        return nullptr;
    }

    Branch branch_of(const std::string& path, const Controller& controller) const {
        const Json& facts = controller.facts;
        std::vector<std::string> buses;
        for (const Json& bus : list_of(facts, "buses")) buses.push_back(fmt::format("usb{}", number_of(bus, "number")));
        const std::string driver = text_of(facts, "driver");
        std::string text = text_of(facts, "description");
        if (text.starts_with(usb_controller)) text.erase(0, usb_controller.size());
        Branch out{.names = {path, join(buses, ", "), driver.empty() ? "no driver" : driver},
                   .text = text,
                   .count = fmt::to_string(number_of(facts, "in_use"))};
        const std::string holder = text_of(facts, "holder");
        const Json* entry = claim_of(facts);
        const bool root_hub_only = entry != nullptr && text_of(*entry, "kind") == "hub";
        if (!holder.empty()) {
            out.state = state_of(root_hub_only ? holder : arrow_ + holder, entry);
        } else if ((entry = root_hub_claim(path)) != nullptr) {
            out.state = state_of(text_of(*entry, "holder"), entry);
        }
        out.remarks = use_texts(facts);
        add_reasons(out.remarks, entry, path);
        const auto companions = texts_of(facts, "companions");
        if (!companions.empty()) out.remarks.push_back("shares its sockets with " + join(companions, ", "));
        auto next = controller.places.begin();
        out.below = branches_below(path, path, controller.places, next);
        return out;
    }

    /// The branches from `next` on whose sockets begin with `above`; a hub's socket stands before those below it.
    std::vector<Branch> branches_below(const std::string& above, const std::string& path, const Places& places,
                                       Places::const_iterator& next) const {
        std::vector<Branch> out;
        while (next != places.end() && is_below(next->first, above, path)) {
            const auto& [socket, place] = *next++;
            auto here = branches_at(socket, path, place);
            here.front().below = branches_below(socket, path, places, next);
            std::move(here.begin(), here.end(), std::back_inserter(out));
        }
        return out;
    }

    static bool is_below(const std::string& socket, const std::string& above, const std::string& path) {
        return socket.starts_with(above + (above == path ? '/' : '.'));
    }

    std::vector<Branch> branches_at(const std::string& socket, const std::string& path, const Place& place) const {
        std::vector<Branch> out;
        const bool one_hub = std::all_of(place.devices.begin(), place.devices.end(),
                                         [](const Json* device) { return flag_of(*device, "hub"); });
        if (one_hub && !place.devices.empty()) {
            out.push_back(device_branch(socket, path, place.devices));
        } else {
            for (const Json* device : place.devices) out.push_back(device_branch(socket, path, {device}));
        }
        if (place.lost != nullptr) out.push_back(lost_branch(socket, path, *place.lost));
        return out;
    }

    Branch lost_branch(const std::string& socket, const std::string& path, const Json& entry) const {
        std::string ids = text_of(entry, "description"), text;
        if (const size_t blank = ids.find(' '); blank != std::string::npos) {
            text = ids.substr(blank + 1);
            ids.resize(blank);
        }
        Branch out{.names = {socket.substr(path.size()), ids}, .text = text};
        out.state = state_of(text_of(entry, "holder"), &entry);
        add_reasons(out.remarks, &entry, socket);
        return out;
    }

    /// Its kernel names; the socket behind them where they do not tell it, and alone where it is not there.
    static std::vector<std::string> names_of(const std::string& socket, const std::string& path,
                                             const std::vector<const Json*>& halves) {
        const std::string ports = socket.substr(path.size());
        std::vector<std::string> names;
        for (const Json* half : halves) names.push_back(text_of(*half, "kernel_name"));
        const std::string chain = "/" + names.front().substr(names.front().find('-') + 1);
        const std::string ids = usb_ids(*halves.front());
        if (maybe_flag_of(*halves.front(), "present") == false) return {ports, ids};
        return {join(names, ", ") + (chain == ports ? "" : " at " + ports), ids};
    }

    static std::string text_for(const Json& device) {
        const std::string names = usb_names(device);
        if (!names.empty()) return names;
        if (flag_of(device, "hub")) return "(hub)";
        for (const Json& interface : list_of(device, "interfaces")) {
            return fmt::format("({})", class_name(number_of(interface, "class")));
        }
        return "";
    }

    Branch device_branch(const std::string& socket, const std::string& path,
                         const std::vector<const Json*>& halves) const {
        const Json& device = *halves.front();
        Branch out{.names = names_of(socket, path, halves), .text = text_for(device)};
        const bool hub = flag_of(device, "hub");
        uint64_t in_use = 0;
        for (const Json* half : halves) in_use = std::max(in_use, number_of(*half, "in_use"));
        if (hub) out.count = fmt::to_string(in_use);
        if (maybe_flag_of(device, "present") == false) {
            out.state = {"absent", Style::dim};
            out.dim = true;
            return out;
        }
        out.remarks = use_texts(device);
        const std::string holder = text_of(device, "holder");
        const Json* entry = claim_of(device);
        if (!holder.empty()) out.state = state_of(holder, entry);
        if (holder.empty() && out.remarks.empty() && !hub) out.state = {"free", Style::dim};
        add_reasons(out.remarks, entry, socket);
        return out;
    }

    std::string arrow_;
    std::map<std::string, Controller, NumbersInOrder> controllers_;
    std::map<uint64_t, const Json*> claims_;
};

}  // namespace

std::vector<Branch> usb_branches(const Json& inventory, const Screen& screen) {
    return Inventory(inventory, screen).branches();
}

std::string format_usb_tree(const Json& inventory, const Screen& screen) {
    const auto branches = usb_branches(inventory, screen);
    if (branches.empty()) return "no USB controllers here\n";
    return format_tree(branches, {.name = "DEVICE", .count = "IN USE", .state = "HOLDER"}, screen);
}

}  // namespace storctl::cli
