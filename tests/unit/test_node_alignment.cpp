// The alignment layer over a disk in memory that takes only whole blocks and ends requests in random order.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "daemon/node/alignment_layer.hpp"

using namespace storctl::node;

namespace {

constexpr uint32_t block_bytes = 512;
constexpr uint64_t disk_bytes = 64 * block_bytes;

/// Takes a request at once and carries it out when it ends: two changes of one block in flight lose one of them.
class MemoryDisk : public BlockLayer {
 public:
    void submit(BlockRequest& request) override {
        CHECK(request.offset % block_bytes == 0);
        CHECK(request.length % block_bytes == 0);
        CHECK(request.offset + request.length <= disk_bytes);
        if (request.op == BlockOp::write && request.fua) ++durable_writes;
        pending.push_back(&request);
    }
    void end_one(std::mt19937_64& random) {
        const size_t which = random() % pending.size();
        BlockRequest* const request = pending[which];
        pending.erase(pending.begin() + static_cast<std::ptrdiff_t>(which));
        if (refuse_holes && request->op == BlockOp::discard) return request->finish(-EOPNOTSUPP);
        std::byte* const at = bytes.data() + request->offset;
        if (request->op == BlockOp::read) {
            std::memcpy(request->data, at, request->length);
        } else if (request->op == BlockOp::write) {
            std::memcpy(at, request->data, request->length);
        } else if (request->op != BlockOp::flush) {
            std::memset(at, 0, request->length);
        }
        request->finish(static_cast<int64_t>(request->length));
    }

    std::vector<std::byte> bytes = std::vector<std::byte>(disk_bytes);
    std::vector<BlockRequest*> pending;
    bool refuse_holes = false;
    size_t durable_writes = 0;
};

struct Operation {
    BlockRequest request;
    std::vector<std::byte> data;
    bool ended = false;
    int64_t result = 0;
};

std::unique_ptr<Operation> make(BlockOp op, uint64_t offset, uint64_t length, std::byte fill) {
    auto operation = std::make_unique<Operation>();
    operation->data.assign(length, fill);
    operation->request.op = op;
    operation->request.offset = offset;
    operation->request.length = length;
    operation->request.data = operation->data.data();
    operation->request.then(
        [](void* context, BlockRequest&, int64_t result) {
            auto& self = *static_cast<Operation*>(context);
            CHECK_FALSE(self.ended);
            self.ended = true;
            self.result = result;
        },
        operation.get());
    return operation;
}

}  // namespace

TEST_CASE("any mix of unaligned changes in flight leaves what a shadow copy has") {
    const uint64_t seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    MemoryDisk disk;
    AlignmentLayer layer(disk, block_bytes);
    std::vector<std::byte> shadow(disk_bytes);

    for (int round = 0; round < 3000; ++round) {
        // ranges that share blocks but no bytes: their order is free, so the outcome is known
        std::vector<std::unique_ptr<Operation>> operations;
        uint64_t at = random() % 1500;
        for (size_t count = 1 + random() % 8; count > 0 && at < disk_bytes; --count) {
            const uint64_t length =
                std::min<uint64_t>(1 + random() % (random() % 4 == 0 ? 3000 : 300), disk_bytes - at);
            const auto op = static_cast<BlockOp>(random() % 4 == 0 ? (random() % 2 == 0 ? 3 : 4) : random() % 2);
            const auto fill = static_cast<std::byte>(1 + random() % 255);
            operations.push_back(make(op, at, length, fill));
            if (op == BlockOp::write) std::memset(shadow.data() + at, static_cast<int>(fill), length);
            if (op == BlockOp::discard || op == BlockOp::write_zeroes) std::memset(shadow.data() + at, 0, length);
            at += length + (random() % 3 == 0 ? random() % 700 : 0);
        }
        std::shuffle(operations.begin(), operations.end(), random);
        for (const auto& operation : operations) {
            layer.submit(operation->request);
            if (random() % 3 == 0 && !disk.pending.empty()) disk.end_one(random);
        }
        while (!disk.pending.empty()) disk.end_one(random);
        for (const auto& operation : operations) {
            REQUIRE(operation->ended);
            REQUIRE(operation->result == static_cast<int64_t>(operation->request.length));
            if (operation->request.op != BlockOp::read) continue;
            REQUIRE(std::memcmp(operation->data.data(), shadow.data() + operation->request.offset,
                                operation->data.size()) == 0);
        }
        REQUIRE(disk.bytes == shadow);
    }
}

TEST_CASE("an unaligned durable write is durable") {
    std::mt19937_64 random(1);
    MemoryDisk disk;
    AlignmentLayer layer(disk, block_bytes);
    const auto operation = make(BlockOp::write, 100, 1000, std::byte{7});
    operation->request.fua = true;
    layer.submit(operation->request);
    while (!disk.pending.empty()) disk.end_one(random);
    CHECK(operation->ended);
    CHECK(disk.durable_writes == 1);
}

TEST_CASE("a discard that the backing refuses changes nothing, not even the edges") {
    std::mt19937_64 random(1);
    MemoryDisk disk;
    disk.refuse_holes = true;
    std::fill(disk.bytes.begin(), disk.bytes.end(), std::byte{9});
    const auto before = disk.bytes;
    AlignmentLayer layer(disk, block_bytes);
    const auto operation = make(BlockOp::discard, 100, 3000, std::byte{0});
    layer.submit(operation->request);
    while (!disk.pending.empty()) disk.end_one(random);
    CHECK(operation->result == -EOPNOTSUPP);
    CHECK(disk.bytes == before);
}

TEST_CASE("changes that wait go in order of arrival") {
    std::mt19937_64 random(1);
    MemoryDisk disk;
    AlignmentLayer layer(disk, block_bytes);
    // all on block 0, each over the former
    std::vector<std::unique_ptr<Operation>> operations;
    for (int i = 1; i <= 5; ++i) {
        operations.push_back(make(BlockOp::write, 10, 100, static_cast<std::byte>(i)));
        layer.submit(operations.back()->request);
    }
    CHECK(disk.pending.size() == 1);
    while (!disk.pending.empty()) disk.end_one(random);
    for (const auto& operation : operations) CHECK(operation->ended);
    CHECK(disk.bytes[10] == std::byte{5});
    CHECK(disk.bytes[9] == std::byte{0});
}
