#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "cli/fields.hpp"
#include "cli/hook_udev.hpp"

using namespace storctl;
using namespace storctl::cli;
using locality::Identifier;
using locality::IdType;

namespace {

locality::Device device(const char* name, std::vector<Identifier> identifiers, locality::Locality local) {
    locality::Device out{.id = identifiers.at(0).text(), .name = name};
    out.verdict.locality = local;
    out.identifiers = std::move(identifiers);
    return out;
}

locality::Device lun(const char* name) {
    return device(name, {{IdType::naa6, "6001"}, {IdType::name, name}}, locality::Locality::no);
}
locality::Device anonymous(const char* name, const char* path) {
    return device(name, {{IdType::path, path}, {IdType::name, name}}, locality::Locality::unknown);
}

Json known(const char* id, const char* name, Json identifiers, bool shared) {
    return {{"id", id},
            {"name", name},
            {"locality", "no"},
            {"identifiers", std::move(identifiers)},
            {"sharing", {{"shared", shared}}},
            {"paths", {{{"name", "sdp"}}}}};
}

Json identifier(const char* type, const char* value, const char* quality) {
    return {{"type", type}, {"value", value}, {"quality", quality}};
}

std::string state(Json devices) {
    return Json{{"version", 1}, {"devices", std::move(devices)}, {"written", "now"}}.dump();
}

UdevSources sources(Result<std::string> text, bool other_present = false) {
    return {.state = std::move(text),
            .present = [other_present](const std::string&) { return other_present; },
            .by_default = [](const locality::Device& it) { return it.verdict.locality == locality::Locality::no; }};
}

const Json lun_in_state = known("naa6.6001", "sda", Json::array({identifier("naa6", "6001", "high")}), false);

}  // namespace

TEST_CASE("stord's word counts where it knows this very device") {
    CHECK(answer_for(lun("sda"), sources(state(Json::array({lun_in_state})))) == UdevAnswer{"naa6.6001", "no", "0"});
    // as a path of its map
    CHECK(answer_for(lun("sdp"), sources(state(Json::array({lun_in_state})), true)) ==
          UdevAnswer{"naa6.6001", "no", "0"});
}

TEST_CASE("a kernel name that now belongs to another device proves nothing") {
    const auto other = device("sda", {{IdType::naa6, "6fff"}, {IdType::name, "sda"}}, locality::Locality::yes);
    CHECK(answer_for(other, sources(state(Json::array({lun_in_state})))) == UdevAnswer{"naa6.6fff", "yes", "0"});
    CHECK(answer_for(anonymous("sda", "pci-1"), sources(state(Json::array({lun_in_state})))) ==
          UdevAnswer{"path.pci-1", "unknown", "0"});
}

TEST_CASE("a device that came back under another name keeps what was said of it") {
    CHECK(answer_for(lun("sdx"), sources(state(Json::array({lun_in_state})))) == UdevAnswer{"naa6.6001", "no", "0"});
}

TEST_CASE("an identifier that another present device carries names neither, and is not shared") {
    CHECK(answer_for(lun("sdx"), sources(state(Json::array({lun_in_state})), true)) ==
          UdevAnswer{"name.sdx", "no", "0"});
}

TEST_CASE("a device without identifiers is the place that it is in") {
    const Json there = known("path.pci-1", "vda", Json::array({identifier("path", "pci-1", "none")}), true);
    CHECK(answer_for(anonymous("vda", "pci-1"), sources(state(Json::array({there})))) ==
          UdevAnswer{"path.pci-1", "no", "1"});
    CHECK(answer_for(anonymous("vda", "pci-2"), sources(state(Json::array({there})))) ==
          UdevAnswer{"path.pci-2", "unknown", "0"});
}

TEST_CASE("without a state file the default rule speaks; with one that cannot be read the flag is unknown") {
    const auto absent = make_error(std::errc::no_such_file_or_directory, "state.json");
    CHECK(answer_for(lun("sda"), sources(absent)) == UdevAnswer{"naa6.6001", "no", "1"});
    CHECK(answer_for(lun("sda"), sources(make_error(std::errc::io_error, "state.json"))).shared == "unknown");
    CHECK(answer_for(lun("sda"), sources(std::string("{\"version\":1"))).shared == "unknown");
    CHECK(answer_for(lun("sda"), sources(state(Json::array()))) == UdevAnswer{"naa6.6001", "no", "1"});
}

TEST_CASE("udev gets three lines whatever the values hold") {
    CHECK(udev_properties({"naa6.6001", "no", "1"}) == "STORCTL_ID=naa6.6001\nSTORCTL_LOCAL=no\nSTORCTL_SHARED=1\n");
    CHECK(udev_properties({"a b\n\"c\"\x1b$d\xff,%", "no", "0"}) ==
          "STORCTL_ID=a_b__c___d___\nSTORCTL_LOCAL=no\nSTORCTL_SHARED=0\n");
}
