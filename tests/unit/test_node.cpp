#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "daemon/node/describe.hpp"
#include "daemon/node/open_table.hpp"
#include "daemon/node/spec.hpp"

using namespace storctl;
using namespace storctl::node;

namespace {

Opener reader(int pid) { return {.pid = pid, .program = "reader", .writes = false, .since = {}}; }
Opener writer(int pid) { return {.pid = pid, .program = "writer", .writes = true, .since = {}}; }

}  // namespace

TEST_CASE("single writer: readers always, a second writing process never") {
    OpenTable table(OpenPolicy::single_writer);
    const auto first = table.open(writer(10));
    CHECK(first.verdict == OpenVerdict::granted);
    CHECK(table.open(reader(11)).verdict == OpenVerdict::granted);
    const auto second = table.open(writer(12));
    CHECK(second.verdict == OpenVerdict::busy);
    REQUIRE(second.blocker.has_value());
    CHECK(second.blocker->pid == 10);
    CHECK(table.openers().size() == 2);

    SUBCASE("the same process may open again, as QEMU does") {
        const auto again = table.open(writer(10));
        CHECK(again.verdict == OpenVerdict::granted);
        CHECK(table.release(first.handle));
        CHECK(table.open(writer(12)).verdict == OpenVerdict::busy);
        CHECK(table.release(again.handle));
        CHECK(table.open(writer(12)).verdict == OpenVerdict::granted);
    }
    SUBCASE("two unknown processes are two") {
        CHECK(table.release(first.handle));
        CHECK(table.open(writer(0)).verdict == OpenVerdict::granted);
        CHECK(table.open(writer(0)).verdict == OpenVerdict::busy);
    }
    SUBCASE("a handle is released once") {
        CHECK(table.release(first.handle));
        CHECK_FALSE(table.release(first.handle));
        CHECK_FALSE(table.release(999));
    }
}

TEST_CASE("shared lets every writer in, read-only none") {
    OpenTable shared(OpenPolicy::shared);
    CHECK(shared.open(writer(1)).verdict == OpenVerdict::granted);
    CHECK(shared.open(writer(2)).verdict == OpenVerdict::granted);
    OpenTable read_only(OpenPolicy::read_only);
    CHECK(read_only.open(writer(1)).verdict == OpenVerdict::read_only);
    CHECK(read_only.open(reader(1)).verdict == OpenVerdict::granted);
}

TEST_CASE("a node's name is safe as file name, unit instance and path") {
    for (const char* good : {"web1", "a", "A.b-c_d", "_x", "0"}) {
        CAPTURE(good);
        CHECK(check_node_name(good));
    }
    for (const std::string& bad :
         {std::string(), std::string("."), std::string(".."), std::string("-x"), std::string("a/b"), std::string("a b"),
          std::string("a\n"), std::string("\xc3\xa4"), std::string("a%i"), std::string(65, 'a')}) {
        CAPTURE(bad);
        CHECK_FALSE(check_node_name(bad).has_value());
    }
}

TEST_CASE("a specification survives the way to JSON and back") {
    const Spec spec{.name = "web1",
                    .backing_path = "/dev/sdb",
                    .backing_kind = "block",
                    .control_socket = "/run/storctl/node/web1.socket",
                    .mount_path = "/run/storctl/block/web1",
                    .loop_link = "/dev/storctl/disk/web1",
                    .open = OpenPolicy::shared,
                    .expected_size_bytes = 1 << 30,
                    .expected_logical_block_bytes = 4096,
                    .wait_for_backing = true};
    const auto again = Spec::parse(spec.to_json(), "test");
    REQUIRE(again.has_value());
    CHECK(again->to_json() == spec.to_json());
    CHECK(again->open == OpenPolicy::shared);
    CHECK(again->wait_for_backing);
}

TEST_CASE("a USB node's specification survives the way to JSON and back") {
    Spec spec{.name = "token",
              .kind = NodeKind::usb,
              .usb = {.device_name = "storctl/usb/token",
                      .major = usb_node_major,
                      .minor = usb_node_first_minor + 3,
                      .policy = {.interfaces = std::set<uint8_t>{0, 255}, .deny = {usbfs::Denial::reset}},
                      .descriptors = {18, 1, 0, 255}},
              .backing_path = "/dev/bus/usb/001/004",
              .backing_kind = "usb",
              .control_socket = "/run/storctl/node/token.socket"};
    SUBCASE("as it is") {}
    SUBCASE("its device is away, all of it may be used") {
        spec.backing_path.clear();
        spec.wait_for_backing = true;
        spec.usb.policy = {.interfaces = std::nullopt, .deny = {}};
        spec.usb.descriptors.clear();
    }
    const auto again = Spec::parse(spec.to_json(), "test");
    REQUIRE(again.has_value());
    CHECK(again->to_json() == spec.to_json());
    CHECK(again->kind == NodeKind::usb);
    CHECK(again->usb.device_name == spec.usb.device_name);
    CHECK(again->usb.major == spec.usb.major);
    CHECK(again->usb.minor == spec.usb.minor);
    CHECK(again->usb.policy.interfaces == spec.usb.policy.interfaces);
    CHECK(again->usb.policy.deny == spec.usb.policy.deny);
    CHECK(again->usb.descriptors == spec.usb.descriptors);
    CHECK(again->backing_path == spec.backing_path);
}

