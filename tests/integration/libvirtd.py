"""A libvirtd of the test's own: its own /etc/libvirt, /run/libvirt and /var/lib/libvirt by a private mount namespace, so that
the machine's libvirt, its hooks and its domains are not touched. It sees the machine's PCI functions and no USB device. Needs root."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

FOLDERS = {'etc': '/etc/libvirt', 'run': '/run/libvirt', 'lib': '/var/lib/libvirt', 'log': '/var/log/libvirt', 'cache': '/var/cache/libvirt'}
QEMU_CONF = '''
user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
namespaces = [ ]
cgroup_controllers = [ ]
remember_owner = 0
'''
START_SECONDS = 60
PR_SET_PDEATHSIG = 1


def missing():
    """What this machine lacks; None: nothing."""
    for program, package in (('libvirtd', 'libvirt-daemon-system'), ('virsh', 'libvirt-clients'),
                             ('qemu-system-x86_64', 'qemu-system-x86'), ('unshare', 'util-linux')):
        if shutil.which(program) is None:
            return f'{program} is not installed (package {package})'
    if os.geteuid() != 0:
        return 'not root: libvirtd and a mount namespace need it'
    if subprocess.run(['unshare', '--mount', 'true'], capture_output=True, check=False).returncode != 0:
        return 'no mount namespace can be made here'
    return None


class Libvirtd:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        for name in FOLDERS:
            (self.folder / name).mkdir()
        self.hooks = self.folder / 'etc/hooks/qemu.d'
        self.hooks.mkdir(parents=True)
        (self.folder / 'etc/qemu.conf').write_text(QEMU_CONF)
        (self.folder / 'etc/libvirtd.conf').write_text('auth_unix_rw = "none"\n')
        self.process = None

    def start(self):
        mounts = []
        for name, place in FOLDERS.items():
            os.makedirs(place, exist_ok=True)
            mounts.append(f'mount --bind {self.folder / name} {place}')
        bus = self.folder / 'bus'
        (bus / 'usb/devices').mkdir(parents=True, exist_ok=True)
        (bus / 'pci').mkdir(exist_ok=True)
        mounts += [f'mount --bind /sys/bus/pci {bus}/pci', f'mount --rbind {bus} /sys/bus']
        script = ' && '.join([*mounts, 'exec libvirtd -f /etc/libvirt/libvirtd.conf'])
        with open(self.folder / 'libvirtd.log', 'ab') as log:
            self.process = subprocess.Popen(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=self.die_with_parent)
        deadline = time.monotonic() + START_SECONDS
        while self.virsh('version', check=False).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f'FAIL: libvirtd does not come up: {self.log()}')
            with contextlib.suppress(subprocess.TimeoutExpired):    # its end is the only event that there is
                self.process.wait(0.1)
        return self

    @staticmethod
    def die_with_parent():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def log(self):
        return (self.folder / 'libvirtd.log').read_text(errors='replace')[-2000:]

    def kill(self):
        """As a crash: its domains go on."""
        self.process.kill()
        self.process.wait()

    def virsh(self, *words, check=True):
        socket = self.folder / 'run/libvirt-sock'
        done = subprocess.run(['virsh', '--quiet', '--connect', f'qemu+unix:///system?socket={socket}', *words], capture_output=True,
                              text=True, timeout=60, env=dict(os.environ, LC_ALL='C'), check=False)
        assert done.returncode == 0 or not check, f'virsh {words}: {done.stderr} {self.log()}'
        return done

    def domains(self):
        return self.virsh('list', '--name').stdout.split()

    def create(self, name, devices='', more='', check=True):
        """A domain without an operating system: it starts, and that is all."""
        path = self.folder / f'{name}.xml'
        path.write_text("<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
                        f"<name>{name}</name><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os>"
                        f"<devices><controller type='usb' model='qemu-xhci'/>{devices}</devices>{more}</domain>")
        return self.virsh('create', str(path), check=check)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            for name in self.domains():
                self.virsh('destroy', name, check=False)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        for path in (self.folder / 'run/qemu').glob('*.pid'):   # of domains that no libvirtd looks after any more
            with contextlib.suppress(OSError, ValueError):
                pid = int(path.read_text())
                if b'qemu' in pathlib.Path(f'/proc/{pid}/cmdline').read_bytes():
                    os.kill(pid, signal.SIGKILL)
