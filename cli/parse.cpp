// The only file that includes CLI11. It builds the parser for one verb, the one that the words name, so that start-up
// does not pay for all of them.
#include "cli/parse.hpp"

#include <algorithm>
#include <map>
#include <optional>

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "base/text.hpp"
#include "cli/help.hpp"
#include "storctl_version.hpp"

namespace storctl::cli {
namespace {

constexpr const char* see_help = "see 'storctl --help'";

bool takes_value(std::span<const Option> options, std::string_view word) {
    return std::any_of(options.begin(), options.end(), [&](const Option& option) {
        return !option.value_name.empty() && word == "--" + std::string(option.name);
    });
}

/// Where the next word stands that is no common option or an option's value; words.size() when there is none.
size_t next_plain_word(const std::vector<std::string>& words, size_t from) {
    for (size_t i = from; i < words.size(); ++i) {
        if (!words[i].starts_with('-')) return i;
        if (takes_value(common_options(), words[i])) ++i;
    }
    return words.size();
}

std::vector<std::string> verbs_of(std::string_view object) {
    std::vector<std::string> names;
    for (const Verb& verb : verbs()) {
        if (verb.object == object) names.emplace_back(verb.name);
    }
    return names;
}

std::vector<std::string> objects_below(std::string_view above) {
    std::vector<std::string> names;
    for (const Object& object : objects()) {
        if (object_above(object) == above) names.emplace_back(last_word(object));
    }
    return names;
}

/// All words that may follow an object.
std::string names_of_verbs(std::string_view object) {
    auto names = verbs_of(object);
    const auto below = objects_below(object);
    names.insert(names.end(), below.begin(), below.end());
    return join(names, ", ");
}

bool asks_help(const std::vector<std::string>& words) {
    for (const auto& word : words) {
        if (word == "--") return false;
        if (word == "--help" || word == "-h") return true;
    }
    return false;
}

/// Errors of `value` against "a|b|c".
std::optional<std::string> check_value(std::string_view what, std::string_view values, const std::string& value) {
    if (values.empty()) return std::nullopt;
    const auto allowed = split(values, '|');
    if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return std::nullopt;
    return fmt::format("{} '{}' is none of {}", what, value, join(allowed, ", "));
}

/// The words behind object and verb, by CLI11.
class VerbParser {
 public:
    explicit VerbParser(const Verb& verb) : verb_(verb), app_("storctl " + verb.path()) {
        app_.set_help_flag();
        app_.allow_extras(false);
        for (const Option& option : verb.options) add(option);
        for (const Option& option : common_options()) add(option);
        for (const Argument& argument : verb.arguments) {
            const auto made = app_.add_option(std::string(argument.name), texts_[std::string(argument.name)]);
            made->expected(1, argument.repeats ? CLI::detail::expected_max_vector_size : 1);
            made->allow_extra_args(argument.repeats);
            if (argument.required) made->required();
        }
    }

    Parsed parse(const std::vector<std::string>& given) {
        auto words = with_empty_values(given);
        const auto command = cut_command(words);
        std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
        try {
            app_.parse(std::move(words));
        } catch (const CLI::ParseError& error) {
            return fail(error.what());
        }
        Invocation invocation(verb_);
        for (const auto& [name, texts] : texts_) {
            if (app_.get_option(option_key(name))->count() > 0) invocation.set(name, texts);
        }
        for (const auto& [name, flag] : flags_) {
            if (flag) invocation.set(name, {"true"});
        }
        if (!command.empty()) invocation.set("COMMAND", command);
        return check(std::move(invocation));
    }

 private:
    bool is_argument(const std::string& name) const {
        return std::any_of(verb_.arguments.begin(), verb_.arguments.end(),
                           [&](const Argument& a) { return a.name == name; });
    }
    std::string option_key(const std::string& name) const { return is_argument(name) ? name : "--" + name; }

    void add(const Option& option) {
        const std::string name(option.name);
        const std::string spec = option.letter != 0 ? fmt::format("-{},--{}", option.letter, name) : "--" + name;
        if (option.value_name.empty()) {
            app_.add_flag(spec, flags_[name]);
        } else {
            // an empty value is a value: --reason ''
            app_.add_option(spec, texts_[name])->take_last()->expected(1)->allow_extra_args(false);
        }
    }

