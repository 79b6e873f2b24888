#pragma once
// Varlink's two messages, the call and the reply, between JSON text and values. Pure.

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "control/client.hpp"
#include "control/json_text.hpp"

namespace storctl::control {

struct CallMessage {
    std::string method;
    Json parameters = Json::object();
    bool more = false;
    bool oneway = false;
};

/// bad_message for whatever is no call: the sentence names the member.
Result<CallMessage> parse_call(std::string_view text, const JsonLimits& limits);
std::string encode_call(const CallMessage& call);

/// Members that are not known are ignored: the server may be newer.
Result<Reply> parse_reply(std::string_view text, const JsonLimits& limits);
std::string encode_reply(const Reply& reply);

}  // namespace storctl::control
