// Transport, locality and the sharing rule, as tables.

#include <doctest/doctest.h>

#include "locality/sharing.hpp"
#include "locality/transport.hpp"
#include "tests/unit/locality_facts.hpp"

using namespace storctl;
using namespace storctl::locality;
using namespace storctl::test;

namespace {

BlockFacts nvme(const std::vector<std::string>& transports) {
    auto facts = block("nvme0n1");
    for (const auto& transport : transports) facts.controllers.push_back({"nvme0", transport, "", "live"});
    return facts;
}

BlockFacts on_host(const std::vector<ParentFacts>& above, const std::string& driver = "",
                   const std::string& symbolic = "") {
    auto facts = scsi_disk("sda", "0:0:0:0", above);
    facts.host_driver = driver;
    facts.host_symbolic_name = symbolic;
    return facts;
}

}  // namespace

TEST_CASE("transport and locality") {
    struct Row {
        BlockFacts facts;
        Transport transport;
        Locality locality;
    };
    const ParentFacts pci{"0000:00:01.0", "pci", ""};
    const Row rows[] = {
        {on_host({{"host0", "scsi", ""}, {"ata2", "", ""}, pci}), Transport::sata, Locality::yes},
        {on_host({{"host0", "scsi", ""}, {"2-1:1.0", "usb", "uas"}, pci}), Transport::usb, Locality::yes},
        {on_host({{"host0", "scsi", ""}, {"fw1.0", "firewire", "sbp2"}, pci}), Transport::firewire, Locality::yes},
        {on_host({{"end_device-0:0", "", ""}, {"port-0:0", "", ""}, {"host0", "scsi", ""}, pci}), Transport::sas,
         Locality::unknown},
        {on_host({{"session1", "", ""}, {"host0", "scsi", ""}}), Transport::iscsi, Locality::no},
        {on_host({{"rport-0:0-1", "", ""}, {"host0", "scsi", ""}, pci}, "qla2xxx", "QLE2692 FW:v9"), Transport::fc,
         Locality::no},
        {on_host({{"rport-0:0-1", "", ""}, {"host0", "scsi", ""}}, "fcoe", "fcoe v0.1 over eth4.101"), Transport::fcoe,
         Locality::no},
        {on_host({{"host0", "scsi", ""}, pci}, "ib_srp"), Transport::srp, Locality::no},
        {on_host({{"host0", "scsi", ""}, pci}, "megaraid_sas"), Transport::scsi, Locality::unknown},
        {on_host({{"host0", "scsi", ""}, {"virtio2", "virtio", "virtio_scsi"}, pci}), Transport::virtio,
         Locality::unknown},
        {on_host({{"host0", "scsi", ""}, {"vmbus_0_1", "vmbus", "storvsc"}}), Transport::hyperv, Locality::unknown},
        {nvme({"pcie"}), Transport::nvme, Locality::yes},
        {nvme({"tcp"}), Transport::nvme_tcp, Locality::no},
        {nvme({"rdma"}), Transport::nvme_rdma, Locality::no},
        {nvme({"fc"}), Transport::nvme_fc, Locality::no},
        {nvme({"loop"}), Transport::nvme_loop, Locality::yes},
        {nvme({"pcie", "tcp"}), Transport::nvme_tcp, Locality::no},
        {nvme({"tcp", "pcie"}), Transport::nvme_tcp, Locality::no},
        {nvme({}), Transport::unknown, Locality::unknown},
        {nvme({"new"}), Transport::unknown, Locality::unknown},
        {block("mmcblk0", {{"mmc0:0001", "mmc", "mmcblk"}}), Transport::mmc, Locality::yes},
        {block("vda", {{"virtio0", "virtio", "virtio_blk"}}), Transport::virtio, Locality::unknown},
        {block("xvda", {{"vbd-768", "xen", "vbd"}}), Transport::xen, Locality::unknown},
        {block("nbd0"), Transport::nbd, Locality::no},
        {block("rbd0"), Transport::rbd, Locality::no},
        {block("pmem0"), Transport::pmem, Locality::yes},
        {block("loop0"), Transport::loop, Locality::yes},
        {block("zram0"), Transport::memory, Locality::yes},
        {block("ram0"), Transport::memory, Locality::yes},
        {block("dm-0"), Transport::stacked, Locality::unknown},
        {block("somedisk"), Transport::unknown, Locality::unknown},
    };
    for (const auto& row : rows) {
        CAPTURE(row.facts.name);
        CAPTURE(std::string(to_text(row.transport)));
        CHECK(transport_of(row.facts) == row.transport);
        CHECK(locality_of(row.transport).locality == row.locality);
        CHECK_FALSE(locality_of(row.transport).reason.empty());
    }
}

