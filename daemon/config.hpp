#pragma once
// stord's configuration, /etc/storctl/stord.toml. Every key is a row of the table in config_keys.hpp, from which the
// parser, the reference text and the reload rule come. Pure apart from `load_config`.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace storctl {

struct Config {
    std::string log_level;
    std::string host;  ///< empty: the kernel's host name
    std::string dev_dir;
    std::string node_program;  ///< empty: the installed stor-node, or the one of the same build
    std::string supervisor;    ///< auto, systemd, fork
    std::string change_group;  ///< empty: only root changes

    uint64_t monitor_buffer_bytes = 0;
    std::vector<std::string> extra_placeholders;

    std::chrono::milliseconds node_start_timeout{};
    std::chrono::milliseconds node_reply_timeout{};
    std::chrono::milliseconds restart_delay{};
    std::chrono::milliseconds restart_delay_max{};
    uint64_t failed_after = 0;
    std::chrono::milliseconds failed_window{};
    std::chrono::milliseconds failed_delay{};
    uint64_t poll_limit_us = 0;
    std::string node_sg;  ///< auto, yes, no

    std::chrono::milliseconds usb_grace{};
    std::chrono::milliseconds usb_provisional_timeout{};
    std::string usb_host_console;    ///< use, ignore
    std::string usb_return_drivers;  ///< yes, no

    uint64_t max_message_bytes = 0;
    uint64_t max_clients = 0;
    uint64_t max_clients_per_uid = 0;
    uint64_t max_queued_bytes = 0;
    uint64_t max_pending_calls = 0;
    std::chrono::milliseconds partial_message_timeout{};
};

/// Every key at its default.
Config default_config();
/// `where` names the text in messages. All mistakes are reported, one sentence each with file, line and key, joined by
/// newlines.
Result<Config> parse_config(std::string_view toml_text, const std::string& where);
/// A file that is not there is an error (no_such_file_or_directory).
Result<Config> load_config(const std::string& path);
/// Names of keys that differ and take effect only at a restart.
std::vector<std::string> restart_only_changes(const Config& before, const Config& after);
/// `after`, but with the keys that take effect only at a restart as they were `before`.
Config adopt_reloadable(const Config& before, const Config& after);
/// A commented TOML file with every key at its default.
std::string config_reference();

}  // namespace storctl
