"""A stord of its own for tests: private directories, readiness by NOTIFY_SOCKET, Varlink calls over its socket, and the end of
everything that it started. Run by meson with STORCTL_BUILD set to the build folder."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

from node_test import BUILD, MIB, call, require, run, skip, wait_for  # noqa: F401 (for those who import this module)

STORD = os.path.abspath(os.path.join(BUILD, "daemon/stord"))
STORCTL = os.path.abspath(os.path.join(BUILD, "cli/storctl"))

# a daemon that says one of these has failed its test, whatever the test saw
SUSPICIOUS = re.compile(r"Sanitizer|runtime error|do not agree|handler failed|dropped without an answer|Assertion|terminate called")


class Stream:
    """The answers of one call with "more", one by one."""

    def __init__(self, path, method, parameters=None, seconds=15):
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(seconds)
        self.connection.connect(path)
        self.buffer = b""
        message = {"method": method, "parameters": parameters or {}, "more": True}
        self.connection.sendall(json.dumps(message).encode() + b"\0")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def next(self):
        """The next message as it came; None at the end of the connection."""
        while b"\0" not in self.buffer:
            part = self.connection.recv(1 << 16)
            if not part:
                return None
            self.buffer += part
        text, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(text)

    def until(self, condition):
        """The first event for which the condition holds."""
        while True:
            message = self.next()
            if message is None:
                raise AssertionError("the stream ended before the event came")
            event = message["parameters"]["event"]
            if condition(event):
                return event


class Stord:
    """One stord in FOLDER: state/, run/, dev/, stord.toml."""

    def __init__(self, folder, config="", options=(), environment=None):
        self.folder = folder
        self.state_dir = os.path.join(folder, "state")
        self.run_dir = os.path.join(folder, "run")
        self.dev_dir = os.path.join(folder, "dev")
        self.config_path = os.path.join(folder, "stord.toml")
        self.log_path = os.path.join(folder, "stord.log")
        self.socket = os.path.join(self.run_dir, "io.storctl")
        self.options = list(options)
        self.environment = environment or {}
        self.process = self.notify = self.listener = None
        self.notified = []
        self.configure(config)

    def configure(self, text):
        """`text` and this stord's own dev_dir; top-level keys come first."""
        with open(self.config_path, "w") as out:
            out.write(f'dev_dir = "{self.dev_dir}"\n{text}\n')

    def command(self, *more):
        return [STORD, "--config", self.config_path, "--state-dir", self.state_dir, "--run-dir", self.run_dir,
                "--supervisor", "fork", *self.options, *more]

    def spawn(self):
        self.notified = []
        path = os.path.join(self.folder, "notify")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(path)
        # sd_notify waits for whoever does not read, as no service manager does
        self.listener = threading.Thread(target=self.listen, args=(self.notify,), daemon=True)
        self.listener.start()
        environment = dict(os.environ, NOTIFY_SOCKET=path, **self.environment)
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(self.command("--foreground"), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment)
        return self

    def start(self):
        self.spawn()
        self.wait_notified("READY=1")
        return self

    def wait_notified(self, line, seconds=30):
        """Reads what stord tells its service manager until a message holds `line`; gives that message's lines."""

        def read():
            for index, message in enumerate(self.notified):
                if line in message:
                    del self.notified[:index + 1]
                    return message
            if self.process.poll() is not None:
                raise AssertionError(f"stord ended with {self.process.returncode}: {self.log()}")
            return None

        return wait_for(read, f"stord says {line}", seconds)

    def listen(self, notify):
        while True:
            message = notify.recv(4096).decode()
            if not message:
                return
            self.notified.append(message.split("\n"))

    def end_listening(self):
        """Wakes the listener up to its end: closing the socket under it would not."""
        notify, self.notify = self.notify, None
        if notify is not None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", os.path.join(self.folder, "notify"))
            self.listener.join(5)
            notify.close()

    def log(self):
        with open(self.log_path) as log:
            return log.read()

    def call(self, method, **parameters):
        """`Node.List` or `GetStatus`: without io.storctl. Gives (parameters, error name or None)."""
        return call(self.socket, "io.storctl." + method, parameters)

    def ask(self, method, **parameters):
        """A call that must succeed."""
        answer, error = self.call(method, **parameters)
        if error:
            raise AssertionError(f"{method}: {error} {answer}")
        return answer

    def refused(self, method, error, **parameters):
        """A call that must fail with this error; gives the error's parameters."""
        answer, name = self.call(method, **parameters)
        if name is None or not name.endswith("." + error):
            raise AssertionError(f"{method}: expected {error}, got {name} {answer}")
        return answer

    def monitor(self):
        return Stream(self.socket, "io.storctl.Monitor")

    def node(self, name):
        return self.ask("Node.Show", name=name)["node"]

    def state_file(self):
        with open(os.path.join(self.run_dir, "state.json")) as file:
            return json.load(file)

    def storctl(self, *arguments, check=True):
        """The command against this stord."""
        result = subprocess.run([STORCTL, *arguments], capture_output=True, text=True, timeout=60,
                                env=dict(os.environ, STORCTL_RUN_DIR=self.run_dir))
        if check and result.returncode != 0:
            raise AssertionError(f"storctl {' '.join(arguments)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.end_listening()

    def stop(self):
        """SIGTERM, and the exit status."""
        self.process.terminate()
        status = self.process.wait(20)
        self.end_listening()
        return status

    def fails(self):
        """Starts it, expecting it to end; gives its exit status and what it said."""
        result = subprocess.run(self.command("--foreground"), capture_output=True, text=True, timeout=30)
        return result.returncode, result.stderr

    def node_pids(self):
        """Every stor-node of this run directory, known to a stord or not."""
        pids = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
                arguments = file.read().decode(errors="replace").split("\0")
                if arguments[0].endswith("stor-node") and any(a.startswith(self.run_dir + "/") for a in arguments):
                    pids.append(int(entry))
        return pids

    def clean(self):
        """Ends stord and its nodes, whatever state they are in."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.end_listening()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.node_pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            with contextlib.suppress(AssertionError):
                wait_for(lambda: not self.node_pids(), "node processes end", 5)
                break
        with open("/proc/self/mounts") as mounts:
            points = [line.split()[1] for line in mounts if line.split()[1].startswith(self.folder + "/")]
        for point in reversed(points):
            subprocess.run(["umount", "-l", point], check=False)


class StordTestCase(unittest.TestCase):
    """Gives each test a folder and ends its stords; a stord that said something suspicious fails the test."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="storctl-")
        self.addCleanup(run, "rm", "-rf", self.folder)

    def stord(self, config="", name="host", options=(), environment=None):
        folder = os.path.join(self.folder, name)
        os.makedirs(folder, exist_ok=True)
        stord = Stord(folder, config, options, environment)
        self.addCleanup(self.check_log, stord)
        self.addCleanup(stord.clean)
        return stord

    def check_log(self, stord):
        if os.path.exists(stord.log_path):
            found = SUSPICIOUS.search(stord.log())
            self.assertIsNone(found, f"stord said: {stord.log()}")

    def image(self, name="image", size=8 * MIB):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.truncate(size)
        return path

    def loop(self, path, *options):
        """A loop device over a file, detached at the end."""
        device = run("losetup", "--find", "--show", *options, path).strip()
        self.addCleanup(subprocess.run, ["losetup", "--detach", device], check=False)
        return device
