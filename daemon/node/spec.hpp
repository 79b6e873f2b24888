#pragma once
// What a stor-node process is told to be: RUN_DIR/node/NAME.json, written by stord, read once at the node's start.

#include <cstdint>
#include <string>

#include "base/enum_text.hpp"
#include "base/result.hpp"

namespace storctl::node {

/// Who may open: any number of readers always; writers as the policy says. One holder is one process (thread group).
enum class OpenPolicy { single_writer, shared, read_only };

struct Spec {
    std::string name;
    std::string backing_path;    ///< device node or regular file, absolute; empty: absent until Reopen says where
    std::string backing_kind;    ///< last known: block, loop, file
    std::string control_socket;  ///< where the process serves io.storctl.NodeProcess
    std::string mount_path;      ///< the FUSE file, created and mounted over
    std::string loop_link;       ///< symbolic link to the loop device; empty: no loop device
    OpenPolicy open = OpenPolicy::single_writer;
    uint64_t expected_size_bytes =
        0;  ///< last known size: served (with EIO) while the backing is absent; 0: must be present
    uint32_t expected_logical_block_bytes = 512;
    uint64_t poll_limit_us = 100;   ///< busy-poll for waits up to this long while I/O flows; 0: never
    bool wait_for_backing = false;  ///< start in state backing-lost when the backing cannot be opened

    /// Errors name the file and the key.
    static Result<Spec> load(const std::string& path);
    static Result<Spec> parse(const std::string& json_text, const std::string& where);
    std::string to_json() const;
};

/// stor-node's exit status when somebody else holds the backing: another attempt soon is of no use.
inline constexpr int exit_refused = 8;

/// A node's name is a file name, a unit instance and part of a path: 1 to 64 of [A-Za-z0-9._-], not starting with . or
/// -.
Result<void> check_node_name(const std::string& name);

}  // namespace storctl::node

namespace storctl {

template <>
struct EnumNames<node::OpenPolicy> {
    static constexpr auto table = std::to_array<EnumName<node::OpenPolicy>>({
        {node::OpenPolicy::single_writer, "single-writer"},
        {node::OpenPolicy::shared, "shared"},
        {node::OpenPolicy::read_only, "read-only"},
    });
};
static_assert(round_trips<node::OpenPolicy>());

}  // namespace storctl
