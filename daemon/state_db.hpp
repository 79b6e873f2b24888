#pragma once
// What stord must not forget: STATE_DIR/state.db (SQLite, WAL, synchronous=FULL). Every call is one transaction and
// durable when it returns. stord's loop thread only.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "daemon/node/spec.hpp"
#include "usbarb/claim.hpp"
#include "usbarb/rules.hpp"

struct sqlite3;

namespace storctl {

/// An administrator's decision about a device's shared-clusterwide flag.
struct SharingOverride {
    std::string device_id;  ///< as io.storctl.Device's id
    bool shared = false;
    std::string reason;
    std::string author;  ///< "root (uid 0)"
    WallTime time;
};

/// What a node over a USB device has besides: the claim that it lives with, and what that was when it was made.
struct UsbNodeRecord {
    usbarb::ClaimId claim = 0;
    usbarb::Socket socket;
    std::string description, holder;
    bool own_claim = false;  ///< made with the node, and released with it
    unsigned minor = 0;      ///< of its character device
    node::usbfs::Policy policy;
    std::vector<uint8_t> descriptors;  ///< as usbfs gives them
};

/// What a node over a disk has as a SCSI disk.
struct ScsiNodeRecord {
    struct Sg {
        bool asked = false;  ///< by name: it does not serve without
        unsigned minor = 0;
    };
    std::optional<Sg> sg;           ///< its SCSI generic device
    node::scsi::Identity identity;  ///< the same for as long as the node exists
};

/// Persistent reservations of what lies behind nodes, as daemon/reservation_store.hpp keeps them.
struct ReservationRecord {
    std::string device;
    node::scsi::ReservationState state;
    std::string boot_id;  ///< of the host when it was stored
};

/// A node as it was asked for, and what was last known of its backing.
struct NodeRecord {
    std::string name;
    std::optional<std::string> device_id;  ///< none: a regular file or a device outside the inventory
    std::string backing_path;              ///< last known path
    std::string backing_kind;              ///< block, file, loop, usb
    std::string open;                      ///< single-writer, shared, read-only
    bool loop = false;
    uint64_t size_bytes = 0;
    uint32_t logical_block_bytes = 512;
    WallTime created;
    std::string created_by;            ///< "root (uid 0)"
    std::optional<UsbNodeRecord> usb;  ///< none: a disk
    ScsiNodeRecord scsi;               ///< of a disk

    node::NodeKind kind() const { return usb ? node::NodeKind::usb : node::NodeKind::block; }
};

class StateDb {
 public:
    /// Creates the file or brings an older schema up to date; a newer schema than this program's is refused.
    static Result<StateDb> open(const std::string& path);
    StateDb(StateDb&&) noexcept;
    StateDb& operator=(StateDb&&) noexcept;
    ~StateDb();

    Result<std::vector<SharingOverride>> sharing_overrides();
    Result<void> put_sharing_override(const SharingOverride& entry);
    Result<void> remove_sharing_override(const std::string& device_id);

    Result<std::vector<NodeRecord>> nodes();
    Result<void> put_node(const NodeRecord& entry);
    Result<void> remove_node(const std::string& name);

    Result<std::vector<ReservationRecord>> reservations();
    /// Where what is stored has `expected` as its version, or nothing is stored and none is expected. False: it is
    /// another, nothing has changed.
    Result<bool> change_reservations(const ReservationRecord& entry, std::optional<uint64_t> expected);
    Result<void> remove_reservations(const std::string& device);

    /// Without what is computed: `observed` and `counted`.
    Result<std::vector<usbarb::ClaimRecord>> claims();
    /// All of it or nothing.
    Result<void> change_claims(const std::vector<usbarb::ClaimRecord>& put,
                               const std::vector<usbarb::ClaimId>& removed);
    /// By id.
    Result<std::vector<usbarb::Rule>> usb_rules();
    /// Gives it its id, which no rule has had before.
    Result<uint64_t> add_usb_rule(const usbarb::Rule& rule);
    Result<void> remove_usb_rule(uint64_t id);

 private:
    explicit StateDb(sqlite3* db) : db_(db) {}
    sqlite3* db_ = nullptr;
};

}  // namespace storctl
