#include "cli/help.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/text.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {
namespace {

constexpr size_t line_columns = 96;

/// `text` in lines of at most `line_columns`, each after the first starting at `indent`.
std::string wrap(std::string_view text, size_t indent) {
    std::string out;
    size_t column = indent;
    for (const auto& word : split(text, ' ')) {
        const size_t width = display_width(word);
        if (column > indent && column + 1 + width > line_columns) {
            out += "\n" + std::string(indent, ' ');
            column = indent;
        } else if (column > indent) {
            out += ' ';
            ++column;
        }
        out += word;
        column += width;
    }
    return out;
}

struct Entry {
    std::string left;
    std::string right;
};

std::string section(std::string_view title, const std::vector<Entry>& entries) {
    if (entries.empty()) return {};
    size_t width = 0;
    for (const auto& entry : entries) width = std::max(width, entry.left.size());
    std::string out = fmt::format("\n{}:\n", title);
    for (const auto& entry : entries) {
        out += fmt::format("  {:<{}}  {}\n", entry.left, width, wrap(entry.right, width + 4));
    }
    return out;
}

Entry entry_of(const Option& option) {
    std::string left = option.letter != 0 ? fmt::format("-{}, ", option.letter) : "    ";
    left += fmt::format("--{}", option.name);
    const auto value = option.values.empty() ? option.value_name : option.values;
    if (!option.value_name.empty()) left += fmt::format(" {}", value);
    return {left, std::string(option.help)};
}

std::vector<Entry> entries_of(std::span<const Option> options) {
    std::vector<Entry> out;
    for (const Option& option : options) out.push_back(entry_of(option));
    return out;
}

std::vector<Entry> verbs_of(std::string_view object) {
    std::vector<Entry> out;
    for (const Verb& verb : verbs()) {
        if (verb.object == object) out.push_back({std::string(verb.name), std::string(verb.summary)});
    }
    return out;
}

/// The verbs of an object and of those below it, as one types them behind its name.
std::vector<Entry> all_verbs_of(const Object& object) {
    auto out = verbs_of(object.name);
    for (const Object& below : objects()) {
        if (object_above(below) != object.name) continue;
        for (auto& [name, summary] : all_verbs_of(below)) {
            out.push_back({fmt::format("{} {}", last_word(below), name), std::move(summary)});
        }
    }
    return out;
}

}  // namespace

std::string usage_line(const Verb& verb) {
    std::string out = "storctl " + verb.path();
    std::string closing;
    for (const Argument& argument : verb.arguments) {
        const auto shown = argument.values.empty() ? argument.name : argument.values;
        out += fmt::format(" {}{}{}", argument.required ? "" : "[", shown, argument.repeats ? "..." : "");
        if (!argument.required) closing += ']';
    }
    out += closing;
    for (const Option& option : verb.options) {
        if (option.required) out += fmt::format(" --{} {}", option.name, option.value_name);
    }
    out += " [OPTION...]";
    if (!verb.command_with.empty()) out += fmt::format(" [--{} -- COMMAND [ARG...]]", verb.command_with);
    return out;
}

std::string help_text() {
    std::string out =
        "usage: storctl [OPTION...] VERB ...\n       storctl [OPTION...] OBJECT VERB ...\n\n"
        "Devices of a virtualisation host: which the cluster shares, mediated nodes for virtual machines, and who has\n"
        "which USB device, hub and controller.\n";
    out += section("Verbs", verbs_of(""));
    for (const Object& object : objects()) {
        std::vector<Entry> entries;
        for (const auto& [name, summary] : verbs_of(object.name)) {
            entries.push_back({std::string(object.name) + " " + name, summary});
        }
        out += section(fmt::format("{} ({})", object.name, object.summary), entries);
    }
    auto options = entries_of(common_options());
    options.push_back({"    --version", "show storctl's version"});
    out += section("Options", options);
    return out + "\n'storctl OBJECT VERB --help' explains one verb. Manual: storctl(8).\n";
}

std::string help_text(const Object& object) {
    std::string out = fmt::format("usage: storctl {} VERB ...\n\n{}\n", object.name, wrap(object.summary, 0));
    out += section("Verbs", all_verbs_of(object)) + section("Options", entries_of(common_options()));
    return out + fmt::format("\n'storctl {} VERB --help' explains one verb.\n", object.name);
}

std::string help_text(const Verb& verb) {
    std::string out = fmt::format("usage: {}\n\n{}.\n", usage_line(verb), wrap(verb.summary, 0));
    if (!verb.description.empty()) out += wrap(verb.description, 0) + "\n";
    std::vector<Entry> arguments;
    for (const Argument& argument : verb.arguments) {
        arguments.push_back({std::string(argument.name), std::string(argument.help)});
    }
    out += section("Arguments", arguments);
    out += section("Options", entries_of(verb.options)) + section("Common options", entries_of(common_options()));
    std::vector<Entry> columns;
    for (const Column& column : verb.columns) {
        columns.push_back({fmt::format("{}{}", column.by_default ? '*' : ' ', column.name), std::string(column.help)});
    }
    return out + section("Columns (* by default)", columns);
}

}  // namespace storctl::cli
