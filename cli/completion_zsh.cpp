#include <algorithm>

#include <fmt/format.h>

#include "base/text.hpp"
#include "cli/completion.hpp"
#include "cli/node_usb.hpp"
#include "cli/usb_view.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {
namespace {

constexpr std::string_view head = R"zsh(#compdef storctl
# zsh completion for storctl(8). Made from storctl's table of verbs.

_storctl_devices() {
    local -a ids
    ids=(${(f)"$(_call_program devices storctl ${(q)run_dir} device list --no-headings -o ID 2>/dev/null)"})
    compadd "$@" -a ids
}

_storctl_nodes() {
    local -a names
    names=(${(f)"$(_call_program nodes storctl ${(q)run_dir} node list --no-headings -o NAME 2>/dev/null)"})
    compadd "$@" -a names
}

_storctl_devices_or_files() {
    _alternative 'devices:device:_storctl_devices' 'files:file:_files'
}

_storctl_usb_sockets() {
    local -a sockets
    sockets=($(_call_program usb storctl ${(q)run_dir} usb list --no-headings -o SOCKET 2>/dev/null))
    compadd "$@" -a sockets
}

_storctl_usb_names() {
    local -a names
    names=($(_call_program usb storctl ${(q)run_dir} usb list --no-headings -o NAME,SOCKET 2>/dev/null))
    compadd "$@" -a names
}

_storctl_pci_addresses() {
    local -a addresses
    addresses=(${(f)"$(_call_program pci storctl ${(q)run_dir} pci list --no-headings -o ADDRESS 2>/dev/null)"})
    compadd "$@" -a addresses
}

_storctl_usb_rules() {
    local -a ids
    ids=(${(f)"$(_call_program rules storctl ${(q)run_dir} usb rule list --no-headings -o ID 2>/dev/null)"})
    compadd "$@" -a ids
}

_storctl_holders() {
    local -a holders
    holders=(host ${(f)"$(_call_program holders storctl ${(q)run_dir} usb claims --no-headings -o HOLDER 2>/dev/null)"})
    compadd "$@" -a holders
}

# $1: kinds of claims; the rest is for compadd
_storctl_claimed() {
    local -a targets
    local kind target
    _call_program claims storctl ${(q)run_dir} usb claims --no-headings -o KIND,TARGET 2>/dev/null |
        while read -r kind target; do
            [[ " $1 " == *" $kind "* ]] && targets+=($target)
        done
    shift
    compadd "$@" -a targets
}
_storctl_usb_claimed() { _storctl_claimed 'device hub' "$@" }
_storctl_pci_claimed() { _storctl_claimed controller "$@" }

# words that may follow each other; after "/" those that stand alone
_storctl_list() {
    [[ $PREFIX == *,* ]] || compadd - "${@[$@[(i)/]+1,-1]}"
    _sequence compadd - "${@[1,$@[(i)/]-1]}"
}

_storctl_columns() {
    compset -P '+'
    _sequence compadd - "$@"
}

)zsh";

/// Inside '…'.
std::string quote(std::string_view text) {
    std::string out;
    for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out;
}

/// Inside the [explanation] of an _arguments specification.
std::string explanation(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '[' || c == ']' || c == '\\') out += '\\';
        out += c;
    }
    return quote(out);
}

std::string action(std::string_view values, Complete complete, std::span<const Column> columns) {
    if (!values.empty()) {
        std::string words(values);
        std::replace(words.begin(), words.end(), '|', ' ');
        return fmt::format("({})", words);
    }
    switch (complete) {
        case Complete::nothing:
            return " ";
        case Complete::device:
            return "_storctl_devices";
        case Complete::device_or_file:
            return "_storctl_devices_or_files";
        case Complete::node:
        case Complete::node_or_number:
            return "_storctl_nodes";
        case Complete::usb:
            return "_storctl_usb_names";
        case Complete::usb_claimed:
            return "_storctl_usb_claimed";
        case Complete::usb_rule:
            return "_storctl_usb_rules";
        case Complete::usb_socket:
            return "_storctl_usb_sockets";
        case Complete::usb_class:
            return fmt::format("({})", usb_class_names());
        case Complete::pci:
            return "_storctl_pci_addresses";
        case Complete::pci_claimed:
            return "_storctl_pci_claimed";
        case Complete::holder:
            return "_storctl_holders";
        case Complete::denials:
            return fmt::format(" _storctl_list {} / {}", fmt::join(deniable, " "), nothing_denied);
        case Complete::directory:
            return "_files -/";
        case Complete::columns: {
            std::string out = "_storctl_columns";
            for (const Column& column : columns) out += fmt::format(" {}", column.name);
            return out;
        }
    }
    return " ";
}

