#pragma once
// storctl's exit codes: what scripts go by. storctl(8) lists them.

namespace storctl::cli {

enum class Exit : int {
    done = 0,
    failed = 1,
    usage = 2,
    differences = 3,
    not_permitted = 4,
    not_found = 5,
    unreachable = 6,
    ambiguous = 7,
    refused = 8,
    partly = 9,
};

}  // namespace storctl::cli
