// A million random operations against a model that keeps flat lists and looks through all of them every time: same
// decisions, same claims, and after each operation the stored counters are the recounted ones.

#include <algorithm>
#include <cstdlib>
#include <random>
#include <set>
#include <utility>

#include <doctest/doctest.h>

#include "tests/unit/usbarb_host.hpp"

using namespace storctl;
using namespace storctl::usbarb;
using namespace storctl::usbarb::testing;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int default_operations = 50'000;
#else
constexpr int default_operations = 1'000'000;
#endif

struct Place {
    Socket socket;
    bool hub;
    std::vector<Half> halves;
};

std::vector<Place> universe() {
    std::vector<Place> places;
    for (const std::string controller : {"0000:00:14.0", "0000:05:00.0"}) {
        const auto add = [&](const char* ports, bool hub, std::vector<Half> halves) {
            places.push_back({socket(controller + "/" + ports), hub, std::move(halves)});
        };
        add("1", true, {Half::usb2, Half::usb3});
        add("1.1", false, {Half::usb2});
        add("1.2", true, {Half::usb2, Half::usb3});
        add("1.2.1", false, {Half::usb2});
        add("1.2.2", false, {Half::usb3});
        add("1.2.3", true, {Half::usb2});
        add("1.2.3.1", false, {Half::usb2});
        add("2", false, {Half::usb2});
        add("usb3-1", false, {Half::usb3});
        add("usb3-2", true, {Half::usb3});
        add("usb3-2.1", false, {Half::usb3});
    }
    return places;
}

struct ModelClaim {
    ClaimId id;
    ClaimKind kind;
    Socket target;
    std::string holder;
    bool lost = false, releasing = false;
    bool covered = false;
    std::string serial;
    std::set<Half> halves;  // of which the serial number is known
    WallTime deadline{};
    bool stands() const { return !lost; }
};

class Model {
 public:
    std::map<std::pair<Socket, Half>, std::string> plugged;  // with the serial number
    std::set<Socket> hubs;
    std::set<Socket> mounted;
    std::map<ClaimId, ModelClaim> claims;

    bool present(const Socket& at) const {
        return plugged.contains({at, Half::usb2}) || plugged.contains({at, Half::usb3});
    }
    std::string serial(const Socket& at) const {
        const auto low = plugged.find({at, Half::usb2});
        return low != plugged.end() ? low->second : plugged.at({at, Half::usb3});
    }
    const ModelClaim* passed(const Socket& at) const {
        return any([&](const ModelClaim& c) {
            return c.kind == ClaimKind::controller && c.target.controller == at.controller;
        });
    }
    const ModelClaim* on(const Socket& at) const {
        return any([&](const ModelClaim& c) { return c.kind != ClaimKind::controller && c.target == at; });
    }
    const ModelClaim* hub_above(const Socket& at) const {
        return any([&](const ModelClaim& c) { return c.kind == ClaimKind::hub && at.is_below(c.target); });
    }
    bool in_use_by_host(const Socket& at) const {
        return mounted.contains(at) && present(at) && !hubs.contains(at) && !passed(at) && !on(at) && !hub_above(at);
    }
    bool anything_below(const Socket& at) const {
        const bool claimed = any([&](const ModelClaim& c) {
                                 return c.kind != ClaimKind::controller && !c.covered && c.target.is_below(at);
                             }) != nullptr;
        return claimed || std::any_of(mounted.begin(), mounted.end(),
                                      [&](const Socket& m) { return m.is_below(at) && in_use_by_host(m); });
    }

    enum class Answer { granted, existing, denied };
    Answer judge(const Target& target, const std::string& holder) const {
        const ModelClaim* held = target.kind == ClaimKind::controller ? passed(target.socket) : on(target.socket);
        if (held != nullptr) return held->holder == holder && !held->releasing ? Answer::existing : Answer::denied;
        if (target.kind == ClaimKind::controller) {
            return anything_below(target.socket) ? Answer::denied : Answer::granted;
        }
        if (passed(target.socket)) return Answer::denied;
        const ModelClaim* hub = hub_above(target.socket);
        if (hub != nullptr && hub->holder != holder) return Answer::denied;
        // also below an own hub, where it makes no claim
        if (mounted.contains(target.socket) && present(target.socket)) return Answer::denied;
        if (target.kind == ClaimKind::hub && anything_below(target.socket)) return Answer::denied;
        return Answer::granted;
    }

