#include "daemon/arbiter_rules.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "daemon/arbiter_view.hpp"

namespace storctl {
namespace {

using usbarb::DeviceFacts;
using usbarb::Rule;

}  // namespace

RuleBook::RuleBook(StateDb& db, EventHub& hub, ClaimLedger& ledger, ClaimMaker& maker, UseWatch& uses)
    : db_(db), hub_(hub), ledger_(ledger), maker_(maker), uses_(uses) {}

Result<std::unique_ptr<RuleBook>> RuleBook::open(StateDb& db, EventHub& hub, ClaimLedger& ledger, ClaimMaker& maker,
                                                 UseWatch& uses) {
    std::unique_ptr<RuleBook> book(new RuleBook(db, hub, ledger, maker, uses));
    book->rules_ = TRY(db.usb_rules());
    return book;
}

Result<Rule> RuleBook::add(Rule rule) {
    rule.id = TRY(db_.add_usb_rule(rule));
    rules_.push_back(rule);
    return rule;
}

Result<bool> RuleBook::remove(uint64_t id) {
    const auto found = std::find_if(rules_.begin(), rules_.end(), [id](const Rule& rule) { return rule.id == id; });
    if (found == rules_.end()) return false;
    TRY(db_.remove_usb_rule(id));
    rules_.erase(found);
    return true;
}

void RuleBook::plugged(const DeviceFacts& device) {
    const std::string node = device.devnode();
    if (!seen_.insert(node).second || choose_rule(rules_, device) == nullptr) return;
    waiting_[node] = {.socket = device.socket, .half = device.half};
    if (!looking_) apply();
}

void RuleBook::unplugged(const DeviceFacts& device) {
    const std::string node = device.devnode();
    seen_.erase(node);
    waiting_.erase(node);
    failed_.erase(node);
}

void RuleBook::again(const std::string& controller) {
    std::vector<DeviceFacts> refused;
    ledger_.arbiter().each_device([&](const usbarb::Arbiter::DeviceView& view) {
        const bool meant = view.present && view.facts->socket.controller == controller;
        if (meant && failed_.contains(view.facts->devnode())) refused.push_back(*view.facts);
    });
    for (const auto& device : refused) {
        seen_.erase(device.devnode());
        plugged(device);
    }
}

/// One look for all that came before it; those that come meanwhile get the next one.
void RuleBook::apply() {
    looking_ = true;
    uses_.look([this, turn = std::exchange(waiting_, {})](const Result<void>& looked) {
        looking_ = false;
        for (const auto& [node, place] : turn) {
            const auto view = ledger_.arbiter().device_at(place.socket, place.half);
            if (!view || !view->present || view->facts->devnode() != node) continue;
            if (looked) {
                apply_to(node, place);
            } else if (const Rule* rule = choose_rule(rules_, *view->facts); rule != nullptr) {
                failed(*rule, *view->facts, fmt::format("what is used is not known: {}", looked.error().message()));
            }
        }
        if (!waiting_.empty() && !looking_) apply();
    });
}

void RuleBook::apply_to(const std::string& node, const Waiting& place) {
    const auto view = *ledger_.arbiter().device_at(place.socket, place.half);
    const Rule* const chosen = choose_rule(rules_, *view.facts);
    if (chosen == nullptr) return;
    // its holder has it, by whatever way
    const bool held = view.claim != nullptr && !view.claim->observed && view.claim->holder == chosen->holder;
    if (held) return;
    const Rule rule = *chosen;
    const DeviceFacts device = *view.facts;
    failed_.erase(node);
    const usbarb::Request request{
        .targets = {{.kind = device.hub ? usbarb::ClaimKind::hub : usbarb::ClaimKind::device, .socket = device.socket}},
        .holder = rule.holder,
        .follow_socket = rule.socket.has_value(),
        .origin = fmt::format("rule:{}", rule.id)};
    maker_.claim(request, fmt::format("rule {} of {}", rule.id, rule.created_by),
                 [this, rule, device](const ClaimMaker::Made& made) { claimed(rule, device, made); });
}

void RuleBook::claimed(const Rule& rule, const DeviceFacts& device, const ClaimMaker::Made& made) {
    if (!made.decision.granted()) return failed(rule, device, made.decision.why);
    if (!made.failure.empty()) failed(rule, device, made.failure);
}

void RuleBook::failed(const Rule& rule, const DeviceFacts& device, const std::string& why) {
    const std::string summary = fmt::format("rule {} did not get {} ({}) for {}: {}", rule.id,
                                            usbarb::to_text(device.socket), device.description(), rule.holder, why);
    log::warning("{}", summary);
    const auto view = ledger_.arbiter().device_at(device.socket, device.half);
    if (view && view->present && view->facts->devnode() == device.devnode()) failed_[device.devnode()] = summary;
    hub_.publish({.event = "rule-failed",
                  .subject = usbarb::to_text(device.socket),
                  .summary = summary,
                  .detail = to_json(rule)});
}

std::vector<std::string> RuleBook::findings() const {
    std::vector<std::string> out;
    for (const auto& [node, sentence] : failed_) out.push_back(sentence);
    return out;
}

}  // namespace storctl
