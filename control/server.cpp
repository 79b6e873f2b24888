#include "control/server.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.hpp"
#include "control/connection.hpp"
#include "control/interfaces.hpp"
#include "control/rate_limit.hpp"
#include "control/unix_socket.hpp"

namespace storctl::control {
namespace {

constexpr int accepts_per_turn = 16;
constexpr std::chrono::seconds pause_without_descriptors{1};
constexpr size_t log_burst = 20;
constexpr std::chrono::seconds log_window{10};

class ServerImplementation final : public Server, public ConnectionOwner {
 public:
    ServerImplementation(EventLoop& loop, ServerOptions options) : loop_(loop), options_(std::move(options)) {}
    ~ServerImplementation() override { drop_all(); }

    Result<void> start();
    Result<void> add_interface(std::string_view description, std::vector<Method> methods) override;
    void close(std::chrono::milliseconds grace) override;
    size_t clients() const override { return connections_.size(); }

    EventLoop& loop() override { return loop_; }
    const ServerOptions& options() const override { return options_; }
    const InterfaceMap& interfaces() const override { return interfaces_; }
    void closed(Connection& connection) override { connections_.erase(&connection); }
    void log_limited(const std::string& line) override;

 private:
    void accept_some();
    void pause_accepting(int error);
    void admit(UniqueFd fd);
    bool has_place_for(const Peer& peer) const;
    void drop_all();
    std::vector<Method> service_methods();

    EventLoop& loop_;
    ServerOptions options_;
    InterfaceMap interfaces_;
    ListeningSocket listener_;
    EventSource accept_source_, resume_accepting_, grace_over_;
    std::map<const Connection*, std::shared_ptr<Connection>> connections_;
    RateLimit log_limit_{log_burst, log_window};
};

Result<void> ServerImplementation::start() {
    TRY(add_interface(org_varlink_service, service_methods()));
    listener_ = TRY(ListeningSocket::open(options_.socket_path, options_.socket_mode));
    accept_source_ =
        TRY(loop_.add_io(listener_.get(), EPOLLIN, options_.priority, [this](uint32_t) { accept_some(); }));
    return {};
}

Result<void> ServerImplementation::add_interface(std::string_view description, std::vector<Method> methods) {
    auto interface = TRY(make_interface(description, std::move(methods)));
    const std::string& name = interface->description.name;
    if (interfaces_.contains(name)) {
        return make_error(std::errc::invalid_argument, fmt::format("interface '{}' is already there", name));
    }
    interfaces_.emplace(name, interface);
    return {};
}

std::vector<Method> ServerImplementation::service_methods() {
    const auto get_info = [this](Call call) {
        Json names = Json::array();
        for (const auto& [name, interface] : interfaces_) names.push_back(name);
        call.reply({{"vendor", options_.vendor},
                    {"product", options_.product},
                    {"version", options_.version},
                    {"url", options_.url},
                    {"interfaces", std::move(names)}});
    };
    const auto get_description = [this](Call call) {
        const auto& name = call.parameters()["interface"].get_ref<const std::string&>();
        const auto found = interfaces_.find(name);
        if (found == interfaces_.end()) return call.error("InterfaceNotFound", {{"interface", name}});
        call.reply({{"description", found->second->description.text}});
    };
    return {{.name = "GetInfo", .handler = get_info}, {.name = "GetInterfaceDescription", .handler = get_description}};
}

void ServerImplementation::accept_some() {
    for (int i = 0; i < accepts_per_turn && listener_; ++i) {
        UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (fd) {
            admit(std::move(fd));
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return pause_accepting(errno);
        }
    }
}

/// Out of descriptors or memory: the waiting client would wake the loop again at once.
void ServerImplementation::pause_accepting(int error) {
    log_limited(errno_error("cannot accept clients, trying again in a second", error).message());
    accept_source_.enable(false);
    const auto resume = [this] { accept_source_.enable(); };
    if (resume_accepting_) return resume_accepting_.arm(pause_without_descriptors);
    auto timer = loop_.add_timer(pause_without_descriptors, options_.priority, resume);
    if (timer) {
        resume_accepting_ = std::move(*timer);
    } else {
        accept_source_.enable();
    }
}

void ServerImplementation::admit(UniqueFd fd) {
    auto identity = identify_peer(fd.get(), options_.change_group);
    if (!identity) return log_limited(fmt::format("client refused: {}", identity.error().message()));
    if (!has_place_for(identity->peer)) {
        return log_limited(fmt::format("client {} refused: too many clients", describe(identity->peer)));
    }
    auto connection = Connection::open(*this, std::move(fd), std::move(*identity));
    if (!connection) return log_limited(fmt::format("client refused: {}", connection.error().message()));
    connections_.emplace(connection->get(), *connection);
}

bool ServerImplementation::has_place_for(const Peer& peer) const {
    if (peer.uid == 0) return connections_.size() < options_.max_clients;
    const auto same_user = [&](const auto& entry) { return entry.second->peer().uid == peer.uid; };
    const auto of_user = static_cast<size_t>(std::count_if(connections_.begin(), connections_.end(), same_user));
    const size_t kept_for_root = options_.max_clients / 8;
    return connections_.size() < options_.max_clients - kept_for_root && of_user < options_.max_clients_per_uid;
}

void ServerImplementation::log_limited(const std::string& line) {
    const auto held_back = log_limit_.pass();
    if (!held_back) return;
    if (*held_back > 0) log::warning("{} more messages about clients were held back", *held_back);
    log::warning("{}", line);
}

void ServerImplementation::close(std::chrono::milliseconds grace) {
    accept_source_.reset();
    resume_accepting_.reset();
    listener_.close();
    const auto open = connections_;
    for (const auto& [key, connection] : open) connection->finish();
    auto timer = loop_.add_timer(grace, options_.priority, [this] { drop_all(); });
    if (timer) {
        grace_over_ = std::move(*timer);
    } else {
        drop_all();
    }
}

void ServerImplementation::drop_all() {
    const auto open = std::move(connections_);
    connections_.clear();
    for (const auto& [key, connection] : open) connection->close();
}

}  // namespace

Result<std::unique_ptr<Server>> Server::listen(EventLoop& loop, ServerOptions options) {
    auto server = std::make_unique<ServerImplementation>(loop, std::move(options));
    TRY(server->start());
    return std::unique_ptr<Server>(std::move(server));
}

}  // namespace storctl::control
