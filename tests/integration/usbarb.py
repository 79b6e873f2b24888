#!/usr/bin/env python3
"""The arbiter over its socket, with a made-up USB host: claims, refusals, restarts, deadlines, rules, races and floods. No driver is
moved here (keep_drivers): that is the lab's."""

import json
import os
import socket
import threading
import time
import unittest

from node_test import call
from storctl_test import StordTestCase, require, wait_for
from usb_testbed import CONTROLLER, UsbTestbed, library

require()
library()


def usb(what):
    return {"bus": "usb", "what": what}


PCI = {"bus": "pci", "what": CONTROLLER}


class Connection:
    """One client that stays connected."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, method, **parameters):
        message = {"method": "io.storctl.Arbiter." + method, "parameters": parameters}
        self.socket.sendall(json.dumps(message).encode() + b"\0")

    def receive(self):
        while b"\0" not in self.buffer:
            part = self.socket.recv(1 << 16)
            if not part:
                raise AssertionError("the connection was closed")
            self.buffer += part
        text, _, self.buffer = self.buffer.partition(b"\0")
        reply = json.loads(text)
        return reply.get("parameters", {}), (reply.get("error") or "").rpartition(".")[2]

    def call(self, method, **parameters):
        self.send(method, **parameters)
        return self.receive()


class ArbiterTestCase(StordTestCase):
    def setUp(self):
        super().setUp()
        self.bed = UsbTestbed()
        self.addCleanup(self.bed.close)
        self.host = self.stord(self.config(), environment=self.bed.environment()).start()

    def config(self):
        return ""

    def ask(self, method, **parameters):
        return self.host.ask("Arbiter." + method, **parameters)

    def claim(self, what, holder, **more):
        targets = [one if isinstance(one, dict) else usb(one) for one in what]
        return self.ask("Claim", targets=targets, holder=holder, keep_drivers=True, **more)["claims"]

    def refused(self, what, holder):
        targets = [one if isinstance(one, dict) else usb(one) for one in what]
        answer = self.host.refused("Arbiter.Claim", "Refused", targets=targets, holder=holder, keep_drivers=True)
        return [(blocker["target"], blocker["holder"]) for blocker in answer["blockers"]]

    def release(self, holder):
        return self.ask("Release", holder=holder)["released"]

    def claims(self):
        return [(claim["target"], claim["holder"], claim["state"]) for claim in self.ask("Claims")["claims"] if claim["id"] is not None]

    def in_use(self):
        """Every counter of the made-up controller."""
        inventory = self.ask("Inventory")
        controller = next(entry for entry in inventory["controllers"] if entry["path"] == CONTROLLER)
        counters = {"controller": controller["in_use"]}
        counters.update({bus["half"]: bus["in_use"] for bus in controller["buses"]})
        counters.update({device["socket"]: device["in_use"] for device in inventory["devices"] if device["hub"]})
        return counters


class Nodes(ArbiterTestCase):
    """A node process that cannot serve: this machine has no character devices in user space, or the made-up device no node."""

    def create(self, **more):
        return self.host.refused("Node.CreateUsb", "Failed", name="token", target="1-1", holder="vm:one", **more)["message"]

    def test_a_node_that_cannot_be_started_says_why_and_leaves_nothing(self):
        message = self.create()
        self.assertRegex(message, "^node 'token' could not be started: .*/dev/")
        self.assertEqual(self.claims(), [])
        self.assertEqual(self.host.ask("Node.List")["nodes"], [])
        self.assertEqual(set(self.in_use().values()), {0})

    def test_a_claim_that_was_there_stays(self):
        self.claim(["1-1"], "vm:one")
        before = self.claims()
        self.assertIn("/dev/", self.create())
        self.assertEqual(self.claims(), before)
        self.assertEqual(self.host.ask("Node.List")["nodes"], [])

    def test_refusals_are_the_arbiters_own_and_a_dry_run_changes_nothing(self):
        self.claim(["1-1"], "vm:two")
        refused = self.host.refused("Node.CreateUsb", "Refused", name="token", target="1-1", holder="vm:one")
        self.assertEqual([blocker["holder"] for blocker in refused["blockers"]], ["vm:two"])
        node = self.host.ask("Node.CreateUsb", name="token", target="1-3", holder="vm:one", dry_run=True)["node"]
        self.assertEqual((node["kind"], node["usb"]["socket"], node["usb"]["minor"]), ("usb", f"{CONTROLLER}/3", 8192))
        self.assertEqual(len(self.claims()), 1)


class Claims(ArbiterTestCase):
    def test_claims_count_and_releases_take_the_counts_back(self):
        nothing = self.in_use()
        self.assertEqual(set(nothing.values()), {0})
        self.claim(["1-2.1"], "vm:one")
        self.claim(["A"], "vm:one")
        self.assertEqual(self.in_use(), {"controller": 1, "usb2": 1, "usb3": 0, f"{CONTROLLER}/2": 1})
        self.claim([f"{CONTROLLER}/2.2"], "vm:two")
        self.assertEqual(self.in_use(), {"controller": 2, "usb2": 2, "usb3": 0, f"{CONTROLLER}/2": 2})
        self.assertEqual(self.refused(["1-2"], "vm:one"),
                         [(f"{CONTROLLER}/2.1", "vm:one"), (f"{CONTROLLER}/2.2", "vm:two")])
        self.assertEqual([holder for _, holder in self.refused([PCI], "vm:three")], ["vm:one", "vm:two"])
        self.assertEqual(len(self.release("vm:one")), 1)
        self.assertEqual(len(self.release("vm:two")), 1)
        self.assertEqual(self.in_use(), nothing)
        self.claim([PCI], "vm:three")
        self.assertEqual(self.refused(["1-1"], "vm:one"), [(CONTROLLER, "vm:three")])
        self.release("vm:three")
        self.assertEqual(self.claims(), [])

    def test_several_in_one_request_are_given_whole_or_not_at_all(self):
        self.claim(["1-2.1"], "vm:one")
        before = self.in_use()
        self.assertEqual(self.refused(["1-1", "1-2.1", "1-3"], "vm:two"), [(f"{CONTROLLER}/2.1", "vm:one")])
        self.assertEqual(self.in_use(), before)
        self.assertEqual(self.claims(), [(f"{CONTROLLER}/2.1", "vm:one", "active")])
        self.assertEqual(self.release("vm:two"), [])
        self.host.refused("Arbiter.Release", "Refused", targets=[usb("1-2.1")], holder="vm:two")
        self.assertEqual(len(self.claims()), 1)

    def test_what_happens_is_told_and_shown(self):
        with self.host.monitor() as monitor:
            self.host.ask("GetStatus")
            self.claim(["1-1"], "vm:one", reason="because")
            event = monitor.until(lambda event: event["event"] == "claim-added")
            self.assertEqual((event["subject"], event["detail"]["holder"]), (f"{CONTROLLER}/1", "vm:one"))
            self.bed.unplug("1-1")
            monitor.until(lambda event: event["event"] == "usb-removed")
            monitor.until(lambda event: event["event"] == "claim-lost")
            status = self.host.ask("GetStatus")["status"]
            self.assertEqual(status["claims"], {"total": 1, "lost": 1, "failed": 0})
            self.assertTrue(any("vm:one: lost" in finding for finding in status["findings"]), status)
            self.bed.plug("1-1", serial="ONE")
            monitor.until(lambda event: event["event"] == "usb-added")
            monitor.until(lambda event: event["event"] == "claim-restored")
            self.release("vm:one")
            monitor.until(lambda event: event["event"] == "claim-removed")
        self.claim(["1-3"], "vm:two")
        wait_for(lambda: [claim["holder"] for claim in self.host.state_file()["claims"] if claim["id"]] == ["vm:two"],
                 "the claim is in the state file")
        holders = {device["kernel_name"]: device["holder"] for device in self.host.state_file()["usb"]}
        self.assertEqual((holders["1-3"], holders["1-1"]), ("vm:two", None))

    def test_explain_says_what_a_claim_would(self):
        explained = self.ask("Explain", target=usb("1-1"))
        self.assertTrue(explained["granted"], explained)
        self.assertEqual(explained["kind"], "device")
        self.host.refused("Arbiter.Explain", "NotFound", target=usb("1-4"))
        self.claim(["1-1"], "vm:one")
        explained = self.ask("Explain", target=usb("1-1"), holder="vm:two")
        self.assertFalse(explained["granted"])
        self.assertIn("vm:one", explained["why"])
        self.assertTrue(self.ask("Explain", target=usb("1-1"), holder="vm:one")["granted"])

    def test_others_than_root_look_and_do_not_change(self):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.chmod(self.folder, 0o755)
                os.setgid(65534)
                os.setuid(65534)
                looks = call(self.host.socket, "io.storctl.Arbiter.Claims")[1] is None
                _, error = call(self.host.socket, "io.storctl.Arbiter.Claim", {"targets": [usb("1-1")], "holder": "vm:one"})
                status = 0 if looks and error.endswith("PermissionDenied") else 2
            finally:
                os._exit(status)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertEqual(self.claims(), [])


class Lasting(ArbiterTestCase):
    def config(self):
        return "[usb]\ngrace = \"2s\"\nprovisional_timeout = \"1s\""

    def test_claims_survive_a_restart_and_a_kill(self):
        self.claim(["1-1", "1-2.1"], "vm:one")
        self.claim([f"{CONTROLLER}/3"], "vm:two", origin="libvirt")
        before, counters = self.claims(), self.in_use()
        self.assertEqual(len(before), 3)
        for end in (self.host.stop, self.host.kill):
            end()
            self.host.start()
            self.assertEqual(self.claims(), before)
            self.assertEqual(self.in_use(), counters)
            self.assertEqual(self.refused(["1-3"], "vm:one"), [(f"{CONTROLLER}/3", "vm:two")])
        self.host.kill()
        self.bed.unplug("1-1")
        self.host.start()
        self.assertIn((f"{CONTROLLER}/1", "vm:one", "lost"), self.claims())
        self.assertEqual(len(self.release("vm:one")), 2)

    def test_kills_in_the_middle_of_claims_leave_no_half_of_one(self):
        for _ in range(15):
            with Connection(self.host.socket) as one, Connection(self.host.socket) as two:
                one.send("Claim", targets=[usb("1-1"), usb("1-2.1"), usb("1-3")], holder="vm:one", keep_drivers=True)
                two.send("Claim", targets=[usb("1-2")], holder="vm:two", keep_drivers=True)
                self.host.kill()
            self.host.start()
            claims = self.claims()
            self.assertIn([holder for _, holder, _ in claims], ([], ["vm:one"] * 3, ["vm:two"]))
            self.release("vm:one")
            self.release("vm:two")
            self.assertEqual(set(self.in_use().values()), {0})

    def test_a_lost_claim_returns_within_the_grace_period_and_ends_after_it(self):
        self.claim(["1-1"], "vm:one")
        self.bed.unplug("1-1")
        wait_for(lambda: self.claims() == [(f"{CONTROLLER}/1", "vm:one", "lost")], "the claim is lost")
        self.assertEqual(set(self.in_use().values()), {0})
        self.bed.plug("1-1", serial="ONE")
        wait_for(lambda: self.claims() == [(f"{CONTROLLER}/1", "vm:one", "active")], "the claim is back")
        self.assertEqual(self.in_use()["controller"], 1)
        self.bed.unplug("1-1")
        wait_for(lambda: self.claims() == [], "the claim has ended")
        self.bed.plug("1-1", serial="ONE")
        wait_for(lambda: any(device["kernel_name"] == "1-1" for device in self.ask("Inventory")["devices"]), "the device is back")
        self.assertEqual(self.claims(), [])

    def test_a_hub_that_goes_takes_the_claims_below_with_it_once(self):
        self.claim(["1-2.1"], "vm:one")
        self.claim(["1-2.2"], "vm:two")
        self.claim(["1-3"], "vm:three")
        self.assertEqual(self.in_use()["controller"], 3)
        for name in ("1-2.2", "1-2.1", "1-2"):
            self.bed.unplug(name)
        wait_for(lambda: self.in_use() == {"controller": 1, "usb2": 1, "usb3": 0}, "two are taken back")
        self.bed.plug("1-2", device_class="09", ports=4)
        self.bed.plug("1-2.1", serial="A")
        wait_for(lambda: self.in_use() == {"controller": 2, "usb2": 2, "usb3": 0, f"{CONTROLLER}/2": 1}, "one is back")

    def test_a_provisional_claim_ends_unless_it_is_confirmed(self):
        self.claim(["1-1"], "vm:one", provisional=True, origin="libvirt")
        self.claim(["1-3"], "vm:two", provisional=True, origin="libvirt")
        self.assertEqual([state for _, _, state in self.claims()], ["provisional"] * 2)
        self.assertEqual(self.ask("Confirm", holder="vm:two", origin="libvirt")["claims"][0]["state"], "active")
        wait_for(lambda: self.claims() == [(f"{CONTROLLER}/3", "vm:two", "active")], "the other one has ended")

    def test_rules_are_kept_and_claim_what_is_plugged_in(self):
        rule = self.ask("AddRule", vendor_id="046d", product_id="0d0d", holder="vm:one")["rule"]
        self.host.kill()
        self.host.start()
        self.assertEqual(self.ask("ListRules")["rules"], [rule])
        # its drivers cannot be moved in a made-up kernel: whatever came of that, the rule has had its turn
        with self.host.monitor() as monitor:
            self.host.ask("GetStatus")
            self.bed.plug("1-4", product="0d0d", serial="R")
            event = monitor.until(lambda event: event["event"] in ("claim-added", "rule-failed"))
            self.assertEqual(event["subject"], f"{CONTROLLER}/4")
        self.ask("RemoveRule", id=rule["id"])
        self.host.refused("Arbiter.RemoveRule", "RuleNotFound", id=rule["id"])


class Races(ArbiterTestCase):
    def test_of_a_device_claim_and_a_passthrough_at_once_exactly_one_wins(self):
        rounds = 500
        requests = {"vm:device": [usb("1-2.1")], "vm:function": [PCI]}
        wins = dict.fromkeys(requests, 0)
        answers = {}
        start, end = threading.Barrier(3), threading.Barrier(3)
        broken = []

        def client(holder, targets):
            try:
                with Connection(self.host.socket) as connection:
                    for _ in range(rounds):
                        start.wait(60)
                        answers[holder] = connection.call("Claim", targets=targets, holder=holder, keep_drivers=True)
                        end.wait(60)
                        start.wait(60)
                        connection.call("Release", holder=holder)
                        end.wait(60)
            except Exception as error:  # shown by the main thread, which must not wait for ever
                broken.append(error)
                start.abort()
                end.abort()

        threads = [threading.Thread(target=client, args=entry) for entry in requests.items()]
        for thread in threads:
            thread.start()
        try:
            for number in range(rounds):
                start.wait(60)
                end.wait(60)
                winners = [holder for holder, (_, error) in answers.items() if not error]
                self.assertEqual(len(winners), 1, f"round {number}: {answers}")
                wins[winners[0]] += 1
                loser = next(answer for holder, answer in answers.items() if holder != winners[0])
                self.assertEqual(loser[1], "Refused")
                self.assertEqual({blocker["holder"] for blocker in loser[0]["blockers"]}, set(winners))
                start.wait(60)
                end.wait(60)
        except threading.BrokenBarrierError:
            self.fail(f"a client failed: {broken}")
        finally:
            start.abort()
            end.abort()
            for thread in threads:
                thread.join(60)
        self.assertEqual(sum(wins.values()), rounds)
        self.assertEqual(set(self.in_use().values()), {0})
        self.assertEqual(self.claims(), [])

    def test_a_flood_of_claims_holds_up_nobody_and_takes_no_memory(self):
        clients, each = 6, 600
        rss = self.rss()
        floods = [threading.Thread(target=self.flood, args=(number, each), daemon=True) for number in range(clients)]
        for flood in floods:
            flood.start()
        slowest, largest, asked = 0.0, 0, 0
        while any(flood.is_alive() for flood in floods):
            before = time.monotonic()
            self.ask("Explain", target=usb("1-3"))
            slowest = max(slowest, time.monotonic() - before)
            largest = max(largest, self.rss())
            asked += 1
        self.assertGreater(asked, 3)
        self.assertLess(slowest, 3)
        self.assertLess(largest - rss, 64 << 20)
        for number in range(clients):
            self.release(f"vm:flood{number}")
        self.assertEqual(set(self.in_use().values()), {0})

    def flood(self, number, count):
        with Connection(self.host.socket) as connection:
            sender = threading.Thread(target=lambda: [
                connection.send("Claim", targets=[usb("1-2.1")], holder=f"vm:flood{number}", keep_drivers=True)
                for _ in range(count)], daemon=True)
            sender.start()
            for _ in range(count):
                _, error = connection.receive()
                if error not in ("", "Refused"):
                    raise AssertionError(error)

    def rss(self):
        with open(f"/proc/{self.host.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    unittest.main()
