// Persistent reservations: the life of each type, what each service action does and tells.

#include <algorithm>
#include <map>
#include <random>

#include <doctest/doctest.h>

#include "tests/unit/scsi_reserve_stand.hpp"

using namespace storctl::node::scsi;
using namespace storctl::test;

namespace {

using S = AdditionalSense;
using T = ReservationType;

constexpr S nothing = S::no_additional_sense_information;
using Keys = std::vector<uint64_t>;

}  // namespace

TEST_CASE("REGISTER") {
    ReserveStand stand;
    CHECK(stand.out(*stand.a, Reserve::register_key, {.key = 9, .service_key = 1}) == Status::reservation_conflict);
    stand.good(*stand.a, Reserve::register_key, {.service_key = 1});
    CHECK(stand.keys() == Keys{1});
    CHECK(get_be32(stand.in(0), 0) == 1);
    CHECK(stand.out(*stand.a, Reserve::register_key, {.service_key = 5}) == Status::reservation_conflict);
    CHECK(stand.out(*stand.a, Reserve::register_key, {.key = 2, .service_key = 5}) == Status::reservation_conflict);
    stand.good(*stand.a, Reserve::register_key, {.key = 1, .service_key = 5, .flags = 1});
    CHECK(stand.state().persists);
    CHECK(stand.keys() == Keys{5});
    stand.good(*stand.b, Reserve::register_and_ignore, {.key = 77, .service_key = 5});
    stand.good(*stand.b, Reserve::register_and_ignore, {.key = 78, .service_key = 6});
    CHECK_FALSE(stand.state().persists);
    CHECK(stand.keys() == Keys{5, 6});
    stand.good(*stand.a, Reserve::register_key, {.key = 5});
    CHECK(stand.keys() == Keys{6});
    CHECK(get_be32(stand.in(0), 0) == 5);
    stand.good(*stand.a, Reserve::register_key, {});  // of nobody, nothing
    CHECK(stand.keys() == Keys{6});
    CHECK(stand.disk.stored == stand.state());
    for (auto* nexus : {stand.a.get(), stand.b.get(), stand.c.get()}) CHECK(stand.told(*nexus) == nothing);
}

TEST_CASE("registrations have a limit") {
    ReserveStand stand;
    stand.begin({});
    stand.good(*stand.disk.attach("d"), Reserve::register_key, {.service_key = 4});
    const auto command = stand.send(*stand.disk.attach("e"), Reserve::register_key, {.service_key = 5});
    CHECK(command->code() == S::insufficient_registration_resources);
    CHECK(stand.keys() == Keys{1, 2, 3, 4});
    stand.good(*stand.a, Reserve::register_key, {.key = 1, .service_key = 9});
}

TEST_CASE("the life of each type") {
    for (const T type : reservation_types) {
        CAPTURE(storctl::to_text(type));
        const auto code = static_cast<uint8_t>(type);
        ReserveStand stand;
        stand.begin({});
        const auto generation = stand.state().generation;
        CHECK(stand.in(1).size() == 8);
        CHECK(stand.out(*stand.a, Reserve::reserve, {.key = 2}, code) == Status::reservation_conflict);
        stand.good(*stand.a, Reserve::reserve, {.key = 1}, code);
        const auto reservation = stand.in(1);
        REQUIRE(reservation.size() == 24);
        CHECK(get_be64(reservation, 8) == (for_all_registrants(type) ? 0 : 1));
        CHECK(reservation[21] == code);
        const auto version = stand.state().version;
        stand.good(*stand.a, Reserve::reserve, {.key = 1}, code);  // again: nothing to store
        CHECK(stand.state().version == version);
        const auto other = static_cast<uint8_t>(type == T::write_exclusive ? T::exclusive_access : T::write_exclusive);
        CHECK(stand.out(*stand.a, Reserve::reserve, {.key = 1}, other) == Status::reservation_conflict);
        CHECK(stand.out(*stand.b, Reserve::reserve, {.key = 2}, code) ==
              (for_all_registrants(type) ? Status::good : Status::reservation_conflict));
        CHECK(stand.send(*stand.a, Reserve::release, {.key = 1}, other)->code() ==
              S::invalid_release_of_persistent_reservation);
        CHECK(stand.send(*stand.a, Reserve::release, {.key = 1}, static_cast<uint8_t>(code | 0x10))->code() ==
              S::invalid_release_of_persistent_reservation);
        CHECK(stand.out(*stand.a, Reserve::release, {.key = 7}, code) == Status::reservation_conflict);
        if (!for_all_registrants(type)) {
            stand.good(*stand.b, Reserve::release, {.key = 2}, code);  // not the holder: nothing
            CHECK(stand.state().type == type);
        }
        stand.good(*stand.a, Reserve::release, {.key = 1}, code);
        CHECK_FALSE(stand.state().type);
        CHECK(stand.told(*stand.a) == nothing);
        CHECK(stand.told(*stand.b) == (for_registrants(type) ? S::reservations_released : nothing));
        CHECK(stand.told(*stand.b) == nothing);
        CHECK(stand.state().generation == generation);
        stand.good(*stand.a, Reserve::release, {.key = 1}, code);
    }
}

