# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks of new VMs, what the guest is set up with, and jobs."""

import hashlib
import json
import os
import select
import signal
import subprocess
import tempfile
import unittest.mock

import client
import daemon
import tap
from client import uint32
from daemon import domain

MIB = 1 << 20
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9J5ZEsUPOjdjzVzwTSJkGDjyCMPuLV1zCmSfb1dHpC me"

# What it says, qemu-img does; but this command waits for somebody to open a pipe for writing.
SLOW_QEMU_IMG = """#!/bin/sh
[ "$1" != %s ] || { echo "    (40.00/100%%)"; read _ <"$HOME/gate"; }
PATH=${PATH#*:} exec qemu-img "$@"
"""


def qemu_img(*arguments):
    return subprocess.run(["qemu-img", *arguments], check=True, capture_output=True,
                          text=True).stdout


def info(path):
    return json.loads(qemu_img("info", "--output=json", path))


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class Disks(daemon.Case):
    domains = [domain("old", 1)]

    def setUp(self):
        super().setUp()
        self.image = f"{self.daemon.home}/debian.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", self.image, "10G")
        os.chmod(self.image, 0o400)
        self.digest = digest(self.image)

    def tearDown(self):
        self.assertEqual(digest(self.image), self.digest, "the image has been written to")
        super().tearDown()

    def create(self, **settings):
        return self.bus.create(**{"name": "web", "start": False} | settings)

    def stored(self, name):
        return f"{self.daemon.images}/{name}"

    def delete(self, **options):
        return self.bus.manager("DeleteVM", "(sa{sv})", "web", client.dictionary(options))

    # Images

    def test_an_image_is_the_base_of_an_overlay(self):
        path = self.create(image=self.image)
        overlay = info(self.stored("web.qcow2"))
        self.assertEqual(overlay["full-backing-filename"], self.image)
        self.assertEqual(overlay["backing-filename-format"], "qcow2")
        self.assertEqual(overlay["virtual-size"], 10 << 30)
        self.assertEqual(os.stat(self.stored("web.qcow2")).st_mode & 0o777, 0o600)
        self.assertEqual(
            [(disk["target"], disk["path"], disk["format"], disk["created"])
             for disk in self.bus.vm(path, "ListDisks")],
            [("vda", self.stored("web.qcow2"), "qcow2", True)])
        self.assertEqual(self.delete(), {"removed": [self.stored("web.qcow2")],
                                         "left": [self.image]})
        self.assertEqual(self.files(), [self.image])

    def test_an_overlay_may_be_larger_and_is_never_smaller(self):
        self.create(image=self.image, disk_size="20G")
        self.assertEqual(info(self.stored("web.qcow2"))["virtual-size"], 20 << 30)
        self.create(name="small", image=self.image, disk_size="1G")
        self.assertEqual(info(self.stored("small.qcow2"))["virtual-size"], 10 << 30)

    def test_a_raw_image(self):
        raw = f"{self.daemon.home}/raw"
        with open(raw, "wb") as file:
            file.truncate(8 * MIB)
        self.create(image=raw)
        self.assertEqual(info(self.stored("web.qcow2"))["backing-filename-format"], "raw")

    def test_a_copy_is_independent(self):
        self.create(image=self.image, copy=True, disk_size="11G")
        copy = info(self.stored("web.qcow2"))
        self.assertNotIn("backing-filename", copy)
        self.assertEqual(copy["virtual-size"], 11 << 30)
        self.assertEqual(self.delete()["left"], [])

    def test_several_disks(self):
        mine = f"{self.daemon.home}/data.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", mine, "1M")
        path = self.create(image=self.image, disks=[
            {"disk": mine}, {"disk-size": "3M"}, {"image": self.image, "copy": True}])
        self.assertEqual(
            [(disk["target"], disk["path"], disk["created"])
             for disk in self.bus.vm(path, "ListDisks")],
            [("vda", self.stored("web.qcow2"), True), ("vdb", mine, False),
             ("vdc", self.stored("web.disk3.qcow2"), True),
             ("vdd", self.stored("web.disk4.qcow2"), True)])
        result = self.delete()
        self.assertEqual(sorted(result["removed"]),
                         [self.stored(name) for name in ("web.disk3.qcow2", "web.disk4.qcow2",
                                                         "web.qcow2")])
        self.assertEqual(sorted(result["left"]), [mine, self.image])

    def test_more_disks_and_no_first_one(self):
        path = self.create(disks=[{"disk-size": 1 * MIB}])
        self.assertEqual([disk["path"] for disk in self.bus.vm(path, "ListDisks")],
                         [self.stored("web.qcow2")])

    def test_disks_can_be_kept(self):
        self.create(image=self.image, password="secret")
        result = self.delete(storage=False)
        self.assertEqual(result["removed"], [self.stored("web.seed.iso")])
        self.assertEqual(set(result["left"]), {self.image, self.stored("web.qcow2")})

    # Who else has it

    def test_a_disk_of_another_VM(self):
        disk = f"{self.daemon.home}/data.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", disk, "1M")
        link = f"{self.daemon.home}/link"
        os.symlink(disk, link)
        self.create(name="first", disk=disk)
        for use in "disk", "image":
            for path in disk, link:
                self.assertFails("ImageUnusable", self.create, says="'first'", **{use: path})
        self.assertFails("ImageUnusable", self.create, says="'first'", disks=[{"disk": disk}])

    def test_the_base_of_another_VM(self):
        os.chmod(self.image, 0o600)
        self.create(name="first", image=self.image)
        self.assertFails("ImageUnusable", self.create, says=["'first'", "'image'"],
                         disk=self.image)
        self.create(image=self.image)

    def test_nothing_is_left_of_a_failure(self):
        self.assertFails("ImageNotFound", self.create, image=self.image, password="secret",
                         disks=[{"disk-size": "1M"}, {"image": "/none"}])
        with open(f"{self.daemon.home}/occupied", "w", encoding="ascii"):
            pass
        os.makedirs(self.daemon.images)
        os.rename(f"{self.daemon.home}/occupied", self.stored("web.disk2.qcow2"))
        self.assertFails("ImageUnusable", self.create, says="web.disk2.qcow2", image=self.image,
                         ssh_keys=[KEY], disks=[{"disk-size": "1M"}])
        self.assertEqual(self.files(), [self.stored("web.disk2.qcow2"), self.image])
        self.assertEqual(self.states(), {"old": "shutoff"})

    def test_a_name_is_free_at_once(self):
        """Also while libvirt's events of the VM that had it are still coming in."""
        for _ in range(20):
            self.create(disk_size="1M")
            self.delete()
            self.assertFails("ImageNotFound", self.create, kernel="/none")

    # Guest set-up

    def seed(self, **settings):
        """What is in the seed: it is not compressed."""
        self.create(image=self.image, **settings)
        self.assertEqual(os.stat(self.stored("web.seed.iso")).st_mode & 0o777, 0o600)
        with open(self.stored("web.seed.iso"), "rb") as file:
            return file.read()

    def test_no_other_VM_can_have_it(self):
        """Nor an image that names it as what it is based on."""
        self.seed(password="open sesame", user="ali")
        thief = f"{self.daemon.home}/thief.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
                        self.stored("web.seed.iso"), thief], check=True)
        for setting in "disk", "image":
            self.assertFails("ImageUnusable", self.bus.create, name="thief", says="VM 'web'",
                             **{setting: thief})
            self.assertFails("ImageUnusable", self.bus.create, name="thief", says="VM 'web'",
                             **{setting: self.stored("web.seed.iso")})

    def test_a_key_and_a_password(self):
        seed = self.seed(ssh_keys=[KEY], password="open sesame", user="ali")
        self.assertIn(b"CD001", seed)
        self.assertIn(b"#cloud-config\n", seed)
        self.assertIn(KEY.encode(), seed.replace(b"\\/", b"/"))
        self.assertIn(b'"ali"', seed)
        self.assertIn(b"$6$", seed.replace(b"\\/", b"/"))
        self.assertNotIn(b"open sesame", seed)
        self.assertIn(self.bus.get(self.bus.manager("GetVM", "(s)", "web"), "UUID").encode(), seed)

    def test_the_host_name_is_the_name_of_the_VM(self):
        self.assertIn(b'"web"', self.seed(ssh_keys=[KEY]))

    def test_user_data_of_ones_own_is_not_touched(self):
        data = "#!/bin/sh\n: \"quotes\" 'and' {braces}\n# a: b\n\u00e9\\\n"
        self.assertIn(data.encode(), self.seed(user_data=data))

    def test_credentials(self):
        self.create(image=self.image, ssh_keys=[KEY], password="open sesame", user="ali",
                    guest_setup="credentials")
        files = [name for name in self.files() if "credential" in name]
        self.assertTrue(files)
        for name in files:
            self.assertEqual(os.stat(name).st_mode & 0o777, 0o600)
            with open(name, encoding="ascii") as file:
                self.assertRegex(file.read(), r"^io\.systemd\.credential\.binary:[^=]+=[\w+/=]+$")
        self.delete()
        self.assertEqual(self.files(), [self.image])

    def test_no_secret_is_told(self):
        self.create(image=self.image, password="open sesame", start=True)
        self.assertNotIn("open sesame", self.daemon.log())
        self.assertNotIn("open sesame", str(self.bus.managed_objects()))
        with open(f"/proc/{self.daemon.process.pid}/maps", encoding="ascii") as maps:
            regions = [line.split()[0] for line in maps if "[heap]" in line]
        with open(f"/proc/{self.daemon.process.pid}/mem", "rb", buffering=0) as memory:
            for region in regions:
                begin, end = (int(number, 16) for number in region.split("-"))
                memory.seek(begin)
                self.assertNotIn(b"open sesame", memory.read(end - begin))

    # Changing it

    def test_a_disk_that_cannot_grow(self):
        """libvirt's test driver takes every disk for one of a terabyte."""
        path = self.create(disk_size="1M")
        self.assertFails(client.INVALID_ARGS, self.bus.vm, path, "ResizeDisk", "(st)", "vda",
                         2 * MIB, says="smaller")
        self.assertFails(client.INVALID_ARGS, self.bus.vm, path, "ResizeDisk", "(st)", "vdb",
                         3 * MIB, says="'vdb'")
        self.bus.vm(path, "Start")
        self.assertFails(client.INVALID_ARGS, self.bus.vm, path, "ResizeDisk", "(st)", "vda",
                         2 ** 64 - 1, says="size: no disk")

    def test_memory_and_CPUs(self):
        path = self.create(disk_size="1M")
        self.bus.vm(path, "SetMemory", "(t)", 512 * MIB)
        self.bus.vm(path, "SetVCPUs", "(u)", 1)
        self.assertEqual((self.bus.get(path, "Memory"), self.bus.get(path, "VCPUs")),
                         (512 * MIB, 1))
        self.bus.vm(path, "SetVCPUs", "(u)", 4)
        self.assertEqual(self.bus.get(path, "VCPUs"), 4)
        for method, value in ("SetMemory", "(t)"), ("SetVCPUs", "(u)"):
            self.assertFails(client.INVALID_ARGS, self.bus.vm, path, method, value, 0)

    def test_a_new_name(self):
        path = self.create(disk_size="1M")
        self.bus.vm(path, "Rename", "(s)", "site")
        self.assertEqual(self.bus.get(path, "Name"), "site")
        self.assertEqual(self.states(), {"old": "shutoff", "site": "shutoff"})
        self.assertFails("VMExists", self.bus.vm, path, "Rename", "(s)", "old", says="'old'")
        self.assertFails(client.INVALID_ARGS, self.bus.vm, path, "Rename", "(s)", "a/b")
        self.bus.vm(path, "Start")
        self.assertFails("Busy", self.bus.vm, path, "Rename", "(s)", "web", says="running")


