// What a client may send: framing, JSON, the call, and its parameters against each of our methods. What a server may
// answer: the reply.

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/text.hpp"
#include "control/framing.hpp"
#include "control/interfaces.hpp"
#include "control/message.hpp"
#include "control/value_check.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace storctl;
using namespace storctl::control;

constexpr size_t frame_limit = 4096;
constexpr JsonLimits limits{.max_depth = 16};

const std::vector<Description>& descriptions() {
    static const std::vector<Description> all = [] {
        std::vector<Description> out;
        for (const auto text : {io_storctl, io_storctl_arbiter, io_storctl_device, io_storctl_node,
                                io_storctl_node_process, org_varlink_service}) {
            auto description = parse_description(text);
            FUZZ_CHECK(description);
            out.push_back(std::move(*description));
        }
        return out;
    }();
    return all;
}

size_t depth_of(const Json& value) {
    if (!value.is_structured()) return 0;
    size_t deepest = 0;
    for (const auto& member : value) deepest = std::max(deepest, depth_of(member));
    return deepest + 1;
}

std::vector<std::string> frames(std::string_view input, size_t piece, bool& overflowed) {
    FrameReader reader(frame_limit);
    std::vector<std::string> out;
    for (size_t at = 0; at < input.size(); at += piece) {
        reader.feed(input.substr(at, piece));
        while (auto message = reader.next()) out.push_back(std::move(*message));
    }
    overflowed = reader.overflowed();
    return out;
}

void check_json(const std::string& text) {
    const auto json = parse_json(text, limits);
    if (!json) {
        FUZZ_CHECK(valid_utf8(json.error().context) && json.error().context.size() < 2000);
        return;
    }
    FUZZ_CHECK(valid_utf8(text));
    FUZZ_CHECK(depth_of(*json) <= limits.max_depth);
    std::string again = to_wire(*json);
    FUZZ_CHECK(again.back() == '\0' && again.find('\0') == again.size() - 1);
    again.pop_back();
    const auto reread = parse_json(again, limits);
    FUZZ_CHECK(reread && *reread == *json);
}

void check_parameters(const Json& parameters) {
    for (const auto& description : descriptions()) {
        for (const auto& [name, method] : description.methods) {
            for (const Type* type : {&method.input, &method.output}) {
                const auto misfit = check_value(description, *type, parameters);
                FUZZ_CHECK(!misfit || (misfit->path.starts_with("parameters") && !misfit->problem.empty()));
            }
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    bool overflowed_whole = false;
    bool overflowed_pieces = false;
    const auto messages = frames(input, std::max<size_t>(size, 1), overflowed_whole);
    FUZZ_CHECK(messages == frames(input, 7, overflowed_pieces));
    FUZZ_CHECK(overflowed_whole == overflowed_pieces);
    for (const auto& message : messages) {
        FUZZ_CHECK(message.size() <= frame_limit);
        check_json(message);
        if (const auto call = parse_call(message, limits)) {
            std::string wire = encode_call(*call);
            wire.pop_back();
            const auto again = parse_call(wire, limits);
            FUZZ_CHECK(again && again->method == call->method && again->parameters == call->parameters);
            FUZZ_CHECK(again->more == call->more && again->oneway == call->oneway && !(call->more && call->oneway));
            check_parameters(call->parameters);
        }
        if (const auto reply = parse_reply(message, limits)) {
            std::string wire = encode_reply(*reply);
            wire.pop_back();
            const auto again = parse_reply(wire, limits);
            FUZZ_CHECK(again && again->parameters == reply->parameters && again->error == reply->error);
        }
    }
    return 0;
}
