#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "cli/vm_snippets.hpp"

using namespace storctl::cli;
using nlohmann::json;

namespace {

json node(const char* open, const char* type, const char* path, int block_bytes = 512) {
    return {{"name", "web1"},
            {"open", open},
            {"backing", {{"logical_block_bytes", block_bytes}}},
            {"forms", {{{"type", type}, {"path", path}}}}};
}

}  // namespace

TEST_CASE("a single writer takes the FUSE file without the page cache") {
    const auto ways = vm_snippets(node("single-writer", "fuse", "/run/storctl/block/web1"));
    REQUIRE(ways.size() == 1);
    CHECK(ways[0].qemu_drive == "-drive file=/run/storctl/block/web1,format=raw,if=virtio,cache=none,discard=unmap");
    CHECK(ways[0].qemu_blockdev ==
          "-blockdev driver=raw,node-name=storctl-web1,cache.direct=on,discard=unmap,file.driver=file,"
          "file.filename=/run/storctl/block/web1 -device virtio-blk-pci,drive=storctl-web1");
    CHECK(ways[0].libvirt_disk ==
          "<disk type='file' device='disk'>\n"
          "  <driver name='qemu' type='raw' cache='none' discard='unmap'/>\n"
          "  <source file='/run/storctl/block/web1'/>\n"
          "  <target dev='vda' bus='virtio'/>\n"
          "</disk>\n");
}

TEST_CASE("loop device, shared, read-only and 4096-byte blocks each leave their mark") {
    const auto loop = vm_snippets(node("shared", "loop", "/dev/storctl/disk/web1", 4096)).at(0);
    CHECK(loop.qemu_blockdev.find("file.driver=host_device") != std::string::npos);
    CHECK(loop.qemu_blockdev.find("share-rw=on,logical_block_size=4096") != std::string::npos);
    CHECK(loop.libvirt_disk.find("type='block'") != std::string::npos);
    CHECK(loop.libvirt_disk.find("<source dev='/dev/storctl/disk/web1'/>") != std::string::npos);
    CHECK(loop.libvirt_disk.find("<shareable/>") != std::string::npos);
    CHECK(loop.libvirt_disk.find("<blockio logical_block_size='4096'") != std::string::npos);
    const auto read_only = vm_snippets(node("read-only", "fuse", "/x")).at(0);
    CHECK(read_only.qemu_drive.ends_with(",readonly=on"));
    CHECK(read_only.qemu_blockdev.find(",read-only=on") != std::string::npos);
    CHECK(read_only.libvirt_disk.find("<readonly/>") != std::string::npos);
}

TEST_CASE("a path may hold what QEMU, the shell and XML read otherwise") {
    const auto way = vm_snippets(node("single-writer", "fuse", "/srv/a b,c&'d'/web1")).at(0);
    CHECK(way.qemu_drive == "-drive 'file=/srv/a b,,c&'\\''d'\\''/web1,format=raw,if=virtio,cache=none,discard=unmap'");
    CHECK(way.libvirt_disk.find("file='/srv/a b,c&amp;&apos;d&apos;/web1'") != std::string::npos);
    CHECK(vm_snippets(json::object()).empty());
}
