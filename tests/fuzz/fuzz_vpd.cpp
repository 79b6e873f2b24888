// VPD pages 0x83 and 0x80 as a device may send them.

#include <algorithm>

#include "base/text.hpp"
#include "locality/vpd.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace storctl;
using namespace storctl::locality;

void check_identifier(const Identifier& identifier) {
    FUZZ_CHECK(!identifier.value.empty());
    // fit for a path, a shell and JSON
    FUZZ_CHECK(std::all_of(identifier.value.begin(), identifier.value.end(), [](char c) {
        return c > 0x20 && c < 0x7f && c != '/' && c != '\'' && c != '"' && c != '\\' && c != '$' && c != '`';
    }));
    FUZZ_CHECK(identifier.type != IdType::naa6 || identifier.value.size() == 32);
    const bool short_naa =
        identifier.type == IdType::naa2 || identifier.type == IdType::naa3 || identifier.type == IdType::naa5;
    FUZZ_CHECK(!short_naa || identifier.value.size() == 16);
    const auto reason = placeholder_reason(identifier, {identifier.value});
    FUZZ_CHECK(reason.has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::span<const uint8_t> page(data, size);
    if (const auto designators = parse_vpd83(page)) {
        size_t used = 0;
        for (const auto& designator : *designators) {
            FUZZ_CHECK(designator.value.size() <= 255);
            used += designator.value.size() + 4;
        }
        FUZZ_CHECK(used + 4 <= size);
        const auto identifiers = logical_unit_identifiers(*designators);
        FUZZ_CHECK(identifiers.size() <= designators->size());
        for (const auto& identifier : identifiers) check_identifier(identifier);
        if (const auto ata = ata_name(*designators)) FUZZ_CHECK(ata->model.size() <= 40 && ata->serial.size() <= 20);
    } else {
        FUZZ_CHECK(designators.error().code == std::errc::bad_message);
    }
    if (const auto serial = parse_vpd80(page)) FUZZ_CHECK(serial->size() + 4 <= size);
    return 0;
}
