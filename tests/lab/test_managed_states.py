# SPDX-License-Identifier: LGPL-2.1-or-later
"""Managed networking through the states of a VM: when it has been paused, reset, saved and restored
or stopped, its network and its forwards are right; and virsh can start what uservm has stopped, and
the other way round."""

import os
import socket
import time
import xml.etree.ElementTree as ElementTree

import lab  # first: it says where the others are
import client
import managed
import tap
from lab import stories_in_order as load_tests

UNIT = "uservmd.service"
SAVES = os.path.expanduser("~/.config/libvirt/qemu/save")


class States(managed.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bus.create(**lab.guest(name="web", start=False,
                                   forwards=["8080:80", "7007:7"]))
        cls.stored = lab.virsh("dumpxml", "--inactive", "web")
        cls.bus.manager("StartVM", "(s)", "web")
        lab.wait_answer(8080)

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", 7007), lab.BOOT_TIMEOUT_SEC)
        self.addCleanup(connection.close)
        self.assertTrue(lab.echoes(connection))
        return connection

    def tearDown(self):
        if self.state("web") in ("shutoff", "saved"):
            self.assertNothingLeft()
        self.assertEqual(lab.virsh("dumpxml", "--inactive", "web"), self.stored)

    # The guest stays

    def test_pause_and_resume(self):
        """The passt of 2026-07-28 may end at that, see Pause; then it is back within about a
        second."""
        path = self.path("web")
        self.bus.vm(path, "Pause")
        self.assertAgree("web")
        self.add("web", "8082:82", persistent=False)
        self.bus.vm(path, "Resume")
        self.assertEqual(lab.wait_answer(8082), "hello from web")
        self.remove("web", "8082")
        self.bus.wait(lambda: not self.bus.get(path, "NetworkError"), "passt to be back")
        self.assertRight("web")

    def test_reset(self):
        self.check_boots_again("web", lambda: self.bus.vm(self.path("web"), "Reset"))

    def test_reboot(self):
        self.check_boots_again("web", lambda: self.bus.manager("RebootVM", "(s)", "web"))

    # Save and restore

    def check_saved(self):
        self.wait_state("web", "saved")
        self.assertEqual(set(self.forward_states("web").values()), {"inactive"})
        self.assertEqual(set(self.forward_states("web")), set(managed.stored_specs("web")))
        self.assertEqual(self.network("web"), "managed")
        self.assertNothingLeft()

    def check_restored(self):
        self.assertIn("restored", lab.virsh("domstate", "--reason", "web"))
        self.assertRight("web")

    def test_save_and_start(self):
        self.add("web", "8082:82", persistent=False)
        self.bus.vm(self.path("web"), "Save")
        self.check_saved()
        begin = time.monotonic()
        self.start("web")
        lab.wait_answer(8080)
        lab.comment(f"the guest answered {time.monotonic() - begin:.2f} s after the start")
        self.check_restored()
        lab.comment("a forward for this run only is " +
                    self.forward_states("web").get("127.0.0.1:8082:82/tcp", "gone"))

    def test_a_saved_one_whose_port_a_process_has_stays_saved(self):
        self.bus.vm(self.path("web"), "Save")
        with socket.create_server(("127.0.0.1", 8080)):
            self.assertFails("PortInUse", self.start, "web", says=f"process {os.getpid()}")
        self.check_saved()

    def test_forwards_changed_while_it_is_saved(self):
        """They are those of the stored definition, as it is when it starts."""
        self.add("web", "8083:83")
        self.remove("web", "8080")
        self.start("web")
        self.assertEqual(lab.wait_answer(8083), "hello from web")
        self.assertTrue(lab.is_refused(8080))
        self.assertAgree("web")
        self.remove("web", "8083")
        self.add("web", "8080:80")
        type(self).stored = lab.virsh("dumpxml", "--inactive", "web")
        self.check_restored()

    def test_saved_by_virsh_and_started_by_uservm(self):
        lab.virsh("managedsave", "web")
        self.check_saved()
        self.start("web")
        self.check_restored()

    def test_a_NIC_that_is_not_stored_any_more(self):
        """QEMU comes back with it, and waits for its passt."""
        self.bus.vm(self.path("web"), "Save")
        domain = lab.definition("web")
        domain.find("./devices/interface/mac").set("address", "52:54:00:00:00:99")
        lab.define(domain)
        self.start("web")
        self.assertIn("restored", lab.virsh("domstate", "--reason", "web"))
        self.assertEqual(self.state("web"), "running")
        self.power_off("web")
        lab.define(ElementTree.fromstring(self.stored))
        self.start("web")
        self.assertRight("web")

    def leave_rest_of_save(self):
        """Both daemons have died over it. It is nothing that the VM could go on from."""
        lab.systemctl("stop", UNIT)
        (libvirtd,) = lab.processes("libvirtd")
        lab.kill(libvirtd)
        os.makedirs(SAVES, exist_ok=True)
        with open(f"{SAVES}/web.save", "xb") as file:
            file.write(b"LibvirtQemudPart".ljust(4096, b"\0"))

    def test_the_rest_of_a_save(self):
        self.leave_rest_of_save()
        self.assertRight("web")
        self.assertFalse(os.path.exists(f"{SAVES}/web.save"))
        self.power_off("web")
        self.assertEqual(self.state("web"), "shutoff")
        self.start("web")
        self.assertRight("web")

    def test_the_rest_of_a_save_of_a_VM_that_is_off(self):
        self.power_off("web")
        self.leave_rest_of_save()
        self.assertEqual(self.state("web"), "shutoff")
        self.assertFalse(os.path.exists(f"{SAVES}/web.save"))
        self.start("web")
        self.assertRight("web")

    def test_a_saved_state_whose_file_is_gone(self):
        self.bus.vm(self.path("web"), "Save")
        os.unlink(f"{SAVES}/web.save")
        self.start("web")
        self.assertRight("web")
        self.bus.vm(self.path("web"), "Save")  # libvirt takes the one that is gone for there until
        self.start("web")                      # another one has been used
        self.assertRight("web")

    # The end, and who begins

    def test_destroyed_by_virsh(self):
        path = self.path("web")
        lab.virsh("destroy", "web")
        self.wait_state("web", "shutoff")
        self.assertNothingLeft()
        self.assertEqual(set(self.forward_states("web").values()), {"inactive"})
        self.assertEqual(self.bus.get(path, "NetworkError"), "")

    def test_started_by_virsh_it_has_the_same_forwards(self):
        lab.virsh("start", "web")
        self.wait_state("web", "running")
        self.assertEqual(managed.passt_files(), [])
        self.assertRight("web", "native")

    def test_and_back(self):
        self.power_off("web")
        self.start("web")
        self.assertRight("web")

    def test_shut_down_by_the_guest(self):
        self.bus.manager("ShutdownVM", "(s)", "web")
        self.wait_state("web", "shutoff")
        self.assertNothingLeft()

    def test_saved_while_native(self):
        """uservm starts it with the network that it was saved with."""
        lab.virsh("start", "web")
        self.wait_state("web", "running")
        lab.wait_answer(8080)
        self.bus.vm(self.path("web"), "Save")
        self.assertNothingLeft()
        self.start("web")
        self.assertIn("restored", lab.virsh("domstate", "--reason", "web"))
        self.assertRight("web", "native")
        self.power_off("web")
        self.assertNothingLeft()


class Suspended(lab.Story):
    def test_a_guest_that_suspended_itself(self):
        path = self.create(name="tired", cmdline=f'{lab.CMDLINE} rdinit=/bin/busybox -- sh -c '
                           '"busybox mount -t sysfs sysfs /sys; echo mem >/sys/power/state; '
                           'while busybox sleep 1; do echo awake; done"')
        self.bus.wait(lambda: self.state("tired") == "paused", "the guest to suspend itself",
                      1000 * lab.BOOT_TIMEOUT_SEC)
        self.bus.vm(path, "Resume")
        self.wait_state("tired", "running")
        lab.wait_console("tired", "awake")


if __name__ == "__main__":
    tap.main()
