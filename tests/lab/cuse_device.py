#!/usr/bin/env python3
"""Holds a character device open through /dev/cuse, without any operation: cuse_device.py NAME [MAJOR MINOR].

Speaks the first exchange of the kernel's protocol (include/uapi/linux/fuse.h: CUSE_INIT) and then waits to be killed."""

import os
import signal
import struct
import sys

CUSE_INIT = 4096
IN_HEADER = struct.Struct('=IIQQIIIHH')  # len opcode unique nodeid uid gid pid total_extlen padding
OUT_HEADER = struct.Struct('=IiQ')  # len error unique
INIT_OUT = struct.Struct('=IIIIIIII40x')  # major minor unused flags max_read max_write dev_major dev_minor spare[10]


def main():
    name, number = sys.argv[1], [int(word) for word in sys.argv[2:4]] or [0, 0]
    channel = os.open('/dev/cuse', os.O_RDWR | os.O_CLOEXEC)
    request = os.read(channel, 1 << 20)
    _, opcode, unique = IN_HEADER.unpack_from(request)[:3]
    if opcode != CUSE_INIT:
        sys.exit(f'cuse_device.py: first request is {opcode}, not CUSE_INIT')
    answer = INIT_OUT.pack(7, 31, 0, 0, 131072, 131072, *number) + f'DEVNAME={name}\0'.encode()
    os.write(channel, OUT_HEADER.pack(OUT_HEADER.size + len(answer), 0, unique) + answer)
    signal.pause()


if __name__ == '__main__':
    main()
