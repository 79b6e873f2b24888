#include "daemon/node/disk_facts.hpp"

#include <algorithm>
#include <bit>

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "daemon/node/sg_server.hpp"

namespace storctl::node {
namespace {

uint64_t number(const std::string& path, uint64_t otherwise) {
    return parse_unsigned(read_attribute(path), path).value_or(otherwise);
}

void read_queue(const std::string& device, DiskFacts& facts) {
    const std::string queue = device + "/queue";
    auto& geometry = facts.geometry;
    const uint64_t block = geometry.block_bytes;
    const uint64_t physical = number(queue + "/physical_block_size", block);
    if (std::has_single_bit(physical) && physical >= block && physical <= 65536)
        geometry.physical_block_bytes = static_cast<uint32_t>(physical);
    // the kernel counts from the disk's beginning to the first aligned byte
    const uint64_t offset = number(device + "/alignment_offset", 0);
    geometry.lowest_aligned_block = static_cast<uint16_t>(offset % geometry.physical_block_bytes / block);
    geometry.rotation = read_attribute(queue + "/rotational") == "0" ? scsi::not_rotating : scsi::rotation_not_reported;
    geometry.write_cache = read_attribute(queue + "/write_cache") == "write back";
    geometry.thin = number(queue + "/discard_max_bytes", 0) > 0;
    facts.limits.unmap_granularity_blocks =
        static_cast<uint32_t>(std::max<uint64_t>(1, number(queue + "/discard_granularity", block) / block));
}

}  // namespace

scsi::Limits sg_limits(uint32_t block_bytes) {
    scsi::Limits out;
    out.transfer_bytes = out.optimal_transfer_bytes = sg_transfer_limit();
    out.scratch_bytes = sg_scratch_bytes;
    out.compare_blocks = std::min(out.compare_blocks, sg_scratch_bytes / block_bytes);
    return out;
}

DiskFacts disk_facts(const Backing& backing, bool read_only, const std::string& sysfs) {
    DiskFacts out;
    out.geometry.block_bytes = backing.logical_block_bytes();
    out.limits = sg_limits(out.geometry.block_bytes);
    out.geometry.blocks = backing.size_bytes() / out.geometry.block_bytes;
    out.geometry.read_only = read_only;
    out.geometry.physical_block_bytes = std::max(out.geometry.block_bytes, backing.transfer_alignment());
    struct stat status {};
    if (backing.kind() == BackingKind::file || ::fstat(backing.fd(), &status) != 0) {
        out.geometry.thin = true;  // holes
        out.geometry.write_cache = true;
        return out;
    }
    read_queue(fmt::format("{}/dev/block/{}:{}", sysfs, major(status.st_rdev), minor(status.st_rdev)), out);
    return out;
}

scsi::Identity complete(scsi::Identity identity, const std::string& node_name) {
    if (identity.vendor.empty()) identity.vendor = "STORCTL";
    if (identity.product.empty()) identity.product = node_name;
    if (identity.revision.empty()) identity.revision = "1";
    return identity;
}

}  // namespace storctl::node
