"""A stand-in for stord that gives scripted answers, and storctl against it. For tests whose first argument is storctl."""
import contextlib
import json
import os
import pathlib
import pty
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time

STORCTL = os.path.abspath(sys.argv[1])
DEADLINE_SECONDS = 20


class Stand:
    """Answers each method with what `answers` has for it: parameters, ('error', name, parameters), or a callable that
    gets the call and the connection."""

    def __init__(self, run_dir, answers):
        self.answers, self.calls = answers, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(run_dir / 'io.storctl'))
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self):
        """The thread ends before its descriptor's number can be another server's."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(DEADLINE_SECONDS)
        self.listener.close()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        pending = b''
        with contextlib.suppress(OSError), connection:
            while got := connection.recv(65536):
                pending += got
                while b'\0' in pending:
                    message, pending = pending.split(b'\0', 1)
                    call = json.loads(message)
                    self.calls.append(call)
                    answer = self.answers[call['method']]
                    if callable(answer):
                        if answer(call, connection) is False:
                            return
                    elif isinstance(answer, tuple):
                        send(connection, {'error': answer[1], 'parameters': answer[2]})
                    else:
                        send(connection, {'parameters': answer})


def send(connection, message):
    connection.sendall(json.dumps(message).encode() + b'\0')


@contextlib.contextmanager
def stand(answers):
    with tempfile.TemporaryDirectory() as folder:
        server = Stand(pathlib.Path(folder), answers)
        server.run_dir = folder
        yield server
        server.close()


def storctl(server, *words, env=(), **options):
    environment = {'PATH': '/usr/bin:/bin', 'STORCTL_RUN_DIR': server.run_dir if server else '/nonexistent', 'TERM': 'xterm',
                   **dict(env)}
    return subprocess.run([STORCTL, *words], capture_output=True, text=True, env=environment, timeout=DEADLINE_SECONDS,
                          stdin=subprocess.DEVNULL, **options)


def expect(done, code, out=(), err=()):
    shown = f'exit {done.returncode}\nstdout: {done.stdout}\nstderr: {done.stderr}'
    assert done.returncode == code, f'expected exit {code}: {shown}'
    for text in [out] if isinstance(out, str) else out:
        assert text in done.stdout, f'{text!r} is not in the output: {shown}'
    for text in [err] if isinstance(err, str) else err:
        assert text in done.stderr, f'{text!r} is not among the messages: {shown}'
    return done


def on_terminal(server, words, columns, env):
    """What storctl shows on a terminal of that width; it must end with 0."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(STORCTL, [STORCTL, *words], {'STORCTL_RUN_DIR': server.run_dir, 'COLUMNS': str(columns), **env})
    shown, deadline = b'', time.monotonic() + DEADLINE_SECONDS
    while True:
        assert select.select([terminal], [], [], deadline - time.monotonic())[0], 'no end'
        try:
            got = os.read(terminal, 65536)
        except OSError:     # the other end is closed
            break
        shown += got
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    return shown.decode()


def run_tests(names):
    """Every test_ function of a module's globals."""
    for name, test in list(names.items()):
        if name.startswith('test_'):
            test()
            print(f'{name}: good')
