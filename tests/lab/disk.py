# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the guest on a disk image share: the image, a key to log in with, and commands
that are run in the guest. The guest is a whole Debian, which takes a minute to boot without KVM."""

import os
import subprocess
import time

import lab

IMAGE = f"{lab.GUEST}/debian.qcow2"
OS_NAME = "Debian GNU/Linux 13 (trixie)"
IMAGES = os.path.expanduser("~/.local/share/libvirt/images")
NVRAM = os.path.expanduser("~/.config/libvirt/qemu/nvram")
KEY = os.path.expanduser("~/.ssh/id_ed25519")  # which ssh tries by itself

BOOT_TIMEOUT_SEC = 400  # see lab.BOOT_TIMEOUT_SEC
ANSWER_TIMEOUT_SEC = 60


def guest(**settings):
    """The settings of CreateVM for a VM of the image."""
    return {"image": IMAGE, "memory": "512M"} | settings


def public_key():
    """Of the user's key, which is made if need be."""
    if not os.path.exists(KEY):
        os.makedirs(os.path.dirname(KEY), mode=0o700, exist_ok=True)
        lab.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY)
    with open(f"{KEY}.pub", encoding="ascii") as file:
        return file.read().strip()


def listing(folder):
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


class Story(lab.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.key = public_key()

    def create(self, **settings):
        return self.bus.create(**guest(**settings))

    def in_guest(self, name, command, *, user=None, text="", status=0):
        """What a command of the guest's shell prints, as soon as one can log in."""
        login = ["--login", user] if user else []
        result = subprocess.run(
            ["uservm", "ssh", *login, "--timeout", str(BOOT_TIMEOUT_SEC), name, "--", command],
            input=text, capture_output=True, text=True, check=False,
            timeout=BOOT_TIMEOUT_SEC + ANSWER_TIMEOUT_SEC)
        self.assertEqual(result.returncode, status, f"{command}\n{result.stdout}{result.stderr}")
        return result.stdout

    def log_in(self, name, **keywords):
        """The first time, which takes the boot."""
        begin = time.monotonic()
        self.assertEqual(self.in_guest(name, "echo hello", **keywords), "hello\n")
        lab.comment(f"logged in after {time.monotonic() - begin:.0f} s")

    def assertFacts(self, name, hostname):
        """What uservm says of the guest is what the guest says of itself."""
        self.wait_ready(name)
        path = self.path(name)
        self.bus.wait(lambda: self.bus.get(path, "GuestHostname"), "the agent",
                      1000 * BOOT_TIMEOUT_SEC)
        self.assertEqual(self.in_guest(name, "hostname"), f"{hostname}\n")
        self.assertEqual(self.bus.get(path, "GuestHostname"), hostname)
        self.assertEqual(self.bus.get(path, "GuestOS"), OS_NAME)
        own = self.in_guest(name, "ip -brief address show scope global; ip -brief address show "
                                  "scope link").split()
        own = {word.split("/")[0] for word in own if "/" in word}
        self.assertTrue(own)
        self.assertEqual(set(self.bus.get(path, "GuestAddresses")), own)

    def assertPassword(self, name, user, password):
        """It is one, another is none. su(1) asks for it even if it is one's own."""
        command = f"su -c whoami {user}"
        self.assertEqual(self.in_guest(name, command, text=f"{password}\n"), f"{user}\n")
        self.in_guest(name, command, text=f"{password}x\n", status=1)

    def assertNothingLeft(self):
        """No VM, and nothing that was made for one."""
        self.assertEqual(self.states(), {})
        self.assertEqual(lab.virsh("list", "--all", "--name").strip(), "")
        self.assertEqual(lab.processes("qemu") + lab.processes("passt"), [])
        self.assertEqual(listing(IMAGES), [])
        self.assertEqual(listing(NVRAM), [])
