#pragma once
// USB classes by name (https://www.usb.org/defined-class-codes), as "usb rule add --class" takes them. Pure.

#include "base/enum_text.hpp"
#include "base/result.hpp"

namespace storctl::cli {

enum class UsbClass : uint8_t {
    audio = 0x01,
    communication = 0x02,
    hid = 0x03,
    physical = 0x05,
    image = 0x06,
    printer = 0x07,
    storage = 0x08,
    hub = 0x09,
    data = 0x0a,
    smartcard = 0x0b,
    security = 0x0d,
    video = 0x0e,
    healthcare = 0x0f,
    audio_video = 0x10,
    billboard = 0x11,
    diagnostic = 0xdc,
    wireless = 0xe0,
    miscellaneous = 0xef,
    application = 0xfe,
    vendor = 0xff,
};

/// A name of the table, or one or two hexadecimal digits, "0x" or not; invalid_argument otherwise.
Result<uint8_t> parse_usb_class(std::string_view text);

}  // namespace storctl::cli

namespace storctl {
template <>
struct EnumNames<cli::UsbClass> {
    using C = cli::UsbClass;
    static constexpr std::array<EnumName<C>, 20> table{{
        {C::audio, "audio"},
        {C::communication, "communication"},
        {C::hid, "hid"},
        {C::physical, "physical"},
        {C::image, "image"},
        {C::printer, "printer"},
        {C::storage, "storage"},
        {C::hub, "hub"},
        {C::data, "data"},
        {C::smartcard, "smartcard"},
        {C::security, "security"},
        {C::video, "video"},
        {C::healthcare, "healthcare"},
        {C::audio_video, "audio-video"},
        {C::billboard, "billboard"},
        {C::diagnostic, "diagnostic"},
        {C::wireless, "wireless"},
        {C::miscellaneous, "miscellaneous"},
        {C::application, "application"},
        {C::vendor, "vendor"},
    }};
};
static_assert(round_trips<cli::UsbClass>());
}  // namespace storctl
