#pragma once
// The threads of a server behind a CUSE channel. Every one of them takes a request, carries it out, waiting in the
// kernel if need be, and answers it. Whoever takes a request while no other thread is waiting for one first adds a
// thread: so one always is, and a poll is answered whatever the others are stuck in. Spare threads end by themselves.
//
// When a consumer is being killed while it waits for an answer, the server is asked to give the request up, and when
// that does not help it is answered for it: what it comes back with is nobody's any more.

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "daemon/node/caller/memory.hpp"
#include "daemon/node/cuse_channel.hpp"

namespace storctl::node {

/// One request, from the kernel to its answer, on the thread that took it.
class CuseTurn {
 public:
    const CuseRequest& request() const { return request_; }
    /// No other thread is left to take requests: this one must not wait for anything.
    bool last() const { return last_; }
    bool answered() const { return phase_ == Phase::answered; }
    /// The answer is the caller's to give, and nobody else gives it from now on. To be asked once, before the answer.
    bool may_answer() { return phase_.exchange(Phase::answered) != Phase::answered; }
    /// Takes the answer away from whoever works on it. False: it is just reaching for the consumer's memory.
    bool revoke() {
        auto expected = Phase::executing;
        return phase_.compare_exchange_strong(expected, Phase::answered) || expected == Phase::answered;
    }
    /// Reaches for the consumer's memory by `access`, unless the request is answered: then the thread's number may be
    /// another's. -EINTR: it was.
    template <class Access>
    int touch(const Access& access) {
        auto expected = Phase::executing;
        if (!phase_.compare_exchange_strong(expected, Phase::touching)) return -EINTR;
        const int result = access();
        expected = Phase::touching;
        return phase_.compare_exchange_strong(expected, Phase::executing) ? result : -EINTR;
    }

 private:
    friend class CuseThreads;
    enum class Phase : uint8_t { executing, touching, answered };
    CuseTurn(const CuseRequest& request, bool last) : request_(request), last_(last) {}

    const CuseRequest& request_;
    const bool last_;
    std::atomic<Phase> phase_{Phase::executing};

 public:
    void* context = nullptr;  ///< what the server has to do with it, guarded by the server
};

/// The memory of the consumer for as long as its request is ours to answer.
class TurnMemory final : public CallerMemory {
 public:
    TurnMemory(CallerMemory& memory, CuseTurn& turn) : memory_(memory), turn_(turn) {}

    int read(uint64_t address, std::span<std::byte> into) override {
        return turn_.touch([&] { return memory_.read(address, into); });
    }
    int announce_write(uint64_t address, size_t length) override { return memory_.announce_write(address, length); }
    int ready() override { return memory_.ready(); }
    int write(uint64_t address, std::span<const std::byte> from) override {
        return turn_.touch([&] { return memory_.write(address, from); });
    }
    int write_all(std::span<const Piece> pieces) override {
        return turn_.touch([&] { return memory_.write_all(pieces); });
    }
    size_t write_limit() const override { return memory_.write_limit(); }
    bool in_legs() const override { return memory_.in_legs(); }

 private:
    CallerMemory& memory_;
    CuseTurn& turn_;
};

class CuseThreads : public std::enable_shared_from_this<CuseThreads> {
 public:
    struct Handlers {
        /// Carries a request out and answers it.
        std::function<void(CuseTurn&)> serve;
        /// The consumer that waits for the answer is being killed. Called again and again until it is answered, on a
        /// thread of its own.
        std::function<void(CuseTurn&)> give_up;
        std::function<void()> closed;  ///< the connection ended from outside
    };

    /// `name`: for messages. What the handlers refer to has to outlive the threads, of which one that hangs in the
    /// kernel may never end: they should own it.
    static std::shared_ptr<CuseThreads> make(std::string name, std::unique_ptr<CuseChannel> channel, Handlers handlers);
    /// Takes requests from now on. Error: the system gives no threads.
    Result<void> start();
    /// Ends the connection, then the threads. From then on nobody touches a consumer's memory: it is the consumer's own
    /// again. False: not all threads ended within `limit`.
    bool end(std::chrono::milliseconds limit);
    CuseChannel& channel() { return *channel_; }

 private:
    /// One thread; `turn` is null while it waits for a request.
    struct Worker {
        std::mutex mutex;  // guards turn against an interrupt that is under way
        CuseTurn* turn = nullptr;
    };
    struct Interrupt {
        std::shared_ptr<Worker> worker;
        uint64_t unique = 0;
        std::chrono::steady_clock::time_point since;
    };

    CuseThreads(std::string name, std::unique_ptr<CuseChannel> channel, Handlers handlers)
        : name_(std::move(name)), channel_(std::move(channel)), handlers_(std::move(handlers)) {}
    bool add_worker();
    void work(Worker& worker);
    void give_all_up();
    void serve(Worker& worker, const CuseRequest& request, bool last);
    void interrupt(const CuseRequest& request);
    void pursue_interrupts();
    bool pursue(const Interrupt& interrupt);

    const std::string name_;
    const std::unique_ptr<CuseChannel> channel_;
    const Handlers handlers_;

    std::mutex mutex_;  // guards what follows
    std::condition_variable changed_;
    std::list<std::shared_ptr<Worker>> workers_;
    std::list<Interrupt> interrupts_;
    bool pursuer_runs_ = false;

    std::atomic<size_t> idle_{0};
    std::atomic<bool> ending_{false};
};

/// SIGKILL is pending for the thread: by kill(2), or because its process ends by another signal. One that we do not see
/// (0) counts as dying: it is better off with EINTR than unkillable.
bool being_killed(int thread_id);

}  // namespace storctl::node
