#include <algorithm>

#include <doctest/doctest.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "daemon/config.hpp"
#include "daemon/config_keys.hpp"
#include "daemon/config_value.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace storctl;
using namespace std::chrono_literals;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

bool same(const Config& a, const Config& b) {
    return std::all_of(config_keys::table.begin(), config_keys::table.end(), [&](const auto& key) {
        return std::visit([&](auto field) { return a.*field == b.*field; }, key.field);
    });
}

/// The reference with the `#` of its settings taken away: what a user gets who activates every line.
std::string activated(const std::string& reference) {
    std::string out;
    for (auto line : split(reference, '\n')) {
        if (line.starts_with("#") && !line.starts_with("# ")) line.erase(0, 1);
        out += line + "\n";
    }
    return out;
}

}  // namespace

TEST_CASE("each mistake in the configuration is reported with file, line and key") {
    struct Row {
        const char* name;
        const char* text;
        const char* place;
        const char* says;
    };
    const Row rows[] = {
        {"an unknown key far from any other", "\n\nbananas = 1\n", "f.toml:3: key 'bananas'", "unknown key"},
        {"a misspelt key", "# x\nlog_levle = \"info\"\n", "f.toml:2: key 'log_levle'", "did you mean 'log_level'?"},
        {"a key outside its section", "max_clients = 9\n", "f.toml:1: key 'max_clients'",
         "did you mean 'control.max_clients'?"},
        {"a key in a wrong section", "[node]\nmonitor_buffer = \"1M\"\n", "f.toml:2: key 'node.monitor_buffer'",
         "did you mean 'discovery.monitor_buffer'?"},
        {"a misspelt section", "[contrl]\nmax_clients = 9\n", "f.toml:1: key 'contrl'", "did you mean 'control'?"},
        {"a section that is a value", "control = 3\n", "f.toml:1: key 'control'", "section"},
        {"a key that is a section", "[log_level]\nx = 1\n", "f.toml:1: key 'log_level'", "a text in quotes"},
        {"a number for a text", "host = 7\n", "f.toml:1: key 'host'", "a text in quotes"},
        {"a text for a number", "[control]\nmax_clients = \"9\"\n", "f.toml:2: key 'control.max_clients'",
         "whole number"},
        {"a fraction", "[control]\n\nmax_clients = 9.5\n", "f.toml:3: key 'control.max_clients'", "whole number"},
        {"a truth value for a number", "[control]\nmax_clients = true\n", "f.toml:2: key 'control.max_clients'",
         "whole number"},
        {"a number below the range", "control.max_clients = 1\n", "f.toml:1: key 'control.max_clients'", "4 to 65536"},
        {"a number above the range", "control.max_clients = 70000\n", "f.toml:1: key 'control.max_clients'",
         "out of range"},
        {"a negative number", "control.max_clients = -8\n", "f.toml:1: key 'control.max_clients'", "-8"},
        {"a size above the range", "[discovery]\nmonitor_buffer = \"2G\"\n", "f.toml:2: key 'discovery.monitor_buffer'",
         "64K to 1G"},
        {"a size that is none", "[discovery]\nmonitor_buffer = \"much\"\n", "f.toml:2: key 'discovery.monitor_buffer'",
         "not a size"},
        {"a duration without a unit", "[node]\nstart_timeout = \"30\"\n", "f.toml:2: key 'node.start_timeout'",
         "not a duration"},
        {"a duration as a number", "[node]\nstart_timeout = 30\n", "f.toml:2: key 'node.start_timeout'", "\"10s\""},
        {"a choice that is none", "supervisor = \"upstart\"\n", "f.toml:1: key 'supervisor'", "auto, systemd, fork"},
        {"a relative path", "dev_dir = \"dev\"\n", "f.toml:1: key 'dev_dir'", "absolute path"},
        {"an empty path", "dev_dir = \"\"\n", "f.toml:1: key 'dev_dir'", "empty"},
        {"a text for a list", "[discovery]\nextra_placeholders = \"0\"\n",
         "f.toml:2: key 'discovery.extra_placeholders'", "list"},
        {"a number in a list", "[discovery]\nextra_placeholders = [\"0\", 0]\n",
         "f.toml:2: key 'discovery.extra_placeholders'", "list"},
        {"a duplicate key", "host = \"a\"\nhost = \"b\"\n", "f.toml:2:", "host"},
        {"an open quote", "host = \"a\n", "f.toml:1:", "column"},
        {"no TOML at all", "\nthis is not toml\n", "f.toml:2:", "column"},
        {"bytes that are not UTF-8", "host = \"\xff\"\n", "f.toml:1:", "column"},
        {"delays the wrong way round", "[node]\nrestart_delay = \"1min\"\nrestart_delay_max = \"1s\"\n",
         "f.toml:", "node.restart_delay_max"},
    };
    for (const auto& row : rows) {
        SUBCASE(row.name) {
            const auto config = parse_config(row.text, "f.toml");
            REQUIRE_FALSE(config.has_value());
            const std::string message = config.error().message();
            INFO(message);
            CHECK(message.starts_with(row.place));
            CHECK(contains(message, row.says));
        }
    }
}