std::string option_line(const Option& option, std::span<const Column> columns) {
    const bool takes_value = !option.value_name.empty();
    const std::string value = takes_value ? fmt::format(":{}:{}", to_lower(option.value_name),
                                                        action(option.values, option.complete, columns))
                                          : "";
    const std::string tail = fmt::format("[{}]{}", explanation(option.help), value);
    const char* equals = takes_value ? "=" : "";
    if (option.letter == 0) return fmt::format("'--{}{}{}'", option.name, equals, tail);
    return fmt::format("'(-{0} --{1})'{{-{0}{2},--{1}{3}}}'{4}'", option.letter, option.name, takes_value ? "+" : "",
                       equals, tail);
}

std::string argument_line(const Argument& argument, size_t number) {
    const std::string action_text = action(argument.values, argument.complete, {});
    if (argument.repeats) return fmt::format("'*:{}:{}'", to_lower(argument.name), action_text);
    return fmt::format("'{}:{}{}:{}'", number, argument.required ? "" : ":", to_lower(argument.name), action_text);
}

/// "'list:one line per device'" lines for _describe.
std::string described(std::string_view name, std::string_view summary) {
    return fmt::format("            '{}:{}'\n", name, quote(summary));
}

std::string verb_case(const Verb& verb, std::string_view indent) {
    std::string out = fmt::format("{}{})\n{}    _arguments -s -S $common", indent, verb.name, indent);
    for (const Option& option : verb.options)
        out += fmt::format(" \\\n{}        {}", indent, option_line(option, verb.columns));
    for (size_t i = 0; i < verb.arguments.size(); ++i) {
        out += fmt::format(" \\\n{}        {}", indent, argument_line(verb.arguments[i], i + 1));
    }
    return out + fmt::format(" && ret=0\n{}    ;;\n", indent);
}

/// _storctl_usb_rule
std::string function_name(const Object& object) {
    std::string name(object.name);
    std::replace(name.begin(), name.end(), ' ', '_');
    return "_storctl_" + name;
}

std::string object_case(const Object& object) {
    return fmt::format("        {}) {} && ret=0 ;;\n", last_word(object), function_name(object));
}

std::string object_function(const Object& object) {
    std::string out = fmt::format("{}() {{\n    local state line curcontext=\"$curcontext\"\n    integer ret=1\n",
                                  function_name(object));
    out +=
        "    _arguments -C $common '1: :->verb' '*:: :->rest' && ret=0\n    case $state in\n    verb)\n        local "
        "-a verbs=(\n";
    for (const Verb& verb : verbs()) {
        if (verb.object == object.name) out += described(verb.name, verb.summary);
    }
    for (const Object& below : objects()) {
        if (object_above(below) == object.name) out += described(last_word(below), below.summary);
    }
    out +=
        "        )\n        _describe -t verbs verb verbs && ret=0\n        ;;\n    rest)\n        case $words[1] in\n";
    for (const Verb& verb : verbs()) {
        if (verb.object == object.name) out += verb_case(verb, "        ");
    }
    for (const Object& below : objects()) {
        if (object_above(below) == object.name) out += object_case(below);
    }
    return out + "        esac\n        ;;\n    esac\n    return ret\n}\n\n";
}

std::string main_function() {
    std::string out =
        "_storctl() {\n    local state line curcontext=\"$curcontext\"\n    integer ret=1\n    local -a run_dir "
        "common\n";
    out +=
        "    integer at=${words[(I)--run-dir]}\n    (( at > 0 && at < CURRENT )) && run_dir=(--run-dir "
        "\"${words[at+1]}\")\n";
    out += "    run_dir+=(${(M)words:#--run-dir=*})\n    common=(\n";
    for (const Option& option : common_options()) out += fmt::format("        {}\n", option_line(option, {}));
    out +=
        "    )\n    _arguments -C $common '--version[show storctl'\\''s version]' '1: :->first' '*:: :->rest' && "
        "ret=0\n";
    out += "    case $state in\n    first)\n        local -a first=(\n";
    for (const Verb& verb : verbs()) {
        if (verb.object.empty()) out += described(verb.name, verb.summary);
    }
    for (const Object& object : objects()) {
        if (object_above(object).empty()) out += described(object.name, object.summary);
    }
    out +=
        "        )\n        _describe -t commands 'verb or object' first && ret=0\n        ;;\n    rest)\n        case "
        "$words[1] in\n";
    for (const Verb& verb : verbs()) {
        if (verb.object.empty()) out += verb_case(verb, "        ");
    }
    for (const Object& object : objects()) {
        if (object_above(object).empty()) out += object_case(object);
    }
    return out + "        esac\n        ;;\n    esac\n    return ret\n}\n\n_storctl \"$@\"\n";
}

}  // namespace

std::string zsh_completion() {
    std::string out(head);
    for (const Object& object : objects()) out += object_function(object);
    return out + main_function();
}

}  // namespace storctl::cli
