#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "daemon/udev_publisher.hpp"

using namespace storctl;
using nlohmann::json;

namespace {

json device(const std::string& name, const std::string& id, bool shared) {
    return {{"name", name}, {"id", id}, {"locality", "no"}, {"sharing", {{"shared", shared}}}};
}

/// udev's database, and a kernel that notes what it was asked for.
struct Host {
    std::map<std::string, UdevProperties> database;
    std::vector<std::string> asked;
    bool refuses = false;
    UdevPublisher publisher{[this](const std::string& name) {
                                const auto found = database.find(name);
                                return found == database.end() ? std::nullopt : std::optional(found->second);
                            },
                            [this](const std::string& name) -> Result<void> {
                                asked.push_back(name);
                                if (refuses) return make_error(std::errc::permission_denied, "no");
                                return {};
                            }};
};

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("only a device of which udev says something else gets an event") {
    Host host;
    host.database["sda"] = {.id = "naa6.1", .local = "no", .shared = "0"};
    host.database["sdb"] = {.id = "naa6.2", .local = "no", .shared = "0"};
    host.database["sdc"] = {.id = "naa6.3", .local = "unknown", .shared = "0"};
    host.database["sdd"] = {.id = "path.4", .local = "no", .shared = "0"};
    host.publisher.compare(json::array({device("sda", "naa6.1", false), device("sdb", "naa6.2", true),
                                        device("sdc", "naa6.3", false), device("sdd", "naa6.4", false)}));
    CHECK(host.asked == Names{"sdb", "sdc", "sdd"});
}

TEST_CASE("a device without our properties is left alone") {
    Host host;
    host.publisher.compare(json::array({device("sda", "naa6.1", true)}));
    CHECK(host.asked.empty());
}

TEST_CASE("a value that udev would not take counts as the helper writes it") {
    Host host;
    host.database["sda"] = {.id = "t10.ACME_disk_7", .local = "no", .shared = "0"};
    host.publisher.compare(json::array({device("sda", "t10.ACME disk\"7", false)}));
    CHECK(host.asked.empty());
    host.publisher.compare(json::array({device("sda", "t10.ACME disk\"78", false)}));
    CHECK(host.asked == Names{"sda"});
}

TEST_CASE("the same values are never asked for twice, also when the event brought nothing") {
    Host host;
    host.database["sda"] = {.id = "naa6.1", .local = "no", .shared = "0"};
    const auto shared = json::array({device("sda", "naa6.1", true)});
    host.publisher.compare(shared);
    host.publisher.compare(shared);
    CHECK(host.asked.size() == 1);

    SUBCASE("other values are") {
        host.publisher.compare(json::array({device("sda", "naa6.9", true)}));
        CHECK(host.asked.size() == 2);
    }
    SUBCASE("and those of a device that was gone and came back") {
        host.publisher.compare(json::array());
        host.publisher.compare(shared);
        CHECK(host.asked.size() == 2);
    }
}

TEST_CASE("a refusal keeps nobody else from an event") {
    Host host;
    host.refuses = true;
    for (const auto* name : {"sda", "sdb"}) host.database[name] = {.id = "naa6.1", .local = "no", .shared = "0"};
    host.publisher.compare(json::array({device("sda", "naa6.1", true), device("sdb", "naa6.1", true)}));
    CHECK(host.asked == Names{"sda", "sdb"});
}