TEST_CASE("RESERVE of what is no scope or type") {
    ReserveStand stand;
    stand.begin({});
    for (const uint8_t code : {0, 2, 4, 9, 15})
        CHECK(stand.send(*stand.a, Reserve::reserve, {.key = 1}, code)->code() == S::invalid_field_in_cdb);
    CHECK(stand.send(*stand.a, Reserve::reserve, {.key = 1}, 0x11)->code() == S::invalid_field_in_cdb);
    CHECK(stand.out(*stand.disk.attach("x"), Reserve::reserve, {}, 1) == Status::reservation_conflict);
}

TEST_CASE("a holder who unregisters") {
    for (const T type : reservation_types) {
        CAPTURE(storctl::to_text(type));
        ReserveStand stand;
        stand.begin(type);
        stand.good(*stand.a, Reserve::register_key, {.key = 1});
        CHECK(stand.state().type.has_value() == for_all_registrants(type));
        const bool only = for_registrants(type) && !for_all_registrants(type);
        CHECK(stand.told(*stand.b) == (only ? S::reservations_released : nothing));
        if (!for_all_registrants(type)) continue;
        stand.good(*stand.b, Reserve::register_key, {.key = 2});
        CHECK(stand.state().type == type);
        stand.good(*stand.c, Reserve::register_key, {.key = 3});
        CHECK_FALSE(stand.state().type);
    }
}

TEST_CASE("CLEAR") {
    ReserveStand stand;
    stand.begin(T::exclusive_access);
    CHECK(stand.out(*stand.b, Reserve::clear, {.key = 1}) == Status::reservation_conflict);
    stand.good(*stand.b, Reserve::clear, {.key = 2});
    CHECK(stand.keys().empty());
    CHECK_FALSE(stand.state().type);
    CHECK(stand.state().generation == 4);
    CHECK(stand.told(*stand.b) == nothing);
    CHECK(stand.told(*stand.c) == S::reservations_preempted);
}

TEST_CASE("PREEMPT of the reservation") {
    for (const T type : reservation_types) {
        for (const T next : reservation_types) {
            CAPTURE(storctl::to_text(type));
            CAPTURE(storctl::to_text(next));
            ReserveStand stand;
            stand.begin(type);
            const uint64_t victim = for_all_registrants(type) ? 0 : 1;
            stand.good(*stand.b, Reserve::preempt, {.key = 2, .service_key = victim}, static_cast<uint8_t>(next));
            CHECK(stand.state().type == next);
            CHECK(stand.state().holds({"iqn.2026-01.test:b", 1}));
            CHECK_FALSE(stand.state().holds({"iqn.2026-01.test:a", 1}));
            CHECK(stand.keys() == (victim == 0 ? Keys{2} : Keys{2, 3}));
            CHECK(stand.state().generation == 4);
            CHECK(stand.told(*stand.c) == (victim == 0    ? S::registrations_preempted
                                           : next != type ? S::reservations_released
                                                          : nothing));
        }
    }
}

