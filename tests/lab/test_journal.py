# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the journal is told: one entry an event, with the VM and the operation in its fields, and the
message IDs that uservmd(8) promises."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import lab  # first: it says where the others are
import managed
import tap
from lab import stories_in_order as load_tests

UNIT = "uservmd.service"
MANUAL = "/usr/share/man/man8/uservmd.8"
IMAGES = os.path.expanduser("~/.local/share/libvirt/images")
LEFT_UUID = "00000000-0000-4000-8000-00000000000a"
SECRET = "open sesame"


def message_ids():
    """{what the manual says of it: its ID}"""
    with open(MANUAL, encoding="utf-8") as file:
        return {text: number for number, text
                in re.findall(r"^\.It Li ([0-9a-f]{32})\n(.*)", file.read(), re.MULTILINE)}


STARTED, STOPPED, CRASHED, ENDED, REVIVED, FAILED, CLEANED = message_ids().values()


class Journal(managed.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bus.create(**lab.guest(name="web", forwards=["8080:80", "7007:7"]))
        cls.uuid = lab.virsh("domuuid", "web").strip()
        lab.wait_answer(8080)

    def setUp(self):
        super().setUp()
        # The journal takes its time; what came before this has been read when this is there.
        mark = f"UNITTEST_MARK={time.monotonic_ns()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as native:
            native.sendto(f"MESSAGE=A test begins\n{mark}\n".encode(),
                          "/run/systemd/journal/socket")
        self.cursor = None
        self.cursor = lab.until(lambda: self.entries(mark), "the journal")[0]["__CURSOR"]

    def entries(self, *matches):
        """What has come since the test began."""
        since = [f"--after-cursor={self.cursor}"] if self.cursor else []
        output = lab.run("journalctl", "--user", "--output=json", "--quiet", *since, *matches)
        return [json.loads(line) for line in output.splitlines()]

    def wait_entry(self, message_id, **fields):
        """The only entry of this kind, which has these fields."""
        (entry,) = lab.until(lambda: self.entries(f"MESSAGE_ID={message_id}"), message_id, 20)
        self.assertEqual({key: value for key, value in entry.items() if key.startswith("USERVM_")},
                         {f"USERVM_{key.upper()}": value for key, value in fields.items()}, entry)
        self.assertNotIn("CODE_FILE", entry)
        self.assertEqual(entry["_SYSTEMD_USER_UNIT"], UNIT)
        self.assertEqual(entry["SYSLOG_IDENTIFIER"], "uservmd")
        return entry

    def assertNone(self, *message_ids):
        for message_id in message_ids:
            self.assertEqual(self.entries(f"MESSAGE_ID={message_id}"), [])

    def about_web(self):
        return [entry["MESSAGE"] for entry in self.entries("USERVM_VM=web")]

    def test_what_is_called(self):
        self.power_off("web")
        entry = self.wait_entry(STOPPED, vm="web", uuid=self.uuid, operation="PowerOff")
        self.assertEqual((entry["MESSAGE"], entry["PRIORITY"]), ("VM 'web' has stopped", "6"))
        self.start("web")
        entry = self.wait_entry(STARTED, vm="web", uuid=self.uuid, operation="Start")
        self.assertEqual((entry["MESSAGE"], entry["PRIORITY"]), ("VM 'web' has started", "6"))
        self.assertNone(CRASHED, ENDED, REVIVED, FAILED)
        self.assertEqual(self.about_web(), ["VM 'web' has stopped", "VM 'web' has started"])

    def test_one_line_for_a_call(self):
        self.add("web", "8081:81")
        lab.until(self.about_web, "an entry", 20)
        self.remove("web", "8081")
        self.assertFails("NoSuchForward", self.remove, "web", "8081")
        lab.until(lambda: len(self.about_web()) >= 3, "three entries", 20)
        self.assertEqual([(entry["USERVM_OPERATION"], entry["PRIORITY"])
                          for entry in self.entries("USERVM_VM=web")],
                         [("AddPortForward", "6"), ("RemovePortForward", "6"),
                          ("RemovePortForward", "4")])

    def test_a_guest_that_shuts_down_is_no_failure(self):
        lab.wait_answer(8080)
        lab.virsh("shutdown", "web")
        self.wait_state("web", "shutoff")
        self.wait_entry(STOPPED, vm="web", uuid=self.uuid)
        self.assertNone(CRASHED, ENDED, REVIVED, FAILED)
        self.assertEqual(len(self.about_web()), 1)

    def test_nor_is_what_another_tool_stops(self):
        self.start("web")
        self.wait_entry(STARTED, vm="web", uuid=self.uuid, operation="Start")
        lab.virsh("destroy", "web")
        self.wait_state("web", "shutoff")
        self.wait_entry(STOPPED, vm="web", uuid=self.uuid)
        self.assertNone(CRASHED, ENDED, REVIVED, FAILED)

    def test_a_passt_that_ends_and_is_back(self):
        self.start("web")
        lab.kill(managed.the_passt())
        entry = self.wait_entry(ENDED, vm="web", uuid=self.uuid)
        self.assertEqual(entry["PRIORITY"], "4")
        self.wait_entry(REVIVED, vm="web", uuid=self.uuid)
        self.bus.wait(lambda: not self.network_error("web"), "uservmd to know of it")
        self.assertAgree("web")

    def test_a_forward_that_fails(self):
        """When passt comes back, somebody else has its port."""
        uservmd = lab.main_pid(UNIT)
        os.kill(uservmd, signal.SIGSTOP)
        lab.kill(managed.the_passt())
        with socket.create_server(("127.0.0.1", 8080)):
            os.kill(uservmd, signal.SIGCONT)
            self.wait_entry(REVIVED, vm="web", uuid=self.uuid)
            text = lab.until(self.failed_8080, "the forward to have failed", 20)
        self.assertIn("process", text)
        self.assertNotIn("\n", text)

    def failed_8080(self):
        """Not of the others, which may have failed while there was no passt."""
        texts = [entry["MESSAGE"] for entry in self.entries(f"MESSAGE_ID={FAILED}")]
        return next((text for text in texts if "127.0.0.1:8080:80/tcp" in text), None)

    def test_a_crash(self):
        (qemu,) = lab.processes("qemu")
        lab.kill(qemu)
        entry = self.wait_entry(CRASHED, vm="web", uuid=self.uuid)
        self.assertEqual(entry["PRIORITY"], "3")
        with open(entry["MESSAGE"].split()[-1], encoding="utf-8") as file:
            self.assertIn("reason=crashed", file.read().splitlines()[-1])
        self.assertNone(STOPPED, ENDED)
        for name in "web", self.uuid:
            wait = subprocess.run(["uservm", "wait", name, "--port=80"], capture_output=True,
                                  text=True, check=False)
            self.assertEqual(wait.returncode, 1)
            self.assertIn("journalctl --user USERVM_VM=web;", wait.stderr)

    def test_a_creation_that_was_cut_short(self):
        lab.systemctl("stop", UNIT)
        os.makedirs(IMAGES, exist_ok=True)
        name = f".uservm-{LEFT_UUID}.half.qcow2"
        with open(f"{IMAGES}/{name}", "x", encoding="ascii"):
            pass
        self.states()
        entry = self.wait_entry(CLEANED, uuid=LEFT_UUID)
        self.assertIn(name, entry["MESSAGE"])
        self.assertFalse(os.path.exists(f"{IMAGES}/{name}"))

    def test_nothing_secret(self):
        """Neither when it goes well nor when it fails."""
        self.create(name="secret", password=SECRET, user="ali", start=False)
        with self.assertRaises(Exception):
            self.create(name="secret", password=SECRET, user="ali", start=False)
        with self.assertRaises(Exception):
            self.create(name="secret2", password=SECRET, user="no such user!", start=False)
        self.delete("secret")
        lab.until(lambda: self.entries("USERVM_VM=secret", "USERVM_OPERATION=Delete"),
                  "the end to be noted", 20)
        for entry in self.entries():
            self.assertNotIn(SECRET, json.dumps(entry))
        self.delete("web", force=True)


if __name__ == "__main__":
    tap.main()
