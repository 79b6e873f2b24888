#!/usr/bin/env python3
"""Nodes under stord: creation with every refusal, removal, supervision; stord and node processes killed at any time."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from storctl_test import MIB, StordTestCase, require, run, wait_for

require("fio", "losetup", "mkfs.ext4")


class Create(StordTestCase):
    def test_a_node_over_a_file_serves_and_goes(self):
        stord = self.stord().start()
        image = self.image()
        answer = stord.ask("Node.Create", name="web1", device=image)
        node = answer["node"]
        self.assertEqual(answer["warnings"], [])
        self.assertEqual(node["state"], "serving")
        self.assertEqual(node["backing"]["kind"], "file")
        self.assertEqual(node["backing"]["size_bytes"], 8 * MIB)
        self.assertTrue(node["backing"]["present"])
        self.assertEqual(node["open"], "single-writer")
        self.assertEqual(node["created_by"], "root (uid 0)")
        self.assertEqual(node["restarts"], 0)
        self.assertEqual(node["forms"], [{"type": "fuse", "path": stord.run_dir + "/block/web1"}])
        self.assertEqual(stord.node_pids(), [node["pid"]])
        self.assertNotEqual(os.getsid(node["pid"]), os.getsid(stord.process.pid))
        self.assertEqual(stord.ask("Node.List")["nodes"], [stord.node("web1")])
        self.assertEqual(stord.ask("GetStatus")["status"]["nodes"], {"total": 1, "serving": 1, "failed": 0})

        with open(node["forms"][0]["path"], "r+b") as file:
            file.write(b"through the node")
        with open(image, "rb") as file:
            self.assertEqual(file.read(16), b"through the node")

        stord.ask("Node.Remove", name="web1")
        self.assertEqual(stord.ask("Node.List")["nodes"], [])
        self.assertEqual(stord.node_pids(), [])
        self.assertEqual(os.listdir(stord.run_dir + "/node"), [])
        self.assertEqual(os.listdir(stord.run_dir + "/block"), [])
        self.assertTrue(os.path.exists(image))

    def test_a_node_over_a_loop_device_with_a_kernel_block_device(self):
        stord = self.stord().start()
        device = self.loop(self.image(), "--sector-size=4096")
        node = stord.ask("Node.Create", name="disk1", device=device, loop=True)["node"]
        self.assertEqual(node["backing"]["logical_block_bytes"], 4096)
        link = stord.dev_dir + "/disk/disk1"
        self.assertIn({"type": "loop", "path": link}, node["forms"])
        run("mkfs.ext4", "-q", link)
        self.assertIn("already behind a node", stord.refused("Node.Create", "Refused", name="again", device=device)["message"])
        stord.ask("Node.Remove", name="disk1")
        self.assertFalse(os.path.lexists(link))
        # what mkfs wrote through the node is on its backing
        run("fsck.ext4", "-fn", device)

    def test_refusals_name_what_is_wrong_and_change_nothing(self):
        stord = self.stord().start()
        image, odd = self.image(), self.image("odd", 1000)
        empty = self.image("empty", 0)
        stord.ask("Node.Create", name="there", device=image)
        hard = self.folder + "/hard"
        os.link(image, hard)
        before = stord.ask("Node.List")["nodes"]
        for error, part, parameters in (
                ("InvalidValue", "cannot name a node", {"name": "a/b", "device": image}),
                ("InvalidValue", "cannot name a node", {"name": "x" * 65, "device": image}),
                ("AlreadyExists", "there", {"name": "there", "device": image}),
                ("InvalidValue", "single-writer, shared or read-only", {"name": "n", "device": odd, "open": "rw"}),
                ("InvalidValue", "1000 bytes", {"name": "n", "device": odd}),
                ("InvalidValue", "0 bytes", {"name": "n", "device": empty}),
                ("InvalidValue", "neither a block device nor a regular file", {"name": "n", "device": "/dev/null"}),
                ("InvalidValue", "neither a block device nor a regular file", {"name": "n", "device": self.folder}),
                ("DeviceNotFound", "/none", {"name": "n", "device": "/none"}),
                ("DeviceNotFound", "naa6.0000", {"name": "n", "device": "naa6.0000"}),
                ("Refused", "node 'there'", {"name": "n", "device": image}),
                ("Refused", "node 'there'", {"name": "n", "device": hard})):
            with self.subTest(part, **parameters):
                self.assertIn(part, json.dumps(stord.refused("Node.Create", error, **parameters)))
        self.assertEqual(stord.refused("Node.Show", "NotFound", name="none"), {"name": "none"})
        self.assertEqual(stord.refused("Node.Stat", "NotFound", name="none"), {"name": "none"})
        self.assertEqual(stord.refused("Node.Remove", "NotFound", name="none"), {"name": "none"})
        self.assertEqual(stord.ask("Node.List")["nodes"], before)

    def test_a_dry_run_checks_and_creates_nothing(self):
        stord = self.stord().start()
        image = self.image()
        node = stord.ask("Node.Create", name="n", device=image, dry_run=True)["node"]
        self.assertEqual((node["name"], node["state"], node["pid"] if "pid" in node else None), ("n", "starting", None))
        stord.refused("Node.Create", "DeviceNotFound", name="n", device="/none", dry_run=True)
        self.assertEqual(stord.ask("Node.List")["nodes"], [])
        self.assertEqual(stord.node_pids(), [])
        self.assertEqual(os.listdir(stord.run_dir + "/node"), [])

    def test_a_mounted_device_is_refused_with_its_mount_point(self):
        stord = self.stord().start()
        device = self.loop(self.image(size=16 * MIB))
        run("mkfs.ext4", "-q", device)
        point = tempfile.mkdtemp(dir=self.folder)
        run("mount", device, point)
        self.addCleanup(subprocess.run, ["umount", "-l", point], check=False, stderr=subprocess.DEVNULL)
        refusal = stord.refused("Node.Create", "Refused", name="n", device=device)
        self.assertIn(point, json.dumps(refusal))
        self.assertEqual(stord.ask("Node.List")["nodes"], [])
        self.assertEqual(os.listdir(stord.run_dir + "/node"), [])
        run("umount", point)
        stord.ask("Node.Create", name="n", device=device)

    def test_the_disk_of_the_running_system_is_refused(self):
        stord = self.stord().start()
        boot = [device for device in stord.ask("Device.List")["devices"] if any("mounted on" in use for use in device["in_use"])]
        if not boot:
            self.skipTest("no device with a mounted file system here")
        refusal = stord.refused("Node.Create", "Refused", name="n", device=boot[0]["id"])
        self.assertTrue(any("mounted on" in blocker for blocker in refusal["blockers"]), refusal)
        self.assertEqual(stord.ask("Node.List")["nodes"], [])

    def test_a_node_that_cannot_start_says_why_and_is_undone(self):
        program = self.folder + "/broken-node"
        with open(program, "w") as file:
            file.write("#!/bin/sh\nspec=$2\necho 'the moon is in the wrong place' > ${spec%.json}.error\nexit 1\n")
        os.chmod(program, 0o755)
        stord = self.stord(f'node_program = "{program}"').start()
        image = self.image()
        failed = stord.refused("Node.Create", "Failed", name="n", device=image)
        self.assertIn("the moon is in the wrong place", failed["message"])
        stord.configure('node_program = "/none"')
        stord.ask("Reload")
        self.assertIn("/none", stord.refused("Node.Create", "Failed", name="n", device=image)["message"])
        with open(program, "w") as file:
            file.write("#!/bin/sh\nexec sleep 600\n")
        stord.configure(f'node_program = "{program}"\n[node]\nstart_timeout = "1s"')
        stord.ask("Reload")
        self.assertIn("did not serve within", stord.refused("Node.Create", "Failed", name="n", device=image)["message"])
        self.assertEqual(stord.ask("Node.List")["nodes"], [])
        self.assertEqual(os.listdir(stord.run_dir + "/node"), [])
        stord.configure("")
        stord.ask("Reload")
        stord.ask("Node.Create", name="n", device=image)

    def test_openers_are_shown_and_block_a_removal(self):
        stord = self.stord().start()
        stord.ask("Node.Create", name="n", device=self.image())
        path = stord.run_dir + "/block/n"
        writer = os.open(path, os.O_RDWR)
        openers = wait_for(lambda: stord.node("n")["openers"], "the opener is seen")
        self.assertEqual((openers[0]["pid"], openers[0]["mode"]), (os.getpid(), "write"))
        refusal = stord.refused("Node.Remove", "Refused", name="n")
        self.assertIn(f"(pid {os.getpid()}) has it open for write", refusal["blockers"][0])
        self.assertEqual(os.pread(writer, 512, 0), bytes(512))
        stord.ask("Node.Remove", name="n", force=True)
        with self.assertRaises(OSError):
            os.pread(writer, 512, 0)
        os.close(writer)
        self.assertEqual(os.listdir(stord.run_dir + "/block"), [])

    def test_statistics_of_one_and_of_all(self):
        stord = self.stord().start()
        for name in ("a", "b"):
            stord.ask("Node.Create", name=name, device=self.image(name))
        with open(stord.run_dir + "/block/a", "rb") as file:
            file.read(MIB)
        stats = {stat["name"]: stat for stat in stord.ask("Node.Stat")["stats"]}
        self.assertEqual(set(stats), {"a", "b"})
        reads = {name: [op for op in stat["operations"] if op["operation"] == "read"][0] for name, stat in stats.items()}
        self.assertGreaterEqual(reads["a"]["bytes"], MIB)
        self.assertEqual(reads["b"]["operations"], 0)
        self.assertEqual([stat["name"] for stat in stord.ask("Node.Stat", name="b")["stats"]], ["b"])

    def test_many_creations_at_once(self):
        stord = self.stord().start()
        connections = []
        for number in range(8):
            image = self.image(f"image{number}", MIB)
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(30)
            connection.connect(stord.socket)
            message = {"method": "io.storctl.Node.Create", "parameters": {"name": f"n{number}", "device": image}}
            connection.sendall(json.dumps(message).encode() + b"\0")
            connections.append(connection)
        for connection in connections:
            data = b""
            while not data.endswith(b"\0"):
                data += connection.recv(1 << 16)
            self.assertNotIn("error", json.loads(data[:-1]), data)
            connection.close()
        self.assertEqual({node["state"] for node in stord.ask("Node.List")["nodes"]}, {"serving"})
        self.assertEqual(len(stord.node_pids()), 8)


class Supervision(StordTestCase):
    def test_a_killed_stord_finds_its_nodes_again(self):
        stord = self.stord().start()
        stord.ask("Node.Create", name="n", device=self.image())
        before = stord.node("n")
        stord.kill()
        stord.start()
        # readiness includes the adopted nodes: no waiting here
        after = stord.node("n")
        self.assertEqual(after, before)
        self.assertEqual(stord.node_pids(), [before["pid"]])
        stord.ask("Node.Remove", name="n")
        self.assertEqual(stord.node_pids(), [])

    def test_a_killed_node_is_started_again(self):
        stord = self.stord().start()
        image = self.image()
        with open(image, "r+b") as file:
            file.write(b"here")
        stord.ask("Node.Create", name="n", device=image, loop=True)
        path = stord.run_dir + "/block/n"
        old = os.open(path, os.O_RDONLY)
        first = stord.node("n")["pid"]
        with stord.monitor() as monitor:
            stord.ask("GetStatus")
            os.kill(first, signal.SIGKILL)
            monitor.until(lambda event: event["event"] == "node-changed" and event["detail"]["state"] == "restarting")
            event = monitor.until(lambda event: event["event"] == "node-changed" and event["detail"]["state"] == "serving")
        self.assertEqual(event["detail"]["restarts"], 1)
        self.assertNotEqual(event["detail"]["pid"], first)
        with self.assertRaises(OSError):
            os.pread(old, 512, 0)
        os.close(old)
        with open(path, "rb") as file:
            self.assertEqual(file.read(4), b"here")
        with open(stord.dev_dir + "/disk/n", "rb") as file:
            self.assertEqual(file.read(4), b"here")
        self.assertEqual(len(stord.node_pids()), 1)

    def test_a_node_killed_after_its_adoption_is_started_again(self):
        stord = self.stord().start()
        stord.ask("Node.Create", name="n", device=self.image())
        stord.kill()
        stord.start()
        first = stord.node("n")["pid"]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: stord.node("n")["state"] == "serving" and stord.node("n")["pid"] != first, "the node is back")

    def test_nodes_that_died_with_stord_come_back(self):
        stord = self.stord().start()
        for name in ("a", "b"):
            stord.ask("Node.Create", name=name, device=self.image(name))
        stord.kill()
        for pid in stord.node_pids():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not stord.node_pids(), "the nodes end")
        stord.start()
        wait_for(lambda: [node["state"] for node in stord.ask("Node.List")["nodes"]] == ["serving", "serving"], "both serve again")

    def test_a_node_whose_backing_is_gone_waits_for_it_with_its_size(self):
        stord = self.stord().start()
        image = self.image()
        stord.ask("Node.Create", name="n", device=image)
        stord.kill()
        for pid in stord.node_pids():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not stord.node_pids(), "the node ends")
        os.rename(image, image + ".away")
        stord.start()
        # a dying process may still have accepted stord's connection: then it is started again first
        wait_for(lambda: stord.node("n")["state"] == "backing-lost", "the node waits for its backing")
        self.assertFalse(stord.node("n")["backing"]["present"])
        self.assertTrue(any("'n'" in finding for finding in stord.ask("GetStatus")["status"]["findings"]))
        self.assertEqual(os.stat(stord.run_dir + "/block/n").st_size, 8 * MIB)
        with self.assertRaises(OSError), open(stord.run_dir + "/block/n", "rb") as file:
            file.read(512)
        os.rename(image + ".away", image)
        wait_for(lambda: stord.node("n")["state"] == "serving", "the backing is opened again")
        with open(stord.run_dir + "/block/n", "rb") as file:
            self.assertEqual(file.read(512), bytes(512))

    def test_a_node_that_keeps_dying_is_failed_and_can_be_removed(self):
        stord = self.stord("[node]\nrestart_delay = \"1ms\"\nfailed_after = 3").start()
        stord.ask("Node.Create", name="n", device=self.image())
        stord.configure("node_program = \"/bin/false\"\n[node]\nrestart_delay = \"1ms\"\nfailed_after = 3")
        stord.ask("Reload")
        os.kill(stord.node("n")["pid"], signal.SIGKILL)
        node = wait_for(lambda: (n := stord.node("n"))["state"] == "failed" and n, "the node is failed")
        self.assertIn("exited with status 1", node["message"])
        self.assertEqual(stord.ask("GetStatus")["status"]["nodes"]["failed"], 1)
        self.assertEqual(stord.ask("Node.Stat")["stats"], [])
        self.assertIn("no statistics", stord.refused("Node.Stat", "Failed", name="n")["message"])
        stord.ask("Node.Remove", name="n")
        # the dead mount and the file under it are gone too
        self.assertEqual(os.listdir(stord.run_dir + "/block"), [])
        self.assertEqual(os.listdir(stord.run_dir + "/node"), [])

    def test_a_frozen_node_holds_up_nobody_and_is_removed_by_force(self):
        stord = self.stord("[node]\nreply_timeout = \"300ms\"\nstart_timeout = \"1s\"").start()
        stord.ask("Node.Create", name="frozen", device=self.image("a"))
        stord.ask("Node.Create", name="other", device=self.image("b"))
        pid = stord.node("frozen")["pid"]
        os.kill(pid, signal.SIGSTOP)
        self.assertEqual([stat["name"] for stat in stord.ask("Node.Stat")["stats"]], ["other"])
        started = time.monotonic()
        self.assertEqual(stord.node("other")["state"], "serving")
        self.assertLess(time.monotonic() - started, 1)
        self.assertIn("by force", stord.refused("Node.Remove", "Failed", name="frozen")["message"])
        stord.ask("Node.Remove", name="frozen", force=True)
        self.assertEqual(stord.node_pids(), [stord.node("other")["pid"]])

    def test_stord_killed_in_the_middle_of_a_creation_leaves_one_node_or_none(self):
        stord = self.stord().start()
        image = self.image()
        for delay in (0, 1, 2, 4, 6, 8, 12, 20):
            with self.subTest(milliseconds=delay), socket.socket(socket.AF_UNIX) as connection:
                connection.connect(stord.socket)
                message = {"method": "io.storctl.Node.Create", "parameters": {"name": "n", "device": image}}
                connection.sendall(json.dumps(message).encode() + b"\0")
                time.sleep(delay / 1000)
                stord.kill()
                stord.start()
                if not stord.ask("Node.List")["nodes"]:
                    self.assertEqual(stord.node_pids(), [])
                    continue
                wait_for(lambda: stord.node("n")["state"] == "serving", "the node serves")
                wait_for(lambda: stord.node_pids() == [stord.node("n")["pid"]], "one process is left")
                with open(stord.run_dir + "/block/n", "rb") as file:
                    self.assertEqual(file.read(512), bytes(512))
                wait_for(lambda: not stord.node("n")["openers"], "the reader has gone")
                stord.ask("Node.Remove", name="n")
                self.assertEqual(stord.node_pids(), [])

    def test_ten_kills_of_stord_do_not_disturb_a_verified_run(self):
        stord = self.stord().start()
        node = stord.ask("Node.Create", name="n", device=self.image(size=64 * MIB))["node"]
        fio = subprocess.Popen(
            ["fio", "--name=verify", "--filename=" + node["forms"][0]["path"], "--direct=1", "--ioengine=libaio", "--iodepth=8",
             "--rw=randwrite", "--bs=4k", "--size=32M", "--verify=crc32c", "--verify_fatal=1", "--time_based", "--runtime=6",
             "--max_latency=1s", "--verify_state_save=0", "--output-format=json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder)
        self.addCleanup(lambda: (fio.kill(), fio.communicate()))
        wait_for(lambda: stord.node("n")["openers"], "fio has opened the node")
        for _ in range(10):
            self.assertIsNone(fio.poll(), "fio ended early")
            stord.kill()
            stord.start()
            shown = stord.node("n")
            self.assertEqual((shown["state"], shown["pid"], shown["restarts"]), ("serving", node["pid"], 0))
            self.assertTrue(shown["openers"])
        out, errors = fio.communicate(timeout=90)
        self.assertEqual(fio.returncode, 0, errors)
        self.assertEqual(json.loads(out[out.index("{"):])["jobs"][0]["error"], 0)


if __name__ == "__main__":
    unittest.main()
