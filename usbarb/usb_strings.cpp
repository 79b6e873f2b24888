#include "usbarb/usb_strings.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <libusb.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "base/unique_fd.hpp"

namespace storctl::usbarb {
namespace {

// USB 2.0, 9.6.1: places in the device descriptor
constexpr size_t vendor_index_at = 14, product_index_at = 15, device_descriptor_bytes = 18;
constexpr size_t descriptors_limit_bytes = 1 << 16;
constexpr size_t longest_string_bytes = 255;
constexpr size_t header_bytes = 2;

struct Release {
    void operator()(libusb_context* context) const { libusb_exit(context); }
    void operator()(libusb_device_handle* handle) const { libusb_close(handle); }
};
using Context = std::unique_ptr<libusb_context, Release>;
using Handle = std::unique_ptr<libusb_device_handle, Release>;

Error no_strings(const std::string& devnode, int code) {
    return make_error(std::errc{}, fmt::format("cannot ask '{}' for its strings: {}", devnode, libusb_strerror(code)));
}

void append_utf8(std::string& out, char32_t c) {
    const auto byte = [&out](char32_t value) { out += static_cast<char>(value); };
    if (c < 0x80) return byte(c);
    if (c < 0x800) {
        byte(0xc0 | c >> 6);
    } else if (c < 0x10000) {
        byte(0xe0 | c >> 12);
        byte(0x80 | (c >> 6 & 0x3f));
    } else {
        byte(0xf0 | c >> 18);
        byte(0x80 | (c >> 12 & 0x3f));
        byte(0x80 | (c >> 6 & 0x3f));
    }
    byte(0x80 | (c & 0x3f));
}

Result<std::vector<uint8_t>> read_descriptor(libusb_device_handle* handle, const std::string& devnode, uint8_t index,
                                             uint16_t language, std::chrono::milliseconds timeout) {
    std::array<uint8_t, longest_string_bytes> buffer{};
    const int got = libusb_control_transfer(handle, LIBUSB_ENDPOINT_IN, LIBUSB_REQUEST_GET_DESCRIPTOR,
                                            static_cast<uint16_t>(LIBUSB_DT_STRING << 8 | index), language,
                                            buffer.data(), buffer.size(), static_cast<unsigned>(timeout.count()));
    if (got < 0) return no_strings(devnode, got);
    return std::vector<uint8_t>(buffer.begin(), buffer.begin() + got);
}

}  // namespace

std::string string_text(std::span<const uint8_t> descriptor) {
    if (descriptor.size() < header_bytes || descriptor[1] != LIBUSB_DT_STRING) return {};
    const size_t end = std::min<size_t>(descriptor[0], descriptor.size());
    std::string out;
    for (size_t at = header_bytes; at + 1 < end; at += 2) {
        const auto unit = [&](size_t place) -> char32_t {
            return place + 1 < end ? descriptor[place] | descriptor[place + 1] << 8 : 0;
        };
        char32_t c = unit(at);
        const bool high = c >= 0xd800 && c < 0xdc00;
        const char32_t low = high ? unit(at + 2) : 0;
        if (low >= 0xdc00 && low < 0xe000) {
            c = 0x10000 + ((c - 0xd800) << 10 | (low - 0xdc00));
            at += 2;
        } else if (c >= 0xd800 && c < 0xe000) {
            c = U'\uFFFD';
        }
        if (c != 0) append_utf8(out, c);
    }
    return std::string(trim(out));
}

MissingStrings missing_strings(const DeviceFacts& facts) {
    if (!facts.vendor.empty() && !facts.product.empty()) return {};
    const auto bytes = read_bytes(facts.syspath + "/descriptors", descriptors_limit_bytes);
    if (!bytes || bytes->size() < device_descriptor_bytes) return {};
    return {.vendor = facts.vendor.empty() ? (*bytes)[vendor_index_at] : uint8_t{0},
            .product = facts.product.empty() ? (*bytes)[product_index_at] : uint8_t{0}};
}

Result<UsbStrings> read_strings(const std::string& devnode, MissingStrings wanted, std::chrono::milliseconds timeout) {
    const UniqueFd node = TRY(open_file(devnode, O_RDWR));
    // this one node and no other: no enumeration
    libusb_set_option(nullptr, LIBUSB_OPTION_NO_DEVICE_DISCOVERY);
    libusb_context* raw_context = nullptr;
    if (const int code = libusb_init(&raw_context); code != 0) return no_strings(devnode, code);
    const Context context(raw_context);
    libusb_device_handle* raw_handle = nullptr;
    const int code = libusb_wrap_sys_device(context.get(), node.get(), &raw_handle);
    if (code != 0) return no_strings(devnode, code);
    const Handle handle(raw_handle);

    // descriptor 0 lists the languages
    const auto languages = TRY(read_descriptor(handle.get(), devnode, 0, 0, timeout));
    if (languages.size() < header_bytes + 2) return UsbStrings{};
    const auto language = static_cast<uint16_t>(languages[header_bytes] | languages[header_bytes + 1] << 8);
    UsbStrings out;
    for (const auto& [index, text] : {std::pair{wanted.vendor, &out.vendor}, {wanted.product, &out.product}}) {
        if (index == 0) continue;
        const auto descriptor = read_descriptor(handle.get(), devnode, index, language, timeout);
        if (descriptor) *text = string_text(*descriptor);
    }
    return out;
}

}  // namespace storctl::usbarb