TEST_CASE("the least local part decides for what is made of several") {
    const Verdict yes{Locality::yes, "y"}, no{Locality::no, "n"}, unknown{Locality::unknown, "u"};
    CHECK(combine(yes, yes) == yes);
    CHECK(combine(yes, unknown) == unknown);
    CHECK(combine(unknown, yes) == unknown);
    CHECK(combine(unknown, no) == no);
    CHECK(combine(no, yes) == no);
}

TEST_CASE("the sharing rule") {
    const Verdict local{Locality::yes, "here"}, remote{Locality::no, "there"}, unknown{Locality::unknown, "who knows"};
    const AdminDecision yes{.shared = true, .reason = "two hosts cabled", .author = "root (uid 0)"};
    const AdminDecision no{.shared = false, .reason = "", .author = "root (uid 0)"};
    struct Row {
        const char* name;
        Verdict verdict;
        std::optional<bool> boot;
        bool conflict;
        std::optional<AdminDecision> decision;
        bool shared;
        Basis basis;
        const char* reason;
    };
    const Row rows[] = {
        {"local is private", local, false, false, {}, false, Basis::by_default, "local: here"},
        {"remote is shared", remote, false, false, {}, true, Basis::by_default, "remote: there"},
        {"remote is shared where boot is not known", remote, {}, false, {}, true, Basis::by_default, "remote: there"},
        {"unknown is private", unknown, false, false, {}, false, Basis::by_default, "locality unknown: who knows"},
        {"a boot LUN is private",
         remote,
         true,
         false,
         {},
         false,
         Basis::by_default,
         "this host's running system is on it"},
        {"a conflict is never shared",
         remote,
         false,
         true,
         {},
         false,
         Basis::by_default,
         "identifier conflict, never shared: twins"},
        {"the administrator beats the default", local, false, false, yes, true, Basis::admin, "two hosts cabled"},
        {"also against sharing, without a reason", remote, false, false, no, false, Basis::admin,
         "decided by root (uid 0)"},
        {"a boot LUN too", remote, true, false, yes, true, Basis::admin, "two hosts cabled"},
        {"but not over a conflict", remote, false, true, yes, false, Basis::by_default,
         "identifier conflict, never shared: twins"},
        {"a conflict may be declared private", remote, false, true, no, false, Basis::admin, "decided by root (uid 0)"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        const SharingCase device{.host = "h1",
                                 .verdict = row.verdict,
                                 .boot = row.boot,
                                 .conflict = row.conflict ? std::optional<std::string>("twins") : std::nullopt,
                                 .quality = Quality::high};
        const auto sharing = decide_sharing(device, row.decision);
        CHECK(sharing.shared == row.shared);
        CHECK(sharing.basis == row.basis);
        CHECK(sharing.reason == row.reason);
        CHECK(sharing.seen_by == std::vector<std::string>{"h1"});
        CHECK(sharing.author.has_value() == (row.basis == Basis::admin));
        CHECK(sharing_refusal(device, true).has_value() == row.conflict);
        CHECK_FALSE(sharing_refusal(device, false).has_value());
    }
}

TEST_CASE("a decision about a place says so") {
    const SharingCase device{.verdict = {Locality::unknown, "?"}, .quality = Quality::none};
    const auto sharing = decide_sharing(device, AdminDecision{.shared = true, .reason = "slot 3", .author = "a"});
    CHECK(sharing.reason == "slot 3 (for whatever device is in this place: it has no identifier of its own)");
}
