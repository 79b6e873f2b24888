#pragma once
// Shell completion scripts, made from the table of verbs. Pure; any thread. completions/generate.cpp writes them at
// build time.

#include <string>

namespace storctl::cli {

std::string bash_completion();
std::string zsh_completion();

}  // namespace storctl::cli
