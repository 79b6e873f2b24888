#pragma once
// The control thread of a stor-node process of kind usb: starts the server, knows whether the device is there, serves
// io.storctl.NodeProcess, and ends all of it in order.

#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "daemon/node/describe.hpp"
#include "daemon/node/node_control.hpp"
#include "daemon/node/spec.hpp"
#include "daemon/node/usb_server.hpp"

namespace storctl::node {

class UsbNodeProcess {
 public:
    /// The device node can be opened when it returns. Errors are those of UsbServer::start; of an absent device only
    /// where the specification does not say to wait for it.
    static Result<std::unique_ptr<UsbNodeProcess>> start(EventLoop& loop, Spec spec);
    ~UsbNodeProcess();

    /// Ends the loop with code 0. Without `force` nothing happens while it is open, and the openers are given. With it
    /// the device is let go at once; consumers see an unplug, and get a moment to close.
    std::vector<Opener> stop(bool force);

 private:
    UsbNodeProcess(EventLoop& loop, Spec spec);

    Result<void> start_server();
    UsbServerListener listener();
    void watch_device(const std::string& path);
    bool device_there() const;
    void check_device();
    void lose_device(const std::string& why);
    Result<void> reopen(const std::string& path);
    void take_openers(std::vector<Opener> openers);
    Description description() const;

    EventLoop& loop_;
    Spec spec_;
    std::unique_ptr<NodeControl> control_;
    std::shared_ptr<Mailbox> mailbox_;  // the server's threads may outlive us
    std::string path_;                  // of the real node; empty: the device is away
    ino_t inode_ = 0;                   // an address is given to another device in time
    std::string message_;
    std::vector<Opener> openers_;
    bool stopping_ = false;
    std::unique_ptr<UsbServer> server_;
    EventSource watch_, end_timer_;
};

}  // namespace storctl::node
