#pragma once
// Where the persistent reservations of devices are kept, by device and version: a change counts only where it was made
// to the version that is stored. An interface, for a registry that several hosts share may keep them as well; here the
// one of this host alone. stord's loop thread only.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "daemon/node/scsi/reservation_state.hpp"
#include "daemon/state_db.hpp"

namespace storctl {

/// What the reservations of a node's disk are kept under: the device's id, or the path of what has none.
std::string reservations_key(const NodeRecord& record);

class ReservationStore {
 public:
    using State = node::scsi::ReservationState;
    /// Ends the notifications when it goes; not to outlive the store.
    class [[nodiscard]] Watch {
     public:
        Watch() = default;
        Watch(ReservationStore& store, uint64_t number) : store_(&store), number_(number) {}
        Watch(Watch&& other) noexcept : store_(std::exchange(other.store_, nullptr)), number_(other.number_) {}
        Watch& operator=(Watch&& other) noexcept {
            std::swap(store_, other.store_);
            std::swap(number_, other.number_);
            return *this;
        }
        ~Watch() {
            if (store_ != nullptr) store_->watchers_.erase(number_);
        }

     private:
        ReservationStore* store_ = nullptr;
        uint64_t number_ = 0;
    };

    ReservationStore() = default;
    ReservationStore(const ReservationStore&) = delete;
    ReservationStore& operator=(const ReservationStore&) = delete;
    virtual ~ReservationStore() = default;

    /// As far as this host knows; nothing: there never were any.
    virtual std::optional<State> known(const std::string& device) const = 0;
    /// Stores `proposed` if it is the version after the stored one, or nothing is stored. `done` once, perhaps from
    /// inside, with what is stored now: `proposed`, or what it did not follow. An error: nothing has changed.
    virtual void propose(const std::string& device, const State& proposed, std::function<void(Result<State>)> done) = 0;
    /// No node has the device any more: kept is only that somebody is registered.
    virtual void released(const std::string& device) = 0;

    /// `changed` is called after each change of what is known of the device, before whoever proposed it is answered.
    Watch watch(const std::string& device, std::function<void()> changed);

 protected:
    void tell(const std::string& device);

 private:
    struct Watcher {
        std::string device;
        std::function<void()> changed;
    };
    std::map<uint64_t, Watcher> watchers_;
    uint64_t next_watcher_ = 0;
};

/// In the state database, for one host. With another `boot_id` than the stored one, the host has lost power since: what
/// does not persist is gone. An empty one is not known, and nothing is taken away.
Result<std::unique_ptr<ReservationStore>> open_reservation_store(StateDb& db, const std::string& boot_id);

}  // namespace storctl
