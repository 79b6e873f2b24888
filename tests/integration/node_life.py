#!/usr/bin/env python3
"""A node's life: who may open it, what it refuses to stand on, how it ends, dies, loses its backing and gets it back."""

import errno
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
import unittest

from node_test import MIB, NodeTestCase, require, run, wait_for

require("losetup", "mkfs.ext4")

OPENER = "import os,sys; fd=os.open(sys.argv[1], int(sys.argv[2])); print('open', flush=True); sys.stdin.read()"


class Opens(NodeTestCase):
    def opener(self, path, flags):
        """Another process that keeps `path` open; ended by closing its standard input."""
        process = subprocess.Popen([sys.executable, "-c", OPENER, path, str(flags)], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.close, process)
        self.assertEqual(process.stdout.readline(), "open\n")
        return process

    @staticmethod
    def close(process):
        if process.stdin and not process.stdin.closed:
            process.stdin.close()
        process.wait(10)
        process.stdout.close()

    def refused(self, path, flags):
        with self.assertRaises(OSError) as caught:
            os.open(path, flags)
        return caught.exception.errno

    def test_a_second_writer_gets_ebusy_and_the_log_says_who_writes(self):
        node = self.node(self.image(size=MIB)).start()
        writer = self.opener(node.file, os.O_RDWR)
        self.assertEqual(self.refused(node.file, os.O_WRONLY), errno.EBUSY)
        os.close(os.open(node.file, os.O_RDONLY))
        self.assertIn(f"(pid {writer.pid}) writes since", node.log())
        # the kernel tells of the reader's close a little later
        wait_for(lambda: [(row["pid"], row["mode"]) for row in node.describe()["openers"]] == [(writer.pid, "write")],
                 "the writer alone is shown")
        self.assertEqual(node.call("Stat")[0]["refused_opens"], 1)
        self.close(writer)
        os.close(os.open(node.file, os.O_WRONLY))

    def test_the_same_process_may_open_twice(self):
        node = self.node(self.image(size=MIB)).start()
        first = os.open(node.file, os.O_RDWR)
        second = os.open(node.file, os.O_RDWR)
        os.close(first)
        os.close(second)

    def test_shared_lets_two_writers_in(self):
        node = self.node(self.image(size=MIB), open="shared").start()
        self.opener(node.file, os.O_RDWR)
        os.close(os.open(node.file, os.O_RDWR))

    def test_read_only(self):
        node = self.node(self.image(size=MIB), open="read-only", loop=True).start()
        self.assertEqual(self.refused(node.file, os.O_RDWR), errno.EROFS)
        with open(node.file, "rb") as disk, open(node.disk, "rb") as device:
            self.assertEqual(disk.read(), device.read())

    def test_a_loop_device_is_the_writer(self):
        node = self.node(self.image(size=MIB), loop=True).start()
        self.assertEqual(self.refused(node.file, os.O_RDWR), errno.EBUSY)
        self.assertIn("loop device", node.log())

    def test_stop_without_force_is_refused_while_it_is_open(self):
        node = self.node(self.image(size=MIB)).start()
        opener = self.opener(node.file, os.O_RDONLY)
        parameters, error = node.call("Stop", force=False)
        self.assertEqual(error, "io.storctl.NodeProcess.Busy")
        self.assertEqual(parameters["openers"][0]["pid"], opener.pid)
        self.close(opener)
        self.assertEqual(node.call("Stop", force=False), ({}, None))
        self.assertEqual(node.process.wait(10), 0)
        self.assertFalse(os.path.exists(node.file))
        self.assertFalse(os.path.exists(node.socket))

    def test_stop_with_force_ends_it_and_its_consumer_gets_an_error(self):
        node = self.node(self.image(size=MIB)).start()
        fd = os.open(node.file, os.O_RDWR)
        self.assertEqual(node.call("Stop", force=True), ({}, None))
        self.assertEqual(node.process.wait(10), 0)
        with self.assertRaises(OSError):
            os.pread(fd, 512, 0)
        os.close(fd)

    def test_a_mounted_loop_device_keeps_the_node(self):
        node = self.node(self.image(size=16 * MIB), loop=True).start()
        run("mkfs.ext4", "-q", node.disk)
        point = self.mount(node.disk)
        self.assertEqual(node.call("Stop", force=False)[1], "io.storctl.NodeProcess.Busy")
        with open(os.path.join(point, "still"), "w") as out:
            out.write("there")
        run("umount", point)
        self.assertEqual(node.call("Stop", force=False), ({}, None))
        self.assertEqual(node.process.wait(10), 0)
        self.assertFalse(os.path.lexists(node.disk))

    def test_what_a_loop_device_has_in_the_page_cache_is_written_before_it_goes(self):
        image = self.image(size=8 * MIB, fill=False)
        node = self.node(image, loop=True).start()
        data = os.urandom(4 * MIB)
        fd = os.open(node.disk, os.O_WRONLY)  # buffered, and never synced
        self.assertEqual(os.pwrite(fd, data, 0), len(data))
        os.close(fd)
        self.assertEqual(node.call("Stop", force=False), ({}, None))
        self.assertEqual(node.process.wait(10), 0)
        with open(image, "rb") as below:
            self.assertEqual(below.read(len(data)), data)

    def test_opening_with_o_trunc_does_not_disturb_others(self):
        node = self.node(self.image(size=4 * MIB), open="shared", loop=True).start()
        os.close(os.open(node.file, os.O_WRONLY | os.O_TRUNC))
        disk = os.open(node.disk, os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, MIB)  # read through the loop driver's asynchronous direct I/O
        self.assertEqual(os.preadv(disk, [buffer], 3 * MIB), MIB)
        os.close(disk)
        self.assertEqual(os.stat(node.file).st_size, 4 * MIB)

    def test_the_folder_of_links_is_open_to_all(self):
        self.addCleanup(os.umask, os.umask(0o077))
        node = self.node(self.image(size=MIB), loop=True).start()
        self.assertEqual(os.stat(os.path.dirname(node.disk)).st_mode & 0o777, 0o755)

    def test_watch_tells_every_change(self):
        import json
        import socket
        node = self.node(self.image(size=MIB)).start()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(node.socket)
            connection.sendall(b'{"method":"io.storctl.NodeProcess.Watch","more":true}\0')
            stream = connection.makefile("rb")

            def next_description():
                text = b""
                while not text.endswith(b"\0"):
                    text += stream.read(1)
                return json.loads(text[:-1])["parameters"]["description"]
            self.assertEqual(next_description()["openers"], [])
            fd = os.open(node.file, os.O_RDONLY)
            self.assertEqual(next_description()["openers"][0]["mode"], "read")
            os.close(fd)
            self.assertEqual(next_description()["openers"], [])


