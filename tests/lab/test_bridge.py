# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM of another tool has its network from a bridge, which libvirt connects it to by way of a
set-user-ID program. It starts from uservm, and from the session daemon that uservm has started: the
unit has no sandbox that would keep such programs from working."""

import os
import xml.etree.ElementTree as ElementTree

import lab  # first: it says where the others are
import tap
from lab import stories_in_order as load_tests

# What in the unit implies it, see systemd.exec(5); one will do to show that it would matter.
DROP_IN = os.path.expanduser("~/.config/systemd/user/uservmd.service.d/sandbox.conf")
UNIT = "uservmd.service"


class Bridge(lab.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        path = cls.bus.create(**lab.guest(name="web", start=False))
        domain = lab.definition("web")
        cls.bus.vm(path, "Delete", "(a{sv})", {})
        devices = domain.find("devices")
        devices.remove(devices.find("interface"))
        devices.append(ElementTree.fromstring(
            "<interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface>"))
        cls.bus.take_signals()
        lab.define(domain)
        cls.bus.wait_signal("InterfacesAdded")

    def restart(self):
        """With a session daemon of libvirt's that it starts itself."""
        lab.systemctl("daemon-reload")
        lab.systemctl("stop", UNIT)
        for pid in lab.processes("libvirtd") + lab.processes("virtqemud"):
            lab.kill(pid)
        self.bus.wait(lambda: not self.bus.owner, "uservmd to leave the bus")

    def test_it_starts(self):
        self.bus.manager("StartVM", "(s)", "web")
        self.assertEqual(self.state("web"), "running")
        self.assertIn("master br0", lab.run("ip", "link", "show", "type", "tun"))
        self.bus.manager("PowerOffVM", "(s)", "web")

    def test_with_a_sandbox_it_would_not(self):
        os.makedirs(os.path.dirname(DROP_IN))
        with open(DROP_IN, "x", encoding="utf-8") as file:
            file.write("[Service]\nNoNewPrivileges=yes\n")
        self.restart()
        self.assertFails("LibvirtFailed", self.bus.manager, "StartVM", "(s)", "web", says="bridge")
        # nor for virsh
        self.assertIn("error", lab.run("sh", "-c", "virsh -c qemu:///session start web 2>&1",
                                       check=False))
        os.unlink(DROP_IN)
        self.restart()
        self.bus.manager("StartVM", "(s)", "web")
        self.delete("web", force=True)


if __name__ == "__main__":
    tap.main()
