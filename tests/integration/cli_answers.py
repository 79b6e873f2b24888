#!/usr/bin/env python3
"""storctl against a stand-in for stord that gives scripted answers: every error of the control interface and its exit
status, hostile strings, broken connections, closed and full outputs. Argument: storctl."""
import json
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import threading
import time

from cli_stand import DEADLINE_SECONDS, STORCTL, expect, on_terminal, run_tests, send, stand, storctl

DEVICE = {
    'id': 'naa6.6001405', 'name': 'sda', 'devnode': '/dev/sda', 'kind': 'disk', 'vendor': 'LIO-ORG', 'model': 'disk 日立\x1b[2J\n',
    'serial': 'S1', 'revision': '4.0', 'size_bytes': 1610612736, 'logical_block_bytes': 512, 'physical_block_bytes': 4096,
    'read_only': False, 'removable': False, 'rotational': None, 'transport': 'iscsi', 'locality': 'no',
    'locality_reason': 'reached over iSCSI', 'boot': None, 'ready': True, 'quality': 'high',
    'identifiers': [{'type': 'naa6', 'value': '6001405', 'quality': 'high', 'usable': True, 'why': None},
                    {'type': 'serial', 'value': '0', 'quality': 'low', 'usable': False, 'why': 'a placeholder'}],
    'conflict': None,
    'sharing': {'shared': True, 'basis': 'admin', 'reason': 'LUN 7', 'seen_by': ['a', 'b'], 'not_seen_by': ['c'],
                'undecided': 'c is off', 'author': 'root (uid 0)', 'time': '2026-11-22T12:00:00Z'},
    'paths': [{'name': 'sda', 'devnode': '/dev/sda', 'transport': 'iscsi', 'location': '3:0:0:7', 'state': 'offline'}],
    'links': ['/dev/disk/by-id/wwn-0x6001405'], 'in_use': ['mounted on /srv']}
OPENER = {'pid': 4711, 'program': 'qemu-system-x86', 'mode': 'write', 'since': '2026-11-22T12:00:00Z'}
NODE = {
    'name': 'web1', 'device': 'naa6.6001405', 'open': 'single-writer', 'loop': False,
    'backing': {'kind': 'block', 'path': '/dev/sda', 'device': 'naa6.6001405', 'size_bytes': 1610612736,
                'logical_block_bytes': 512, 'direct': True, 'present': True},
    'forms': [{'type': 'fuse', 'path': '/run/storctl/block/web1'}], 'state': 'serving', 'message': '', 'pid': 99,
    'restarts': 0, 'openers': [OPENER], 'created': '2026-11-22T12:00:00Z', 'created_by': 'root (uid 0)'}


def operation(name, count):
    latency = [0] * 40
    latency[17] = count
    return {'operation': name, 'operations': count, 'bytes': count * 4096, 'errors': 0, 'in_flight': 1,
            'latency_total_ns': count * 100000, 'latency_ns': latency}


