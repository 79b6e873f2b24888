#pragma once
// The one table of what storctl can do: parsing, help, completion and the tests of the man pages all read it.

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/exit.hpp"
#include "cli/table.hpp"

namespace storctl::cli {

/// What a shell may offer for a value.
enum class Complete {
    nothing,
    device,
    device_or_file,
    node,
    node_or_number,
    usb,
    usb_claimed,
    usb_rule,
    usb_socket,
    usb_class,
    pci,
    pci_claimed,
    holder,
    denials,
    directory,
    columns
};

struct Option {
    std::string_view name;        ///< without dashes
    char letter = 0;              ///< 0: no short form
    std::string_view value_name;  ///< "COLS"; empty: a flag
    std::string_view values;      ///< "auto|always|never": nothing else is taken
    Complete complete = Complete::nothing;
    std::string_view help;
    bool required = false;  ///< the verb itself checks it, as it knows the words for it
};

struct Argument {
    std::string_view name;    ///< "ID"
    std::string_view values;  ///< as for Option
    Complete complete = Complete::nothing;
    bool required = true;
    bool repeats = false;  ///< once or several times; only the last argument may
    std::string_view help;
};

struct Verb;

/// What the user asked for, checked against the table.
class Invocation {
 public:
    explicit Invocation(const Verb& verb) : verb_(&verb) {}
    const Verb& verb() const { return *verb_; }
    /// By option name or argument name; a flag that was given has the value "true".
    bool has(std::string_view name) const { return values_.find(name) != values_.end(); }
    /// Of what may repeat, the last.
    std::string value(std::string_view name) const;
    std::vector<std::string> values(std::string_view name) const;
    void set(std::string_view name, std::vector<std::string> values) {
        values_.insert_or_assign(std::string(name), std::move(values));
    }

    /// --run-dir, else STORCTL_RUN_DIR, else /run/storctl.
    std::string run_dir() const;
    Screen screen() const;
    TableFormat table_format() const;

 private:
    const Verb* verb_;
    std::map<std::string, std::vector<std::string>, std::less<>> values_;
};

struct Verb {
    std::string_view object;  ///< "device", "usb rule"; empty for what stands alone ("status")
    std::string_view name;
    std::string_view summary;      ///< one line, without a full stop
    std::string_view description;  ///< what --help adds
    std::vector<Argument> arguments;
    std::vector<Option> options;
    std::span<const Column> columns;
    Exit (*run)(const Invocation&) = nullptr;
    std::string_view command_with;  ///< an option: where it is given the words after "--" are the values of "COMMAND"

    /// "device list"
    std::string path() const;
};

/// An object may stand below another: "usb rule" is reached by the words "usb" and "rule".
struct Object {
    std::string_view name;
    std::string_view summary;
};

std::span<const Object> objects();
std::span<const Verb> verbs();
/// Taken before or after the verb.
std::span<const Option> common_options();
const Verb* find_verb(std::string_view object, std::string_view name);
const Object* find_object(std::string_view name);
/// The object's last word, and the object that it stands below, empty for none: "usb rule" is "rule" below "usb".
std::string_view last_word(const Object& object);
std::string_view object_above(const Object& object);

}  // namespace storctl::cli
