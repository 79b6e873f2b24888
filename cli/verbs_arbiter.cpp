// The rows of the table of verbs for usb and pci.
#include "cli/commands.hpp"
#include "cli/verb_options.hpp"

namespace storctl::cli {
namespace {

constexpr Argument usb_target{.name = "WHAT",
                              .complete = Complete::usb,
                              .repeats = true,
                              .help =
                                  "a socket (0000:00:14.0/2.1), a kernel name (1-2.1, usb1), a device node, VID:PID "
                                  "or a serial number"};
constexpr Argument one_usb_target{.name = "WHAT", .complete = Complete::usb, .help = usb_target.help};
constexpr Argument claimed_target{.name = "WHAT",
                                  .complete = Complete::usb_claimed,
                                  .required = false,
                                  .repeats = true,
                                  .help = "as for claim, or a claim's number ('#12', quoted for the shell)"};
constexpr Argument function_address{
    .name = "BDF", .complete = Complete::pci, .repeats = true, .help = "a PCI address: 0000:00:14.0 or 00:14.0"};
constexpr Argument one_function{.name = "BDF", .complete = Complete::pci, .help = function_address.help};
constexpr Argument claimed_address{.name = "BDF",
                                   .complete = Complete::pci_claimed,
                                   .required = false,
                                   .repeats = true,
                                   .help = "a PCI address, or a claim's number ('#12', quoted for the shell)"};

constexpr Option holder{.name = "for",
                        .value_name = "HOLDER",
                        .complete = Complete::holder,
                        .help = "who gets it (required): vm:NAME, host or proc:PID",
                        .required = true};
constexpr Option only_holder{.name = "for",
                             .value_name = "HOLDER",
                             .complete = Complete::holder,
                             .help = "only if it is this one's; what is gone already is no error then"};
constexpr Option asking_holder{.name = "for",
                               .value_name = "HOLDER",
                               .complete = Complete::holder,
                               .help = "who would get it (default: a virtual machine that holds nothing)"};
constexpr Option keep_drivers{.name = "keep-drivers",
                              .help = "record the claim and leave drivers to whoever uses the device"};
constexpr Option reason{.name = "reason", .letter = 'r', .value_name = "TEXT", .help = "why; shown to whom it blocks"};
constexpr Option keep_off{.name = "keep-off", .help = "do not give the device back to the host's drivers"};
constexpr Option give_back{
    .name = "give-back",
    .help = "give it back to the host's drivers, also where return_drivers in stord.toml(5) says no"};
constexpr Option all_of_holder{.name = "all", .letter = 'a', .help = "everything that --for holds, USB and PCI"};

}  // namespace

std::vector<Verb> verbs_of_usb() {
    return {
        {.object = "usb",
         .name = "tree",
         .summary = "every controller, hub and device: in-use counts, who has it, and why",
         .description =
             "The two halves of a USB 3 hub are one line. A controller that is passed through is followed by what was "
             "last seen below it.",
         .options = {json_option},
         .run = usb_tree},
        {.object = "usb",
         .name = "list",
         .summary = "one line per USB device",
         .description = "A USB 3 hub is two lines, one for each of its halves.",
         .options = {output_option, no_headings_option, json_option},
         .columns = usb_device_columns(),
         .run = usb_list},
        {.object = "usb",
         .name = "claims",
         .summary = "one line per claim, on USB and on PCI functions",
         .options = {{.name = "all", .letter = 'a', .help = "also what was only observed: the host's own uses"},
                     output_option,
                     no_headings_option,
                     json_option},
         .columns = claim_columns(),
         .run = usb_claims},
        {.object = "usb",
         .name = "claim",
         .summary = "give USB devices or hubs to a holder: all of them, or none",
         .description =
             "What is in use is refused (exit status 8), and everything that is in the way is listed; nothing is "
             "forced. Of a hub everything below it goes along, also what is plugged in later.",
         .arguments = {usb_target},
         .options = {holder,
                     keep_drivers,
                     reason,
                     {.name = "direct",
                      .help =
                          "run COMMAND, in the foreground, with the device's own node open, past any filter: {fd} in "
                          "its arguments is the descriptor's number"},
                     {.name = "interfaces",
                      .value_name = "LIST",
                      .help = "with --direct: the descriptor can use only these, as in 0,1"},
                     dry_run_option,
                     json_option},
         .run = usb_claim,
         .command_with = "direct"},
        {.object = "usb",
         .name = "release",
         .summary = "take USB devices or hubs back",
         .description = "It asks nothing. What is gone meanwhile can be released, too. A mediated node over the device "
                        "goes with its "
                        "claim; while the node is open that is refused (exit status 8), and who has it open is listed.",
         .arguments = {claimed_target},
         .options = {only_holder,
                     all_of_holder,
                     keep_off,
                     give_back,
                     {.name = "force",
                      .letter = 'f',
                      .help = "although a mediated node over it is open: its consumer sees an unplug at once"},
                     dry_run_option,
                     json_option},
         .run = usb_release},
        {.object = "usb",
         .name = "explain",
         .summary = "whether a claim would be granted, everything that is in the way, and what to do",
         .description =
             "Changes nothing. Ends with 0 where the claim would be granted, with 8 where it would be refused.",
         .arguments = {one_usb_target},
         .options = {asking_holder, json_option},
         .run = usb_explain},
        {.object = "usb rule",
         .name = "add",
         .summary = "have a device claimed by itself when it is plugged in",
         .description = "At least one of --socket, --device, --serial and --class; all that are given must match. "
                        "Devices that are "
                        "plugged in already are not touched.",
         .options =
             {{.name = "for",
               .value_name = "HOLDER",
               .complete = Complete::holder,
               .help = "who gets the device (required)",
               .required = true},
              {.name = "socket",
               .value_name = "SOCKET",
               .complete = Complete::usb_socket,
               .help = "whatever is plugged in there"},
              {.name = "device", .letter = 'd', .value_name = "VID[:PID]", .help = "its vendor, and its product"},
              {.name = "serial", .value_name = "TEXT", .help = "its serial number"},
              {.name = "class",
               .value_name = "CLASS",
               .complete = Complete::usb_class,
               .help = "its class or one of its interfaces': 00 to ff, or storage, hid, audio, video, printer, …"},
              json_option},
         .run = usb_rule_add},
        {.object = "usb rule",
         .name = "list",
         .summary = "one line per rule",
         .options = {output_option, no_headings_option, json_option},
         .columns = usb_rule_columns(),
         .run = usb_rule_list},
        {.object = "usb rule",
         .name = "remove",
         .summary = "take a rule away; claims that it made stay",
         .arguments = {{.name = "ID", .complete = Complete::usb_rule, .help = "the rule's number"}},
         .options = {json_option},
         .run = usb_rule_remove},
    };
}

std::vector<Verb> verbs_of_pci() {
    return {
        {.object = "pci",
         .name = "list",
         .summary = "one line per PCI function that virtual machines are given: usb, nvme, storage, network, display",
         .options = {{.name = "all", .letter = 'a', .help = "functions of every kind"},
                     output_option,
                     no_headings_option,
                     json_option},
         .columns = pci_columns(),
         .run = pci_list},
        {.object = "pci",
         .name = "claim",
         .summary = "give PCI functions to a holder: all of them, or none",
         .description =
             "A function is refused (exit status 8) while anything on it is claimed or in use, or while its IOMMU "
             "group "
             "holds functions that do not go along; everything that is in the way is listed, and nothing is forced.",
         .arguments = {function_address},
         .options = {holder,
                     {.name = "group", .letter = 'g', .help = "claim what must go along, too: its IOMMU group"},
                     keep_drivers,
                     reason,
                     dry_run_option,
                     json_option},
         .run = pci_claim},
        {.object = "pci",
         .name = "release",
         .summary = "take PCI functions back, to the drivers that they had",
         .description = "It asks nothing, and waits until a virtual machine that still has the function is gone.",
         .arguments = {claimed_address},
         .options = {only_holder, all_of_holder, keep_off, give_back, dry_run_option, json_option},
         .run = pci_release},
        {.object = "pci",
         .name = "explain",
         .summary = "whether a claim would be granted, everything that is in the way, and what to do",
         .description =
             "Changes nothing. Ends with 0 where the claim would be granted, with 8 where it would be refused.",
         .arguments = {one_function},
         .options = {asking_holder, json_option},
         .run = pci_explain},
    };
}

}  // namespace storctl::cli