class Copying(daemon.Case):
    domains = [domain("old", 1)]
    programs = {"qemu-img": SLOW_QEMU_IMG % "convert"}

    def setUp(self):
        super().setUp()
        self.image = f"{self.daemon.home}/raw"
        with open(self.image, "wb") as file:
            file.truncate(8 * MIB)
        self.gate = f"{self.daemon.home}/gate"
        os.mkfifo(self.gate)
        self.create = self.bus.send(client.ROOT, client.MANAGER, "CreateVM", "(a{sv})",
                                    client.dictionary({"name": "web", "image": self.image,
                                                       "copy": True, "start": False}))
        self.job = self.bus.wait_signal(
            "InterfacesAdded", lambda signal: client.JOB in signal.arguments[1]).arguments[0]

    def open_gate(self):
        with open(self.gate, "w", encoding="ascii"):
            pass

    def property(self, name):
        return self.bus.get(self.job, name, client.JOB)

    def wait_progress(self):
        self.bus.wait(lambda: self.property("Progress") == 0.4, "the progress")

    def child(self):
        """The process that copies."""
        pid = self.daemon.process.pid
        return next(int(child) for task in os.listdir(f"/proc/{pid}/task")
                    for child in read(f"/proc/{pid}/task/{task}/children").split())

    def half_made(self):
        return [name for name in self.files() if ".uservm-" in name]


