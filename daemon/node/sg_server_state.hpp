#pragma once
// The SCSI server from inside, for its own files only (sg_server*.cpp).

#include <map>
#include <mutex>
#include <vector>

#include "daemon/node/cuse_call.hpp"
#include "daemon/node/cuse_threads.hpp"
#include "daemon/node/sg/controls.hpp"
#include "daemon/node/sg_server.hpp"

namespace storctl::node {

/// Memory for the data of commands in flight: page-aligned, since it goes down to an O_DIRECT backing as it is. The
/// last one given back is the next to be taken, which keeps the memory in use small and warm.
class SgBuffers : public std::enable_shared_from_this<SgBuffers> {
 public:
    static constexpr size_t data_bytes = sg_most_data_bytes;
    static constexpr size_t bytes = data_bytes + sg_scratch_bytes;
    static constexpr size_t count = 128;  ///< with those that nobody waits for any more

    static std::shared_ptr<SgBuffers> make();
    ~SgBuffers();
    /// Null: all are in use.
    std::shared_ptr<std::byte> take();

 private:
    SgBuffers() = default;
    std::byte* memory_ = nullptr;
    std::mutex mutex_;  // guards free_
    std::vector<std::byte*> free_;
};

/// A file that a consumer has open. It lives until the file is closed and nobody works on it any more.
struct SgOpen {
    SgOpen(uint64_t the_handle, CuseChannel& channel) : handle(the_handle), calls(channel) {}

    const uint64_t handle;  ///< in the open table, and the one that the kernel gives back
    bool writes = false;
    uint32_t uid = 0, gid = 0;  ///< of whoever opened
    std::shared_ptr<scsi::Nexus> nexus;
    CuseCalls calls;
    std::atomic<unsigned> in_flight{0};
    /// Commands that the layers still have and nobody waits for.
    std::shared_ptr<std::atomic<unsigned>> left_behind = std::make_shared<std::atomic<unsigned>>(0);

    std::mutex mutex;  // guards what follows
    std::condition_variable answers_changed;
    sg::Controls controls;
    uint64_t poll_handle = 0;

    /// write() and read() reach for memory by pointers that are in the data: only for whoever opened, not for a program
    /// that was handed the descriptor as the place for its output.
    bool is_opener(const CuseRequest& request) const { return request.uid == uid && request.gid == gid; }
};

struct SgServer::State : std::enable_shared_from_this<SgServer::State> {
    Result<void> start();
    void serve(CuseTurn& turn);

    // opens (sg_server.cpp)
    std::shared_ptr<SgOpen> file_of(const CuseRequest& request);
    void open(CuseTurn& turn);
    void release(SgOpen& file, const CuseRequest& request);

    // commands (sg_server_commands.cpp)
    void ioctl(CuseTurn& turn, SgOpen& file);
    int control(CuseTurn& turn, SgOpen& file, CallerMemory& memory);
    int transfer(CuseTurn& turn, SgOpen& file, CallerMemory& memory);
    void write(CuseTurn& turn, SgOpen& file);
    void read(CuseTurn& turn, SgOpen& file);
    void poll(SgOpen& file, const CuseRequest& request);
    struct Run;
    /// Each: 0, a negative errno, or CallerMemory::again.
    int prepare(SgOpen& file, CallerMemory& memory, Run& work);
    int execute(CuseTurn& turn, SgOpen& file, Run& work);
    int flush(CuseTurn& turn, SgOpen& file);

    SgServerOptions options;
    std::shared_ptr<ScsiUnit> unit;
    std::shared_ptr<ReactorPort> port;
    std::function<void()> closed;
    std::shared_ptr<SgBuffers> buffers;
    std::shared_ptr<CuseThreads> threads;
    std::string path;

    std::mutex opens_mutex;  // guards opens
    std::map<uint64_t, std::shared_ptr<SgOpen>> opens;
    std::atomic<unsigned> identifying{0};
};

}  // namespace storctl::node
