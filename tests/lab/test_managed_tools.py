# SPDX-License-Identifier: LGPL-2.1-or-later
"""What other tools do to a VM with managed networking: it works, or it fails and leaves nothing."""

import os
import socket
import subprocess
import xml.etree.ElementTree as ElementTree

import lab  # first: it says where the others are
import managed
import tap
from lab import stories_in_order as load_tests

TOOL_TIMEOUT_SEC = 20  # what virsh does is done, or has failed, by then


def try_virsh(*arguments):
    """What virsh printed, and whether it succeeded; a failure if it hangs."""
    try:
        result = subprocess.run(["virsh", "--quiet", "--connect", "qemu:///session", *arguments],
                                stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                timeout=TOOL_TIMEOUT_SEC, check=False)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"virsh {' '.join(arguments)} hangs") from None
    return (result.stdout + result.stderr).strip(), result.returncode == 0


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
        if not lab.answers(8080):
            lab.virsh("destroy", "web", check=False)
            lab.until(lambda: not lab.processes("qemu"), "the VM to be off")
            self.bus.wait(lambda: self.state("web") in ("shutoff", "saved"), "the same")
            lab.virsh("managedsave-remove", "web")  # libvirt tells nobody of this
            self.start("web")
        self.assertRight("web")

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", 7007), lab.BOOT_TIMEOUT_SEC)
        self.addCleanup(connection.close)
        self.assertTrue(lab.echoes(connection))
        return connection

    def check_starts(self, *arguments):
        """virsh starts the VM with the network that it had, or fails, and all is as before."""
        state = self.state("web")
        text, done = try_virsh(*arguments)
        lab.comment(f"virsh {arguments[0]} {'works' if done else 'fails'}: {text}")
        if done:
            self.wait_state("web", "running")
        else:
            self.assertEqual(self.state("web"), state)
            self.assertNothingLeft()
            self.start("web")
        self.assertRight("web")

    # Save and restore

    def test_managedsave_and_start(self):
        lab.virsh("managedsave", "web")
        self.wait_state("web", "saved")
        self.assertNothingLeft()
        self.check_starts("start", "web")
        self.assertIn("restored", lab.virsh("domstate", "--reason", "web"))

    def test_save_and_restore(self):
        file = os.path.expanduser("~/web.save")
        lab.virsh("save", "web", file)
        self.wait_state("web", "shutoff")
        self.assertNothingLeft()
        self.check_starts("restore", file)

    # Snapshots. One with memory is a migration to a file, after which passt takes the guest for
    # gone.

    def test_snapshot_with_memory(self):
        connection = self.connect()
        lab.virsh("snapshot-create-as", "web", "internal")
        lab.until(lambda: lab.answers(8080), "the page", TOOL_TIMEOUT_SEC)
        self.assertTrue(lab.echoes(connection), "the established connection")
        self.assertRight("web")

    def test_back_to_it_while_the_vm_runs(self):
        text, done = try_virsh("snapshot-revert", "web", "internal")
        self.assertTrue(done, text)
        self.wait_state("web", "running")
        lab.until(lambda: lab.answers(8080), "the page", TOOL_TIMEOUT_SEC)
        self.assertRight("web")

    def test_back_to_it_while_the_vm_is_off(self):
        self.power_off("web")
        self.check_starts("snapshot-revert", "web", "internal")

    def test_snapshot_with_memory_in_a_file(self):
        connection = self.connect()
        lab.virsh("snapshot-create-as", "web", "external", "--no-metadata",
                  "--memspec", os.path.expanduser("~/memory"))
        lab.until(lambda: lab.answers(8080), "the page", TOOL_TIMEOUT_SEC)
        self.assertTrue(lab.echoes(connection), "the established connection")
        self.assertRight("web")

    def test_snapshot_of_the_disk(self):
        connection = self.connect()
        lab.virsh("snapshot-create-as", "web", "disk", "--disk-only", "--no-metadata")
        self.assertTrue(lab.echoes(connection))
        self.assertRight("web")

    # Changes

    def test_a_memory_dump(self):
        connection = self.connect()
        lab.virsh("dump", "web", os.path.expanduser("~/dump"), "--memory-only", "--live")
        self.assertTrue(lab.echoes(connection))
        self.assertRight("web")

    def test_another_name(self):
        """Of a VM that is off; its passt's files do not depend on it."""
        self.power_off("web")
        lab.virsh("domrename", "web", "renamed")
        self.wait_state("renamed", "shutoff")
        self.start("renamed")
        self.assertRight("renamed")
        self.power_off("renamed")
        lab.virsh("domrename", "renamed", "web")
        self.wait_state("web", "shutoff")

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
