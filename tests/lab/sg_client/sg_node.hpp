#pragma once
// A node that speaks the SCSI generic protocol: the kernel's /dev/sgN, its /dev/bsg node (v4 only), or one of ours. One
// open of it; any thread may send commands.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <fcntl.h>
#include <linux/bsg.h>
#include <scsi/sg.h>
#include <sys/uio.h>

#include "base/unique_fd.hpp"
#include "tests/lab/sg_client/cdb.hpp"

namespace storctl::sg_client {

enum class Header { v3, v4 };
enum class Direction { none, to_device, from_device };

inline constexpr unsigned usual_timeout_ms = 30'000;

struct Request {
    Cdb cdb;
    Direction direction = Direction::none;
    std::span<std::byte> data;
    std::vector<iovec> pieces;  ///< not empty: `data` in pieces
    unsigned timeout_ms = usual_timeout_ms;
};

/// What became of it. `result`: of the ioctl, or -errno.
struct Answer {
    long result = 0;
    unsigned status = 0, host_status = 0, driver_status = 0, sense_bytes = 0;
    int residual = 0;
    unsigned duration_ms = 0;
    std::array<uint8_t, 64> sense{};

    bool good() const { return result == 0 && status == 0 && host_status == 0; }
    /// "GOOD", "CHECK CONDITION 5/21/00", "RESERVATION CONFLICT", "EFAULT", "host status 3".
    std::string text() const;
};

/// As the header says it.
Answer answer_of(const sg_io_hdr& header, long result);
/// The header of a request; `sense` and the request have to stay.
sg_io_hdr v3_header(Request& request, std::span<uint8_t> sense);

struct Capacity {
    uint64_t blocks = 0;
    uint32_t block_bytes = 0;
};

class SgNode {
 public:
    /// Ends the run when it does not open.
    explicit SgNode(const std::string& path, int flags = O_RDWR);

    int fd() const { return fd_.get(); }
    void close() { fd_.reset(); }
    /// What the ioctl returned, or -errno.
    long call(unsigned long command, void* argument) const;
    Answer send(Request request, Header header = Header::v3) const;
    /// The same, of a command that has to succeed; unit attentions are taken first.
    void send_good(const Request& request, Header header = Header::v3) const;
    Capacity capacity(Header header = Header::v3) const;
    bool takes_fua(Header header = Header::v3) const;
    /// What the node announces, at most 1 MiB.
    size_t most_data_bytes() const;

 private:
    UniqueFd fd_;
};

}  // namespace storctl::sg_client
