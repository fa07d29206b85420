# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the guest on a disk image share: the image, a key to log in with, and commands
that are run in the guest. The guest is a whole Debian, which takes a minute to boot without KVM."""

import os
import re
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

    def log_in(self, name, *, user=None):
        """With the command, as soon as it is possible, which takes the boot."""
        login = ["--login", user] if user else []
        begin = time.monotonic()
        output = lab.run("uservm", "ssh", *login, "--timeout", str(BOOT_TIMEOUT_SEC), name, "--",
                         "echo hello")
        self.assertEqual(output, "hello\n")
        lab.comment(f"logged in after {time.monotonic() - begin:.0f} s")

    def ssh(self, name, command, *, user, text=""):
        """Without the command, through the forward that it has made, or another one."""
        (port,) = (forward["host-port"] for forward in self.forwards(name)
                   if forward["guest-port"] == 22)
        return subprocess.run(
            ["ssh", "-p", str(port), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
             "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
             f"{user}@127.0.0.1", command],
            input=text, capture_output=True, text=True, check=False, timeout=ANSWER_TIMEOUT_SEC)

    def in_guest(self, name, command, *, user="user", text="", status=0):
        """What a command of the guest's shell prints."""
        result = self.ssh(name, command, user=user, text=text)
        self.assertEqual(result.returncode, status, f"{command}\n{result.stdout}{result.stderr}")
        return result.stdout

    def assertFacts(self, name, hostname):
        """What uservm says of the guest is what the guest says of itself, as soon as the agent has
        been asked since it is so."""
        self.assertEqual(self.in_guest(name, "hostname"), f"{hostname}\n")
        own = set(re.findall(r"(\S+)/\d", self.in_guest(name, "ip -brief address show up | "
                                                             "grep -v ^lo")))
        self.assertTrue(own)
        path = self.path(name)
        self.bus.wait(lambda: set(self.bus.get(path, "GuestAddresses")) == own,
                      f"uservm to know {own}", 1000 * BOOT_TIMEOUT_SEC)
        self.assertEqual(self.bus.get(path, "GuestHostname"), hostname)
        self.assertEqual(self.bus.get(path, "GuestOS"), OS_NAME)
        self.assertTrue(self.bus.get(path, "Ready"))

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

    def diagnostics(self):
        return "\n".join([super().diagnostics(), *map(self.guest_journal, self.states())])

    def guest_journal(self, name):
        try:
            result = self.ssh(name, "sudo journalctl --boot --no-pager --lines=60", user="user")
        except (ValueError, subprocess.TimeoutExpired) as error:
            return f"--- the guest {name} cannot be asked: {error}"
        return f"--- the guest {name}\n{result.stdout}{result.stderr}"