ERRORS = [
    # method, words, error, parameters, exit status, what the message holds
    ('Device.Show', 'device show sdz', 'io.storctl.Device.NotFound', {'id': 'sdz'}, 5, ["'sdz'", 'device list']),
    ('Device.Show', 'device show Q', 'io.storctl.Device.Ambiguous', {'id': 'Q', 'candidates': ['naa6.1', 'naa6.2']}, 7,
     ["'Q'", 'naa6.1\n', 'naa6.2\n']),
    ('Device.SetSharing', 'device share sda true', 'io.storctl.Device.Refused',
     {'id': 'sda', 'message': 'an id conflict', 'blockers': ['sdb has the same']}, 8, ['an id conflict', 'sdb has the same']),
    ('Device.SetSharing', 'device share sda true --reason x', 'io.storctl.Device.InvalidValue',
     {'parameter': 'reason', 'value': 'x', 'message': 'too short'}, 2, ['too short']),
    ('Device.SetSharing', 'device share sda auto', 'org.varlink.service.PermissionDenied', {}, 4, ['not permitted']),
    ('Device.Rescan', 'device rescan', 'org.varlink.service.PermissionDenied', {'message': 'uid 7 may not'}, 4, ['uid 7 may not']),
    ('Node.Show', 'node show x', 'io.storctl.Node.NotFound', {'name': 'x'}, 5, ["'x'", 'node list']),
    ('Node.Stat', 'node stat x', 'io.storctl.Node.NotFound', {'name': 'x'}, 5, ["'x'"]),
    ('Node.Create', 'node create x -d y', 'io.storctl.Node.AlreadyExists', {'name': 'x'}, 1, ["'x'"]),
    ('Node.Create', 'node create x -d y', 'io.storctl.Node.DeviceNotFound', {'id': 'y'}, 5, ["'y'"]),
    ('Node.Create', 'node create x -d y', 'io.storctl.Node.DeviceAmbiguous', {'id': 'y', 'candidates': ['a']}, 7, ["'y'", 'a\n']),
    ('Node.Create', 'node create x -d y', 'io.storctl.Node.InvalidValue',
     {'parameter': 'name', 'value': 'x', 'message': 'no name'}, 2, ['no name']),
    ('Node.Create', 'node create x -d y', 'io.storctl.Node.Failed', {'message': 'no /dev/fuse'}, 1, ['no /dev/fuse']),
    ('Node.Create', 'node create x -d y', 'io.storctl.Node.Refused',
     {'message': '/dev/y is in use', 'blockers': ['mounted on /srv', 'swap']}, 8, ['/dev/y is in use', 'mounted on /srv\n', 'swap\n']),
    ('GetStatus', 'status', 'io.storctl.InternalError', {'message': 'full'}, 1, ['full']),
    ('GetStatus', 'status', 'org.varlink.service.MethodNotFound', {'method': 'io.storctl.GetStatus'}, 1, ['older than storctl']),
    ('Monitor', 'monitor', 'org.varlink.service.PermissionDenied', {}, 4, ['not permitted']),
]


def test_errors():
    for method, words, name, parameters, code, texts in ERRORS:
        with stand({'io.storctl.' + method: ('error', name, parameters)}) as server:
            done = expect(storctl(server, *words.split()), code, err=texts)
            assert done.stdout == '', f'{words}: an error writes {done.stdout!r} to standard output'
            done = expect(storctl(server, *words.split(), '--json'), code, err=texts)
            assert done.stdout == '', f'{words} --json: an error writes {done.stdout!r} to standard output'


def test_unreachable():
    for words in ('status', 'monitor', 'device list', 'node create a -d b', 'node stat a 1', 'node remove a'):
        done = expect(storctl(None, *words.split()), 6, err=['/nonexistent/io.storctl', 'systemctl start stord', '--run-dir'])
        assert done.stdout == ''
    expect(storctl(None, '--run-dir', '/elsewhere', 'status'), 6, err='/elsewhere/io.storctl')
    if os.geteuid() == 0 and shutil.which('setpriv'):
        with stand({}) as server:
            os.chmod(server.run_dir, 0o711)
            os.chmod(server.run_dir + '/io.storctl', 0o600)
            done = subprocess.run(['setpriv', '--reuid=65534', '--clear-groups', STORCTL, '--run-dir', server.run_dir, 'status'],
                                  capture_output=True, text=True, timeout=DEADLINE_SECONDS)
            if 'failed to execute' not in done.stderr:  # the build folder may be closed to others
                expect(done, 4, err='io.storctl')
    with stand({'io.storctl.GetStatus': lambda call, connection: False}) as server:
        expect(storctl(server, 'status'), 6, err=['broke', 'journalctl'])


def test_usage():
    for words, text in [('', 'nothing to do'), ('device', 'list, show, share, rescan'), ('disk list', "'disk'"),
                        ('device list -o NOPE', 'NAME, SIZE'), ('status --color=red', 'auto, always, never'),
                        ('node create x', '--device'), ('node stat x 0', 'interval'), ('node stat x 1 0', 'count'),
                        ('node stat x y', "'y'"), ('node stat 1 2 3', "'3'"), ('device show', 'ID')]:
        with stand({'io.storctl.Node.Show': ('error', 'io.storctl.Node.NotFound', {'name': '1'})}) as server:
            done = expect(storctl(server, *words.split()), 2, err=text)
            assert done.stdout == ''


