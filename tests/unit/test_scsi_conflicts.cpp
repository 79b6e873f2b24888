// The tables of SPC-5 and SBC-4: what a persistent reservation leaves of each command, and of each service action, to
// whom.

#include <map>

#include <doctest/doctest.h>

#include "tests/unit/scsi_reserve_stand.hpp"

using namespace storctl::node::scsi;
using namespace storctl::test;

namespace {

using T = ReservationType;

/// The tables' lines: free, as reads, as changes. START STOP UNIT has two.
struct Line {
    const char* name;
    Bytes cdb;
    char column;  // F: allowed; R: allowed but for Exclusive Access; C: conflict
};

Bytes cdb_of(std::initializer_list<uint8_t> head, size_t length) {
    Bytes out(head);
    out.resize(length);
    return out;
}

const std::vector<Line>& lines() {
    static const std::vector<Line> all = {
        {"TEST UNIT READY", cdb_of({0x00}, 6), 'F'},
        {"REQUEST SENSE", cdb_of({0x03}, 6), 'F'},
        {"READ(6)", cdb_of({0x08, 0, 0, 0, 1}, 6), 'R'},
        {"WRITE(6)", cdb_of({0x0a, 0, 0, 0, 1}, 6), 'C'},
        {"INQUIRY", cdb_of({0x12}, 6), 'F'},
        {"MODE SELECT(6)", cdb_of({0x15, 0x10}, 6), 'C'},
        {"MODE SENSE(6)", cdb_of({0x1a, 0, 0x3f}, 6), 'R'},
        {"START STOP UNIT, START", cdb_of({0x1b, 0, 0, 0, 1}, 6), 'F'},
        {"START STOP UNIT, stop", cdb_of({0x1b, 0, 0, 0, 0}, 6), 'C'},
        {"START STOP UNIT, power condition", cdb_of({0x1b, 0, 0, 0, 0x11}, 6), 'C'},
        {"SEND DIAGNOSTIC", cdb_of({0x1d, 4}, 6), 'C'},
        {"READ CAPACITY(10)", cdb_of({0x25}, 10), 'F'},
        {"READ(10)", cdb_of({0x28, 0, 0, 0, 0, 0, 0, 0, 1}, 10), 'R'},
        {"WRITE(10)", cdb_of({0x2a, 0, 0, 0, 0, 0, 0, 0, 1}, 10), 'C'},
        {"WRITE AND VERIFY(10)", cdb_of({0x2e, 0, 0, 0, 0, 0, 0, 0, 1}, 10), 'C'},
        {"VERIFY(10)", cdb_of({0x2f, 0, 0, 0, 0, 0, 0, 0, 1}, 10), 'R'},
        {"VERIFY(10) with data", cdb_of({0x2f, 2, 0, 0, 0, 0, 0, 0, 1}, 10), 'R'},
        {"PRE-FETCH(10)", cdb_of({0x34}, 10), 'R'},
        {"SYNCHRONIZE CACHE(10)", cdb_of({0x35}, 10), 'C'},
        {"WRITE SAME(10)", cdb_of({0x41, 0, 0, 0, 0, 0, 0, 0, 1}, 10), 'C'},
        {"UNMAP", cdb_of({0x42}, 10), 'C'},
        {"LOG SENSE", cdb_of({0x4d, 0, 0x40}, 10), 'F'},
        {"MODE SELECT(10)", cdb_of({0x55, 0x10}, 10), 'C'},
        {"MODE SENSE(10)", cdb_of({0x5a, 0, 0x3f}, 10), 'R'},
        {"READ KEYS", cdb_of({0x5e, 0}, 10), 'F'},
        {"READ RESERVATION", cdb_of({0x5e, 1}, 10), 'F'},
        {"REPORT CAPABILITIES", cdb_of({0x5e, 2}, 10), 'F'},
        {"READ FULL STATUS", cdb_of({0x5e, 3}, 10), 'F'},
        {"READ(16)", cdb_of({0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 16), 'R'},
        {"COMPARE AND WRITE", cdb_of({0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 16), 'C'},
        {"WRITE(16)", cdb_of({0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 16), 'C'},
        {"WRITE AND VERIFY(16)", cdb_of({0x8e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 16), 'C'},
        {"VERIFY(16)", cdb_of({0x8f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 16), 'R'},
        {"PRE-FETCH(16)", cdb_of({0x90}, 16), 'R'},
        {"SYNCHRONIZE CACHE(16)", cdb_of({0x91}, 16), 'C'},
        {"WRITE SAME(16)", cdb_of({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 16), 'C'},
        {"READ CAPACITY(16)", cdb_of({0x9e, 0x10}, 16), 'F'},
        {"GET LBA STATUS", cdb_of({0x9e, 0x12}, 16), 'R'},
        {"REPORT LUNS", cdb_of({0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16}, 12), 'F'},
        {"REPORT SUPPORTED OPERATION CODES", cdb_of({0xa3, 0x0c}, 12), 'R'},
        {"REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", cdb_of({0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 16}, 12), 'R'},
        {"READ(12)", cdb_of({0xa8, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 12), 'R'},
        {"WRITE(12)", cdb_of({0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 12), 'C'},
        {"WRITE AND VERIFY(12)", cdb_of({0xae, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 12), 'C'},
        {"VERIFY(12)", cdb_of({0xaf, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 12), 'R'},
    };
    return all;
}

enum class Who { holder, registered, unregistered };

/// The columns of SPC-5's table: of the plain types "from any I_T nexus", else by registration.
bool allowed(T type, Who who, char column) {
    if (who == Who::holder || column == 'F') return true;
    const bool exclusive_access = type == T::exclusive_access || type == T::exclusive_access_registrants_only ||
                                  type == T::exclusive_access_all_registrants;
    const bool plain = type == T::write_exclusive || type == T::exclusive_access;
    if (!plain && who == Who::registered) return true;
    return column == 'R' && !exclusive_access;
}

}  // namespace

TEST_CASE("every type, every command, everybody") {
    std::map<const CommandRow*, int> seen;
    for (const T type : reservation_types) {
        for (const Who who : {Who::holder, Who::registered, Who::unregistered}) {
            for (const auto& line : lines()) {
                CAPTURE(storctl::to_text(type));
                CAPTURE(static_cast<int>(who));
                CAPTURE(line.name);
                ReserveStand stand;
                stand.begin(type);
                const auto stranger = stand.disk.attach("stranger");
                Nexus& nexus = who == Who::holder ? *stand.a : who == Who::registered ? *stand.b : *stranger;
                stand.disk.operations.clear();
                const auto before = stand.disk.memory;
                const auto command = stand.disk.run(nexus, line.cdb, Bytes(1024));
                const bool conflict = command->task.status == Status::reservation_conflict;
                CHECK(conflict == !allowed(type, who, line.column));
                if (conflict) {
                    CHECK(stand.disk.operations.empty());
                    CHECK(stand.disk.memory == before);
                    CHECK(command->task.sense.empty());
                }
                ++seen[find_command(line.cdb, stand.disk.unit->geometry()).row];
            }
        }
    }
    for (const auto& row : all_commands()) {
        CAPTURE(int{row.opcode});
        CHECK((seen.contains(&row) || row.command == Command::persistent_reserve_out));
    }
}

TEST_CASE("every type, every service action, everybody") {
    for (const T type : reservation_types) {
        for (const Who who : {Who::holder, Who::registered, Who::unregistered}) {
            for (int action = 0; action < 8; ++action) {
                CAPTURE(storctl::to_text(type));
                CAPTURE(static_cast<int>(who));
                CAPTURE(action);
                ReserveStand stand;
                stand.begin(type);
                const auto stranger = stand.disk.attach("stranger");
                Nexus& nexus = who == Who::holder ? *stand.a : who == Who::registered ? *stand.b : *stranger;
                const uint64_t key = who == Who::holder ? 1 : who == Who::registered ? 2 : 0;
                const auto service = static_cast<Reserve>(action);
                const auto list = service == Reserve::register_and_move ? move_list(key, 8, 0, 1, "iqn.new")
                                                                        : reserve_list({.key = key, .service_key = 3});
                const auto command =
                    stand.disk.run(nexus, reserve_cdb(service, list.size(), static_cast<uint8_t>(type)), list);
                bool expected = who == Who::unregistered;
                if (service == Reserve::register_key || service == Reserve::register_and_ignore) expected = false;
                if (service == Reserve::reserve && who == Who::registered) expected = !for_all_registrants(type);
                if (service == Reserve::register_and_move) expected = who != Who::holder || for_all_registrants(type);
                CHECK(command->task.status == (expected ? Status::reservation_conflict : Status::good));
            }
        }
    }
}
