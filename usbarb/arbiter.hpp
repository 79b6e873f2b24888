#pragma once
// The arbiter: topology, claims and in-use counters of one host, and the gate before every claim. Pure: facts and times
// come in, decisions and changes go out; who calls stores the changes and moves the drivers. One thread.
//
// Rules (claims are leases on counters, see usbarb/counter.hpp):
//   device      denied if another holds it, or a hub above it, or its controller is claimed or on its way.
//               Below the holder's own hub it is covered: granted and not counted.
//   hub         granted only while nothing below it is claimed; then all below, present and future, is the holder's.
//   controller  granted only while nothing on it is claimed or in use and all that must go along goes along.
//   A request for several is granted whole or not at all. Who asks again for what it holds gets the claim that it has.

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "usbarb/claim.hpp"
#include "usbarb/counter.hpp"
#include "usbarb/facts.hpp"
#include "usbarb/topology.hpp"

namespace storctl::usbarb {

struct Policy {
    std::chrono::seconds grace{30};  ///< how long a claim whose device went waits for it to come back
};

/// What a call did to one claim. Observed claims are told too; they are never stored.
struct Change {
    enum class What { added, changed, lost, restored, removed } what = What::changed;
    ClaimRecord claim;  ///< as it is now; of removed: as it was
};
using Changes = std::vector<Change>;

class Arbiter {
 public:
    explicit Arbiter(Policy policy = {});
    ~Arbiter();
    Arbiter(const Arbiter&) = delete;
    Arbiter& operator=(const Arbiter&) = delete;
    void set_policy(Policy policy) { policy_ = policy; }

    // ---- what is there. Each may be told again, in any order; telling the same twice changes nothing.

    /// New, or read again. A lost claim of the function, or of its root hub, returns when it is new.
    Changes put_controller(const ControllerFacts& facts);
    /// With everything below it, as unplugged.
    Changes remove_controller(const std::string& path, WallTime now);
    /// New, or read again. A lost claim on its socket returns when this is the same device (or it follows the socket).
    Changes plug(const DeviceFacts& facts, WallTime now);
    /// That half of the device, with everything below it on that half. Below a controller that is claimed it stays
    /// known as what was seen last, until `forget_absent`.
    Changes unplug(const Socket& socket, Half half, WallTime now);
    Changes forget_absent(const std::string& controller);
    /// A rescan: plugs what is in `present`, unplugs everything else. Controllers likewise.
    Changes replace_all(const std::vector<ControllerFacts>& controllers, const std::vector<DeviceFacts>& present,
                        WallTime now);

    /// Everything that the host and programs do with a device (or with a unit, a disk say, of a function), as seen now;
    /// empty: nothing. Becomes a claim of "host" or "proc:PID", origin "observed", unless somebody else's claim covers
    /// it: then it is only shown.
    Changes set_uses(const Socket& socket, std::vector<Use> uses, WallTime now);
    /// The same for the whole host: what is not named has no use.
    Changes replace_uses(const std::map<Socket, std::vector<Use>>& uses, WallTime now);

    // ---- decisions

    struct Resolution {
        Verdict verdict = Verdict::not_found;  ///< granted: `target` is it
        Target target;
        std::string why;
        std::vector<std::string> candidates;
    };
    /// A socket, kernel name ("1-2.1", "usb1"), "/dev/bus/usb/BBB/DDD", VID:PID or serial number.
    Resolution resolve_usb(std::string_view what) const;
    Resolution resolve_pci(std::string_view what) const;
    /// The functions that must go along with this one: its group's and companions that have a host driver, itself
    /// first.
    std::vector<Target> with_group(const Target& controller) const;

    /// What `claim` would say now: it is held and given back.
    Decision explain(const Request& request);
    /// Decides and, if granted, holds. New claims begin in phase none.
    Decision claim(const Request& request, WallTime now, Changes& changes);

    Changes confirm(std::string_view holder, std::string_view origin);  ///< empty origin: any
    /// Begins the end: state releasing, still counted and still in the way, until `finish_release`. Of a lost claim:
    /// ends it.
    Changes begin_release(ClaimId id, bool keep_off);
    /// The drivers are back (or nothing had to be done): it is gone. Claims that a hub's claim covered are counted from
    /// now on.
    Changes finish_release(ClaimId id, WallTime now);
    /// Phase, message and former driver of what the kernel was brought to.
    Changes set_phase(ClaimId id, Phase phase, std::string message, std::optional<std::string> former_driver = {});
    Changes set_boot(ClaimId id, std::string boot_id);
    /// Provisional claims whose time is over begin their release; lost ones end.
    Changes expire(WallTime now);
    std::optional<WallTime> next_deadline() const;

    // ---- across restarts

    /// Claims of the database, once, after the topology is known: counted where the device is there, lost where it is
    /// not.
    Changes restore(const std::vector<ClaimRecord>& records, WallTime now);
    /// Numbers up to this one are not given any more: something remembers them.
    void spend_numbers(ClaimId last) { next_id_ = std::max(next_id_, last + 1); }

