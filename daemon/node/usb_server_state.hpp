#pragma once
// The USB server from inside, for its own files only (usb_server*.cpp).
//
// Lock order: none is taken while another is held, but Worker::mutex inside State::workers_mutex. No lock is held in a
// call of a device, of the caller's memory or of the channel.

#include <array>
#include <atomic>
#include <condition_variable>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <tuple>

#include <pthread.h>

#include "daemon/node/cuse_channel.hpp"
#include "daemon/node/usb_device_file.hpp"
#include "daemon/node/usb_server.hpp"
#include "daemon/node/usbfs/retry_memory.hpp"
#include "daemon/node/usbfs/session.hpp"

namespace storctl::node {

/// A file that a consumer has open. It lives until the file is closed and nobody works on it any more.
struct UsbOpen : std::enable_shared_from_this<UsbOpen> {
    /// Who asked what: the thread, the ioctl, its argument.
    using LegKey = std::tuple<int, uint32_t, uint64_t>;
    enum class Reach : uint8_t { untried, direct, legs };

    uint64_t table_handle = 0;  ///< in the open table
    uint64_t id = 0;            ///< the handle that the kernel gives back, and in the notifier; never 0, never again
    int fd = -1;                ///< of the real file, the same until the end
    std::string path;           ///< of the real node when it was opened
    std::unique_ptr<usbfs::Session> session;
    std::atomic<uint64_t> poll_handle{0};
    std::atomic<Reach> reach{Reach::untried};  ///< how the memory of whoever opened it is got at

    std::mutex legs_mutex;
    std::map<LegKey, std::shared_ptr<usbfs::RetryMemory>> legs;  ///< between two legs
};

/// One thread that takes requests.
struct UsbWorker {
    /// of the request that it has: executing → touching (the caller's memory) → executing → … ; given_up: answered by
    /// another
    enum class Phase : uint8_t { executing, touching, given_up };

    pthread_t thread{};
    std::mutex mutex;     // guards unique and signals_sent against an interrupt that is under way
    uint64_t unique = 0;  ///< 0: none
    unsigned signals_sent = 0;
    std::atomic<unsigned> signals_taken{0};
    std::atomic<Phase> phase{Phase::executing};
    std::atomic<bool> on_device{false};  ///< may be inside a call of a real file
};

struct UsbServer::State : std::enable_shared_from_this<UsbServer::State> {
    State(UsbServerOptions options, UsbServerListener listener);
    ~State();

    Result<void> start();

    // threads (usb_server_threads.cpp)
    /// False: there are as many as there may be.
    bool add_worker();
    void work(UsbWorker& worker);
    /// `last`: no other thread is left to take requests, so this one must not wait.
    void serve(UsbWorker& worker, const CuseRequest& request, bool last);
    void interrupt(const CuseRequest& request);
    /// Threads that wait in a call of a device come back with -EINTR. False: not all within `limit`.
    bool shake_off(std::chrono::milliseconds limit);
    void signal(UsbWorker& worker);
    void notify_when_ready();
    void watch(UsbOpen& open);
    void notify(UsbOpen& open);
    bool end(std::chrono::milliseconds limit);

    // requests (usb_server_requests.cpp)
    /// The file behind a request. Takes no lock: a request about a file never comes beside its release. Null: none.
    UsbOpen* file_of(const CuseRequest& request) const;
    int open_file(uint64_t table_handle, bool writes, std::shared_ptr<UsbOpen>& file);
    void forget(UsbOpen& file);
    void open(UsbWorker& worker, const CuseRequest& request);
    void release(UsbOpen& open, const CuseRequest& request);
    void ioctl(UsbWorker& worker, UsbOpen& open, const CuseRequest& request);
    void poll(UsbOpen& open, const CuseRequest& request);
    void denied(const std::string& what);

    // the device (usb_server.cpp)
    Result<void> give_device(const std::string& path);
    void take_device_away(const std::string& path);
    std::string find_again(const std::string& left);
    std::vector<Opener> openers();
    void tell_openers();
    bool revoke();

    static constexpr size_t most_opens = 256;

    const UsbServerOptions options;
    const UsbServerListener listener;
    std::unique_ptr<CuseChannel> channel;
    usbfs::Statistics statistics;

    std::mutex device_mutex;  // guards the device
    std::condition_variable device_changed;
    std::string path;  ///< empty: absent
    std::vector<uint8_t> descriptors;
    std::unique_ptr<usbfs::Filter> filter;  ///< made once, when the descriptors are known
    std::atomic<uint8_t> configuration{0};  ///< bConfigurationValue; changed without the lock

    std::mutex opens_mutex;  // guards the open files
    OpenTable table;
    std::map<uint64_t, std::shared_ptr<UsbOpen>> opens;  ///< by id
    uint64_t next_open = 1;
    std::array<std::atomic<UsbOpen*>, most_opens> places{};  ///< by the id's remainder; read without the lock

    std::mutex workers_mutex;  // guards the list of threads
    std::condition_variable worker_ended;
    std::list<std::shared_ptr<UsbWorker>> workers;
    std::atomic<size_t> idle{0};
    std::atomic<bool> ending{false};
    std::atomic<bool> revoked{false};

    UniqueFd ready;  ///< epoll: real files that somebody waits for
    UniqueFd ready_end;
    bool notifier_runs = false;  // workers_mutex

    std::mutex denied_mutex;
    std::set<std::string> denied_once;
};

}  // namespace storctl::node