def test_tables():
    with stand({'io.storctl.Device.List': {'devices': [DEVICE]}, 'io.storctl.Node.List': {'nodes': [NODE]}}) as server:
        done = expect(storctl(server, 'device', 'list'), 0)
        heading, row = done.stdout.splitlines()
        assert heading.split() == 'NAME SIZE TRANSPORT LOCAL SHARED BASIS QUALITY NOTES ID'.split(), heading
        assert row.split() == 'sda 1.5 GiB iscsi no yes admin high undecided,in-use naa6.6001405'.split(), row
        assert '\x1b' not in done.stdout
        done = expect(storctl(server, 'device', 'list', '--no-headings', '-b', '-o', 'size,model,boot,conflict'), 0)
        assert done.stdout == '1610612736  disk 日立\\x1b[2J\\x0a  unknown  -\n', repr(done.stdout)
        expect(storctl(server, 'device', 'list', '-o', '+AUTHOR'), 0, out=['ID', 'AUTHOR', 'root (uid 0)'])
        assert expect(storctl(server, 'node', 'list', '--no-headings', '-o', 'NAME'), 0).stdout == 'web1\n'
        for words, env, coloured in [(['--color=always'], {'NO_COLOR': '1'}, True), (['--color=never'], {}, False), ([], {}, False)]:
            done = expect(storctl(server, 'node', 'list', *words, env=env), 0)
            assert ('\x1b[' in done.stdout) == coloured, (words, env, done.stdout)


def test_terminal():
    with stand({'io.storctl.Device.List': {'devices': [DEVICE]}}) as server:
        shown = on_terminal(server, ['device', 'list'], 200, {'TERM': 'xterm'})
        assert '\x1b[32m' in shown and DEVICE['id'] in shown, shown
        for env in ({'TERM': 'xterm', 'NO_COLOR': '1'}, {'TERM': 'dumb'}):
            shown = on_terminal(server, ['device', 'list'], 78, env)
            assert '\x1b' not in shown, shown
            assert all(len(line) <= 78 for line in shown.splitlines()), shown
            assert '…' in shown, shown


def test_json():
    status = {'version': '0.1', 'pid': 1, 'devices': {'total': 1}, 'nodes': {}, 'findings': []}
    with stand({'io.storctl.Device.List': {'devices': [DEVICE]}, 'io.storctl.Device.Show': {'device': DEVICE},
                'io.storctl.Node.Show': {'node': NODE}, 'io.storctl.Node.Create': {'node': NODE, 'warnings': ['slow']},
                'io.storctl.Node.Remove': {}, 'io.storctl.GetStatus': {'status': status}}) as server:
        def document(*words):
            return json.loads(expect(storctl(server, *words, '-j'), 0).stdout)
        assert document('device', 'list') == {'version': 1, 'devices': [DEVICE]}
        assert document('device', 'show', 'sda') == {'version': 1, 'device': DEVICE}
        assert document('status') == {'version': 1, 'status': status}
        shown = document('node', 'show', 'web1')
        assert shown['node'] == NODE and set(shown) == {'version', 'node', 'consumers'}, shown
        assert shown['consumers'][0]['path'] == '/run/storctl/block/web1', shown
        assert document('node', 'remove', 'web1') == {'version': 1, 'removed': 'web1', 'dry_run': False, 'warnings': []}
        done = expect(storctl(server, 'node', 'create', 'web1', '-d', 'sda', '-j'), 0, err='slow')
        assert json.loads(done.stdout) == {'version': 1, 'dry_run': False, 'node': NODE, 'warnings': ['slow']}


