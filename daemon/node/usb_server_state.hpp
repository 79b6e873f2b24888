#pragma once
// The USB server from inside, for its own files only (usb_server*.cpp).
//
// Lock order: none is taken while another is held, but UsbWorker::mutex inside State::workers_mutex. No lock is held in
// a call of a device or of the caller's memory.

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>

#include <pthread.h>

#include "daemon/node/caller/retry_memory.hpp"
#include "daemon/node/cuse_channel.hpp"
#include "daemon/node/usb_device_file.hpp"
#include "daemon/node/usb_server.hpp"
#include "daemon/node/usbfs/denial_log.hpp"
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

    struct Leg {
        std::shared_ptr<RetryMemory> memory;  ///< null while the operation is being carried out
        std::chrono::steady_clock::time_point since;
    };
    std::mutex legs_mutex;
    std::map<LegKey, Leg> legs;  ///< from the first leg of a call to its last
    std::atomic<bool> told_gone{false};
};

/// bConfigurationValue of the device; 0: not configured, or not there.
uint8_t active_configuration(const std::string& usbfs_path);

/// One thread that takes requests.
struct UsbWorker {
    /// of the request that it has: executing → touching (the caller's memory) → executing → … ; given_up: answered by
    /// another
    enum class Phase : uint8_t { executing, touching, given_up };

    pthread_t thread{};
    std::mutex mutex;            // guards unique and signals_sent against an interrupt that is under way
    uint64_t unique = 0;         ///< 0: none
    int caller = 0;              ///< the thread that waits for the answer
    bool interruptible = false;  ///< a signal that does not kill the caller ends the request too
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
    /// A request whose caller was interrupted.
    struct Interrupt {
        std::shared_ptr<UsbWorker> worker;
        uint64_t unique = 0;
        std::chrono::steady_clock::time_point since;
    };
    /// One look at it. False: nothing is left to do.
    bool pursue(const Interrupt& interrupt);
    /// Threads that wait in a call of a device come back with -EINTR. False: not all within `limit`.
    bool shake_off(std::chrono::milliseconds limit);
    void signal(UsbWorker& worker);
    void notify_when_ready();
    void watch(UsbOpen& open, uint32_t events);
    void poke_notifier() const;
    void notify(UsbOpen& open);
    bool end(std::chrono::milliseconds limit);
    /// Lets the devices of these files go, each on a thread of its own: the kernel ends what is in flight, which takes
    /// as long as the host controller likes. False: not within `limit`.
    bool let_go(const std::vector<std::shared_ptr<UsbOpen>>& files, std::chrono::milliseconds limit);

    // requests (usb_server_requests.cpp)
    /// The file behind a request. Takes no lock: a request about a file never comes beside its release. Null: none.
    UsbOpen* file_of(const CuseRequest& request) const;
    int open_file(uint64_t table_handle, bool writes, std::shared_ptr<UsbOpen>& file);
    void forget(UsbOpen& file);
    void open(UsbWorker& worker, const CuseRequest& request);
    void release(UsbOpen& open, const CuseRequest& request);
    void ioctl(UsbWorker& worker, UsbOpen& open, const CuseRequest& request);
    std::shared_ptr<RetryMemory> take_leg(UsbOpen& open, const UsbOpen::LegKey& key, const CuseRequest& request);
    static void put_leg(UsbOpen& open, const UsbOpen::LegKey& key, std::shared_ptr<RetryMemory> memory);
    void poll(UsbOpen& open, const CuseRequest& request);
    void denied(const std::string& what);

    // the device (usb_server.cpp)
    Result<void> give_device(const std::string& path);
    void take_device_away(const std::string& path);
    std::string find_again(const std::string& left);
    std::vector<Opener> openers();
    void tell_openers();
    bool revoke();

    static constexpr size_t most_opens = 32;

    const UsbServerOptions options;
    const UsbServerListener listener;
    std::unique_ptr<CuseChannel> channel;
    usbfs::Statistics statistics;
    usbfs::BufferBudget budget;

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
    UniqueFd notifier_poke;
    bool notifier_runs = false;  // workers_mutex

    std::mutex interrupts_mutex;
    std::list<Interrupt> interrupts;  ///< pursued by the notifier

    usbfs::DenialLog denials;
};

}  // namespace storctl::node
