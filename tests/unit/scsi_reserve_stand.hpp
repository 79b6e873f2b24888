#pragma once
// A disk with three nexuses and a reader, for tests of persistent reservations.

#include <doctest/doctest.h>

#include "tests/unit/scsi_reserve.hpp"

namespace storctl::test {

inline constexpr scsi::ReservationType reservation_types[] = {scsi::ReservationType::write_exclusive,
                                                              scsi::ReservationType::exclusive_access,
                                                              scsi::ReservationType::write_exclusive_registrants_only,
                                                              scsi::ReservationType::exclusive_access_registrants_only,
                                                              scsi::ReservationType::write_exclusive_all_registrants,
                                                              scsi::ReservationType::exclusive_access_all_registrants};

struct ReserveStand {
    ScsiDisk disk;
    std::shared_ptr<scsi::Nexus> a, b, c, reader;

    explicit ReserveStand(uint16_t ports = 1)
        : disk(configuration(ports)),
          a(disk.attach("a")),
          b(disk.attach("b")),
          c(disk.attach("c")),
          reader(disk.attach("reader")) {}
    static scsi::UnitConfiguration configuration(uint16_t ports) {
        auto out = scsi_configuration();
        out.identity.target_ports = ports;
        out.limits.registrations = 4;
        return out;
    }
    auto send(scsi::Nexus& nexus, Reserve action, ReserveParameters parameters, uint8_t type = 0) {
        const auto list = reserve_list(parameters);
        return disk.run(nexus, reserve_cdb(action, list.size(), type), list);
    }
    scsi::Status out(scsi::Nexus& nexus, Reserve action, ReserveParameters parameters, uint8_t type = 0) {
        return send(nexus, action, std::move(parameters), type)->task.status;
    }
    void good(scsi::Nexus& nexus, Reserve action, ReserveParameters parameters, uint8_t type = 0) {
        REQUIRE(out(nexus, action, std::move(parameters), type) == scsi::Status::good);
    }
    /// a, b and c with the keys 1, 2 and 3; a reserves.
    void begin(std::optional<scsi::ReservationType> type) {
        good(*a, Reserve::register_key, {.service_key = 1});
        good(*b, Reserve::register_key, {.service_key = 2});
        good(*c, Reserve::register_key, {.service_key = 3});
        if (type) good(*a, Reserve::reserve, {.key = 1}, static_cast<uint8_t>(*type));
    }
    /// The next unit attention of a nexus, if there is one.
    scsi::AdditionalSense told(scsi::Nexus& nexus) {
        const auto command = disk.run(nexus, scsi::Bytes(6));
        return command->task.status == scsi::Status::good ? scsi::AdditionalSense::no_additional_sense_information
                                                          : command->code();
    }
    /// Asked by one who is told nothing.
    scsi::Bytes in(uint8_t action, uint16_t length = 0xffff) {
        scsi::Bytes cdb = {0x5e, action, 0, 0, 0, 0, 0};
        scsi::append_be(cdb, length, 2);
        cdb.push_back(0);
        const auto command = disk.run(*reader, cdb);
        REQUIRE(command->task.status == scsi::Status::good);
        return command->answer();
    }
    const scsi::ReservationState& state() const { return disk.unit->reservations(); }
    std::vector<uint64_t> keys() {
        const auto data = in(0);
        std::vector<uint64_t> out;
        for (size_t at = 8; at < data.size(); at += 8) out.push_back(scsi::get_be64(data, at));
        return out;
    }
};

}  // namespace storctl::test
