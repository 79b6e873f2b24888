// The columns of "device list".
#include <array>

#include <fmt/format.h>

#include "cli/cells.hpp"
#include "cli/commands.hpp"

namespace storctl::cli {
namespace {

using Format = ValueFormat;

Cell yes_no(std::optional<bool> value) { return {!value ? "unknown" : *value ? "yes" : "no"}; }

template <const char* key>
Cell flag(const Json& device, const Format&) {
    return yes_no(maybe_flag_of(device, key));
}

template <const char* key>
Cell sharing_text(const Json& device, const Format&) {
    return {text_of(member(device, "sharing"), key)};
}

Cell size(const Json& device, const Format& format) {
    const uint64_t bytes = number_of(device, "size_bytes");
    return {format.exact_bytes ? fmt::to_string(bytes) : format_size(bytes)};
}

Cell shared(const Json& device, const Format&) {
    const bool value = flag_of(member(device, "sharing"), "shared");
    return {value ? "yes" : "no", value ? Style::good : Style::plain};
}

Cell quality(const Json& device, const Format&) {
    const std::string value = text_of(device, "quality");
    return {value, value == "high" ? Style::good : value == "none" ? Style::warning : Style::plain};
}

Cell paths(const Json& device, const Format&) { return {fmt::to_string(list_of(device, "paths").size())}; }
Cell links(const Json& device, const Format&) { return {join(texts_of(device, "links"), " ")}; }
Cell in_use(const Json& device, const Format&) { return {join(texts_of(device, "in_use"), ", ")}; }

Cell notes(const Json& device, const Format&) {
    std::vector<std::string> words;
    const bool conflict = member(device, "conflict").is_string();
    const bool undecided = member(member(device, "sharing"), "undecided").is_string();
    const bool not_ready = maybe_flag_of(device, "ready") == false;
    if (conflict) words.emplace_back("id-conflict");
    if (undecided) words.emplace_back("undecided");
    if (not_ready) words.emplace_back("not-ready");
    if (flag_of(device, "boot")) words.emplace_back("boot");
    if (flag_of(device, "read_only")) words.emplace_back("read-only");
    if (!list_of(device, "in_use").empty()) words.emplace_back("in-use");
    return {join(words, ","), conflict ? Style::bad : undecided || not_ready ? Style::warning : Style::plain};
}

constexpr char k_id[] = "id", k_name[] = "name", k_devnode[] = "devnode", k_kind[] = "kind", k_vendor[] = "vendor",
               k_model[] = "model", k_serial[] = "serial", k_revision[] = "revision", k_transport[] = "transport",
               k_locality[] = "locality", k_locality_reason[] = "locality_reason", k_boot[] = "boot",
               k_ready[] = "ready", k_read_only[] = "read_only", k_removable[] = "removable",
               k_rotational[] = "rotational", k_logical[] = "logical_block_bytes",
               k_physical[] = "physical_block_bytes", k_conflict[] = "conflict", k_basis[] = "basis",
               k_reason[] = "reason", k_author[] = "author", k_time[] = "time", k_undecided[] = "undecided";

constexpr auto table = std::to_array<Column>({
    {"NAME", Align::left, true, "kernel name", text_cell<k_name>},
    {"SIZE", Align::right, true, "capacity", size},
    {"TRANSPORT", Align::left, true, "how it is attached: sata, sas, nvme, fc, iscsi, usb, virtio, …",
     text_cell<k_transport>},
    {"LOCAL", Align::left, true, "private to this host by its transport: yes, no, unknown", text_cell<k_locality>},
    {"SHARED", Align::left, true, "shared by the whole cluster: yes, no", shared},
    {"BASIS", Align::left, true, "where SHARED comes from: default, computed, admin", sharing_text<k_basis>},
    {"QUALITY", Align::left, true, "of the best usable identifier: high, medium, low, none", quality},
    {"NOTES", Align::left, true, "id-conflict, undecided, not-ready, boot, read-only, in-use", notes},
    {"ID", Align::left, true, "the key for everything else", text_cell<k_id>},
    {"DEVNODE", Align::left, false, "device node", text_cell<k_devnode>},
    {"KIND", Align::left, false, "disk, multipath or array", text_cell<k_kind>},
    {"VENDOR", Align::left, false, "as the device says", text_cell<k_vendor>},
    {"MODEL", Align::left, false, "as the device says", text_cell<k_model>},
    {"SERIAL", Align::left, false, "as the device says", text_cell<k_serial>},
    {"REVISION", Align::left, false, "firmware revision", text_cell<k_revision>},
    {"LBS", Align::right, false, "logical block size in bytes", number_cell<k_logical>},
    {"PBS", Align::right, false, "physical block size in bytes", number_cell<k_physical>},
    {"RO", Align::left, false, "read-only", flag<k_read_only>},
    {"REMOVABLE", Align::left, false, "removable medium", flag<k_removable>},
    {"ROTATIONAL", Align::left, false, "spinning disk", flag<k_rotational>},
    {"BOOT", Align::left, false, "carries the running system's root or boot file system", flag<k_boot>},
    {"READY", Align::left, false, "udev has settled it and multipath does not keep it back", flag<k_ready>},
    {"PATHS", Align::right, false, "number of paths", paths},
    {"IN-USE", Align::left, false, "who holds it in the kernel", in_use},
    {"CONFLICT", Align::left, false, "whose identifier it also carries", text_cell<k_conflict>},
    {"WHY-LOCAL", Align::left, false, "why LOCAL is what it is", text_cell<k_locality_reason>},
    {"REASON", Align::left, false, "why SHARED is what it is", sharing_text<k_reason>},
    {"UNDECIDED", Align::left, false, "what keeps the cluster from deciding", sharing_text<k_undecided>},
    {"AUTHOR", Align::left, false, "who decided, where BASIS is admin", sharing_text<k_author>},
    {"SINCE", Align::left, false, "when, where BASIS is admin", sharing_text<k_time>},
    {"LINKS", Align::left, false, "links in /dev/disk", links},
});

}  // namespace

std::span<const Column> device_columns() { return table; }

}  // namespace storctl::cli
