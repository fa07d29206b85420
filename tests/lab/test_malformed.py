# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that are wrong, and calls that fail late, while a VM runs: each gets its error, and nothing
is left behind. The errors' words are the bus tests' business."""

import os

import lab  # first: it says where the others are
import client
import malformed
import tap
from lab import stories_in_order as load_tests


def files(folder, *ignored):
    """All files below the folder, and when they were changed last."""
    found = {}
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if os.path.join(path, name) not in ignored]
        for name in names:
            found[f"{path}/{name}"] = os.lstat(f"{path}/{name}").st_mtime_ns
    return found


def user_processes():
    """All but the one that lists them."""
    rows = [row.split() for row in lab.run("ps", "-u", str(os.getuid()), "-o", "pid=,ppid=,comm=")
            .splitlines()]
    return {(pid, comm) for pid, parent, comm in rows if int(parent) != os.getpid()}


class Malformed(lab.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bus.create(**lab.guest(name="web", disk_size="64M", forwards=["8080:80"]))
        cls.world = malformed.World("web")
        cls.addClassCleanup(cls.world.close)
        lab.Story.wait_ready(cls, "web")
        cls.before = cls.everything(cls)
        cls.bus.take_signals()

    def everything(self):
        """What there is, by what has it. In ~/.cache are libvirt's logs, which are to stay."""
        home, runtime = os.path.expanduser("~"), os.environ["XDG_RUNTIME_DIR"]
        return {
            "VMs": self.bus.manager("ListVMs"),
            "objects": client.lasting(self.bus.managed_objects()),
            "domains": lab.virsh("list", "--all", "--uuid"),
            "definition": lab.canonical(lab.definition("web")),
            "live definition": lab.canonical(lab.definition("web", live=True)),
            "files at home": files(home, f"{home}/.cache"),
            "files of the session": files(runtime, f"{runtime}/systemd"),
            "temporary files": files("/tmp"),
            "processes": user_processes(),
            "sockets": {tuple(row.split()[:1] + row.split()[4:6])
                        for row in lab.run("ss", "-Hltunx").splitlines()},
        }

    def check_nothing_changed(self):
        now = self.everything()
        for what, before in self.before.items():
            with self.subTest(what):
                self.assertEqual(now[what], before)
        self.assertEqual(client.without_last_error(self.bus.take_signals()), [])

    def failure(self, call):
        """The name of the error that the call gets."""
        try:
            self.world.run(self.bus, call)
        except client.Error as error:
            return error.name
        except client.GLib.Error as error:  # no reply
            return error.message
        return "none"

    def test_every_malformed_call_fails(self):
        lab.comment(f"{len(malformed.CALLS)} calls")
        failures = [(call.description, call.error, self.failure(call))
                    for call in malformed.CALLS]
        self.assertEqual([f for f in failures if f[1] != f[2]], [])

    def test_they_leave_nothing_behind(self):
        self.check_nothing_changed()

    def create_bad(self, **settings):
        """A VM that libvirt starts, with everything that uservm could leave behind; QEMU ends
        because the kernel is none."""
        self.create(**{"name": "bad", "kernel": self.world.words["file"], "disk_size": "64M",
                       "autostart": True, "forwards": ["8090:80", "8090:80/udp"]} | settings)

    def test_a_create_that_fails_when_qemu_runs(self):
        self.assertFails("LibvirtFailed", self.create_bad, says=["'bad'"])
        self.check_nothing_changed()

    def test_with_a_disk_that_was_there_before(self):
        """It stays."""
        path = os.path.expanduser("~/.local/share/libvirt/images/bad.qcow2")
        with open(path, "wb") as disk:
            disk.write(b"precious")
        self.assertFails("ImageUnusable", self.create_bad, says=path)
        with open(path, "rb") as disk:
            self.assertEqual(disk.read(), b"precious")
        os.unlink(path)
        self.check_nothing_changed()

    def test_a_start_that_fails(self):
        self.create_bad(start=False, autostart=False)
        self.assertFails("LibvirtFailed", self.bus.manager, "StartVM", "(s)", "bad", says="'bad'")
        self.assertEqual(self.state("bad"), "shutoff")
        self.assertEqual(set(self.forward_states("bad").values()), {"inactive"})
        self.delete("bad")
        self.bus.take_signals()
        self.check_nothing_changed()

    def test_without_kvm_kvm_is_refused(self):
        if "kvm" in self.bus.get(client.ROOT, "Features", client.MANAGER):
            self.skipTest("this machine has KVM")
        self.assertFails("NotSupported", lambda: self.create_bad(accelerator="kvm"))
        self.check_nothing_changed()

    def test_the_vm_runs_on(self):
        self.assertEqual(self.state("web"), "running")
        self.assertTrue(lab.fetch(8080))


if __name__ == "__main__":
    tap.main()
