// The pure parts: framing, JSON, messages, the rate limit.

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "control/framing.hpp"
#include "control/json_text.hpp"
#include "control/message.hpp"
#include "control/rate_limit.hpp"

using namespace storctl;
using namespace storctl::control;
using namespace std::string_literals;
using namespace std::chrono_literals;

namespace {

std::vector<std::string> all_messages(FrameReader& reader) {
    std::vector<std::string> out;
    while (auto message = reader.next()) out.push_back(*message);
    return out;
}

}  // namespace

TEST_CASE("frames are the same wherever the stream is cut") {
    const std::string stream = "one\0\0{\"two\":2}\0three\0fo"s;
    const std::vector<std::string> expected{"one", "", "{\"two\":2}", "three"};
    for (size_t first = 0; first <= stream.size(); ++first) {
        for (size_t second = first; second <= stream.size(); ++second) {
            FrameReader reader(9);
            const std::string_view view = stream;
            reader.feed(view.substr(0, first));
            reader.feed(view.substr(first, second - first));
            reader.feed(view.substr(second));
            REQUIRE(reader.complete() == expected.size());
            REQUIRE(all_messages(reader) == expected);
            REQUIRE(reader.partial());
            REQUIRE_FALSE(reader.overflowed());
        }
    }
}

TEST_CASE("a frame over the limit ends the stream, wherever it is cut") {
    const std::string stream =
        "12345\0"
        "123456\0after\0"s;
    for (size_t cut = 0; cut <= stream.size(); ++cut) {
        FrameReader reader(5);
        reader.feed(std::string_view(stream).substr(0, cut));
        reader.feed(std::string_view(stream).substr(cut));
        REQUIRE(reader.overflowed());
        REQUIRE_FALSE(reader.partial());
        REQUIRE(all_messages(reader) == std::vector<std::string>{"12345"});
    }
}

