#!/usr/bin/env python3
"""storctl node with the SCSI generic form against a stand-in for stord: what is sent, what is shown. Argument: storctl."""
import json

from cli_stand import expect, run_tests, stand, storctl

NODE = 'io.storctl.Node.'
RESERVATIONS = {'version': 5, 'generation': 3, 'persists': True, 'type': 'write-exclusive-registrants-only', 'holder': 'alpha:vm:web1',
                'holder_port': 1, 'registrations': [{'initiator': 'alpha:host', 'port': 1, 'key': '0x000000000000abc1'},
                                                    {'initiator': 'alpha:vm:web1\x1b[2J', 'port': 2, 'key': '0x000000000000d00d'}]}
DISK = {'name': 'web1', 'kind': 'block', 'usb': None, 'device': 'naa6.6001405', 'open': 'shared', 'loop': False, 'sg': True,
        'backing': {'kind': 'block', 'path': '/dev/sda', 'device': 'naa6.6001405', 'size_bytes': 1610612736, 'logical_block_bytes': 512,
                    'direct': True, 'present': True},
        'forms': [{'type': 'fuse', 'path': '/run/storctl/block/web1'}, {'type': 'sg', 'path': '/dev/storctl/sg/web1'}],
        'reservations': RESERVATIONS, 'state': 'serving', 'message': '', 'pid': 99, 'restarts': 0, 'openers': [],
        'created': '2026-11-22T12:00:00Z', 'created_by': 'root (uid 0)'}
CREATE = ['node', 'create', 'web1', '-d', 'naa6.6001405']


def test_create_sends():
    with stand({NODE + 'Create': {'node': DISK, 'warnings': []}}) as server:
        for words, sent in ((['--sg'], {'sg': True}), (['--no-sg'], {'sg': False}), ([], {})):
            server.calls.clear()
            expect(storctl(server, *CREATE, *words), 0, out=['/dev/storctl/sg/web1', 'write-exclusive-registrants-only by alpha:vm:web1'])
            assert server.calls[0]['parameters'] == {'name': 'web1', 'device': 'naa6.6001405', 'loop': False, 'dry_run': False, **sent}
        expect(storctl(server, *CREATE, '-n'), 0, out='shared, with a SCSI generic device\n')


def test_usage():
    for words, text in [([*CREATE, '--sg', '--no-sg'], 'not both'),
                        (['node', 'create', 'x', '--usb', '1-2', '--for', 'vm:a', '--sg'], '--sg goes with --device'),
                        (['node', 'create', 'x', '--usb', '1-2', '--for', 'vm:a', '--no-sg'], '--no-sg goes with --device')]:
        with stand({}) as server:
            done = expect(storctl(server, *words), 2, err=[text, 'node create: '])
            assert done.stdout == '' and server.calls == [], (words, done, server.calls)


def test_show():
    with stand({NODE + 'Show': {'node': DISK}}) as server:
        done = expect(storctl(server, 'node', 'show', 'web1'), 0, out=[
            'alpha:host, key 0x000000000000abc1', ', port 2, key 0x000000000000d00d', 'over a reboot', 'QEMU, by fuse:', 'libvirt, by fuse:',
            'scsi-generic,drive=storctl-web1,share-rw=on\n', "<controller type='scsi' index='0' model='virtio-scsi'/>", 'cgroup_device_acl',
            "<qemu:arg value='scsi-generic,bus=scsi0.0,drive=storctl-web1,share-rw=on'/>"])
        assert '\x1b' not in done.stdout and 'virtio-blk-pci,drive=storctl-web1,share-rw=on\n' in done.stdout, done.stdout
        shown = json.loads(expect(storctl(server, 'node', 'show', 'web1', '-j'), 0).stdout)
        assert shown['node'] == DISK and [one['form'] for one in shown['consumers']] == ['fuse', 'sg'], shown
        assert set(shown['consumers'][1]) == {'form', 'path', 'qemu_drive', 'qemu_blockdev', 'libvirt_controller', 'libvirt_commandline'}, shown
    for reservations, text in ((None, None), ({**RESERVATIONS, 'type': None, 'holder': None, 'registrations': []}, 'no')):
        with stand({NODE + 'Show': {'node': {**DISK, 'reservations': reservations}}}) as server:
            lines = expect(storctl(server, 'node', 'show', 'web1'), 0).stdout.splitlines()
            told = [line.split(':')[1].strip() for line in lines if line.startswith('reserved')]
            assert told == ([text] if text else []) and not any(line.startswith('persists') for line in lines), lines


def test_list():
    with stand({NODE + 'List': {'nodes': [DISK, {**DISK, 'name': 'plain', 'forms': DISK['forms'][:1], 'reservations': None}]}}) as server:
        done = expect(storctl(server, 'node', 'list', '--no-headings', '-o', 'NAME,SG,RESERVED'), 0)
        web1, plain = (line.split() for line in done.stdout.splitlines())
        assert web1 == ['web1', '/dev/storctl/sg/web1', 'write-exclusive-registrants-only', 'by', 'alpha:vm:web1'], web1
        assert plain == ['plain', '-', '-'], plain


if __name__ == '__main__':
    run_tests(globals())
