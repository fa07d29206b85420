# SPDX-License-Identifier: LGPL-2.1-or-later
"""What only a real VM shows of disks, memory and jobs: a disk that grows while the guest runs, a
save that is cancelled, an image that is only read."""

import hashlib
import json
import os
import signal
import time

import lab  # first: it says where the others are
import client
import tap
from lab import stories_in_order as load_tests

MIB = 1 << 20
IMAGES = os.path.expanduser("~/.local/share/libvirt/images")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def virtual_size(path):
    return json.loads(lab.run("qemu-img", "info", "-U", "--output=json", path))["virtual-size"]


class Disks(lab.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.image = os.path.expanduser("~/base.qcow2")
        lab.run("qemu-img", "create", "-q", "-f", "qcow2", cls.image, "10G")
        cls.digest = digest(cls.image)

    def test_a_VM_on_an_image(self):
        self.create(name="web", image=self.image, memory="512M", forwards=["8080:80"])
        self.wait_ready("web")
        self.assertEqual(self.bus.vm(self.path("web"), "ListDisks")[0]["size"], 10 << 30)

    def test_the_image_is_a_disk_of_nobody_else(self):
        self.assertFails("ImageUnusable", lambda: self.create(name="other", disk=self.image,
                                                              start=False), says="'web'")
        self.assertFails("ImageUnusable",
                         lambda: self.create(name="other", disk=f"{IMAGES}/web.qcow2",
                                             start=False), says="in use")

    def test_the_size_of_an_image_costs_no_time(self):
        """No bound on seconds: twice, in turn, beside one of a thousandth of its size."""
        small = os.path.expanduser("~/small.qcow2")
        lab.run("qemu-img", "create", "-q", "-f", "qcow2", small, "10M")
        spent = {self.image: 0, small: 0}
        for _ in range(5):
            for image in spent:
                begin = time.monotonic()
                self.create(name="timed", image=image, kernel=lab.KERNEL, start=False)
                spent[image] += time.monotonic() - begin
                self.delete("timed")
        lab.comment(f"10 GiB: {spent[self.image]:.3f} s, 10 MiB: {spent[small]:.3f} s, five each")
        for image in spent:
            self.assertLess(os.stat(image).st_blocks * 512, MIB)

    def test_a_disk_grows_while_the_guest_runs(self):
        path = self.path("web")
        self.bus.vm(path, "ResizeDisk", "(st)", "vda", 11 << 30)
        self.assertIn(str(11 << 30), lab.virsh("domblkinfo", "web", "vda"))
        self.assertEqual(virtual_size(f"{IMAGES}/web.qcow2"), 11 << 30)
        self.assertFails_args(lambda: self.bus.vm(path, "ResizeDisk", "(st)", "vda", 5 << 30))

    def assertFails_args(self, function):
        with self.assertRaises(client.Error) as caught:
            function()
        self.assertEqual(caught.exception.name, client.INVALID_ARGS)

    def test_memory_of_a_running_VM(self):
        path = self.path("web")
        self.assertEqual(self.bus.get(path, "LiveMemory"), 512 * MIB)
        self.bus.vm(path, "SetMemory", "(t)", 768 * MIB)
        self.assertEqual((self.bus.get(path, "Memory"), self.bus.get(path, "LiveMemory")),
                         (768 * MIB, 512 * MIB))
        self.bus.vm(path, "SetVCPUs", "(u)", 3)
        self.assertEqual((self.bus.get(path, "VCPUs"), self.bus.get(path, "LiveVCPUs")), (3, 1))
        self.assertTrue(lab.fetch(8080))

    def test_a_save_is_a_job_that_can_be_cancelled(self):
        path = self.path("web")
        self.bus.take_signals()
        save = self.bus.send(path, client.VM, "Save")
        job = self.bus.wait_signal(
            "InterfacesAdded", lambda signal: client.JOB in signal.arguments[1]).arguments[0]
        self.assertEqual(self.bus.get(job, "Operation", client.JOB), "save")
        self.bus.call(job, client.JOB, "Cancel")
        self.assertFails("Cancelled", save.result)
        self.assertEqual(self.state("web"), "running")
        self.wait_ready("web")
        self.assertEqual(lab.wait_answer(8080), "hello from web")

    def test_a_save(self):
        self.bus.vm(self.path("web"), "Save")
        self.assertEqual(self.state("web"), "saved")
        self.assertFalse(self.bus.get(self.path("web"), "Ready"))
        self.bus.manager("StartVM", "(s)", "web")
        self.wait_ready("web")

    def test_after_the_next_start_it_has_what_is_stored(self):
        path = self.path("web")
        self.bus.manager("PowerOffVM", "(s)", "web")
        self.bus.manager("StartVM", "(s)", "web")
        self.assertEqual((self.bus.get(path, "LiveMemory"), self.bus.get(path, "LiveVCPUs")),
                         (768 * MIB, 3))
        self.bus.manager("PowerOffVM", "(s)", "web")
        self.bus.vm(path, "SetVCPUs", "(u)", 1)  # with which it boots without fail

    def test_a_disk_grows_while_the_VM_is_off(self):
        self.bus.vm(self.path("web"), "ResizeDisk", "(st)", "vda", 12 << 30)
        self.assertEqual(virtual_size(f"{IMAGES}/web.qcow2"), 12 << 30)

    def test_a_new_name_keeps_autostart(self):
        path = self.path("web")
        self.bus.set(path, "Autostart", True)
        self.bus.vm(path, "Rename", "(s)", "site")
        self.assertTrue(self.bus.get(path, "Autostart"))
        self.assertEqual(lab.systemctl("is-enabled", "uservm@site.service").strip(), "enabled")
        self.assertIn("disabled", lab.systemctl("is-enabled", "uservm@web.service", check=False))
        self.bus.manager("StartVM", "(s)", "site")

    def test_a_copy_shows_its_progress_and_leaves_nothing_when_it_is_cancelled(self):
        big = os.path.expanduser("~/big.raw")
        with open(big, "wb") as file:
            for _ in range(400):
                file.write(os.urandom(MIB))
        self.bus.take_signals()
        create = self.bus.send(client.ROOT, client.MANAGER, "CreateVM", "(a{sv})",
                               client.dictionary({"name": "copied", "image": big, "copy": True,
                                                  "start": False}))
        job = self.bus.wait_signal(
            "InterfacesAdded", lambda signal: client.JOB in signal.arguments[1]).arguments[0]
        self.bus.wait_signal("PropertiesChanged", lambda signal: signal.path == job
                             and signal.arguments[1].get("Progress", 0) > 0)
        self.assertGreater(self.bus.get(job, "Rate", client.JOB), 0)
        begin = time.monotonic()
        self.bus.call(job, client.JOB, "Cancel")
        self.assertFails("Cancelled", create.result)
        lab.comment(f"cancelled within {1000 * (time.monotonic() - begin):.0f} ms")
        self.assertEqual([name for name in os.listdir(IMAGES) if "copied" in name], [])
        self.assertEqual(lab.processes("qemu-img"), [])

    def test_the_end(self):
        result = self.delete("site", force=True)
        self.assertEqual(result["removed"], [f"{IMAGES}/web.qcow2"])
        self.assertEqual(result["left"], [self.image])
        self.assertEqual(digest(self.image), self.digest)
        self.assertEqual(os.listdir(IMAGES), [])


class Clones(lab.Story):
    """Tools that clone a VM copy its disks, but not what is only read, and carry over what uservm has
    noted about its files."""

    def test_a_clone(self):
        self.create(name="web", disk_size="1M", password="secret", start=False,
                    forwards=["8080:80"])
        domain = lab.definition("web")
        domain.find("name").text = "clone"
        domain.remove(domain.find("uuid"))
        nic = domain.find("./devices/interface")
        nic.remove(nic.find("mac"))
        domain.find("./devices/disk/source").set("file", f"{IMAGES}/copy.qcow2")
        type(self).clone = domain
        self.define_clone()

    def define_clone(self):
        lab.run("cp", f"{IMAGES}/web.qcow2", f"{IMAGES}/copy.qcow2")
        lab.define(self.clone)
        lab.until(lambda: "clone" in self.states(), "the clone to be listed")

    def test_two_that_want_one_port_are_started(self):
        web, clone = (self.bus.send(client.ROOT, client.MANAGER, "StartVM", "(s)", name)
                      for name in ("web", "clone"))
        web.result()
        self.assertFails("PortInUse", clone.result, says="'web'")
        self.bus.manager("PowerOffVM", "(s)", "web")

    def test_to_delete_the_clone_leaves_the_VM_its_files(self):
        result = self.delete("clone")
        self.assertEqual(result["removed"], [])
        self.assertEqual(set(result["left"]),
                         {f"{IMAGES}/copy.qcow2", f"{IMAGES}/web.seed.iso"})
        self.assertTrue(os.path.exists(f"{IMAGES}/web.qcow2"))
        self.define_clone()

    def test_started_by_virsh_while_it_is_to_be_deleted(self):
        uservmd = lab.main_pid("uservmd.service")
        os.kill(uservmd, signal.SIGSTOP)
        deletion = self.bus.send(client.ROOT, client.MANAGER, "DeleteVM", "(sa{sv})", "web", {})
        self.bus.connection.flush_sync()
        lab.virsh("start", "web")
        os.kill(uservmd, signal.SIGCONT)
        self.assertFails("Busy", deletion.result, says="running")
        self.assertIn("running", lab.virsh("domstate", "web"))
        self.assertTrue(os.path.exists(f"{IMAGES}/web.qcow2"))

    def test_to_delete_the_VM_leaves_the_clone_what_it_needs(self):
        result = self.delete("web", force=True)
        self.assertEqual(result, {"removed": [f"{IMAGES}/web.qcow2"],
                                  "left": [f"{IMAGES}/web.seed.iso"]})
        self.bus.manager("StartVM", "(s)", "clone")
        result = self.delete("clone", force=True)
        self.assertEqual(result["removed"], [])
        for path in result["left"]:
            os.unlink(path)


class Others(lab.Story):
    """What other tools have made of files and names of ours."""

    def define_like(self, name, other, disk):
        """Another VM like this one, with this disk."""
        domain = lab.definition(name)
        domain.find("name").text = other
        for tag in "uuid", "metadata":
            domain.remove(domain.find(tag))
        nic = domain.find("./devices/interface")
        nic.remove(nic.find("mac"))
        domain.find("./devices/disk/source").set("file", disk)
        lab.define(domain)
        lab.until(lambda: other in self.states(), f"VM {other} to be listed")

    def test_an_image_that_another_disk_is_based_on(self):
        self.create(name="base", disk_size="1M", start=False)
        image, overlays = f"{IMAGES}/base.qcow2", [os.path.expanduser(f"~/{i}.qcow2") for i in "12"]
        for below, overlay in (image, overlays[0]), (overlays[0], overlays[1]):
            lab.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below, overlay)
        self.define_like("base", "other", overlays[1])
        self.assertEqual(self.delete("base"), {"removed": [], "left": [image]})
        self.assertEqual(self.delete("other"), {"removed": [], "left": [overlays[1]]})
        os.unlink(image)

    def test_a_disk_by_another_path(self):
        self.create(name="web", disk_size="1M", start=False)
        os.symlink(IMAGES, os.path.expanduser("~/link"))
        self.define_like("web", "other", os.path.expanduser("~/link/web.qcow2"))
        self.assertEqual(self.delete("web"), {"removed": [], "left": [f"{IMAGES}/web.qcow2"]})
        self.delete("other")
        os.unlink(f"{IMAGES}/web.qcow2")

    def test_a_snapshot_is_what_grows(self):
        self.create(name="web", disk_size="1M", start=False)
        lab.virsh("snapshot-create-as", "web", "--disk-only", "--no-metadata", "--diskspec",
                  f"vda,file={IMAGES}/snapshot.qcow2")
        self.bus.vm(self.path("web"), "ResizeDisk", "(st)", "vda", 2 * MIB)
        self.assertEqual((virtual_size(f"{IMAGES}/web.qcow2"),
                          virtual_size(f"{IMAGES}/snapshot.qcow2")), (MIB, 2 * MIB))
        self.delete("web")
        os.unlink(f"{IMAGES}/snapshot.qcow2")

    def test_UEFI_variables_of_one_that_was_renamed(self):
        self.bus.create(name="old", disk_size="1M", firmware="uefi", memory="256M")
        self.bus.manager("PowerOffVM", "(s)", "old")
        self.bus.vm(self.path("old"), "Rename", "(s)", "new")
        old = {"name": "old", "cdrom": __file__, "start": False}
        self.assertFails("ImageUnusable", lambda: self.bus.create(**old, firmware="uefi"),
                         says="'new'")
        self.bus.create(**old)
        self.delete("new")
        self.delete("old")

    def test_an_autostart_that_was_left(self):
        lab.systemctl("enable", "uservm@web.service", "uservm@site.service")
        self.create(name="web", disk_size="1M", start=False)
        self.bus.vm(self.path("web"), "Rename", "(s)", "site")
        self.assertFalse(self.bus.get(self.path("site"), "Autostart"))
        for name in "web", "site":
            self.assertIn("disabled", lab.systemctl("is-enabled", f"uservm@{name}.service",
                                                    check=False))
        self.delete("site")
        self.assertEqual(os.listdir(IMAGES), [])


if __name__ == "__main__":
    tap.main()
