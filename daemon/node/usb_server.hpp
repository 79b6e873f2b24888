#pragma once
// The data plane of a USB node: a CUSE device that speaks usbfs, a real usbfs descriptor behind each of its opens.
// Threads of its own take the requests; one that waits in the kernel keeps no other waiting. The calls below come from
// one thread (the process's control thread); what there is to say comes through `Listener`, on the server's threads.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.hpp"
#include "daemon/node/open_table.hpp"
#include "daemon/node/spec.hpp"
#include "daemon/node/usbfs/policy.hpp"

namespace storctl::node {

struct UsbServerOptions {
    std::string name;         ///< of the node
    std::string device_name;  ///< below /dev
    unsigned major = 0, minor = 0;
    OpenPolicy open = OpenPolicy::single_writer;
    usbfs::Policy policy;
    std::string path;                  ///< the real node, "/dev/bus/usb/001/004"
    std::vector<uint8_t> descriptors;  ///< of the device that it is; empty: taken from the node at `path`
};

struct UsbServerListener {
    std::function<void(std::vector<Opener>)> opens_changed;
    std::function<void()> device_gone;  ///< the real node says that its device was unplugged
    std::function<void()> closed;       ///< the CUSE connection ended from outside
};

class UsbServer {
 public:
    /// The node can be opened when this returns. Errors: of the real node (no_such_device, …) or of
    /// CuseChannel::create.
    static Result<std::unique_ptr<UsbServer>> start(UsbServerOptions options, UsbServerListener listener);
    /// Ends the connection and the threads; within seconds also when the device does not answer.
    ~UsbServer();
    UsbServer(const UsbServer&) = delete;
    UsbServer& operator=(const UsbServer&) = delete;

    /// The device is (back) at `path`. invalid_argument: it is another one (descriptors differ). New opens work from
    /// then on, and a reset that made the device enumerate again ends well; files that saw the device go stay without.
    Result<void> give_device(const std::string& path);
    /// The device has left the system: new opens fail with ENODEV.
    void take_device_away();
    bool device_present() const;
    /// The descriptors that identify it, for the next start.
    std::vector<uint8_t> descriptors() const;

    /// Who has it open. Nobody: from now on nobody is let in any more.
    std::vector<Opener> close_if_unused();
    /// At once: every real descriptor is closed when this returns or a limit of seconds is over (then: false),
    /// consumers see an unplug, nobody is let in any more.
    bool revoke();

    /// operations and refused_opens of io.storctl.NodeProcess.Stat.
    nlohmann::json stats() const;

 private:
    struct State;
    explicit UsbServer(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;  // its threads have it too: one that does not come back keeps it
};

}  // namespace storctl::node
