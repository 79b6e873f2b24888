"""What the lab's USB tests share: devices as sysfs shows them, and a nested QEMU that takes them. Standard library only."""

import ctypes
import errno
import fcntl
import glob
import json
import os
import pathlib
import re
import select
import socket
import struct
import subprocess

from lab_test import BUILD, PATIENCE, Storctl, check, fail, run, until

USB = pathlib.Path('/sys/bus/usb/devices')
PCI = pathlib.Path('/sys/bus/pci/devices')


def attribute(path):
    try:
        return pathlib.Path(path).read_text(encoding='ascii').strip()
    except OSError:
        return ''


def driver(path):
    """Of a device, an interface or a function; empty: none."""
    link = os.path.join(path, 'driver')
    try:
        return os.path.basename(os.readlink(link))
    except FileNotFoundError:  # none, or it is just being taken off
        return ''


def drivers_of(device):
    """By interface of a USB device."""
    name = os.path.basename(device)
    return {os.path.basename(path): driver(path) for path in glob.glob(f'{device}/{name}:*')}


def with_host(device):
    """Gives the device to the host's drivers again."""
    for interface, bound in drivers_of(device).items():
        if bound == '':
            USB.with_name('drivers_probe').write_text(interface, encoding='ascii')
    until(f'{device} with drivers', lambda: '' not in drivers_of(device).values())


def device_by(**wanted):
    """sysfs path of the device with these attributes, once it is there."""
    def find():
        return next((os.path.realpath(path) for path in USB.iterdir()
                     if all(attribute(path / name) == value for name, value in wanted.items())), None)
    return until(f'a USB device with {wanted}', find)


def devnode(device):
    return f"/dev/bus/usb/{int(attribute(device + '/busnum')):03}/{int(attribute(device + '/devnum')):03}"


def controller_of(device):
    """PCI address of the function that the device hangs on."""
    return pathlib.Path(device).parts[[part.startswith('usb') for part in pathlib.Path(device).parts].index(True) - 1]


def tree(controller):
    """Every device and interface on a controller with its driver. Bus numbers are left out: they change."""
    found = {}
    for path in USB.iterdir():
        real = os.path.realpath(path)
        if f'/{controller}/' not in real:
            continue
        name = path.name.split('-', 1)[-1] if '-' in path.name else 'root'
        half = attribute(f"{real[:real.index('/usb')]}/{real[real.index('/usb'):].split('/')[1]}/speed")
        found[f'{half} {name}'] = driver(path)
    return found


def take_udev_rules():
    """storctl's own, without the helper that asks about disks."""
    rules = pathlib.Path('/run/udev/rules.d/69-storctl.rules')
    rules.parent.mkdir(parents=True, exist_ok=True)
    text = (BUILD / 'udev-rules/69-storctl.rules').read_text(encoding='utf-8')
    rules.write_text(re.sub('"[^"]*/storctl hook', '"/bin/true hook', text), encoding='utf-8')
    run('udevadm', 'control', '--reload')


class Consumer:
    """Has a node that speaks usbfs open, as a virtual machine monitor would."""

    CONTROL, CLAIM_INTERFACE, RESET = 0xc0185500, 0x8004550f, 0x5514

    def __init__(self, path):
        self.file = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    @classmethod
    def refused(cls, path):
        """The errno of an open; 0 where it is let in."""
        try:
            cls(path).close()
        except OSError as error:
            return error.errno
        return 0

    def device_descriptor(self):
        """From the device itself, by a control request."""
        data = ctypes.create_string_buffer(18)
        # bmRequestType, bRequest, wValue, wIndex, wLength, timeout in ms, data
        request = bytearray(struct.pack('=BBHHHI4xQ', 0x80, 6, 1 << 8, 0, len(data), 5000, ctypes.addressof(data)))
        got = fcntl.ioctl(self.file, self.CONTROL, request)
        return data.raw[:got]

    def error(self):
        """The errno of a request; 0 where the device answers."""
        try:
            self.device_descriptor()
        except OSError as error:
            return error.errno
        return 0

    def claim(self, interface):
        fcntl.ioctl(self.file, self.CLAIM_INTERFACE, struct.pack('=I', interface))

    def reset(self):
        """The errno; 0 where it ends well."""
        try:
            fcntl.ioctl(self.file, self.RESET)
        except OSError as error:
            return error.errno
        return 0

    def sees_unplug(self):
        """What the kernel shows whoever has an unplugged device open."""
        poll = select.poll()
        poll.register(self.file, select.POLLOUT)
        events = poll.poll(PATIENCE * 1000)  # once: it has to be woken
        check(events and events[0][1] & select.POLLERR and events[0][1] & select.POLLHUP, f'poll: {events}')
        check(self.error() == errno.ENODEV, f'errno {self.error()}, not ENODEV')

    def sees_end(self):
        """Of a node whose process is gone: an error, for good."""
        poll = select.poll()
        poll.register(self.file, select.POLLOUT)
        until('the consumer sees the end', lambda: any(got & select.POLLERR for _, got in poll.poll(100)))
        check(self.error() != 0, 'the device answers')

    def close(self):
        os.close(self.file)


