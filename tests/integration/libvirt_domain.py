#!/usr/bin/env python3
"""The hook in a real libvirtd: who starts, who does not and what virsh says then, what is given back, and that a running domain
lives through a restart of libvirtd whatever stord says. stord is a stand-in: no device of this machine is ever granted.
Arguments: storctl, the hook script."""
import os
import pathlib
import sys
import tempfile
import time

import libvirtd
from cli_stand import send, stand

STORCTL, SCRIPT = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2])
ARBITER = 'io.storctl.Arbiter.'
USB = "<hostdev mode='subsystem' type='usb'><source{}><vendor id='0x046d'/><product id='0xc31c'/></source></hostdev>"
PCI = ("<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0' bus='0' slot='0x14' function='0'/></source>"
       "</hostdev>")
# QEMU waits for such a device: the domain starts on a machine without USB. In JSON, as libvirt writes its own devices: QEMU makes
# those after the others, so that "usb-host,…" would not find libvirt's USB controller.
WAITING = """<qemu:commandline><qemu:arg value='-device'/><qemu:arg value='{"driver":"usb-host","vendorid":7531,"productid":260}'/>
             </qemu:commandline>"""
TARGET = {'bus': 'usb', 'what': '1d6b:0104', 'optional': True}


def refuse(call, connection):
    blocker = {'target': '0000:00:14.0/2.1', 'description': '046d:c31c Logitech Keyboard', 'holder': 'vm:web1',
               'since': '2026-11-22T12:00:00Z', 'reason': ''}
    send(connection, {'error': ARBITER + 'Refused', 'parameters': {'message': 'denied', 'blockers': [blocker]}})


def grant(call, connection):
    """A claim of its own for each target that is not optional."""
    targets = call['parameters']['targets']
    claims = [{'id': 40 + number, 'holder': call['parameters']['holder'], 'state': 'provisional', 'origin': 'libvirt'}
              for number, target in enumerate(targets)]
    send(connection, {'parameters': {'claims': claims, 'warnings': []}})


def answers(claim):
    one = {'id': 40, 'holder': 'vm:guest', 'state': 'provisional', 'origin': 'libvirt'}
    return {ARBITER + 'Claim': claim, ARBITER + 'Claims': {'claims': [one]}, ARBITER + 'Confirm': {'claims': [one]},
            ARBITER + 'Release': {'released': []}}


def sent(server):
    out = [(call['method'].removeprefix(ARBITER), call['parameters']) for call in server.calls]
    server.calls.clear()
    return out


class Host:
    """A libvirtd whose hook asks whichever stord stands at `run_dir`."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.daemon = libvirtd.Libvirtd(folder)
        program = self.folder / 'storctl'
        text = SCRIPT.read_text()
        installed = next(line.split('=', 1)[1] for line in text.splitlines() if line.startswith('storctl='))
        hook = self.daemon.hooks / '50-storctl'
        hook.write_text(text.replace(installed, str(program)))
        hook.chmod(0o755)
        self.point_to('/nonexistent')

    def point_to(self, run_dir):
        program = self.folder / 'storctl'
        program.write_text(f'#!/bin/sh\nexec {STORCTL} --run-dir {run_dir} "$@"\n')
        program.chmod(0o755)

    def refused(self, name, devices, *parts, more=''):
        done = self.daemon.create(name, devices, more, check=False)
        assert done.returncode != 0, f'{name} has started'
        for part in ('Hook script execution failed', 'unexpected exit status 1: storctl: ', *parts):
            assert part in done.stderr, f'{part!r} is not in {done.stderr!r}'
        assert name not in self.daemon.domains()


def test_without_stord(host):
    host.daemon.create('plain')
    assert 'plain' in host.daemon.domains()
    for devices in (USB.format(''), PCI):
        host.refused('wants', devices, 'systemctl start stord')
    host.refused('wants', '', 'usb-host takes whatever fits',
                 more=WAITING.replace(',"productid":260', ''))
    host.daemon.virsh('destroy', 'plain')


def test_refused(host):
    """Refused at "prepare"; libvirt calls "release" all the same, which gives back what is this domain's and no more."""
    with stand(answers(refuse)) as server:
        host.point_to(server.run_dir)
        for devices, what in ((USB.format(''), 'USB device 046d:c31c'), (PCI, 'PCI function 0000:00:14.0')):
            host.refused('guest', devices, f'vm:guest may not have {what} (hostdev 1): 0000:00:14.0/2.1',
                         'held by vm:web1 since 2026-11-22T12:00:00Z', 'explain')
            calls = sent(server)
            assert [name for name, _ in calls] == ['Claim', 'Release'], calls
            assert calls[1][1] == {'holder': 'vm:guest', 'origin': 'libvirt'}, calls
        host.refused('guest', '', 'held by vm:web1', more=WAITING)