    Parsed check(Invocation invocation) const {
        for (const auto options : {std::span<const Option>(verb_.options), common_options()}) {
            for (const Option& option : options) {
                if (!invocation.has(option.name)) continue;
                if (auto wrong =
                        check_value(fmt::format("--{}", option.name), option.values, invocation.value(option.name))) {
                    return fail(*wrong);
                }
            }
        }
        for (const Argument& argument : verb_.arguments) {
            for (const auto& value : invocation.values(argument.name)) {
                if (auto wrong = check_value(argument.name, argument.values, value)) return fail(*wrong);
            }
        }
        if (!verb_.columns.empty() && invocation.has("output")) {
            if (auto chosen = select_columns(verb_.columns, invocation.value("output")); !chosen) {
                return fail(chosen.error().context);
            } else if (invocation.value("output").empty()) {
                return fail("-o names no column");
            }
        }
        return invocation;
    }

    /// Takes the command that follows "--" away, where the verb has one.
    std::vector<std::string> cut_command(std::vector<std::string>& words) const {
        const auto end = std::find(words.begin(), words.end(), "--");
        const bool wanted =
            !verb_.command_with.empty() && std::find(words.begin(), end, "--" + std::string(verb_.command_with)) != end;
        if (!wanted || end == words.end()) return {};
        std::vector<std::string> command(end + 1, words.end());
        words.erase(end, words.end());
        return command;
    }

    /// "--reason=" is "--reason" and an empty word: CLI11 would take the next word for the value.
    static std::vector<std::string> with_empty_values(const std::vector<std::string>& words) {
        std::vector<std::string> out;
        bool options = true;
        for (const auto& word : words) {
            options = options && word != "--";
            const bool empty_value = options && word.starts_with("--") && word.ends_with('=');
            out.push_back(empty_value ? word.substr(0, word.size() - 1) : word);
            if (empty_value) out.emplace_back();
        }
        return out;
    }

    UsageError fail(std::string message) const {
        return {std::move(message), fmt::format("usage: {}; see 'storctl {} --help'", usage_line(verb_), verb_.path())};
    }

    const Verb& verb_;
    CLI::App app_;
    std::map<std::string, std::vector<std::string>> texts_;
    std::map<std::string, bool> flags_;
};

}  // namespace

Parsed parse_command_line(const std::vector<std::string>& words) {
    size_t at = next_plain_word(words, 0);
    const bool help = asks_help(words);
    if (at == words.size()) {
        if (std::find(words.begin(), words.end(), "--version") != words.end()) {
            return ShowText{fmt::format("storctl {}\n", STORCTL_VERSION)};
        }
        if (help) return ShowText{help_text()};
        return UsageError{
            words.empty() || words.back().empty() ? "nothing to do" : fmt::format("no verb after '{}'", words.back()),
            see_help};
    }
    std::vector<std::string> rest = words;
    std::string object_name;
    for (;;) {
        const std::string word = rest[at];
        rest.erase(rest.begin() + static_cast<ptrdiff_t>(at));
        if (const Verb* verb = find_verb(object_name, word)) {
            if (help) return ShowText{help_text(*verb)};
            return VerbParser(*verb).parse(rest);
        }
        const Object* object = find_object(object_name.empty() ? word : object_name + " " + word);
        if (object == nullptr && object_name.empty()) {
            return UsageError{fmt::format("no verb or object '{}'; the verbs are {}, the objects {}", word,
                                          join(verbs_of(""), ", "), join(objects_below(""), ", ")),
                              see_help};
        }
        const std::string see_object =
            fmt::format("see 'storctl {} --help'", object != nullptr ? object->name : object_name);
        if (object == nullptr) {
            return UsageError{
                fmt::format("'{}' has no verb '{}'; its verbs are {}", object_name, word, names_of_verbs(object_name)),
                see_object};
        }
        object_name = object->name;
        at = next_plain_word(rest, at);
        if (at == rest.size()) {
            if (help) return ShowText{help_text(*object)};
            return UsageError{fmt::format("'{}' needs a verb: {}", object->name, names_of_verbs(object->name)),
                              see_object};
        }
    }
}

}  // namespace storctl::cli
