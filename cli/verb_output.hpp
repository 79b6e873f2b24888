#pragma once
// What several verbs end with: a list, or a command line that the table of verbs takes and the verb does not. Main
// thread.

#include <string_view>

#include <nlohmann/json.hpp>

#include "cli/exit.hpp"

namespace storctl::cli {

class Invocation;

/// A table of the verb's columns, or with --json a document that has the rows as its member `key`.
Exit put_list(const Invocation& invocation, std::string_view key, const nlohmann::json::array_t& rows);

/// Reports "usb claim: MESSAGE".
Exit wrong_usage(const Invocation& invocation, std::string_view message);

}  // namespace storctl::cli
