# SPDX-License-Identifier: LGPL-2.1-or-later
"""While VMs are being started, which takes seconds, calls that need not wait for them get their
answers at once."""

import contextlib
import os
import statistics
import time

import lab  # first: it says where the others are
import client
import tap
from lab import stories_in_order as load_tests

VMS = ["one", "two", "three", "four"]
SLOW = [f"slow{i}" for i in range(6)]
IDLE_CALLS = 300
CALLS = 1000

SLOW_START_SEC = 3
SLOW_EMULATOR = os.path.expanduser("~/slow-qemu")
HELD = os.path.expanduser("~/held")
# libvirt also asks it what it can do; that may be quick.
SLOW_EMULATOR_TEXT = f"""#!/bin/sh
case "$*" in *guest=*)
    sleep {SLOW_START_SEC}
    while [ -e {HELD} ]; do sleep 0.1; done
    ;;
esac
exec qemu-system-x86_64 "$@"
"""


def percentile_99(seconds):
    return statistics.quantiles(seconds, n=100)[-1]


def report(what, seconds):
    lab.comment(f"{what}: {len(seconds)} calls, median {statistics.median(seconds) * 1000:.2f} ms, "
                f"99 % within {percentile_99(seconds) * 1000:.2f} ms, "
                f"slowest {max(seconds) * 1000:.2f} ms")


class Responsive(lab.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for i, name in enumerate(VMS):
            cls.bus.create(**lab.guest(name=name, start=False, forwards=[f"{8080 + i}:80"]))

    def ask(self, i):
        """One of the calls that are answered from memory; returns the seconds that it took."""
        calls = [("ListVMs",), ("GetVM", "(s)", VMS[0]), ("ListForwards", "(s)", ""),
                 ("ListForwards", "(s)", VMS[-1])]
        begin = time.monotonic()
        self.bus.manager(*calls[i % len(calls)])
        return time.monotonic() - begin

    def send(self, member, signature, *arguments):
        return self.bus.send(client.ROOT, client.MANAGER, member, signature, *arguments)

    def ask_until_finished(self, pending):
        """Makes calls until all the pending ones have their reply; what each took, and the time
        until the first of the pending ones was answered."""
        seconds = []
        begin = time.monotonic()
        first = None
        self.bus.finished.clear()
        while len(self.bus.finished) < len(pending):
            seconds.append(self.ask(len(seconds)))
            self.bus.take_signals()  # also takes the replies that have come
            if self.bus.finished and first is None:
                first = time.monotonic() - begin
        for call in pending:
            call.result()
        return seconds, first

    def define_slow(self, names=("slow",)):
        """Like VM one, but they take their time to start and none of the processor's."""
        with open(SLOW_EMULATOR, "w", encoding="ascii") as emulator:
            emulator.write(SLOW_EMULATOR_TEXT)
        os.chmod(SLOW_EMULATOR, 0o755)
        domain = lab.definition("one")
        domain.remove(domain.find("uuid"))
        devices = domain.find("devices")
        devices.find("emulator").text = SLOW_EMULATOR
        devices.remove(devices.find("interface"))
        for name in names:
            domain.find("name").text = name
            lab.define(domain)
        self.bus.wait(lambda: set(names) <= set(self.states()), "the VMs to be listed")

    @contextlib.contextmanager
    def starting(self, names):
        """Slow ones do not come up before the end of the with block."""
        with open(HELD, "w", encoding="ascii"):
            pass
        try:
            starts = [self.send("StartVM", "(s)", name) for name in names]
            self.bus.wait(lambda: all(self.state(name) == "starting" for name in names),
                          "the starts to begin")
            self.bus.finished.clear()
            yield
            self.assertEqual({self.state(name) for name in names}, {"starting"})
            self.bus.take_signals()
            self.assertEqual(self.bus.finished, [])
        finally:
            os.unlink(HELD)
        for start in starts:
            start.result()

    def test_idle(self):
        report("idle", [self.ask(i) for i in range(IDLE_CALLS)])

    def test_reading_does_not_wait_for_a_start(self):
        self.define_slow()
        with self.starting(["slow"]):
            seconds = [self.ask(i) for i in range(CALLS)]
        report("meanwhile", seconds)
        self.assertLess(max(seconds), SLOW_START_SEC)
        self.assertLess(statistics.median(seconds), SLOW_START_SEC / 4)
        self.bus.manager("PowerOffVM", "(s)", "slow")

    def test_nor_does_what_is_done_to_another_vm(self):
        with self.starting(["slow"]):
            self.create(name="five", forwards=["8090:80"])
            self.add("one", "8091:80")
            self.remove("one", "8091")
            self.delete("five", force=True)
        self.delete("slow", force=True)

    def test_several_starts_at_once(self):
        """They keep the processor busy, and a call may have to wait for that."""
        seconds, first = self.ask_until_finished([self.send("StartVM", "(s)", name)
                                                  for name in VMS])
        lab.comment(f"the first start took {first:.2f} s")
        report("until the last start", seconds)
        self.assertGreater(len(seconds), 100)
        self.assertLess(statistics.median(seconds), first / 4)
        self.assertEqual(set(self.states().values()), {"running"})

    def test_many_starts_leave_libvirt_free_for_others(self):
        """Its daemon serves five calls of a connection at a time."""
        self.define_slow(SLOW)
        with self.starting(SLOW):
            self.bus.vm(self.path("one"), "ListDisks")
        for name in SLOW:
            self.delete(name, force=True)

    def test_calls_about_one_vm_wait_for_each_other(self):
        """In the order in which they came."""
        self.bus.finished.clear()
        pending = [self.send(member, "(s)", "one")
                   for member in ("PowerOffVM", "StartVM", "PowerOffVM")]
        for call in pending:
            call.result()
        self.assertEqual(self.bus.finished, pending)
        self.assertEqual(self.state("one"), "shutoff")


if __name__ == "__main__":
    tap.main()
