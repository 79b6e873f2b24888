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

TEST_CASE("a bad specification is refused with the key that is wrong") {
    struct Row {
        const char* name;
        const char* text;
        const char* expected;
    };
    for (const Row& row : {
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
