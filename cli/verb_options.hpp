#pragma once
// Options and groups of verbs that the files of the one table share (verbs.cpp puts it together). Any thread.

#include <vector>

#include "cli/verbs.hpp"

namespace storctl::cli {

inline constexpr Option json_option{
    .name = "json", .letter = 'j', .help = "one JSON object instead of text (see storctl(8), JSON OUTPUT)"};
inline constexpr Option output_option{
    .name = "output",
    .letter = 'o',
    .value_name = "COLS",
    .complete = Complete::columns,
    .help = "the columns to show, separated by commas; +COLS adds to the default ones"};
inline constexpr Option no_headings_option{.name = "no-headings", .help = "leave the line of headings out"};
inline constexpr Option dry_run_option{.name = "dry-run", .letter = 'n', .help = "make every check and change nothing"};

/// usb and usb rule; pci.
std::vector<Verb> verbs_of_usb();
std::vector<Verb> verbs_of_pci();

}  // namespace storctl::cli
