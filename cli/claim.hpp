#pragma once
// Claiming, releasing and asking why not: what "usb" and "pci" have in common. Main thread; each reports its own
// errors.

#include <string>
#include <string_view>
#include <vector>

#include "cli/exit.hpp"

namespace storctl::cli {

class Invocation;
struct Failure;

/// Of io.storctl.Arbiter's type Target.
enum class Bus { usb, pci };
std::string_view bus_name(Bus bus);

Exit claim_targets(const Invocation& invocation, Bus bus);
Exit release_targets(const Invocation& invocation, Bus bus);
/// After a refusal: where all of it is explained.
Failure with_explanation(Failure failure, const std::vector<std::string>& words, const std::string& holder, Bus bus);
/// Exit::refused where a claim would be.
Exit explain_target(const Invocation& invocation, Bus bus);

}  // namespace storctl::cli