def test_parameters():
    """What is sent is what was asked for."""
    with stand({'io.storctl.Node.Create': {'node': NODE, 'warnings': []}, 'io.storctl.Device.SetSharing': {'device': DEVICE},
                'io.storctl.Node.Show': {'node': NODE}, 'io.storctl.Node.Remove': {}}) as server:
        def sent(*words, **options):
            server.calls.clear()
            expect(storctl(server, *words, **options), 0)
            return server.calls[-1]['parameters']
        assert sent('node', 'create', 'a', '-d', 'sda') == {'name': 'a', 'device': 'sda', 'loop': False, 'dry_run': False}
        assert sent('node', 'create', 'a', '-d', 'sda', '--open=shared', '-l', '-n') == {
            'name': 'a', 'device': 'sda', 'loop': True, 'dry_run': True, 'open': 'shared'}
        assert sent('node', 'create', 'a', '-d', './x.raw', cwd='/tmp')['device'] == '/tmp/./x.raw'
        assert sent('device', 'share', 'sda', 'true', '-r', 'zwei Wörter') == {
            'id': 'sda', 'value': 'true', 'reason': 'zwei Wörter', 'dry_run': False}
        assert sent('device', 'share', 'sda', 'auto', '-n') == {'id': 'sda', 'value': 'auto', 'dry_run': True}
        assert sent('node', 'remove', 'web1', '--force') == {'name': 'web1', 'force': True}
        server.calls.clear()
        expect(storctl(server, 'node', 'remove', 'web1', '--dry-run'), 8, err=['pid 4711 (qemu-system-x86)', '--force'])
        expect(storctl(server, 'node', 'remove', 'web1', '--dry-run', '--force'), 0, out='would be removed')
        assert [call['method'] for call in server.calls] == ['io.storctl.Node.Show'] * 2, server.calls


def test_file_hint():
    with stand({'io.storctl.Node.Create': ('error', 'io.storctl.Node.DeviceNotFound', {'id': 'x.raw'})}) as server:
        words = ['node', 'create', 'a', '-d', 'x.raw']
        assert './x.raw' not in expect(storctl(server, *words), 5).stderr
        pathlib.Path(server.run_dir, 'x.raw').touch()
        expect(storctl(server, *words, cwd=server.run_dir), 5, err='--device ./x.raw')


def test_question():
    """On a terminal the removal of an open node is asked for."""
    for answer, removed in ((b'n\n', False), (b'y\n', True)):
        with stand({'io.storctl.Node.Show': {'node': NODE}, 'io.storctl.Node.Remove': {}}) as server:
            pid, terminal = pty.fork()
            if pid == 0:
                os.execve(STORCTL, [STORCTL, 'node', 'remove', 'web1', '-f'], {'STORCTL_RUN_DIR': server.run_dir, 'TERM': 'dumb'})
            shown = b''
            while b'[y/N]' not in shown:
                assert select.select([terminal], [], [], DEADLINE_SECONDS)[0], shown
                shown += os.read(terminal, 65536)
            assert b'qemu-system-x86' in shown, shown
            os.write(terminal, answer)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.close(terminal)
            assert code == (0 if removed else 1), code
            assert ('io.storctl.Node.Remove' in [call['method'] for call in server.calls]) == removed


def test_stat():
    started = time.monotonic_ns() - 10_000_000_000
    samples = []

    def stat(_, connection):
        samples.append(len(samples))
        count = 1000 + 500 * len(samples)
        send(connection, {'parameters': {'stats': [
            {'name': 'web1', 'time_ns': started + (len(samples) + 9) * 1_000_000_000, 'started_ns': started, 'refused_opens': 0,
             'operations': [operation('read', count), operation('write', 0), operation('flush', 0)]}]}})

    with stand({'io.storctl.Node.Stat': stat}) as server:
        done = expect(storctl(server, 'node', 'stat', 'web1', '0.1', '3', '--json'), 0)
        first, second, third = map(json.loads, done.stdout.splitlines())
        rates = [sample['stats'][0]['rates'] for sample in (first, second, third)]
        assert [rate['since_start'] for rate in rates] == [True, False, False], rates
        assert [rate['operations'][0]['operations_per_second'] for rate in rates] == [150.0, 500.0, 500.0], rates
        assert rates[1]['operations'][0]['mean_ns'] == 100000, rates
        assert 65536 <= rates[1]['operations'][0]['p50_ns'] <= 131072, rates
        assert rates[1]['operations'][1]['p99_ns'] is None, rates
        done = expect(storctl(server, 'node', 'stat', 'web1', '-o', 'NAME,R/S,MEAN,W-MEAN,INFLIGHT'), 0)
        assert re.search(r'^web1 +\d+\.\d +100 µs +- +3$', done.stdout, re.M), done.stdout
    with stand({'io.storctl.Node.Stat': stat, 'io.storctl.Node.Show': ('error', 'io.storctl.Node.NotFound', {'name': '0.1'})}) as server:
        expect(storctl(server, 'node', 'stat', '0.1', '2'), 0)
        assert [call['parameters'] for call in server.calls if call['method'].endswith('Stat')] == [{}, {}], server.calls
    with stand({'io.storctl.Node.Stat': stat, 'io.storctl.Node.Show': {'node': NODE}}) as server:
        expect(storctl(server, 'node', 'stat', '5'), 0)
        assert server.calls[-1]['parameters'] == {'name': '5'}, server.calls


