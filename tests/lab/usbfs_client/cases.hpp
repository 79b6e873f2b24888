#pragma once
// The cases, by what they are about. Each opens the node itself and leaves nothing behind: no claim, no URB, the host's
// driver off. `stimulus` is a command for the shell that makes the machine outside do something.

#include <chrono>
#include <string>

namespace storctl::usbfs_client {

// a disk
void description_cases(const std::string& path);    ///< opens, descriptors, what the device is
void claim_cases(const std::string& path);          ///< drivers, claims, configuration, settings
void call_cases(const std::string& path);           ///< synchronous transfers, and calls that are wrong
void urb_cases(const std::string& path);            ///< what is submitted, discarded and reaped
void waiting_cases(const std::string& path);        ///< poll, threads
void disk_lifetime_cases(const std::string& path);  ///< a close in the middle of a command
void libusb_cases(const std::string& path);  ///< a disk by libusb: its sectors, 120 transfers in flight, recovery
/// For so long reads and writes of all sizes, at random, opening anew now and then; every byte
/// compared.
void soak(const std::string& path, std::chrono::seconds duration);
// a device with a bulk pipe that nothing comes out of
void quiet_cases(const std::string& path);     ///< poll, blocking calls, signals, discards, timeouts
void lifetime_cases(const std::string& path);  ///< closes and deaths with URBs in flight
void quiet_libusb_cases(const std::string& path);
void unplug_cases(const std::string& path, const std::string& stimulus);
/// A disk whose pipes have streams.
void stream_cases(const std::string& path);
// a mouse, a sound card, what tests/lab/virtual_device.py is
void input_cases(const std::string& path, const std::string& stimulus);
void sound_cases(const std::string& path);
void capture_cases(const std::string& path);

}  // namespace storctl::usbfs_client
