#pragma once
// RUN_DIR/state.json: what readers get who must not wait for stord, or come when it is not there (udev, initramfs).
// Replaced atomically; many changes of one loop turn cost one write. stord's loop thread only.

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/event_loop.hpp"
#include "base/result.hpp"

namespace storctl {

class StateFile {
 public:
    using Contents = std::function<nlohmann::json()>;
    static Result<std::unique_ptr<StateFile>> open(EventLoop& loop, std::string path, Contents contents);

    /// Something has changed: written at the end of this turn, or a little later when writing has become expensive.
    void touch();
    /// Written now.
    Result<void> write();
    /// Called after each write with what the file says; must not change it.
    void on_written(std::function<void(const nlohmann::json& contents)> callback) { on_written_ = std::move(callback); }

 private:
    using Clock = std::chrono::steady_clock;
    StateFile(std::string path, Contents contents) : path_(std::move(path)), contents_(std::move(contents)) {}
    void write_if_pending();

    std::string path_;
    Contents contents_;
    std::function<void(const nlohmann::json&)> on_written_;
    EventSource when_idle_;
    EventSource deadline_;
    bool pending_ = false;
    Clock::time_point not_before_{};
    std::string last_problem_;
};

}  // namespace storctl
