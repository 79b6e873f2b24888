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

Exit usb_tree(const Invocation&);
Exit usb_list(const Invocation&);
Exit usb_claims(const Invocation&);
Exit usb_claim(const Invocation&);
Exit usb_release(const Invocation&);
Exit usb_explain(const Invocation&);
Exit usb_rule_add(const Invocation&);
Exit usb_rule_list(const Invocation&);
Exit usb_rule_remove(const Invocation&);
std::span<const Column> usb_device_columns();
std::span<const Column> claim_columns();
std::span<const Column> usb_rule_columns();

Exit pci_list(const Invocation&);
Exit pci_claim(const Invocation&);
Exit pci_release(const Invocation&);
Exit pci_explain(const Invocation&);
std::span<const Column> pci_columns();

Exit hook_udev(const Invocation&);
Exit hook_libvirt(const Invocation&);

}  // namespace storctl::cli
