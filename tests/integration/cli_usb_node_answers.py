#!/usr/bin/env python3
"""storctl node with USB nodes against a stand-in for stord: what is sent, what is shown, refusals and their exit status.
Argument: storctl."""
import json

from cli_stand import expect, run_tests, stand, storctl

NODE = 'io.storctl.Node.'
ARBITER = 'io.storctl.Arbiter.'
USB = {'socket': '0000:00:14.0/2.1', 'description': '1050:0407 Yubico YubiKey\x1b[2J', 'holder': 'vm:bank', 'claim': 12,
       'own_claim': True, 'devnode': '/dev/bus/usb/001/004', 'major': 189, 'minor': 8192, 'interfaces': [0, 2], 'deny': ['firmware']}
TOKEN = {'name': 'token', 'kind': 'usb', 'usb': USB, 'device': None, 'open': 'single-writer', 'loop': False,
         'backing': {'kind': 'usb', 'path': '/dev/bus/usb/001/004', 'device': None, 'size_bytes': 0, 'logical_block_bytes': 0,
                     'direct': False, 'present': True},
         'forms': [{'type': 'usbfs', 'path': '/dev/storctl/usb/token'}], 'state': 'serving', 'message': '', 'pid': 99, 'restarts': 0,
         'openers': [{'pid': 4711, 'program': 'qemu-system-x86', 'mode': 'write', 'since': '2026-11-22T12:00:00Z'}],
         'created': '2026-11-22T12:00:00Z', 'created_by': 'root (uid 0)'}
DISK = {**TOKEN, 'name': 'web1', 'kind': 'block', 'usb': None, 'device': 'naa6.6001405',
        'backing': {'kind': 'block', 'path': '/dev/sda', 'device': 'naa6.6001405', 'size_bytes': 1610612736,
                    'logical_block_bytes': 512, 'direct': True, 'present': True},
        'forms': [{'type': 'fuse', 'path': '/run/storctl/block/web1'}]}


def operation(name, count, errors=0):
    latency = [0] * 40
    latency[17] = count
    return {'operation': name, 'operations': count, 'bytes': count * 512, 'errors': errors, 'in_flight': 1,
            'latency_total_ns': count * 100000, 'latency_ns': latency}


def stat(name, *operations):
    return {'name': name, 'time_ns': 11_000_000_000, 'started_ns': 1_000_000_000, 'refused_opens': 0, 'operations': list(operations)}


STATS = {'stats': [stat('token', operation('control', 10, 1), operation('bulk', 2048), operation('interrupt', 30, 2),
                        operation('isochronous', 0), operation('ioctl', 999, 50), operation('poll', 5000)),
                   stat('web1', operation('read', 100), operation('write', 4, 3), operation('flush', 7, 1))]}
BLOCKER = {'target': '0000:00:14.0/2.1', 'description': '1050:0407', 'holder': 'vm:web1', 'since': '2026-11-22T12:00:00Z', 'reason': ''}
CREATE = ['node', 'create', 'token', '--usb', '1-2.1', '--for', 'vm:bank']


def test_create_sends():
    with stand({NODE + 'CreateUsb': {'node': TOKEN, 'warnings': ['slow']}}) as server:
        def sent(*more):
            server.calls.clear()
            expect(storctl(server, *CREATE, *more), 0, err='slow')
            return server.calls[0]['parameters']
        plain = {'name': 'token', 'target': '1-2.1', 'holder': 'vm:bank', 'dry_run': False}
        assert sent() == plain
        assert sent('--open=shared', '--interfaces', '0,12', '--deny', 'reset,vendor', '-r', 'why', '-n') == {
            **plain, 'dry_run': True, 'open': 'shared', 'interfaces': [0, 12], 'deny': ['reset', 'vendor'], 'reason': 'why'}
        assert sent('--deny=none') == {**plain, 'deny': []}