class Refusals(NodeTestCase):
    def test_a_mounted_device_is_refused_with_its_mount_point(self):
        device = self.loop(self.image(size=16 * MIB))
        run("mkfs.ext4", "-q", device)
        point = self.mount(device)
        status, reason = self.node(device).fails()
        self.assertEqual(status, 8)
        self.assertIn(f"mounted on {point}", reason)

    def test_a_file_that_another_node_has_is_refused(self):
        image = self.image(size=MIB)
        first = self.node(image).start()
        status, reason = self.node(image, name="second").fails()
        self.assertEqual(status, 8)
        self.assertIn(f"(pid {first.process.pid})", reason)

    def test_an_image_that_qemu_uses_is_refused_and_the_other_way_round(self):
        require("qemu-io", "qemu-system-x86_64")
        image = self.image(size=MIB)
        node = self.node(image).start()
        result = subprocess.run(["qemu-io", "-f", "raw", "-c", "read 0 512", image], capture_output=True, text=True)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("lock", result.stderr)
        node.stop()
        monitor = os.path.join(self.folder, "qmp")
        qemu = subprocess.Popen(["qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-nodefaults", "-S", "-m", "16",
                                 "-qmp", f"unix:{monitor},server=on,wait=off",
                                 "-drive", f"file={image},format=raw,if=virtio"])
        self.addCleanup(lambda: (qemu.kill(), qemu.wait()))
        wait_for(lambda: os.path.exists(monitor), "QEMU is up")
        # its lock is taken while it sets the drive up, and the monitor answers only afterwards
        self.assertIn(b"QMP", self.greeting(monitor))
        status, reason = self.node(image, name="again").fails()
        self.assertEqual(status, 8)
        self.assertIn(f"(pid {qemu.pid})", reason)

    @staticmethod
    def greeting(path):
        import socket
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(path)
            return connection.recv(4096)

    def test_what_is_no_disk_is_refused_clearly(self):
        odd = self.image("odd", size=MIB)
        os.truncate(odd, MIB + 1)
        empty = self.image("empty", size=0)
        for backing, words in (("/dev/null", "neither a block device nor a regular file"), (odd, "not a multiple of 512"),
                               (empty, "is empty"), ("/nonexistent", "No such file"), (self.folder, "neither")):
            with self.subTest(backing=backing):
                status, reason = self.node(backing).fails()
                self.assertEqual(status, 1)
                self.assertIn(words, reason)
                self.assertIn(backing, reason)

    def test_a_write_protected_device_needs_read_only(self):
        device = self.loop(self.image(size=MIB), "--read-only")
        status, reason = self.node(device).fails()
        self.assertEqual(status, 1)
        self.assertIn("--open read-only", reason)
        self.node(device, name="ro", open="read-only").start()


