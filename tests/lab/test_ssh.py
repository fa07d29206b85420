# SPDX-License-Identifier: LGPL-2.1-or-later
"""uservm ssh, with a guest that has a real SSH server, and the user's real ssh."""

import os
import subprocess

import lab  # first: it says where the others are
import tap
from lab import stories_in_order as load_tests

IMAGE = f"{lab.GUEST}/debian.qcow2"
KEY = os.path.expanduser("~/.ssh/id_ed25519")
KEYS_OF_USER = os.path.expanduser("~/.ssh/known_hosts")
KEYS_OF_GUESTS = os.path.expanduser("~/.local/state/uservm/known_hosts")
CHANGE_KEY = ("rm /etc/ssh/ssh_host_* && ssh-keygen -q -t ed25519 -N '' "
              "-f /etc/ssh/ssh_host_ed25519_key && systemctl restart ssh")
TIMEOUT_SEC = 300  # a whole Debian boots, without KVM
SSH_FAILED = 255


class Ssh(lab.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        os.makedirs(os.path.dirname(KEY), mode=0o700)
        lab.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY)

    def create_guest(self, **settings):
        with open(f"{KEY}.pub", encoding="ascii") as file:
            keys = file.read().splitlines()
        return self.bus.create(name="box", image=IMAGE, memory="512M", user="me", ssh_keys=keys,
                               **settings)

    def ssh(self, *command, status=0, **keywords):
        """What it prints on standard output, and on standard error."""
        result = subprocess.run(
            ["uservm", "ssh", f"--timeout={TIMEOUT_SEC}", "box", "-l", "me", "--", *command],
            capture_output=True, text=True, check=False, **keywords)
        self.assertEqual(result.returncode, status, result.stderr)
        return result.stdout, result.stderr

    def keys_of_guests(self):
        with open(KEYS_OF_GUESTS, encoding="ascii") as file:
            return file.read().splitlines()

    def test_it_adds_a_forward_and_waits_for_the_guest(self):
        self.create_guest()
        self.assertEqual(self.ssh("hostname")[0], "box\n")
        forward, = self.forwards("box")
        self.assertEqual((forward["guest-port"], forward["persistent"], forward["state"]),
                         (22, False, "active"))
        type(self).port = forward["host-port"]

    def test_the_second_time_there_is_nothing_to_say(self):
        self.assertEqual(self.ssh("id -un"), ("me\n", ""))
        self.assertEqual(len(self.forwards("box")), 1)

    def test_input_and_exit_status_are_those_of_the_command(self):
        self.assertEqual(self.ssh("cat; exit 7", status=7, input="from here"), ("from here", ""))

    def test_another_VM_may_have_the_port(self):
        """For ssh alone that would be an attack."""
        self.delete("box", force=True)
        self.create_guest(forwards=[f"{self.port}:22"])
        self.assertEqual(self.ssh("hostname")[0], "box\n")
        self.assertEqual(len(self.keys_of_guests()), 2)

    def test_but_no_VM_may_have_another_key(self):
        self.ssh("sudo", "sh", "-c", f'"{CHANGE_KEY}"')
        self.assertIn("IDENTIFICATION HAS CHANGED", self.ssh("hostname", status=SSH_FAILED)[1])
        self.assertEqual(len(self.keys_of_guests()), 2)

    def test_the_users_own_keys_have_not_been_touched(self):
        self.assertFalse(os.path.exists(KEYS_OF_USER))


if __name__ == "__main__":
    tap.main()