class Jobs(Copying):
    def test_a_copy_is_a_job_while_it_lasts(self):
        self.assertEqual(self.property("Operation"), "copy")
        self.assertEqual(self.property("VM"), "web")
        self.assertGreater(self.property("StartTime"), 1_700_000_000_000_000)
        self.wait_progress()
        self.assertIn(self.job, self.bus.managed_objects())
        self.assertEqual(self.states(), {"old": "shutoff"})
        self.open_gate()
        path = self.create.result()
        gone = [signal for signal in self.bus.take_signals()
                if signal.member in ("InterfacesAdded", "InterfacesRemoved")]
        self.assertEqual([(signal.member, signal.arguments[0]) for signal in gone],
                         [("InterfacesRemoved", self.job), ("InterfacesAdded", path)])
        self.assertNotIn(self.job, self.bus.managed_objects())

    def test_to_cancel_leaves_nothing(self):
        self.bus.call(self.job, client.JOB, "Cancel")
        self.assertFails("Cancelled", self.create.result)
        self.assertEqual(self.files(), [self.gate, self.image])
        self.assertEqual(self.states(), {"old": "shutoff"})
        self.bus.create(name="web", image=self.image, start=False)

    def test_others_are_served_meanwhile(self):
        self.bus.manager("StartVM", "(s)", "old")
        self.assertEqual(self.states(), {"old": "running"})
        self.assertFails("VMExists", self.bus.create, name="web", image=self.image, start=False)
        self.open_gate()
        self.create.result()

    def test_what_it_is_to_have_is_taken(self):
        disk = f"{self.daemon.home}/data.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", disk, "1M")
        self.bus.send(client.ROOT, client.MANAGER, "CreateVM", "(a{sv})", client.dictionary(
            {"name": "second", "disk": disk, "disks": [{"image": self.image, "copy": True}]}))
        self.bus.wait_signal("InterfacesAdded",
                             lambda signal: client.JOB in signal.arguments[1])
        for use in "disk", "image":
            self.assertFails("ImageUnusable", self.bus.create, name="third", says="'second'",
                             **{use: disk})
        self.assertFails("ImageUnusable", self.bus.create, name="third", says=["'web'", "'image'"],
                         disk=self.image)
        self.bus.create(name="third", image=self.image, start=False)

    def test_a_kill_leaves_nothing(self):
        self.wait_progress()
        self.assertTrue(self.half_made())
        copying = os.pidfd_open(self.child())
        self.addCleanup(os.close, copying)
        self.daemon.stop(signal.SIGKILL)
        self.assertTrue(select.select([copying], [], [], daemon.EXIT_TIMEOUT_SEC)[0],
                        "what copies does not end with uservmd")
        self.bus.wait(lambda: not self.bus.owner, "the name to be free")
        self.start()
        self.assertEqual(self.half_made(), [])
        self.bus.create(name="web", image=self.image, start=False)

    def test_an_end_does_not_wait_for_it(self):
        self.wait_progress()
        self.assertEqual(self.daemon.stop(), 0)
        self.assertFails("Cancelled", self.create.result)
        self.assertEqual(self.half_made(), [])


