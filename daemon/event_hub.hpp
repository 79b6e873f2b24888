#pragma once
// What happened in stord, handed to whoever listens: the Monitor streams, the state file. stord's loop thread only.

#include <functional>
#include <list>
#include <string>

#include <nlohmann/json.hpp>

namespace storctl {

/// `event` and `detail` as in io.storctl.varlink's Event.
struct Event {
    std::string event;
    std::string subject;
    std::string summary;
    nlohmann::json detail;  ///< null when the subject is gone
};

class EventHub {
 public:
    using Listener = std::function<void(const Event&)>;

    /// Listeners stay for the hub's lifetime; they must not publish from inside the call.
    void listen(Listener listener) { listeners_.push_back(std::move(listener)); }
    void publish(const Event& event) const {
        for (const auto& listener : listeners_) listener(event);
    }

 private:
    std::list<Listener> listeners_;
};

}  // namespace storctl
