// Sessions of a USB node over a fake usbfs file. Everything that moves data runs twice: with the caller's memory at
// hand, and in legs, as for a caller whose memory may not be touched.

#include <doctest/doctest.h>

#include "tests/unit/fake_usbfs.hpp"

using namespace storctl::node::usbfs;
using namespace storctl::node::usbfs::testing;

namespace {

/// A device with one configuration: interface 0 (vendor class; bulk 81 and 02), interface 1 (DFU).
const std::vector<uint8_t> descriptors = {
    18, 1,    0x00, 0x02, 0, 0,    0, 64,   0x34, 0x12, 0x78, 0x56, 0, 1, 0, 0, 0, 1,  // device
    9,  2,    50,   0,    2, 1,    0, 0x80, 50,                                        // configuration
    9,  4,    0,    0,    2, 0xff, 0, 0,    0,                                         // interface 0
    7,  5,    0x81, 2,    0, 2,    0,                                                  //
    7,  5,    0x02, 2,    0, 2,    0,                                                  //
    9,  4,    1,    0,    0, 0xfe, 1, 1,    0,                                         // interface 1
    9,  0x21, 1,    0,    0, 0,    2, 0x10, 1,                                         // DFU functional
};

constexpr uint64_t urb_address = FakeProcess::base + 0x1000;
constexpr uint64_t data_address = FakeProcess::base + 0x10000;
constexpr uint64_t pointer_address = FakeProcess::base + 0x800;

struct Stand {
    enum class Way { direct, legs };

    Way way;
    std::shared_ptr<FakeKernel> kernel = std::make_shared<FakeKernel>();
    FakeProcess process;
    Statistics statistics;
    std::vector<std::string> denials;
    int completions = 0;
    std::unique_ptr<Filter> filter;
    std::unique_ptr<Session> session;

    explicit Stand(Way the_way, Policy policy = {}, bool writable = true)
        : way(the_way), filter(std::make_unique<Filter>(std::move(policy), descriptors)) {
        session = std::make_unique<Session>(
            std::make_unique<FakeDevice>(kernel),
            SessionContext{.filter = *filter,
                           .statistics = statistics,
                           .denied = [this](const std::string& what) { denials.push_back(what); },
                           .completed = [this] { ++completions; },
                           .now_ns = [] { return uint64_t{0}; }},
            writable, 1);
    }

    int ioctl(unsigned long number, uint64_t argument) {
        if (way == Way::legs) return ioctl_in_legs(*session, process, static_cast<uint32_t>(number), argument);
        DirectMemory memory(process);
        return session->ioctl(static_cast<uint32_t>(number), argument, Layout::bits64, memory);
    }

    usbdevfs_urb urb(uint8_t type, uint8_t endpoint, size_t length) {
        usbdevfs_urb out{};
        out.type = type;
        out.endpoint = endpoint;
        out.buffer = reinterpret_cast<void*>(data_address);
        out.buffer_length = static_cast<int>(length);
        out.usercontext = reinterpret_cast<void*>(0x77);
        out.status = 0x55;
        return out;
    }
    int submit(const usbdevfs_urb& urb, uint64_t at = urb_address) {
        process.put(at, urb);
        return ioctl(USBDEVFS_SUBMITURB, at);
    }
    /// A control request's setup packet and data stage, at data_address.
    usbdevfs_urb control_urb(const std::array<uint8_t, 8>& setup) {
        process.put(data_address, setup);
        return urb(USBDEVFS_URB_TYPE_CONTROL, 0, 8u + setup[6] + setup[7] * 256u);
    }
    usbdevfs_urb* at_device() { return kernel->submitted.empty() ? nullptr : kernel->submitted.front(); }
};

const auto ways = {Stand::Way::direct, Stand::Way::legs};

std::vector<uint8_t> counting(size_t length) {
    std::vector<uint8_t> out(length);
    for (size_t i = 0; i < length; ++i) out[i] = static_cast<uint8_t>(i * 7 + i / 256);
    return out;
}

}  // namespace