TEST_CASE("PREEMPT of registrations") {
    ReserveStand stand;
    SUBCASE("of others") {
        stand.begin(T::write_exclusive);
        stand.good(*stand.b, Reserve::preempt, {.key = 2, .service_key = 3}, 3);
        CHECK(stand.keys() == Keys{1, 2});
        CHECK(stand.state().type == T::write_exclusive);
        CHECK(stand.told(*stand.c) == S::registrations_preempted);
        CHECK(stand.told(*stand.b) == nothing);
    }
    SUBCASE("of nobody") {
        stand.begin({});
        CHECK(stand.out(*stand.b, Reserve::preempt, {.key = 2, .service_key = 9}, 1) == Status::reservation_conflict);
        CHECK(stand.out(*stand.b, Reserve::preempt, {.key = 1, .service_key = 3}, 1) == Status::reservation_conflict);
        CHECK(stand.send(*stand.b, Reserve::preempt, {.key = 2}, 1)->code() == S::invalid_field_in_parameter_list);
    }
    SUBCASE("of all registrants, by key") {
        stand.begin(T::write_exclusive_all_registrants);
        stand.good(*stand.b, Reserve::preempt, {.key = 2, .service_key = 3}, 1);
        CHECK(stand.state().type == T::write_exclusive_all_registrants);
        CHECK(stand.keys() == Keys{1, 2});
    }
    SUBCASE("a holder preempts himself: another type") {
        stand.begin(T::write_exclusive);
        stand.good(*stand.a, Reserve::preempt, {.key = 1, .service_key = 1}, 6);
        CHECK(stand.state().type == T::exclusive_access_registrants_only);
        CHECK(stand.keys() == Keys{1, 2, 3});
        CHECK(stand.told(*stand.b) == S::reservations_released);
    }
}

TEST_CASE("SPEC_I_PT registers others, known or not") {
    ReserveStand stand;
    const std::string b = "iqn.2026-01.test:b", far = "iqn.far,i,0x1234";
    stand.good(*stand.a, Reserve::register_key, {.service_key = 7, .flags = 8, .initiators = {b, far}});
    CHECK(stand.keys() == Keys{7, 7, 7});
    CHECK(stand.state().registration({far, 1})->key == 7);
    const auto again =
        stand.send(*stand.a, Reserve::register_key, {.key = 7, .service_key = 8, .flags = 8, .initiators = {b}});
    CHECK(again->code() == S::invalid_field_in_parameter_list);
    CHECK(stand.send(*stand.c, Reserve::register_key, {.service_key = 8, .flags = 8, .initiators = {b}})->code() ==
          S::invalid_field_in_parameter_list);
    CHECK(stand.send(*stand.c, Reserve::register_and_ignore, {.service_key = 8, .flags = 8, .initiators = {"iqn.y"}})
              ->code() == S::invalid_field_in_parameter_list);
    CHECK(stand.keys() == Keys{7, 7, 7});
}

TEST_CASE("parameter lists of wrong lengths") {
    ReserveStand stand;
    const auto list = reserve_list({.service_key = 1});
    const auto length_error = [&](const Bytes& data, size_t stated) {
        const auto command = stand.disk.run(*stand.a, reserve_cdb(Reserve::register_key, stated), data);
        return command->task.status == Status::check_condition && command->code() == S::parameter_list_length_error;
    };
    CHECK(length_error(Bytes(23), 23));
    CHECK(length_error(list, 0));
    CHECK(length_error(Bytes(25), 25));
    CHECK(length_error(list, 25));  // less came
    CHECK(length_error(Bytes(1 << 17), 1 << 17));
    auto with_ids = reserve_list({.service_key = 1, .flags = 8, .initiators = {"iqn.x"}});
    CHECK(length_error(Bytes(with_ids.begin(), with_ids.end() - 1), with_ids.size() - 1));
    with_ids[27] ^= 4;
    CHECK(length_error(with_ids, with_ids.size()));
    with_ids[27] ^= 4;
    with_ids[28] = 0x06;  // SAS
    const auto command = stand.disk.run(*stand.a, reserve_cdb(Reserve::register_key, with_ids.size()), with_ids);
    CHECK(command->code() == S::invalid_field_in_parameter_list);
    CHECK(get_be16(command->task.sense, 16) == 28);
    CHECK(stand.state() == ReservationState{});
}

