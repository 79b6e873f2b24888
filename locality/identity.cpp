#include "locality/identity.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/text.hpp"
#include "locality/transport.hpp"
#include "locality/vpd.hpp"

namespace storctl::locality {
namespace {

bool is_nvme(const BlockFacts& facts) { return facts.name.starts_with("nvme"); }

std::string first_of(std::initializer_list<std::string> candidates) {
    for (const auto& candidate : candidates) {
        if (!trim(candidate).empty()) return std::string(trim(candidate));
    }
    return {};
}

std::vector<Designator> designators_of(const BlockFacts& facts) {
    // a page that contradicts itself says nothing
    return facts.vpd_pg83.empty() ? std::vector<Designator>{}
                                  : parse_vpd83(facts.vpd_pg83).value_or(std::vector<Designator>{});
}

std::string page80_serial(const BlockFacts& facts) {
    return facts.vpd_pg80.empty() ? std::string() : parse_vpd80(facts.vpd_pg80).value_or(std::string());
}

/// udev writes properties with blanks as '_'; for showing only.
std::string spaced(std::string text) {
    std::replace(text.begin(), text.end(), '_', ' ');
    return std::string(trim(text));
}

std::vector<Identifier> nvme_identifiers(const BlockFacts& facts) {
    std::vector<Identifier> out;
    const auto add = [&](std::optional<Identifier> identifier) {
        if (identifier) out.push_back(std::move(*identifier));
    };
    add(named_identifier(facts.wwid, NameSpace::nvme));
    // the `uuid` file is not read: without a UUID it repeats the NGUID; a real one is in wwid
    add(nguid_identifier(facts.nguid));
    std::string eui = facts.eui64;
    std::erase(eui, ' ');
    add(eui64_identifier(eui));
    return out;
}

std::vector<Identifier> scsi_identifiers(const BlockFacts& facts) {
    auto out = logical_unit_identifiers(designators_of(facts));
    if (out.empty()) {
        if (auto named = named_identifier(facts.wwid, NameSpace::scsi)) out.push_back(std::move(*named));
    }
    return out;
}

/// scsi_id's ID_SERIAL (ID_BUS=scsi) begins with a digit for the designator's type; on other buses it is a text.
std::optional<Identifier> udev_scsi_serial(const BlockFacts& facts) {
    return facts.property("ID_BUS") == "scsi" ? multipath_identifier(facts.property("ID_SERIAL")) : std::nullopt;
}

/// udev's view fills a gap; where sysfs has an identifier of the same type with another value, udev's is out of date
/// (the LUN was mapped anew under a living path) or wrong, and must not be used.
void cross_check(const BlockFacts& facts, std::vector<Identifier>& identifiers) {
    const size_t from_sysfs = identifiers.size();
    for (auto& theirs : {naa_identifier(facts.property("ID_WWN_WITH_EXTENSION")), udev_scsi_serial(facts)}) {
        if (!theirs || std::find(identifiers.begin(), identifiers.end(), *theirs) != identifiers.end()) continue;
        const auto end = identifiers.begin() + static_cast<std::ptrdiff_t>(from_sysfs);
        const auto ours =
            std::find_if(identifiers.begin(), end, [&](const auto& one) { return one.type == theirs->type; });
        Identifier entry = *theirs;
        if (ours != end && entry.quality() == Quality::high) {
            entry.usable = false;
            entry.why = fmt::format("udev's database says so, the device itself says {}", ours->text());
        } else if (ours != end) {
            continue;  // texts are cut and padded differently by each tool
        }
        identifiers.push_back(std::move(entry));
    }
}

/// "0000:00:1f.2": the PCI function nearest to the device.
std::string pci_function(const BlockFacts& facts) {
    for (const auto& parent : facts.parents) {
        if (parent.subsystem == "pci") return parent.name;
    }
    return {};
}

/// "2:0:1:5" of the SCSI device above; without the host's number, which changes from boot to boot.
std::string scsi_unit(const BlockFacts& facts) {
    for (const auto& parent : facts.parents) {
        const auto parts = split(parent.name, ':');
        if (parent.subsystem == "scsi" && parts.size() == 4)
            return fmt::format("{}:{}:{}", parts[1], parts[2], parts[3]);
    }
    return {};
}

std::optional<Identifier> model_serial(const BlockFacts& facts, const Product& product) {
    std::vector<std::string> parts;
    if (transport_of(facts) != Transport::sata && !is_nvme(facts)) parts.push_back(product.vendor);
    parts.push_back(product.model);
    // several namespaces share their controller's serial number
    if (is_nvme(facts) && !facts.nsid.empty() && facts.nsid != "1") parts.push_back("n" + facts.nsid);
    parts.push_back(product.serial);
    std::erase(parts, std::string());
    if (product.model.empty() || product.serial.empty()) return std::nullopt;
    std::string text = join(parts, " ");
    // one USB bridge or card reader may carry several units
    const auto unit = split(scsi_unit(facts), ':');
    if (transport_of(facts) == Transport::usb && unit.size() == 3 && unit[2] != "0") text += "-lun" + unit[2];
    return Identifier{.type = IdType::model_serial, .value = normal_value(text)};
}

void append_weak(const BlockFacts& facts, std::vector<Identifier>& out) {
    const Product product = product_of(facts);
    if (!facts.md_uuid.empty())
        out.push_back({.type = IdType::md_uuid, .value = normal_value(to_lower(facts.md_uuid))});
    if (auto both = model_serial(facts, product)) out.push_back(std::move(*both));
    if (!product.serial.empty() && !is_nvme(facts)) {
        out.push_back({.type = IdType::serial, .value = normal_value(product.serial)});
    }
}

}  // namespace

Product product_of(const BlockFacts& facts) {
    const auto property = [&](const char* key) { return facts.property(key); };
    Product product{.vendor = first_of({facts.vendor, spaced(property("ID_VENDOR"))}),
                    .model = first_of({facts.model, spaced(property("ID_MODEL"))}),
                    .serial = {},
                    .revision = first_of({facts.revision, property("ID_REVISION")})};
    if (const auto ata = ata_name(designators_of(facts))) {
        product.model = ata->model;
        product.serial = ata->serial;
    }
    if (product.serial.empty()) {
        product.serial = first_of({facts.usb_serial, page80_serial(facts), facts.serial, property("ID_SERIAL_SHORT")});
    }
    if (product.serial.empty() && transport_of(facts) == Transport::virtio) product.serial = property("ID_SERIAL");
    if (facts.vendor == "ATA" && property("ID_MODEL").size() > product.model.size()) {
        product.model = spaced(property("ID_MODEL"));
    }
    return product;
}

std::string device_path(const BlockFacts& facts) {
    if (const auto path = facts.property("ID_PATH"); !path.empty()) return normal_value(path);
    const std::string function = pci_function(facts);
    if (function.empty()) return {};
    const std::string pci = "pci-" + function;
    const std::string unit = scsi_unit(facts);
    if (is_nvme(facts)) return facts.nsid.empty() ? pci : fmt::format("{}-nvme-{}", pci, facts.nsid);
    const Transport transport = transport_of(facts);
    if (transport == Transport::usb) {
        // the interface, "3-1.2:1.0": its bus number is left out, its port chain stays
        for (const auto& parent : facts.parents) {
            const auto dash = parent.name.find('-');
            if (parent.subsystem != "usb" || dash == std::string::npos) continue;
            return normal_value(fmt::format("{}-usb-0:{}-scsi-0:{}", pci, parent.name.substr(dash + 1), unit));
        }
    }
    if (transport == Transport::sata && !facts.ata_port.empty()) return fmt::format("{}-ata-{}", pci, facts.ata_port);
    return unit.empty() ? pci : fmt::format("{}-scsi-{}", pci, unit);
}

void sort_by_rank(std::vector<Identifier>& identifiers) {
    std::stable_sort(identifiers.begin(), identifiers.end(),
                     [](const auto& one, const auto& other) { return one.type < other.type; });
    std::vector<Identifier> once;
    for (auto& identifier : identifiers) {
        const auto same = [&](const auto& kept) {
            return kept.type == identifier.type && kept.value == identifier.value;
        };
        if (std::none_of(once.begin(), once.end(), same)) once.push_back(std::move(identifier));
    }
    identifiers = std::move(once);
}

std::vector<Identifier> identify(const BlockFacts& facts, const std::vector<std::string>& extra_placeholders) {
    std::vector<Identifier> out = is_nvme(facts) ? nvme_identifiers(facts) : scsi_identifiers(facts);
    cross_check(facts, out);
    append_weak(facts, out);
    for (auto& identifier : out) {
        if (auto reason = placeholder_reason(identifier, extra_placeholders)) {
            identifier.usable = false;
            identifier.why = std::move(*reason);
        }
    }
    if (auto path = device_path(facts); !path.empty()) out.push_back({.type = IdType::path, .value = std::move(path)});
    out.push_back({.type = IdType::name, .value = facts.name});
    sort_by_rank(out);
    return out;
}

}  // namespace storctl::locality
