// Node processes as units stor-node@NAME.service. Calls go to systemd's own socket and are never waited for; restarting
// is the unit's business (Restart=on-failure), stord finds the new process by its socket.

#include <algorithm>

#include <fmt/format.h>
#include <sys/epoll.h>
#include <systemd/sd-bus.h>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "daemon/supervisor.hpp"

namespace storctl {
namespace {

constexpr const char* destination = "org.freedesktop.systemd1";
constexpr const char* manager_path = "/org/freedesktop/systemd1";
constexpr const char* manager_interface = "org.freedesktop.systemd1.Manager";
constexpr uint64_t call_timeout_us = 25'000'000;

using BusReply = std::function<void(Result<sd_bus_message*>)>;
using MessageHandle = CHandle<sd_bus_message, sd_bus_message_unref>;

// Names of nodes hold nothing that a unit's instance name would have to escape, but '-' stands for '/' there only when
// it is turned back into a path, which nobody does.
std::string unit_of(const std::string& name) { return fmt::format("stor-node@{}.service", name); }

Error bus_error(const char* what, int result) { return errno_error(fmt::format("systemd: cannot {}", what), -result); }

/// What GetAll of a unit and its service says, as far as it matters here.
struct UnitProperties {
    std::string active_state, sub_state;
    uint32_t main_pid = 0;
    int32_t exit_status = 0;
};

void read_property(sd_bus_message* message, std::string_view name, UnitProperties& out) {
    const char* text = nullptr;
    if (name == "ActiveState" && sd_bus_message_read(message, "v", "s", &text) >= 0) {
        out.active_state = text;
    } else if (name == "SubState" && sd_bus_message_read(message, "v", "s", &text) >= 0) {
        out.sub_state = text;
    } else if (name == "MainPID") {
        sd_bus_message_read(message, "v", "u", &out.main_pid);
    } else if (name == "ExecMainStatus") {
        sd_bus_message_read(message, "v", "i", &out.exit_status);
    } else {
        sd_bus_message_skip(message, "v");
    }
}

Result<UnitProperties> read_properties(sd_bus_message* message) {
    UnitProperties out;
    if (const int r = sd_bus_message_enter_container(message, 'a', "{sv}"); r < 0) return bus_error("read a unit", r);
    while (sd_bus_message_enter_container(message, 'e', "sv") > 0) {
        const char* name = nullptr;
        if (const int r = sd_bus_message_read(message, "s", &name); r < 0) return bus_error("read a unit", r);
        read_property(message, name, out);
        if (const int r = sd_bus_message_exit_container(message); r < 0) return bus_error("read a unit", r);
    }
    return out;
}

/// An sd-bus connection served by our loop; opened at the first call and again after it broke.
class Bus {
 public:
    Bus(EventLoop& loop, int64_t priority, std::string address)
        : loop_(loop), priority_(priority), address_(std::move(address)) {}
    Bus(const Bus&) = delete;
    Bus& operator=(const Bus&) = delete;
    ~Bus() { close(); }

    Result<MessageHandle> new_call(const char* path, const char* interface, const char* method) {
        TRY(connect());
        sd_bus_message* message = nullptr;
        const int r = sd_bus_message_new_method_call(bus_, &message, destination, path, interface, method);
        if (r < 0) return bus_error("make a call", r);
        return MessageHandle(message);
    }
    /// `done` is called later, or not at all when this Bus ends before.
    Result<void> send(sd_bus_message* message, BusReply done) {
        auto callback = std::make_unique<BusReply>(std::move(done));
        sd_bus_slot* slot = nullptr;
        const int r = sd_bus_call_async(bus_, &slot, message, on_reply, callback.get(), call_timeout_us);
        if (r < 0) return bus_error("send a call", r);
        sd_bus_slot_set_destroy_callback(slot, [](void* userdata) { delete static_cast<BusReply*>(userdata); });
        callback.release();
        sd_bus_slot_set_floating(slot, 1);
        sd_bus_slot_unref(slot);
        update();
        return {};
    }

 private:
    static int on_reply(sd_bus_message* reply, void* userdata, sd_bus_error*) noexcept {
        const BusReply done = *static_cast<BusReply*>(userdata);
        if (const sd_bus_error* error = sd_bus_message_get_error(reply)) {
            done(make_error(static_cast<std::errc>(sd_bus_error_get_errno(error)),
                            fmt::format("systemd: {}", error->message != nullptr ? error->message : error->name)));
        } else {
            done(reply);
        }
        return 0;
    }

    Result<void> connect() {
        if (bus_ != nullptr) return {};
        if (const int r = sd_bus_new(&bus_); r < 0) return bus_error("make a connection", r);
        int r = sd_bus_set_address(bus_, address_.c_str());
        if (r >= 0) r = sd_bus_start(bus_);
        if (r < 0) {
            close();
            return errno_error(fmt::format("cannot reach systemd at '{}'", address_), -r);
        }
        io_ = TRY(loop_.add_io(sd_bus_get_fd(bus_), EPOLLIN, priority_, [this](uint32_t) { process(); }));
        timer_ = TRY(loop_.add_timer(std::chrono::microseconds(0), priority_, [this] { process(); }));
        update();
        return {};
    }

