#pragma once
// Where a node's files are, and their removal once its process is gone. stord's loop thread; blocking, small.

#include <string>

namespace storctl {

struct NodePaths {
    std::string run_dir;
    std::string dev_dir;

    std::string folder() const { return run_dir + "/node"; }
    std::string spec(const std::string& name) const { return folder() + "/" + name + ".json"; }
    std::string socket(const std::string& name) const { return folder() + "/" + name + ".socket"; }
    /// The last words of a process that ended with an error: one sentence.
    std::string error(const std::string& name) const { return folder() + "/" + name + ".error"; }
    std::string log(const std::string& name) const { return folder() + "/" + name + ".log"; }
    std::string mount(const std::string& name) const { return run_dir + "/block/" + name; }
    std::string loop_link(const std::string& name) const { return dev_dir + "/disk/" + name; }
};

/// What a process left behind: loop devices over its file, the mount, the link and every file of the node. Whatever
/// cannot be removed is logged and left.
void remove_node_files(const NodePaths& paths, const std::string& name);

}  // namespace storctl
