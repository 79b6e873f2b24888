#pragma once
// Who has the node open, and who may open it next: the arbitration of opens, without any system call. Reactor thread.
//
// A holder is a process (thread group): one process may open as often as it likes, as QEMU does when it reopens an
// image. Readers are always let in. Writers: single_writer lets one holder in, shared all, read_only none.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "daemon/node/spec.hpp"

namespace storctl::node {

struct Opener {
    int pid = 0;          ///< thread group; 0: the kernel or another pid namespace
    std::string program;  ///< its command name, or what the kernel uses the file for
    bool writes = false;
    WallTime since;

    bool operator==(const Opener&) const = default;
};

enum class OpenVerdict { granted, busy, read_only, closed };

struct OpenDecision {
    OpenVerdict verdict = OpenVerdict::busy;
    uint64_t handle = 0;            ///< of a granted open; never 0
    std::optional<Opener> blocker;  ///< of a busy one: who writes
};

class OpenTable {
 public:
    explicit OpenTable(OpenPolicy policy) : policy_(policy) {}

    OpenDecision open(Opener opener);
    /// False: no such handle (released twice, or never given).
    bool release(uint64_t handle);
    std::vector<Opener> openers() const;
    /// Closed: nobody is let in any more, the node is ending.
    void set_closed(bool closed) { closed_ = closed; }
    bool closed() const { return closed_; }

 private:
    OpenPolicy policy_;
    bool closed_ = false;
    uint64_t next_handle_ = 1;
    std::map<uint64_t, Opener> open_;
};

}  // namespace storctl::node