    void lose(const Socket& at, WallTime now) {
        mounted.erase(at);
        for (auto entry = claims.begin(); entry != claims.end();) {
            ModelClaim& c = entry->second;
            const bool here = c.kind != ClaimKind::controller && c.target == at && c.stands();
            if (here && c.releasing) {
                entry = claims.erase(entry);
                continue;
            }
            if (here) {
                c.covered = false;
                c.lost = true;
                c.deadline = now + std::chrono::seconds(30);
            }
            ++entry;
        }
    }

    void unplug(const Socket& at, Half half, WallTime now) {
        std::vector<Socket> touched;
        std::erase_if(plugged, [&](const auto& entry) {
            const auto& [where, on_half] = entry.first;
            const bool goes = on_half == half && (where == at || where.is_below(at));
            if (goes) touched.push_back(where);
            return goes;
        });
        for (const Socket& where : touched) {
            if (!present(where)) lose(where, now);
        }
    }

    void plug(const Socket& at, Half half, const std::string& with) {
        plugged[{at, half}] = with;
        return_lost(at, with);
        for (auto& [id, c] : claims) {
            if (c.kind != ClaimKind::controller && c.target == at && c.stands()) learn(c);
        }
    }

    void learn(ModelClaim& c) const {
        for (const Half half : {Half::usb2, Half::usb3}) {
            if (plugged.contains({c.target, half})) c.halves.insert(half);
        }
    }

    void return_lost(const Socket& at, const std::string& with) {
        const auto recognised = [&](const ModelClaim& c) {
            return std::any_of(c.halves.begin(), c.halves.end(), [&](Half h) { return plugged.contains({at, h}); });
        };
        std::vector<ModelClaim*> latest_first;
        for (auto& [id, c] : claims) {
            if (c.lost && c.target == at && c.serial == with && recognised(c))
                latest_first.insert(latest_first.begin(), &c);
        }
        std::stable_sort(latest_first.begin(), latest_first.end(),
                         [](const ModelClaim* a, const ModelClaim* b) { return a->deadline > b->deadline; });
        for (ModelClaim* candidate : latest_first) {
            ModelClaim& c = *candidate;
            if (on(at) || passed(at)) continue;
            const ModelClaim* hub = hub_above(at);
            if (hub != nullptr && hub->holder != c.holder) continue;
            if (c.kind == ClaimKind::hub) {
                const bool foreign = any([&](const ModelClaim& o) {
                                         return o.target.is_below(at) && o.holder != c.holder;
                                     }) != nullptr ||
                                     std::any_of(mounted.begin(), mounted.end(),
                                                 [&](const Socket& m) { return m.is_below(at) && in_use_by_host(m); });
                if (foreign) continue;
                for (auto& [other, o] : claims) {
                    if (o.stands() && o.target.is_below(at)) o.covered = true;
                }
            }
            c.lost = false;
            c.covered = hub != nullptr;
            return;
        }
    }

    void finish(ClaimId id) {
        const ModelClaim ended = claims.at(id);
        claims.erase(id);
        if (ended.kind != ClaimKind::hub) return;
        for (auto& [other, o] : claims) {
            if (o.stands() && o.covered && !hub_above(o.target)) o.covered = false;
        }
    }

    std::map<std::string, uint32_t> counters() const {
        std::map<std::string, uint32_t> out;
        const auto count = [&](const Socket& target, Half half) {
            for (Socket at = target; !at.is_root();) {
                at = at.parent();
                ++out[to_text(at)];
            }
            ++out[target.controller + (half == Half::usb2 ? " usb2" : " usb3")];
        };
        for (const auto& [id, c] : claims) {
            if (c.kind != ClaimKind::controller && c.stands() && !c.covered) count(c.target, half_.at(id));
        }
        for (const Socket& m : mounted) {
            if (in_use_by_host(m)) count(m, plugged.contains({m, Half::usb2}) ? Half::usb2 : Half::usb3);
        }
        return out;
    }

