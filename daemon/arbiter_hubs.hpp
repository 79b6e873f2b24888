#pragma once
// The open hubs that keep ports of claimed hubs away from the host's drivers: a port is held for as long as the file
// that claimed it is open. Under systemd they are kept in the service manager's store as well (sd_notify(3),
// FDSTORE=1), so that no port is free while stord is restarted. Loop thread only.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.hpp"
#include "usbarb/actuation.hpp"
#include "usbarb/claim.hpp"

namespace storctl {

class HeldHubs {
 public:
    /// Takes over what the service manager kept for a stord before this one.
    void adopt();

    void hold(usbarb::ClaimId claim, const usbarb::HubPorts& hub, UniqueFd file);
    struct Lent {
        std::vector<usbarb::HubPorts> hubs;
        std::vector<UniqueFd> files;  ///< one per hub
    };
    /// Second descriptors of what this claim holds, to give its ports back with.
    Lent lend(usbarb::ClaimId claim) const;
    /// Closes the hubs of this claim, here and in the store. A port that was not given back stays held until the
    /// service manager has done the same, which takes its time.
    void close(usbarb::ClaimId claim);
    /// The hub went: its files are of no use any more.
    void forget(const std::string& devnode);
    /// Every claim that holds something.
    std::vector<usbarb::ClaimId> claims() const;

    bool holds(const std::string& devnode) const;
    bool holds_port(const std::string& devnode, uint8_t port) const;
    /// A second descriptor of the file that holds this port, which counts as free from now on; none: nobody holds it.
    std::optional<UniqueFd> give_up_port(const std::string& devnode, uint8_t port);

 private:
    struct Held {
        usbarb::ClaimId claim = 0;
        usbarb::HubPorts hub;
        UniqueFd file;
    };
    std::vector<Held> held_;
};

/// "hub-12-001-004-0000001e": claim, bus, address, and the ports as bits. What a stored descriptor is called.
std::string stored_name(usbarb::ClaimId claim, const usbarb::HubPorts& hub);
struct StoredHub {
    usbarb::ClaimId claim = 0;
    usbarb::HubPorts hub;
};
std::optional<StoredHub> parse_stored_name(const std::string& name);

}  // namespace storctl
