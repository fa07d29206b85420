# SPDX-License-Identifier: LGPL-2.1-or-later
"""From an image to a VM with the command: disks, what the guest is set up with, what can be changed
of a VM, and how a copy shows and is cancelled. libvirt's test driver takes every disk for one of about
a terabyte."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import command
import tap
from command import FAILED, NOT_FOUND, USAGE, Lines
from daemon import domain, uuid

MIB = 1 << 20
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9J5ZEsUPOjdjzVzwTSJkGDjyCMPuLV1zCmSfb1dHpC"

# What it says, qemu-img does; but a conversion waits for somebody to open this pipe for writing.
SLOW_QEMU_IMG = """#!/bin/sh
[ "$1" != convert ] || { echo "    (40.00/100%)"; read _ <"$HOME/gate"; }
PATH=${PATH#*:} exec qemu-img "$@"
"""


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, case, *arguments, columns=80):
        self.case = case
        self.terminal, self.side = pty.openpty()
        self.text = ""
        fcntl.ioctl(self.side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [command.USERVM, *arguments], stdin=self.side, stdout=self.side, stderr=self.side,
            cwd=case.daemon.home, env=case.environment(TERM="xterm"), start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        case.addCleanup(self.close)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)
        os.close(self.side)

    def read_until(self, text):
        """What is there up to the text; it is taken away."""
        end = time.monotonic() + command.TIMEOUT_SEC
        while text not in self.text:
            if not select.select([self.terminal], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{text!r} expected, not {self.text!r}")
            self.text += os.read(self.terminal, 4096).decode()
        before, self.text = self.text.split(text, 1)
        return before + text

    def type(self, text):
        os.write(self.terminal, text.encode())

    def wait(self, status):
        """Waits for its end; returns what it wrote since."""
        self.case.assertEqual(self.process.wait(command.TIMEOUT_SEC), status, self.text)
        while select.select([self.terminal], [], [], 0)[0]:
            self.text += os.read(self.terminal, 4096).decode()
        return self.text

    def shows_what_is_typed(self):
        return bool(termios.tcgetattr(self.side)[3] & termios.ECHO)


class Case(command.Case):
    domains = [domain("old", 1)]

    def setUp(self):
        super().setUp()
        self.image = self.file("debian.raw", b"\0" * MIB)

    def file(self, name, content):
        path = f"{self.daemon.home}/{name}"
        with open(path, "wb") as file:
            file.write(content)
        return path

    def create(self, *arguments, **keywords):
        return self.run_command("create", "web", "--image=debian.raw", "--no-start", *arguments,
                                cwd=self.daemon.home, **keywords)

    def create_refused(self, status, *arguments, says=()):
        self.refused(status, "create", "web", "--image=debian.raw", *arguments, says=says,
                     cwd=self.daemon.home)

    def stored(self, name):
        return f"{self.daemon.images}/{name}"

    def seed(self):
        with open(self.stored("web.seed.iso"), "rb") as file:
            return file.read().replace(b"\\/", b"/")


class Disks(Case):
    def test_an_image(self):
        self.assertEqual(self.create("--disk-size", "2G").out, "")
        info = json.loads(subprocess.run(
            ["qemu-img", "info", "--output=json", self.stored("web.qcow2")], check=True,
            capture_output=True).stdout)
        self.assertEqual((info["full-backing-filename"], info["virtual-size"]),
                         (self.image, 2 << 30))
        self.assertEqual(self.run_command("delete", "web").out,
                         f"removed {self.stored('web.qcow2')}\nleft {self.image}\n")

    def test_a_copy(self):
        self.create("--copy")
        self.assertEqual(self.run_command("delete", "web").out,
                         f"removed {self.stored('web.qcow2')}\n")

    def test_storage_that_is_kept(self):
        self.create("--hostname=buoy")
        out = self.run_command("delete", "web", "--keep-storage").out
        self.assertEqual(sorted(out.splitlines()),
                         [f"left {self.stored('web.qcow2')}", f"left {self.image}",
                          f"removed {self.stored('web.seed.iso')}"])

    def test_more_disks(self):
        mine = self.file("mine, too.raw", b"\0" * MIB)
        self.create("--add-disk", "size=3M", "--add-disk", "path=mine,, too.raw",
                    "--add-disk=copy,image=debian.raw,size=4M")
        disks = self.run_command("disk", "list", "web", "--json").json
        self.assertEqual(
            [(disk["target"], disk["path"], disk["format"], disk["created"]) for disk in disks],
            [("vda", self.stored("web.qcow2"), "qcow2", True),
             ("vdb", self.stored("web.disk2.qcow2"), "qcow2", True),
             ("vdc", mine, "raw", False),
             ("vdd", self.stored("web.disk4.qcow2"), "qcow2", True)])
        self.assertEqual(self.run_command("show", "web", "--json").json["disks"], disks)
        self.run_command("create", "second", "--add-disk=size=1M", "--no-start")

    def test_what_is_refused(self):
        for what in "", "size", "disk=1", "size=1M,", ",size=1M", "size=1M,copy,,copy":
            self.create_refused(USAGE, f"--add-disk={what}", says=["--add-disk", "path=FILE"])
        self.create_refused(USAGE, "--add-disk=size=much", says="disk-size")
        self.create_refused(USAGE, "--add-disk=copy", says="copy")
        self.create_refused(FAILED, "--add-disk=path=none", says=f"{self.daemon.home}/none")
        self.create_refused(USAGE, "--disk=debian.raw", says="image")
        self.refused(USAGE, "create", "web", "-s1G", "--copy", says="image")
        self.refused(FAILED, "create", "web", "--image=/none", says="/none")

    def test_list(self):
        self.create("-s", "2G")
        lines = self.run_command("disk", "list", "web").out.splitlines()
        self.assertEqual(lines[0].split(),
                         ["DISK", "DEVICE", "SIZE", "ALLOCATED", "FORMAT", "CREATED", "FILE"])
        self.assertRegex(lines[1], rf"^vda +disk +1.0 TiB +[0-9.]+ \w+ +qcow2 +yes +"
                                   rf"{re.escape(self.stored('web.qcow2'))}$")
        self.assertEqual(len(self.run_command("disk", "list", "old").out.splitlines()), 1)
        self.assertEqual(self.run_command("disk", "list", "old", "--json").json, [])

    def test_resize(self):
        self.create()
        self.assertEqual(self.run_command("disk", "resize", "web", "vda", "2T").out, "")
        info = subprocess.run(["qemu-img", "info", "--output=json", self.stored("web.qcow2")],
                              check=True, capture_output=True).stdout
        self.assertEqual(json.loads(info)["virtual-size"], 2 << 40)
        self.refused(USAGE, "disk", "resize", "web", "vda", "1G", says="smaller")
        self.refused(USAGE, "disk", "resize", "web", "vdz", "2T", says="'vdz'")
        for size in "much", "-1", "1X", "99999999999999999999", "99999999T":
            self.refused(USAGE, "disk", "resize", "web", "vda", "--", size, says=f"'{size}'")


class GuestSetup(Case):
    def test_keys(self):
        self.file("id.pub", f"{KEY} one\r\n\n# a comment\n  {KEY} two\n".encode())
        self.create("--ssh-key=id.pub", "--ssh-key", f"{KEY} three",
                    "-k", f'from="10.0.0.1",no-pty {KEY} four', "--user", "ali")
        seed = self.seed()
        for comment in b"one", b"two", b"three", b"four":
            self.assertIn(KEY.encode() + b" " + comment + b'"', seed)
        self.assertIn(b'"ali"', seed)
        self.assertNotIn(b"a comment", seed)

    def test_a_real_key(self):
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", f"{self.daemon.home}/id"], check=True)
        self.create("--ssh-key=id.pub")
        with open(f"{self.daemon.home}/id.pub", "rb") as file:
            self.assertIn(file.read().strip(), self.seed())

    def test_a_private_key(self):
        private = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
        self.file("id", private.encode())
        self.create_refused(FAILED, "--ssh-key=id", says=["private", "ssh-keygen -y"])
        self.file("id.pub", KEY.encode())
        self.create_refused(FAILED, "--ssh-key=id", says=["private", "'id.pub'"])

    def test_keys_that_are_refused(self):
        self.file("empty", b"\n# nothing\n")
        self.file("large", b"#" * (65 << 10))
        self.file("binary", b"\x7fELF\0\0")
        self.file("wrong", b"hello\n")
        for value, words in {
                "none": "No such file", "empty": "no SSH key in 'empty'", "large": "larger",
                "binary": "not a file of text", ".": "directory", "wrong": "ssh-keys",
                "~/.ssh/id.pub": "$HOME", "ssh-ed25519 XYZ": "damaged"}.items():
            status = USAGE if value in ("wrong", "ssh-ed25519 XYZ") else FAILED
            self.create_refused(status, f"--ssh-key={value}", says=words)
        self.assertEqual(self.run_command("list", "-q").out, "old\n")

    def test_a_password(self):
        self.file("password", b"open sesame\nand more\n")
        self.create("--password-file=password")
        self.assertRegex(self.seed(), rb"\$6\$[./0-9A-Za-z$]+")
        self.assertNotIn(b"sesame", self.seed())
        self.assertNotIn(b"and more", self.seed())

    def test_a_password_from_standard_input(self):
        for text in b"open sesame\n", b"open sesame":
            result = subprocess.run(
                [command.USERVM, "create", "web", "--image", self.image, "--no-start",
                 "--password-file", "-"], input=text, env=self.environment(),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            self.assertEqual((result.returncode, result.stdout), (0, b""))
            self.assertIn(b"$6$", self.seed())
            self.run_command("delete", "web")

    def test_passwords_that_are_refused(self):
        self.file("empty", b"")
        self.file("blank", b"\nsesame\n")
        self.file("long", b"a" * 2000)
        self.file("binary", b"se\0same\n")
        self.file("tab", b"se\x07same\n")
        self.file("latin", b"s\xe9same\n")
        for name, words in {"none": "No such file", "empty": "no password in the first line",
                            "blank": "no password", "long": "too long", "binary": "not a file of",
                            "tab": "password: ", "latin": "UTF-8"}.items():
            status = USAGE if name in ("tab", "latin") else FAILED
            self.create_refused(status, f"--password-file={name}", says=words)
        self.assertEqual(self.run_command("list", "-q").out, "old\n")

    def test_user_data(self):
        data = "#!/bin/sh\n: \"quotes\" 'and' {braces}\n# a: b\n\u00e9\\/\n"
        self.file("data", data.encode())
        self.create("--user-data=data")
        with open(self.stored("web.seed.iso"), "rb") as file:
            self.assertIn(data.encode(), file.read())

    def test_user_data_that_is_refused(self):
        self.file("gzip", b"\x1f\x8b\x08\0\0\0")
        self.file("large", b"#" * (MIB + 1))
        self.file("empty", b"")
        self.file("data", b"#cloud-config\n")
        self.create_refused(FAILED, "--user-data=none", says="No such file")
        self.create_refused(FAILED, "--user-data=gzip", says="not a file of text")
        self.create_refused(FAILED, "--user-data=large", says="1024 KiB")
        self.create_refused(USAGE, "--user-data=empty", says="user-data")
        self.create_refused(USAGE, "--user-data=data", "--user=ali", says="user-data")

    def test_the_rest(self):
        self.create("--hostname=buoy", f"--ssh-key={KEY}", "--guest-setup=credentials")
        self.assertFalse(os.path.exists(self.stored("web.seed.iso")))
        self.assertTrue(os.path.exists(self.stored("web.credential1")))
        self.create_refused(USAGE, "--guest-setup=magic", says=["cloud-init", "credentials"])
        self.create_refused(USAGE, "--hostname=a_b", says="hostname")


class Passwords(Case):
    """Passwords that are asked for on a terminal."""

    def ask(self, **keywords):
        return Terminal(self, "create", "web", "--image=debian.raw", "--no-start",
                        "--password-file=-", **keywords)

    def test_it_is_asked_for_twice_and_not_shown(self):
        terminal = self.ask()
        terminal.read_until("Password for the guest: ")
        self.assertFalse(terminal.shows_what_is_typed())
        terminal.type("open sesame\n")
        terminal.read_until("Once more: ")
        terminal.type("open sesame\n")
        self.assertEqual(terminal.wait(0), "\r\n")
        self.assertTrue(terminal.shows_what_is_typed())
        self.assertIn(b"$6$", self.seed())

    def test_the_two_differ(self):
        terminal = self.ask()
        terminal.read_until("Password for the guest: ")
        terminal.type("open sesame\n")
        terminal.read_until("Once more: ")
        terminal.type("open barley\n")
        self.assertIn("uservm: the two passwords differ", terminal.wait(FAILED))
        self.assertEqual(self.run_command("list", "-q").out, "old\n")

    def test_an_interrupt_puts_the_terminal_right(self):
        for text in "\x03", "open\x03":
            terminal = self.ask()
            terminal.read_until("Password for the guest: ")
            terminal.type(text)
            terminal.wait(-signal.SIGINT)
            self.assertTrue(terminal.shows_what_is_typed())
        for number in signal.SIGTERM, signal.SIGHUP:
            terminal = self.ask()
            terminal.read_until("Password for the guest: ")
            terminal.process.send_signal(number)
            terminal.wait(-number)
            self.assertTrue(terminal.shows_what_is_typed())

    def test_the_end_of_the_input(self):
        terminal = self.ask()
        terminal.read_until("Password for the guest: ")
        terminal.type("\x04")
        terminal.read_until("Once more: ")
        terminal.type("\x04")
        self.assertIn("no password", terminal.wait(FAILED))
        self.assertTrue(terminal.shows_what_is_typed())


class Changes(Case):
    def test_a_new_name(self):
        self.create()
        self.assertEqual(self.run_command("rename", "web", "site").out, "")
        self.assertEqual(self.run_command("list", "-q").out, "old\nsite\n")
        self.refused(FAILED, "rename", "site", "old", says="'old'")
        self.refused(USAGE, "rename", "site", "a/b", says="name")
        self.refused(NOT_FOUND, "rename", "web", "other", says="'web'")

    def test_memory_and_CPUs(self):
        self.create("-m", "1G", "-c", "2")
        self.assertEqual(self.run_command("set", "web", "--memory=512M", "-c", "4").out, "")
        vm = self.run_command("show", "web", "--json").json
        self.assertEqual((vm["memory"], vm["vcpus"], vm["live-memory"], vm["live-vcpus"]),
                         (512 * MIB, 4, 0, 0))
        self.refused(USAGE, "set", "web", says=["--memory", "--vcpus"])
        self.refused(USAGE, "set", "web", "-m", "1X", says="'1X'")
        self.refused(USAGE, "set", "web", "-m", "1K", says="memory")
        self.refused(USAGE, "set", "web", "-c", "256", says="255")
        self.refused(USAGE, "set", "web", "-c", "many", says="--vcpus")
        self.refused(NOT_FOUND, "set", "nobody", "-c", "1", says="nobody")

    def test_what_is_pending(self):
        self.create("-m", "1G", "-c", "2")
        self.run_command("start", "web")
        result = self.finish(self.spawn("set", "web", "-m", "2G", "-c", "4"))
        self.assertEqual((result.out, result.err), (
            "", "uservm: 'web' has 1 GiB of memory now, and 2 GiB after the next start\n"
                "uservm: 'web' has 2 vCPUs now, and 4 after the next start\n"))
        text = self.run_command("show", "web").out
        self.assertIn("     vCPUs: 4 (2 now)\n    Memory: 2 GiB (1 GiB now)\n", text)
        self.run_command("poweroff", "web")
        self.assertIn("     vCPUs: 4\n    Memory: 2 GiB\n", self.run_command("show", "web").out)
        self.run_command("start", "web")
        self.assertIn("     vCPUs: 4\n    Memory: 2 GiB\n", self.run_command("show", "web").out)

    def test_show(self):
        self.create()
        text = self.run_command("show", "web").out
        self.assertIn(f"     Disks: vda 1.0 TiB {self.stored('web.qcow2')}\n", text)
        self.assertNotIn("Ready", text)
        self.run_command("start", "web")
        self.assertIn("     Ready: no\n", self.run_command("show", "web").out)


class Copies(Case):
    """Copies that go on until the gate is open."""

    programs = {"qemu-img": SLOW_QEMU_IMG}

    def setUp(self):
        super().setUp()
        self.gate = f"{self.daemon.home}/gate"
        os.mkfifo(self.gate)

    def open_gate(self):
        with open(self.gate, "w", encoding="ascii"):
            pass

    def begin(self, *arguments, **keywords):
        return self.spawn("create", "web", "--image=debian.raw", "--copy", "--no-start", *arguments,
                          cwd=self.daemon.home, **keywords)

    def monitor(self):
        process = subprocess.Popen([command.USERVM, "monitor", "--json"], env=self.environment(),
                                   stdout=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        lines = Lines(process)
        while self.event(lines)["event"] != "synced":
            pass
        return lines

    def event(self, lines):
        return json.loads(lines.take(1)[0])

    def wait_copying(self, lines):
        while (event := self.event(lines))["event"] != "job-changed":
            pass
        return event["job"]

    def assertNothingIsLeft(self):
        self.assertEqual(self.files(), sorted([self.gate, self.image]))
        self.assertEqual(self.run_command("list", "-q").out, "old\n")

    def test_the_monitor_tells(self):
        lines = self.monitor()
        process = self.begin()
        event = self.event(lines)
        self.assertEqual((event["event"], event["job"]["operation"], event["job"]["vm"],
                          event["job"]["progress"]), ("job-added", "copy", "web", 0.0))
        self.assertGreater(event["job"]["start-time"], 1_700_000_000_000_000)
        job = self.wait_copying(lines)
        self.assertEqual(job["progress"], 0.4)
        self.assertGreater(job["rate"], 0)
        self.open_gate()
        while (event := self.event(lines))["event"] != "job-removed":
            pass
        self.assertEqual(self.finish(process).out, "")

    def bar(self, columns):
        terminal = Terminal(self, "create", "web", "--image=debian.raw", "--copy", "--no-start",
                            columns=columns)
        bar = terminal.read_until("40%")
        bar += terminal.read_until("\x1b[K")
        self.open_gate()
        self.assertTrue(terminal.wait(0).endswith("\r\x1b[K"))
        self.run_command("delete", "web")
        return bar.split("\r")[-1].removesuffix("\x1b[K")

    def test_a_bar(self):
        bar = self.bar(100)
        self.assertRegex(
            bar, r"^copying web  40% \[={16}> {23}\]  [0-9.]+ \w+  [0-9.]+ \w+/s$")

    def test_a_bar_on_a_narrow_terminal(self):
        for columns in 5, 16, 17, 28, 30, 45, 51, 80:
            bar = self.bar(columns)
            self.assertLess(len(bar), columns)
            for room, what in (4, "40%"), (16, "copying web "), (29, "["), (50, "/s"):
                if columns > room:
                    self.assertIn(what, bar, columns)

    def test_no_bar_elsewhere(self):
        process = self.begin()
        self.open_gate()
        result = self.finish(process)
        self.assertEqual((result.out, result.err), ("", ""))

    def test_an_interrupt_cancels(self):
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            lines = self.monitor()
            process = self.begin()
            self.wait_copying(lines)
            process.send_signal(number)
            result = self.finish(process, -number)
            self.assertEqual((result.out, result.err),
                             ("", "uservm: cancelled; nothing of 'web' is left\n"))
            self.assertNothingIsLeft()

    def wait_signals(self, process, expected):
        """Waits until it lets signals wait for it (signalfd(2)), or does not any more."""
        def lets_wait():
            folder = f"/proc/{process.pid}/fd"
            return any("signalfd" in os.path.realpath(f"{folder}/{fd}")
                       for fd in os.listdir(folder))

        end = time.monotonic() + command.TIMEOUT_SEC
        while lets_wait() != expected and time.monotonic() < end:
            time.sleep(0.01)

    def interrupt_before_there_is_a_job(self):
        self.daemon.process.send_signal(signal.SIGSTOP)
        process = self.begin()
        self.wait_signals(process, True)
        process.send_signal(signal.SIGINT)
        self.wait_signals(process, False)
        return process

    def test_an_interrupt_before_there_is_a_job(self):
        process = self.interrupt_before_there_is_a_job()
        self.daemon.process.send_signal(signal.SIGCONT)
        self.assertIn("cancelled", self.finish(process, -signal.SIGINT).err)
        self.assertNothingIsLeft()

    def test_a_second_interrupt_does_not_wait(self):
        process = self.interrupt_before_there_is_a_job()
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(process, -signal.SIGINT).err, "")
        self.daemon.process.send_signal(signal.SIGCONT)

    def jobs(self):
        return [path for path in self.bus.managed_objects() if "/job/" in path]

    def test_Ctrl_C_on_a_terminal(self):
        terminal = Terminal(self, "create", "web", "--image=debian.raw", "--copy", "--no-start")
        terminal.read_until("40%")
        terminal.type("\x03")
        terminal.wait(-signal.SIGINT)
        self.assertTrue(
            terminal.text.endswith("\r\x1b[Kuservm: cancelled; nothing of 'web' is left\r\n"))
        self.assertNothingIsLeft()

    def test_a_signal_that_is_ignored(self):
        lines = self.monitor()
        process = self.begin(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.wait_copying(lines)
        process.send_signal(signal.SIGHUP)
        self.open_gate()
        self.finish(process)
        self.assertEqual(self.run_command("list", "-q").out, "old\nweb\n")

    def test_others_cancel(self):
        lines = self.monitor()
        process = self.begin()
        self.wait_copying(lines)
        self.bus.call(self.jobs()[0], command.daemon.client.JOB, "Cancel")
        self.assertIn("cancelled", self.finish(process, FAILED).err)
        self.assertNothingIsLeft()

    def test_the_service_ends(self):
        lines = self.monitor()
        process = self.begin()
        self.wait_copying(lines)
        self.assertEqual(self.daemon.stop(), 0)
        self.assertIn("cancelled", self.finish(process, FAILED).err)

    def test_the_copy_of_another_disk(self):
        lines = self.monitor()
        process = self.spawn("create", "web", "--image=debian.raw", "--no-start",
                             "--add-disk=image=debian.raw,copy", cwd=self.daemon.home)
        self.wait_copying(lines)
        process.send_signal(signal.SIGINT)
        self.finish(process, -signal.SIGINT)
        self.assertNothingIsLeft()

    def test_the_password_is_forgotten(self):
        self.file("password", b"open sesame, please, at once\n")
        lines = self.monitor()
        process = self.begin("--password-file=password")
        self.wait_copying(lines)
        with open(f"/proc/{process.pid}/maps", encoding="ascii") as maps:
            regions = [line.split()[0] for line in maps if line.split()[1].startswith("rw")]
        with open(f"/proc/{process.pid}/mem", "rb", buffering=0) as memory:
            for region in regions:
                begin, end = (int(number, 16) for number in region.split("-"))
                if end - begin < 256 * MIB:  # not what the sanitizers reserve
                    memory.seek(begin)
                    # free() overwrites the beginning of what is freed
                    self.assertNotIn(b"please, at once", memory.read(end - begin))
        with open(f"/proc/{process.pid}/cmdline", "rb") as file:
            self.assertNotIn(b"sesame", file.read())
        self.open_gate()
        self.finish(process)


class Saving(Case):
    domains = [domain("old", 1, running=True)]

    def test_by_name_and_by_UUID(self):
        for vm in "old", uuid(1):
            self.assertEqual(self.run_command("save", vm).out, "")
            self.assertEqual(self.run_command("show", "old", "--json").json["state"], "saved")
            self.run_command("start", vm)
        self.run_command("poweroff", "old")
        self.refused(FAILED, "save", "old", says="old")


if __name__ == "__main__":
    tap.main()
