# SPDX-License-Identifier: LGPL-2.1-or-later
"""What other tools do to a VM with managed networking: it works, or it fails and leaves nothing."""

import os
import socket
import subprocess
import time
import xml.etree.ElementTree as ElementTree

import lab  # first: it says where the others are
import client
import managed
import tap
from lab import stories_in_order as load_tests

UNIT = "uservmd.service"
TOOL_TIMEOUT_SEC = 20  # what virsh does is done, or has failed, by then
KILLS = 8
LATEST_KILL_SEC = 0.7  # after virsh was started; QEMU runs by then


class Virsh:
    """One that runs, and may wait for something."""

    def __init__(self, *arguments):
        self.what = f"virsh {' '.join(arguments)}"
        self.process = subprocess.Popen(
            ["virsh", "--quiet", "--connect", "qemu:///session", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def result(self):
        """What it printed, and whether it succeeded; a failure if it hangs."""
        try:
            text = self.process.communicate(timeout=TOOL_TIMEOUT_SEC)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"{self.what} hangs") from None
        return text.strip(), self.process.returncode == 0


class Tools(managed.Story):
    """Each test begins and ends with the VM running."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.disk = os.path.expanduser("~/disk.qcow2")
        lab.run("qemu-img", "create", "-q", "-f", "qcow2", cls.disk, "64M")
        cls.bus.create(**lab.guest(name="web", disk=cls.disk, start=False,
                                   forwards=["8080:80", "7007:7"]))

    def setUp(self):
        """After a failure, from the beginning."""
        super().setUp()
        lab.systemctl("start", UNIT)
        if not lab.answers(8080):
            lab.virsh("destroy", "web", check=False)
            lab.until(lambda: not lab.processes("qemu"), "the VM to be off")
            self.bus.wait(lambda: self.state("web") in ("shutoff", "saved"), "the same")
            lab.virsh("managedsave-remove", "web")
            self.start("web")
        self.assertRight("web")
        self.wait_ready("web")  # uservmd's own attempts, too, are over

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", 7007), lab.BOOT_TIMEOUT_SEC)
        self.addCleanup(connection.close)
        self.assertTrue(lab.echoes(connection))
        return connection

    def assertWorks(self, virsh):
        """It is done in time, and then the VM runs, with its network."""
        text, done = virsh.result()
        self.assertTrue(done, text)
        self.wait_state("web", "running")
        self.assertRight("web")

    def save(self):
        lab.virsh("managedsave", "web")
        self.wait_state("web", "saved")
        self.assertNothingLeft()

    # The guest stays. A connection that is quiet goes on; one whose client sends something while
    # the guest stands still does not, with this passt.

    def test_suspend_and_resume(self):
        connection = self.connect()
        managed.fall_silent()
        lab.virsh("suspend", "web")
        self.wait_state("web", "paused")
        self.assertAgree("web")
        lab.virsh("resume", "web")
        self.wait_state("web", "running")
        self.assertAgree("web")
        self.assertTrue(lab.echoes(connection))
        self.assertRight("web")

    def test_reset(self):
        self.check_boots_again("web", lambda: lab.virsh("reset", "web"))

    def test_reboot(self):
        self.check_boots_again("web", lambda: lab.virsh("reboot", "web"))

    # Save and restore. The QEMU that virsh starts waits for a passt, which uservmd starts when it
    # sees that.

    def test_managedsave_and_start(self):
        self.add("web", "8082:82", persistent=False)
        self.save()
        self.assertWorks(Virsh("start", "web"))
        self.assertIn("restored", lab.virsh("domstate", "--reason", "web"))

    def test_at_once(self):
        """Before uservmd has seen that it was saved, perhaps. What was for that run is gone."""
        for _ in range(3):
            self.add("web", "8082:82", persistent=False)
            lab.virsh("managedsave", "web")
            self.assertWorks(Virsh("start", "web"))

    def test_save_and_restore(self):
        file = os.path.expanduser("~/web.save")
        lab.virsh("save", "web", file)
        self.wait_state("web", "shutoff")
        self.assertNothingLeft()
        self.assertWorks(Virsh("restore", file))

    def test_restored_as_paused(self):
        self.save()
        lab.virsh("start", "web", "--paused")
        self.wait_state("web", "paused")
        self.assertAgree("web")
        lab.virsh("resume", "web")
        self.wait_state("web", "running")
        self.assertRight("web")

    def test_the_saved_state_is_removed(self):
        self.save()
        lab.virsh("managedsave-remove", "web")
        self.wait_state("web", "shutoff")
        self.start("web")

    def test_a_port_that_was_taken_meanwhile(self):
        """virsh knows nothing of ports; so the VM runs without it, and it can be had later."""
        self.save()
        with socket.create_server(("127.0.0.1", 8080)):
            lab.virsh("start", "web")
            self.wait_state("web", "running")
            failed, other = self.forwards("web")
            self.assertEqual((failed["state"], other["state"]), ("failed", "active"))
            self.assertIn(f"process {os.getpid()}", failed["error"])
            self.assertTrue(managed.is_echoed(7007))
        self.assertEqual(self.add("web", "8080:80")["state"], "active")
        self.assertRight("web")

    # While there is no uservmd

    def start_and_wait(self):
        """virsh start, which waits for the passt of a uservmd that is not there."""
        self.save()
        lab.systemctl("stop", UNIT)
        virsh = Virsh("start", "web")
        lab.until(lambda: "starting up" in lab.virsh("domstate", "--reason", "web"), "the start")
        self.assertIsNone(virsh.process.poll())
        return virsh

    def test_a_start_that_waits_is_given_up(self):
        virsh = self.start_and_wait()
        lab.virsh("destroy", "web")
        text, done = virsh.result()
        self.assertFalse(done, text)
        self.assertEqual(self.state("web"), "saved")
        self.assertNothingLeft()
        self.start("web")

    def test_a_start_goes_on_when_uservmd_comes(self):
        virsh = self.start_and_wait()
        self.assertIn(self.state("web"), ("starting", "running"))
        self.assertWorks(virsh)

    def test_saved_and_started(self):
        """By the passt that was not ended, and listens no more."""
        lab.systemctl("stop", UNIT)
        lab.virsh("managedsave", "web")
        self.assertTrue(lab.is_refused(8080))
        self.assertWorks(Virsh("start", "web"))

    def test_snapshot(self):
        connection = self.connect()
        lab.systemctl("stop", UNIT)
        managed.fall_silent()
        lab.virsh("snapshot-create-as", "web", "unseen")
        self.assertTrue(lab.is_refused(8080))
        self.assertAgree("web")
        self.assertTrue(lab.echoes(connection))
        self.assertRight("web")

    def test_systemd_starts_it_when_it_is_needed(self):
        self.save()
        lab.systemctl("stop", UNIT)
        self.assertIn("uservmd.path", lab.systemctl("show", "--property=Wants", "paths.target"))
        lab.systemctl("start", "uservmd.path")
        self.addCleanup(lab.systemctl, "stop", "uservmd.path")
        text, done = Virsh("start", "web").result()
        self.assertTrue(done, text)
        self.assertRight("web")

    def test_uservmd_is_killed_while_virsh_starts_it(self):
        for i in range(KILLS):
            self.save()
            pid = self.uservmd()
            virsh = Virsh("start", "web")
            time.sleep(LATEST_KILL_SEC * i / KILLS)
            lab.kill(pid)
            self.wait_another_uservmd(pid)
            self.assertWorks(virsh)

    def test_destroyed_while_uservmd_starts_its_passt(self):
        for i in range(KILLS):
            self.save()
            virsh = Virsh("start", "web")
            lab.until(lambda: lab.processes("qemu"), "QEMU")
            time.sleep(LATEST_KILL_SEC * i / KILLS)
            text, done = Virsh("destroy", "web").result()
            self.assertTrue(done or "domain is not running" in text, text)  # as its start failed first
            virsh.result()
            with self.assertRaises(client.Error):  # after all that is being done to the VM
                self.bus.vm(self.path("web"), "Pause")
            self.assertIn(self.state("web"), ("saved", "shutoff"))
            self.assertNothingLeft()
            self.start("web")
            self.assertRight("web")

    # Snapshots. While one with memory is made passt closes its listening sockets, as if the guest
    # had moved to another host, and keeps what is established.

    def check_snapshot(self, *arguments):
        connection, passt = self.connect(), managed.the_passt()
        self.add("web", "7009:7/udp", persistent=False)
        self.assertTrue(lab.echoes_datagram(7009))
        managed.fall_silent()
        lab.virsh("snapshot-create-as", "web", *arguments)
        self.bus.wait(lambda: self.state("web") == "running", "it to run")
        lab.wait_answer(8080, timeout_sec=TOOL_TIMEOUT_SEC)
        self.assertTrue(lab.echoes(connection), "the established connection")
        self.assertTrue(lab.echoes_datagram(7009))
        self.assertRight("web")
        self.assertEqual(managed.the_passt(), passt)
        self.remove("web", "7009/udp")

    def test_snapshot_with_memory(self):
        self.check_snapshot("internal")

    def test_back_to_it_while_the_vm_runs(self):
        """And to its forwards."""
        self.add("web", "8082:82", persistent=False)
        self.add("web", "8083:83")
        self.remove("web", "8080")
        self.assertWorks(Virsh("snapshot-revert", "web", "internal"))

    def test_back_to_it_while_the_vm_is_off(self):
        self.power_off("web")
        self.add("web", "8083:83")
        self.remove("web", "8080")
        self.assertWorks(Virsh("snapshot-revert", "web", "internal"))

    def test_back_to_it_before_uservmd_comes(self):
        """By then libvirt does not tell what the VM is like until QEMU has its passt."""
        self.power_off("web")
        self.add("web", "8083:83")
        lab.systemctl("stop", UNIT)
        virsh = Virsh("snapshot-revert", "web", "internal")
        lab.until(lambda: "starting up" in lab.virsh("domstate", "--reason", "web"), "the start")
        time.sleep(1)  # QEMU has tried and goes on trying
        self.assertIsNone(virsh.process.poll())
        self.assertIn(self.state("web"), ("starting", "running"))
        self.assertWorks(virsh)

    def test_snapshot_with_memory_in_a_file(self):
        self.check_snapshot("external", "--memspec", os.path.expanduser("~/memory"))

    def test_back_to_that(self):
        self.assertWorks(Virsh("snapshot-revert", "web", "external"))

    def test_snapshot_while_it_runs(self):
        self.check_snapshot("live", "--no-metadata", "--live",
                            "--memspec", os.path.expanduser("~/live"))

    def test_snapshot_while_it_is_paused(self):
        """Of which libvirt sends no event."""
        lab.virsh("suspend", "web")
        self.wait_state("web", "paused")
        lab.virsh("snapshot-create-as", "web", "paused")
        lab.until(lambda: managed.listening() == managed.host_sides(self.forwards("web")),
                  "the forwards to listen", TOOL_TIMEOUT_SEC)
        self.assertAgree("web")
        lab.virsh("resume", "web")
        self.wait_state("web", "running")
        self.assertRight("web")

    def test_a_port_that_is_taken_while_it_is_made(self):
        lab.systemctl("stop", UNIT)
        lab.virsh("snapshot-create-as", "web", "unseen-too")
        with socket.create_server(("127.0.0.1", 8080)):
            failed, other = self.forwards("web")
            self.assertEqual((failed["state"], other["state"]), ("failed", "active"))
            self.assertIn(f"process {os.getpid()}", failed["error"])
            self.assertTrue(managed.is_echoed(7007))
        self.assertEqual(self.add("web", "8080:80")["state"], "active")
        self.assertRight("web")

    def test_snapshot_of_the_disk(self):
        connection = self.connect()
        managed.fall_silent()
        lab.virsh("snapshot-create-as", "web", "disk", "--disk-only", "--no-metadata")
        self.assertTrue(lab.echoes(connection))
        self.assertRight("web")

    # Changes

    def test_a_memory_dump(self):
        connection = self.connect()
        managed.fall_silent()
        lab.virsh("dump", "web", os.path.expanduser("~/dump"), "--memory-only", "--live")
        self.assertTrue(lab.echoes(connection))
        self.assertRight("web")

    def rename(self, name, new_name):
        lab.virsh("domrename", name, new_name)
        self.bus.wait(lambda: self.states() == {new_name: "shutoff"}, "the new name")

    def test_another_name(self):
        """Of a VM that is off; its passt's files do not depend on it."""
        self.power_off("web")
        self.rename("web", "renamed")
        self.start("renamed")
        self.assertRight("renamed")
        self.power_off("renamed")
        self.rename("renamed", "web")

    def test_a_forward_that_virsh_stores(self):
        """It is pending, and uservm makes it live if it is asked to, or when it starts anew."""
        domain = lab.definition("web")
        nic = domain.find("./devices/interface")
        for port in "8085", "8086":
            rule = ElementTree.SubElement(nic, "portForward",
                                          {"proto": "tcp", "address": "127.0.0.1"})
            ElementTree.SubElement(rule, "range", {"start": port, "to": "85"})
        lab.define(domain)
        self.bus.wait(lambda: "127.0.0.1:8086:85/tcp" in self.forward_states("web"),
                      "the forward to be listed")
        states = self.forward_states("web")
        self.assertEqual({states[f"127.0.0.1:{port}:85/tcp"] for port in (8085, 8086)},
                         {"pending"})
        self.assertEqual(self.add("web", "8085:85")["state"], "active")
        self.assertEqual(lab.fetch(8085), "hello from web")
        lab.systemctl("restart", "uservmd.service")
        self.assertEqual(self.forward_states("web")["127.0.0.1:8086:85/tcp"], "active")
        self.assertEqual(lab.fetch(8086), "hello from web")
        self.assertRight("web")

    def test_deleted_by_virsh(self):
        path = self.path("web")
        lab.virsh("undefine", "web", "--snapshots-metadata", "--nvram")
        self.bus.wait(lambda: not [f for f in self.forwards("web") if f["persistent"]],
                      "the forwards not to be persistent")
        self.assertEqual(self.network("web"), "managed")
        self.assertEqual(lab.fetch(8080), "hello from web")
        lab.virsh("destroy", "web")
        self.bus.wait_signal("InterfacesRemoved", lambda signal: signal.arguments[0] == path)
        self.assertNothingLeft()


if __name__ == "__main__":
    tap.main()
