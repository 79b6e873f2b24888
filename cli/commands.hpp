#pragma once
// What each verb does; verbs.cpp names them. Main thread. Each reports its own errors and says how storctl ends.

#include <span>

#include "cli/exit.hpp"
#include "cli/table.hpp"

namespace storctl::cli {

class Invocation;

Exit show_status(const Invocation&);
Exit monitor(const Invocation&);
Exit show_version(const Invocation&);

Exit device_list(const Invocation&);
Exit device_show(const Invocation&);
Exit device_share(const Invocation&);
Exit device_rescan(const Invocation&);
std::span<const Column> device_columns();

Exit node_create(const Invocation&);
Exit node_list(const Invocation&);
Exit node_show(const Invocation&);
Exit node_stat(const Invocation&);
Exit node_remove(const Invocation&);
std::span<const Column> node_columns();
std::span<const Column> node_stat_columns();

Exit hook_udev(const Invocation&);
Exit hook_libvirt(const Invocation&);

}  // namespace storctl::cli
