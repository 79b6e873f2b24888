// storctl device: list, show, share, rescan.
#include <fmt/format.h>

#include "base/text.hpp"
#include "cli/commands.hpp"
#include "cli/connection.hpp"
#include "cli/device_view.hpp"
#include "cli/fields.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {
namespace {

Exit show_device(const Invocation& invocation, const Json& answer) {
    const Json& device = member(answer, "device");
    if (invocation.has("json")) {
        put(to_document({{"version", 1}, {"device", device}}));
    } else {
        put(format_properties(describe_device(device, {.exact_bytes = invocation.has("bytes")}), invocation.screen()));
    }
    return Exit::done;
}

std::string list_names(std::string_view what, const std::vector<std::string>& names) {
    return fmt::format("{} {}{}{}\n", names.size(), what, names.empty() ? "" : ": ", printable(join(names, ", ")));
}

}  // namespace

Exit device_list(const Invocation& invocation) {
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.Device.List");
    if (!answer) return stord.exit();
    const auto& devices = list_of(*answer, "devices");
    if (invocation.has("json")) {
        put(to_document({{"version", 1}, {"devices", devices}}));
        return Exit::done;
    }
    const auto columns = select_columns(device_columns(), invocation.value("output"));
    put(format_table(*columns, devices, invocation.table_format()));
    return Exit::done;
}

Exit device_show(const Invocation& invocation) {
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.Device.Show", {{"id", invocation.value("ID")}});
    return answer ? show_device(invocation, *answer) : stord.exit();
}

Exit device_share(const Invocation& invocation) {
    Connection stord(invocation.run_dir());
    Json parameters{
        {"id", invocation.value("ID")}, {"value", invocation.value("VALUE")}, {"dry_run", invocation.has("dry-run")}};
    if (invocation.has("reason")) parameters["reason"] = invocation.value("reason");
    const auto answer = stord.call("io.storctl.Device.SetSharing", std::move(parameters));
    if (!answer) return stord.exit();
    if (invocation.has("json")) return show_device(invocation, *answer);
    const Json& device = member(*answer, "device");
    const Json& sharing = member(device, "sharing");
    put(fmt::format("{}: {}shared {} ({}): {}\n", printable(text_of(device, "id")),
                    invocation.has("dry-run") ? "would be " : "", flag_of(sharing, "shared") ? "true" : "false",
                    printable(text_of(sharing, "basis")), printable(text_of(sharing, "reason"))));
    return Exit::done;
}

Exit device_rescan(const Invocation& invocation) {
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.Device.Rescan");
    if (!answer) return stord.exit();
    if (invocation.has("json")) {
        put(to_document({{"version", 1},
                         {"added", list_of(*answer, "added")},
                         {"removed", list_of(*answer, "removed")},
                         {"changed", list_of(*answer, "changed")}}));
        return Exit::done;
    }
    for (const char* what : {"added", "removed", "changed"}) put(list_names(what, texts_of(*answer, what)));
    return Exit::done;
}

}  // namespace storctl::cli
