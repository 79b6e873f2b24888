// The script's one function walks the words before the cursor to find the verb, and asks _storctl_values what may stand
// there: for the value of an option, or for the argument with this number.
#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "base/text.hpp"
#include "cli/completion.hpp"
#include "cli/node_usb.hpp"
#include "cli/usb_view.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {
namespace {

constexpr std::string_view head =
    R"bash(# bash completion for storctl(8)                             -*- shell-script -*-
# Made from storctl's table of verbs.

)bash";

constexpr std::string_view body = R"bash(
# the targets of claims of these kinds; run_dir is _storctl's
_storctl_claimed()
{
    local kind target
    storctl "${run_dir[@]}" usb claims --no-headings -o KIND,TARGET 2> /dev/null |
        while read -r kind target; do
            [[ " $* " == *" $kind "* ]] && echo "$target"
        done
}

_storctl()
{
    local cur words cword
    if declare -F _get_comp_words_by_ref > /dev/null; then
        _get_comp_words_by_ref -n =: cur words cword
    else
        words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]}
    fi
    COMPREPLY=()

    local i word path="" object="" argument=0 expect="" plain=""
    local -a run_dir=()
    for ((i = 1; i < cword; i++)); do
        word=${words[i]}
        if [[ -n $expect ]]; then
            [[ $expect == --run-dir ]] && run_dir=(--run-dir "$word")
            expect=""
        elif [[ -z $plain && $word == -- ]]; then
            plain=yes
        elif [[ -z $plain && $word == --*=* ]]; then
            [[ $word == --run-dir=* ]] && run_dir=("$word")
        elif [[ -z $plain && $word == -* ]]; then
            _storctl_values "$path" "$word" > /dev/null && expect=$word
        elif [[ -z $path && -n $(_storctl_verbs "${object:+$object }$word") ]]; then
            object=${object:+$object }$word
        elif [[ -z $path ]]; then
            path=${object:+$object }$word
        else
            ((++argument))
        fi
    done

    local possible
    if [[ -z $expect && -z $plain && $cur == --*=* ]]; then
        expect=${cur%%=*} cur=${cur#*=}
        possible=$(_storctl_values "$path" "$expect") || return 0
    elif [[ -n $expect ]]; then
        possible=$(_storctl_values "$path" "$expect")
    elif [[ -z $plain && $cur == -* ]]; then
        possible=$(_storctl_options "$path")
    elif [[ -z $path ]]; then
        possible=$(_storctl_verbs "$object")
    else
        possible=$(_storctl_values "$path" "#$argument") || return 0
    fi

    case $possible in
        @device) possible=$(storctl "${run_dir[@]}" device list --no-headings -o ID 2> /dev/null) ;;
        @device_or_file)
            possible=$(storctl "${run_dir[@]}" device list --no-headings -o ID 2> /dev/null)
            compopt -o filenames 2> /dev/null
            COMPREPLY=($(compgen -f -- "$cur"))
            ;;
        @node) possible=$(storctl "${run_dir[@]}" node list --no-headings -o NAME 2> /dev/null) ;;
        @usb) possible=$(storctl "${run_dir[@]}" usb list --no-headings -o NAME,SOCKET 2> /dev/null) ;;
        @usb_claimed) possible=$(_storctl_claimed device hub) ;;
        @pci_claimed) possible=$(_storctl_claimed controller) ;;
        @usb_socket) possible=$(storctl "${run_dir[@]}" usb list --no-headings -o SOCKET 2> /dev/null) ;;
        @usb_rule) possible=$(storctl "${run_dir[@]}" usb rule list --no-headings -o ID 2> /dev/null) ;;
        @pci) possible=$(storctl "${run_dir[@]}" pci list --no-headings -o ADDRESS 2> /dev/null) ;;
        @holder) possible="host $(storctl "${run_dir[@]}" usb claims --no-headings -o HOLDER 2> /dev/null)" ;;
        @directory)
            compopt -o filenames 2> /dev/null
            COMPREPLY=($(compgen -d -- "$cur"))
            return 0
            ;;
        @list*)
            local before="" name alone=""
            [[ $cur == *[+,]* ]] && before=${cur%"${cur##*[+,]}"}
            compopt -o nospace 2> /dev/null
            for name in ${possible#@list}; do
                [[ $name == / ]] && alone=yes && continue
                [[ -n $alone && -n $before ]] && continue
                [[ $name == "${cur:${#before}}"* ]] && COMPREPLY+=("$before$name")
            done
            return 0
            ;;
    esac
    COMPREPLY+=($(compgen -W "$possible" -- "$cur"))
    declare -F __ltrim_colon_completions > /dev/null && __ltrim_colon_completions "$cur"
    return 0
} && complete -F _storctl storctl
)bash";

