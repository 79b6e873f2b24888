#include "cli/device_view.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "cli/fields.hpp"

namespace storctl::cli {
namespace {

std::string yes_no(const Json& object, std::string_view key) {
    const auto value = maybe_flag_of(object, key);
    return !value ? "unknown" : *value ? "yes" : "no";
}

/// One row per element, the key only before the first; "none" where there is nothing.
void add_all(std::vector<Property>& out, std::string_view key, std::vector<Cell> cells) {
    if (cells.empty()) cells.push_back({"none", Style::dim});
    for (size_t i = 0; i < cells.size(); ++i) out.push_back({i == 0 ? std::string(key) : "", std::move(cells[i])});
}

std::vector<Cell> plain(const std::vector<std::string>& texts) {
    std::vector<Cell> out;
    for (const auto& text : texts) out.push_back({text});
    return out;
}

Cell describe_identifier(const Json& identifier) {
    const bool usable = flag_of(identifier, "usable");
    std::string text = fmt::format("{}.{}  {}", text_of(identifier, "type"), text_of(identifier, "value"),
                                   text_of(identifier, "quality"));
    const std::string why = text_of(identifier, "why");
    if (!usable) text += fmt::format(", not usable{}{}", why.empty() ? "" : ": ", why);
    if (usable && !why.empty()) text += fmt::format(" ({})", why);
    return {text, usable ? Style::plain : Style::warning};
}

Cell describe_path(const Json& path) {
    std::string text = fmt::format("{}  {}", text_of(path, "devnode"), text_of(path, "transport"));
    for (const char* key : {"location", "state"}) {
        const std::string value = text_of(path, key);
        if (!value.empty()) text += "  " + value;
    }
    const std::string state = text_of(path, "state");
    const bool well = state.empty() || state == "running" || state == "live";
    return {text, well ? Style::plain : Style::warning};
}

void add_sharing(std::vector<Property>& out, const Json& sharing) {
    const bool shared = flag_of(sharing, "shared");
    out.push_back({"shared", {shared ? "yes" : "no", shared ? Style::good : Style::plain}});
    out.push_back({"basis", {text_of(sharing, "basis")}});
    out.push_back({"reason", {text_of(sharing, "reason")}});
    if (member(sharing, "author").is_string()) {
        out.push_back({"decided by", {fmt::format("{}, {}", text_of(sharing, "author"), text_of(sharing, "time"))}});
    }
    if (member(sharing, "undecided").is_string()) {
        out.push_back({"undecided", {text_of(sharing, "undecided"), Style::warning}});
    }
    add_all(out, "seen by", plain(texts_of(sharing, "seen_by")));
    const auto not_seen = texts_of(sharing, "not_seen_by");
    if (!not_seen.empty()) add_all(out, "not seen by", plain(not_seen));
}

}  // namespace

std::string describe_size(uint64_t bytes, const ValueFormat& format) {
    if (format.exact_bytes) return fmt::to_string(bytes);
    return fmt::format("{} ({} bytes)", format_size(bytes), bytes);
}

std::vector<Property> describe_device(const Json& device, const ValueFormat& format) {
    std::vector<Property> out{
        {"id", {text_of(device, "id"), Style::heading}},
        {"name", {text_of(device, "name")}},
        {"device node", {text_of(device, "devnode")}},
        {"kind", {text_of(device, "kind")}},
        {"vendor", {text_of(device, "vendor")}},
        {"model", {text_of(device, "model")}},
        {"serial", {text_of(device, "serial")}},
        {"revision", {text_of(device, "revision")}},
        {"size", {describe_size(number_of(device, "size_bytes"), format)}},
        {"block size",
         {fmt::format("{} logical, {} physical", number_of(device, "logical_block_bytes"),
                      number_of(device, "physical_block_bytes"))}},
        {"read-only", {yes_no(device, "read_only")}},
        {"removable", {yes_no(device, "removable")}},
        {"rotational", {yes_no(device, "rotational")}},
        {"transport", {text_of(device, "transport")}},
        {"local", {fmt::format("{}: {}", text_of(device, "locality"), text_of(device, "locality_reason"))}},
        {"boot", {yes_no(device, "boot")}},
        {"ready", {yes_no(device, "ready"), maybe_flag_of(device, "ready") == false ? Style::warning : Style::plain}},
    };
    std::vector<Cell> identifiers, paths;
    for (const Json& identifier : list_of(device, "identifiers"))
        identifiers.push_back(describe_identifier(identifier));
    for (const Json& path : list_of(device, "paths")) paths.push_back(describe_path(path));
    out.push_back({"quality", {text_of(device, "quality")}});
    add_all(out, "identifiers", std::move(identifiers));
    if (member(device, "conflict").is_string()) out.push_back({"conflict", {text_of(device, "conflict"), Style::bad}});
    add_sharing(out, member(device, "sharing"));
    add_all(out, "paths", std::move(paths));
    add_all(out, "links", plain(texts_of(device, "links")));
    add_all(out, "in use", plain(texts_of(device, "in_use")));
    return out;
}

}  // namespace storctl::cli