class NestedQemu:
    """QEMU inside the guest. It takes its devices before it answers, though its own processors stand still."""

    def __init__(self, *devices):
        command = ['qemu-system-x86_64', '-M', 'q35', '-accel', 'tcg', '-m', '128', '-display', 'none', '-nodefaults',
                   '-S', '-qmp', 'stdio', '-device', 'qemu-xhci']
        for device in devices:
            command += ['-device', device]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith('{"QMP"'):
            fail(f'QEMU does not take {devices}: {line}{self.process.stderr.read()}')
        self.execute('qmp_capabilities')

    def execute(self, command, **arguments):
        self.process.stdin.write(json.dumps({'execute': command, 'arguments': arguments}))
        self.process.stdin.flush()
        while True:
            answer = json.loads(self.process.stdout.readline())
            if 'error' in answer:
                fail(f'QEMU: {command}: {answer}')
            if 'return' in answer:
                return answer['return']

    def monitor(self, line):
        return self.execute('human-monitor-command', **{'command-line': line})

    def quit(self):
        self.execute('quit')
        self.process.stdin.close()
        self.process.wait(timeout=PATIENCE)


class Actuation:
    """One job of stor-actuate."""

    program = BUILD / 'usbarb/stor-actuate'

    def __init__(self, action, descriptors=(), **job):
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if descriptors:
            socket.send_fds(self._socket, [b'in'], descriptors)
        self.process = subprocess.Popen(['bash', '-c', 'exec "$0" 3<&"$1"', self.program, str(theirs.fileno())],
                                        stdin=subprocess.PIPE, pass_fds=[theirs.fileno()])
        self.process.stdin.write(json.dumps({'action': action, **job}).encode())
        self.process.stdin.close()
        theirs.close()

    def outcome(self):
        """Waits for it; with the descriptors that came along."""
        self._socket.settimeout(PATIENCE)
        text, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 18, 253)
        self.process.wait(timeout=PATIENCE)
        return json.loads(text), descriptors


def actuate(action, descriptors=(), done=True, **job):
    """The descriptors that came along; of a job that must not be done its message."""
    outcome, held = Actuation(action, descriptors, **job).outcome()
    check(outcome['done'] == done, f'{action} {job}: {outcome}')
    return held if done else outcome['message']


class Stord:
    """stord of the build tree, forking what it starts, in a folder of its own. Starts; may be started again."""

    def __init__(self, home):
        self.home = home
        os.makedirs(home)
        pathlib.Path(home, 'stord.toml').write_text(f'dev_dir = "{home}/dev"\n', encoding='ascii')
        self.storctl = Storctl(BUILD / 'cli/storctl', f'{home}/run')
        self.process = None
        self.start()

    def start(self, **environment):
        self.process = subprocess.Popen(
            [BUILD / 'daemon/stord', '--config', f'{self.home}/stord.toml', '--state-dir', f'{self.home}/state',
             '--run-dir', f'{self.home}/run', '--supervisor', 'fork', '--foreground'],
            stdin=subprocess.DEVNULL, env=os.environ | environment)
        until('stord answers', lambda: self.process.poll() is not None or subprocess.run(
            [BUILD / 'cli/storctl', '--run-dir', f'{self.home}/run', 'status'], capture_output=True,
            check=False).returncode == 0)
        check(self.process.poll() is None, f'stord ended with {self.process.poll()}')

    def stop(self):
        self.process.terminate()
        status = self.process.wait(timeout=PATIENCE)
        check(status == 0, f'stord ended with {status}')

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=PATIENCE)

    def claims(self):
        """Those that somebody asked for, by target."""
        return {claim['target']: claim for claim in self.storctl.json('usb', 'claims')['claims']
                if claim['id'] is not None}

    def in_use(self, controller):
        """What it counts for the controller and each of its hubs, where that is not zero."""
        seen = self.storctl.json('usb', 'tree')
        counts = {device['socket']: device['in_use'] for device in seen['devices'] if device['hub']}
        counts |= {one['path']: one['in_use'] for one in seen['controllers']}
        return {target: count for target, count in counts.items() if count and target.startswith(controller)}
