#include "daemon/config.hpp"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include <toml++/toml.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "daemon/config_keys.hpp"
#include "daemon/config_value.hpp"

namespace storctl {
namespace {

using config_keys::Effect;
using config_keys::Field;
using config_keys::Key;
using config_keys::Kind;

std::string full_name(const Key& key) {
    return key.section.empty() ? std::string(key.name) : fmt::format("{}.{}", key.section, key.name);
}

const Key* find_key(std::string_view section, std::string_view name) {
    for (const auto& key : config_keys::table) {
        if (key.section == section && key.name == name) return &key;
    }
    return nullptr;
}

bool is_section(std::string_view name) {
    return std::any_of(config_keys::table.begin(), config_keys::table.end(),
                       [&](const Key& key) { return !key.section.empty() && key.section == name; });
}

/// ", did you mean 'x'?" for the nearest key or section; empty when none is near.
std::string suggestion(std::string_view section, std::string_view name) {
    const std::string asked = section.empty() ? std::string(name) : fmt::format("{}.{}", section, name);
    std::string best;
    size_t best_distance = 3;
    const auto consider = [&](const std::string& candidate, size_t distance) {
        if (distance < best_distance) best = candidate, best_distance = distance;
    };
    for (const auto& key : config_keys::table) {
        const std::string candidate = full_name(key);
        if (key.name == name) consider(candidate, 0);
        consider(candidate, edit_distance(asked, candidate));
        if (section.empty() && !key.section.empty()) {
            const std::string heading(key.section);
            consider(heading, edit_distance(name, heading));
        }
    }
    return best.empty() ? std::string() : fmt::format("; did you mean '{}'?", best);
}

Result<int64_t> integer_of(Kind kind, std::string_view text) {
    switch (kind) {
        case Kind::size: {
            const uint64_t bytes = TRY(parse_size(text, "the size"));
            return static_cast<int64_t>(bytes);
        }
        case Kind::duration: {
            const auto duration = TRY(parse_duration(text));
            return static_cast<int64_t>(duration.count());
        }
        case Kind::text:
        case Kind::path:
        case Kind::choice:
        case Kind::text_list:
        case Kind::integer:
            break;
    }
    const uint64_t number = TRY(parse_unsigned(text, "the number"));
    return static_cast<int64_t>(number);
}

Result<void> check_text(const Key& key, const std::string& text) {
    if (key.kind == Kind::path && !text.empty() && !text.starts_with('/')) {
        return make_error(std::errc{}, fmt::format("'{}' is not an absolute path", escape_unprintable(text)));
    }
    if (key.kind == Kind::path && text.empty() && !key.default_text.empty()) {
        return make_error(std::errc{}, "it cannot be empty");
    }
    if (key.kind != Kind::choice) return {};
    const auto choices = split(key.choices, '|');
    if (std::find(choices.begin(), choices.end(), text) != choices.end()) return {};
    return make_error(std::errc{}, fmt::format("'{}' is none of {}", escape_unprintable(text), join(choices, ", ")));
}

/// Text as it stands in the file or in the table's default, checked and put into its field.
Result<void> assign(Config& config, const Key& key, const std::string& text) {
    if (const auto* field = std::get_if<std::string Config::*>(&key.field)) {
        TRY(check_text(key, text));
        config.*(*field) = text;
        return {};
    }
    const auto parsed = integer_of(key.kind, text);
    if (!parsed) return make_error(std::errc{}, parsed.error().context);
    if (*parsed < *integer_of(key.kind, key.lowest) || *parsed > *integer_of(key.kind, key.highest)) {
        return make_error(std::errc{}, fmt::format("{} is out of range ({} to {})", text, key.lowest, key.highest));
    }
    if (const auto* field = std::get_if<uint64_t Config::*>(&key.field)) {
        config.*(*field) = static_cast<uint64_t>(*parsed);
    } else if (const auto* duration = std::get_if<std::chrono::milliseconds Config::*>(&key.field)) {
        config.*(*duration) = std::chrono::milliseconds(*parsed);
    }
    return {};
}

std::string_view wanted(Kind kind) {
    switch (kind) {
        case Kind::text:
            return "a text in quotes";
        case Kind::path:
            return "an absolute path in quotes";
        case Kind::choice:
            return "a text in quotes";
        case Kind::text_list:
            return "a list of texts, [\"a\", \"b\"]";
        case Kind::integer:
            return "a whole number";
        case Kind::size:
            return "a size, \"128M\" or a number of bytes";
        case Kind::duration:
            return "a duration in quotes, \"500ms\", \"10s\" or \"5min\"";
    }
    return "";
}

Error wrong_type(const Key& key) { return make_error(std::errc{}, fmt::format("it takes {}", wanted(key.kind))); }

Result<void> assign_node(Config& config, const Key& key, const toml::node& node) {
    if (key.kind == Kind::text_list) {
        const toml::array* list = node.as_array();
        if (list == nullptr) return wrong_type(key);
        std::vector<std::string> texts;
        for (const auto& item : *list) {
            if (!item.is_string()) return wrong_type(key);
            texts.push_back(item.as_string()->get());
        }
        config.*(std::get<std::vector<std::string> Config::*>(key.field)) = std::move(texts);
        return {};
    }
    const bool number_fits = key.kind == Kind::integer || key.kind == Kind::size;
    if (number_fits && node.is_integer()) return assign(config, key, std::to_string(node.as_integer()->get()));
    if (key.kind == Kind::integer || !node.is_string()) return wrong_type(key);
    return assign(config, key, node.as_string()->get());
}

class Reader {
 public:
    Reader(const std::string& where, Config& config) : where_(where), config_(config) {}

