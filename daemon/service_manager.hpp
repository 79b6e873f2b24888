#pragma once
// What the service manager is told (sd_notify(3)); nothing happens when there is none.

#include <string>

namespace storctl {

void notify_ready(const std::string& status);
void notify_reloading();
void notify_stopping();
void notify_status(const std::string& status);

}  // namespace storctl