TEST_CASE("a URB to the host brings its data and its results, and nothing else is written") {
    for (const auto way : ways) {
        for (const size_t length : {size_t{0}, size_t{1}, size_t{13}, size_t{512}, size_t{100'000}}) {
            CAPTURE(length);
            Stand stand(way);
            REQUIRE(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x81, length)) == 0);
            usbdevfs_urb* const real = stand.at_device();
            REQUIRE(real != nullptr);
            CHECK(real->buffer_length == static_cast<int>(length));
            CHECK(real->signr == 0);
            CHECK(stand.ioctl(USBDEVFS_REAPURBNDELAY, pointer_address) == -EAGAIN);
            const auto data = counting(length / 2);
            stand.kernel->complete(real, length / 2 < length ? -EREMOTEIO : 0, data);
            const auto before = stand.process.memory;
            CHECK(stand.session->poll() == (POLLOUT | POLLWRNORM));
            REQUIRE(stand.ioctl(USBDEVFS_REAPURBNDELAY, pointer_address) == 0);
            CHECK(stand.process.get<uint64_t>(pointer_address) == urb_address);
            const auto reaped = stand.process.get<usbdevfs_urb>(urb_address);
            CHECK(reaped.status == (length > 0 ? -EREMOTEIO : 0));
            CHECK(reaped.actual_length == static_cast<int>(data.size()));
            CHECK(reaped.usercontext == reinterpret_cast<void*>(0x77));
            CHECK(std::memcmp(stand.process.at(data_address), data.data(), data.size()) == 0);
            size_t changed = 0;
            for (size_t i = 0; i < before.size(); ++i) {
                const uint64_t address = FakeProcess::base + i;
                const bool named = (address >= urb_address && address < urb_address + sizeof(usbdevfs_urb)) ||
                                   (address >= data_address && address < data_address + data.size()) ||
                                   (address >= pointer_address && address < pointer_address + 8);
                if (!named && before[i] != stand.process.memory[i]) ++changed;
            }
            CHECK(changed == 0);
            CHECK(stand.ioctl(USBDEVFS_REAPURBNDELAY, pointer_address) == -EAGAIN);
        }
    }
}

TEST_CASE("data to the device arrive whole, whatever a leg can carry") {
    for (const auto way : ways) {
        Stand stand(way);
        const auto data = counting(1 << 20);
        std::memcpy(stand.process.at(data_address), data.data(), data.size());
        REQUIRE(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x02, data.size())) == 0);
        REQUIRE(stand.at_device() != nullptr);
        CHECK(std::memcmp(stand.at_device()->buffer, data.data(), data.size()) == 0);
    }
}

TEST_CASE("what the caller changes between two looks changes nothing") {
    Stand stand(Stand::Way::legs, {.interfaces = std::set<uint8_t>{0}});
    stand.process.between_legs = [&] {
        auto urb = stand.process.get<usbdevfs_urb>(urb_address);
        urb.buffer_length = 2 << 20;
        urb.endpoint = 0x83;
        stand.process.put(urb_address, urb);
    };
    REQUIRE(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x02, 64)) == 0);
    CHECK(stand.at_device()->buffer_length == 64);
    CHECK(stand.at_device()->endpoint == 0x02);

    // and a control request is the one that was judged
    stand.kernel->submitted.clear();
    int legs = 0;
    stand.process.between_legs = [&] {
        if (++legs == 2) stand.process.put(data_address, std::array<uint8_t, 8>{0x21, 1, 0, 0, 1});
    };
    REQUIRE(stand.submit(stand.control_urb({0x80, 6, 0, 1, 0, 0, 18, 0})) == 0);
    CHECK(legs >= 2);
    REQUIRE(stand.at_device() != nullptr);
    const auto* const setup = static_cast<const uint8_t*>(stand.at_device()->buffer);
    CHECK(setup[0] == 0x80);
    CHECK(setup[1] == 6);
}

TEST_CASE("a transfer to the host that the legs could not bring back is refused before it happens") {
    Stand stand(Stand::Way::legs);
    CHECK(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x81, 1 << 20)) == -ENOMEM);
    CHECK(stand.kernel->submitted.empty());
    REQUIRE(stand.ioctl(USBDEVFS_GET_CAPABILITIES, data_address) == 0);
    CHECK(stand.process.get<uint32_t>(data_address) == (0xffu & ~0x6cu));
    Stand direct(Stand::Way::direct);
    CHECK(direct.submit(direct.urb(USBDEVFS_URB_TYPE_BULK, 0x81, 1 << 20)) == 0);
    REQUIRE(direct.ioctl(USBDEVFS_GET_CAPABILITIES, data_address) == 0);
    CHECK(direct.process.get<uint32_t>(data_address) == (0xffu & ~0x60u));
}

