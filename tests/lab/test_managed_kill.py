# SPDX-License-Identifier: LGPL-2.1-or-later
"""uservmd is killed at random moments while forwards are added and removed. After each restart, what
is listed, what is stored and what listens are the same, and no connection has noticed."""

import os
import random
import signal
import time

import lab  # first: it says where the others are
import client
import managed
import tap
from lab import stories_in_order as load_tests

UNIT = "uservmd.service"
KILLS = 50
LATEST_KILL_SEC = 0.012  # a change takes about as long
FIRST_PORT = 23000
KEPT = 8


class Kill(managed.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bus.create(**lab.guest(name="web", forwards=["7007:7", "8080:80"]))
        cls.connection = lab.connect_echo(7007)
        cls.addClassCleanup(cls.connection.close)
        cls.passt = managed.passts()
        cls.qemu = lab.processes("qemu")

    def setUp(self):
        super().setUp()
        lab.systemctl("reset-failed", UNIT)

    def send(self, member, spec, **options):
        return self.bus.send(client.ROOT, client.MANAGER, member, "(ssa{sv})", "web", spec,
                             client.dictionary(options))

    def next_change(self, number):
        """Additions, now and then of a range or one for this run only; and a removal when there are
        enough of them."""
        own = [spec for spec in self.forward_states("web") if f":{FIRST_PORT // 1000}" in spec]
        if len(own) >= KEPT:
            return "RemovePortForward", random.choice(own), {}
        port = FIRST_PORT + 10 * number
        spec = f"{port}-{port + 3}:80-83" if number % 5 == 0 else f"{port}:7"
        return "AddPortForward", spec, {"persistent": number % 7 != 0}

    def kill_uservmd(self, delay):
        """The next one is on the bus when this returns."""
        old = self.uservmd()
        time.sleep(delay)
        os.kill(old, signal.SIGKILL)
        # systemd would find that so many starts in so little time are too many
        lab.systemctl("reset-failed", UNIT)
        self.wait_another_uservmd(old)

    def outcome(self, call):
        try:
            call.result()
        except client.Error as error:
            self.assertEqual(error.name, "org.freedesktop.DBus.Error.NoReply", error.message)
            return "unknown"
        return "done"

    def check(self, what):
        try:
            self.assertAgree("web")
            self.assertTrue(lab.echoes(self.connection), "the established connection")
            self.assertEqual(managed.passts(), self.passt)
            self.assertEqual(lab.processes("qemu"), self.qemu)
        except AssertionError as error:
            raise AssertionError(f"after {what}: {error}") from error

    def test_killed_50_times_during_changes(self):
        seed = random.randrange(1 << 32)
        random.seed(seed)
        lab.comment(f"seed {seed}")
        outcomes = {"done": 0, "unknown": 0}
        took_effect = 0
        begin = time.monotonic()
        for number in range(KILLS):
            change = member, spec, options = self.next_change(number)
            before = set(self.forward_states("web"))
            call = self.send(member, spec, **options)
            delay = random.uniform(0, LATEST_KILL_SEC)
            self.kill_uservmd(delay)
            result = self.outcome(call)
            outcomes[result] += 1
            self.check(f"kill {number}, {1000 * delay:.1f} ms into {change}, which was {result}")
            changed = set(self.forward_states("web")) ^ before
            took_effect += bool(changed)
            self.assertTrue(changed or result == "unknown", f"{change} was done, and then gone")
            self.assertLessEqual(len(changed), 1)
        lab.comment(f"{KILLS} kills in {time.monotonic() - begin:.1f} s: {outcomes['done']} changes "
                    f"were answered before, {outcomes['unknown']} not; "
                    f"{took_effect - outcomes['done']} of these took effect")

    def test_all_that_is_left_answers(self):
        for forward in self.forwards("web"):
            port = forward["host-port"]
            if forward["guest-port"] == 7:
                self.assertTrue(managed.is_echoed(port), port)
            else:
                self.assertEqual(lab.fetch(port), "hello from web")

    def test_killed_with_many_changes_waiting(self):
        for spec in [spec for spec in self.forward_states("web") if ":23" in spec]:
            self.remove("web", spec)
        for begin in 24000, 25000, 26000:
            calls = [self.send("AddPortForward", f"{begin + i}:7") for i in range(50)]
            self.bus.wait(lambda: self.bus.finished, "the first reply")
            self.kill_uservmd(random.uniform(0, 0.2))
            outcomes = [self.outcome(call) for call in calls]
            self.check(f"{outcomes.count('done')} of 50 changes")
            self.assertGreaterEqual(len(self.forwards("web")), outcomes.count("done"))
            self.bus.finished.clear()
        lab.comment(f"{len(self.forwards('web'))} of 150 forwards are there")

    def test_killed_while_it_starts(self):
        """Before it has its name on the bus."""
        self.kill_uservmd(0)
        killed = []
        for i in range(5):
            killed.append(lab.main_pid(UNIT))
            lab.kill(killed[-1])
            time.sleep(0.1 + i * 0.02)  # systemd's, and some of its own
            pid = lab.main_pid(UNIT)
            if pid:
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)
            lab.systemctl("reset-failed", UNIT)
            lab.until(lambda: lab.main_pid(UNIT), "another uservmd")
        self.wait_another_uservmd(*killed)
        self.check("five kills")

    def test_killed_while_a_vm_starts_or_is_saved(self):
        self.create(name="other", start=False, forwards=["8090:80"])
        for member in "StartVM", "StartVM", "Save", "StartVM":
            path = self.path("other")
            if member == "StartVM" and self.state("other") == "running":
                self.power_off("other")
            elif member == "Save" and self.state("other") != "running":
                self.start("other")
            call = (self.bus.send(path, client.VM, "Save") if member == "Save" else
                    self.bus.send(client.ROOT, client.MANAGER, member, "(s)", "other"))
            self.kill_uservmd(random.uniform(0, 0.3))
            self.outcome(call)
            self.wait_settled("other")
            state = self.state("other")
            lab.comment(f"{member}: {state}, {self.network('other')}")
            if state == "running":
                self.bus.wait(lambda: not self.network_error("other"), "its network", 40000)
                self.assertAgree("web", "other")
            else:
                self.assertAgree("web")
                self.assertEqual(managed.passts(), self.passt)
        self.delete("other", force=True)
        self.check("all that")

    def wait_settled(self, name):
        def settled():
            down = lab.virsh("domstate", name).strip() == "shut off"
            return self.state(name) == ("running" if not down else
                                        "saved" if self.is_saved(name) else "shutoff")

        lab.until(settled, f"VM {name} to be as libvirt says", 20)

    def is_saved(self, name):
        return name in lab.virsh("list", "--all", "--with-managed-save", "--name").split()

    def test_the_end(self):
        self.assertTrue(lab.echoes(self.connection))
        self.delete("web", force=True)
        self.assertNothingLeft()


if __name__ == "__main__":
    tap.main()
