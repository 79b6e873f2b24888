#include "usbarb/facts.hpp"

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl::usbarb {
namespace {

/// A device's own words: whoever made it chose them. Readable in any script, and nothing that moves a cursor.
std::string readable(const std::string& words) {
    if (!valid_utf8(words)) return escape_unprintable(words);
    std::string out;
    for (size_t i = 0; i < words.size(); ++i) {
        const auto byte = static_cast<unsigned char>(words[i]);
        const bool control = byte < 0x20 || byte == 0x7f;
        const bool c1_control = byte == 0xc2 && static_cast<unsigned char>(words[i + 1]) < 0xa0;  // U+0080 to U+009F
        const size_t length = c1_control ? 2 : 1;
        out += control || c1_control ? escape_unprintable(words.substr(i, length)) : words.substr(i, 1);
        i += length - 1;
    }
    return out;
}

void add_words(std::string& text, const std::string& words) {
    if (!words.empty()) text += " " + readable(words);
}

std::string_view kind_name(ControllerKind kind) {
    switch (kind) {
        case ControllerKind::usb:
            return "USB controller";
        case ControllerKind::nvme:
            return "NVMe controller";
        case ControllerKind::storage:
            return "storage controller";
        case ControllerKind::network:
            return "network controller";
        case ControllerKind::display:
            return "display controller";
        case ControllerKind::other:
            return "PCI function";
    }
    return "?";
}

}  // namespace

std::string DeviceFacts::devnode() const { return fmt::format("/dev/bus/usb/{:03}/{:03}", bus, address); }

std::string DeviceFacts::description() const {
    std::string text = fmt::format("{:04x}:{:04x}", identity.vendor_id, identity.product_id);
    // "QEMU", "QEMU USB HARDDRIVE"
    if (!product.starts_with(vendor)) add_words(text, vendor);
    add_words(text, product);
    return text;
}

std::string ControllerFacts::description() const {
    std::string text(kind_name(kind));
    if (pci) text += fmt::format(" {:04x}:{:04x}", vendor_id, device_id);
    add_words(text, vendor);
    add_words(text, model);
    return text;
}

}  // namespace storctl::usbarb
