#pragma once
// Which processes are nodes', so that another one with their program's name is not taken for one. Pure.

#include <map>
#include <set>
#include <string>

namespace storctl {

struct NodeProcesses {
    std::map<int, std::string> by_pid;  ///< node's name
    std::set<std::string> unknown;      ///< nodes that may have a process whose number is not known yet

    bool may_be_of(int pid, const std::string& node) const {
        const auto found = by_pid.find(pid);
        return found != by_pid.end() ? found->second == node : unknown.contains(node);
    }
    bool may_be_any(int pid) const { return by_pid.contains(pid) || !unknown.empty(); }
    bool operator==(const NodeProcesses&) const = default;
};

}  // namespace storctl
