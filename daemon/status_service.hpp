#pragma once
// io.storctl: the daemon's own state, the stream of events, the reload. Loop thread only.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include <nlohmann/json.hpp>

#include "base/result.hpp"
#include "control/server.hpp"
#include "daemon/event_hub.hpp"

namespace storctl {

class StatusService {
 public:
    using Status = std::function<nlohmann::json()>;  ///< io.storctl's type Status
    using Reload = std::function<Result<void>()>;

    StatusService(EventHub& hub, Status status, Reload reload);
    StatusService(const StatusService&) = delete;
    StatusService& operator=(const StatusService&) = delete;

    Result<void> serve(control::Server& server);
    /// Ends every Monitor stream, with `last` as its last event.
    void end_streams(const Event& last);

 private:
    void on_monitor(control::Call call);
    void forward(const Event& event);

    Status status_;
    Reload reload_;
    std::map<uint64_t, std::shared_ptr<control::Call>> monitors_;
    uint64_t next_monitor_ = 0;
};

}  // namespace storctl
