#include "daemon/node/scsi/range_locks.hpp"

namespace storctl::node::scsi {

void RangeLocks::List::append(Hold& hold) {
    hold.previous = last;
    hold.next = nullptr;
    (last != nullptr ? last->next : first) = &hold;
    last = &hold;
}

void RangeLocks::List::remove(Hold& hold) {
    (hold.previous != nullptr ? hold.previous->next : first) = hold.next;
    (hold.next != nullptr ? hold.next->previous : last) = hold.previous;
    hold.previous = hold.next = nullptr;
}

/// Up to the hold itself where it stands in the list: what came later does not keep it waiting.
bool RangeLocks::excluded_in(const List& list, const Hold& hold) {
    for (const Hold* other = list.first; other != nullptr && other != &hold; other = other->next) {
        if (excludes(*other, hold)) return true;
    }
    return false;
}

bool RangeLocks::acquire(Hold& hold) {
    if (hold.exclusive) ++exclusive_;
    const bool wait = exclusive_ > 0 && (excluded_in(granted_, hold) || excluded_in(waiting_, hold));
    hold.state = wait ? Hold::State::waiting : Hold::State::granted;
    (wait ? waiting_ : granted_).append(hold);
    return !wait;
}

void RangeLocks::make_exclusive(Hold& hold) {
    if (!is_granted(hold) || hold.exclusive) return;
    hold.exclusive = true;
    ++exclusive_;
}

void RangeLocks::drop(Hold& hold) {
    switch (hold.state) {
        case Hold::State::idle:
            return;
        case Hold::State::waiting:
            waiting_.remove(hold);
            break;
        case Hold::State::granted:
            granted_.remove(hold);
            break;
    }
    if (hold.exclusive) --exclusive_;
    hold.state = Hold::State::idle;
}

RangeLocks::Hold* RangeLocks::grant_one() {
    for (Hold* hold = waiting_.first; hold != nullptr; hold = hold->next) {
        if (excluded_in(granted_, *hold) || excluded_in(waiting_, *hold)) continue;
        waiting_.remove(*hold);
        granted_.append(*hold);
        hold->state = Hold::State::granted;
        return hold;
    }
    return nullptr;
}

}  // namespace storctl::node::scsi
