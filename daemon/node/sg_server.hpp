#pragma once
// The SCSI form of a block node: a CUSE device that speaks the SCSI generic protocol. Threads of its own take the
// requests, fetch what they name from the consumer's memory, have the command run by the node's ScsiUnit, and give the
// answer; one whose memory does not come keeps no other waiting, and not the node's file.

#include <functional>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "daemon/node/reactor.hpp"
#include "daemon/node/scsi_unit.hpp"

namespace storctl::node {

struct SgServerOptions {
    std::string name;         ///< of the node
    std::string device_name;  ///< below /dev
    unsigned major = 0, minor = 0;
    std::string host;  ///< first half of an initiator's name
    bool read_only = false;
};

/// The longest transfer of one command, where this process may reach a consumer's memory, and where the kernel has to
/// move it: there header, CDB and sense data go with it.
inline constexpr uint64_t sg_most_data_bytes = 1 << 20;
inline constexpr uint64_t sg_most_data_bytes_in_legs = 31 * 4096;
/// What the disk may say of itself to consumers that this process can reach.
uint64_t sg_transfer_limit();
/// Of the commands that the server runs (scsi::Limits).
inline constexpr uint32_t sg_scratch_bytes = 128 << 10;

class SgServer {
 public:
    /// The device can be opened when this returns. Errors: of CuseChannel::create. `closed`: the connection ended from
    /// outside; called on a thread of the server's.
    static Result<std::unique_ptr<SgServer>> start(SgServerOptions options, std::shared_ptr<ScsiUnit> unit,
                                                   std::shared_ptr<ReactorPort> port, std::function<void()> closed);
    /// Ends the connection and the threads; within seconds also when a consumer's memory does not come.
    ~SgServer();
    SgServer(const SgServer&) = delete;
    SgServer& operator=(const SgServer&) = delete;

    const std::string& path() const;  ///< "/dev/storctl/sg/web1"

 private:
    struct State;
    explicit SgServer(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;  // its threads have it too: one that does not come back keeps it
};

}  // namespace storctl::node
