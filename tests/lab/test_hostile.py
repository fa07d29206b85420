# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names, paths and disks that were made to do harm: they are what they are, and nothing more."""

import json
import os
import struct

import lab  # first: it says where the others are
import client
import managed
import tap
from lab import stories_in_order as load_tests

HOME = os.path.expanduser("~")
EVIDENCE = f"{HOME}/evidence"  # that a shell has been at work
# Everything that a shell, XML, QEMU's options, systemd's units, printf() or a file system would
# take for something else; libvirt allows all but '/' and the end of a line.
NAME = f"$(touch {EVIDENCE.replace('/', '$IFS')})`id`; '\"<&>]]>,,%s%n%I\\x2f..\t--help=é"
FILE = f"$(touch evidence)`id`; '\"<&>]]>,a=b,,%s\\x2f --help=é"
SECRET = b"The secret of another VM. " * 20000


def qcow2_header(backing, backing_format="raw", size=1 << 20):
    """As little of one as makes QEMU open what it is based on: version 2, no tables."""
    extension = (struct.pack(">II", 0xe2792aca, len(backing_format)) + backing_format.encode()
                 .ljust(-(-len(backing_format) // 8) * 8, b"\0") + bytes(8))
    name = backing.encode()
    offset = 72 + len(extension)
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, offset, len(name), 16, size, 0, 1, 0x10000,
                         0x20000, 1, 0, 0)
    return header + extension + name


class Story(managed.Story):
    def tearDown(self):
        self.assertFalse(os.path.exists(EVIDENCE))
        self.assertFalse(os.path.exists("evidence"))

    def live_disks(self, name):
        """What QEMU has open of the disks, from the live definition: [(path, format)] of a disk
        and what it is based on."""
        disk = lab.definition(name, live=True).find("./devices/disk[@device='disk']")
        chain = [(disk.find("source").get("file"), disk.find("driver").get("type"))]
        below = disk.find("backingStore")
        while below is not None and below.find("source") is not None:
            chain.append((below.find("source").get("file"), below.find("format").get("type")))
            below = below.find("backingStore")
        return chain

    def open_files(self):
        (qemu,) = lab.processes("qemu")
        return {os.readlink(f"/proc/{qemu}/fd/{fd}") for fd in os.listdir(f"/proc/{qemu}/fd")}


class Names(Story):
    """A domain that another tool made."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        path = cls.bus.create(**lab.guest(name="web", start=False, forwards=["8080:80"]))
        domain = lab.definition("web")
        cls.bus.vm(path, "Delete", "(a{sv})", {})
        domain.find("name").text = NAME
        cls.bus.take_signals()
        lab.define(domain)
        cls.bus.wait_signal("InterfacesAdded")

    def test_it_is_listed_as_it_is(self):
        self.assertEqual(self.states(), {NAME: "shutoff"})

    def test_it_runs_with_managed_networking(self):
        self.start(NAME)
        lab.wait_answer(8080)
        self.assertEqual(self.network(NAME), "managed")
        (arguments,) = managed.passts().values()
        self.assertRegex(arguments[arguments.index("--hostname") + 1], r"^[A-Za-z0-9][-.A-Za-z0-9]*$")

    def test_its_forwards_change(self):
        self.add(NAME, "8081:81")
        self.assertTrue(lab.fetch(8081))
        self.remove(NAME, "8081")
        self.assertAgree(NAME)

    def test_autostart_is_of_this_vm(self):
        path = self.path(NAME)
        unit = lab.run("systemd-escape", "--template=uservm@.service", "--", NAME).strip()
        self.bus.set(path, "Autostart", True)
        self.assertEqual(lab.systemctl("is-enabled", unit).strip(), "enabled")
        self.power_off(NAME)
        lab.systemctl("start", unit)
        self.assertEqual(self.state(NAME), "running")
        lab.systemctl("stop", unit)
        self.assertEqual(self.state(NAME), "shutoff")
        self.bus.set(path, "Autostart", False)
        self.assertEqual(lab.run("systemctl", "--user", "is-enabled", unit, check=False).strip(),
                         "disabled")

    def test_the_journal_has_it_in_one_piece(self):
        lab.until(lambda: self.journal(), "the journal", 20)
        for entry in self.journal():
            self.assertNotIn("\n", entry["MESSAGE"])

    def journal(self):
        return [json.loads(line) for line in lab.run(
            "journalctl", "--user", "--output=json", "--quiet", f"USERVM_VM={NAME}").splitlines()]

    def test_the_command_shows_it_on_one_line(self):
        rows = lab.run("uservm", "list").splitlines()
        self.assertEqual(len(rows), 2, rows)

    def test_it_can_be_deleted(self):
        self.delete(NAME)
        self.assertEqual(self.states(), {})
        self.assertNothingLeft()

    def test_names_that_uservm_takes_are_harmless(self):
        for name in (NAME, "../up", "a/b", ".hidden", "-x", "", "a" * 64, "a b", "a\nb", "é",
                     "web.service", "00000000-0000-4000-8000-000000000001"):
            try:
                self.create(name=name, start=False)
            except client.Error as error:
                self.assertEqual(error.name, client.INVALID_ARGS)
                self.assertIn("name", error.message)
                continue
            self.assertEqual(name, "web.service")
            self.delete(name)


class Files(Story):
    """Paths in the settings of CreateVM."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = f"{HOME}/{FILE}"
        os.mkdir(cls.folder)

    def test_all_at_once(self):
        base, cdrom, kernel, initrd = (f"{self.folder}/{name}{FILE}"
                                       for name in ("base", "cdrom", "kernel", "initrd"))
        lab.run("qemu-img", "create", "-q", "-f", "qcow2", base, "8M")
        with open(cdrom, "wb") as file:
            file.write(bytes(4096))
        os.symlink(lab.KERNEL, kernel)
        os.symlink(lab.INITRD, initrd)
        self.create(name="web", image=base, cdrom=cdrom, kernel=kernel, initrd=initrd,
                    cmdline=f"{lab.CMDLINE} {FILE}", forwards=["8080:80"])
        lab.wait_answer(8080)
        stored = lab.definition("web")
        self.assertEqual([stored.findtext(f"./os/{name}") for name in ("kernel", "initrd", "cmdline")],
                         [kernel, initrd, f"{lab.CMDLINE} {FILE}"])
        overlay = f"{HOME}/.local/share/libvirt/images/web.qcow2"
        self.assertEqual(self.live_disks("web"), [(overlay, "qcow2"), (base, "qcow2")])
        self.assertLessEqual({overlay, base, cdrom}, self.open_files())

    def test_options_of_programs_are_no_paths(self):
        for key in "disk", "image", "cdrom", "kernel":
            for path in "-x", "--help", "nbd:localhost:1", "json:{}", "fd:3", "a", "../a", "file:/a":
                self.assertFailsInvalid(key, path)
            for path in "/a\nb", "/a\x1bb":
                self.assertFailsInvalid(key, path)

    def assertFailsInvalid(self, key, path):
        with self.assertRaises(client.Error) as caught:
            self.bus.create(name="new", **{key: path})
        self.assertEqual(caught.exception.name, client.INVALID_ARGS, (key, path))

    def test_by_default_it_listens_on_loopback_only(self):
        self.assertEqual({address for _, address, _ in managed.listening()}, {"127.0.0.1"})

    def test_nothing_is_left(self):
        self.delete("web", force=True)
        self.assertNothingLeft()


class Disks(Story):
    """A guest writes to its raw disk what makes of it an image that is based on somebody else's."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = f"{HOME}/disks"
        os.mkdir(cls.folder)
        cls.raw, cls.victim = f"{cls.folder}/raw.img", f"{HOME}/.local/share/libvirt/images/victim"
        cls.write(cls.raw, bytes(1 << 20))
        cls.write(cls.victim, SECRET[:len(SECRET) // 512 * 512])

    @staticmethod
    def write(path, data):
        with open(path, "wb") as file:
            file.write(data)

    def test_raw_is_raw(self):
        self.create(name="web", disk=self.raw, start=False)
        with open(self.raw, "r+b") as file:
            file.write(qcow2_header(self.victim))
        # what it would be taken for
        info = json.loads(lab.run("qemu-img", "info", "--output=json", self.raw))
        self.assertEqual((info["format"], info["backing-filename"]), ("qcow2", self.victim))
        for _ in range(2):
            self.start("web")
            self.assertEqual(self.live_disks("web"), [(self.raw, "raw")])
            self.assertIn(self.raw, self.open_files())
            self.assertNotIn(self.victim, self.open_files())
            self.assertIn(f"Capacity:       {1 << 20}\n", lab.virsh("domblkinfo", "web", "vda"))
            self.power_off("web")
            lab.virsh("start", "web")  # nor does virsh take it for something else
            self.wait_state("web", "running")
            self.assertNotIn(self.victim, self.open_files())
            self.power_off("web")

    def test_and_is_looked_at_when_it_is_given_to_another_vm(self):
        """It says what it is now, and what that is based on belongs to a VM."""
        self.delete("web")
        os.rename(self.victim, f"{self.folder}/victim.img")
        self.create(name="other", disk=f"{self.folder}/victim.img", start=False)
        with open(self.raw, "r+b") as file:
            file.write(qcow2_header(f"{self.folder}/victim.img"))
        for key in "disk", "image":
            self.assertFails("ImageUnusable", lambda: self.create(name="thief", **{key: self.raw}),
                             says="VM 'other'")
        with open(self.raw, "r+b") as file:
            file.write(qcow2_header("/etc/passwd"))
        self.assertFails("ImageUnusable", lambda: self.create(name="thief", disk=self.raw),
                         says="/etc/passwd")
        self.delete("other")

    def test_every_format_is_written_down(self):
        """Of a chain of three, in what is stored and in the images themselves."""
        base, middle = f"{self.folder}/base.raw", f"{self.folder}/middle.qcow2"
        self.write(base, bytes(1 << 20))
        lab.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, middle)
        self.write(f"{self.folder}/second.raw", bytes(1 << 20))
        self.create(name="web", image=middle,
                    disks=[{"disk-size": "1M"}, {"disk": f"{self.folder}/second.raw"}])
        disks = lab.definition("web").findall("./devices/disk")
        self.assertEqual([disk.find("driver").get("type") for disk in disks],
                         ["qcow2", "qcow2", "raw"])
        overlay = f"{HOME}/.local/share/libvirt/images/web.qcow2"
        self.assertEqual(self.live_disks("web"),
                         [(overlay, "qcow2"), (middle, "qcow2"), (base, "raw")])
        info = json.loads(lab.run("qemu-img", "info", "-U", "--output=json", overlay))
        self.assertEqual((info["backing-filename"], info["backing-filename-format"]),
                         (middle, "qcow2"))
        self.delete("web", force=True)


if __name__ == "__main__":
    tap.main()
