#include "cli/claim_view.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "cli/fields.hpp"

namespace storctl::cli {
namespace {

/// "0000:00:14.0/2.1 (0781:5581 SanDisk Ultra)"
std::string describe_target(const Json& object) {
    const std::string target = text_of(object, "target"), description = text_of(object, "description");
    return description.empty() ? target : fmt::format("{} ({})", target, description);
}

}  // namespace

std::string claim_number(const Json& id) { return id.is_number_integer() ? fmt::format("#{}", id.dump()) : ""; }

Style claim_state_style(std::string_view state) {
    if (state == "active") return Style::good;
    return state == "lost" ? Style::bad : Style::warning;
}

std::vector<std::string> claim_notes(const Json& entry) {
    std::vector<std::string> out;
    const std::string phase = text_of(entry, "phase");
    if (phase == "pending" || phase == "failed") out.push_back(phase);
    if (flag_of(entry, "covered")) out.emplace_back("covered");
    if (flag_of(entry, "keep_drivers")) out.emplace_back("keep-drivers");
    if (text_of(entry, "origin") == "observed") out.emplace_back("observed");
    return out;
}

std::string describe_claim(const Json& entry, bool made) {
    const std::string number = made ? claim_number(member(entry, "id")) : "";
    std::string out = fmt::format("{}{}{} {} for {}", number, number.empty() ? "" : ": ", text_of(entry, "kind"),
                                  describe_target(entry), text_of(entry, "holder"));
    const std::string state = text_of(entry, "state"), deadline = text_of(entry, "deadline");
    if (!state.empty() && state != "active") out += ", " + state;
    if (!deadline.empty()) out += fmt::format(" until {}", deadline);
    if (flag_of(entry, "covered")) out += ", covered by its claim of the hub";
    if (flag_of(entry, "keep_drivers")) out += ", drivers left as they are";
    const std::string phase = text_of(entry, "phase"), message = text_of(entry, "message");
    if (phase == "pending" || phase == "failed") {
        out += fmt::format(", drivers {}{}{}", phase, message.empty() ? "" : ": ", message);
    } else if (!message.empty()) {
        out += ", " + message;
    }
    return out;
}

std::string describe_blocker(const Json& blocker) {
    const std::string holder = text_of(blocker, "holder"), since = text_of(blocker, "since");
    const std::string reason = text_of(blocker, "reason");
    const std::string out = describe_target(blocker);
    if (holder.empty()) return reason.empty() ? out + " is in the way" : fmt::format("{}: {}", out, reason);
    return fmt::format("{} is held by {}{}{}{}", out, holder, since.empty() ? "" : " since ", since,
                       reason.empty() ? "" : fmt::format(" ({})", reason));
}

std::vector<std::string> describe_blockers(const Json& answer) {
    std::vector<std::string> out;
    for (const Json& blocker : list_of(answer, "blockers")) out.push_back(describe_blocker(blocker));
    return out;
}

}  // namespace storctl::cli
