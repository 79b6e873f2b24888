"""A USB device that the test itself is, on the kernel's virtual host controller (vhci_hcd, by USB/IP's protocol:
Documentation/usb/usbip_protocol.rst). None of QEMU 7.2's devices has an isochronous endpoint to the host, nor does one come
back from a reset as another. Standard library only."""

import pathlib
import socket
import struct
import threading

from lab_test import run

VENDOR, PRODUCT = 0x1209, 0x0001
CAPTURE, SILENT = 1, 2  # endpoints to the host: isochronous, and one that never says anything
SUBMIT, UNLINK = 1, 2
HEADER = struct.Struct('>5I28s')
DEVICE, CONFIGURATION, STRING = 1, 2, 3  # descriptors
GET_DESCRIPTOR, SET_INTERFACE = (0x80, 6), (0x01, 11)
STALL, CANCELLED, LATE = -32, -104, -18
HIGH_SPEED = 3


def endpoint(number, kind, bytes_, interval):
    return struct.pack('<BBBBHB', 7, 5, 0x80 | number, kind, bytes_, interval)


def interface(setting, *endpoints):
    return struct.pack('<9B', 9, 4, 0, setting, len(endpoints), 0xff, 0, 0, 0) + b''.join(endpoints)


class VirtualDevice:
    """Plugged in until `unplug`. `on_reset` says what it is at the next reset: "same"; "restless": other descriptors for as
    long as the reset takes, so that the kernel has it enumerate anew, as itself; "other": another device from then on."""

    def __init__(self, serial, port=0):
        self.serial, self.port = serial, port
        self.release, self.released = 0x100, 0x100  # bcdDevice, and what it tells
        self.on_reset = 'same'
        self.packets = 0
        self.waiting = {}  # URBs that nothing completes
        run('modprobe', 'vhci-hcd')
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.controller = pathlib.Path('/sys/devices/platform/vhci_hcd.0')
            (self.controller / 'attach').write_text(f'{port} {theirs.fileno()} 1 {HIGH_SPEED}', encoding='ascii')
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def unplug(self):
        (self.controller / 'detach').write_text(f'{self.port}', encoding='ascii')
        self.thread.join()
        self.socket.close()

    def _received(self, count):
        data = self.socket.recv(count, socket.MSG_WAITALL) if count else b''
        if len(data) < count:
            raise ConnectionResetError
        return data

    def _serve(self):
        try:
            while True:
                command, number, _, to_host, pipe, rest = HEADER.unpack(self._received(HEADER.size))
                if command == UNLINK:
                    self._unlink(number, *struct.unpack('>I24x', rest))
                else:
                    self._submit(number, to_host, pipe, *struct.unpack('>I4i8s', rest))
        except OSError:
            pass

    def _answer(self, number, data=b'', status=0, length=None, packets=b'', failed=0):
        fields = struct.pack('>5i8x', status, len(data) if length is None else length, 0, len(packets) // 16, failed)
        self.socket.sendall(HEADER.pack(SUBMIT + 2, number, 0, 0, 0, fields) + data + packets)

    def _unlink(self, number, which):
        status = CANCELLED if self.waiting.pop(which, None) else 0
        self.socket.sendall(HEADER.pack(UNLINK + 2, number, 0, 0, 0, struct.pack('>i24x', status)))

    def _submit(self, number, to_host, pipe, _flags, length, _start, packets, _interval, setup):
        sent = b'' if to_host else self._received(length)
        if pipe == 0:
            data = self._control(setup)
            self._answer(number, b'' if data is None else data[:length], STALL if data is None else 0, None if to_host else len(sent))
        elif pipe == CAPTURE:
            self._capture(number, [struct.unpack('>4I', self._received(16)) for _ in range(packets)])
        else:
            self.waiting[number] = True

    def _capture(self, number, packets):
        """Short packets and missing ones among the others, the same in every run from the setting on."""
        data, described, failed = b'', b'', 0
        for offset, length, _, _ in packets:
            self.packets += 1
            missing = self.packets % 7 == 0
            got = 0 if missing else max(length - 8 * (self.packets % 5), 0)
            data += bytes((self.packets * 13 + at) & 0xff for at in range(got))
            failed += missing
            described += struct.pack('>3Ii', offset, length, got, LATE if missing else 0)
        self._answer(number, data, packets=described, failed=failed)

    def _control(self, setup):
        """What it gives; None: it stalls."""
        kind, request, value, index, length = struct.unpack('<BBHHH', setup)
        if (kind, request) == GET_DESCRIPTOR:
            if value >> 8 == DEVICE and length == 64:
                self._looked_at()
            return self._descriptor(value >> 8, value & 0xff)
        if (kind, request) == SET_INTERFACE:
            self.packets = 0
        return b'' if not kind & 0x80 else None

    def _looked_at(self):
        """The first request after the reset of its port (hub.c, hub_port_init)."""
        self.released = self.release + (self.on_reset != 'same')
        if self.on_reset == 'other':
            self.release = self.released
        self.on_reset = 'same'

    def _descriptor(self, kind, index):
        if kind == DEVICE:
            return struct.pack('<BBHBBBBHHHBBBB', 18, 1, 0x200, 0, 0, 0, 64, VENDOR, PRODUCT, self.released, 1, 2, 3, 1)
        if kind == CONFIGURATION and index == 0:
            parts = interface(0) + interface(1, endpoint(CAPTURE, 0x05, 1024, 1), endpoint(SILENT, 0x03, 64, 4))
            return struct.pack('<BBHBBBBB', 9, 2, 9 + len(parts), 1, 1, 0, 0x80, 50) + parts
        if kind == STRING and index == 0:
            return struct.pack('<BBH', 4, 3, 0x409)
        if kind == STRING and index <= 3:
            text = ('storctl', 'virtual device', self.serial)[index - 1].encode('utf-16-le')
            return struct.pack('<BB', 2 + len(text), 3) + text
        return None
