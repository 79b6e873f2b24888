#pragma once
// The table of stord.toml's keys: one row is the whole truth about a key. Include where keys are interpreted only.

#include <array>
#include <string_view>
#include <variant>

#include "daemon/config.hpp"

namespace storctl::config_keys {

/// What a key takes. size: bytes as an integer, or text such as "128M"; duration: text such as "500ms", "10s", "5min".
enum class Kind { text, path, choice, text_list, integer, size, duration };
enum class Effect { at_reload, at_restart };

using Field = std::variant<std::string Config::*, uint64_t Config::*, std::chrono::milliseconds Config::*,
                           std::vector<std::string> Config::*>;

struct Key {
    std::string_view section;  ///< empty: before the first [section]
    std::string_view name;
    Kind kind;
    Effect effect;
    Field field;
    std::string_view default_text;     ///< as the value is written in the file, without quotes
    std::string_view lowest, highest;  ///< of integer, size and duration
    std::string_view choices;          ///< "a|b" of choice
    std::string_view sentence;
};

inline constexpr auto table = std::to_array<Key>({
    {.name = "log_level",
     .kind = Kind::choice,
     .effect = Effect::at_reload,
     .field = &Config::log_level,
     .default_text = "info",
     .choices = "error|warning|notice|info|debug",
     .sentence = "The least important messages that are logged."},
    {.name = "host",
     .kind = Kind::text,
     .effect = Effect::at_restart,
     .field = &Config::host,
     .default_text = "",
     .sentence = "This host's name among the hosts that share devices. Empty: the kernel's host name."},
    {.name = "dev_dir",
     .kind = Kind::path,
     .effect = Effect::at_restart,
     .field = &Config::dev_dir,
     .default_text = "/dev/storctl",
     .sentence = "The folder for links to kernel block devices of nodes (disk/NAME)."},
    {.name = "node_program",
     .kind = Kind::path,
     .effect = Effect::at_reload,
     .field = &Config::node_program,
     .default_text = "",
     .sentence = "The program that serves one node, used for nodes that start from then on by the fork supervisor. "
                 "Empty: the stor-node that was installed or built with this stord."},
    {.name = "supervisor",
     .kind = Kind::choice,
     .effect = Effect::at_restart,
     .field = &Config::supervisor,
     .default_text = "auto",
     .choices = "auto|systemd|fork",
     .sentence = "Who starts and restarts node processes: systemd (stor-node@NAME.service) or stord itself. auto: "
                 "systemd where it is the init system. The option --supervisor wins."},
    {.name = "change_group",
     .kind = Kind::text,
     .effect = Effect::at_restart,
     .field = &Config::change_group,
     .default_text = "",
     .sentence = "The group whose members may change things over the control socket, besides root. Empty: root only."},

    {.section = "discovery",
     .name = "monitor_buffer",
     .kind = Kind::size,
     .effect = Effect::at_restart,
     .field = &Config::monitor_buffer_bytes,
     .default_text = "128M",
     .lowest = "64K",
     .highest = "1G",
     .sentence =
         "The receive buffer for udev events. Events that do not fit are lost, which costs a full enumeration."},
    {.section = "discovery",
     .name = "extra_placeholders",
     .kind = Kind::text_list,
     .effect = Effect::at_restart,
     .field = &Config::extra_placeholders,
     .default_text = "",
     .sentence = "Identifier values that mean nothing (a vendor's default serial number, for example), besides the "
                 "built-in list."},

    {.section = "node",
     .name = "start_timeout",
     .kind = Kind::duration,
     .effect = Effect::at_reload,
     .field = &Config::node_start_timeout,
     .default_text = "30s",
     .lowest = "1s",
     .highest = "10min",
     .sentence = "How long the creation of a node waits until the node serves; then it is undone."},
    {.section = "node",
     .name = "reply_timeout",
     .kind = Kind::duration,
     .effect = Effect::at_reload,
     .field = &Config::node_reply_timeout,
     .default_text = "5s",
     .lowest = "100ms",
     .highest = "5min",
     .sentence = "How long a node process may take to answer a question of stord."},
    {.section = "node",
     .name = "poll_limit_us",
     .kind = Kind::integer,
     .effect = Effect::at_reload,
     .field = &Config::poll_limit_us,
     .default_text = "100",
     .lowest = "0",
     .highest = "10000",
     .sentence = "While one or two requests at a time flow, a node polls for the next event up to this many "
                 "microseconds before it sleeps: less latency for some CPU time. 0: never. Takes effect when a node "
                 "process starts."},
    {.section = "node",
     .name = "restart_delay",
     .kind = Kind::duration,
     .effect = Effect::at_reload,
     .field = &Config::restart_delay,
     .default_text = "100ms",
     .lowest = "1ms",
     .highest = "1min",
     .sentence = "The pause before a node process that died is started again; it doubles with each death in a row "
                 "(fork supervisor)."},
    {.section = "node",
     .name = "restart_delay_max",
     .kind = Kind::duration,
     .effect = Effect::at_reload,
     .field = &Config::restart_delay_max,
     .default_text = "10s",
     .lowest = "1ms",
     .highest = "10min",
     .sentence = "Where the doubling of restart_delay ends."},
    {.section = "node",
     .name = "failed_after",
     .kind = Kind::integer,
     .effect = Effect::at_reload,
     .field = &Config::failed_after,
     .default_text = "5",
     .lowest = "1",
     .highest = "1000",
     .sentence = "A node whose process dies this often within failed_window is shown as failed and tried again every "
                 "failed_delay only."},
    {.section = "node",
     .name = "failed_window",
     .kind = Kind::duration,
     .effect = Effect::at_reload,
     .field = &Config::failed_window,
     .default_text = "1min",
     .lowest = "1s",
     .highest = "1h",
     .sentence = "The time in which failed_after deaths make a node failed; a node that served this long starts with a "
                 "clean record."},
    {.section = "node",
     .name = "failed_delay",
     .kind = Kind::duration,
     .effect = Effect::at_reload,
     .field = &Config::failed_delay,
     .default_text = "30s",
     .lowest = "100ms",
     .highest = "1h",
     .sentence = "The pause between attempts to start a failed node."},

    {.section = "control",
     .name = "max_clients",
     .kind = Kind::integer,
     .effect = Effect::at_restart,
     .field = &Config::max_clients,
     .default_text = "256",
     .lowest = "4",
     .highest = "65536",
     .sentence = "Connections to the control socket at a time."},
    {.section = "control",
     .name = "max_clients_per_uid",
     .kind = Kind::integer,
     .effect = Effect::at_restart,
     .field = &Config::max_clients_per_uid,
     .default_text = "128",
     .lowest = "1",
     .highest = "65536",
     .sentence = "Connections of one user at a time; root has no such limit."},
    {.section = "control",
     .name = "max_message",
     .kind = Kind::size,
     .effect = Effect::at_restart,
     .field = &Config::max_message_bytes,
     .default_text = "1M",
     .lowest = "4K",
     .highest = "64M",
     .sentence = "The longest message taken from a client."},
    {.section = "control",
     .name = "max_queued",
     .kind = Kind::size,
     .effect = Effect::at_restart,
     .field = &Config::max_queued_bytes,
     .default_text = "16M",
     .lowest = "64K",
     .highest = "1G",
     .sentence = "Bytes waiting for one client; a client that reads more slowly than that is disconnected."},
    {.section = "control",
     .name = "max_pending_calls",
     .kind = Kind::integer,
     .effect = Effect::at_restart,
     .field = &Config::max_pending_calls,
     .default_text = "64",
     .lowest = "1",
     .highest = "65536",
     .sentence = "Calls of one client that wait for their answers; beyond, reading from that client pauses."},
    {.section = "control",
     .name = "partial_message_timeout",
     .kind = Kind::duration,
     .effect = Effect::at_restart,
     .field = &Config::partial_message_timeout,
     .default_text = "10s",
     .lowest = "100ms",
     .highest = "10min",
     .sentence = "A client that sends half a message and then nothing for this long is disconnected."},
});

}  // namespace storctl::config_keys
