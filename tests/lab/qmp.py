#!/usr/bin/env python3
"""A small QMP client: plugs and unplugs a lab guest's devices, from the host or from inside the guest.

    qmp.py [--at SOCKET|PORT] [--await EVENT] COMMAND [NAME=VALUE...]

COMMAND is a QMP command; values are JSON where they parse as such, else text. The answer is printed as JSON.
`device_del` waits for DEVICE_DELETED of its device; --await waits for another event after the command.
Default for --at: /dev/virtio-ports/qmp in a guest, else $OUT/qmp.sock.

As a module:  with Qmp.open() as qmp: qmp.execute('device_add', driver='scsi-hd', drive='d', id='d1', bus='scsi0.0')
"""

import argparse
import json
import os
import select
import socket
import stat
import sys
import time

GUEST_PORT = '/dev/virtio-ports/qmp'


class QmpError(Exception):
    pass


class Qmp:
    """One connection. The guest's port keeps QEMU's side of it open between programs: a greeting may never come, and
    answers to a former program may still lie there, so every command carries its own id."""

    def __init__(self, descriptor, timeout):
        self._descriptor = descriptor
        self._timeout = timeout
        self._buffer = b''
        self._events = []
        self._serial = 0
        try:
            self.execute('qmp_capabilities')
        except QmpError as error:
            if 'CommandNotFound' not in str(error):  # a former program has negotiated already
                raise

    @classmethod
    def open(cls, where=None, timeout=30):
        where = where or (GUEST_PORT if os.path.exists(GUEST_PORT) else os.path.join(os.environ['OUT'], 'qmp.sock'))
        if stat.S_ISSOCK(os.stat(where).st_mode):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(where)
                return cls(connection.detach(), timeout)
        return cls(os.open(where, os.O_RDWR | os.O_CLOEXEC), timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._descriptor)

    def execute(self, command, **arguments):
        """Runs one command; its answer, or QmpError with QEMU's words."""
        self._serial += 1
        name = f'{os.getpid()}-{time.monotonic_ns()}-{self._serial}'
        message = json.dumps({'execute': command, 'arguments': arguments, 'id': name}).encode() + b'\n'
        while message:
            message = message[os.write(self._descriptor, message):]
        deadline = time.monotonic() + self._timeout
        while True:
            answer = self._next(deadline, command)
            if answer.get('id') != name:
                continue
            if 'error' in answer:
                raise QmpError(f"{command}: {answer['error']['class']}: {answer['error']['desc']}")
            return answer['return']

    def wait_event(self, event, timeout=None, **data):
        """The next event of this name whose data has these members."""
        deadline = time.monotonic() + (timeout or self._timeout)
        while True:
            for index, known in enumerate(self._events):
                if known['event'] == event and data.items() <= known.get('data', {}).items():
                    return self._events.pop(index)
            self._next(deadline, event)

    def unplug(self, device):
        """device_del, until the guest has let the device go."""
        self.execute('device_del', id=device)
        self.wait_event('DEVICE_DELETED', device=device)

    def _next(self, deadline, what):
        while b'\n' not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                raise QmpError(f'{what}: no answer from QEMU within {self._timeout} s')
            piece = os.read(self._descriptor, 65536)
            if not piece:
                raise QmpError(f'{what}: QEMU closed the connection')
            self._buffer += piece
        line, self._buffer = self._buffer.split(b'\n', 1)
        message = json.loads(line)
        if 'event' in message:
            self._events.append(message)
        return message


def value_of(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


def main():
    parser = argparse.ArgumentParser(description='Send one QMP command to a lab guest.')
    parser.add_argument('--at', help='socket or port of QEMU')
    parser.add_argument('--await', dest='event', help='event to wait for after the command')
    parser.add_argument('command')
    parser.add_argument('arguments', nargs='*', metavar='NAME=VALUE')
    options = parser.parse_args()
    arguments = {}
    for argument in options.arguments:
        name, separator, value = argument.partition('=')
        if not separator:
            parser.error(f'"{argument}" is not NAME=VALUE')
        arguments[name] = value_of(value)
    try:
        with Qmp.open(options.at) as qmp:
            print(json.dumps(qmp.execute(options.command, **arguments)))
            if options.event:
                print(json.dumps(qmp.wait_event(options.event)))
            elif options.command == 'device_del':
                qmp.wait_event('DEVICE_DELETED', device=arguments.get('id'))
    except (QmpError, OSError, KeyError) as error:
        sys.exit(f'qmp.py: {error}')


if __name__ == '__main__':
    main()
