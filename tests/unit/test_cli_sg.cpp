#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "cli/node_sg.hpp"
#include "cli/vm_snippets.hpp"

using namespace storctl::cli;
using nlohmann::json;

namespace {

json node(const char* open, const char* path = "/dev/storctl/sg/web1") {
    return {{"name", "web1"}, {"open", open}, {"forms", {{{"type", "sg"}, {"path", path}}}}};
}

json registered(const char* initiator, int port, const char* key) {
    return {{"initiator", initiator}, {"port", port}, {"key", key}};
}

json reserved(json type, json holder, json port, std::vector<json> registrations, bool persists = false) {
    return {{"reservations",
             {{"version", 3},
              {"generation", 4},
              {"persists", persists},
              {"type", std::move(type)},
              {"holder", std::move(holder)},
              {"holder_port", std::move(port)},
              {"registrations", std::move(registrations)}}}};
}

std::vector<std::string> lines_of(const json& value) {
    std::vector<std::string> out;
    for (const auto& property : describe_reservations(value)) out.push_back(property.key + ": " + property.value.text);
    return out;
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("a virtual machine takes the SCSI generic device through scsi-generic, without a cache mode") {
    const auto way = sg_snippets(node("single-writer"));
    REQUIRE(way);
    CHECK(way->path == "/dev/storctl/sg/web1");
    CHECK(way->qemu_drive ==
          "-drive file=/dev/storctl/sg/web1,format=raw,if=none,id=storctl-web1 -device virtio-scsi-pci -device "
          "scsi-generic,drive=storctl-web1");
    CHECK(way->qemu_blockdev ==
          "-blockdev driver=host_device,node-name=storctl-web1,filename=/dev/storctl/sg/web1 -device virtio-scsi-pci "
          "-device scsi-generic,drive=storctl-web1");
    CHECK(way->libvirt_controller == "<controller type='scsi' index='0' model='virtio-scsi'/>\n");
    CHECK(way->libvirt_commandline ==
          "<qemu:commandline>\n"
          "  <qemu:arg value='-blockdev'/>\n"
          "  <qemu:arg value='driver=host_device,node-name=storctl-web1,filename=/dev/storctl/sg/web1'/>\n"
          "  <qemu:arg value='-device'/>\n"
          "  <qemu:arg value='scsi-generic,bus=scsi0.0,drive=storctl-web1'/>\n"
          "</qemu:commandline>\n");
    CHECK(vm_snippets(node("single-writer")).empty());
    CHECK(!sg_snippets(json::object()));
}

TEST_CASE("read-only, shared and odd paths each leave their mark") {
    const auto read_only = sg_snippets(node("read-only"));
    CHECK(read_only->qemu_drive.find(",readonly=on ") != std::string::npos);
    CHECK(read_only->qemu_blockdev.find(",read-only=on,") != std::string::npos);
    CHECK(read_only->libvirt_commandline.find(",read-only=on,") != std::string::npos);
    const auto shared = sg_snippets(node("shared"));
    CHECK(shared->qemu_drive.ends_with(",share-rw=on"));
    CHECK(shared->qemu_blockdev.ends_with(",share-rw=on"));
    CHECK(shared->libvirt_commandline.find("drive=storctl-web1,share-rw=on'") != std::string::npos);
    const auto odd = sg_snippets(node("single-writer", "/dev/a b,c&'d"));
    CHECK(odd->qemu_drive.starts_with("-drive 'file=/dev/a b,,c&'\\''d,format=raw"));
    CHECK(odd->libvirt_commandline.find("filename=/dev/a b,,c&amp;&apos;d'/>") != std::string::npos);
}

TEST_CASE("reservations are told by type, holder and registrations") {
    SUBCASE("a node without the form has none") {
        CHECK(lines_of({{"reservations", nullptr}}).empty());
        CHECK(lines_of(json::object()).empty());
    }
    SUBCASE("nobody is registered") {
        json state = reserved(nullptr, nullptr, nullptr, {});
        CHECK(lines_of(state).empty());
        state["forms"] = node("shared")["forms"];
        CHECK(lines_of(state) == Lines{"reserved: no"});
        CHECK(reserved_text(reserved(nullptr, nullptr, nullptr, {})).empty());
    }
    SUBCASE("registered, nothing reserved") {
        CHECK(lines_of(reserved(nullptr, nullptr, nullptr, {registered("alpha:host", 1, "0x00000000000000ab")})) ==
              Lines{"reserved: no", "registered: alpha:host, key 0x00000000000000ab", "persists: until a reboot"});
    }
    SUBCASE("held by one of two") {
        const json state = reserved("write-exclusive", "alpha:vm:web1", 1,
                                    {registered("alpha:host", 1, "0x1"), registered("alpha:vm:web1", 2, "0x2")}, true);
        CHECK(lines_of(state) == Lines{"reserved: write-exclusive by alpha:vm:web1", "registered: alpha:host, key 0x1",
                                       ": alpha:vm:web1, port 2, key 0x2", "persists: over a reboot"});
        CHECK(reserved_text(state) == "write-exclusive by alpha:vm:web1");
    }
    SUBCASE("held by all that are registered") {
        const json state =
            reserved("exclusive-access-all-registrants", nullptr, nullptr, {registered("a:host", 1, "0x1")});
        CHECK(reserved_text(state) == "exclusive-access-all-registrants");
    }
}