def test_granted(host):
    with stand(answers(grant)) as server:
        host.point_to(server.run_dir)
        host.daemon.create('guest', more=WAITING)
        calls = sent(server)
        assert [name for name, _ in calls] == ['Claim', 'Claim', 'Claims', 'Confirm'], calls
        assert calls[0][1] == {'targets': [TARGET], 'holder': 'vm:guest', 'keep_drivers': True, 'origin': 'libvirt',
                               'provisional': True}, calls
        host.daemon.virsh('destroy', 'guest')
        calls = sent(server)
        assert calls == [('Release', {'holder': 'vm:guest', 'origin': 'libvirt'})], calls


def test_optional(host):
    """libvirt does without a device that is not there: what was claimed for it is given back at "start"."""
    with stand(answers(grant)) as server:
        host.point_to(server.run_dir)
        host.daemon.create('guest', USB.format(" startupPolicy='optional'"))
        calls = sent(server)
        assert [name for name, _ in calls] == ['Claim', 'Claims', 'Release', 'Confirm'], calls
        assert calls[0][1]['targets'] == [{'bus': 'usb', 'what': '046d:c31c', 'optional': True}], calls
        assert calls[2][1] == {'targets': [{'bus': 'usb', 'what': '#40'}], 'holder': 'vm:guest'}, calls
        host.daemon.virsh('destroy', 'guest')


def test_running_domains_survive(host):
    """A libvirtd that comes back asks the hook for each running domain, and kills those for which it fails."""
    with stand(answers(grant)) as server:
        host.point_to(server.run_dir)
        host.daemon.create('guest', more=WAITING)
        sent(server)
        host.daemon.kill()
        host.daemon.start()
        assert 'guest' in host.daemon.domains(), host.daemon.log()
        wait_until(lambda: server.calls, 'libvirtd asks for the domain that runs')
        calls = sent(server)
        assert calls == [('Claim', {'targets': [TARGET], 'holder': 'vm:guest', 'keep_drivers': True, 'origin': 'libvirt',
                                    'adopt': True})], calls
        server.answers[ARBITER + 'Claim'] = refuse
        host.daemon.kill()
        host.daemon.start()
        wait_until(lambda: len(server.calls) == 2, 'the domain is asked for, and then each of its devices')
        assert host.daemon.virsh('domstate', 'guest').stdout.strip() == 'running'
    host.point_to('/nonexistent')
    host.daemon.kill()
    host.daemon.start()
    assert host.daemon.virsh('domstate', 'guest').stdout.strip() == 'running'
    host.daemon.virsh('destroy', 'guest')
    assert 'guest' not in host.daemon.domains()


def wait_until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f'{what}: not within {seconds} s'
        time.sleep(0.02)


def main():
    lack = libvirtd.missing()
    if lack:
        print(f'skipped: {lack}')
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix='storctl-libvirt-') as folder:
        host = Host(folder)
        try:
            host.daemon.start()
            for name, test in list(globals().items()):
                if name.startswith('test_'):
                    started = time.monotonic()
                    test(host)
                    print(f'{name}: good ({time.monotonic() - started:.1f} s)', flush=True)
        finally:
            host.daemon.stop()


if __name__ == '__main__':
    main()
