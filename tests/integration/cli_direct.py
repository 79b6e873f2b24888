#!/usr/bin/env python3
"""storctl usb claim --direct against a stand-in for stord that hands out a pipe: what the command inherits, how it ends, signals,
and that the claim is given back in every case. Argument: storctl."""
import array
import contextlib
import json
import os
import signal
import socket
import subprocess

from cli_stand import DEADLINE_SECONDS, STORCTL, expect, run_tests, stand, storctl

ARBITER = 'io.storctl.Arbiter.'
CLAIM = {'id': 12, 'kind': 'device', 'target': '0000:00:14.0/2.1', 'description': '0781:5581', 'holder': 'vm:a', 'state': 'active',
         'phase': 'done', 'message': '', 'origin': 'admin'}
WORDS = ['usb', 'claim', '1-2.1', '--for', 'vm:a', '--direct']
EVERYTHING = ['Claims', 'Claim', 'OpenDevice', 'Release']
KEPT = EVERYTHING[:3]


@contextlib.contextmanager
def server_with_device(known=(), **other):
    """`server.device` is the reading end of what the command gets."""
    reading, writing = os.pipe()

    def open_device(_, connection):
        message = json.dumps({'parameters': {'claim': CLAIM, 'devnode': '/dev/bus/usb/001/004', 'descriptor': 0}}).encode() + b'\0'
        connection.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [writing]))])

    answers = {'Claims': {'claims': list(known)}, 'Claim': {'claims': [CLAIM], 'warnings': []}, 'OpenDevice': open_device,
               'Release': {'released': [CLAIM]}, **other}
    with stand({ARBITER + name: answer for name, answer in answers.items()}) as server:
        server.device = reading
        yield server
    os.close(reading)
    os.close(writing)


def asked(server):
    return [call['method'].removeprefix(ARBITER) for call in server.calls]


def test_command_has_the_device():
    with server_with_device() as server:
        script = 'echo through >&"$1"; echo "$2"; ls /proc/self/fd | grep -cx "$1"; exit 7'
        done = expect(storctl(server, *WORDS, '--interfaces', '0,3', '-r', 'why', '--', 'sh', '-c', script, 'x', '{fd}', 'fd={fd},set={fd}'), 7)
        assert os.read(server.device, 99) == b'through\n'
        fd = done.stdout.split('fd=')[1].split(',')[0]
        assert int(fd) > 2 and done.stdout == f'fd={fd},set={fd}\n1\n' and done.stderr == '', done
        assert asked(server) == EVERYTHING
        usb = {'bus': 'usb', 'what': '1-2.1'}
        assert [call['parameters'] for call in server.calls[1:]] == [
            {'targets': [usb], 'holder': 'vm:a', 'reason': 'why'},
            {'target': {**usb, 'what': CLAIM['target']}, 'holder': 'vm:a', 'interfaces': [0, 3]},
            {'targets': [{**usb, 'what': '#12'}], 'holder': 'vm:a'}], server.calls


def test_only_the_command_has_it():
    """No other descriptor comes along."""
    with server_with_device() as server:
        done = expect(storctl(server, *WORDS, '--', 'sh', '-c', 'ls -l /proc/$$/fd'), 0)
        assert done.stdout.count('pipe:') == 3 and 'socket:' not in done.stdout, done.stdout     # stdout, stderr, the device


def test_a_claim_that_was_there_stays():
    with server_with_device(known=[CLAIM]) as server:
        expect(storctl(server, *WORDS, '--', 'true'), 0)
        assert asked(server) == KEPT


def test_how_it_ends():
    for command, code, message in [(['true'], 0, ''), (['sh', '-c', 'kill -KILL $$'], 128 + signal.SIGKILL, ''),
                                   (['sh', '-c', 'kill -PIPE $$'], 128 + signal.SIGPIPE, ''),
                                   (['/nonexistent/command'], 127, "cannot start '/nonexistent/command': No such file or directory"),
                                   (['/etc/passwd', '{fd}'], 127, "cannot start '/etc/passwd': Permission denied")]:
        with server_with_device() as server:
            expect(storctl(server, *WORDS, '--', *command), code, err=message)
            assert asked(server) == EVERYTHING, command


def test_signals_are_passed_on():
    script = 'trap "echo got; exit 9" TERM HUP INT; echo ready; read x'
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        with server_with_device() as server:
            environment = {'PATH': '/usr/bin:/bin', 'STORCTL_RUN_DIR': server.run_dir}
            with subprocess.Popen([STORCTL, *WORDS, '--', 'sh', '-c', script], stdout=subprocess.PIPE, stdin=subprocess.PIPE,
                                  env=environment, text=True) as running:
                assert running.stdout.readline() == 'ready\n'
                running.send_signal(number)
                out, _ = running.communicate(timeout=DEADLINE_SECONDS)
            assert (out, running.returncode) == ('got\n', 9), (number, out, running.returncode)
            assert asked(server) == EVERYTHING


def test_without_the_device_nothing_runs():
    refused = ('error', ARBITER + 'Refused', {'message': "node 'token' serves it", 'blockers': []})
    with server_with_device(OpenDevice=refused) as server:
        done = expect(storctl(server, *WORDS, '--', 'echo', 'ran'), 8, err="node 'token' serves it")
        assert done.stdout == '' and asked(server) == EVERYTHING, (done, asked(server))
    with server_with_device(OpenDevice={'claim': CLAIM, 'devnode': '/dev/x', 'descriptor': 0}) as server:
        done = expect(storctl(server, *WORDS, '--', 'echo', 'ran'), 1, err='descriptor did not arrive')
        assert done.stdout == '' and asked(server) == EVERYTHING, (done, asked(server))
    with server_with_device(Claim=refused) as server:
        done = expect(storctl(server, *WORDS, '--', 'echo', 'ran'), 8, err='usb explain 1-2.1 --for vm:a')
        assert done.stdout == '' and asked(server) == ['Claims', 'Claim'], (done, asked(server))
    with server_with_device(Release=('error', ARBITER + 'Failed', {'message': 'no'})) as server:
        expect(storctl(server, *WORDS, '--', 'sh', '-c', 'exit 5'), 5, err="storctl usb release '#12'")


def test_usage():
    for words, text in [(WORDS, 'COMMAND'), ([*WORDS, '--'], 'COMMAND'), (['usb', 'claim', '1-2', '1-3', '--for', 'vm:a', '--direct', '--', 'x'], 'one device'),
                        ([*WORDS, '-n', '--', 'x'], '--dry-run'), ([*WORDS, '-j', '--', 'x'], '--json'),
                        ([*WORDS, '--interfaces', 'x', '--', 'x'], "'x'"), ([*WORDS[:-1], '--interfaces', '0'], '--direct'),
                        (['usb', 'claim', '1-2', '--direct', '--', 'x'], '--for')]:
        with stand({}) as server:
            done = expect(storctl(server, *words), 2, err=text)
            assert done.stdout == '' and server.calls == [], (words, done, server.calls)
    with stand({ARBITER + 'Claim': {'claims': [CLAIM], 'warnings': []}}) as server:
        expect(storctl(server, 'usb', 'claim', '--for', 'vm:a', '--', '1-2.1'), 0)    # without --direct names follow


if __name__ == '__main__':
    run_tests(globals())
