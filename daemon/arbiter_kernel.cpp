#include "daemon/arbiter_kernel.hpp"

namespace storctl {
namespace {

class ThisHost final : public ArbiterKernel {
 public:
    static Result<std::unique_ptr<ArbiterKernel>> open(EventLoop& loop, ThisHostOptions options) {
        auto host = std::make_unique<ThisHost>();
        options.discovery.may_ask = [raw = host.get()](const usbarb::Socket& socket) {
            return raw->may_ask_ && raw->may_ask_(socket);
        };
        host->discovery_ =
            TRY(UsbDiscovery::open(loop, std::move(options.discovery), [raw = host.get()](UsbBatch batch) {
                if (raw->listener_) raw->listener_(std::move(batch));
            }));
        host->scanner_ = TRY(UseScanner::open(loop, std::move(options.uses)));
        host->actuator_ = TRY(Actuator::open(loop, std::move(options.actuator)));
        return std::unique_ptr<ArbiterKernel>(std::move(host));
    }

    Result<void> coldplug(Listener listener) override {
        listener_ = std::move(listener);
        return discovery_->coldplug();
    }
    void set_may_ask(std::function<bool(const usbarb::Socket&)> may_ask) override { may_ask_ = std::move(may_ask); }
    Result<void> refresh() override { return discovery_->refresh(); }
    Result<void> rescan() override { return discovery_->rescan(); }
    bool monitoring() const override { return discovery_->monitoring(); }
    void scan(UseRequest request, UseScanner::Done done) override {
        scanner_->scan(std::move(request), std::move(done));
    }
    void run(usbarb::Job job, std::vector<UniqueFd> in, Actuator::Done done) override {
        actuator_->run(std::move(job), std::move(in), std::move(done));
    }

 private:
    Listener listener_;
    std::function<bool(const usbarb::Socket&)> may_ask_;
    std::unique_ptr<UsbDiscovery> discovery_;
    std::unique_ptr<UseScanner> scanner_;
    std::unique_ptr<Actuator> actuator_;
};

}  // namespace

Result<std::unique_ptr<ArbiterKernel>> open_this_host(EventLoop& loop, ThisHostOptions options) {
    return ThisHost::open(loop, std::move(options));
}

}  // namespace storctl