def event(number):
    return {'parameters': {'event': {'time': '2026-11-22T12:00:00Z', 'event': 'device-added', 'subject': f'naa6.{number}',
                                     'summary': 'a disk\x1b[31m', 'detail': DEVICE}}, 'continues': True}


def test_monitor():
    def two_events(_, connection):
        send(connection, event(1))
        send(connection, event(2))
        return False
    with stand({'io.storctl.Monitor': two_events}) as server:
        done = expect(storctl(server, 'monitor', '--json'), 6, err='stord')
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line['subject'] for line in lines] == ['naa6.1', 'naa6.2'] and lines[0]['version'] == 1, lines
        assert set(lines[0]) == {'version', 'time', 'event', 'subject', 'summary', 'detail'}, lines[0]
        assert server.calls[0]['more'] is True
        done = expect(storctl(server, 'monitor'), 6, out=['device-added', 'naa6.2', '\\x1b[31m'])


def test_outputs():
    """A reader that has enough is no failure; a full disk is one."""
    silent = threading.Event()

    def one_event_then_silence(_, connection):
        send(connection, event(1))
        silent.wait(DEADLINE_SECONDS)

    with stand({'io.storctl.Monitor': one_event_then_silence, 'io.storctl.Device.List': {'devices': [DEVICE] * 5000}}) as server:
        with subprocess.Popen([STORCTL, '--run-dir', server.run_dir, 'monitor'], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert b'naa6.1' in process.stdout.readline()
            process.stdout.close()      # and no further event comes
            assert process.wait(DEADLINE_SECONDS) == 0
            assert process.stderr.read() == b''
        silent.set()
        with subprocess.Popen([STORCTL, '--run-dir', server.run_dir, 'device', 'list'], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            process.stdout.readline()
            process.stdout.close()
            assert process.wait(DEADLINE_SECONDS) == 0
            assert process.stderr.read() == b''
        with open('/dev/full', 'w', encoding='ascii') as full:
            done = subprocess.run([STORCTL, '--run-dir', server.run_dir, 'device', 'list'], stdout=full, stderr=subprocess.PIPE,
                                  text=True, timeout=DEADLINE_SECONDS)
            assert done.returncode == 1 and 'standard output' in done.stderr, done


def test_hostile_answers():
    """An answer of the wrong shape is an empty one, not a crash."""
    for answer in ({}, {'devices': 5}, {'devices': [5, None, {'sharing': 7, 'size_bytes': 'x', 'paths': [3]}]}):
        with stand({'io.storctl.Device.List': answer, 'io.storctl.Device.Show': answer, 'io.storctl.Node.Stat': answer,
                    'io.storctl.Node.Show': {'node': []}, 'io.storctl.GetStatus': answer}) as server:
            for words in ('device list', 'device show x', 'node show x', 'status', 'node stat'):
                expect(storctl(server, *words.split()), 0)
                expect(storctl(server, *words.split(), '-j'), 0)

    def garbage(_, connection):
        connection.sendall(b'{"parameters":\0')
        return False
    with stand({'io.storctl.GetStatus': garbage}) as server:
        done = storctl(server, 'status')
        assert done.returncode in (1, 6) and done.stderr, done


if __name__ == '__main__':
    run_tests(globals())