def test_create_shows():
    with stand({NODE + 'CreateUsb': {'node': TOKEN, 'warnings': []}}) as server:
        done = expect(storctl(server, *CREATE), 0, out=['0000:00:14.0/2.1', '#12 for vm:bank, released with the node', '189:8192',
                                                        '0, 2', '/dev/storctl/usb/token'])
        assert '\x1b' not in done.stdout and 'logical block' not in done.stdout, done.stdout
        expect(storctl(server, *CREATE, '-n'), 0, out='token: all checks passed, nothing changed: 1050:0407')
        document = json.loads(expect(storctl(server, *CREATE, '-j'), 0).stdout)
        assert document == {'version': 1, 'dry_run': False, 'node': TOKEN, 'warnings': []}, document


def test_usage():
    for words, text in [(['node', 'create', 'x', '--usb', '1-2'], '--for'), ([*CREATE, '-d', 'sda'], 'not both'),
                        ([*CREATE, '--loop'], '--device'), ([*CREATE, '--open', 'read-only'], 'single-writer or shared'),
                        ([*CREATE, '--interfaces', '0,x'], "'0,x'"), ([*CREATE, '--interfaces', '256'], "'256'"),
                        ([*CREATE, '--interfaces='], "''"), ([*CREATE, '--deny', 'reset,none'], "'none'"), ([*CREATE, '--deny='], "''"),
                        (['node', 'create', 'x', '-d', 'sda', '--for', 'vm:a'], '--usb'),
                        (['node', 'create', 'x', '-d', 'sda', '--deny', 'none'], '--usb'),
                        (['node', 'create', 'x', '-d', 'sda', '--interfaces', '0'], '--usb'),
                        (['node', 'create', 'x'], '--usb')]:
        with stand({}) as server:
            done = expect(storctl(server, *words), 2, err=[text, 'node create: '])
            assert done.stdout == '' and server.calls == [], (words, done, server.calls)


def test_refusals():
    for error, parameters, code, texts in [
            (ARBITER + 'Refused', {'message': 'it is taken', 'blockers': [BLOCKER]}, 8,
             ['it is taken:\n', 'held by vm:web1', 'what to do: storctl usb explain 1-2.1 --for vm:bank\n']),
            (ARBITER + 'NotFound', {'what': '1-2.1', 'message': "'1-2.1': no such device"}, 5, ['no such device']),
            (ARBITER + 'Ambiguous', {'what': '1-2.1', 'candidates': ['1-2', '1-3']}, 7, ['1-2\n', '1-3\n']),
            (NODE + 'AlreadyExists', {'name': 'token'}, 1, ["'token'"]),
            (NODE + 'Failed', {'message': 'no /dev/cuse'}, 1, ['no /dev/cuse'])]:
        with stand({NODE + 'CreateUsb': ('error', error, parameters)}) as server:
            assert expect(storctl(server, *CREATE), code, err=texts).stdout == ''


def test_list():
    answers = {NODE + 'List': {'nodes': [TOKEN, DISK]}, NODE + 'Stat': STATS}
    with stand(answers) as server:
        done = expect(storctl(server, 'node', 'list'), 0)
        heading, token, disk = done.stdout.splitlines()
        assert heading.split() == 'NAME KIND STATE SIZE OPEN OPENERS BACKING PATH'.split(), heading
        assert token.split() == 'token usb serving - single-writer 1 0000:00:14.0/2.1 /dev/storctl/usb/token'.split(), token
        assert disk.split() == 'web1 block serving 1.5 GiB single-writer 1 /dev/sda /run/storctl/block/web1'.split(), disk
        assert [call['method'] for call in server.calls] == [NODE + 'List']
        columns = ['--no-headings', '-o', 'NAME,DEVICE,HOLDER,URBS,BYTES,ERRORS']
        done = expect(storctl(server, 'node', 'list', *columns), 0)
        assert [line.split('  ') for line in done.stdout.splitlines()], done.stdout
        token, disk = (line.split() for line in done.stdout.splitlines())
        assert token[0] == 'token' and token[-5:] == ['vm:bank', '2088', '1.02', 'MiB', '3'], token
        assert disk == ['web1', 'naa6.6001405', '-', '-', '52', 'KiB', '4'], disk
        assert storctl(server, 'node', 'list', '-b', '--no-headings', '-o', 'BYTES').stdout.split() == ['1069056', '53248']
        nodes = json.loads(expect(storctl(server, 'node', 'list', '-j'), 0).stdout)['nodes']
        assert nodes == [{**TOKEN, 'counts': {'urbs': 2088, 'bytes': 1069056, 'errors': 3}},
                         {**DISK, 'counts': {'urbs': None, 'bytes': 53248, 'errors': 4}}], nodes
    with stand({NODE + 'List': {'nodes': [DISK]}}) as server:
        assert json.loads(expect(storctl(server, 'node', 'list', '-j'), 0).stdout)['nodes'] == [DISK]
    with stand({**answers, NODE + 'Stat': {'stats': []}}) as server:
        assert storctl(server, 'node', 'list', '--no-headings', '-o', 'URBS,ERRORS').stdout.split() == ['-'] * 4


