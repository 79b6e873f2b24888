"""A made-up USB host for a stord: libumockdev's sysfs with a controller, a hub and devices that come and go. stord runs with the
library's preload and sees it in place of the machine's own."""

import ctypes
import os
import shutil
import sys

from node_test import skip

PRELOAD = "libumockdev-preload.so.0"
CONTROLLER = "0000:00:14.0"


def library():
    """The library, in a process under its preload: without that this starts the script again. 77 where it is not installed."""
    if PRELOAD not in os.environ.get("LD_PRELOAD", ""):
        if shutil.which("umockdev-wrapper") is None:
            skip("not installed: umockdev")
        os.execvp("umockdev-wrapper", ["umockdev-wrapper", sys.executable, *sys.argv])
    found, gobject = ctypes.CDLL("libumockdev.so.0"), ctypes.CDLL("libgobject-2.0.so.0")
    for function in (found.umockdev_testbed_new, found.umockdev_testbed_get_root_dir, found.umockdev_testbed_add_devicev):
        function.restype = ctypes.c_void_p
    return found, gobject


def strings(pairs):
    """A NULL-terminated array of keys and values."""
    words = [word.encode() for pair in pairs.items() for word in pair]
    return (ctypes.c_char_p * (len(words) + 1))(*words, None)


class UsbTestbed:
    """Controller 0000:00:14.0 with busses 1 (four ports) and 2; 1-1, hub 1-2 with 1-2.1 and 1-2.2, 1-3."""

    def __init__(self):
        self.library, self.gobject = library()
        self.bed = ctypes.c_void_p(self.library.umockdev_testbed_new())
        self.root = ctypes.string_at(self.library.umockdev_testbed_get_root_dir(self.bed)).decode()
        self.address = 1
        self.paths = {}
        self.controller = self.add("pci", CONTROLLER, None, {"class": "0x0c0330", "vendor": "0x8086", "device": "0xa36d"},
                                   {"PCI_SLOT_NAME": CONTROLLER})
        os.makedirs(self.root + "/sys/kernel/iommu_groups/4/devices")
        os.makedirs(self.root + "/sys/bus/pci/drivers/xhci_hcd")
        self.link(self.controller, "iommu_group", "../../../kernel/iommu_groups/4")
        self.link(self.controller, "driver", "../../../bus/pci/drivers/xhci_hcd")
        for bus, speed in ((1, "480"), (2, "5000")):
            self.plug(f"usb{bus}", above=self.controller, bus=bus, speed=speed, device_class="09", ports=4)
        self.plug("1-1", serial="ONE")
        self.plug("1-2", device_class="09", ports=4)
        self.plug("1-2.1", serial="A")
        self.plug("1-2.2", serial="B")
        self.plug("1-3", serial="E")

    def close(self):
        self.gobject.g_object_unref(self.bed)

    def environment(self):
        return {"LD_PRELOAD": PRELOAD, "UMOCKDEV_DIR": self.root}

    def add(self, subsystem, name, above, attributes, properties):
        path = self.library.umockdev_testbed_add_devicev(self.bed, subsystem.encode(), name.encode(),
                                                         above.encode() if above else None, strings(attributes), strings(properties))
        return ctypes.string_at(path).decode()

    def link(self, path, name, target):
        self.library.umockdev_testbed_set_attribute_link(self.bed, path.encode(), name.encode(), target.encode())

    def plug(self, name, above=None, bus=1, speed="480", device_class="00", ports=0, serial="", product="c31c"):
        """Adds a USB device, which sends its event; its number on the bus is a new one, as with the kernel."""
        self.address += 1
        address = 1 if name.startswith("usb") else self.address
        if above is None:
            above = self.paths[name.rpartition(".")[0] or "usb" + name.partition("-")[0]]
        attributes = {"busnum": str(bus), "devnum": str(address), "idVendor": "046d", "idProduct": product, "speed": speed,
                      "bDeviceClass": device_class, "bConfigurationValue": "1", "maxchild": str(ports)}
        if serial:
            attributes["serial"] = serial
        properties = {"DEVTYPE": "usb_device", "BUSNUM": f"{bus:03}", "DEVNUM": f"{address:03}"}
        self.paths[name] = self.add("usb", name, above, attributes, properties)
        if name.startswith("usb"):
            self.add("usb", f"{bus}-0:1.0", self.paths[name], {}, {"DEVTYPE": "usb_interface"})
        return f"/dev/bus/usb/{bus:03}/{address:03}"

    def unplug(self, name):
        path = self.paths.pop(name).encode()
        self.library.umockdev_testbed_uevent(self.bed, path, b"remove")
        self.library.umockdev_testbed_remove_device(self.bed, path)
