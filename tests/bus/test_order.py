# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many clients at once: each VM does one thing after the other, in the order of the calls."""

import client
import daemon
import tap
from client import changes
from daemon import domain

N_CLIENTS = 24
N_VMS = 6
N_ROUNDS = 5


def outcome(pending):
    try:
        return pending.result() or "done"
    except client.Error as error:
        return error.name.split(".")[-1]


class Order(daemon.Case):
    domains = [domain(f"vm{i}", i + 1) for i in range(N_VMS)]

    def setUp(self):
        super().setUp()
        self.clients = [client.Client() for _ in range(N_CLIENTS)]
        for each in self.clients:
            self.addCleanup(each.close)
        self.paths = [self.bus.manager("GetVM", "(s)", f"vm{i}") for i in range(N_VMS)]

    def test_clients_that_share_VMs(self):
        sent = {}
        for _ in range(N_ROUNDS):
            for i, each in enumerate(self.clients):
                for method in ("Start", "PowerOff"):
                    path = self.paths[i % N_VMS]
                    sent.setdefault((each, path), []).append(
                        (method, each.send(path, client.VM, method)))

        done = {path: {"Start": 0, "PowerOff": 0} for path in self.paths}
        for (each, path), calls in sent.items():
            for method, pending in calls:
                result = outcome(pending)
                self.assertIn(result, {"Start": ("done", "AlreadyRunning"),
                                       "PowerOff": ("done", "NotRunning")}[method])
                done[path][method] += result == "done"
            # A client's calls on one VM are answered in the order in which it made them.
            self.assertEqual(each.finished, [pending for _, pending in calls])

        signals = self.bus.take_signals()
        for path in self.paths:
            # Every call that did something was one step of one and the same sequence.
            states = [change["State"] for change in changes(signals, path)]
            rounds = done[path]["Start"]
            self.assertGreaterEqual(rounds, 1)
            self.assertEqual(states, ["starting", "running", "stopping", "shutoff"] * rounds)
            self.assertEqual(done[path]["PowerOff"], rounds)

    def test_clients_that_create_the_same_VM(self):
        settings = client.dictionary({"name": "new", "disk-size": "1M"})
        results = [outcome(pending) for pending in [
            each.send(client.ROOT, client.MANAGER, "CreateVM", "(a{sv})", settings)
            for each in self.clients]]
        self.assertEqual(results.count("VMExists"), N_CLIENTS - 1)
        self.assertEqual(len(self.bus.manager("ListVMs")), N_VMS + 1)
        self.assertEqual(self.files(), [f"{self.daemon.images}/new.qcow2"])

    def test_clients_that_create_VMs_of_their_own(self):
        forwards = {"forwards": ["0:80"]} if "passt" in self.features() else {}
        paths = [outcome(pending) for pending in [
            each.send(client.ROOT, client.MANAGER, "CreateVM", "(a{sv})", client.dictionary(
                {"name": f"new{i}", "disk-size": "1M"} | forwards))
            for i, each in enumerate(self.clients)]]
        self.assertEqual(len(self.bus.managed_objects()), N_VMS + N_CLIENTS)
        self.assertLessEqual(set(paths), set(self.bus.managed_objects()))
        ports = [forward["host-port"] for forward in self.bus.manager("ListForwards", "(s)", "")]
        self.assertEqual(len(set(ports)), N_CLIENTS if forwards else 0)

        deletions = [each.send(client.ROOT, client.MANAGER, "DeleteVM", "(sa{sv})", f"new{i}",
                               client.dictionary({"force": True}))
                     for i, each in enumerate(self.clients)]
        self.assertEqual([len(outcome(pending)["removed"]) for pending in deletions],
                         [1] * N_CLIENTS)
        self.assertEqual(len(self.bus.managed_objects()), N_VMS)
        self.assertEqual(self.files(), [])


if __name__ == "__main__":
    tap.main()