class JobsOfALostBus(Copying):
    def setUp(self):
        self.session_bus, address = daemon.start_bus(self)
        with unittest.mock.patch.dict(os.environ, DBUS_SESSION_BUS_ADDRESS=address):
            super().setUp()

    def tearDown(self):
        """There is no name to be free."""

    def test_the_end_does_not_wait_for_a_copy(self):
        self.wait_progress()
        self.session_bus.terminate()
        self.assertEqual(self.daemon.wait_exit(), 1)
        self.assertIn("The session bus has gone away", self.daemon.log())
        self.assertEqual(self.half_made(), [])


class Names(daemon.Case):
    """Of files, with a character that XML can have and D-Bus refuses."""

    def setUp(self):
        self.disk = tempfile.NamedTemporaryFile(prefix="uservm-test-", suffix="\ufdd0")
        self.addCleanup(self.disk.close)
        self.domains = [domain("old", 1, devices=f"""
            <disk type='file' device='disk'>
              <source file='{self.disk.name}'/><target dev='vda' bus='virtio'/>
            </disk>""")]
        super().setUp()

    def test_they_are_no_failure(self):
        path = self.bus.manager("GetVM", "(s)", "old")
        shown = self.disk.name.replace("\ufdd0", "???")
        self.assertEqual([disk["path"] for disk in self.bus.vm(path, "ListDisks")], [shown])
        self.assertEqual(self.bus.vm(path, "Delete", "(a{sv})", {}),
                         {"removed": [], "left": [shown]})


class Reading(daemon.Case):
    domains = [domain("old", 1)]
    programs = {"qemu-img": SLOW_QEMU_IMG % "resize"}

    def test_it_does_not_wait_for_what_takes_long(self):
        gate = f"{self.daemon.home}/gate"
        os.mkfifo(gate)
        path = self.bus.create(name="web", disk_size="1M", start=False)
        resize = self.bus.send(path, client.VM, "ResizeDisk", "(st)", "vda", 2 << 40)
        self.assertEqual(len(self.bus.vm(path, "ListDisks")), 1)
        self.assertIsNone(resize.reply)
        with open(gate, "w", encoding="ascii"):
            pass
        resize.result()


if __name__ == "__main__":
    tap.main()
