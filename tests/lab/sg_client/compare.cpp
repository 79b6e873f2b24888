#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lab/sg_client/cases.hpp"
#include "tests/lab/sg_client/guarded_buffer.hpp"
#include "tests/lab/sg_client/report.hpp"
#include "tests/lab/sg_client/sg_node.hpp"

namespace storctl::sg_client {
namespace {

constexpr size_t most_shadow_bytes = size_t{512} << 20;
constexpr size_t most_pieces = 16, most_misplacement = 511;

/// Past the page cache where that can be; whole mebibytes at a time.
class File {
 public:
    explicit File(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT)) {
        if (!fd_) fd_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!fd_) give_up("open " + path, -errno);
        buffer_ = mmap(nullptr, step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (buffer_ == MAP_FAILED) give_up("mmap", -errno);
    }
    ~File() { munmap(buffer_, step); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    std::vector<std::byte> content(size_t bytes) {
        std::vector<std::byte> all(bytes);
        for (size_t at = 0; at < bytes;) {
            const ssize_t count = pread(fd_.get(), buffer_, step, static_cast<off_t>(at));
            if (count <= 0) give_up(fmt::format("read the file at {}", at), count < 0 ? -errno : -ENODATA);
            const size_t taken = std::min(static_cast<size_t>(count), bytes - at);
            std::memcpy(&all[at], buffer_, taken);
            at += taken;
        }
        return all;
    }

 private:
    static constexpr size_t step = size_t{1} << 20;
    UniqueFd fd_;
    void* buffer_;
};

class Comparison {
 public:
    Comparison(const std::string& path, const CompareOptions& options)
        : options_(options),
          node_(path),
          random_(options.seed),
          first_header_(options.v3 ? Header::v3 : Header::v4),
          capacity_(node_.capacity(first_header_)),
          fua_(node_.takes_fua(first_header_)),
          most_bytes_(node_.most_data_bytes()),
          buffer_(most_bytes_ + most_misplacement) {
        if (capacity_.blocks * capacity_.block_bytes > most_shadow_bytes) give_up("shadow the disk", -EFBIG);
        shadow_ = File(options.file).content(capacity_.blocks * capacity_.block_bytes);
    }

    void run() {
        report("compare.seed", fmt::format("{}, up to {} bytes", options_.seed, most_bytes_));
        for (uint32_t number = 0; number < options_.operations && wrong_results() == 0; ++number) one(number);
        node_.send_good({.cdb = synchronize_cache(), .data = {}, .pieces = {}}, first_header_);
        report("compare.done", fmt::format("{} reads, {} writes, {} MiB", reads_, writes_, bytes_ >> 20));
        const auto content = File(options_.file).content(shadow_.size());
        const auto [here, there] = std::mismatch(shadow_.begin(), shadow_.end(), content.begin());
        expect("compare.file", here == shadow_.end() ? "equal" : fmt::format("differs at {}", here - shadow_.begin()),
               "equal");
    }

 private:
    void one(uint32_t number) {
        const size_t block_bytes = capacity_.block_bytes;
        // as many small ones as large ones, by their powers of two
        const size_t limit = std::min<size_t>(most_bytes_ / block_bytes, size_t{1} << below(12));
        const auto blocks = static_cast<uint32_t>(1 + below(limit));
        const uint64_t block = below(capacity_.blocks - blocks + 1);
        const bool write = below(2) == 0, ten = below(2) == 0;
        const uint8_t opcode = write ? (ten ? write10 : write16) : (ten ? read10 : read16);
        const Header header = !options_.v4    ? Header::v3
                              : !options_.v3  ? Header::v4
                              : below(2) == 0 ? Header::v3
                                              : Header::v4;
        const auto data = buffer_.use(blocks * block_bytes, below(3) == 0 ? below(most_misplacement + 1) : 0);
        const auto expected = std::span(shadow_).subspan(block * block_bytes, data.size());
        if (write) fill(data);
        // the kernel's own v4 node (bsg) knows no scattered buffers
        const bool scattered = below(3) == 0 && (options_.v3 || header == Header::v3);
        const Answer answer = node_.send({.cdb = transfer(opcode, block, blocks, fua_ && below(8) == 0),
                                          .direction = write ? Direction::to_device : Direction::from_device,
                                          .data = data,
                                          .pieces = scattered ? pieces_of(data) : std::vector<iovec>{}},
                                         header);
        const std::string what = fmt::format("compare.{}: {:#04x}, {} blocks at {}, v{}{}", number, opcode, blocks,
                                             block, header == Header::v3 ? 3 : 4, scattered ? ", scattered" : "");
        if (!answer.good()) return expect(what, answer.text(), "GOOD");
        if (answer.residual != 0) return expect(what, fmt::format("residual {}", answer.residual), "residual 0");
        if (!buffer_.intact()) return expect(what, "memory around it written", "untouched");
        if (write) std::copy(data.begin(), data.end(), expected.begin());
        const auto [here, there] = std::mismatch(data.begin(), data.end(), expected.begin());
        if (here != data.end()) return expect(what, fmt::format("differs at byte {}", here - data.begin()), "equal");
        ++(write ? writes_ : reads_);
        bytes_ += data.size();
    }

    std::vector<iovec> pieces_of(std::span<std::byte> data) {
        std::vector<iovec> pieces;
        while (!data.empty()) {
            const bool last = pieces.size() + 1 == most_pieces;
            const size_t bytes = last ? data.size() : 1 + below(data.size());
            pieces.push_back({.iov_base = data.data(), .iov_len = bytes});
            data = data.subspan(bytes);
        }
        return pieces;
    }

    void fill(std::span<std::byte> data) {
        uint64_t word = random_();
        for (std::byte& byte : data) {
            word = word * 6364136223846793005U + 1442695040888963407U;
            byte = static_cast<std::byte>(word >> 56);
        }
    }

    size_t below(size_t limit) { return std::uniform_int_distribution<size_t>(0, limit - 1)(random_); }

    CompareOptions options_;
    SgNode node_;
    std::mt19937_64 random_;
    Header first_header_;
    Capacity capacity_;
    bool fua_;
    size_t most_bytes_;
    GuardedBuffer buffer_;
    std::vector<std::byte> shadow_;
    uint64_t reads_ = 0, writes_ = 0, bytes_ = 0;
};

}  // namespace

void compare(const std::string& path, const CompareOptions& options) { Comparison(path, options).run(); }

}  // namespace storctl::sg_client
