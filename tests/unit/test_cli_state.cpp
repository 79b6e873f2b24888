#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "cli/fields.hpp"
#include "cli/state_lookup.hpp"

using namespace storctl::cli;

namespace {

const Json state{{"version", 1},
                 {"daemon", {{"host", "a"}}},
                 {"devices",
                  {{{"id", "naa6.1"}, {"name", "sda"}, {"model", "a \"}]{[ \\"}},
                   {{"id", "naa6.2"}, {"name", "dm-0"}, {"paths", {{{"name", "sdb"}}, {{"name", "sdc"}}}}},
                   {{"id", "name.sdaa"}, {"name", "sdaa"}, {"model", "\\\""}}}},
                 {"nodes", {{{"name", "sdb"}}}}};

std::vector<std::string> ids(const std::vector<Mention>& mentions) {
    const auto found = devices_mentioning(state.dump(), mentions);
    REQUIRE(found);
    std::vector<std::string> out;
    for (const Json& device : *found) out.push_back(text_of(device, "id"));
    return out;
}

}  // namespace

TEST_CASE("devices are found by whole members, wherever they stand in the device") {
    using Ids = std::vector<std::string>;
    CHECK(ids({{"name", "sda"}}) == Ids{"naa6.1"});
    CHECK(ids({{"name", "sdc"}}) == Ids{"naa6.2"});
    CHECK(ids({{"name", "sdaa"}, {"name", "dm-0"}}) == Ids{"naa6.2", "name.sdaa"});
    CHECK(ids({{"name", "sdz"}}).empty());
    CHECK(ids({{"model", "sda"}}).empty());
    CHECK(ids({}).empty());
    CHECK(ids({{"model", "a \"}]{[ \\"}}) == Ids{"naa6.1"});
}

TEST_CASE("every prefix of a state file is refused or understood, never more than it says") {
    const std::string text = state.dump();
    for (size_t length = 0; length < text.size(); ++length) {
        CAPTURE(length);
        const auto found = devices_mentioning(std::string_view(text).substr(0, length), {{"name", "sda"}});
        if (found) CHECK(found->size() == 1);
    }
    CHECK_FALSE(devices_mentioning("", {{"name", "sda"}}));
    CHECK_FALSE(devices_mentioning("{\"version\":1,\"devices\":[{\"name\":\"sda\"", {{"name", "sda"}}));
    CHECK_FALSE(devices_mentioning("{\"version\":2,\"devices\":[]}", {{"name", "sda"}}));
    CHECK_FALSE(devices_mentioning("{\"version\":1,\"devices\":[{\"name\":\"sda\",}]}", {{"name", "sda"}}));
}