def test_show():
    with stand({NODE + 'Show': {'node': TOKEN}}) as server:
        done = expect(storctl(server, 'node', 'show', 'token'), 0, out=[
            '-device usb-host,hostdevice=/dev/storctl/usb/token\n', "<qemu:arg value='usb-host,hostdevice=/dev/storctl/usb/token'/>",
            'cgroup_device_acl', 'xmlns:qemu', '/dev/bus/usb/001/004', 'pid 4711 (qemu-system-x86)'])
        assert '-drive' not in done.stdout, done.stdout
        shown = json.loads(expect(storctl(server, 'node', 'show', 'token', '-j'), 0).stdout)
        assert shown['node'] == TOKEN and len(shown['consumers']) == 1, shown
        assert set(shown['consumers'][0]) == {'form', 'path', 'qemu_device', 'libvirt_commandline'}, shown
    absent = {**TOKEN, 'usb': {**USB, 'devnode': None, 'interfaces': None, 'deny': [], 'own_claim': False}, 'state': 'backing-lost',
              'forms': [{'type': 'usbfs', 'path': "/dev/storctl/usb/a,b&'c"}]}
    with stand({NODE + 'Show': {'node': absent}}) as server:
        expect(storctl(server, 'node', 'show', 'token'), 0, out=['absent', 'all\n', 'nothing\n', '#12 for vm:bank\n',
                                                                 'hostdevice=/dev/storctl/usb/a,,b&amp;&apos;c'])


def test_stat():
    with stand({NODE + 'Stat': STATS}) as server:
        done = expect(storctl(server, 'node', 'stat', '-o', 'NAME,U/S,UMIB/S,C/S,I/S,POLL/S,MEAN', '--no-headings'), 0)
        token, disk = (line.split() for line in done.stdout.splitlines())
        assert token[:6] == ['token', '208.8', '0.10', '1.0', '3.0', '500.0'] and token[6] != '-', token
        assert disk[:6] == ['web1', '0.0', '0.00', '0.0', '0.0', '0.0'] and disk[6] != '-', disk
        rates = json.loads(storctl(server, 'node', 'stat', '-j').stdout)['stats'][0]['rates']['operations']
        assert [row['operations'] for row in rates if row['operation'] == 'all'] == [2088], rates


def test_release_by_force():
    with stand({ARBITER + 'Release': {'released': []}}) as server:
        expect(storctl(server, 'usb', 'release', '1-2.1'), 0)
        assert 'force' not in server.calls[-1]['parameters']
        expect(storctl(server, 'usb', 'release', '1-2.1', '--force'), 0)
        assert server.calls[-1]['parameters']['force'] is True
    opened = {**BLOCKER, 'reason': "node 'token' is open to pid 4711 (qemu-system-x86)"}
    with stand({ARBITER + 'Release': ('error', ARBITER + 'Refused', {'message': 'a node over it is open', 'blockers': [opened]})}) as server:
        expect(storctl(server, 'usb', 'release', '1-2.1'), 8, err=['a node over it is open:\n', 'pid 4711 (qemu-system-x86)'])


if __name__ == '__main__':
    run_tests(globals())
