// Streams of SCSI commands with their data, from three nexuses, some at the same time. Whatever they are: every command
// ends, every operation lies inside the disk, what is stored of reservations holds together, and nothing is read or
// written outside a command's own memory.

#include <algorithm>
#include <memory>

#include "tests/fuzz/byte_reader.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/unit/scsi_disk.hpp"

namespace {

using namespace storctl::test;

class Stream {
 public:
    explicit Stream(uint8_t flags) : disk_(configuration(flags)) {
        for (const char* name : {"a", "b", "c,i,0x1"}) nexuses_.push_back(disk_.attach(name, {.power_on = false}));
    }

    void one(ByteReader& input) {
        const auto head = input.take<uint8_t>();
        scsi::Nexus& nexus = *nexuses_[head % nexuses_.size()];
        if (head >= 0xf8) return outside(head, input);
        const auto cdb = input.take_bytes(head >> 2 & 0x1f);
        const auto data = input.take_bytes(input.take<uint8_t>());
        scsi::Bytes data_out(data.begin(), data.end());
        // Whole blocks need not be spelled out.
        if ((head & 0x80) != 0) data_out.resize(std::max<size_t>(data_out.size(), 16 * 512));
        open_.push_back(disk_.start(nexus, {cdb.begin(), cdb.end()}, data_out));
        if ((head & 0x03) != 3 || open_.size() > 8) settle();
    }

    void settle() {
        for (bool moved = true; moved;) {
            moved = false;
            for (auto& command : open_) {
                if (command->next == scsi::Next::block || command->next == scsi::Next::store) {
                    disk_.step(*command);
                    moved = true;
                }
                while (scsi::Task* task = disk_.unit->take_ready()) {
                    for (auto& other : open_) {
                        if (&other->task == task) other->next = disk_.unit->resume(*task, 0);
                    }
                    moved = true;
                }
            }
        }
        for (const auto& command : open_) check_end(*command);
        open_.clear();
        disk_.operations.clear();
    }

 private:
    static scsi::UnitConfiguration configuration(uint8_t flags) {
        auto out = scsi_configuration(256);
        out.geometry.thin = (flags & 1) == 0;
        out.geometry.write_cache = (flags & 2) != 0;
        out.geometry.read_only = (flags & 0x0c) == 0x0c;
        out.identity.target_ports = (flags & 0x10) != 0 ? 3 : 1;
        out.limits.registrations = 8;
        return out;
    }

    void outside(uint8_t what, ByteReader& input) {
        if (what == 0xff) disk_.unit->reset();
        if (what == 0xfe) disk_.unit->resize(std::clamp<uint64_t>(input.take<uint8_t>(), 200, 256));
        if (what == 0xfd) disk_.store_fault = -EIO;
        if (what == 0xfc) disk_.store_fault.reset();
        settle();
    }

    void check_end(const ScsiCommand& command) {
        FUZZ_CHECK(command.next == scsi::Next::done);
        const auto& task = command.task;
        FUZZ_CHECK(task.data_in_bytes <= command.data.size());
        FUZZ_CHECK((task.status == scsi::Status::check_condition) == !task.sense.empty());
        FUZZ_CHECK(task.sense.size() <= 252);
        FUZZ_CHECK(task.status == scsi::Status::good || task.data_in_bytes == 0);
    }

    ScsiDisk disk_;
    std::vector<std::shared_ptr<scsi::Nexus>> nexuses_;
    std::vector<std::unique_ptr<ScsiCommand>> open_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    ByteReader input(data, size);
    Stream stream(input.take<uint8_t>());
    while (!input.over()) stream.one(input);
    stream.settle();
    return 0;
}