TEST_CASE("isochronous packets come back one by one") {
    for (const auto way : ways) {
        Stand stand(way);
        std::vector<std::byte> bytes(sizeof(usbdevfs_urb) + 3 * sizeof(usbdevfs_iso_packet_desc));
        auto header = stand.urb(USBDEVFS_URB_TYPE_ISO, 0x81, 0);
        header.number_of_packets = 3;
        stand.process.put(urb_address, header);
        for (unsigned i = 0; i < 3; ++i) {
            stand.process.put(urb_address + sizeof header + i * 12, usbdevfs_iso_packet_desc{100 + i, 1, 2});
        }
        REQUIRE(stand.ioctl(USBDEVFS_SUBMITURB, urb_address) == 0);
        usbdevfs_urb* const real = stand.at_device();
        CHECK(real->buffer_length == 303);
        for (unsigned i = 0; i < 3; ++i) {
            CHECK(real->iso_frame_desc[i].length == 100 + i);
            real->iso_frame_desc[i].actual_length = 10 + i;
            real->iso_frame_desc[i].status = i == 1 ? 0xffff'ffb5u : 0;
        }
        stand.kernel->complete(real, 0, counting(303));
        REQUIRE(stand.ioctl(USBDEVFS_REAPURB, pointer_address) == 0);
        for (unsigned i = 0; i < 3; ++i) {
            const auto packet = stand.process.get<usbdevfs_iso_packet_desc>(urb_address + sizeof header + i * 12);
            CHECK(packet.length == 100 + i);
            CHECK(packet.actual_length == 10 + i);
            CHECK(packet.status == (i == 1 ? 0xffff'ffb5u : 0));
        }
        CHECK(std::memcmp(stand.process.at(data_address), counting(303).data(), 303) == 0);
    }
}

TEST_CASE("what no URB can be is refused before the device hears of it") {
    for (const auto way : ways) {
        Stand stand(way);
        struct Row {
            const char* name;
            std::function<void(usbdevfs_urb&)> spoil;
            int answer;
        };
        const std::vector<Row> rows = {
            {"a negative length", [](auto& u) { u.buffer_length = -1; }, -EINVAL},
            {"an unknown type", [](auto& u) { u.type = 9; }, -EINVAL},
            {"no packets", [](auto& u) { u.type = 0; }, -EINVAL},
            {"too many packets", [](auto& u) { u.type = 0, u.number_of_packets = 129; }, -EINVAL},
            {"negatively many packets", [](auto& u) { u.type = 0, u.number_of_packets = -1; }, -EINVAL},
            {"more than there is memory for", [](auto& u) { u.buffer_length = 0x7fff'ffff; }, -ENOMEM},
            {"no buffer", [](auto& u) { u.buffer = nullptr; }, -EINVAL},
            {"a buffer that is not there", [](auto& u) { u.buffer = reinterpret_cast<void*>(8); }, -EFAULT},
            {"a control request without a setup packet", [](auto& u) { u.type = 2, u.buffer_length = 7; }, -EINVAL},
        };
        for (const auto& row : rows) {
            CAPTURE(row.name);
            auto urb = stand.urb(USBDEVFS_URB_TYPE_BULK, 0x02, 512);
            row.spoil(urb);
            CHECK(stand.submit(urb) == row.answer);
            CHECK(stand.kernel->submitted.empty());
        }
        CHECK(stand.ioctl(USBDEVFS_SUBMITURB, 0x10) == -EFAULT);
        CHECK(stand.ioctl(USBDEVFS_DISCARDURB, urb_address) == -EINVAL);
        CHECK(stand.ioctl(0xdead, 0) == -ENOTTY);
        CHECK(stand.ioctl(USBDEVFS_CLAIM_PORT, data_address) == -ENOTTY);
        CHECK(stand.ioctl(USBDEVFS_DROP_PRIVILEGES, data_address) == -ENOTTY);
        CHECK(stand.kernel->mapped == 0);
    }
}

TEST_CASE("a file opened for reading has descriptors and no more") {
    Stand stand(Stand::Way::direct, {}, false);
    CHECK(stand.ioctl(USBDEVFS_GET_CAPABILITIES, data_address) == -EPERM);
    CHECK(stand.kernel->calls.empty());
    CHECK(stand.session->read(256).size() == descriptors.size());
    CHECK(stand.session->read(256).empty());
    CHECK(stand.session->read(18).size() == 18);
    CHECK(stand.session->read(256).size() == descriptors.size() - 18);
}

TEST_CASE("reading begins anew where libusb begins") {
    Stand stand(Stand::Way::direct);
    CHECK(stand.session->read(30).size() == 30);
    stand.ioctl(USBDEVFS_GET_SPEED, 0);
    CHECK(stand.session->read(256).size() == descriptors.size());
}

TEST_CASE("a discarded URB comes back cancelled, once") {
    for (const auto way : ways) {
        Stand stand(way);
        REQUIRE(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x81, 512)) == 0);
        CHECK(stand.ioctl(USBDEVFS_DISCARDURB, urb_address + 8) == -EINVAL);
        REQUIRE(stand.ioctl(USBDEVFS_DISCARDURB, urb_address) == 0);
        REQUIRE(stand.ioctl(USBDEVFS_REAPURBNDELAY, pointer_address) == 0);
        CHECK(stand.process.get<usbdevfs_urb>(urb_address).status == -ENOENT);
        CHECK(stand.ioctl(USBDEVFS_DISCARDURB, urb_address) == -EINVAL);
    }
}

TEST_CASE("a request that the policy denies stalls, as with a device that does not know it") {
    for (const auto way : ways) {
        Stand stand(way);
        // DFU_DNLOAD to interface 1
        auto urb = stand.control_urb({0x21, 1, 0, 0, 1, 0, 4, 0});
        REQUIRE(stand.submit(urb) == 0);
        CHECK(stand.kernel->submitted.empty());
        CHECK(stand.completions == 1);
        CHECK(stand.denials.size() == 1);
        CHECK((stand.session->poll() & POLLOUT) != 0);
        REQUIRE(stand.ioctl(USBDEVFS_REAPURBNDELAY, pointer_address) == 0);
        CHECK(stand.process.get<usbdevfs_urb>(urb_address).status == -EPIPE);
        CHECK(stand.session->poll() == 0);
        // the same by the synchronous call
        usbdevfs_ctrltransfer transfer{.bRequestType = 0x21,
                                       .bRequest = 1,
                                       .wIndex = 1,
                                       .wLength = 4,
                                       .timeout = 100,
                                       .data = reinterpret_cast<void*>(data_address)};
        stand.process.put(urb_address, transfer);
        CHECK(stand.ioctl(USBDEVFS_CONTROL, urb_address) == -EPIPE);
    }
}

TEST_CASE("a synchronous control request brings as many bytes as the device gave") {
    for (const auto way : ways) {
        Stand stand(way);
        stand.kernel->control_answer = counting(18);
        usbdevfs_ctrltransfer transfer{.bRequestType = 0x80,
                                       .bRequest = 6,
                                       .wValue = 0x100,
                                       .wLength = 255,
                                       .timeout = 100,
                                       .data = reinterpret_cast<void*>(data_address)};
        stand.process.put(urb_address, transfer);
        stand.process.put(data_address + 18, uint8_t{0xee});
        REQUIRE(stand.ioctl(USBDEVFS_CONTROL, urb_address) == 18);
        CHECK(std::memcmp(stand.process.at(data_address), counting(18).data(), 18) == 0);
        CHECK(stand.process.get<uint8_t>(data_address + 18) == 0xee);
        transfer.wLength = 5000;
        stand.process.put(urb_address, transfer);
        CHECK(stand.ioctl(USBDEVFS_CONTROL, urb_address) == -EINVAL);
    }
}

TEST_CASE("a hidden interface is not there") {
    for (const auto way : ways) {
        Stand stand(way, {.interfaces = std::set<uint8_t>{1}});
        stand.process.put(data_address, uint32_t{0});
        CHECK(stand.ioctl(USBDEVFS_CLAIMINTERFACE, data_address) == -ENOENT);
        CHECK(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x81, 64)) == -ENOENT);
        // the kernel would claim the interface of the endpoint before it looks at the type
        auto misplaced = stand.control_urb({0x80, 0, 0, 0, 0, 0, 2, 0});
        misplaced.endpoint = 0x81;
        CHECK(stand.submit(misplaced) == -ENOENT);
        CHECK(stand.kernel->submitted.empty());
        stand.process.put(data_address, uint32_t{1});
        CHECK(stand.ioctl(USBDEVFS_CLAIMINTERFACE, data_address) == 0);
        // the configuration that the guest asks for is the one that is shown
        REQUIRE(stand.submit(stand.control_urb({0x80, 6, 0, 2, 0, 0, 0, 1})) == 0);
        REQUIRE(stand.ioctl(USBDEVFS_REAPURBNDELAY, pointer_address) == 0);
        const auto reaped = stand.process.get<usbdevfs_urb>(urb_address);
        CHECK(reaped.actual_length == 27);
        CHECK(stand.process.get<uint8_t>(data_address + 8 + 4) == 1);  // bNumInterfaces
    }
}

