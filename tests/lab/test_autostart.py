# SPDX-License-Identifier: LGPL-2.1-or-later
"""uservm@NAME.service: a VM that comes up at login, or where the user lingers at boot, and is shut
down cleanly at logout. In the middle the lab is restarted; nobody logs in before this goes on."""

import os
import sys
import time

import lab  # first: it says where the others are
import client
import tap
from lab import stories_in_order

RESTART_THE_LAB = 75  # see tests/lab/boot


def unit(name):
    return f"uservm@{name}.service"


def is_enabled(name):
    return lab.systemctl("is-enabled", unit(name), check=False).strip() == "enabled"


def unit_state(name):
    return lab.systemctl("show", "--property=ActiveState", "--value", unit(name)).strip()


def wait_unit(name, state):
    lab.until(lambda: unit_state(name) == state, f"{unit(name)} to be {state}")


class Autostart(lab.Story):
    """Comes first, and leaves two VMs: `web`, enabled, and `idle`, not enabled."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bus.create(**lab.guest(name="web", start=False, forwards=["8080:80"]))
        cls.web = cls.bus.manager("GetVM", "(s)", "web")

    def setUp(self):
        super().setUp()
        self.bus.take_signals()

    def check(self, enabled):
        self.assertEqual(self.bus.get(self.web, "Autostart"), enabled)
        self.assertEqual(is_enabled("web"), enabled)

    def test_a_new_vm_has_none(self):
        self.check(False)

    def test_true_enables_the_unit(self):
        self.bus.set(self.web, "Autostart", True)
        self.check(True)
        self.assertEqual(client.changes(self.bus.take_signals(), self.web), [{"Autostart": True}])
        self.assertEqual(self.state("web"), "shutoff")

    def test_true_again_changes_nothing(self):
        self.bus.set(self.web, "Autostart", True)
        self.check(True)
        self.assertEqual(client.changes(self.bus.take_signals(), self.web), [])

    def test_false_disables_it(self):
        self.bus.set(self.web, "Autostart", False)
        self.check(False)
        self.assertEqual(client.changes(self.bus.take_signals(), self.web),
                         [{"Autostart": False}])

    def test_enabled_and_disabled_with_systemctl(self):
        lab.systemctl("enable", unit("web"))
        self.wait_change(self.web, "Autostart", True)
        self.check(True)
        lab.systemctl("disable", unit("web"))
        self.wait_change(self.web, "Autostart", False)
        self.check(False)

    def test_a_value_that_is_no_boolean(self):
        with self.assertRaises(client.Error) as caught:
            self.bus.set(self.web, "Autostart", "yes")
        self.assertEqual(caught.exception.name, client.INVALID_ARGS, caught.exception.message)
        self.check(False)

    def test_with_create_and_delete(self):
        """A name whose unit's is escaped."""
        path = self.create(name="a-b_c.d", start=False, autostart=True)
        self.assertTrue(self.bus.get(path, "Autostart"))
        escaped = lab.run("systemd-escape", "a-b_c.d").strip()
        self.assertTrue(is_enabled(escaped))
        self.delete("a-b_c.d")
        self.assertFalse(is_enabled(escaped))

    def test_start_of_the_unit_starts_the_vm(self):
        lab.systemctl("start", unit("web"))
        self.assertEqual(self.state("web"), "running")
        self.assertEqual(unit_state("web"), "active")
        lab.wait_answer(8080)

    def test_stop_of_the_unit_shuts_the_guest_down(self):
        lab.systemctl("stop", unit("web"))
        self.assertEqual(self.state("web"), "shutoff")
        self.assertIn("(shutdown)", lab.virsh("domstate", "--reason", "web"))

    def test_the_unit_comes_back(self):
        """When its process is killed: the VM runs on, and is to be shut down at logout. (The end of
        the session bus is in tests/faults.)"""
        lab.systemctl("start", unit("web"))
        lab.wait_answer(8080)
        qemu, old = lab.processes("qemu"), lab.main_pid(unit("web"))
        lab.kill(old)
        lab.until(lambda: lab.main_pid(unit("web")) not in (0, old)
                  and unit_state("web") == "active", "the unit to be active again")
        self.assertEqual(lab.processes("qemu"), qemu)
        self.assertEqual(self.state("web"), "running")
        lab.systemctl("stop", unit("web"))
        self.assertIn("(shutdown)", lab.virsh("domstate", "--reason", "web"))

    def test_the_unit_ends_with_the_vm(self):
        lab.systemctl("start", unit("web"))
        self.bus.manager("PowerOffVM", "(s)", "web")
        wait_unit("web", "inactive")

    def test_a_unit_whose_vm_does_not_start_fails(self):
        lab.run("systemctl", "--user", "start", unit("nobody"), check=False)
        self.assertEqual(unit_state("nobody"), "failed")
        # not by the unit: of a process that has ended the journal may not know it any more
        lab.until(lambda: "no VM 'nobody'" in lab.run("journalctl", "--user",
                                                      "--identifier=uservm-unit"), "the reason")

    def test_the_vms_for_after_the_restart(self):
        self.create(name="idle", start=False)
        self.bus.set(self.web, "Autostart", True)
        self.check(True)
        lab.systemctl("start", unit("web"))

    def test_a_vm_that_runs_without_a_unit(self):
        """libvirt may save it when the machine goes down, and restore it when its daemon starts."""
        self.create(name="loose", forwards=["8081:80"])
        lab.wait_answer(8081)


class AfterTheRestart(lab.Story):
    """Looks with virsh first: no call may be what starts uservmd."""

    def test_the_vm_has_come_up_by_itself(self):
        lab.until(lambda: "web" in lab.virsh("list", "--name").split(), "web to run")

    def test_what_libvirt_has_restored_has_its_network(self):
        """It does that before it answers anybody, and waits for passt."""
        state = self.state("loose")
        lab.comment(f"a VM that ran and has no unit is {state}")
        if state == "running":
            lab.wait_answer(8081)
        self.delete("loose", force=True)

    def test_the_unit_is_active(self):
        wait_unit("web", "active")

    def test_its_forward_answers(self):
        lab.wait_answer(8080)
        self.assertEqual(self.states(), {"web": "running", "idle": "shutoff"})
        self.assertEqual(set(self.forward_states("web").values()), {"active"})
        self.assertTrue(self.bus.get(self.path("web"), "Autostart"))

    def test_uservmd_may_be_restarted(self):
        lab.systemctl("restart", "uservmd.service")
        self.assertEqual(self.state("web"), "running")
        time.sleep(1)  # long enough for the unit to notice
        self.assertEqual(unit_state("web"), "active")
        self.assertTrue(lab.fetch(8080))

    def test_deleting_the_vm_ends_and_disables_the_unit(self):
        self.delete("web", force=True)
        wait_unit("web", "inactive")
        self.assertFalse(is_enabled("web"))
        self.delete("idle")


def load_tests(loader, tests, pattern):
    first, second = stories_in_order(loader, tests, pattern)
    return first if os.environ["LAB_BOOT"] == "1" else second


if __name__ == "__main__":
    try:
        tap.main()
    except SystemExit as end:
        if os.environ["LAB_BOOT"] == "1":
            sys.exit(end.code or RESTART_THE_LAB)
        raise