class Death(NodeTestCase):
    def test_consumers_of_a_killed_node_get_errors_and_a_new_one_takes_its_place(self):
        node = self.node(self.image(size=64 * MIB), loop=True).start()
        disk = os.path.realpath(node.disk)
        outcome = {}

        def read_until_error(path, key):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
            try:
                buffer = mmap.mmap(-1, 65536)
                while True:
                    os.preadv(fd, [buffer], 0)
            except OSError as error:
                outcome[key] = error.errno
            finally:
                os.close(fd)

        threads = [threading.Thread(target=read_until_error, args=pair) for pair in ((node.file, "file"), (disk, "disk"))]
        for thread in threads:
            thread.start()
        wait_for(lambda: node.stat()["read"]["operations"] > 100, "both read")
        node.kill()
        killed = time.monotonic()
        for thread in threads:
            thread.join(10)
            self.assertFalse(thread.is_alive(), "a consumer hangs")
        self.assertLess(time.monotonic() - killed, 10)
        # the FUSE connection's own errnos; the block device above it gives EIO
        self.assertIn(outcome["file"], (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO))
        self.assertEqual(outcome["disk"], errno.EIO)
        node.start()
        with open(node.file, "rb") as again, open(os.path.join(self.folder, "image"), "rb") as image:
            self.assertEqual(again.read(), image.read())
        attached = [line.split(":")[0] for line in run("losetup", "-l", "-n", "-O", "NAME,BACK-FILE").splitlines()
                    if self.folder in line]
        self.assertEqual([line.split()[0] for line in attached], [os.path.realpath(node.disk)], "the dead node's loop device")

    def test_a_second_process_for_a_node_leaves_the_first_alone(self):
        node = self.node(self.image(size=MIB), loop=True).start()
        second = self.node(node.describe()["backing_path"], loop=True, wait_for_backing=True, expected_size_bytes=MIB)
        status, reason = second.fails()
        self.assertEqual(status, 1)
        self.assertIn("already has a process", reason)
        with open(node.disk, "rb") as disk:
            self.assertEqual(len(disk.read()), MIB)
        self.assertEqual(node.describe()["state"], "serving")

    def test_sigterm_answers_what_is_in_flight(self):
        node = self.node(self.image(size=64 * MIB)).start()
        fio = subprocess.Popen(["fio", "--name=w", f"--filename={node.file}", "--direct=1", "--ioengine=io_uring", "--iodepth=32",
                                "--rw=randwrite", "--bs=4k", "--size=64M", "--time_based", "--runtime=20"],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(lambda: (fio.kill(), fio.wait(), fio.stdout.close()))
        wait_for(lambda: node.stat()["write"]["operations"] > 100, "fio writes")
        node.process.send_signal(signal.SIGTERM)
        self.assertEqual(node.process.wait(15), 0)
        fio.wait(15)
        self.assertNotIn("requests unanswered", node.log())


class Backing(NodeTestCase):
    def test_a_node_starts_without_its_backing_and_gets_it_later(self):
        path = os.path.join(self.folder, "late")
        node = self.node(path, wait_for_backing=True, expected_size_bytes=4 * MIB, backing_kind="file").start()
        self.assertEqual(node.describe()["state"], "backing-lost")
        self.assertEqual(os.stat(node.file).st_size, 4 * MIB)
        fd = os.open(node.file, os.O_RDWR)
        for action in (lambda: os.pread(fd, 512, 0), lambda: os.pwrite(fd, b"x" * 512, 0), lambda: os.fsync(fd)):
            with self.assertRaises(OSError) as caught:
                action()
            self.assertEqual(caught.exception.errno, errno.EIO)
        self.image("late", size=4 * MIB)
        wait_for(lambda: node.describe()["state"] == "serving", "the backing is found")
        with open(path, "rb") as image:  # the same open file serves again
            self.assertEqual(os.pread(fd, 4096, 0), image.read(4096))
        os.close(fd)

    def test_reopen_at_another_path(self):
        node = self.node("/dev/nonexistent", wait_for_backing=True, expected_size_bytes=MIB, backing_kind="block").start()
        device = self.loop(self.image(size=2 * MIB))
        parameters, error = node.call("Reopen", path=device)
        self.assertIsNone(error)
        self.assertEqual(parameters["description"]["state"], "serving")
        self.assertEqual(parameters["description"]["size_bytes"], 2 * MIB)
        wait_for(lambda: os.stat(node.file).st_size == 2 * MIB, "the new size is seen")
        self.assertEqual(node.call("Reopen", path="/dev/null")[1], "io.storctl.NodeProcess.ReopenFailed")
        self.assertEqual(node.describe()["state"], "serving")

    def test_a_device_without_size_is_a_lost_one(self):
        image = self.image(size=2 * MIB)
        device = self.loop(image)
        node = self.node(device, loop=True).start()
        os.truncate(image, 0)
        run("losetup", "-c", device)
        wait_for(lambda: node.describe()["state"] == "backing-lost", "the loss is noticed")
        with self.assertRaises(OSError) as caught:
            os.pread(os.open(node.file, os.O_RDONLY), 512, 0)
        self.assertEqual(caught.exception.errno, errno.EIO)
        self.assertEqual(node.call("Reopen", path=device)[1], "io.storctl.NodeProcess.ReopenFailed")
        os.truncate(image, 3 * MIB)
        run("losetup", "-c", device)
        wait_for(lambda: node.call("Reopen", path=device)[1] is None, "it is taken again")
        number = os.path.basename(os.path.realpath(node.disk))

        def sectors():
            with open(f"/sys/block/{number}/size") as size:
                return int(size.read())
        wait_for(lambda: sectors() == 3 * MIB // 512, "the loop device has the new size")

    def test_an_absent_device_is_not_looked_for_by_name(self):
        node = self.node("", wait_for_backing=True, expected_size_bytes=MIB, backing_kind="block").start()
        self.assertEqual(node.describe()["state"], "backing-lost")
        self.assertIn("not on this host", node.describe()["message"])
        device = self.loop(self.image(size=MIB))
        self.assertIsNone(node.call("Reopen", path=device)[1])
        with open(node.file, "rb") as disk, open(device, "rb") as below:
            self.assertEqual(disk.read(), below.read())

    def test_a_device_with_other_blocks_is_not_taken(self):
        node = self.node("/dev/nonexistent", wait_for_backing=True, expected_size_bytes=MIB, backing_kind="block").start()
        device = self.loop(self.image(size=2 * MIB), "--sector-size=4096")
        parameters, error = node.call("Reopen", path=device)
        self.assertEqual(error, "io.storctl.NodeProcess.ReopenFailed")
        self.assertIn("blocks of 4096", parameters["message"])


class CommandLine(unittest.TestCase):
    def test_usage(self):
        from node_test import PROGRAM
        for arguments in ([], ["--spec"], ["--nonsense"], ["--spec", "x", "more"], ["--log-level", "loud", "--spec", "x"]):
            with self.subTest(arguments=arguments):
                self.assertEqual(subprocess.run([PROGRAM, *arguments], capture_output=True).returncode, 2)
        self.assertIn("--spec FILE", run(PROGRAM, "--help"))
        result = subprocess.run([PROGRAM, "--spec", "/nonexistent.json"], capture_output=True, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertIn("/nonexistent.json", result.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
