// A control server without anything behind it, for tests that need one in a process of its own:
// control_server SOCKET serves io.storctl.Device with no devices until SIGTERM.

#include <signal.h>

#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "control/interfaces.hpp"
#include "control/server.hpp"

namespace {

using namespace storctl;
using control::Call;
using control::Json;

std::vector<control::Method> methods() {
    const auto list = [](Call call) { call.reply({{"devices", Json::array()}}); };
    const auto not_found = [](Call call) { call.error("NotFound", {{"id", call.parameters()["id"]}}); };
    const auto rescan = [](Call call) {
        call.reply({{"added", Json::array()}, {"removed", Json::array()}, {"changed", Json::array()}});
    };
    return {{.name = "List", .handler = list},
            {.name = "Show", .handler = not_found},
            {.name = "SetSharing", .access = control::Access::change, .handler = not_found},
            {.name = "Rescan", .access = control::Access::change, .handler = rescan}};
}

Result<int> serve(const std::string& path) {
    EventLoop loop = TRY(EventLoop::create());
    const auto stop = TRY(loop.add_signal(SIGTERM, 0, [&loop] { loop.exit(0); }));
    const auto server = TRY(control::Server::listen(
        loop, {.socket_path = path, .partial_message_timeout = std::chrono::milliseconds(1500)}));
    TRY(server->add_interface(control::io_storctl_device, methods()));
    return loop.run();
}

}  // namespace

int main(int argc, char** argv) {
    storctl::log::open("control_server");
    if (argc != 2) {
        storctl::log::error("usage: control_server SOCKET");
        return 2;
    }
    const auto code = serve(argv[1]);
    if (!code) {
        storctl::log::error("{}", code.error().message());
        return 1;
    }
    return *code;
}
