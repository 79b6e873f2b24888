#pragma once
// Trees as text: branches to the left, a count and a state in columns to the right. Pure; any thread.

#include <string>
#include <vector>

#include "cli/output.hpp"
#include "cli/table.hpp"

namespace storctl::cli {

struct Branch {
    std::vector<std::string> names;  ///< what one types again, each in a column of its siblings: never cut
    std::string text;                ///< behind the names; cut where a terminal is too narrow
    std::string count;               ///< right-aligned
    Cell state;
    std::vector<std::string> remarks;  ///< behind the state where the line has room for all, else on lines below
    bool dim = false;                  ///< the whole line
    std::vector<Branch> below;
};

struct TreeHeadings {
    std::string name, count, state;
};

/// Names of siblings are aligned, and so are the columns of all. Box-drawing branches where the screen takes UTF-8.
std::string format_tree(const std::vector<Branch>& roots, const TreeHeadings& headings, const Screen& screen);

}  // namespace storctl::cli
