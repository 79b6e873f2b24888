#!/usr/bin/env python3
"""Data through a real node: verified I/O of every shape, what O_DSYNC, fsync and fallocate become below, real programs."""

import ctypes
import errno
import os
import random
import subprocess
import tempfile
import unittest

from node_test import MIB, NodeTestCase, require, run, wait_for

require("fio", "losetup", "mkfs.ext4")

PUNCH_HOLE, ZERO_RANGE, KEEP_SIZE = 2, 16, 1
libc = ctypes.CDLL(None, use_errno=True)


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def fio_verify(path, size="32M", *more):
    for block_size in ("4k", "1M"):
        run("fio", "--name=verify", f"--filename={path}", "--direct=1", "--ioengine=io_uring", "--iodepth=16", "--rw=randwrite",
            f"--bs={block_size}", f"--size={size}", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", *more)
    run("fio", "--name=mixed", f"--filename={path}", "--direct=1", "--ioengine=libaio", "--iodepth=32", "--rw=randwrite",
        "--bssplit=4k/70:64k/20:1M/10", f"--size={size}", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", *more)


class Verified(NodeTestCase):
    def test_fio_on_the_fuse_file(self):
        node = self.node(self.image()).start()
        fio_verify(node.file)
        stat = node.stat()
        self.assertGreater(stat["write"]["operations"], 1000)
        self.assertEqual(sum(stat["write"]["latency_ns"]), stat["write"]["operations"])
        self.assertEqual([stat[op]["errors"] for op in stat], [0] * 5)
        self.assertEqual([stat[op]["in_flight"] for op in stat], [0] * 5)

    def test_fio_on_the_loop_device(self):
        node = self.node(self.image(), loop=True).start()
        self.assertTrue(os.path.realpath(node.disk).startswith("/dev/loop"))
        number = os.path.basename(os.path.realpath(node.disk))
        with open(f"/sys/block/{number}/loop/dio") as dio:
            self.assertEqual(dio.read().strip(), "1")
        fio_verify(node.disk)

    def test_fio_on_a_block_device_with_4k_sectors(self):
        node = self.node(self.loop(self.image(), "--sector-size=4096", "--direct-io=on")).start()
        self.assertEqual(node.describe()["logical_block_bytes"], 4096)
        self.assertEqual(node.describe()["backing_kind"], "loop")
        fio_verify(node.file)

    def test_every_byte_range_against_a_shadow_copy(self):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        rng = random.Random(seed)
        size = 2 * MIB
        for sector in ("512", "4096"):
            image = self.image("image" + sector, size)
            node = self.node(self.loop(image, "--sector-size=" + sector, "--direct-io=on"), name="n" + sector).start()
            with open(image, "rb") as source:
                shadow = bytearray(source.read())
            fd = os.open(node.file, os.O_RDWR)
            for _ in range(600):
                offset = rng.randrange(size)
                length = min(rng.choice((1, 7, 511, 512, 513, 4095, 4096, 10000, 300000)), size - offset)
                action = rng.randrange(4)
                if action == 0:
                    data = rng.randbytes(length)
                    self.assertEqual(os.pwrite(fd, data, offset), length)
                    shadow[offset:offset + length] = data
                elif action == 1:
                    fallocate(fd, rng.choice((PUNCH_HOLE, ZERO_RANGE)) | KEEP_SIZE, offset, length)
                    shadow[offset:offset + length] = bytes(length)
                else:
                    self.assertEqual(os.pread(fd, length, offset), shadow[offset:offset + length])
            self.assertEqual(os.pread(fd, size, 0), shadow)
            os.close(fd)
            node.stop()
            with open(image, "rb") as source:
                self.assertEqual(source.read(), shadow)

    def test_the_last_sector_of_a_file_that_ends_between_blocks(self):
        node = self.node(self.image(size=3 * MIB + 512)).start()
        with open(node.file, "r+b") as disk:
            disk.seek(3 * MIB + 500)
            disk.write(b"end of disk!")
        with open(node.file, "rb") as disk:
            disk.seek(3 * MIB + 500)
            self.assertEqual(disk.read(), b"end of disk!")

    def test_a_backing_on_tmpfs(self):
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as image:
            image.truncate(16 * MIB)
            fio_verify(self.node(image.name).start().file, "16M")


class Durability(NodeTestCase):
    def setUp(self):
        super().setUp()
        self.device = self.loop(self.image(size=8 * MIB))
        self.node_ = self.node(self.device).start()

    def flushes(self):
        with open(f"/sys/block/{os.path.basename(self.device)}/stat") as stat:
            return int(stat.read().split()[15])  # flush requests (Documentation/block/stat.rst)

    def expect(self, action, flushed, **open_flags):
        fd = os.open(self.node_.file, os.O_RDWR | open_flags.get("flags", 0))
        before = self.flushes()
        action(fd)
        self.assertEqual(self.flushes() > before, flushed)
        os.close(fd)

    def test_a_plain_write_is_not_flushed(self):
        self.expect(lambda fd: os.pwrite(fd, bytes(4096), 0), False)

    def test_o_dsync_reaches_the_device(self):
        self.expect(lambda fd: os.pwrite(fd, bytes(4096), 0), True, flags=os.O_DSYNC)

    def test_o_sync_reaches_the_device(self):
        self.expect(lambda fd: os.pwrite(fd, bytes(4096), 0), True, flags=os.O_SYNC)

    def test_rwf_dsync_reaches_the_device(self):
        self.expect(lambda fd: os.pwritev(fd, [bytes(4096)], 0, os.RWF_DSYNC), True)

    def test_an_unaligned_o_dsync_write_reaches_the_device(self):
        self.expect(lambda fd: os.pwrite(fd, b"xyz", 1000), True, flags=os.O_DSYNC)

    def test_fsync_and_fdatasync_reach_the_device(self):
        self.expect(os.fsync, True)
        self.expect(os.fdatasync, True)


class DiskSemantics(NodeTestCase):
    def setUp(self):
        super().setUp()
        self.backing = self.image(size=4 * MIB)
        self.node_ = self.node(self.backing).start()

    def test_a_hole_is_a_hole_below(self):
        before = os.stat(self.backing).st_blocks
        with open(self.node_.file, "r+b") as disk:
            fallocate(disk.fileno(), PUNCH_HOLE | KEEP_SIZE, MIB, 2 * MIB)
            self.assertEqual(os.pread(disk.fileno(), 2 * MIB, MIB), bytes(2 * MIB))
        self.assertLessEqual(os.stat(self.backing).st_blocks, before - 2 * MIB // 512)
        self.assertEqual(self.node_.stat()["discard"]["operations"], 1)

    def test_the_size_is_fixed(self):
        with open(self.node_.file, "wb"):  # O_TRUNC is ignored, as on a block device
            pass
        self.assertEqual(os.stat(self.node_.file).st_size, 4 * MIB)
        with open(self.node_.file, "rb") as disk, open(self.backing, "rb") as backing:
            self.assertEqual(disk.read(), backing.read())
        with self.assertRaises(OSError) as caught:
            os.truncate(self.node_.file, 1 * MIB)
        self.assertEqual(caught.exception.errno, errno.EINVAL)
        os.truncate(self.node_.file, 4 * MIB)

    def test_writing_behind_the_end(self):
        fd = os.open(self.node_.file, os.O_RDWR)
        with self.assertRaises(OSError) as caught:
            os.pwrite(fd, b"x", 4 * MIB)
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        self.assertEqual(os.pwrite(fd, bytes(8192), 4 * MIB - 4096), 4096)
        self.assertEqual(os.pread(fd, 8192, 4 * MIB - 4096), bytes(4096))
        self.assertEqual(os.pread(fd, 1, 4 * MIB), b"")
        os.close(fd)
        self.assertEqual(os.stat(self.backing).st_size, 4 * MIB)

    def test_owner_and_mode_can_be_given_to_a_vm(self):
        os.chown(self.node_.file, 107, 108)
        os.chmod(self.node_.file, 0o640)
        status = os.stat(self.node_.file)
        self.assertEqual((status.st_uid, status.st_gid, status.st_mode & 0o777), (107, 108, 0o640))

    def test_a_grown_backing_is_noticed_by_file_and_loop_device(self):
        self.node_.stop()
        node = self.node(self.backing, loop=True).start()
        os.truncate(self.backing, 6 * MIB)
        wait_for(lambda: os.stat(node.file).st_size == 6 * MIB, "the file has grown")
        number = os.path.basename(os.path.realpath(node.disk))

        def sectors():
            with open(f"/sys/block/{number}/size") as size:
                return int(size.read())
        wait_for(lambda: sectors() == 6 * MIB // 512, "the loop device has grown")
        with open(node.file, "rb") as disk:
            disk.seek(5 * MIB)
            self.assertEqual(disk.read(MIB), bytes(MIB))
        self.assertEqual(node.describe()["size_bytes"], 6 * MIB)


class Programs(NodeTestCase):
    def test_losetup_mkfs_mount_fsck(self):
        node = self.node(self.image(fill=False), open="shared").start()
        device = self.loop(node.file)
        run("mkfs.ext4", "-q", device)
        point = self.mount(device)
        run("cp", "-r", "/usr/include/linux", point)
        run("umount", point)
        run("fsck.ext4", "-fn", device)
        point = self.mount(device)
        run("diff", "-r", "/usr/include/linux", os.path.join(point, "linux"))
        run("umount", point)

    def boot_image(self, text):
        """A disk whose boot sector reads sector 1 and sends its text to the debug console, then ends QEMU."""
        code = bytes.fromhex("31c0 8ed8 8ec0 bc007c b80102 b90200 b600 bb007e cd13 720f be007e ac 84c0 7404 e6e9 ebf7 b000 e6f4"
                             " f4 ebfd")
        fail_at = code.index(bytes.fromhex("720f"))
        code = code + bytes.fromhex("b001 e6f4 f4 ebfd")
        # the jump on carry leads to the failure exit behind the code above
        target = len(code) - 7
        code = code[:fail_at + 1] + bytes([target - (fail_at + 2)]) + code[fail_at + 2:]
        path = os.path.join(self.folder, "boot.img")
        with open(path, "wb") as out:
            out.write(code.ljust(510, b"\0") + b"\x55\xaa" + text.ljust(512, b"\0"))
            out.truncate(4 * MIB)
        return path

    def test_qemu_boots_from_it_with_cache_none(self):
        require("qemu-system-x86_64")
        node = self.node(self.boot_image(b"read through the node")).start()
        console = os.path.join(self.folder, "console")
        command = ["qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-nodefaults", "-m", "64",
                   "-drive", f"file={node.file},format=raw,cache=none,aio=io_uring,if=virtio",
                   "-debugcon", f"file:{console}", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120)
        with open(console, "rb") as out:
            self.assertTrue(out.read().endswith(b"read through the node"))
        self.assertEqual(result.returncode, 1, result.stderr)  # 0 written to the exit port: (0 << 1) | 1

    def test_qemu_io_and_convert(self):
        require("qemu-io", "qemu-img")
        node = self.node(self.image(size=16 * MIB)).start()
        run("qemu-io", "-f", "raw", "-t", "none", "-c", "write -P 0xab 1M 2M", "-c", "flush", "-c", "read -P 0xab 1M 2M",
            "-c", "write -z -u 4M 1M", "-c", "read -P 0 4M 1M", "-c", "discard 6M 1M", node.file)
        copy = os.path.join(self.folder, "copy.qcow2")
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-T", "none", node.file, copy)
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", node.file, copy)


if __name__ == "__main__":
    unittest.main(verbosity=2)
