// storctl: reads the command line and runs the verb.
#include <algorithm>
#include <string>
#include <variant>
#include <vector>

#include <signal.h>

#include "cli/output.hpp"
#include "cli/parse.hpp"

namespace {

using namespace storctl::cli;

/// A udev helper's failure would leave a device without its other properties; a failure of libvirt's hook at
/// "reconnect" would end a running virtual machine. "prepare" is the call that may, and must, say no.
bool must_not_fail(const std::vector<std::string>& words) {
    const auto has = [&](const char* word) { return std::find(words.begin(), words.end(), word) != words.end(); };
    return has("hook") && (has("udev") || (has("libvirt") && !has("prepare")));
}

Exit run(const std::vector<std::string>& words) {
    const Parsed parsed = parse_command_line(words);
    if (const auto* help = std::get_if<ShowText>(&parsed)) {
        put(help->text);
        return Exit::done;
    }
    if (const auto* wrong = std::get_if<UsageError>(&parsed)) {
        report(wrong->message, {wrong->hint});
        return must_not_fail(words) ? Exit::done : Exit::usage;
    }
    const auto& invocation = std::get<Invocation>(parsed);
    return invocation.verb().run(invocation);
}

}  // namespace

int main(int argc, char** argv) {
    ::signal(SIGPIPE, SIG_IGN);  // write errors say so where they happen
    return static_cast<int>(run(std::vector<std::string>(argv + std::min(argc, 1), argv + argc)));
}
