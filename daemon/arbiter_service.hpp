#pragma once
// io.storctl.Arbiter: claims on USB devices, hubs and PCI functions. Follows what is plugged in and used, answers the
// interface's methods, publishes claim-*, usb-* and rule-* events. Claims and the drivers that they moved outlive this
// object. Loop thread only.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "control/server.hpp"
#include "daemon/arbiter_calls.hpp"
#include "daemon/arbiter_kernel.hpp"
#include "daemon/event_hub.hpp"
#include "daemon/state_db.hpp"

namespace storctl {

struct ArbiterOptions {
    ArbiterSettings settings;
    std::string boot_id;               ///< of /proc/sys/kernel/random/boot_id
    std::set<std::string> seen_plugs;  ///< what an earlier stord of this boot knew: "SOCKET DEVNODE"
    usbarb::KernelPaths kernel;
};

class ArbiterService {
 public:
    struct Counts {
        size_t total = 0, lost = 0, failed = 0;  ///< claims that somebody asked for
    };

    static Result<std::unique_ptr<ArbiterService>> open(EventLoop& loop, StateDb& db, EventHub& hub,
                                                        std::unique_ptr<ArbiterKernel> kernel, ArbiterOptions options);
    ~ArbiterService();

    /// Enumerates (blocking), takes over the claims of the database and begins to bring the kernel to what they say.
    /// `settled` once: it is known what is used.
    Result<void> start(std::function<void()> settled);
    Result<void> serve(control::Server& server);
    void set_settings(const ArbiterSettings& settings);
    /// Disks behind mediated nodes, asked before each look: kernel name → node's name.
    void set_nodes(UseWatch::Nodes nodes);
    /// Devices behind mediated nodes likewise: their raw nodes → node's name.
    void set_usb_nodes(UseWatch::Nodes nodes);
    /// The processes of all nodes likewise.
    void set_node_processes(std::function<NodeProcesses()> processes);
    /// Asked before a claim ends; they must outlive the service's use.
    void set_claim_nodes(ClaimNodes& nodes);
    /// Full enumeration again.
    Result<void> rescan();

    /// Who has claimed what this block device ("sda", "dm-3") lies on: one sentence; nothing: nobody.
    std::optional<std::string> claimed_below(const std::string& block) const;

    // for mediated nodes; ArbiterCalls says more
    void claim_device(const std::shared_ptr<control::Call>& call, DeviceClaim wanted, DeviceClaimed done);
    void release_own(usbarb::ClaimId claim, ArbiterCalls::Drivers drivers, std::function<void(std::string)> done);
    /// Once nobody works on the claim; perhaps from inside.
    void when_idle(usbarb::ClaimId claim, std::function<void()> then);
    bool busy(usbarb::ClaimId claim) const;
    std::vector<usbarb::ClaimRecord> claims() const;
    std::optional<usbarb::ClaimRecord> find_claim(usbarb::ClaimId claim) const;
    /// What is plugged in there, whoever has it.
    std::optional<usbarb::DeviceFacts> device_in(const usbarb::Socket& socket) const;
    /// The claimed device, when it is there, the claim in force and nobody works on it.
    std::optional<usbarb::DeviceFacts> device_of(usbarb::ClaimId claim) const;

    nlohmann::json describe_claims() const;   ///< for state.json
    nlohmann::json describe_devices() const;  ///< the same, shortened
    Counts counts() const;
    /// Sentences for `status`.
    std::vector<std::string> findings() const;

 private:
    struct Parts;
    explicit ArbiterService(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

/// "SOCKET DEVNODE" of what the state file of an earlier stord lists; empty when there is none.
std::set<std::string> seen_plugs(const std::string& state_file);

}  // namespace storctl