TEST_CASE("several mistakes are all reported, in the order of their lines") {
    const auto config = parse_config("[control]\nmax_clients = 1\n[node]\nfailed_after = 0\nnope = 1\n", "f");
    REQUIRE_FALSE(config.has_value());
    const auto lines = split(config.error().message(), '\n');
    REQUIRE(lines.size() == 3);
    CHECK(lines[0].starts_with("f:2:"));
    CHECK(lines[1].starts_with("f:4:"));
    CHECK(lines[2].starts_with("f:5:"));
}

TEST_CASE("values of every kind arrive in their fields") {
    const auto config = parse_config(R"(
log_level = "debug"
host = "alpha"
dev_dir = "/tmp/x"
[discovery]
monitor_buffer = 1048576
extra_placeholders = ["a", "b"]
[node]
start_timeout = "2min"
failed_after = 7
[control]
max_message = "64K"
)",
                                     "f");
    REQUIRE_MESSAGE(config.has_value(), config.error().message());
    CHECK(config->log_level == "debug");
    CHECK(config->host == "alpha");
    CHECK(config->dev_dir == "/tmp/x");
    CHECK(config->monitor_buffer_bytes == 1048576);
    CHECK(config->extra_placeholders == std::vector<std::string>{"a", "b"});
    CHECK(config->node_start_timeout == 2min);
    CHECK(config->failed_after == 7);
    CHECK(config->max_message_bytes == 65536);
    CHECK(config->max_clients == default_config().max_clients);
}

TEST_CASE("an empty file gives the defaults, and so does the reference with every line activated") {
    const auto empty = parse_config("", "f");
    REQUIRE(empty.has_value());
    CHECK(same(*empty, default_config()));
    CHECK(empty->dev_dir == "/dev/storctl");
    CHECK(empty->restart_delay == 100ms);
    CHECK(empty->monitor_buffer_bytes == 128u << 20);

    const std::string reference = config_reference();
    const auto commented = parse_config(reference, "reference");
    REQUIRE(commented.has_value());
    CHECK(same(*commented, default_config()));
    const auto active = parse_config(activated(reference), "reference");
    REQUIRE_MESSAGE(active.has_value(), active.error().message());
    CHECK(same(*active, default_config()));
}

TEST_CASE("the table of keys is sound") {
    for (const auto& key : config_keys::table) {
        INFO("key ", std::string(key.name));
        const auto twins = std::count_if(config_keys::table.begin(), config_keys::table.end(), [&](const auto& other) {
            return other.section == key.section && other.name == key.name;
        });
        CHECK(twins == 1);
        const auto fields = std::count_if(config_keys::table.begin(), config_keys::table.end(),
                                          [&](const auto& other) { return other.field == key.field; });
        CHECK(fields == 1);
        CHECK(key.sentence.ends_with("."));
        CHECK((key.kind == config_keys::Kind::choice) == !key.choices.empty());
        CHECK(key.lowest.empty() == key.highest.empty());
    }
}

TEST_CASE("a reload names the changed keys that need a restart, and no others") {
    const Config before = default_config();
    Config after = before;
    after.log_level = "debug";
    CHECK(restart_only_changes(before, after).empty());
    after.host = "beta";
    after.max_clients = 9;
    CHECK(restart_only_changes(before, after) == std::vector<std::string>{"host", "control.max_clients"});
}

TEST_CASE("a configuration file that cannot be read is named") {
    test::TemporaryFolder folder;
    const auto missing = load_config(folder / "none.toml");
    REQUIRE_FALSE(missing.has_value());
    CHECK(missing.error().code == std::errc::no_such_file_or_directory);
    CHECK(contains(missing.error().message(), "none.toml"));
    const auto directory = load_config(folder.path());
    REQUIRE_FALSE(directory.has_value());
    CHECK(directory.error().code == std::errc::is_a_directory);
    REQUIRE(write_file_atomic(folder / "f.toml", "host = \"x\"\n").has_value());
    CHECK(load_config(folder / "f.toml")->host == "x");
}

TEST_CASE("durations are read with their unit") {
    CHECK(*parse_duration("250ms") == 250ms);
    CHECK(*parse_duration("10s") == 10s);
    CHECK(*parse_duration("5 min") == 5min);
    CHECK(*parse_duration("1h") == 1h);
    for (const char* bad : {"", "s", "10", "-1s", "1.5s", "1 day", "99999999999999999999s", "9223372036854775807h"}) {
        INFO(bad);
        CHECK_FALSE(parse_duration(bad).has_value());
    }
}

TEST_CASE("edit distance counts single slips") {
    CHECK(edit_distance("", "") == 0);
    CHECK(edit_distance("host", "host") == 0);
    CHECK(edit_distance("hots", "host") == 1);
    CHECK(edit_distance("hst", "host") == 1);
    CHECK(edit_distance("xhost", "host") == 1);
    CHECK(edit_distance("", "abc") == 3);
    CHECK(edit_distance("kitten", "sitting") == 3);
}