TEST_CASE("a bad specification of a USB node is refused with the key that is wrong") {
    struct Row {
        const char* name;
        const char* usb;
        const char* expected;
    };
    for (const Row& row : {
             Row{"nothing about the device", R"("none":0)", "usb"},
             Row{"not an object", R"("usb":[])", "usb"},
             Row{"no name",
                 R"("usb":{"device_name":"","major":189,"minor":1,"interfaces":null,"deny":[],"descriptors":""})",
                 "'device_name'"},
             Row{"a negative number",
                 R"("usb":{"device_name":"a","major":-1,"minor":1,"interfaces":null,"deny":[],"descriptors":""})",
                 "'major'"},
             Row{"half a number",
                 R"("usb":{"device_name":"a","major":189,"minor":1.5,"interfaces":null,"deny":[],"descriptors":""})",
                 "'minor'"},
             Row{"an interface that cannot be",
                 R"("usb":{"device_name":"a","major":189,"minor":1,"interfaces":[256],"deny":[],"descriptors":""})",
                 "'interfaces'"},
             Row{"an unknown denial",
                 R"("usb":{"device_name":"a","major":189,"minor":1,"interfaces":null,"deny":["all"],"descriptors":""})",
                 "'deny' is not reset, configuration"},
             Row{"descriptors that are no bytes",
                 R"("usb":{"device_name":"a","major":189,"minor":1,"interfaces":null,"deny":[],"descriptors":"0g"})",
                 "'descriptors'"},
         }) {
        SUBCASE(row.name) {
            const auto spec =
                Spec::parse(R"({"version":1,"name":"a","kind":"usb","backing_path":"/x","control_socket":"/s",)" +
                                std::string(row.usb) + "}",
                            "test.json");
            REQUIRE_FALSE(spec.has_value());
            CHECK(spec.error().message().find(row.expected) != std::string::npos);
        }
    }
}

TEST_CASE("a bad specification is refused with the key that is wrong") {
    struct Row {
        const char* name;
        const char* text;
        const char* expected;
    };
    for (
        const Row& row : {
            Row{"no JSON", "{", "not a JSON object"},
            Row{"another version", R"({"version":2})", "'version'"},
            Row{"a missing path", R"({"version":1,"name":"a"})", "backing_path"},
            Row{"no backing and no leave to wait for one",
                R"({"version":1,"name":"a","backing_path":"","mount_path":"/m","control_socket":"/s"})",
                "'backing_path' is empty"},
            Row{"a relative path",
                R"({"version":1,"name":"a","backing_path":"x","mount_path":"/m","control_socket":"/s"})",
                "'backing_path'"},
            Row{"an unknown policy",
                R"({"version":1,"name":"a","backing_path":"/x","mount_path":"/m","control_socket":"/s","open":"all"})",
                "'open'"},
            Row{"an unknown kind",
                R"({"version":1,"name":"a","backing_path":"/x","mount_path":"/m","control_socket":"/s","kind":"tape"})",
                "'kind' is not block or usb"},
            Row{"a disk without a file to mount on",
                R"({"version":1,"name":"a","backing_path":"/x","mount_path":"","control_socket":"/s"})",
                "'mount_path'"},
            Row{"a number for a name",
                R"({"version":1,"name":1,"backing_path":"/x","mount_path":"/m","control_socket":"/s"})", "string"},
            Row{"a bad name",
                R"({"version":1,"name":"../a","backing_path":"/x","mount_path":"/m","control_socket":"/s"})",
                "name a node"},
        }) {
        SUBCASE(row.name) {
            const auto spec = Spec::parse(row.text, "test.json");
            REQUIRE_FALSE(spec.has_value());
            CHECK(spec.error().message().find(row.expected) != std::string::npos);
        }
    }
}

TEST_CASE("latencies fall into buckets by powers of two") {
    OperationStats stats;
    for (const uint64_t ns : {0ULL, 1ULL, 1023ULL, 1024ULL, ~0ULL}) {
        stats.begin();
        stats.end(512, 512, ns);
    }
    stats.begin();
    stats.end(-5, 512, 1);
    CHECK(stats.latency[0].get() == 1);
    CHECK(stats.latency[1].get() == 2);
    CHECK(stats.latency[10].get() == 1);
    CHECK(stats.latency[11].get() == 1);
    CHECK(stats.latency[latency_buckets - 1].get() == 1);
    CHECK(stats.operations.get() == 6);
    CHECK(stats.errors.get() == 1);
    CHECK(stats.bytes.get() == 5 * 512);
    CHECK(stats.in_flight.get() == 0);
}
