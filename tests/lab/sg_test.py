"""What the lab's tests of SCSI generic nodes share. Standard library only."""

import glob
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading

from lab_test import BUILD, PATIENCE, check, fail, run, until

CLIENT = BUILD / 'tests/lab/sg_client/sg_client'
MACHINE = pathlib.Path('/run/machine/qemu-system-x86_64')
BLOCK = 512


class Keeper(threading.Thread):
    """What stord does for a node's reservations: each that it proposes is as good as stored at once."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path

    def run(self):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.path)
            ask(connection, 'Watch', more=True)
            for said in answers(connection):
                if 'error' in said:  # the node ends
                    return
                proposed = said['parameters']['description']['proposed']
                if proposed is not None:
                    call(self.path, 'SetReservations', reservations=proposed, error=None)


def ask(connection, method, more=False, **parameters):
    message = {'method': f'io.storctl.NodeProcess.{method}', 'parameters': parameters} | ({'more': True} if more else {})
    connection.sendall(json.dumps(message).encode() + b'\0')


def answers(connection):
    """Until the other side closes."""
    heard = b''
    while piece := connection.recv(1 << 16):
        heard += piece
        while b'\0' in heard:
            message, heard = heard.split(b'\0', 1)
            yield json.loads(message)


def call(path, method, **parameters):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(path)
        ask(connection, method, **parameters)
        answer = next(answers(connection), None)
    check(answer is not None and 'error' not in answer, f'{method}: {answer}')
    return answer['parameters']


class LoneNode:
    """A node with the form without stord: stor-node with a specification of its own."""

    _minors = iter(range(40000, 40100))

    def __init__(self, name, device, prefix=()):
        self.path, self.file, self.socket = f'/dev/storctl/sg/{name}', f'/run/{name}/file', f'/run/{name}/socket'
        self.prefix = prefix
        os.mkdir(f'/run/{name}')
        spec = pathlib.Path(f'/run/{name}/spec.json')
        spec.write_text(json.dumps({
            'version': 1, 'name': name, 'kind': 'block', 'backing_path': device, 'control_socket': self.socket, 'mount_path': self.file,
            'open': 'shared', 'host': 'lab',
            'sg': {'device_name': f'storctl/sg/{name}', 'major': 21, 'minor': next(self._minors), 'required': True}}), encoding='ascii')
        self.log = pathlib.Path(f'/run/{name}/log')
        with self.log.open('wb') as log:
            self.process = subprocess.Popen([*prefix, BUILD / 'daemon/node/stor-node', '--spec', spec], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)
        until(self.path, lambda: self.process.poll() is not None or (os.path.exists(self.path) and os.path.exists(self.socket)))
        check(self.process.poll() is None, f'stor-node ended with {self.process.poll()}: {self.said()}')
        Keeper(self.socket).start()

    def said(self):
        return self.log.read_text(encoding='utf-8', errors='replace')

    def description(self):
        return call(self.socket, 'Describe')['description']

    def stop(self):
        children = pathlib.Path(f'/proc/{self.process.pid}/task/{self.process.pid}/children').read_text(encoding='ascii').split()
        os.kill(int(children[0]) if self.prefix else self.process.pid, signal.SIGTERM)
        try:
            status = self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            fail(f'stor-node does not end: {self.said()}')
        check(status == 0, f'stor-node ended with {status}: {self.said()}')
        check(not os.path.exists(self.path), f'{self.path} is still there')


class SgNode:
    """A node of stord's with the form, and what opens it."""

    def __init__(self, stord, name, device, *options):
        self.name, self.storctl = name, stord.storctl
        self.storctl('node', 'create', name, '-d', device, '--sg', *options)
        self.path = self.storctl.form(name, 'sg')
        self.file = self.storctl.form(name, 'fuse')

    def shown(self):
        return self.storctl.node(self.name)

    def remove(self):
        self.storctl('node', 'remove', self.name)
        check(not os.path.exists(self.path), f'{self.path} is still there')


def client(*words, prefix=()):
    """What it says, by case; everything has to be right."""
    return cases(run(*prefix, CLIENT, *words))


def cases(text):
    return dict(line.split(': ', 1) for line in text.splitlines())


def machine(name, *words):
    """What the client says as the virtual machine of this name: the program that it is looks like QEMU, and takes -name."""
    if not MACHINE.exists():
        MACHINE.parent.mkdir()
        shutil.copy(CLIENT, MACHINE)
    return next(iter(cases(run(MACHINE, '-name', f'guest={name}', *words)).values()))


def kernel_sg(block):
    """The kernel's own SCSI generic node of a disk: '/dev/sda' -> '/dev/sg0'."""
    names = glob.glob(f'/sys/class/block/{os.path.basename(block)}/device/scsi_generic/*')
    check(len(names) == 1, f'{block} has the SCSI generic nodes {names}')
    return f'/dev/{os.path.basename(names[0])}'


def scsi_debug(*options):
    """The block device of a new disk of that driver."""
    before = set(glob.glob('/sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*:*/block/*'))
    run('modprobe', 'scsi_debug', *options)

    def found():
        now = set(glob.glob('/sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*:*/block/*')) - before
        return next(iter(now), None)
    name = os.path.basename(until('the disk of scsi_debug', found))
    return until(f'/dev/{name}', lambda: os.path.exists(f'/dev/{name}') and f'/dev/{name}')


def image(path, size):
    """A file of random bytes."""
    with open(path, 'wb') as file:
        while size > 0:
            size -= file.write(os.urandom(min(size, 1 << 20)))
    return path


def needs(programs):
    """Skips the test where a program is missing; `programs` says which package each is in."""
    for program, package in programs.items():
        if not shutil.which(program):
            print(f'skipped: {program} is not installed (package {package})')
            sys.exit(77)


def tool(*command, status=0):
    """Both outputs together: sg3_utils says much on the second one."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, timeout=120)
    if done.returncode != status:
        fail(f"{' '.join(map(str, command))}: exit status {done.returncode}, not {status}\n{done.stdout}")
    return done.stdout


def says(command, *wanted, status=0):
    """Runs it; `wanted` has to stand in what it says, without regard to runs of blanks."""
    said = tool(*command, status=status)
    squeezed = ' '.join(said.split())
    for text in wanted:
        check(text in squeezed, f"{' '.join(map(str, command))} does not say '{text}':\n{said}")
    return squeezed
