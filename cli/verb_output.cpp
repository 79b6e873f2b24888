#include "cli/verb_output.hpp"

#include <fmt/format.h>

#include "cli/fields.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {

Exit put_list(const Invocation& invocation, std::string_view key, const Json::array_t& rows) {
    if (invocation.has("json")) {
        put(to_document({{"version", 1}, {std::string(key), rows}}));
        return Exit::done;
    }
    const auto columns = select_columns(invocation.verb().columns, invocation.value("output"));
    put(format_table(*columns, rows, invocation.table_format()));
    return Exit::done;
}

Exit wrong_usage(const Invocation& invocation, std::string_view message) {
    report(fmt::format("{}: {}", invocation.verb().path(), message));
    return Exit::usage;
}

}  // namespace storctl::cli