TEST_CASE("JSON that is refused, and why") {
    struct Row {
        const char* name;
        std::string text;
        std::string reason;
    };
    const std::string deep_arrays(100000, '[');
    std::string deep_objects;
    for (int i = 0; i < 100000; ++i) deep_objects += "{\"a\":";
    const std::vector<Row> rows{
        {"nothing", "", "unexpected end of input"},
        {"an unfinished object", "{\"a\":1", "unexpected end of input"},
        {"two values", "{} {}", "unexpected '{'"},
        {"a member twice", R"({"a":1,"b":2,"a":3})", "member 'a' is there twice"},
        {"a member twice, inside", R"({"x":[{"é":1,"\u00e9":3}]})", "member '\\xc3\\xa9' is there twice"},
        {"deep arrays", deep_arrays, "nested deeper than 8 levels"},
        {"deep objects", deep_objects, "nested deeper than 8 levels"},
        {"one level too many", "[[[[[[[[[]]]]]]]]]", "nested deeper than 8 levels"},
        {"a NUL in a string", R"(["a\u0000b"])", "a NUL character in the string 'a\\x00b'"},
        {"a NUL in a name", R"({"\u0000":1})", "a NUL character in the string '\\x00'"},
        {"a byte that is no UTF-8", "[\"\xff\"]", "ill-formed UTF-8"},
        {"an overlong slash", "[\"\xc0\xaf\"]", "ill-formed UTF-8"},
        {"a surrogate in UTF-8", "[\"\xed\xa0\x80\"]", "ill-formed UTF-8"},
        {"half a pair", R"(["\ud800"])", "surrogate"},
        {"a character beyond Unicode", "[\"\xf4\x90\x80\x80\"]", "ill-formed UTF-8"},
        {"a cut character", "[\"\xe2\x82\"]", "ill-formed UTF-8"},
        {"a control character in a string", "[\"\n\"]", "control character"},
        {"a number too large for any type", "[1e999]", "number overflow"},
        {"not a number", "[NaN]", "invalid literal"},
        {"a comment", "[1 /* */]", "invalid literal"},
        {"a trailing comma", "[1,]", "unexpected ']'"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        const auto json = parse_json(row.text, {.max_depth = 8});
        REQUIRE_FALSE(json);
        CHECK(json.error().code == std::errc::bad_message);
        CHECK_MESSAGE(json.error().context.find(row.reason) != std::string::npos, json.error().context);
        CHECK(json.error().context.size() < 1000);
    }
}

TEST_CASE("JSON that is taken") {
    for (const std::string text :
         {"null", "[[[[[[[[]]]]]]]]", R"({"a":{"a":{"a":[1,-2,3.5,"\u00e9",true,false,null]}}})",
          "  [9223372036854775807,-9223372036854775808,18446744073709551615]\n", "[{},{},[]]"}) {
        CAPTURE(text);
        const auto json = parse_json(text, {.max_depth = 8});
        REQUIRE(json);
        CHECK(*json == Json::parse(text));
        const auto again = parse_json(json->dump(), {.max_depth = 8});
        REQUIRE(again);
        CHECK(*again == *json);
    }
    const auto with_nul = parse_json(R"("a\u0000b")", {.nul_in_strings = true});
    REQUIRE(with_nul);
    CHECK(*with_nul == Json("a\0b"s));
}

TEST_CASE("on the wire, bytes that are no UTF-8 become replacement characters") {
    CHECK(to_wire({{"vendor", "ATA\xff "}}) == "{\"vendor\":\"ATA\xef\xbf\xbd \"}\0"s);
}

TEST_CASE("calls") {
    const auto call =
        parse_call(R"({"method":"a.b.C","parameters":{"x":1},"more":true,"oneway":false,"upgrade":false})", {});
    REQUIRE(call);
    CHECK(call->method == "a.b.C");
    CHECK(call->parameters == Json{{"x", 1}});
    CHECK(call->more);
    CHECK_FALSE(call->oneway);
    for (const std::string text : {R"({"method":"a.b.C"})", R"({"method":"a.b.C","parameters":null})"}) {
        const auto bare = parse_call(text, {});
        REQUIRE(bare);
        CHECK(bare->parameters == Json::object());
    }

    struct Row {
        std::string text;
        std::string reason;
    };
    const std::vector<Row> refused{
        {"[]", "a call is an object, this is array"},
        {"null", "a call is an object, this is null"},
        {"{}", "'method' is missing"},
        {R"({"method":""})", "'method' is missing"},
        {R"({"method":1})", "'method' is number, not a string"},
        {R"({"method":"a.B","parameters":[]})", "'parameters' is array, not an object"},
        {R"({"method":"a.B","more":1})", "'more' is number, not a bool"},
        {R"({"method":"a.B","oneway":null})", "'oneway' is null, not a bool"},
        {R"({"method":"a.B","upgrade":true})", "'upgrade' is not offered here"},
        {R"({"method":"a.B","more":true,"oneway":true})", "'more' and 'oneway' exclude each other"},
        {R"({"method":"a.B","paramters":{}})", "'paramters' is no member of a call"},
    };
    for (const auto& row : refused) {
        CAPTURE(row.text);
        const auto bad = parse_call(row.text, {});
        REQUIRE_FALSE(bad);
        CHECK(bad.error().context == row.reason);
    }
}

TEST_CASE("calls and replies come back as they were written") {
    const CallMessage call{.method = "a.b.C", .parameters = {{"text", "ü"}}, .more = true};
    std::string wire = encode_call(call);
    REQUIRE(wire.back() == '\0');
    wire.pop_back();
    const auto read = parse_call(wire, {});
    REQUIRE(read);
    CHECK(read->method == call.method);
    CHECK(read->parameters == call.parameters);
    CHECK(read->more);

    std::string answer = encode_reply({.parameters = {{"id", "x"}}, .error = "a.b.NotFound", .continues = true});
    answer.pop_back();
    const auto reply = parse_reply(answer, {});
    REQUIRE(reply);
    CHECK(reply->error == "a.b.NotFound");
    CHECK(reply->parameters == Json{{"id", "x"}});
    CHECK(reply->continues);

    const auto newer = parse_reply(R"({"parameters":null,"error":null,"unknown":1})", {});
    REQUIRE(newer);
    CHECK_FALSE(newer->error);
    CHECK(newer->parameters == Json::object());
    for (const std::string bad : {"[]", R"({"error":1})", R"({"continues":1})", R"({"parameters":1})", "{"}) {
        CHECK_FALSE(parse_reply(bad, {}));
    }
}

TEST_CASE("the rate limit holds back within a window and says how many afterwards") {
    RateLimit limit(2, 10s);
    const RateLimit::Clock::time_point start = RateLimit::Clock::now();
    CHECK(limit.pass(start) == 0);
    CHECK(limit.pass(start + 1s) == 0);
    CHECK_FALSE(limit.pass(start + 2s));
    CHECK_FALSE(limit.pass(start + 9s));
    CHECK(limit.pass(start + 10s) == 2);
    CHECK(limit.pass(start + 11s) == 0);
    CHECK_FALSE(limit.pass(start + 12s));
}
