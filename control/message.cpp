#include "control/message.hpp"

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl::control {
namespace {

Error malformed(std::string what) { return make_error(std::errc::bad_message, std::move(what)); }

Result<bool> flag(std::string_view name, const Json& value) {
    if (!value.is_boolean()) return malformed(fmt::format("'{}' is {}, not a bool", name, value.type_name()));
    return value.get<bool>();
}

Result<std::string> text_member(std::string_view name, const Json& value) {
    if (!value.is_string()) return malformed(fmt::format("'{}' is {}, not a string", name, value.type_name()));
    return value.get_ref<const std::string&>();
}

/// Absent and null are an empty object.
Result<Json> parameters_member(Json& value) {
    if (value.is_null()) return Json::object();
    if (!value.is_object()) return malformed(fmt::format("'parameters' is {}, not an object", value.type_name()));
    return std::move(value);
}

}  // namespace

Result<CallMessage> parse_call(std::string_view text, const JsonLimits& limits) {
    Json json = TRY(parse_json(text, limits));
    if (!json.is_object()) return malformed(fmt::format("a call is an object, this is {}", json.type_name()));
    CallMessage call;
    for (auto& [name, value] : json.items()) {
        if (name == "method") {
            call.method = TRY(text_member(name, value));
        } else if (name == "parameters") {
            call.parameters = TRY(parameters_member(value));
        } else if (name == "more") {
            call.more = TRY(flag(name, value));
        } else if (name == "oneway") {
            call.oneway = TRY(flag(name, value));
        } else if (name == "upgrade") {
            const bool upgrade = TRY(flag(name, value));
            if (upgrade) return malformed("'upgrade' is not offered here");
        } else {
            return malformed(fmt::format("'{}' is no member of a call", escape_unprintable(name.substr(0, 100))));
        }
    }
    if (call.method.empty()) return malformed("'method' is missing");
    if (call.more && call.oneway) return malformed("'more' and 'oneway' exclude each other");
    return call;
}

std::string encode_call(const CallMessage& call) {
    Json json{{"method", call.method}, {"parameters", call.parameters}};
    if (call.more) json["more"] = true;
    if (call.oneway) json["oneway"] = true;
    return to_wire(json);
}

Result<Reply> parse_reply(std::string_view text, const JsonLimits& limits) {
    Json json = TRY(parse_json(text, limits));
    if (!json.is_object()) return malformed(fmt::format("a reply is an object, this is {}", json.type_name()));
    Reply reply;
    for (auto& [name, value] : json.items()) {
        if (name == "parameters") {
            reply.parameters = TRY(parameters_member(value));
        } else if (name == "error" && !value.is_null()) {
            reply.error = TRY(text_member(name, value));
        } else if (name == "continues") {
            reply.continues = TRY(flag(name, value));
        }
    }
    return reply;
}

std::string encode_reply(const Reply& reply) {
    Json json{{"parameters", reply.parameters}};
    if (reply.error) json["error"] = *reply.error;
    if (reply.continues) json["continues"] = true;
    return to_wire(json);
}

}  // namespace storctl::control
