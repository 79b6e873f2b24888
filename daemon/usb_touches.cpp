// Per device:  (nothing) ──came──► present ──went──► removed ──came──► removed, present ──went──► removed
// What came and went is no longer there to be read; that it went is told, whatever was known of it before.

#include "daemon/usb_touches.hpp"

namespace storctl {

void UsbTouches::present(What what, const std::string& syspath, bool first) {
    auto& latest = latest_[syspath];
    if (latest.present != none) {
        auto& touch = touches_[latest.present];
        touch->first = touch->first || first;
        return;
    }
    latest.present = touches_.size();
    touches_.push_back(UsbTouch{.what = what, .syspath = syspath, .first = first});
}

void UsbTouches::removed(What what, const std::string& syspath,
                         std::optional<std::pair<usbarb::Socket, usbarb::Half>> place) {
    auto& latest = latest_[syspath];
    if (latest.present != none) touches_[std::exchange(latest.present, none)].reset();
    if (latest.removed != none) return;
    latest.removed = touches_.size();
    touches_.push_back(UsbTouch{.what = what, .syspath = syspath, .removed = true, .place = std::move(place)});
}

std::vector<UsbTouch> UsbTouches::take() {
    std::vector<UsbTouch> out;
    for (auto& touch : touches_) {
        if (touch) out.push_back(std::move(*touch));
    }
    touches_.clear();
    latest_.clear();
    return out;
}

}  // namespace storctl
