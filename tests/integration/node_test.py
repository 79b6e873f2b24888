"""A stor-node process of its own for tests, without stord: started from a specification, asked over its socket."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = os.environ.get("STORCTL_BUILD", os.environ.get("MESON_BUILD_ROOT", "build"))
PROGRAM = os.path.abspath(os.path.join(BUILD, "daemon/node/stor-node"))
MIB = 1 << 20


def skip(reason):
    print(f"skipped: {reason}", file=sys.stderr)
    sys.exit(77)


def require(*tools):
    """Ends the script with 77 where something that all of its tests need is not there."""
    if os.geteuid() != 0:
        skip("root is needed for mounts")
    if not os.path.exists("/dev/fuse"):
        skip("/dev/fuse is not there")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        skip("not installed: " + ", ".join(missing))


def run(*command, timeout=120, **kwargs):
    """Runs a program that has to succeed; a failure shows what it said."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **kwargs)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def wait_for(condition, what, seconds=15):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


def call(path, method, parameters=None):
    """One Varlink call; gives (parameters, error name or None)."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(path)
        connection.sendall(json.dumps({"method": method, "parameters": parameters or {}}).encode() + b"\0")
        data = b""
        while not data.endswith(b"\0"):
            part = connection.recv(65536)
            if not part:
                raise AssertionError(f"{method}: the connection was closed")
            data += part
    reply = json.loads(data[:-1])
    return reply.get("parameters", {}), reply.get("error")


class Node:
    """A stor-node over `backing`; paths: .file (FUSE), .disk (loop, when asked for)."""

    def __init__(self, folder, backing, name="n", loop=False, **more):
        self.folder, self.name = folder, name
        self.file = os.path.join(folder, "block", name)
        self.disk = os.path.join(folder, "disk", name)
        self.socket = os.path.join(folder, name + ".socket")
        self.spec_path = os.path.join(folder, name + ".json")
        self.log_path = os.path.join(folder, name + ".log")
        self.error_path = os.path.join(folder, name + ".error")
        spec = {"version": 1, "name": name, "backing_path": backing, "control_socket": self.socket, "mount_path": self.file,
                "loop_link": self.disk if loop else "", **more}
        with open(self.spec_path, "w") as out:
            json.dump(spec, out)
        self.process = None

    def start(self):
        self.spawn()
        wait_for(lambda: self.process.poll() is not None or self.answers(), f"node {self.name} serves")
        if self.process.poll() is not None:
            raise AssertionError(f"stor-node ended with {self.process.returncode}: {self.log()}")
        return self

    def spawn(self):
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen([PROGRAM, "--spec", self.spec_path], stdout=log, stderr=log)

    def fails(self):
        """Starts it, expecting it to end; gives its exit status and its reason."""
        self.spawn()
        status = self.process.wait(20)
        with open(self.error_path) as reason:
            return status, reason.read()

    def answers(self):
        with contextlib.suppress(OSError, AssertionError):
            return self.describe()["state"] != ""
        return False

    def log(self):
        with open(self.log_path) as log:
            return log.read()

    def call(self, method, **parameters):
        return call(self.socket, "io.storctl.NodeProcess." + method, parameters)

    def describe(self):
        return self.call("Describe")[0]["description"]

    def stat(self):
        return {row["operation"]: row for row in self.call("Stat")[0]["operations"]}

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
        for _ in range(4):  # what a killed one left
            if subprocess.run(["umount", "-l", self.file], capture_output=True).returncode != 0:
                break


class NodeTestCase(unittest.TestCase):
    """A folder on a file system with O_DIRECT, removed with all nodes and loop devices in it."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="node-test.", dir=os.environ.get("STORCTL_TEST_DIR", BUILD))
        self.folder = os.path.abspath(self.folder)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def image(self, name="image", size=64 * MIB, fill=True):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as out:
            if fill:
                block = os.urandom(MIB)
                for at in range(0, size, MIB):
                    out.write(block[:min(MIB, size - at)])
            out.truncate(size)
            os.fsync(out.fileno())
        return path

    def node(self, backing, **options):
        node = Node(self.folder, backing, **options)
        self.addCleanup(node.stop)
        return node

    def loop(self, backing, *options):
        """A loop device over a file, as a stand-in for a disk."""
        path = run("losetup", "--find", "--show", *options, backing).strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", path], capture_output=True)
        return path

    def mount(self, device):
        point = tempfile.mkdtemp(prefix="mnt.", dir=self.folder)
        run("mount", device, point)
        self.addCleanup(subprocess.run, ["umount", "-l", point], capture_output=True)
        return point
