#include "cli/next_steps.hpp"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/claim_view.hpp"
#include "cli/display.hpp"
#include "cli/fields.hpp"
#include "usbarb/facts.hpp"

namespace storctl::cli {
namespace {

using usbarb::UseKind;

/// "/srv" of "mounted on /srv (sda1)".
std::string between(const std::string& text, std::string_view before, std::string_view after) {
    if (!text.starts_with(before)) return "";
    const size_t end = text.rfind(after);
    const bool ends = end != std::string::npos && end >= before.size();
    return text.substr(before.size(), ends ? end - before.size() : std::string::npos);
}

std::string end_of_use(UseKind kind, const std::string& text, uint64_t pid) {
    switch (kind) {
        case UseKind::mount: {
            const std::string place = between(text, "mounted on ", " (");
            return place.starts_with('/') ? fmt::format("umount {}", shell_quote(place)) : "unmount it: umount(8)";
        }
        case UseKind::swap:
            return "switch the swap area off: swapoff(8)";
        case UseKind::holder:
            return "stop what is built on it: vgchange(8), mdadm(8), cryptsetup(8), dmsetup(8)";
        case UseKind::loop:
            return "detach the loop device: losetup(8)";
        case UseKind::node: {
            const std::string name = between(text, "behind node '", "' (");
            return name.empty() ? "storctl node list" : fmt::format("storctl node remove {}", shell_quote(name));
        }
        case UseKind::network: {
            const std::string name = between(text, "network interface ", " is up");
            return name.empty() ? "take the interface down: ip-link(8)"
                                : fmt::format("ip link set {} down", shell_quote(name));
        }
        case UseKind::usbfs:
        case UseKind::open:
            return pid == 0 ? "find the program with fuser(1), and end it"
                            : fmt::format("end process {}: ps -fp {}", pid, pid);
        case UseKind::console:
            return "it is a keyboard of this host: host_console = \"ignore\" in stord.toml(5) gives it free";
    }
    return "";
}

class Steps {
 public:
    Steps(const Question& question, const Json& inventory) : question_(question), inventory_(inventory) {}

    std::vector<std::string> of(const Json& answer) {
        if (flag_of(answer, "granted")) return of_granted(answer);
        for (const Json& blocker : list_of(answer, "blockers")) add(step_for(blocker));
        if (along_ || !out_.empty()) add(claim_command());
        return std::move(out_);
    }

 private:
    void add(std::string step) {
        if (!step.empty() && std::find(out_.begin(), out_.end(), step) == out_.end()) out_.push_back(std::move(step));
    }

    std::string holder() const { return question_.holder.empty() ? "vm:NAME" : shell_quote(question_.holder); }

    std::string claim_command() const {
        return fmt::format("storctl {} claim {}{} --for {}", question_.bus, shell_quote(question_.what),
                           along_ ? " --group" : "", holder());
    }

    std::vector<std::string> of_granted(const Json& answer) {
        for (const Json& entry : list_of(answer, "claims")) {
            const bool own = !question_.holder.empty() && text_of(entry, "holder") == question_.holder;
            const std::string number = claim_number(member(entry, "id"));
            if (own && !number.empty() && number != "#0") {
                return {fmt::format("nothing: {} has it already ({})", question_.holder, number)};
            }
        }
        return {claim_command()};
    }

    const Json* claim_behind(const Json& blocker) const {
        for (const Json& entry : list_of(inventory_, "claims")) {
            const bool same = text_of(entry, "target") == text_of(blocker, "target") &&
                              text_of(entry, "holder") == text_of(blocker, "holder");
            if (same && member(entry, "id").is_number()) return &entry;
        }
        return nullptr;
    }

    /// Whether somebody works with it at this moment: to release it then takes it away from under a running machine.
    bool seems_running(const Json& entry) const {
        if (text_of(entry, "origin") == "libvirt") return true;
        const std::string target = text_of(entry, "target");
        const auto& devices = list_of(inventory_, "devices");
        return std::any_of(devices.begin(), devices.end(), [&](const Json& device) {
            const std::string socket = text_of(device, "socket");
            const bool within =
                socket == target || socket.starts_with(target + '.') || socket.starts_with(target + '/');
            const auto& uses = list_of(device, "uses");
            return within && std::any_of(uses.begin(), uses.end(), [](const Json& use) {
                       const auto kind = from_text<UseKind>(text_of(use, "kind"));
                       return kind == UseKind::usbfs || kind == UseKind::open;
                   });
        });
    }

    static std::string end_of_machine(const std::string& holder) {
        constexpr std::string_view machine = "vm:";
        if (!holder.starts_with(machine)) return fmt::format("end what {} does with it first", holder);
        return fmt::format("shut the machine down or detach it there first (virsh shutdown {})",
                           shell_quote(holder.substr(machine.size())));
    }

    /// The use whose words the blocker's reason is.
    const Json* use_behind(const Json& blocker) const {
        const std::string reason = text_of(blocker, "reason");
        for (const char* key : {"devices", "controllers"}) {
            for (const Json& object : list_of(inventory_, key)) {
                for (const Json& use : list_of(object, "uses")) {
                    if (text_of(use, "text") == reason) return &use;
                }
            }
        }
        return nullptr;
    }

    std::string step_for(const Json& blocker) {
        const std::string target = text_of(blocker, "target"), held_by = text_of(blocker, "holder");
        if (const Json* entry = claim_behind(blocker)) {
            const char* bus = text_of(*entry, "kind") == "controller" ? "pci" : "usb";
            if (text_of(*entry, "state") == "releasing") return fmt::format("wait: {} is being released", target);
            if (seems_running(*entry)) add(end_of_machine(held_by));
            return fmt::format("storctl {} release {} --for {}", bus, shell_quote(target), shell_quote(held_by));
        }
        if (const Json* use = use_behind(blocker)) {
            const auto kind = from_text<UseKind>(text_of(*use, "kind"));
            return kind ? end_of_use(*kind, text_of(*use, "text"), number_of(*use, "pid")) : "";
        }
        if (!member(blocker, "since").is_string()) along_ = true;  // another function of the group
        if (held_by.starts_with("vm:")) {
            return fmt::format("storctl usb claims -o ID,TARGET,HOLDER | grep -F {}", shell_quote(held_by));
        }
        return "";
    }

    const Question& question_;
    const Json& inventory_;
    std::vector<std::string> out_;
    bool along_ = false;
};

}  // namespace

std::vector<std::string> next_steps(const Question& question, const Json& answer, const Json& inventory) {
    return Steps(question, inventory).of(answer);
}

}  // namespace storctl::cli
