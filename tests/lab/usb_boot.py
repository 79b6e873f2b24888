"""A virtual machine of the lab's USB tests: QEMU as it is, not root, boots from a disk behind a node that speaks usbfs, and the
boot sector (usb_boot.S) reads and writes the disk on order. x86_64 only; standard library only."""

import json
import pathlib
import socket
import subprocess

from lab_test import PATIENCE, check, fail, run, until

SECTOR = 512
SECTORS, CHUNK, WRITE_AT, SEED = 4096, 64, 65536, 20
LOG = pathlib.Path('/run/lab/nested.log')
USER = ['setpriv', '--reuid=nobody', '--regid=kvm', '--clear-groups']


def boot_sector(sectors=SECTORS):
    """`sectors`: of each order."""
    source = pathlib.Path(__file__).resolve().parent / 'usb_boot.S'
    symbols = {'SECTORS': sectors, 'CHUNK': CHUNK, 'WRITE_AT': WRITE_AT, 'SEED': SEED}
    run('as', '--32', *(f'--defsym={name}={value}' for name, value in symbols.items()), '-o', '/run/boot.o', source)
    run('ld', '-m', 'elf_i386', '-Ttext', '0x7c00', '--oformat', 'binary', '-o', '/run/boot', '/run/boot.o')
    return pathlib.Path('/run/boot').read_bytes()


def block_device(device):
    """The host's own, once its driver has the disk."""
    name = until('the disk', lambda: next(pathlib.Path(device).rglob('block/sd*'), None)).name
    return until(f'/dev/{name}', lambda: pathlib.Path(f'/dev/{name}').is_block_device() and pathlib.Path(f'/dev/{name}'))


class Machine:
    """QEMU as nobody of the group that storctl's udev rule names, with the disk by the node; by this command."""

    def __init__(self, path, *options, command=()):
        self.console, console = socket.socketpair()
        self.qmp, monitor = socket.socketpair()
        self.disk = {'driver': 'usb-host', 'id': 'passed', 'bus': 'xhci.0', 'hostdevice': path, 'bootindex': 0}
        device = ','.join(f'{name}={value}' for name, value in self.disk.items()).removeprefix('driver=')
        with LOG.open('wb') as log:
            self.process = subprocess.Popen(
                [*command, *USER, 'qemu-system-x86_64', '-M', 'pc', '-accel', 'tcg', '-m', '64', '-display', 'none', '-nodefaults',
                 '-chardev', f'socket,id=console,fd={console.fileno()}', '-serial', 'chardev:console',
                 '-chardev', f'socket,id=qmp,fd={monitor.fileno()}', '-mon', 'chardev=qmp,mode=control',
                 '-device', 'qemu-xhci,id=xhci', *options, '-device', device],
                pass_fds=[console.fileno(), monitor.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        console.close()
        monitor.close()
        self.console.settimeout(PATIENCE)
        self.qmp.settimeout(PATIENCE)
        self.heard = b''
        self.answers = self.qmp.makefile('r', encoding='utf-8')
        check('QMP' in self.answers.readline(), f'QEMU does not greet: {LOG.read_text()}')
        self.execute('qmp_capabilities')

    def execute(self, command, **arguments):
        self.qmp.sendall(json.dumps({'execute': command, 'arguments': arguments}).encode())
        while True:
            answer = json.loads(self.answers.readline())
            check('error' not in answer, f'QEMU: {command}: {answer}')
            if 'return' in answer:
                return answer['return']

    def info_usb(self):
        return self.execute('human-monitor-command', **{'command-line': 'info usb'})

    def take_out(self):
        self.qmp.sendall(json.dumps({'execute': 'device_del', 'arguments': {'id': 'passed'}}).encode())
        while json.loads(self.answers.readline()).get('event') != 'DEVICE_DELETED':
            pass

    def said(self, letter):
        """The number of the boot sector's next answer, which has to be of this kind."""
        while b'\n' not in self.heard:
            try:
                piece = self.console.recv(4096)
            except TimeoutError:
                fail(f'the boot sector does not say {letter}: {self.heard}; {self.info_usb()}{LOG.read_text()}')
            if not piece:
                fail(f'QEMU ended: {self.process.wait(timeout=PATIENCE)}: {LOG.read_text()}')
            self.heard += piece
        line, self.heard = self.heard.split(b'\n', 1)
        text = line.decode(errors='replace')
        check(text.startswith(letter), f'the boot sector says "{text}", not {letter}')
        return int(text[1:], 16)

    def told(self, order):
        self.console.sendall(order.encode())
        return self.said(order)

    def quit(self):
        self.execute('quit')
        status = self.process.wait(timeout=PATIENCE)
        check(status == 0, f'QEMU ended with {status}: {LOG.read_text()}')