TEST_CASE("ALL_TG_PT registers on every target port") {
    ReserveStand stand(3);
    stand.good(*stand.a, Reserve::register_key, {.service_key = 7, .flags = 4});
    CHECK(stand.keys() == Keys{7, 7, 7});
    const auto other_port = *stand.disk.unit->attach({"iqn.2026-01.test:a", 3}, {.power_on = false});
    stand.good(*other_port, Reserve::reserve, {.key = 7}, 1);
    CHECK(stand.disk.run(*stand.a, {0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, Bytes(512))->task.status ==
          Status::reservation_conflict);
    stand.good(*stand.a, Reserve::register_key, {.key = 7});
    CHECK(stand.keys() == Keys{7, 7});
}

TEST_CASE("REGISTER AND MOVE") {
    ReserveStand stand;
    stand.begin(T::write_exclusive);
    const auto move = [&](Nexus& from, const Bytes& list) {
        return stand.disk.run(from, reserve_cdb(Reserve::register_and_move, list.size()), list);
    };
    const std::string a = "iqn.2026-01.test:a", b = "iqn.2026-01.test:b";
    CHECK(move(*stand.b, move_list(2, 5, 0, 1, a))->task.status == Status::reservation_conflict);
    CHECK(move(*stand.a, move_list(9, 5, 0, 1, b))->task.status == Status::reservation_conflict);
    CHECK(move(*stand.a, move_list(1, 0, 0, 1, b))->code() == S::invalid_field_in_parameter_list);
    CHECK(move(*stand.a, move_list(1, 5, 0, 1, a))->code() == S::invalid_field_in_parameter_list);
    CHECK(move(*stand.a, move_list(1, 5, 0, 2, b))->code() == S::invalid_field_in_parameter_list);
    CHECK(move(*stand.a, move_list(1, 5, 0, 1, b))->task.status == Status::good);
    CHECK(stand.keys() == Keys{1, 5, 3});
    CHECK(stand.state().holder == NexusName{b, 1});
    CHECK(stand.b->standing() == Standing::holder);
    CHECK(move(*stand.b, move_list(5, 6, 3, 1, "iqn.new"))->task.status == Status::good);
    CHECK(stand.state().holder == NexusName{"iqn.new", 1});
    CHECK(stand.state().persists);
    CHECK(stand.b->standing() == Standing::unregistered);

    ReserveStand all;
    all.begin(T::write_exclusive_all_registrants);
    const auto list = move_list(1, 5, 0, 1, b);
    CHECK(all.disk.run(*all.a, reserve_cdb(Reserve::register_and_move, list.size()), list)->task.status ==
          Status::reservation_conflict);
}

TEST_CASE("PERSISTENT RESERVE IN") {
    ReserveStand stand;
    CHECK(stand.in(2) == Bytes{0, 8, 0x0d, 0x80, 0xea, 0x01, 0, 0});
    stand.good(*stand.a, Reserve::register_key, {.service_key = 0x1122334455667788, .flags = 1});
    CHECK(stand.in(2)[3] == 0x81);
    stand.good(*stand.b, Reserve::register_key, {.service_key = 2});
    stand.good(*stand.a, Reserve::reserve, {.key = 0x1122334455667788}, 5);
    const auto status = stand.in(3);
    CHECK(get_be32(status, 4) == status.size() - 8);
    CHECK(get_be64(status, 8) == 0x1122334455667788);
    CHECK(status[20] == 1);
    CHECK(status[21] == 5);
    CHECK(get_be16(status, 26) == 1);
    const auto id = decode_transport_id(ByteView(status).subspan(32));
    REQUIRE(id);
    CHECK(id->initiator == "iqn.2026-01.test:a");
    CHECK(id->bytes == get_be32(status, 28));
    const auto second = 32 + id->bytes;
    CHECK(get_be64(status, second) == 2);
    CHECK(status[second + 12] == 0);
    CHECK(stand.in(0, 11).size() == 11);
    CHECK(get_be32(stand.in(0, 8), 4) == 16);
}

TEST_CASE("TransportIDs") {
    for (const std::string& name : {std::string("i"), std::string("iqn.2026-01.test:a"), std::string(240, 'x'),
                                    std::string("iqn.x,i,0x00023d000001")}) {
        CAPTURE(name);
        const auto bytes = encode_transport_id(name);
        CHECK(bytes.size() % 4 == 0);
        CHECK(bytes.size() >= 24);
        const auto back = decode_transport_id(bytes);
        REQUIRE(back);
        CHECK(back->initiator == name);
        CHECK(back->bytes == bytes.size());
        for (size_t cut = 0; cut < bytes.size(); ++cut) CHECK_FALSE(decode_transport_id(ByteView(bytes).first(cut)));
    }
    auto unterminated = encode_transport_id(std::string(23, 'x'));
    CHECK(decode_transport_id(unterminated));
    unterminated.back() = 'x';
    CHECK_FALSE(decode_transport_id(unterminated));
    auto port = encode_transport_id("iqn.x");
    port[0] |= 0x40;
    CHECK_FALSE(decode_transport_id(port));
}

TEST_CASE("what is left after a loss of power") {
    ReserveStand stand;
    stand.begin(T::write_exclusive);
    auto left = after_power_loss(stand.state());
    CHECK(left.registrations.empty());
    CHECK_FALSE(left.type);
    CHECK(left.version > stand.state().version);
    stand.good(*stand.a, Reserve::register_key, {.key = 1, .service_key = 4, .flags = 1});
    left = after_power_loss(stand.state());
    CHECK(left.registrations == stand.state().registrations);
    CHECK(left.holder == stand.state().holder);
    CHECK(left.generation == 0);
    auto configuration = ReserveStand::configuration(1);
    configuration.reservations = left;
    ScsiDisk again(configuration);
    CHECK(again.attach("a")->standing() == Standing::holder);
    CHECK(again.attach("b")->standing() == Standing::registered);
    CHECK(again.attach("x")->standing() == Standing::unregistered);
    CHECK(again.unit->refuses(Standing::unregistered, Access::changes));
    CHECK_FALSE(again.unit->refuses(Standing::unregistered, Access::reads));
}

TEST_CASE("stored states that do not hold together are refused") {
    const Registration a{{"a", 1}, 1}, b{{"b", 1}, 2};
    CHECK(check(ReservationState{.type = T::write_exclusive, .holder = a.nexus, .registrations = {a, b}}));
    CHECK(check(ReservationState{.type = T::write_exclusive_all_registrants, .registrations = {a}}));
    CHECK_FALSE(check(ReservationState{.registrations = {b, a}}));
    CHECK_FALSE(check(ReservationState{.registrations = {a, a}}));
    CHECK_FALSE(check(ReservationState{.holder = a.nexus, .registrations = {a}}));
    CHECK_FALSE(check(ReservationState{.type = T::write_exclusive, .registrations = {a}}));
    CHECK_FALSE(check(ReservationState{.type = T::write_exclusive, .holder = b.nexus, .registrations = {a}}));
    CHECK_FALSE(
        check(ReservationState{.type = T::write_exclusive_all_registrants, .holder = a.nexus, .registrations = {a}}));
    CHECK_FALSE(check(ReservationState{.type = T::exclusive_access_all_registrants}));
    CHECK_FALSE(check(ReservationState{.type = static_cast<T>(2), .holder = a.nexus, .registrations = {a}}));
}

TEST_CASE("random service actions keep the state whole") {
    const uint64_t seed = std::random_device{}();
    MESSAGE("seed " << seed);
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    ReserveStand stand(2);
    const auto second = *stand.disk.unit->attach({"iqn.2026-01.test:a", 2}, {.power_on = false});
    Nexus* const nexuses[] = {stand.a.get(), stand.b.get(), stand.c.get(), second.get()};
    int done = 0;
    for (int i = 0; i < 20000; ++i) {
        Nexus& nexus = *nexuses[random() % 4];
        const auto action = static_cast<Reserve>(random() % 8);
        const auto* own = stand.state().registration(nexus.name());
        const uint64_t key = own != nullptr && random() % 8 != 0 ? own->key : random() % 3;
        const auto list =
            action == Reserve::register_and_move
                ? move_list(key, random() % 4, random() % 4, 1 + random() % 2, nexuses[random() % 4]->name().initiator)
                : reserve_list(
                      {.key = key, .service_key = random() % 4, .flags = static_cast<uint8_t>(random() % 8 & 5)});
        const auto before = stand.state();
        while (stand.told(nexus) != nothing) continue;
        // the disk checks each state that is stored, and that versions grow
        const auto command = stand.disk.run(nexus, reserve_cdb(action, list.size(), random() % 10), list);
        const auto& after = stand.state();
        if (command->task.status != Status::good) CHECK(after == before);
        if (command->task.status == Status::good) ++done;
        CHECK((after.version != before.version || after == before));
        CHECK(after.registrations.size() <= 4);
        for (const auto* each : nexuses) CHECK(each->standing() == standing_of(after, each->name()));
    }
    CHECK(done > 1000);
}
