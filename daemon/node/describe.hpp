#pragma once
// A node process as its own interface shows it (io.storctl.NodeProcess): values to JSON. Pure.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "daemon/node/open_table.hpp"
#include "daemon/node/scsi/reservation_state.hpp"
#include "daemon/node/stats.hpp"

namespace storctl::node {

struct Form {
    std::string type;  ///< fuse, loop, sg, usbfs
    std::string path;
};

struct Description {
    std::string name, state, message, backing_path, backing_kind;
    uint64_t size_bytes = 0;
    uint32_t logical_block_bytes = 512;
    bool direct = false;
    std::vector<Form> forms;
    std::vector<Opener> openers;
    std::optional<scsi::ReservationState> reservations;  ///< in force; none: the node has none
    std::optional<scsi::ReservationState> proposed;      ///< a command waits for it to be stored
};

nlohmann::json to_json(const Description& description);
nlohmann::json to_json(const std::vector<Opener>& openers);
/// refused_opens and operations of a Stat. `more_reads`: counted elsewhere.
nlohmann::json to_json(const NodeStats& stats, const OperationStats& more_reads);

}  // namespace storctl::node
