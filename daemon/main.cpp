#include <cstdlib>
#include <optional>

#include <unistd.h>

#include "base/log.hpp"
#include "daemon/background.hpp"
#include "daemon/control_plane.hpp"
#include "daemon/options.hpp"

namespace storctl {
namespace {

int fail(std::optional<Background>& background, const Error& error) {
    if (background) {
        background->failed(error.message());
    } else {
        log::error("{}", error.message());
    }
    return EXIT_FAILURE;
}

int run(const Options& options) {
    std::optional<Background> background;
    if (!options.foreground) {
        auto entered = Background::enter();
        if (!entered) return fail(background, entered.error());
        background = std::move(*entered);
    }
    auto plane = ControlPlane::open(options);
    if (!plane) return fail(background, plane.error());
    if (background) {
        if (auto ready = background->ready(options.run_dir + "/stord.log"); !ready)
            return fail(background, ready.error());
    }
    const auto code = (*plane)->run();
    if (!code) return fail(background, code.error());
    return *code;
}

}  // namespace
}  // namespace storctl

int main(int argc, char** argv) {
    storctl::log::open("stord");
    const auto options = storctl::parse_options(argc, argv);
    if (const int* code = std::get_if<int>(&options)) return *code;
    return storctl::run(std::get<storctl::Options>(options));
}
