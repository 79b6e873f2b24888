#pragma once
// A peer that answers the calls that stord makes to systemd, on a socket of its own and the caller's thread's loop.

#include <deque>
#include <string>
#include <vector>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "base/event_loop.hpp"
#include "base/unique_fd.hpp"

namespace storctl::test {

class FakeSystemd {
 public:
    std::vector<std::string> calls;  ///< "StartUnit stor-node@n.service replace"
    std::string refuses;             ///< this method gets an error
    std::string active_state = "active", sub_state = "running";
    uint32_t main_pid = 0;
    int32_t exit_status = 0;

    FakeSystemd(EventLoop& loop, const std::string& path) : loop_(loop) {
        listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_un address{.sun_family = AF_UNIX};
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        const auto* generic = reinterpret_cast<const sockaddr*>(&address);
        if (::bind(listener_.get(), generic, sizeof address) != 0 || ::listen(listener_.get(), 4) != 0) std::abort();
        accept_ = *loop.add_io(listener_.get(), EPOLLIN, 0, [this](uint32_t) { accept(); });
    }
    FakeSystemd(const FakeSystemd&) = delete;
    FakeSystemd& operator=(const FakeSystemd&) = delete;
    ~FakeSystemd() { drop(); }

    /// Closes the connection, as at a daemon-reexec.
    void drop() {
        io_.reset();
        if (bus_ != nullptr) sd_bus_close_unref(std::exchange(bus_, nullptr));
    }

 private:
    void accept() {
        drop();
        const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        sd_id128_t id{};
        id.bytes[0] = 1;
        sd_bus_new(&bus_);
        sd_bus_set_fd(bus_, fd, fd);
        sd_bus_set_server(bus_, 1, id);
        sd_bus_start(bus_);
        sd_bus_add_filter(bus_, nullptr, on_message, this);
        io_ = *loop_.add_io(fd, EPOLLIN, 0, [this](uint32_t) { process(); });
        process();
    }

    void process() {
        int r = 0;
        do {
            r = sd_bus_process(bus_, nullptr);
        } while (r > 0);
        if (r < 0) return drop();
        io_.set_io_events(static_cast<uint32_t>(sd_bus_get_events(bus_)));
    }

    static int on_message(sd_bus_message* message, void* userdata, sd_bus_error*) {
        return static_cast<FakeSystemd*>(userdata)->answer(message);
    }

    int answer(sd_bus_message* message) {
        uint8_t type = 0;
        sd_bus_message_get_type(message, &type);
        if (type != SD_BUS_MESSAGE_METHOD_CALL) return 0;
        const std::string method = sd_bus_message_get_member(message);
        std::string call = method;
        const char* text = nullptr;
        while (sd_bus_message_read(message, "s", &text) > 0) call += std::string(" ") + text;
        calls.push_back(call);
        if (method == refuses) {
            return sd_bus_reply_method_errorf(message, "org.freedesktop.systemd1.NoSuchUnit", "Unit is not there.");
        }
        if (method == "GetAll") return answer_properties(message);
        if (method == "ResetFailedUnit") return sd_bus_reply_method_return(message, "");
        return sd_bus_reply_method_return(message, "o", "/org/freedesktop/systemd1/unit/n");
    }

    int answer_properties(sd_bus_message* message) {
        return sd_bus_reply_method_return(message, "a{sv}", 6, "Id", "s", "stor-node@n.service", "ActiveState", "s",
                                          active_state.c_str(), "SubState", "s", sub_state.c_str(), "Wants", "as", 1,
                                          "x.slice", "MainPID", "u", main_pid, "ExecMainStatus", "i", exit_status);
    }

    EventLoop& loop_;
    UniqueFd listener_;
    EventSource accept_, io_;
    sd_bus* bus_ = nullptr;
};

}  // namespace storctl::test
