#pragma once
// Nodes over USB devices: each lives with a claim. Makes both or nothing, ends one with the other, and brings together
// after a start what a stord that was killed has left. Loop thread only.
//
//   CreateUsb   claim (recorded, actuated) → node (recorded, started) → answer;  a failure takes back what was made
//   Remove      process → record → own claim
//   Release     process → record → claim → drivers;                              refused while open, unless by force
//   claim ends by itself: the same, by force
//
// A claim that was made for a node says so in its origin, "node:NAME": without that node in the database nobody was
// ever told of it, or it was being ended.

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "daemon/arbiter_service.hpp"
#include "daemon/claim_nodes.hpp"
#include "daemon/node_service.hpp"
#include "daemon/usb_node_request.hpp"

namespace storctl {

class UsbNodes final : public ClaimNodes {
 public:
    /// Before the arbiter starts: claims of the database wait with their end until their nodes can be asked.
    static Result<std::unique_ptr<UsbNodes>> open(EventLoop& loop, StateDb& db, EventHub& hub, ArbiterService& arbiter);

    /// Before the service takes up its nodes, which ask for their devices. It must end before this object.
    void attach(NodeService& nodes);
    /// Once it has taken them up: ends what does not belong together any more.
    void resume();

    /// Devices behind nodes: "/dev/bus/usb/001/004" → node's name.
    std::map<std::string, std::string> devices() const;
    /// Of all nodes, over disks too; before they are taken up nobody's is known.
    NodeProcesses processes() const;

    std::optional<std::string> over(usbarb::ClaimId claim) const override;
    std::optional<std::string> at(const usbarb::Socket& socket) const override;
    std::optional<Refusal> refusal(const std::vector<usbarb::ClaimId>& claims) const override;
    void end(const std::vector<usbarb::ClaimId>& claims, bool force, Ended done) override;
    void hurry(const std::vector<usbarb::ClaimId>& claims) override;

 private:
    struct Work;
    struct Ending;
    struct Waiting {
        std::vector<usbarb::ClaimId> claims;
        bool force = false;
        Ended done;
    };

    struct Place {
        std::optional<std::string> usable;
        UsbStanding standing;
        bool operator==(const Place&) const = default;
    };

    UsbNodes(EventLoop& loop, ArbiterService& arbiter) : loop_(loop), arbiter_(arbiter) {}
    std::vector<NodeRecord> records() const;
    std::vector<std::string> names_over(const std::vector<usbarb::ClaimId>& claims) const;
    std::optional<usbarb::ClaimRecord> claim_of(const NodeRecord& record) const;
    std::optional<std::string> locate(const NodeRecord& record) const;
    UsbStanding standing(const NodeRecord& record) const;
    Place place_of(const NodeRecord& record) const { return {.usable = locate(record), .standing = standing(record)}; }

    void create(control::Call call);
    bool accept(control::Call& call, const std::shared_ptr<Work>& work, const usbarb::Socket& socket,
                const std::optional<usbarb::ClaimRecord>& held);
    void answer_sketch(const Work& work, const ClaimedDevice& device);
    void make(const std::shared_ptr<Work>& work, const ClaimedDevice& device);
    void made(const std::shared_ptr<Work>& work, const ClaimedDevice& device,
              const std::optional<ManagedNode::StartFailure>& failure);
    void give_up(const std::shared_ptr<Work>& work, const ClaimedDevice& device, std::string error,
                 nlohmann::json parameters);

    void stop_all(const std::shared_ptr<Ending>& ending);
    void stopped(const std::shared_ptr<Ending>& ending);

    void look_soon();
    void look();
    void look_at(const NodeRecord& record);
    void end_orphan(const std::string& name);
    void end_orphans_later(const std::string& why);
    void release_orphans();

    EventLoop& loop_;
    ArbiterService& arbiter_;
    NodeService* nodes_ = nullptr;
    std::vector<NodeRecord> stored_;  ///< until nodes_ knows them
    std::vector<Waiting> waiting_;    ///< ends that were asked for before
    bool resumed_ = false;
    std::map<std::string, usbarb::Socket> making_;  ///< by name
    std::map<std::string, Place> places_;           ///< of each node, as last told to it
    std::set<usbarb::ClaimId> awaited_;
    EventSource look_;
    std::set<std::string> orphans_;  ///< nodes that are being ended because their claims are gone
    std::chrono::milliseconds orphan_pause_{};
    EventSource orphan_timer_;
};

}  // namespace storctl
