#pragma once
// The order in which people look for kernel names. Pure.

#include <string>

namespace storctl::locality {

/// sdb before sdz before sdaa; nvme2n1 before nvme2n10 before nvme10n1.
bool name_before(const std::string& one, const std::string& other);

}  // namespace storctl::locality
