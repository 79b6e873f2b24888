// No cache mode in the lines: a SCSI generic device passes the host's page cache by, and QEMU refuses O_DIRECT on it.
#include "cli/node_sg.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/display.hpp"
#include "cli/fields.hpp"
#include "cli/verbs.hpp"
#include "cli/vm_snippets.hpp"

namespace storctl::cli {
namespace {

constexpr uint64_t first_port = 1;

std::string nexus_text(const std::string& initiator, uint64_t port) {
    return port == first_port ? initiator : fmt::format("{}, port {}", initiator, port);
}

}  // namespace

std::optional<std::string> wrong_sg_options(const Invocation& invocation) {
    if (invocation.has("sg") && invocation.has("no-sg")) return "takes --sg or --no-sg, not both";
    for (const char* option : {"sg", "no-sg"}) {
        if (invocation.has(option) && invocation.has("usb")) return fmt::format("--{} goes with --device", option);
    }
    return std::nullopt;
}

std::optional<bool> wants_sg(const Invocation& invocation) {
    if (invocation.has("sg")) return true;
    if (invocation.has("no-sg")) return false;
    return std::nullopt;
}

std::string reserved_text(const Json& node) {
    const Json& state = member(node, "reservations");
    const std::string type = text_of(state, "type"), holder = text_of(state, "holder");
    if (type.empty()) return "";
    if (holder.empty()) return type;
    return fmt::format("{} by {}", type, nexus_text(holder, number_of(state, "holder_port")));
}

std::vector<Property> describe_reservations(const Json& node) {
    const Json& state = member(node, "reservations");
    const auto& registrations = list_of(state, "registrations");
    const std::string reserved = reserved_text(node);
    std::vector<Property> out;
    if (!state.is_object()) return out;
    if (registrations.empty() && reserved.empty()) {
        if (!sg_snippets(node)) return out;
        out.push_back({"reserved", {"no", Style::dim}});
        return out;
    }
    out.push_back({"reserved", {reserved.empty() ? "no" : reserved, reserved.empty() ? Style::dim : Style::warning}});
    for (size_t i = 0; i < registrations.size(); ++i) {
        const Json& one = registrations[i];
        out.push_back({i == 0 ? "registered" : "",
                       {fmt::format("{}, key {}", nexus_text(text_of(one, "initiator"), number_of(one, "port")),
                                    text_of(one, "key"))}});
    }
    out.push_back({"persists", {flag_of(state, "persists") ? "over a reboot" : "until a reboot"}});
    return out;
}

std::optional<SgSnippets> sg_snippets(const Json& node) {
    for (const Json& form : list_of(node, "forms")) {
        if (text_of(form, "type") != "sg") continue;
        const std::string path = text_of(form, "path"), open = text_of(node, "open");
        const std::string id = qemu_node_name(text_of(node, "name"));
        const std::string block = fmt::format("driver=host_device,node-name={}{},filename={}", id,
                                              open == "read-only" ? ",read-only=on" : "", qemu_escape(path));
        const std::string drive = fmt::format("file={},format=raw,if=none,id={}{}", qemu_escape(path), id,
                                              open == "read-only" ? ",readonly=on" : "");
        const std::string device = fmt::format("drive={}{}", id, open == "shared" ? ",share-rw=on" : "");
        const std::string tail = "-device virtio-scsi-pci -device scsi-generic," + device;
        return SgSnippets{.path = path,
                          .qemu_drive = fmt::format("-drive {} {}", shell_quote(drive), tail),
                          .qemu_blockdev = fmt::format("-blockdev {} {}", shell_quote(block), tail),
                          .libvirt_controller = "<controller type='scsi' index='0' model='virtio-scsi'/>\n",
                          .libvirt_commandline = fmt::format("<qemu:commandline>\n"
                                                             "  <qemu:arg value='-blockdev'/>\n"
                                                             "  <qemu:arg value='{}'/>\n"
                                                             "  <qemu:arg value='-device'/>\n"
                                                             "  <qemu:arg value='scsi-generic,bus=scsi0.0,{}'/>\n"
                                                             "</qemu:commandline>\n",
                                                             xml_escape(block), device)};
    }
    return std::nullopt;
}

}  // namespace storctl::cli