TEST_CASE("host drivers stay the arbiter's") {
    Stand stand(Stand::Way::direct);
    stand.process.put(data_address, usbdevfs_ioctl{.ifno = 0, .ioctl_code = USBDEVFS_CONNECT, .data = nullptr});
    CHECK(stand.ioctl(USBDEVFS_IOCTL, data_address) == 1);
    CHECK(std::count(stand.kernel->calls.begin(), stand.kernel->calls.end(), USBDEVFS_IOCTL) == 0);
    stand.process.put(data_address, usbdevfs_ioctl{.ifno = 0, .ioctl_code = USBDEVFS_DISCONNECT, .data = nullptr});
    CHECK(stand.ioctl(USBDEVFS_IOCTL, data_address) == 0);
    stand.process.put(data_address, usbdevfs_ioctl{.ifno = 0, .ioctl_code = 0x5512, .data = nullptr});
    CHECK(stand.ioctl(USBDEVFS_IOCTL, data_address) == -ENOTTY);
}

TEST_CASE("reset and configuration by policy") {
    Stand stand(Stand::Way::direct, {.interfaces = std::nullopt, .deny = {Denial::reset, Denial::configuration}});
    CHECK(stand.ioctl(USBDEVFS_RESET, 0) == -EACCES);
    stand.process.put(data_address, 2);
    CHECK(stand.ioctl(USBDEVFS_SETCONFIGURATION, data_address) == -EACCES);
    CHECK(stand.denials.size() == 2);
    CHECK(stand.kernel->calls.empty());
    stand.process.put(data_address, 1);
    CHECK(stand.ioctl(USBDEVFS_SETCONFIGURATION, data_address) == 0);
}

