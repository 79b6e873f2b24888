#include "tests/lab/usbfs_client/libusb_disk.hpp"

#include <cerrno>
#include <memory>

#include <fcntl.h>
#include <fmt/format.h>
#include <libusb.h>

#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

constexpr unsigned timeout_ms = 20'000;

struct Queue {
    std::vector<int> order;  ///< of the callbacks
    std::string failures;
    int done = 0;
};

struct Queued {
    Queue* queue = nullptr;
    int number = 0;
    libusb_transfer* transfer = nullptr;
};

void LIBUSB_CALL completed(libusb_transfer* transfer) {
    const auto* queued = static_cast<const Queued*>(transfer->user_data);
    Queue& queue = *queued->queue;
    queue.order.push_back(queued->number);
    if (transfer->status != LIBUSB_TRANSFER_COMPLETED || transfer->actual_length != transfer->length)
        queue.failures += fmt::format(" transfer {}: status {}, {} of {}", queued->number,
                                      static_cast<int>(transfer->status), transfer->actual_length, transfer->length);
    ++queue.done;
}

}  // namespace

std::string libusb_outcome(long result) {
    return result >= 0 ? std::to_string(result) : libusb_error_name(static_cast<int>(result));
}

LibusbNode::LibusbNode(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC)) {
    if (!fd_) give_up("open " + path, -errno);
    libusb_set_option(nullptr, LIBUSB_OPTION_NO_DEVICE_DISCOVERY);
    int result = libusb_init(&context_);
    if (result == 0) result = libusb_wrap_sys_device(context_, fd_.get(), &handle_);
    if (result == 0) return;
    report("FAILED", fmt::format("libusb on {}: {}", path, libusb_error_name(result)));
    std::exit(1);
}

LibusbNode::~LibusbNode() {
    libusb_close(handle_);
    libusb_exit(context_);
}

BulkPipes LibusbNode::bulk_pipes() const {
    libusb_config_descriptor* config = nullptr;
    const int result = libusb_get_active_config_descriptor(libusb_get_device(handle_), &config);
    if (result < 0) give_up("configuration descriptor", -EIO);
    const libusb_interface_descriptor& interface = config->interface[0].altsetting[0];
    BulkPipes pipes;
    for (int index = 0; index < interface.bNumEndpoints; ++index) {
        const uint8_t address = interface.endpoint[index].bEndpointAddress;
        ((address & LIBUSB_ENDPOINT_IN) != 0 ? pipes.in : pipes.out) = address;
    }
    libusb_free_config_descriptor(config);
    return pipes;
}

std::string LibusbDisk::run(const ScsiCommand& command, std::span<std::byte> data) {
    auto wrapper = wrap(command, ++tag_);
    int length = 0;
    int result = libusb_bulk_transfer(node_.handle(), pipes_.out, reinterpret_cast<unsigned char*>(wrapper.data()),
                                      static_cast<int>(wrapper.size()), &length, timeout_ms);
    if (result != 0) return fmt::format("command: {}, {} bytes", libusb_outcome(result), length);
    length = 0;
    result = libusb_bulk_transfer(node_.handle(), command.to_host ? pipes_.in : pipes_.out,
                                  reinterpret_cast<unsigned char*>(data.data()), static_cast<int>(data.size()), &length,
                                  timeout_ms);
    const std::string moved = fmt::format("{}, {} of {}", libusb_outcome(result), length, data.size());
    return result == LIBUSB_ERROR_PIPE ? moved : all_of({moved, status()});
}

std::string LibusbDisk::status() {
    std::vector<std::byte> wrapper(status_wrapper_bytes);
    int length = 0;
    const int result = libusb_bulk_transfer(node_.handle(), pipes_.in, reinterpret_cast<unsigned char*>(wrapper.data()),
                                            static_cast<int>(wrapper.size()), &length, timeout_ms);
    if (result != 0) return "no status: " + libusb_outcome(result);
    return describe_status(std::span(wrapper).first(static_cast<size_t>(length)), tag_);
}

std::string LibusbDisk::run_queued(const ScsiCommand& command, std::span<std::byte> data, size_t pieces) {
    auto wrapper = wrap(command, ++tag_);
    Queue queue;
    std::vector<std::unique_ptr<Queued>> all;
    const auto add = [&](uint8_t endpoint, std::span<std::byte> bytes) {
        auto& queued = *all.emplace_back(std::make_unique<Queued>());
        queued = {.queue = &queue, .number = static_cast<int>(all.size()), .transfer = libusb_alloc_transfer(0)};
        libusb_fill_bulk_transfer(queued.transfer, node_.handle(), endpoint,
                                  reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size()),
                                  completed, &queued, timeout_ms);
    };
    add(pipes_.out, wrapper);
    const size_t piece_bytes = data.size() / pieces;
    for (size_t piece = 0; piece < pieces; ++piece)
        add(command.to_host ? pipes_.in : pipes_.out, data.subspan(piece * piece_bytes, piece_bytes));

    int submitted = 0, result = 0;
    for (const auto& queued : all) {
        result = libusb_submit_transfer(queued->transfer);
        if (result != 0) break;
        ++submitted;
    }
    while (queue.done < submitted)
        if (const int handled = libusb_handle_events(node_.context()); handled != 0) {
            report("FAILED", fmt::format("libusb_handle_events: {}", libusb_error_name(handled)));
            std::exit(1);
        }
    for (const auto& queued : all) libusb_free_transfer(queued->transfer);

    // endpoints complete independently of each other; the order of one endpoint's is what counts
    std::vector<int> data_order;
    for (const int number : queue.order)
        if (number != 1) data_order.push_back(number);
    bool in_order = true;
    for (size_t index = 1; index < data_order.size(); ++index)
        in_order = in_order && data_order[index - 1] < data_order[index];
    const std::string moved = fmt::format("submitted {}, {}, {}{}", libusb_outcome(result), submitted,
                                          in_order ? "in order" : "out of order", queue.failures);
    return all_of({moved, status()});
}

}  // namespace storctl::usbfs_client