    void read_table(const toml::table& table, std::string_view section) {
        for (const auto& [key_in_file, node] : table) {
            const std::string_view name = key_in_file.str();
            const auto line = key_in_file.source().begin.line;
            const Key* key = find_key(section, name);
            const toml::table* inner = node.as_table();
            if (key == nullptr && section.empty() && is_section(name)) {
                if (inner != nullptr) {
                    read_table(*inner, name);
                } else {
                    report(line, name, fmt::format("it is a section and takes keys: [{}]", name));
                }
            } else if (key == nullptr) {
                const std::string kind = inner != nullptr && section.empty() ? "section" : "key";
                report(line, section.empty() ? std::string(name) : fmt::format("{}.{}", section, name),
                       fmt::format("unknown {}{}", kind, suggestion(section, name)));
            } else if (auto done = assign_node(config_, *key, node); !done) {
                report(line, full_name(*key), done.error().context);
            }
        }
    }

    /// The mistakes in the order of their lines.
    std::string mistakes() {
        std::stable_sort(mistakes_.begin(), mistakes_.end(),
                         [](const Mistake& a, const Mistake& b) { return a.line < b.line; });
        std::vector<std::string> texts;
        for (const auto& mistake : mistakes_) texts.push_back(mistake.text);
        return join(texts, "\n");
    }

 private:
    struct Mistake {
        toml::source_index line;
        std::string text;
    };

    void report(toml::source_index line, std::string_view key, std::string_view what) {
        mistakes_.push_back({line, fmt::format("{}:{}: key '{}': {}", where_, line, escape_unprintable(key), what)});
    }

    const std::string& where_;
    Config& config_;
    std::vector<Mistake> mistakes_;
};

std::string quoted(const Key& key) {
    switch (key.kind) {
        case Kind::text_list:
            return "[]";
        case Kind::integer:
            return std::string(key.default_text);
        case Kind::text:
        case Kind::path:
        case Kind::choice:
        case Kind::size:
        case Kind::duration:
            break;
    }
    return fmt::format("\"{}\"", key.default_text);
}

std::string range_of(const Key& key) {
    if (key.kind == Kind::choice) return join(split(key.choices, '|'), ", ");
    const std::string what(wanted(key.kind));
    return key.lowest.empty() ? what : fmt::format("{}; {} to {}", what, key.lowest, key.highest);
}

}  // namespace

Config default_config() {
    Config config;
    for (const auto& key : config_keys::table) {
        if (key.kind != Kind::text_list) (void)assign(config, key, std::string(key.default_text));
    }
    return config;
}

Result<Config> parse_config(std::string_view toml_text, const std::string& where) {
    Config config = default_config();
    toml::table root;
    try {
        root = toml::parse(toml_text, where);
    } catch (const toml::parse_error& error) {
        const auto& at = error.source().begin;
        return make_error(std::errc{},
                          fmt::format("{}:{}: column {}: {}", where, at.line, at.column, error.description()));
    }
    Reader reader(where, config);
    reader.read_table(root, "");
    if (std::string mistakes = reader.mistakes(); !mistakes.empty()) {
        return make_error(std::errc{}, std::move(mistakes));
    }
    if (config.restart_delay > config.restart_delay_max) {
        return make_error(std::errc{},
                          fmt::format("{}: node.restart_delay ({} ms) is longer than node.restart_delay_max ({} ms)",
                                      where, config.restart_delay.count(), config.restart_delay_max.count()));
    }
    return config;
}

Result<Config> load_config(const std::string& path) {
    const std::string text = TRY(read_file(path));
    return parse_config(text, path);
}

std::vector<std::string> restart_only_changes(const Config& before, const Config& after) {
    std::vector<std::string> names;
    for (const auto& key : config_keys::table) {
        const bool same = std::visit([&](auto field) { return before.*field == after.*field; }, key.field);
        if (key.effect == Effect::at_restart && !same) names.push_back(full_name(key));
    }
    return names;
}

Config adopt_reloadable(const Config& before, const Config& after) {
    Config out = before;
    for (const auto& key : config_keys::table) {
        if (key.effect == Effect::at_reload) std::visit([&](auto field) { out.*field = after.*field; }, key.field);
    }
    return out;
}

std::string config_reference() {
    std::string out = "# stord's configuration, every key at its default.\n";
    std::string_view section;
    for (const auto& key : config_keys::table) {
        if (key.section != section) out += fmt::format("\n[{}]\n", section = key.section);
        const std::string_view when = key.effect == Effect::at_reload ? "a reload (SIGHUP)" : "a restart";
        out += fmt::format("\n# {}\n# Value: {}. Takes effect at {}.\n#{} = {}\n", key.sentence, range_of(key), when,
                           key.name, quoted(key));
    }
    return out;
}

}  // namespace storctl