    /// On which bus a claim counts is fixed when it is made, or made again.
    void remember_halves(const std::vector<ClaimRecord>& records) {
        for (const auto& record : records) {
            for (const auto& name : record.counted) {
                if (name.ends_with(" usb2")) half_[record.id] = Half::usb2;
                if (name.ends_with(" usb3")) half_[record.id] = Half::usb3;
            }
        }
    }

 private:
    template <class Wanted>
    const ModelClaim* any(const Wanted& wanted) const {
        for (const auto& [id, c] : claims) {
            if (c.stands() && wanted(c)) return &c;
        }
        return nullptr;
    }
    std::map<ClaimId, Half> half_;
};

std::string text_of(const std::map<std::string, uint32_t>& counters) {
    std::string text;
    for (const auto& [name, value] : counters) text += fmt::format("[{}: {}] ", name, value);
    return text;
}

class Run {
 public:
    explicit Run(uint32_t seed) : random_(seed) {
        for (const auto& place : places_) {
            if (place.hub) model_.hubs.insert(place.socket);
        }
        start();
    }

    void step() {
        now_ += std::chrono::seconds(pick(3));
        const size_t action = pick(18);
        CAPTURE(action);
        switch (action) {
            case 0:
            case 1:
            case 2:
                plug();
                break;
            case 3:
                unplug();
                break;
            case 4:
            case 5:
            case 6:
            case 7:
                claim_devices();
                break;
            case 8:
                claim_function();
                break;
            case 9:
            case 10:
            case 11:
                release();
                break;
            case 12:
            case 13:
                use();
                break;
            case 14:
                expire();
                break;
            case 15:
            case 16:
                plug();
                break;
            default:
                if (pick(50) == 0) crash_and_reload();
        }
        CAPTURE(last_);
        compare();
    }

    size_t granted = 0, denied = 0, lost = 0, restored = 0, reloads = 0;

 private:
    std::string last_;
    size_t pick(size_t below) { return std::uniform_int_distribution<size_t>(0, below - 1)(random_); }
    const Place& place() { return places_[pick(places_.size())]; }
    std::string holder() { return fmt::format("vm:{}", pick(3)); }

    void start() {
        arbiter_ = std::make_unique<Arbiter>();
        for (const std::string path : {"0000:00:14.0", "0000:05:00.0"}) arbiter_->put_controller(usb_controller(path));
    }

    void take(const Changes& changes) {
        for (const auto& change : changes) {
            if (change.what == Change::What::lost) ++lost;
            if (change.what == Change::What::restored) ++restored;
        }
    }

    DeviceFacts facts(const Place& at, Half half, const std::string& serial) {
        DeviceFacts out{.socket = at.socket, .half = half};
        out.identity = {.vendor_id = 1, .product_id = 2, .serial = serial};
        out.hub = at.hub;
        return out;
    }

    void plug() {
        const bool again = recent_ != nullptr && pick(2) == 0;
        const Place& at = again ? *recent_ : place();
        const Half half = at.halves[pick(at.halves.size())];
        // nothing comes below a hub that is not there, nor below a controller that is away
        if (at.socket.ports.size() > 1 && !model_.plugged.contains({at.socket.parent(), half})) return;
        if (model_.passed(at.socket) || model_.plugged.contains({at.socket, half})) return;
        std::string serial = pick(8) == 0 ? "another" : "usual";
        if (model_.present(at.socket)) serial = model_.serial(at.socket);
        last_ = fmt::format("plug {} {} {}", to_text(at.socket), to_text(half), serial);
        take(arbiter_->plug(facts(at, half, serial), now_));
        model_.plug(at.socket, half, serial);
    }

