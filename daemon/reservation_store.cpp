#include "daemon/reservation_store.hpp"

#include <utility>
#include <vector>

#include "base/log.hpp"

namespace storctl {
namespace {

class DatabaseReservations : public ReservationStore {
 public:
    DatabaseReservations(StateDb& db, std::string boot_id) : db_(db), boot_id_(std::move(boot_id)) {}

    Result<void> load() {
        const auto records = TRY(db_.reservations());
        for (const auto& record : records) {
            const bool same_boot = boot_id_.empty() || record.boot_id.empty() || record.boot_id == boot_id_;
            if (same_boot) {
                known_[record.device] = record.state;
            } else {
                after_power_loss(record);
            }
        }
        return {};
    }

    std::optional<State> known(const std::string& device) const override {
        const auto found = known_.find(device);
        return found == known_.end() ? std::nullopt : std::optional(found->second);
    }

    void propose(const std::string& device, const State& proposed, std::function<void(Result<State>)> done) override {
        const auto stored = known(device);
        const bool follows = !stored || proposed.version == stored->version + 1;
        if (!follows) return done(*stored);
        auto changed = change(device, proposed, stored);
        if (!changed) return done(std::move(changed).error());
        tell(device);
        done(proposed);
    }

    void released(const std::string& device) override {
        const auto found = known_.find(device);
        if (found == known_.end() || !found->second.registrations.empty()) return;
        if (auto removed = db_.remove_reservations(device); !removed) log::warning("{}", removed.error().message());
        known_.erase(found);
    }

 private:
    Result<void> change(const std::string& device, const State& to, const std::optional<State>& from) {
        const auto expected = from ? std::optional(from->version) : std::nullopt;
        const bool changed =
            TRY(db_.change_reservations({.device = device, .state = to, .boot_id = boot_id_}, expected));
        if (!changed) {
            return make_error(std::errc::device_or_resource_busy,
                              "the persistent reservations of '" + device +
                                  "' were changed in the state database by somebody else; restart stord");
        }
        known_[device] = to;
        return {};
    }

    /// What cannot be written is done again at the next start, with the same outcome.
    void after_power_loss(const ReservationRecord& record) {
        const State left = node::scsi::after_power_loss(record.state);
        if (left.registrations.empty()) {
            if (!record.state.registrations.empty())
                log::notice("persistent reservations of '{}' ended with the host's reboot", record.device);
            if (auto done = db_.remove_reservations(record.device); !done) log::error("{}", done.error().message());
            return;
        }
        if (auto done = change(record.device, left, record.state); !done) {
            log::error("{}", done.error().message());
            known_[record.device] = record.state;
        }
    }

    StateDb& db_;
    const std::string boot_id_;
    std::map<std::string, State> known_;
};

}  // namespace

std::string reservations_key(const NodeRecord& record) {
    return record.device_id ? *record.device_id : "path:" + record.backing_path;
}

ReservationStore::Watch ReservationStore::watch(const std::string& device, std::function<void()> changed) {
    const uint64_t number = next_watcher_++;
    watchers_[number] = {.device = device, .changed = std::move(changed)};
    return {*this, number};
}

/// Whoever is told may end watches, its own and others.
void ReservationStore::tell(const std::string& device) {
    std::vector<uint64_t> numbers;
    for (const auto& [number, watcher] : watchers_) {
        if (watcher.device == device) numbers.push_back(number);
    }
    for (const uint64_t number : numbers) {
        if (const auto found = watchers_.find(number); found != watchers_.end()) {
            const auto changed = found->second.changed;
            changed();
        }
    }
}

Result<std::unique_ptr<ReservationStore>> open_reservation_store(StateDb& db, const std::string& boot_id) {
    auto store = std::make_unique<DatabaseReservations>(db, boot_id);
    TRY(store->load());
    return std::unique_ptr<ReservationStore>(std::move(store));
}

}  // namespace storctl
