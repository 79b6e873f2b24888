#pragma once
// Help texts, made from the table of verbs. Pure; any thread.

#include <string>

namespace storctl::cli {

struct Object;
struct Option;
struct Verb;

/// All objects and verbs.
std::string help_text();
/// The verbs of one object.
std::string help_text(const Object& object);
/// One verb: arguments, options, columns.
std::string help_text(const Verb& verb);
/// "storctl device share ID VALUE [--reason TEXT] …" without options: the line that usage errors show.
std::string usage_line(const Verb& verb);

}  // namespace storctl::cli