std::string words_of(std::string_view values) {
    std::string out(values);
    std::replace(out.begin(), out.end(), '|', ' ');
    return out;
}

/// What _storctl_values prints; empty: a free text. "@list": words that may follow each other, separated by commas, but
/// for those after "/", which stand alone.
std::string possible(std::string_view values, Complete complete, std::span<const Column> columns) {
    if (!values.empty()) return words_of(values);
    switch (complete) {
        case Complete::nothing:
            return "";
        case Complete::device:
            return "@device";
        case Complete::device_or_file:
            return "@device_or_file";
        case Complete::node:
        case Complete::node_or_number:
            return "@node";
        case Complete::usb:
            return "@usb";
        case Complete::usb_claimed:
            return "@usb_claimed";
        case Complete::usb_rule:
            return "@usb_rule";
        case Complete::usb_socket:
            return "@usb_socket";
        case Complete::usb_class:
            return usb_class_names();
        case Complete::pci:
            return "@pci";
        case Complete::pci_claimed:
            return "@pci_claimed";
        case Complete::holder:
            return "@holder";
        case Complete::denials:
            return fmt::format("@list {} / {}", fmt::join(deniable, " "), nothing_denied);
        case Complete::directory:
            return "@directory";
        case Complete::columns: {
            std::string out = "@list";
            for (const Column& column : columns) out += fmt::format(" {}", column.name);
            return out;
        }
    }
    return "";
}

std::string value_case(const std::string& path, const Option& option, std::span<const Column> columns) {
    std::string pattern = fmt::format("{}:--{}", path, option.name);
    if (option.letter != 0) pattern += fmt::format(" | {}:-{}", path, option.letter);
    return fmt::format("        {}) echo \"{}\" ;;\n", pattern, possible(option.values, option.complete, columns));
}

/// A path as a case pattern.
std::string pattern_of(const Verb& verb) { return "\"" + verb.path() + "\""; }

std::string values_function() {
    std::string out =
        "# $1: verb, $2: an option or #NUMBER of an argument; prints what may stand there; fails where nothing may\n"
        "_storctl_values()\n{\n    case $1:$2 in\n";
    for (const Option& option : common_options()) {
        if (!option.value_name.empty()) out += value_case("*", option, {});
    }
    for (const Verb& verb : verbs()) {
        for (const Option& option : verb.options) {
            if (!option.value_name.empty()) out += value_case(pattern_of(verb), option, verb.columns);
        }
        for (size_t i = 0; i < verb.arguments.size(); ++i) {
            const Argument& argument = verb.arguments[i];
            const std::string number = argument.repeats ? "*" : fmt::to_string(i);
            out += fmt::format("        {}:\\#{}) echo \"{}\" ;;\n", pattern_of(verb), number,
                               possible(argument.values, argument.complete, {}));
        }
    }
    return out + "        *) return 1 ;;\n    esac\n}\n\n";
}

std::string option_words(std::span<const Option> options) {
    std::string out;
    for (const Option& option : options) {
        if (option.letter != 0) out += fmt::format(" -{}", option.letter);
        out += fmt::format(" --{}", option.name);
    }
    return out;
}

std::string options_function() {
    std::string out = "_storctl_options()\n{\n    case $1 in\n";
    for (const Verb& verb : verbs()) {
        out +=
            fmt::format("        {}) echo \"{}{}\" ;;\n", pattern_of(verb),
                        option_words(verb.options).substr(1 * !verb.options.empty()), option_words(common_options()));
    }
    return out + fmt::format("        *) echo \"--version{}\" ;;\n    esac\n}}\n\n", option_words(common_options()));
}

/// Verbs, and objects that stand below.
std::string names_of(std::string_view name) {
    std::vector<std::string> names;
    for (const Verb& verb : verbs()) {
        if (verb.object == name) names.emplace_back(verb.name);
    }
    for (const Object& object : objects()) {
        if (object_above(object) == name) names.emplace_back(last_word(object));
    }
    return join(names, " ");
}

std::string verbs_function() {
    std::string out = "# $1: an object; prints what may follow it\n_storctl_verbs()\n{\n    case $1 in\n";
    for (const Object& object : objects()) {
        out += fmt::format("        \"{}\") echo \"{}\" ;;\n", object.name, names_of(object.name));
    }
    return out + fmt::format("        \"\") echo \"{}\" ;;\n    esac\n}}\n", names_of(""));
}

}  // namespace

std::string bash_completion() {
    return std::string(head) + values_function() + options_function() + verbs_function() + std::string(body);
}

}  // namespace storctl::cli
