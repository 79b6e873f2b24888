#pragma once
// Which commands may touch which blocks at the same time: COMPARE AND WRITE is atomic against everything that overlaps
// it (SBC-4), all others run side by side. A hold is asked for once, is granted at once or later in the order of
// asking, and is given back once. While nothing exclusive is about, neither costs a search. One thread.

#include <cstdint>

namespace storctl::node::scsi {

class RangeLocks {
 public:
    struct Hold {
        uint64_t first = 0;
        uint64_t end = 0;  ///< behind the last block
        bool exclusive = false;
        bool spares_tasks = false;  ///< exclusive against owners alone that are no tasks of the logical unit
        void* owner = nullptr;
        /// Called when it may go on, where its owner is no task of the logical unit; it must not come back here.
        void (*granted)(Hold&) = nullptr;

        Hold() = default;
        Hold(const Hold&) = delete;
        Hold& operator=(const Hold&) = delete;

     private:
        friend class RangeLocks;
        enum class State : uint8_t { idle, waiting, granted };
        State state = State::idle;
        Hold* previous = nullptr;
        Hold* next = nullptr;
    };

    static bool is_granted(const Hold& hold) { return hold.state == Hold::State::granted; }
    /// What comes from now on waits for it, if it is granted; who is beside it stays.
    void make_exclusive(Hold& hold);
    /// True: granted. Else it waits, and `release` of another will name it.
    bool acquire(Hold& hold);
    /// Also of one that still waits; nothing happens to one that was never asked for. `granted(Hold&)` is called for
    /// each that may go on now; it must not come back here.
    template <class Granted>
    void release(Hold& hold, Granted granted) {
        drop(hold);
        if (waiting_.first == nullptr) return;
        while (Hold* next = grant_one()) granted(*next);
    }

 private:
    struct List {
        Hold* first = nullptr;
        Hold* last = nullptr;
        void append(Hold& hold);
        void remove(Hold& hold);
    };

    static bool excludes(const Hold& a, const Hold& b) {
        if ((a.spares_tasks && b.granted == nullptr) || (b.spares_tasks && a.granted == nullptr)) return false;
        return (a.exclusive || b.exclusive) && a.first < b.end && b.first < a.end;
    }
    static bool excluded_in(const List& list, const Hold& hold);
    void drop(Hold& hold);
    Hold* grant_one();

    List granted_;
    List waiting_;
    uint64_t exclusive_ = 0;  // in both lists
};

}  // namespace storctl::node::scsi
