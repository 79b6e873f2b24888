#include <set>

#include <doctest/doctest.h>

#include "base/text.hpp"
#include "cli/help.hpp"
#include "cli/parse.hpp"

using namespace storctl;
using namespace storctl::cli;

namespace {

Parsed parse(std::string_view line) { return parse_command_line(split(line, ' ')); }

Invocation accept(std::string_view line) {
    const Parsed parsed = parse(line);
    if (const auto* wrong = std::get_if<UsageError>(&parsed)) FAIL(line << ": " << wrong->message);
    return std::get<Invocation>(parsed);
}

std::string refuse(std::string_view line) {
    const Parsed parsed = parse(line);
    if (!std::holds_alternative<UsageError>(parsed)) FAIL(line << ": was taken");
    return std::get<UsageError>(parsed).message;
}

bool mentions(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("words become a verb, its arguments and its options") {
    const auto share = accept("device share naa6.6001 true --reason maintenance");
    CHECK(share.verb().path() == "device share");
    CHECK(share.value("ID") == "naa6.6001");
    CHECK(share.value("VALUE") == "true");
    CHECK(share.value("reason") == "maintenance");
    CHECK_FALSE(share.has("json"));

    const auto list = accept("--run-dir /run/a device --color=never list -jo+MODEL");
    CHECK(list.run_dir() == "/run/a");
    CHECK(list.value("color") == "never");
    CHECK(list.has("json"));
    CHECK(list.value("output") == "+MODEL");

    CHECK(accept("device list -o NAME -o ID").value("output") == "ID");
    CHECK(accept("node stat web1 1.5 3").value("COUNT") == "3");
    CHECK(accept("usb claim 1-2 --for vm:a 1-3 -n 046d:c31c").values("WHAT") ==
          std::vector<std::string>{"1-2", "1-3", "046d:c31c"});
    CHECK(accept("usb claim 1-2 --for=vm:a --for vm:b").value("for") == "vm:b");
    CHECK(accept("usb rule add --class hid --for vm:a").verb().path() == "usb rule add");
    CHECK(accept("usb --run-dir /r rule --color never remove 3").value("ID") == "3");
    CHECK(accept("usb release -a --for vm:a").values("WHAT").empty());
    CHECK(accept("usb release #12 -- -odd").values("WHAT") == std::vector<std::string>{"#12", "-odd"});
    CHECK_FALSE(accept("node stat").has("NAME"));
    CHECK(accept("device show -- -odd").value("ID") == "-odd");
    CHECK(accept("status --run-dir=/run/b").run_dir() == "/run/b");
    CHECK(accept("node create a --device=/dev/sdb --open=shared --loop -n").value("open") == "shared");
    CHECK(std::get<Invocation>(parse_command_line({"device", "share", "sda", "auto", "--reason", "two words"}))
              .value("reason") == "two words");
    CHECK(
        std::get<Invocation>(parse_command_line({"device", "share", "sda", "auto", "--reason", ""})).value("reason") ==
        "");
}

TEST_CASE("what the table does not know is refused with what it does know") {
    CHECK(mentions(refuse("disk list"), "device, node, usb, pci, hook"));
    CHECK(mentions(refuse("device"), "list, show, share, rescan"));
    CHECK(mentions(refuse("device lst"), "list, show, share, rescan"));
    CHECK(mentions(refuse("usb"), "explain, rule"));
    CHECK(mentions(refuse("usb rule"), "add, list, remove"));
    CHECK(mentions(refuse("usb rule claim"), "'usb rule' has no verb 'claim'"));
    CHECK(mentions(refuse("rule add"), "'rule'"));
    CHECK(mentions(refuse("device share sda maybe"), "true, false, auto"));
    CHECK(mentions(refuse("device share sda maybe"), "'maybe'"));
    CHECK(mentions(refuse("status --color=blue"), "auto, always, never"));
    CHECK(mentions(refuse("node create a --device x --open=all"), "single-writer, shared, read-only"));
    CHECK(mentions(refuse("device list -o NAME,NOPE"), "NAME, SIZE"));
    CHECK(mentions(refuse("device list --output="), "no column"));
    CHECK(mentions(refuse("device show"), "ID"));
    CHECK(mentions(refuse("device show a b"), "b"));
    CHECK(mentions(refuse("node stat a 1 2 3"), "3"));
    CHECK(mentions(refuse("usb claim --for vm:a"), "WHAT"));
    CHECK(mentions(refuse("usb claim 1-2 --for"), "for"));
    CHECK(mentions(refuse("status --bogus"), "--bogus"));
    CHECK(mentions(refuse("device list -o"), "output"));
    refuse("");
    refuse("--color");
    refuse("device list status");
}

TEST_CASE("help is there at every level and names everything of the table") {
    const auto text = [](std::string_view line) { return std::get<ShowText>(parse(line)).text; };
    CHECK(text("--version").starts_with("storctl "));
    CHECK(text("device --help") == help_text(*find_object("device")));
    CHECK(text("usb rule --help") == help_text(*find_object("usb rule")));
    CHECK(mentions(text("usb --help"), "  rule remove  "));
    CHECK(mentions(text("usb claim --help"), "storctl usb claim WHAT... --for HOLDER [OPTION...]"));
    CHECK(mentions(text("usb release --help"), "storctl usb release [WHAT...] [OPTION...]"));
    CHECK(text("-h device list") == help_text(*find_verb("device", "list")));
    CHECK(text("device share --help") == help_text(*find_verb("device", "share")));  // although arguments are missing
    const std::string all = text("--help");
    for (const Verb& verb : verbs()) {
        CAPTURE(verb.path());
        CHECK(mentions(all, "  " + verb.path() + "  "));
        const std::string help = help_text(verb);
        for (const Option& option : verb.options) CHECK(mentions(help, "--" + std::string(option.name)));
        for (const Option& option : common_options()) CHECK(mentions(help, "--" + std::string(option.name)));
        for (const Column& column : verb.columns) CHECK(mentions(help, std::string(column.name)));
    }
}

TEST_CASE("the table of verbs is sound") {
    std::set<std::string> paths;
    for (const Verb& verb : verbs()) {
        CAPTURE(verb.path());
        CHECK(paths.insert(verb.path()).second);
        CHECK((verb.run != nullptr));
        CHECK((verb.object.empty() || find_object(verb.object) != nullptr));
        CHECK_FALSE(verb.summary.ends_with("."));
        std::set<std::string_view> names;
        std::set<char> letters;
        bool optional_seen = false;
        for (const auto options : {std::span<const Option>(verb.options), common_options()}) {
            for (const Option& option : options) {
                CHECK(names.insert(option.name).second);
                if (option.letter != 0) CHECK(letters.insert(option.letter).second);
                CHECK((option.values.empty() || !option.value_name.empty()));
            }
        }
        for (const Argument& argument : verb.arguments) {
            CHECK(names.insert(argument.name).second);
            CHECK_FALSE((argument.required && optional_seen));
            CHECK((!argument.repeats || &argument == &verb.arguments.back()));
            optional_seen = optional_seen || !argument.required;
        }
        std::set<std::string_view> columns;
        for (const Column& column : verb.columns) {
            CHECK(columns.insert(column.name).second);
            CHECK_FALSE(column.help.empty());
        }
    }
}