    void unplug() {
        const Place& at = place();
        const Half half = at.halves[pick(at.halves.size())];
        if (model_.passed(at.socket)) return;
        recent_ = &at;
        last_ = "unplug " + to_text(at.socket);
        take(arbiter_->unplug(at.socket, half, now_));
        model_.unplug(at.socket, half, now_);
    }

    void claim(const std::vector<Target>& targets, const std::string& who) {
        // the model, one target after the other, on a copy
        Model attempt = model_;
        std::vector<ModelClaim> made;
        bool all = true;
        ClaimId provisional_id = ClaimId{1} << 40;
        for (const Target& target : targets) {
            const auto answer = attempt.judge(target, who);
            if (answer == Model::Answer::denied) all = false;
            if (answer != Model::Answer::granted) continue;
            ModelClaim c{.id = provisional_id++, .kind = target.kind, .target = target.socket, .holder = who};
            const bool below_hub = target.kind != ClaimKind::controller && attempt.hub_above(target.socket);
            c.covered = below_hub;
            if (target.kind != ClaimKind::controller) {
                c.serial = model_.serial(target.socket);
                model_.learn(c);
            }
            attempt.claims[c.id] = c;
            made.push_back(c);
        }
        const Request request{.targets = targets, .holder = who};
        const bool explained = arbiter_->explain(request).granted();
        Changes changes;
        const Decision decision = arbiter_->claim(request, now_, changes);
        REQUIRE(explained == all);
        REQUIRE(decision.granted() == all);
        REQUIRE((all || !decision.blockers.empty()));
        ++(all ? granted : denied);
        if (!all) return;
        for (const auto& change : changes) {
            if (change.what == Change::What::removed && !change.claim.observed) model_.claims.erase(change.claim.id);
        }
        size_t next = 0;
        for (const auto& change : changes) {
            if (change.what != Change::What::added || change.claim.observed) continue;
            ModelClaim c = made.at(next++);
            c.id = change.claim.id;
            model_.claims[c.id] = c;
        }
        REQUIRE(next == made.size());
    }

    void claim_devices() {
        std::vector<Target> targets;
        const size_t number = pick(5) == 0 ? 3 : 1;
        for (size_t i = 0; i < number; ++i) {
            const Place& at = place();
            if (!model_.present(at.socket)) continue;
            targets.push_back({.kind = at.hub ? ClaimKind::hub : ClaimKind::device, .socket = at.socket});
        }
        if (!targets.empty()) claim(targets, holder());
    }

    void claim_function() {
        Socket root;
        root.controller = pick(2) == 0 ? "0000:00:14.0" : "0000:05:00.0";
        const std::string who = holder();
        claim({{.kind = ClaimKind::controller, .socket = root}}, who);
        // its devices leave the host's sight
        const ModelClaim* passed = model_.passed(root);
        if (passed == nullptr || passed->holder != who) return;
        for (const auto& at : places_) {
            if (at.socket.controller != root.controller) continue;
            for (const Half half : at.halves) {
                take(arbiter_->unplug(at.socket, half, now_));
                model_.unplug(at.socket, half, now_);
            }
        }
    }

    void release() {
        if (model_.claims.empty()) return;
        auto chosen = std::next(model_.claims.begin(), pick(model_.claims.size()));
        const ClaimId id = chosen->first;
        ModelClaim& c = chosen->second;
        if (c.releasing) {
            take(arbiter_->finish_release(id, now_));
            const bool function = c.kind == ClaimKind::controller;
            const std::string path = c.target.controller;
            model_.finish(id);
            if (function) take(arbiter_->forget_absent(path));
            return;
        }
        take(arbiter_->begin_release(id, false));
        if (c.lost) {
            model_.claims.erase(id);
        } else {
            c.releasing = true;
        }
    }

    void use() {
        const Place& at = place();
        const bool used = pick(2) == 0;
        if (at.hub || !model_.present(at.socket)) return;
        std::vector<Use> uses;
        if (used) uses.push_back({.kind = UseKind::mount, .text = "mounted"});
        take(arbiter_->set_uses(at.socket, uses, now_));
        if (used) {
            model_.mounted.insert(at.socket);
        } else {
            model_.mounted.erase(at.socket);
        }
    }

