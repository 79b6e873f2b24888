#include <array>
#include <optional>

#include <fmt/format.h>

#include "tests/lab/sg_client/cases.hpp"
#include "tests/lab/sg_client/report.hpp"
#include "tests/lab/sg_client/sg_node.hpp"

namespace storctl::sg_client {
namespace {

struct Action {
    std::string_view name;
    uint8_t code;
};

// SPC-5, PERSISTENT RESERVE OUT service actions
constexpr auto actions = std::to_array<Action>({{"register", 0},
                                                {"reserve", 1},
                                                {"release", 2},
                                                {"clear", 3},
                                                {"preempt", 4},
                                                {"preempt-abort", 5},
                                                {"register-ignore", 6}});

std::optional<uint8_t> code_of(std::string_view name) {
    for (const Action& action : actions)
        if (action.name == name) return action.code;
    return std::nullopt;
}

}  // namespace

bool reserve(const std::string& path, const std::vector<std::string>& words) {
    constexpr size_t action = 0, key = 1, service_key = 2, type = 3, aptpl = 4;
    constexpr size_t parameter_bytes = 24, flags_at = 20;
    if (words.size() <= type) return false;
    const auto code = code_of(words[action]);
    if (!code) return false;
    Cdb list(parameter_bytes);
    put_number(list, 0, 8, std::stoull(words[key], nullptr, 16));
    put_number(list, 8, 8, std::stoull(words[service_key], nullptr, 16));
    list[flags_at] = words.size() > aptpl && words[aptpl] == "aptpl" ? 1 : 0;
    const Answer answer = SgNode(path).send(
        {.cdb = persistent_reserve_out(*code, static_cast<uint8_t>(std::stoul(words[type])), parameter_bytes),
         .direction = Direction::to_device,
         .data = std::as_writable_bytes(std::span(list)),
         .pieces = {}});
    report(words[action], answer.text());
    return true;
}

bool access(const std::string& path, std::string_view what) {
    constexpr size_t most_block_bytes = 4096;
    const bool write = what == "write";
    if (!write && what != "read" && what != "ask") return false;
    const SgNode node(path, write ? O_RDWR : O_RDONLY);
    std::array<std::byte, most_block_bytes> block{};
    const auto data = std::span(block).first(512);
    if (what == "ask") {
        report(what, node.send({.cdb = test_unit_ready(), .data = {}, .pieces = {}}).text());
        return true;
    }
    const Answer read =
        node.send({.cdb = transfer(read10, 0, 1), .direction = Direction::from_device, .data = data, .pieces = {}});
    if (!write) {
        report(what, read.text());
        return true;
    }
    report(what,
           node.send({.cdb = transfer(write10, 0, 1), .direction = Direction::to_device, .data = data, .pieces = {}})
               .text());
    return true;
}

}  // namespace storctl::sg_client
