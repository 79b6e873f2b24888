"""What the lab's USB tests share: devices as sysfs shows them, and a nested QEMU that takes them. Standard library only."""

import glob
import json
import os
import pathlib
import subprocess

from lab_test import PATIENCE, fail, until

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
    return os.path.basename(os.readlink(link)) if os.path.islink(link) else ''


def drivers_of(device):
    """By interface of a USB device."""
    name = os.path.basename(device)
    return {os.path.basename(path): driver(path) for path in glob.glob(f'{device}/{name}:*')}


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