    void expire() {
        take(arbiter_->expire(now_));
        std::erase_if(model_.claims,
                      [&](const auto& entry) { return entry.second.lost && entry.second.deadline <= now_; });
    }

    void crash_and_reload() {
        last_ = "reload";
        ++reloads;
        std::vector<ClaimRecord> records;
        for (const auto& record : arbiter_->claims()) {
            if (!record.observed) records.push_back(record);
        }
        start();
        std::vector<DeviceFacts> present;
        for (const auto& [where, serial] : model_.plugged) {
            const auto& [at, half] = where;
            const auto of =
                std::find_if(places_.begin(), places_.end(), [&](const Place& p) { return p.socket == at; });
            present.push_back(facts(*of, half, serial));
        }
        take(arbiter_->replace_all({usb_controller("0000:00:14.0"), usb_controller("0000:05:00.0")}, present, now_));
        take(arbiter_->restore(records, now_));
        std::set<Socket> waiting;
        for (const auto& [id, c] : model_.claims) {
            if (c.lost) waiting.insert(c.target);
        }
        // what the host uses is told after that
        const auto mounted = std::exchange(model_.mounted, {});
        for (const Socket& at : waiting) {
            if (model_.present(at)) model_.return_lost(at, model_.serial(at));
        }
        model_.mounted = mounted;
        for (const Socket& at : model_.mounted) {
            take(arbiter_->set_uses(at, {{.kind = UseKind::mount, .text = "mounted"}}, now_));
        }
    }

    void compare() {
        const auto stored = arbiter_->counters();
        const auto records = arbiter_->claims();
        model_.remember_halves(records);
        REQUIRE(stored == arbiter_->recount());
        REQUIRE(text_of(stored) == text_of(model_.counters()));
        std::vector<const ClaimRecord*> standing;
        size_t asked_for = 0;
        for (const auto& record : records) {
            if (!record.observed) {
                ++asked_for;
                const auto& expected = model_.claims.at(record.id);
                REQUIRE(record.covered == expected.covered);
                REQUIRE((record.state == ClaimState::lost) == expected.lost);
                if (!expected.stands()) continue;
            }
            standing.push_back(&record);
        }
        REQUIRE(asked_for == model_.claims.size());
        // at most one holder on any way from a controller to a leaf
        for (const ClaimRecord* one : standing) {
            for (const ClaimRecord* other : standing) {
                const bool on_one_way = one->target == other->target || other->target.is_below(one->target);
                if (on_one_way && one->kind != ClaimKind::device) REQUIRE(one->holder == other->holder);
            }
        }
    }

    std::mt19937 random_;
    const Place* recent_ = nullptr;
    const std::vector<Place> places_ = universe();
    std::unique_ptr<Arbiter> arbiter_;
    Model model_;
    WallTime now_ = at(0);
};

}  // namespace

TEST_CASE("a million random operations agree with a model that looks through everything") {
    const char* wanted_seed = std::getenv("STORCTL_TEST_SEED");
    const uint32_t seed = wanted_seed != nullptr ? std::strtoul(wanted_seed, nullptr, 10) : std::random_device{}();
    CAPTURE(seed);
    Run run(seed);
    for (int operation = 0; operation < default_operations; ++operation) {
        CAPTURE(operation);
        run.step();
    }
    // The run has been everywhere. Any seed has to pass: each bound is a fifth or less of what is usual.
    CHECK(run.granted > default_operations / 100);
    CHECK(run.denied > default_operations / 100);
    CHECK(run.lost > default_operations / 3000);
    CHECK(run.restored > default_operations / 10000);
    CHECK(run.reloads > default_operations / 5000);
    MESSAGE("seed ", seed, ": ", run.granted, " granted, ", run.denied, " denied, ", run.lost, " lost, ", run.restored,
            " restored, ", run.reloads, " reloads");
}
