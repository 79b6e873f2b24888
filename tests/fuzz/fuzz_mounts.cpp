// The mount table and the list of swaps, and what is made of them for devices with awkward names.

#include "locality/boot.hpp"
#include "locality/mounts.hpp"
#include "locality/usage.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace storctl::locality;

/// A disk, its partition, a map that says it is made of itself.
std::vector<BlockFacts> devices() {
    BlockFacts disk{.name = "sda", .devnode = "/dev/sda", .number = {8, 0}};
    BlockFacts part{.name = "sda1", .devnode = "/dev/sda1", .number = {8, 1}, .partition_of = "sda"};
    BlockFacts loop{
        .name = "dm-0", .devnode = "/dev/dm-0", .number = {253, 0}, .dm_name = "x", .slaves = {"sda1", "dm-0"}};
    return {disk, part, loop};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    FUZZ_CHECK(unescape_octal(text).size() <= size);
    UsageTexts texts{.mounts = parse_mountinfo(text), .swaps = parse_swaps(text), .groups = {{"sda", "sda1"}}};
    for (const auto& swap : texts.swaps) FUZZ_CHECK(swap.starts_with('/'));
    const auto facts = devices();
    std::vector<const BlockFacts*> pointers;
    for (const auto& one : facts) pointers.push_back(&one);
    const Usage usage(usage_tree(pointers), texts);
    for (const auto& one : facts) {
        // nine lines per device at the most for mounts, one for swap, one for itself
        FUZZ_CHECK(usage.users_of(one.name).size() <= 3 * 11);
    }
    const auto marks = boot_marks(pointers, usage);
    FUZZ_CHECK(marks.names.size() <= facts.size());
    if (!usage.carriers_of("/")) FUZZ_CHECK(!marks.complete);
    return 0;
}
