# SPDX-License-Identifier: LGPL-2.1-or-later
"""uservmd leaves when there is nothing to do, as its unit under systemd, and nobody notices: D-Bus
starts it again, and every call is answered."""

import os
import subprocess
import time

import lab  # first: it says where the others are
import client
import tap
from lab import stories_in_order as load_tests

UNIT = "uservmd.service"
DROP_IN = os.path.expanduser("~/.config/systemd/user/uservmd.service.d/idle.conf")
IDLE_SEC = 1
LEAVE_TIMEOUT_MSEC = 20000


class Idle(lab.Story):
    """The class's client only watches; calls come from others, which leave the bus after them."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        os.makedirs(os.path.dirname(DROP_IN))
        with open(DROP_IN, "x", encoding="utf-8") as file:
            file.write("[Service]\nExecStart=\n"
                       f"ExecStart=/usr/libexec/uservmd --idle-exit={IDLE_SEC}\n")
        lab.systemctl("daemon-reload")
        lab.run("uservm", "create", "web", "--memory=256M", "--kernel", lab.KERNEL, "--initrd",
                lab.INITRD, "--cmdline", lab.CMDLINE, "--publish=8080:80", "--no-start")

    def setUp(self):
        super().setUp()
        lab.systemctl("reset-failed", UNIT)

    def picture(self):
        other = client.Client()
        try:
            return sorted(other.managed_objects().items())
        finally:
            other.close()

    def wait_gone(self):
        self.bus.wait(lambda: not self.bus.owner, "uservmd to leave", LEAVE_TIMEOUT_MSEC)

    def wait_there(self):
        self.bus.wait(lambda: self.bus.owner, "uservmd to come")

    def show(self, what):
        return lab.systemctl("show", f"--property={what}", "--value", UNIT).strip()

    def test_it_leaves_and_its_unit_has_not_failed(self):
        self.picture()
        self.wait_there()
        self.wait_gone()
        lab.until(lambda: self.show("ActiveState") == "inactive", "the unit to be inactive", 20)
        self.assertEqual(self.show("Result"), "success")
        self.assertEqual(self.show("NRestarts"), "0")
        self.assertEqual(lab.processes("uservmd"), [])

    def test_it_comes_back_with_the_same_answers(self):
        before = self.picture()
        self.wait_there()
        self.wait_gone()
        self.assertEqual(self.picture(), before)

    def test_a_call_in_the_moment_it_leaves(self):
        """When the name has just become free, and around the time when it will: none is lost."""
        before = self.picture()
        for _ in range(10):
            self.wait_there()
            self.wait_gone()
            self.assertEqual(self.picture(), before)
        for i in range(20):
            time.sleep(IDLE_SEC - 0.1 + i * 0.01)
            self.assertEqual(self.picture(), before)

    def test_monitor_keeps_it_and_does_not_bring_it_back(self):
        monitor = subprocess.Popen(["uservm", "monitor"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, text=True)
        self.addCleanup(monitor.stdout.close)
        self.addCleanup(monitor.wait)
        self.addCleanup(monitor.terminate)
        self.wait_there()
        monitor.stdout.readline()
        time.sleep(3 * IDLE_SEC)
        self.assertTrue(self.bus.owner)
        lab.systemctl("stop", UNIT)
        self.wait_gone()
        time.sleep(1)
        self.assertEqual(lab.processes("uservmd"), [])
        self.assertIsNone(monitor.poll())

    def test_a_VM_that_runs_keeps_it(self):
        lab.run("uservm", "start", "web")
        self.wait_there()
        lab.wait_answer(8080)
        time.sleep(3 * IDLE_SEC)
        self.assertTrue(self.bus.owner)

    def test_until_it_stops(self):
        """Shut down by another tool, of which libvirt tells."""
        lab.virsh("shutdown", "web")
        self.wait_gone()
        self.assertEqual(lab.virsh("list", "--name").split(), [])

    def test_a_unit_of_a_VM_keeps_it_as_long_as_the_VM_runs(self):
        lab.systemctl("start", "uservm@web.service")
        self.wait_there()
        time.sleep(3 * IDLE_SEC)
        self.assertTrue(self.bus.owner)
        lab.systemctl("stop", "uservm@web.service")
        self.wait_gone()
        self.assertEqual(lab.systemctl("show", "--property=Result", "--value",
                                       "uservm@web.service").strip(), "success")
        self.assertEqual(dict(self.picture()[0][1])[client.VM]["State"], "shutoff")


if __name__ == "__main__":
    tap.main()