    void process() {
        int r = 0;
        do {
            r = sd_bus_process(bus_, nullptr);
        } while (r > 0);
        if (r < 0) {
            log::warning("{}", bus_error("keep the connection", r).message());
            return close();
        }
        update();
    }

    /// What sd-bus waits for now.
    void update() {
        const int events = sd_bus_get_events(bus_);
        io_.set_io_events(events < 0 ? EPOLLIN : static_cast<uint32_t>(events));
        uint64_t deadline_us = 0;
        timespec now{};
        ::clock_gettime(CLOCK_MONOTONIC, &now);
        const auto now_us = static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
        const bool has_deadline = sd_bus_get_timeout(bus_, &deadline_us) > 0 && deadline_us != UINT64_MAX;
        timer_.enable(false);
        if (has_deadline) timer_.arm(std::chrono::microseconds(deadline_us > now_us ? deadline_us - now_us : 0));
    }

    void close() {
        io_.reset();
        timer_.reset();
        if (bus_ != nullptr) sd_bus_close_unref(std::exchange(bus_, nullptr));
    }

    EventLoop& loop_;
    int64_t priority_;
    std::string address_;
    sd_bus* bus_ = nullptr;
    EventSource io_, timer_;
};

class SystemdSupervisor : public Supervisor {
 public:
    SystemdSupervisor(EventLoop& loop, int64_t priority, std::string address)
        : bus_(loop, priority, std::move(address)) {}

    void start(const std::string& name, std::function<void(Result<pid_t>)> done) override {
        // a unit that failed before keeps its counters: forget them, whether there is such a unit or not
        call_manager("ResetFailedUnit", {unit_of(name)}, [](const Result<sd_bus_message*>&) {});
        call_manager("StartUnit", {unit_of(name), "replace"}, [done](const Result<sd_bus_message*>& reply) {
            if (!reply) return done(reply.error());
            done(pid_t{0});
        });
    }

    void stop(const std::string& name) override {
        call_manager("StopUnit", {unit_of(name), "replace"}, [this, name](const Result<sd_bus_message*>& reply) {
            if (!reply) log::debug("{}", reply.error().message());  // not loaded: it is stopped
            call_manager("ResetFailedUnit", {unit_of(name)}, [](const Result<sd_bus_message*>&) {});
        });
    }

    bool has_status() const override { return true; }

    void status(const std::string& name, std::function<void(Result<Status>)> done) override {
        call_manager("LoadUnit", {unit_of(name)}, [this, done](const Result<sd_bus_message*>& reply) {
            const char* path = nullptr;
            if (!reply) return done(reply.error());
            if (const int r = sd_bus_message_read(*reply, "o", &path); r < 0) return done(bus_error("find a unit", r));
            get_properties(path, done);
        });
    }

    std::string_view name() const override { return "systemd"; }

 private:
    void call_manager(const char* method, const std::vector<std::string>& arguments, BusReply done) {
        auto message = bus_.new_call(manager_path, manager_interface, method);
        if (!message) return done(std::move(message).error());
        for (const auto& argument : arguments) {
            if (const int r = sd_bus_message_append(message->get(), "s", argument.c_str()); r < 0) {
                return done(bus_error("fill a call", r));
            }
        }
        if (auto sent = bus_.send(message->get(), done); !sent) done(std::move(sent).error());
    }

    void get_properties(const char* path, const std::function<void(Result<Status>)>& done) {
        auto message = bus_.new_call(path, "org.freedesktop.DBus.Properties", "GetAll");
        if (!message) return done(std::move(message).error());
        // no interface: those of all of them
        if (const int r = sd_bus_message_append(message->get(), "s", ""); r < 0)
            return done(bus_error("fill a call", r));
        auto sent = bus_.send(message->get(), [done](const Result<sd_bus_message*>& reply) {
            if (!reply) return done(reply.error());
            const auto unit = read_properties(*reply);
            if (!unit) return done(unit.error());
            const bool waits_for_restart = unit->sub_state.starts_with("auto-restart");
            const bool up = unit->active_state == "active" || unit->active_state == "activating" ||
                            unit->active_state == "reloading" || unit->active_state == "deactivating";
            done(Status{.running = up && !waits_for_restart,
                        .pid = static_cast<pid_t>(unit->main_pid),
                        .exit_code = unit->exit_status});
        });
        if (!sent) done(std::move(sent).error());
    }

    Bus bus_;
};

}  // namespace

std::unique_ptr<Supervisor> make_systemd_supervisor(EventLoop& loop, int64_t priority, std::string bus_address) {
    return std::make_unique<SystemdSupervisor>(loop, priority, std::move(bus_address));
}

}  // namespace storctl
