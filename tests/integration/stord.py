#!/usr/bin/env python3
"""stord as a service: its start in every form, its configuration, reload, state file, monitor and end."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import unittest

from storctl_test import STORD, StordTestCase, require, wait_for

require()


class Start(StordTestCase):
    def test_ready_means_listening_with_devices_known(self):
        stord = self.stord("host = \"alpha\"")
        stord.spawn()
        message = stord.wait_notified("READY=1")
        self.assertTrue(any(re.match(r"STATUS=\d+ devices", line) for line in message), message)
        status = stord.ask("GetStatus")["status"]
        self.assertEqual(status["state"], "running")
        self.assertEqual(status["pid"], stord.process.pid)
        self.assertEqual(status["host"], "alpha")
        self.assertEqual(status["supervisor"], "fork")
        self.assertEqual(status["run_dir"], stord.run_dir)
        self.assertEqual(status["devices"]["total"], len(stord.ask("Device.List")["devices"]))
        self.assertEqual(stat.S_IMODE(os.stat(stord.state_dir).st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(os.stat(stord.state_dir + "/state.db").st_mode), 0o600)

    def test_a_second_instance_is_refused_by_pid_and_directory(self):
        first = self.stord().start()
        second = self.stord(name="second")
        for same in ("state_dir", "run_dir"):
            with self.subTest(same):
                second.state_dir, second.run_dir = second.folder + "/state", second.folder + "/run"
                setattr(second, same, getattr(first, same))
                status, text = second.fails()
                self.assertEqual(status, 1)
                self.assertIn(f"pid {first.process.pid}", text)
                self.assertIn(getattr(first, same), text)
        self.assertEqual(first.ask("GetStatus")["status"]["state"], "running")

    def test_a_killed_instance_leaves_nothing_that_stops_the_next(self):
        stord = self.stord().start()
        stord.kill()
        stord.start()
        self.assertEqual(stord.ask("GetStatus")["status"]["pid"], stord.process.pid)

    def test_in_the_background_it_returns_when_ready(self):
        stord = self.stord()
        result = subprocess.run(stord.command(), capture_output=True, text=True, timeout=30)
        self.assertEqual(result.returncode, 0, result.stderr)
        status = stord.ask("GetStatus")["status"]
        self.assertNotEqual(status["pid"], 0)
        with open(f"/proc/{status['pid']}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        session, terminal = int(fields[3]), int(fields[4])
        self.assertNotIn(session, (os.getsid(0), status["pid"]))
        self.assertEqual(terminal, 0)
        self.assertEqual(os.readlink(f"/proc/{status['pid']}/fd/2"), stord.run_dir + "/stord.log")

        again = subprocess.run(stord.command(), capture_output=True, text=True, timeout=30)
        self.assertEqual(again.returncode, 1)
        self.assertIn(f"pid {status['pid']}", again.stderr)
        os.kill(status["pid"], signal.SIGTERM)
        wait_for(lambda: not os.path.exists(f"/proc/{status['pid']}"), "stord ends")

    def test_mistakes_end_the_start_with_their_place(self):
        stord = self.stord("hots = \"x\"\n[control]\nmax_clients = 1")
        status, text = stord.fails()
        self.assertEqual(status, 1)
        self.assertIn(f"{stord.config_path}:2: key 'hots': unknown key; did you mean 'host'?", text)
        self.assertIn(f"{stord.config_path}:4: key 'control.max_clients'", text)
        stord.configure("change_group = \"no-such-group\"")
        self.assertIn("no-such-group", stord.fails()[1])
        os.unlink(stord.config_path)
        self.assertIn(stord.config_path, stord.fails()[1])
        stord.configure("")
        os.makedirs(stord.state_dir, exist_ok=True)
        with open(stord.state_dir + "/state.db", "w") as file:
            file.write("not a database" * 1000)
        status, text = stord.fails()
        self.assertEqual(status, 1)
        self.assertIn(stord.state_dir + "/state.db", text)
        self.assertIn("move it aside", text)

    def test_options_that_make_no_sense_are_usage_errors(self):
        for options in (["--nonsense"], ["--supervisor", "upstart"], ["--run-dir", "relative"], ["extra"]):
            result = subprocess.run([STORD, *options], capture_output=True, text=True, timeout=30)
            self.assertEqual(result.returncode, 2, options)
            self.assertNotEqual(result.stderr, "")
        self.assertIn("stord ", subprocess.run([STORD, "--version"], capture_output=True, text=True, check=True).stdout)

    def test_the_watchdog_is_served(self):
        # WATCHDOG_PID is left out on purpose: it is checked only when it is set
        stord = self.stord(environment={"WATCHDOG_USEC": "400000"}).start()
        stord.wait_notified("WATCHDOG=1")
        stord.wait_notified("WATCHDOG=1")


class Running(StordTestCase):
    def test_a_good_reload_applies_and_names_what_needs_a_restart(self):
        stord = self.stord("log_level = \"info\"").start()
        stord.configure("log_level = \"debug\"\nhost = \"beta\"\n[control]\nmax_clients = 9")
        stord.process.send_signal(signal.SIGHUP)
        message = stord.wait_notified("RELOADING=1")
        self.assertTrue(any(re.fullmatch(r"MONOTONIC_USEC=\d+", line) for line in message), message)
        stord.wait_notified("READY=1")
        self.assertIn("host, control.max_clients take effect only when stord is restarted", stord.log())
        status = stord.ask("GetStatus")["status"]
        self.assertNotEqual(status["host"], "beta")
        self.assertTrue(any("'control.max_clients'" in finding for finding in status["findings"]), status)

        stord.configure("log_level = \"debug\"")
        stord.ask("Reload")
        self.assertFalse(any("control.max_clients" in finding for finding in stord.ask("GetStatus")["status"]["findings"]))
        stord.configure("host = \"beta\"")
        stord.stop()
        stord.start()
        self.assertEqual(stord.ask("GetStatus")["status"]["host"], "beta")

    def test_a_bad_reload_changes_nothing_and_says_where(self):
        stord = self.stord().start()
        stord.configure("log_level = \"loud\"")
        error = stord.refused("Reload", "ReloadFailed")
        self.assertIn(f"{stord.config_path}:2: key 'log_level'", error["message"])
        stord.notified.clear()
        stord.process.send_signal(signal.SIGHUP)
        stord.wait_notified("RELOADING=1")
        message = stord.wait_notified("READY=1")
        self.assertTrue(any("old one is in force" in line for line in message), message)
        wait_for(lambda: "key 'log_level': 'loud' is none of" in stord.log(), "the mistake is logged")
        self.assertEqual(stord.ask("GetStatus")["status"]["state"], "running")

    def test_the_state_file_follows(self):
        stord = self.stord().start()
        path = stord.run_dir + "/state.json"
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o644)
        state = stord.state_file()
        self.assertEqual(state["version"], 1)
        self.assertEqual(state["daemon"]["pid"], stord.process.pid)
        self.assertEqual(state["devices"], stord.ask("Device.List")["devices"])
        self.assertEqual(state["nodes"], [])
        stord.ask("Node.Create", name="one", device=self.image())
        wait_for(lambda: [node["state"] for node in stord.state_file()["nodes"]] == ["serving"], "the node is in the file")
        self.assertEqual(stord.state_file()["nodes"][0], stord.node("one"))
        stord.ask("Node.Remove", name="one")
        wait_for(lambda: stord.state_file()["nodes"] == [], "the node has left the file")
        stord.stop()
        self.assertEqual(stord.state_file()["nodes"], [])
        self.assertEqual([name for name in os.listdir(stord.run_dir) if name.startswith("state.json.")], [])

    def test_the_state_file_is_never_half_there(self):
        stord = self.stord().start()
        path = stord.run_dir + "/state.json"
        image = self.image()
        inodes = set()
        for _ in range(5):
            stord.ask("Node.Create", name="one", device=image)
            for _ in range(200):
                with open(path) as file:
                    inodes.add(os.fstat(file.fileno()).st_ino)
                    self.assertEqual(json.load(file)["version"], 1)
            stord.ask("Node.Remove", name="one")
        self.assertGreater(len(inodes), 1)

    def test_monitor_tells_what_happens_in_order(self):
        stord = self.stord().start()
        self.assertEqual(stord.call("Monitor")[1], "io.storctl.ExpectedMore")
        with stord.monitor() as monitor:
            stord.ask("GetStatus")
            stord.ask("Node.Create", name="one", device=self.image())
            added = monitor.until(lambda event: event["subject"] == "one")
            self.assertEqual((added["event"], added["detail"]["state"]), ("node-added", "starting"))
            serving = monitor.until(lambda event: event["subject"] == "one" and event["detail"]["state"] == "serving")
            self.assertEqual(serving["event"], "node-changed")
            stord.ask("Node.Remove", name="one")
            removed = monitor.until(lambda event: event["event"] == "node-removed")
            self.assertIsNone(removed.get("detail"))
            stord.ask("Reload")
            self.assertEqual(monitor.until(lambda event: event["event"] == "status-changed")["detail"]["state"], "reloading")
            stord.process.terminate()
            last = monitor.until(lambda event: event["event"] == "status-changed" and event["detail"]["state"] != "running")
            self.assertEqual(last["detail"]["state"], "stopping")
            self.assertIsNone(monitor.next())
        self.assertEqual(stord.process.wait(20), 0)

    def test_a_silent_monitor_does_not_hold_up_others(self):
        stord = self.stord("[control]\nmax_queued = \"64K\"").start()
        image = self.image()
        with stord.monitor() as silent:
            silent.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for _ in range(150):
                stord.ask("Reload")
            stord.ask("Node.Create", name="one", device=image)
            self.assertEqual(stord.node("one")["state"], "serving")

    def test_an_override_survives_restarts(self):
        stord = self.stord().start()
        devices = stord.ask("Device.List")["devices"]
        usable = [device for device in devices if not device["conflict"]]
        if not usable:
            self.skipTest("no device here")
        device = usable[0]["id"]
        stord.ask("Device.SetSharing", id=device, value="true", reason="shared by test")
        stord.kill()
        stord.start()
        sharing = stord.ask("Device.Show", id=device)["device"]["sharing"]
        self.assertEqual((sharing["shared"], sharing["basis"]), (True, "admin"))
        self.assertIn("root", sharing["author"])
        self.assertEqual(stord.ask("GetStatus")["status"]["devices"]["shared"], 1)
        stord.ask("Device.SetSharing", id=device, value="auto")
        stord.stop()
        stord.start()
        self.assertNotEqual(stord.ask("Device.Show", id=device)["device"]["sharing"]["basis"], "admin")

    def test_others_than_root_read_and_do_not_change(self):
        stord = self.stord().start()
        script = ("import os, sys; sys.path.insert(0, sys.argv[1]); from node_test import call; os.setgid(65534); os.setuid(65534); "
                  "print(call(sys.argv[2], 'io.storctl.GetStatus')[1], call(sys.argv[2], 'io.storctl.Reload')[1])")
        os.chmod(self.folder, 0o755)
        result = subprocess.run(["python3", "-c", script, os.path.dirname(os.path.abspath(__file__)), stord.socket],
                                capture_output=True, text=True, check=True, timeout=30)
        read, change = result.stdout.split()
        self.assertEqual(read, "None")
        self.assertIn("PermissionDenied", change)

    def test_it_stops_in_order_and_leaves_nodes_running(self):
        stord = self.stord().start()
        stord.ask("Node.Create", name="one", device=self.image())
        pid = stord.node("one")["pid"]
        self.assertEqual(stord.stop(), 0)
        self.assertFalse(os.path.exists(stord.socket))
        self.assertEqual(stord.node_pids(), [pid])
        with open(stord.run_dir + "/block/one", "rb") as file:
            self.assertEqual(file.read(512), bytes(512))


if __name__ == "__main__":
    unittest.main()
