"""What the lab's tests of SCSI generic nodes share. Standard library only."""

import glob
import os
import pathlib
import shutil
import subprocess

from lab_test import BUILD, check, fail, run, until

CLIENT = BUILD / 'tests/lab/sg_client/sg_client'
MACHINE = pathlib.Path('/run/machine/qemu-system-x86_64')
BLOCK = 512


class SgNode:
    """A node with the form, and what opens it."""

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
