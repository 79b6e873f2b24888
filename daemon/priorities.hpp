#pragma once
// Order of stord's event sources within one turn of the loop: lower runs first. Each row says which race it prevents.

#include <cstdint>

namespace storctl::priority {

// A stop request is seen even while clients or udev keep the loop busy.
inline constexpr int64_t stop_signal = -40;

// A node's end is known before its broken connection or a client's question about it is looked at: otherwise a dead
// node would be shown as serving, or be reconnected to instead of restarted.
inline constexpr int64_t node_exit = -30;

// Device events that have arrived are in the inventory before anything is decided or answered from it.
inline constexpr int64_t discovery = -20;

// What became of drivers that were moved, before clients ask for the same devices again.
inline constexpr int64_t actuation = -15;

// What nodes report is taken in before clients are answered: a `show` after an accepted write tells the new state.
inline constexpr int64_t node_messages = -10;

// Restart, reconnect and start deadlines: after the messages above, so that a node whose report has already arrived is
// not declared late.
inline constexpr int64_t node_timers = -5;

// Reload before further requests: a client that sent SIGHUP and then a request gets the new configuration's answer.
inline constexpr int64_t reload_signal = -2;

// The state file's deadline: though clients keep the loop busy, the file is written.
inline constexpr int64_t state_file_deadline = -1;

// Requests of clients.
inline constexpr int64_t control = 0;

// After everything that this turn changed, so that many changes cost one write and the file never shows half of them.
inline constexpr int64_t state_file = 40;

}  // namespace storctl::priority
