#pragma once
// QEMU's way to write an option: "driver,key=value,…" where ",," is a comma, or a JSON object. Pure.

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace storctl::libvirt {

using Options = std::map<std::string, std::string, std::less<>>;

/// A first word without "=" is the value of `implied`; later ones are flags. The last of several counts.
Options parse_key_values(std::string_view text, std::string_view implied);
/// The members of a JSON object, those of objects in it as "file.driver"; nothing when it is none.
std::optional<Options> parse_json_options(std::string_view text);
/// Whichever of the two it is.
std::optional<Options> parse_options(std::string_view text, std::string_view implied);

/// Empty when it is not there.
std::string_view value_of(const Options& options, std::string_view key);

}  // namespace storctl::libvirt
