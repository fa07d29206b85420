# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a disk image to a shell: a Debian with cloud-init and one without it, set up, started with
BIOS and with UEFI, logged in to, and deleted."""

import os
import textwrap

import lab  # first: it says where the others are
import disk
import tap
from lab import stories_in_order as load_tests

GIB = 1 << 30
PASSWORD = "correct # horse: \"battery\" 'staple'"

# What YAML, shells and XML give a meaning to, in a block of text that has none.
ODD = """\
"double" 'single' `back` \\ back\\nslash: {colon: [1, 2]} # no comment
  : - ? ! & * | > % @ <xml a="b">&amp;</xml> $HOME $(reboot) ${x} %n%s
#cloud-config

--- ä€𝄞\ttab  """


def user_data(key):
    return f"""\
#cloud-config
# A "user's" own: data #with <everything>
users:
  - name: ann
    shell: /bin/bash
    sudo: "ALL=(ALL) NOPASSWD:ALL"
    ssh_authorized_keys: ['{key}']
write_files:
  - path: /etc/odd
    content: |2
{textwrap.indent(ODD, 6 * " ")}
"""


class Command(disk.Story):
    """With the command alone, but for what it does not show."""

    def test_one_command_makes_the_VM(self):
        password = os.path.expanduser("~/password")
        with open(password, "w", encoding="utf-8") as file:
            file.write(f"{PASSWORD}\n")
        lab.run("uservm", "create", "web", "--image", disk.IMAGE, "--disk-size", "3G",
                "--memory", "512M", "--ssh-key", f"{disk.KEY}.pub", "--password-file", password)
        os.unlink(password)
        self.assertEqual(self.states(), {"web": "running"})

    def test_the_key_opens_a_shell(self):
        self.log_in("web")
        self.assertEqual(self.in_guest("web", "whoami"), "user\n")
        self.assertEqual(self.in_guest("web", "sudo whoami"), "root\n")

    def test_the_guest_has_the_name_of_the_VM(self):
        self.assertFacts("web", "web")

    def test_the_password(self):
        self.assertPassword("web", "user", PASSWORD)
        self.assertRegex(self.in_guest("web", "sudo grep ^user: /etc/shadow"), r"^user:\$6\$")

    def test_sshd_takes_the_password(self):
        """And has not been started a second time for that, when somebody was about to log in."""
        self.in_guest("web", "sudo cloud-init status --wait")
        self.assertIn("\npasswordauthentication yes\n", self.in_guest("web", "sudo sshd -T"))
        self.assertEqual(self.in_guest("web", "sudo journalctl --boot --unit=ssh --output=cat | "
                                              "grep --count 'Server listening on 0.0.0.0'"), "1\n")

    def test_nobody_else_reads_the_password(self):
        for name in disk.listing(disk.IMAGES):
            status = os.stat(f"{disk.IMAGES}/{name}")
            self.assertEqual((status.st_mode & 0o077, status.st_uid), (0, os.getuid()), name)
        with open(f"{disk.IMAGES}/web.seed.iso", "rb") as seed:
            self.assertNotIn(b"horse", seed.read())
        self.assertNotIn("horse", lab.run("journalctl", "--user", "--output=export"))
        self.assertNotIn("horse", lab.virsh("dumpxml", "web"))

    def test_the_guest_uses_the_whole_disk(self):
        size = int(self.in_guest("web", "df --block-size=1 --output=size / | tail -n 1"))
        self.assertGreater(size, 2.7 * GIB)

    def test_what_is_set_up_once_is_not_set_up_again(self):
        """And ssh does not warn of another host key."""
        self.in_guest("web", "sudo usermod --lock user; sync")
        self.bus.manager("PowerOffVM", "(s)", "web")
        self.bus.manager("StartVM", "(s)", "web")
        self.log_in("web")
        self.assertEqual(self.in_guest("web", "sudo grep --count '^user:!' /etc/shadow"), "1\n")

    def test_deleted_it_leaves_nothing_but_the_image(self):
        output = lab.run("uservm", "delete", "--force", "web")
        self.assertEqual(sorted(output.splitlines()), [
            f"left {disk.IMAGE}", f"removed {disk.IMAGES}/web.qcow2",
            f"removed {disk.IMAGES}/web.seed.iso"])
        self.assertNothingLeft()


class UefiAndUserData(disk.Story):
    def test_a_VM_with_UEFI_and_user_data(self):
        self.create(name="box", firmware="uefi", hostname="other.example",
                    user_data=user_data(self.key), forwards=["2222:22"])
        self.assertEqual(len(disk.listing(disk.NVRAM)), 1)

    def test_log_in(self):
        self.log_in("box", user="ann")
        self.in_guest("box", "test -d /sys/firmware/efi", user="ann")

    def test_the_user_data_have_arrived_unchanged(self):
        arrived = self.in_guest("box", "sudo cat /var/lib/cloud/instance/user-data.txt",
                                user="ann")
        self.assertEqual(arrived, user_data(self.key))
        self.assertEqual(self.in_guest("box", "cat /etc/odd", user="ann"), f"{ODD}\n")

    def test_the_host_name(self):
        self.assertEqual(self.in_guest("box", "hostname", user="ann"), "other\n")

    def test_deleted_it_leaves_nothing(self):
        self.delete("box", force=True)
        self.assertNothingLeft()


class Credentials(disk.Story):
    """systemd alone sets the guest up."""

    def test_a_VM_without_a_seed(self):
        self.create(name="bare", ssh_keys=[self.key], password=PASSWORD,
                    guest_setup="credentials")
        self.assertNotIn("bare.seed.iso", disk.listing(disk.IMAGES))

    def test_the_key_opens_a_shell(self):
        self.log_in("bare")
        self.assertEqual(self.in_guest("bare", "whoami"), "user\n")
        self.assertEqual(self.in_guest("bare", "sudo whoami"), "root\n")
        self.in_guest("bare", "test -d /var/lib/cloud/instance", status=1)

    def test_the_guest_has_the_name_of_the_VM(self):
        self.assertFacts("bare", "bare")

    def test_the_password(self):
        self.assertPassword("bare", "user", PASSWORD)

    def test_deleted_it_leaves_nothing(self):
        self.delete("bare", force=True)
        self.assertNothingLeft()


if __name__ == "__main__":
    tap.main()