TEST_CASE("what is taken away looks like an unplug, and what was in flight comes back") {
    for (const auto way : ways) {
        Stand stand(way);
        for (uint64_t i = 0; i < 3; ++i) {
            REQUIRE(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x81, 64 << 10), urb_address + i * 64) == 0);
        }
        CHECK(stand.kernel->mapped > 0);
        stand.session->revoke();
        CHECK(stand.kernel->closed);
        CHECK(stand.kernel->mapped == 0);  // mapped memory holds the device's file open
        CHECK((stand.session->poll() & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP));
        CHECK(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x81, 64)) == -ENODEV);
        for (uint64_t i = 0; i < 3; ++i) {
            REQUIRE(stand.ioctl(USBDEVFS_REAPURBNDELAY, pointer_address) == 0);
            CHECK(stand.process.get<uint64_t>(pointer_address) == urb_address + i * 64);
            CHECK(stand.process.get<usbdevfs_urb>(urb_address + i * 64).status == -ENODEV);
        }
        CHECK(stand.ioctl(USBDEVFS_REAPURBNDELAY, pointer_address) == -ENODEV);
        CHECK(stand.ioctl(USBDEVFS_REAPURB, pointer_address) == -ENODEV);
        CHECK(stand.statistics.of(Traffic::bulk).in_flight == 0);
    }
}

