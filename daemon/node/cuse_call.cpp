#include "daemon/node/cuse_call.hpp"

#include <cerrno>
#include <vector>

#include "daemon/node/caller/process_memory.hpp"

namespace storctl::node {

bool CuseCalls::direct(int thread_id) {
    auto reach = reach_.load();
    if (reach == Reach::untried) {
        reach = ProcessMemory::permitted(thread_id) ? Reach::direct : Reach::legs;
        reach_ = reach;
    }
    return reach == Reach::direct && thread_id != 0;
}

void CuseCalls::ioctl(CuseTurn& turn, const Operation& operation) {
    const CuseRequest& request = turn.request();
    if (direct(request.thread_id)) {
        ProcessMemory memory(request.thread_id);
        TurnMemory guarded(memory, turn);
        const int result = operation(guarded);
        if (!turn.may_answer()) return;
        if (result < 0) {
            channel_.answer_error(request.unique, -result);
        } else {
            channel_.answer_ioctl(request.unique, result);
        }
        return;
    }
    const LegTable::Key key{request.thread_id, request.command, request.argument};
    std::shared_ptr<void> lost;
    const auto memory = legs_.take(key, request.in_size == 0 && request.out_size == 0, lost);
    if (lost && on_lost) on_lost(std::move(lost));
    int result = -EBUSY;
    if (memory != nullptr) {
        result = memory->begin(request.in, request.out_size) ? operation(*memory) : -EIO;
        if (result == CallerMemory::again && !memory->plan_next()) result = -ENOMEM;
    }
    const bool more = result == CallerMemory::again;
    if (memory != nullptr) legs_.put(key, more ? memory : nullptr);
    if (!turn.may_answer()) return;
    if (more) {
        std::vector<CallerSegment> in, out;
        for (const auto& segment : memory->in_segments()) in.push_back({segment.address, segment.length});
        for (const auto& segment : memory->out_segments()) out.push_back({segment.address, segment.length});
        channel_.answer_retry(request.unique, in, out);
    } else if (result < 0) {
        channel_.answer_error(request.unique, -result);
    } else {
        const auto written = memory->written();
        const iovec part{const_cast<std::byte*>(written.data()), written.size()};
        channel_.answer_ioctl(request.unique, result, {&part, written.empty() ? size_t{0} : size_t{1}});
    }
}

}  // namespace storctl::node
