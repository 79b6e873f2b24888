// sg_client: goes through cases on a node that speaks the SCSI generic protocol, the kernel's own or a mediated one.
// One line per case; the exit status is 1 when one of them is not as it has to be.
//
//   sg_client compare FILE NODE OPERATIONS SEED [v3|v4|both]   FILE: what the node stands in front of
//   sg_client threads NODE COUNT
//   sg_client slow NODE COUNT           commands of the node take a while
//   sg_client hostile|hostile-v4|async|ioctls NODE
//   sg_client killed NODE TIMES
//   sg_client reserve NODE ACTION KEY SERVICE-KEY TYPE [aptpl]
//   sg_client access NODE read|write|ask
//
// As QEMU for whom a program's name and its "-name guest=NAME" are what it is: a copy of it under QEMU's name, with
// -name and its value before the other words.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "tests/lab/sg_client/cases.hpp"
#include "tests/lab/sg_client/report.hpp"

namespace storctl::sg_client {
namespace {

using Words = std::vector<std::string>;

unsigned number(const std::string& word) { return static_cast<unsigned>(std::strtoul(word.c_str(), nullptr, 10)); }

bool compared(const Words& words) {
    if (words.size() != 4 && words.size() != 5) return false;
    const std::string headers = words.size() == 5 ? words[4] : "v3";
    compare(words[1], {.file = words[0],
                       .operations = number(words[2]),
                       .seed = number(words[3]),
                       .v3 = headers != "v4",
                       .v4 = headers != "v3"});
    return true;
}

struct Mode {
    const char* name;
    size_t words;  ///< at least
    bool (*run)(const Words& words);
};

template <auto cases>
bool of_node(const Words& words) {
    cases(words[0]);
    return true;
}

template <auto cases>
bool counted(const Words& words) {
    cases(words[0], number(words[1]));
    return true;
}

constexpr auto modes = std::to_array<Mode>({
    {"compare", 4, compared},
    {"threads", 2, counted<thread_cases>},
    {"slow", 2, counted<slow_cases>},
    {"killed", 2, counted<killed_cases>},
    {"hostile", 1, of_node<hostile_cases>},
    {"hostile-v4", 1, of_node<hostile_v4_cases>},
    {"async", 1, of_node<async_cases>},
    {"ioctls", 1, of_node<ioctl_cases>},
    {"reserve", 5, [](const Words& words) { return reserve(words[0], Words(words.begin() + 1, words.end())); }},
    {"access", 2, [](const Words& words) { return access(words[0], words[1]); }},
});

bool run(Words words) {
    if (words.size() > 2 && words[0] == "-name") words.erase(words.begin(), words.begin() + 2);
    if (words.empty()) return false;
    const auto mode = std::find_if(modes.begin(), modes.end(), [&](const Mode& one) { return one.name == words[0]; });
    words.erase(words.begin());
    return mode != modes.end() && words.size() >= mode->words && mode->run(words);
}

}  // namespace
}  // namespace storctl::sg_client

int main(int argc, char** argv) {
    alarm(240);  // a call that never comes back is a finding too
    if (!storctl::sg_client::run({argv + 1, argv + argc})) {
        fmt::print(stderr,
                   "usage: sg_client compare|threads|slow|killed|hostile|hostile-v4|async|ioctls|reserve|access …\n");
        return 2;
    }
    return storctl::sg_client::wrong_results() == 0 ? 0 : 1;
}