TEST_CASE("a reset after which the same device enumerates again ends well, with its claims") {
    Stand stand(Stand::Way::direct);
    stand.process.put(data_address, uint32_t{0});
    REQUIRE(stand.ioctl(USBDEVFS_CLAIMINTERFACE, data_address) == 0);
    REQUIRE(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x81, 512)) == 0);
    stand.kernel->instead = [&](unsigned long number, void*) {
        if (number != USBDEVFS_RESET) return FakeDevice::usual;
        stand.kernel->gone = true;
        return -ENODEV;
    };
    SUBCASE("it does") {
        stand.kernel->may_come_back = true;
        CHECK(stand.ioctl(USBDEVFS_RESET, 0) == 0);
        CHECK(stand.kernel->claimed == std::set<unsigned>{0});
        CHECK(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x81, 512), urb_address + 64) == 0);
    }
    SUBCASE("it does not") { CHECK(stand.ioctl(USBDEVFS_RESET, 0) == -ENODEV); }
    REQUIRE(stand.ioctl(USBDEVFS_REAPURBNDELAY, pointer_address) == 0);
    CHECK(stand.process.get<uint64_t>(pointer_address) == urb_address);
    CHECK(stand.process.get<usbdevfs_urb>(urb_address).status == -ENODEV);
}

TEST_CASE("after an unplug everything but a reap says so first") {
    for (const auto way : ways) {
        Stand stand(way);
        REQUIRE(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x81, 64)) == 0);
        stand.kernel->complete(stand.at_device(), -ESHUTDOWN, {});
        CHECK_FALSE(stand.session->gone());
        stand.kernel->gone = true;
        CHECK(stand.session->gone());
        CHECK(stand.ioctl(USBDEVFS_DISCARDURB, urb_address) == -ENODEV);
        CHECK(stand.ioctl(0xdead, 0) == -ENODEV);
        CHECK(stand.ioctl(USBDEVFS_SUBMITURB, 0x10) == -ENODEV);
        CHECK(stand.ioctl(USBDEVFS_REAPURBNDELAY, pointer_address) == 0);
        CHECK(stand.ioctl(USBDEVFS_REAPURBNDELAY, pointer_address) == -ENODEV);
    }
}

TEST_CASE("a synchronous bulk transfer has the kernel's bounds") {
    Stand stand(Stand::Way::direct);
    usbdevfs_bulktransfer transfer{.ep = 0x81, .len = 0x7fff'ffff, .timeout = 1, .data = nullptr};
    stand.process.put(urb_address, transfer);
    CHECK(stand.ioctl(USBDEVFS_BULK, urb_address) == -EINVAL);
    transfer.len = 0x7000'0000;
    stand.process.put(urb_address, transfer);
    CHECK(stand.ioctl(USBDEVFS_BULK, urb_address) == -ENOMEM);
}

TEST_CASE("buffers are used again and bounded") {
    Stand stand(Stand::Way::direct);
    for (int round = 0; round < 100; ++round) {
        REQUIRE(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x81, 1 << 20)) == 0);
        stand.kernel->complete(stand.at_device(), 0, counting(1 << 20));
        REQUIRE(stand.ioctl(USBDEVFS_REAPURBNDELAY, pointer_address) == 0);
        CHECK(stand.kernel->mapped == 1 << 20);
    }
    int made = 0;
    while (stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x81, 1 << 20), urb_address) == 0) ++made;
    CHECK(made == 64);
    CHECK(stand.kernel->mapped == BufferPool::most_mapped);
}

TEST_CASE("URBs that the device never sees are bounded too") {
    Stand stand(Stand::Way::direct);
    size_t made = 0;
    // a firmware request without data, stalled by the policy
    while (made <= BufferPool::most_taken && stand.submit(stand.control_urb({0x21, 1, 0, 0, 1, 0, 0, 0})) == 0) ++made;
    CHECK(made == BufferPool::most_taken);
    REQUIRE(stand.ioctl(USBDEVFS_REAPURBNDELAY, pointer_address) == 0);
    CHECK(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x81, 0)) == 0);
}

TEST_CASE("a reap of the other layout writes its own pointer's bytes") {
    Stand stand(Stand::Way::direct);
    REQUIRE(stand.submit(stand.urb(USBDEVFS_URB_TYPE_BULK, 0x81, 0)) == 0);
    stand.kernel->complete(stand.at_device(), 0, {});
    stand.process.put(pointer_address, ~uint64_t{0});
    DirectMemory memory(stand.process);
    REQUIRE(stand.session->ioctl(0x4004550d, pointer_address, Layout::bits32, memory) == 0);
    CHECK(stand.process.get<uint64_t>(pointer_address) == (0xffffffff00000000 | urb_address));
}
