#!/usr/bin/env python3
"""storctl usb claim --direct against a stand-in for stord that hands out a pipe: what the command inherits, how it ends, signals,
and that the claim is given back in every case. Argument: storctl."""
import array
import contextlib
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import time

from cli_stand import DEADLINE_SECONDS, STORCTL, expect, run_tests, send, stand, storctl

ARBITER = 'io.storctl.Arbiter.'
CLAIM = {'id': 12, 'kind': 'device', 'target': '0000:00:14.0/2.1', 'description': '0781:5581', 'holder': 'vm:a', 'state': 'active',
         'phase': 'done', 'message': '', 'origin': 'admin'}
WORDS = ['usb', 'claim', '1-2.1', '--for', 'vm:a', '--direct']
EVERYTHING = ['Claim', 'OpenDevice', 'Release']


@contextlib.contextmanager
def server_with_device(**other):
    """`server.device` is the reading end of what the command gets."""
    reading, writing = os.pipe()

    def open_device(_, connection):
        message = json.dumps({'parameters': {'claim': CLAIM, 'devnode': '/dev/bus/usb/001/004', 'descriptor': 0}}).encode() + b'\0'
        connection.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [writing]))])

    answers = {'Claim': {'claims': [CLAIM], 'earlier': [], 'warnings': []}, 'OpenDevice': open_device,
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
        assert [call['parameters'] for call in server.calls] == [
            {'targets': [usb], 'holder': 'vm:a', 'reason': 'why'},
            {'target': {**usb, 'what': CLAIM['target']}, 'holder': 'vm:a', 'interfaces': [0, 3]},
            {'targets': [{**usb, 'what': '#12'}], 'holder': 'vm:a'}], server.calls


def test_only_the_command_has_it():
    """No other descriptor comes along."""
    with server_with_device() as server:
        done = expect(storctl(server, *WORDS, '--', 'sh', '-c', 'ls -l /proc/$$/fd'), 0)
        assert done.stdout.count('pipe:') == 3 and 'socket:' not in done.stdout, done.stdout     # stdout, stderr, the device


def test_a_claim_that_was_there_stays():
    warnings = ["0000:00:14.0/2.1 was vm:a's already (claim 12)"]
    for earlier, left in [({'earlier': [12]}, True), ({'earlier': [7, 12]}, True), ({'earlier': []}, False), ({'earlier': [1, 2]}, False),
                          ({}, True)]:  # an older stord does not say
        with server_with_device(Claim={'claims': [CLAIM], **earlier, 'warnings': warnings}) as server:
            expect(storctl(server, *WORDS, '--', 'true'), 0, err='already')
            assert asked(server) == EVERYTHING[:2 if left else 3], earlier


def test_how_it_ends():
    for command, code, message in [(['true'], 0, ''), (['sh', '-c', 'kill -KILL $$'], 128 + signal.SIGKILL, ''),
                                   (['sh', '-c', 'kill -PIPE $$'], 128 + signal.SIGPIPE, ''),
                                   (['/nonexistent/command'], 127, "cannot start '/nonexistent/command': No such file or directory"),
                                   (['/etc/passwd', '{fd}'], 126, "cannot start '/etc/passwd': Permission denied")]:
        with server_with_device() as server:
            expect(storctl(server, *WORDS, '--', *command), code, err=message)
            assert asked(server) == EVERYTHING, command


def test_signals_are_passed_on():
    script = 'trap "echo got; exit 9" TERM HUP INT QUIT; echo ready; read x'
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        with server_with_device() as server:
            environment = {'PATH': '/usr/bin:/bin', 'STORCTL_RUN_DIR': server.run_dir}
            with subprocess.Popen([STORCTL, *WORDS, '--', 'sh', '-c', script], stdout=subprocess.PIPE, stdin=subprocess.PIPE,
                                  env=environment, text=True) as running:
                assert running.stdout.readline() == 'ready\n'
                running.send_signal(number)
                out = running.stdout.readline()  # before its input is closed, which ends `read` as well
                running.communicate(timeout=DEADLINE_SECONDS)
            assert (out, running.returncode) == ('got\n', 9), (number, out, running.returncode)
            assert asked(server) == EVERYTHING


def send_signal(connection, number):
    """To the process at the other end."""
    pid = struct.unpack('3i', connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    os.kill(pid, number)


def test_a_signal_before_the_command():
    """Nothing runs, and the claim that was made goes back."""
    def during_claim(call, connection):
        send_signal(connection, signal.SIGINT)
        send(connection, {'parameters': {'claims': [CLAIM], 'earlier': [], 'warnings': []}})

    with server_with_device(Claim=during_claim) as server:
        done = expect(storctl(server, *WORDS, '--', 'echo', 'ran'), 128 + signal.SIGINT)
        assert done.stdout == done.stderr == '' and asked(server) == ['Claim', 'Release'], (done, asked(server))


def test_a_signal_ends_the_wait_for_the_device():
    for number in (signal.SIGINT, signal.SIGTERM):
        with server_with_device(OpenDevice=lambda _, connection: send_signal(connection, number)) as server:
            done = expect(storctl(server, *WORDS, '--', 'echo', 'ran'), 128 + number)
            assert done.stdout == done.stderr == '' and asked(server) == EVERYTHING, (done, asked(server))


def test_a_signal_ends_the_wait_for_drivers():
    """stord goes on with the release."""
    with server_with_device(Release=lambda _, connection: send_signal(connection, signal.SIGTERM)) as server:
        expect(storctl(server, *WORDS, '--', 'sh', '-c', 'exit 5'), 5, err='claim #12 is being released')
        assert asked(server) == EVERYTHING


def test_ignored_signals_stay_ignored():
    def during_claim(_, connection):
        send_signal(connection, signal.SIGHUP)
        send(connection, {'parameters': {'claims': [CLAIM], 'earlier': [], 'warnings': []}})

    with server_with_device(Claim=during_claim) as server:
        ignore = {'preexec_fn': lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
        expect(storctl(server, *WORDS, '--', 'sh', '-c', 'kill -HUP $$; exit 7', **ignore), 7)


def test_a_parent_that_ignores_children():
    with server_with_device() as server:
        expect(storctl(server, *WORDS, '--', 'sh', '-c', 'exit 7', preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)), 7)
        assert asked(server) == EVERYTHING


def from_terminal(server, *command):
    """What the command shows up to its first line, then an interrupt from the terminal: what it shows then, and how it ends."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(STORCTL, [STORCTL, *WORDS, '--', *command], {'PATH': '/usr/bin:/bin', 'STORCTL_RUN_DIR': server.run_dir})
    shown, typed, deadline = b'', False, time.monotonic() + DEADLINE_SECONDS
    try:
        while select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
            shown += os.read(terminal, 65536)
            if b'ready' in shown and not typed:
                os.write(terminal, b'\x03')
                typed = True
        os.kill(pid, signal.SIGKILL)
    except OSError:     # the other end is closed
        pass
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_an_interrupt_from_the_terminal():
    """timeout(1) makes a group of its own, which the terminal does not reach."""
    with server_with_device() as server:
        shown, code = from_terminal(server, 'timeout', '60', 'sh', '-c', 'echo ready; exec sleep 60')
        assert code == 128 + signal.SIGINT and asked(server) == EVERYTHING, (shown, code)


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
        assert done.stdout == '' and asked(server) == ['Claim'], (done, asked(server))
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
    with stand({ARBITER + 'Claim': {'claims': [CLAIM], 'earlier': [], 'warnings': []}}) as server:
        expect(storctl(server, 'usb', 'claim', '--for', 'vm:a', '--', '1-2.1'), 0)    # without --direct names follow


if __name__ == '__main__':
    run_tests(globals())
