#include "daemon/arbiter_uses.hpp"

#include "base/log.hpp"
#include "daemon/priorities.hpp"

namespace storctl {
namespace {

// a burst of events is over in less; a person does not notice
constexpr std::chrono::milliseconds settle{250};

}  // namespace

Result<std::unique_ptr<UseWatch>> UseWatch::open(EventLoop& loop, ClaimLedger& ledger, Scan scan) {
    std::unique_ptr<UseWatch> watch(new UseWatch(ledger, std::move(scan)));
    watch->timer_ = TRY(loop.add_timer(settle, priority::node_timers, [raw = watch.get()] {
        raw->soon_ = false;
        raw->look([](const Result<void>&) {});
    }));
    watch->timer_.enable(false);
    return watch;
}

void UseWatch::look_soon() {
    if (soon_) return;
    soon_ = true;
    timer_.arm(settle);
}

void UseWatch::look(std::function<void(Result<void>)> done) {
    auto nodes = nodes_ ? nodes_() : Disks();
    UseRequest request{.nodes = nodes, .usb_nodes = usb_nodes_ ? usb_nodes_() : Disks(), .consoles = consoles_};
    scan_(std::move(request), [this, nodes = std::move(nodes), done = std::move(done)](Result<UseScan> scan) mutable {
        // a node that was made meanwhile is not in what was found
        const bool outdated = scan && nodes_ && nodes_() != nodes;
        if (outdated) return look(std::move(done));
        done(take(std::move(scan)));
    });
}

Result<void> UseWatch::take(Result<UseScan> scan) {
    const std::string before = std::exchange(trouble_, scan ? "" : scan.error().message());
    if (!scan) {
        if (trouble_ != before) log::error("what this host uses of its USB devices is not known: {}", trouble_);
        return std::move(scan).error();
    }
    hidden_processes_ = scan->hidden_processes;
    ledger_.note(ledger_.arbiter().replace_uses(scan->uses, wall_now()));
    return {};
}

}  // namespace storctl
