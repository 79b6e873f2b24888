#pragma once
// A SCSI disk in memory around the logical unit: carries out its operations at once or when told to, and checks that
// each lies inside the disk. Used by unit tests and the fuzz target.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "daemon/node/scsi/logical_unit.hpp"

namespace storctl::test {

namespace scsi = node::scsi;

inline void scsi_require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "scsi disk: not true: %s\n", what);
    std::abort();
}

inline scsi::UnitConfiguration scsi_configuration(uint64_t blocks = 2048, uint32_t block_bytes = 512) {
    return {.identity = {.vendor = "STORCTL",
                         .product = "block node",
                         .revision = "0001",
                         .serial = "web1-0042",
                         .naa = {0x50, 0, 0xc5, 0, 1, 2, 3, 4},
                         .eui64 = {1, 2, 3, 4, 5, 6, 7, 8}},
            .geometry = {.blocks = blocks,
                         .block_bytes = block_bytes,
                         .physical_block_bytes = 4096,
                         .thin = true,
                         .write_cache = true},
            .limits = {.scratch_bytes = 4 * block_bytes}};
}

/// One command with memory of exactly the size that it has.
struct ScsiCommand {
    scsi::Task task;
    scsi::Bytes cdb;
    std::vector<std::byte> data, scratch;
    scsi::Next next = scsi::Next::done;

    scsi::Bytes answer() const {
        const auto* begin = reinterpret_cast<const uint8_t*>(data.data());
        return {begin, begin + task.data_in_bytes};
    }
    scsi::SenseKey key() const { return static_cast<scsi::SenseKey>(task.sense.at(fixed() ? 2 : 1) & 0xf); }
    scsi::AdditionalSense code() const {
        return static_cast<scsi::AdditionalSense>(scsi::get_be16(task.sense, fixed() ? 12 : 2));
    }
    bool fixed() const { return (task.sense.at(0) & 0x7f) == 0x70; }
};

class ScsiDisk {
 public:
    explicit ScsiDisk(scsi::UnitConfiguration configuration = scsi_configuration())
        : memory(configuration.geometry.blocks * configuration.geometry.block_bytes) {
        auto made = scsi::LogicalUnit::make(std::move(configuration));
        scsi_require(made.has_value(), "the configuration is right");
        unit = std::move(*made);
    }

    std::shared_ptr<scsi::Nexus> attach(const std::string& initiator,
                                        scsi::NexusOptions options = {.power_on = false}) {
        auto nexus = unit->attach({"iqn.2026-01.test:" + initiator, 1}, options);
        scsi_require(nexus.has_value(), "a nexus attaches");
        return *nexus;
    }

    std::unique_ptr<ScsiCommand> prepare(scsi::Nexus& nexus, scsi::Bytes cdb, const scsi::Bytes& data_out = {},
                                         size_t room = 1 << 16) {
        auto command = std::make_unique<ScsiCommand>();
        command->cdb = std::move(cdb);
        const auto shape = unit->shape(command->cdb);
        if (shape.direction == scsi::Direction::in) command->data.resize(std::min<uint64_t>(shape.bytes, room));
        if (shape.direction == scsi::Direction::out) {
            command->data.resize(std::min<uint64_t>(shape.bytes, data_out.size()));
            std::transform(data_out.begin(), data_out.begin() + static_cast<long>(command->data.size()),
                           command->data.begin(), [](uint8_t byte) { return std::byte{byte}; });
        }
        command->scratch.resize(shape.scratch_bytes);
        command->task.nexus = &nexus;
        command->task.writable = writable;
        command->task.cdb = command->cdb;
        command->task.data = command->data;
        command->task.scratch = command->scratch;
        return command;
    }

    std::unique_ptr<ScsiCommand> start(scsi::Nexus& nexus, scsi::Bytes cdb, const scsi::Bytes& data_out = {},
                                       size_t room = 1 << 16) {
        auto command = prepare(nexus, std::move(cdb), data_out, room);
        command->next = unit->start(command->task);
        return command;
    }

    /// Until the command is done or waits for another.
    void drive(ScsiCommand& command) {
        for (int steps = 0; command.next == scsi::Next::block || command.next == scsi::Next::store; ++steps) {
            scsi_require(steps < 100000, "a command ends");
            step(command);
        }
    }
    void step(ScsiCommand& command) {
        scsi_require(command.next == scsi::Next::block || command.next == scsi::Next::store,
                     "there is something to do");
        const int64_t result =
            command.next == scsi::Next::block ? carry_out(command.task.operation) : store(*command.task.proposed);
        command.next = unit->resume(command.task, result);
    }
    std::unique_ptr<ScsiCommand> run(scsi::Nexus& nexus, scsi::Bytes cdb, const scsi::Bytes& data_out = {},
                                     size_t room = 1 << 16) {
        auto command = start(nexus, std::move(cdb), data_out, room);
        drive(*command);
        scsi_require(command->next == scsi::Next::done, "a command alone does not wait");
        return command;
    }

    int64_t carry_out(const scsi::Operation& operation) {
        operations.push_back(operation);
        scsi_require(operation.offset <= memory.size() && operation.length <= memory.size() - operation.offset,
                     "an operation lies inside the disk");
        if (fault) {
            if (const auto result = fault(operation)) return *result;
        }
        std::byte* place = memory.data() + operation.offset;
        switch (operation.kind) {
            case scsi::BlockOperation::read:
                std::memcpy(operation.data, place, operation.length);
                break;
            case scsi::BlockOperation::write:
                std::memcpy(place, operation.data, operation.length);
                break;
            case scsi::BlockOperation::flush:
                return 0;
            case scsi::BlockOperation::discard:
            case scsi::BlockOperation::write_zeroes:
                std::memset(place, 0, operation.length);
                break;
        }
        return static_cast<int64_t>(operation.length);
    }
    int64_t store(const scsi::ReservationState& state) {
        if (store_fault) return *store_fault;
        scsi_require(check(state).has_value(), "a state that is stored holds together");
        scsi_require(state.version > stored.version, "versions grow");
        stored = state;
        return 0;
    }

    bool writable = true;  ///< as its openers have it open
    std::vector<std::byte> memory;
    std::unique_ptr<scsi::LogicalUnit> unit;
    std::vector<scsi::Operation> operations;
    std::function<std::optional<int64_t>(const scsi::Operation&)> fault;
    std::optional<int64_t> store_fault;
    scsi::ReservationState stored;
};

}  // namespace storctl::test
