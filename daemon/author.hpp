#pragma once
// Who made a decision, as it is stored and shown: "root (uid 0)".

#include <string>

#include "control/server.hpp"

namespace storctl {

std::string author_of(const control::Peer& peer);

}  // namespace storctl
