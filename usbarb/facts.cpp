#include "usbarb/facts.hpp"

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl::usbarb {
namespace {

void add_words(std::string& text, const std::string& words) {
    if (!words.empty()) text += " " + escape_unprintable(words);
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
    add_words(text, vendor);
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
