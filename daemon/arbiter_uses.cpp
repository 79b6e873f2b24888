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

UseRequest UseWatch::request() const {
    return {.nodes = nodes_ ? nodes_() : Disks(),
            .usb_nodes = usb_nodes_ ? usb_nodes_() : Disks(),
            .processes = processes_ ? processes_() : NodeProcesses(),
            .consoles = consoles_};
}

void UseWatch::look(std::function<void(Result<void>)> done) {
    const auto asked = request();
    scan_(asked, [this, asked, done = std::move(done)](Result<UseScan> scan) mutable {
        // a node that was made meanwhile, or its new process, is not in what was found
        if (scan && request() != asked) return look(std::move(done));
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
