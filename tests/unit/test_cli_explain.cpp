#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "cli/connection.hpp"

using namespace storctl;
using namespace storctl::cli;

TEST_CASE("each error of stord has its exit code, and says what stord said") {
    struct Row {
        const char* error;
        Json parameters;
        Exit exit;
        const char* mentions;
        size_t items;
    };
    const Row rows[] = {
        {"io.storctl.Device.NotFound", {{"id", "sdz"}}, Exit::not_found, "'sdz'", 0},
        {"io.storctl.Device.Ambiguous", {{"id", "QM1"}, {"candidates", {"a", "b"}}}, Exit::ambiguous, "'QM1'", 2},
        {"io.storctl.Device.Refused",
         {{"id", "sda"}, {"message", "an id conflict"}, {"blockers", {"sdb has it too"}}},
         Exit::refused,
         "an id conflict",
         1},
        {"io.storctl.Device.InvalidValue",
         {{"parameter", "reason"}, {"value", "x"}, {"message", "one line only"}},
         Exit::usage,
         "one line only",
         0},
        {"io.storctl.Node.NotFound", {{"name", "web1"}}, Exit::not_found, "'web1'", 0},
        {"io.storctl.Node.AlreadyExists", {{"name", "web1"}}, Exit::failed, "'web1'", 0},
        {"io.storctl.Node.Refused",
         {{"message", "open"}, {"blockers", {"pid 1", "pid 2", "pid 3"}}},
         Exit::refused,
         "open",
         3},
        {"io.storctl.Node.Failed", {{"message", "no FUSE"}}, Exit::failed, "no FUSE", 0},
        {"io.storctl.Node.DeviceNotFound", {{"id", "sdz"}}, Exit::not_found, "'sdz'", 0},
        {"io.storctl.Node.DeviceAmbiguous", {{"id", "QM1"}, {"candidates", {"a"}}}, Exit::ambiguous, "'QM1'", 1},
        {"io.storctl.Arbiter.NotFound", {{"what", "1-2"}}, Exit::not_found, "'1-2'", 0},
        {"io.storctl.Arbiter.NotFound",
         {{"what", "1-2"}, {"message", "'1-2': nothing is plugged in"}},
         Exit::not_found,
         "'1-2': nothing is plugged in; 'storctl usb list'",
         0},
        {"io.storctl.Arbiter.Refused",
         {{"message", "held"}, {"blockers", {{{"target", "a"}}, {{"target", "b"}}}}},
         Exit::refused,
         "held:",
         2},
        {"io.storctl.Arbiter.RuleNotFound", {{"id", 7}}, Exit::not_found, "no rule 7", 0},
        {"io.storctl.InternalError", {{"message", "database is full"}}, Exit::failed, "database is full", 0},
        {"org.varlink.service.PermissionDenied", Json::object(), Exit::not_permitted, "root", 0},
        {"org.varlink.service.InvalidParameter", {{"parameter", "open"}}, Exit::usage, "'open'", 0},
        {"org.varlink.service.MethodNotFound", {{"method", "io.storctl.Node.X"}}, Exit::failed, "io.storctl.Node.X", 0},
        {"io.storctl.Device.NotFound", nullptr, Exit::not_found, "no device", 0},
        {"com.example.Strange", {{"x", 1}}, Exit::failed, "com.example.Strange", 0},
    };
    for (const Row& row : rows) {
        CAPTURE(row.error);
        const Failure failure = explain_reply(row.error, row.parameters);
        CHECK(failure.exit == row.exit);
        CAPTURE(failure.message);
        CHECK(failure.message.find(row.mentions) != std::string::npos);
        CHECK(failure.items.size() == row.items);
    }
}

TEST_CASE("without stord the message names the socket and what to do") {
    const auto absent =
        explain_transport(make_error(std::errc::no_such_file_or_directory, "cannot connect to '/run/x/io.storctl'"),
                          "/run/x/io.storctl", false);
    CHECK(absent.exit == Exit::unreachable);
    CHECK(absent.message.find("/run/x/io.storctl") != std::string::npos);
    CHECK(absent.items.at(0).find("systemctl start stord") != std::string::npos);
    CHECK(explain_transport(make_error(std::errc::permission_denied, "connect"), "/s", false).exit ==
          Exit::not_permitted);
    CHECK(explain_transport(make_error(std::errc::timed_out, "60 s"), "/s", true).exit == Exit::unreachable);
    CHECK(explain_transport(make_error(std::errc::timed_out, "60 s"), "/s", true).timed_out);
    CHECK(!absent.timed_out);
    CHECK(explain_transport(make_error(std::errc::connection_reset, "read"), "/s", true).exit == Exit::unreachable);
}

TEST_CASE("at the limit of long work one is told that it goes on, and how to watch it") {
    const auto failure = still_at_work("stord is returning drivers", Connection::drivers_timeout);
    CHECK(failure.exit == Exit::unreachable);
    CHECK(failure.message == "no end within 11 minutes, and the work goes on: stord is returning drivers");
    CHECK(failure.items.at(0) == "watch it: storctl usb claims; storctl node list; storctl monitor");
}
