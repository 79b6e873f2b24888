#include <array>
#include <cerrno>

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lab/usbfs_client/cases.hpp"
#include "tests/lab/usbfs_client/raw_disk.hpp"
#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

struct Capability {
    const char* name;
    uint32_t bit;
};

constexpr std::array capabilities{
    Capability{"zero_packet", USBDEVFS_CAP_ZERO_PACKET},
    Capability{"bulk_continuation", USBDEVFS_CAP_BULK_CONTINUATION},
    Capability{"no_packet_size_limit", USBDEVFS_CAP_NO_PACKET_SIZE_LIM},
    Capability{"scatter_gather", USBDEVFS_CAP_BULK_SCATTER_GATHER},
    Capability{"reap_after_disconnect", USBDEVFS_CAP_REAP_AFTER_DISCONNECT},
    Capability{"mmap", USBDEVFS_CAP_MMAP},
    Capability{"drop_privileges", USBDEVFS_CAP_DROP_PRIVILEGES},
    Capability{"conninfo_ex", USBDEVFS_CAP_CONNINFO_EX},
    Capability{"suspend", USBDEVFS_CAP_SUSPEND},
};

std::string read_piece(const RawNode& node, size_t bytes) {
    std::vector<std::byte> buffer(bytes);
    const ssize_t got = ::read(node.fd(), buffer.data(), buffer.size());
    return got < 0 ? outcome(-errno) : content(std::span(buffer).first(static_cast<size_t>(got)));
}

void a_reader(const std::string& path) {
    const RawNode node(path, O_RDONLY);
    report("reader.descriptors", content(read_descriptors(node)));
    uint32_t value = 0;
    report("reader.capabilities", outcome(node.call(USBDEVFS_GET_CAPABILITIES, &value)));
    report("reader.claim", outcome(node.claim(0)));
    report("reader.reap", outcome(node.reap(false).result));
    report("reader.unknown", outcome(node.call(_IO('U', 99), nullptr)));
}

void reading(const std::string& path) {
    report("read.at_once", content(read_descriptors(RawNode(path), 4096)));
    report("read.in_pieces", content(read_descriptors(RawNode(path), 7)));
    report("read.device", content(read_descriptors(RawNode(path), 18)));
    const RawNode node(path);
    report("read.first", read_piece(node, 18));
    report("read.second", read_piece(node, 9));
    report("read.rest", read_piece(node, 4096));
    report("read.end", read_piece(node, 4096));
    const ssize_t unreadable = ::read(RawNode(path).fd(), untouchable_page(), 64);
    report("read.bad_pointer", outcome(unreadable < 0 ? -errno : unreadable));
    const char byte = 0;
    const ssize_t written = ::write(node.fd(), &byte, 1);
    report("write", outcome(written < 0 ? -errno : written));
}

void position(const std::string& path) {
    const RawNode node(path);
    std::array<std::byte, 18> device{};
    if (::read(node.fd(), device.data(), device.size()) != 18) give_up("read", -errno);
    report("position.seek", outcome(lseek(node.fd(), 8, SEEK_SET)));
    report("position.after_seek", read_piece(node, 2));
    const ssize_t got = pread(node.fd(), device.data(), 2, 10);
    report("position.pread", got < 0 ? outcome(-errno) : content(std::span(device).first(static_cast<size_t>(got))));
}

void what_it_is(const std::string& path) {
    const RawNode node(path);
    usbdevfs_connectinfo connection{};
    report("connectinfo", outcome(node.call(USBDEVFS_CONNECTINFO, &connection)));
    report("connectinfo.address", connection.devnum != 0 ? "some" : "none");
    report("connectinfo.slow", std::to_string(connection.slow));
    usbdevfs_conninfo_ex extended{};
    const long result = node.call(USBDEVFS_CONNINFO_EX(sizeof extended), &extended);
    report("conninfo_ex", fmt::format("{}, size {}, speed {}, same address {}, ports {} {}", outcome(result),
                                      extended.size, extended.speed, extended.devnum == connection.devnum,
                                      extended.num_ports, content(std::as_bytes(std::span(extended.ports)))));
    report("conninfo_ex.bus", std::to_string(extended.busnum));
    std::array<std::byte, 6> shorter{};
    report("conninfo_ex.short", outcome(node.call(USBDEVFS_CONNINFO_EX(6), shorter.data())));
    report("speed", outcome(node.call(USBDEVFS_GET_SPEED, nullptr)));
    uint32_t value = 0;
    report("capabilities", outcome(node.call(USBDEVFS_GET_CAPABILITIES, &value)));
    uint32_t others = value;
    for (const auto& [name, bit] : capabilities) {
        report(fmt::format("capabilities.{}", name), (value & bit) != 0 ? "yes" : "no");
        others &= ~bit;
    }
    report("capabilities.others", fmt::format("{:#x}", others));
    void* const mapped = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, node.fd(), 0);
    report("mmap", mapped == MAP_FAILED ? outcome(-errno) : "0");
    if (mapped != MAP_FAILED) munmap(mapped, 4096);
}

}  // namespace

void description_cases(const std::string& path) {
    a_reader(path);
    reading(path);
    position(path);
    what_it_is(path);
}

}  // namespace storctl::usbfs_client