    // ---- looking

    std::vector<ClaimRecord> claims() const;  ///< by id; observed ones last
    std::optional<ClaimRecord> find_claim(ClaimId id) const;
    /// Of this holder; empty holder: everybody's. Without observed ones.
    std::vector<ClaimId> claims_of(std::string_view holder, std::string_view origin = {}) const;
    std::vector<ClaimId> claims_on(const Target& target) const;  ///< without observed ones

    struct DeviceView {
        const DeviceFacts* facts;
        bool present;
        uint32_t in_use;           ///< of a hub: claims below
        const ClaimRecord* claim;  ///< on it, or the one that covers it; may be null
        const std::vector<Use>* uses;
    };
    struct ControllerView {
        const ControllerFacts* facts;
        uint32_t in_use;
        std::array<uint32_t, 2> bus_in_use;                   ///< by Half
        const ClaimRecord* claim;                             ///< of the function itself
        const ClaimRecord* root_claim;                        ///< a hub claim of its root hub
        std::map<std::string, const std::vector<Use>*> uses;  ///< by unit
    };
    void each_controller(const std::function<void(const ControllerView&)>& visit) const;
    /// In the order of a tree: each hub before what is below it.
    void each_device(const std::function<void(const DeviceView&)>& visit) const;
    std::optional<DeviceView> device_at(const Socket& socket, Half half) const;
    /// Devices in the socket and below, those that are there.
    std::vector<const DeviceFacts*> below(const Socket& hub) const;
    /// The hub claim that covers this socket, if any.
    const ClaimRecord* covering(const Socket& socket) const;
    const ControllerFacts* controller(const std::string& path) const;

    /// Every counter that is not zero, by what it counts for ("0000:00:14.0", "0000:00:14.0 usb2", "0000:00:14.0/2").
    std::map<std::string, uint32_t> counters() const;
    /// The same from the claims alone.
    std::map<std::string, uint32_t> recount() const;

 private:
    struct Claim {
        ClaimRecord record;
        Node* node = nullptr;    ///< none while it is lost
        Half half = Half::usb2;  ///< the bus that it counts on
        UseLease lease;
    };
    struct Judgement {
        bool granted = true;
        bool missing = false;  ///< there is no such thing
        ClaimId existing = 0;  ///< held before
        bool covered = false;
        std::string why;
        std::vector<Blocker> blockers;
    };

    // the gate
    Decision attempt(const Request& request, WallTime now, bool keep, Changes& changes);
    Judgement judge(const Target& target, const Request& request) const;
    Judgement judge_place(const Node& node, const Target& target, const Request& request) const;
    void judge_below(const Node& node, const Request& request, Judgement& judgement) const;
    void judge_function(const Node& node, const Request& request, Judgement& judgement) const;
    Blocker blocker_of(const Claim& claim) const;
    std::vector<Blocker> observed_blockers(const Node& node) const;
    bool is_used_by_other(const Node& node, const Request& request) const;
    const Claim* hub_above(const Node& node) const;
    void settle(const Request& request, const std::vector<ClaimId>& made, const std::vector<ClaimId>& all, WallTime now,
                Changes& changes);

    // claims
    Claim& hold(Node& node, const Target& target, const Request& request, bool covered, WallTime now);
    void count(Claim& claim);
    void uncount(Claim& claim);
    void attach(Claim& claim, Node& node);
    void detach(Claim& claim);
    static void learn_identities(Claim& claim, const Node& node);
    void erase(ClaimId id);
    void forget_lost(ClaimId id);
    void lose(Claim& claim, WallTime now, Changes& changes);
    void lose_place(Node& node, WallTime now, Changes& changes);
    bool may_return(const Claim& claim, const Node& node) const;
    bool can_return(const Claim& claim, Node& node, Changes& changes);
    bool fits(const Claim& claim, const Node& node) const;
    bool cover_below(Node& hub, const std::string& holder, Changes& changes);
    void return_lost(Node& node, Changes& changes);
    void observe(Node& node, WallTime now, Changes& changes);
    void observe_below(Node& node, WallTime now, Changes& changes);
    std::vector<Node*> counted_by(const Node& node) const;
    std::vector<std::string> counted_names(const Claim& claim) const;

    // places
    void unplug_below(Node& node, Half half, WallTime now, Changes& changes);
    std::vector<Node*> all_nodes() const;
    DeviceView view_of(const Node& node, Half half) const;
    Claim& get(ClaimId id) { return *claims_.at(id); }
    const Claim& get(ClaimId id) const { return *claims_.at(id); }

    Policy policy_;
    Topology topology_;
    std::map<ClaimId, std::unique_ptr<Claim>> claims_;  // after topology_: their leases end first
    std::multimap<Socket, ClaimId> lost_;
    ClaimId next_id_ = 1;
    ClaimId next_observed_id_;
};

}  // namespace storctl::usbarb
