// cache=none throughout: the host's page cache in between would break what a second host, or a crash, may rely on.
#include "cli/vm_snippets.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/display.hpp"
#include "cli/fields.hpp"

namespace storctl::cli {

std::string qemu_escape(const std::string& text) {
    std::string out;
    for (const char c : text) {
        out += c;
        if (c == ',') out += c;
    }
    return out;
}

std::string xml_escape(const std::string& text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '\'':
                out += "&apos;";
                break;
            case '"':
                out += "&quot;";
                break;
            default:
                out += c;
        }
    }
    return out;
}

std::string qemu_node_name(const std::string& name) { return ("storctl-" + name).substr(0, 31); }

namespace {

struct Facts {
    std::string name;
    std::string path;
    bool block_device = false;
    bool read_only = false;
    bool shared = false;
    uint64_t logical_block_bytes = 512;
};

std::string drive_line(const Facts& facts) {
    return "-drive " + shell_quote(fmt::format("file={},format=raw,if=virtio,cache=none,discard=unmap{}",
                                               qemu_escape(facts.path), facts.read_only ? ",readonly=on" : ""));
}

std::string blockdev_line(const Facts& facts) {
    const std::string id = qemu_node_name(facts.name);
    std::string device = fmt::format("virtio-blk-pci,drive={}", id);
    if (facts.shared) device += ",share-rw=on";
    if (facts.logical_block_bytes != 512) {
        device += fmt::format(",logical_block_size={0},physical_block_size={0}", facts.logical_block_bytes);
    }
    const std::string block = fmt::format(
        "driver=raw,node-name={},cache.direct=on,discard=unmap{},file.driver={},file.filename={}", id,
        facts.read_only ? ",read-only=on" : "", facts.block_device ? "host_device" : "file", qemu_escape(facts.path));
    return fmt::format("-blockdev {} -device {}", shell_quote(block), device);
}

std::string libvirt_disk(const Facts& facts) {
    std::string out = fmt::format("<disk type='{}' device='disk'>\n", facts.block_device ? "block" : "file");
    out += "  <driver name='qemu' type='raw' cache='none' discard='unmap'/>\n";
    out += fmt::format("  <source {}='{}'/>\n", facts.block_device ? "dev" : "file", xml_escape(facts.path));
    out += "  <target dev='vda' bus='virtio'/>\n";
    if (facts.logical_block_bytes != 512) {
        out +=
            fmt::format("  <blockio logical_block_size='{0}' physical_block_size='{0}'/>\n", facts.logical_block_bytes);
    }
    if (facts.read_only) out += "  <readonly/>\n";
    if (facts.shared) out += "  <shareable/>\n";
    return out + "</disk>\n";
}

}  // namespace

std::vector<VmSnippets> vm_snippets(const Json& node) {
    std::vector<VmSnippets> out;
    for (const Json& form : list_of(node, "forms")) {
        const std::string type = text_of(form, "type"), open = text_of(node, "open");
        if (type == "usbfs" || type == "sg") continue;
        const Facts facts{.name = text_of(node, "name"),
                          .path = text_of(form, "path"),
                          .block_device = type == "loop",
                          .read_only = open == "read-only",
                          .shared = open == "shared",
                          .logical_block_bytes = number_of(member(node, "backing"), "logical_block_bytes")};
        out.push_back({.form = type,
                       .path = facts.path,
                       .qemu_drive = drive_line(facts),
                       .qemu_blockdev = blockdev_line(facts),
                       .libvirt_disk = libvirt_disk(facts)});
    }
    return out;
}

}  // namespace storctl::cli
