#include "usbarb/counter.hpp"

#include <utility>

namespace storctl::usbarb {

UseLease UseLease::acquire(std::vector<Counter*> counters) {
    for (Counter* counter : counters) ++counter->value_;
    return UseLease(std::move(counters));
}

UseLease& UseLease::operator=(UseLease&& other) noexcept {
    if (this == &other) return *this;
    release();
    counters_ = std::exchange(other.counters_, {});
    return *this;
}

void UseLease::release() {
    for (Counter* counter : counters_) --counter->value_;
    counters_.clear();
}

}  // namespace storctl::usbarb
