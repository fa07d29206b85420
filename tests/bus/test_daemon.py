# SPDX-License-Identifier: LGPL-2.1-or-later
"""uservmd as a process: its options, who may run it, its begin and its end."""

import os
import signal
import subprocess
import unittest

import client
import daemon
import tap
from client import Gio, GLib, dictionary
from daemon import domain
from rawbus import RawBus

FLOOD = 10000  # calls
KERNEL = "/proc/version"  # any file will do

# A qemu-img that tells when it begins, and ends when it is told to: how long a VM takes to be
# created is then up to the test.
SLOW_QEMU_IMG = """#!/bin/sh
cd "$(dirname "$0")"
echo begun >begun
read go <go
"""


def run(*arguments, program=(daemon.USERVMD,)):
    return subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=20,
                          stdin=subprocess.DEVNULL, check=False)


class Options(unittest.TestCase):
    def test_help(self):
        result = run("--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for option in ("--connect", "--idle-exit", "--help", "--version"):
            self.assertIn(option, result.stdout)

    def test_version(self):
        result = run("--version")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertRegex(result.stdout, r"^uservm [0-9.]+\n$")

    def test_what_there_is_not(self):
        for arguments in (["--colour"], ["web"], ["--connect"], ["--idle-exit=soon"],
                          ["--idle-exit=-1"], ["--idle-exit="], ["--idle-exit=4294967296"]):
            with self.subTest(arguments=arguments):
                result = run(*arguments)
                self.assertEqual((result.returncode, result.stdout), (1, ""))
                self.assertTrue(result.stderr)

    def test_root_is_refused(self):
        as_root = ("unshare", "--user", "--map-root-user")
        if run("true", program=as_root).returncode != 0:
            self.skipTest("there are no user namespaces here")
        result = run("--connect", "test:///default", program=(*as_root, daemon.USERVMD))
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("root", result.stderr)
        self.assertIn("systemctl --user", result.stderr)


class Life(daemon.Case):
    def test_a_second_one_ends_and_the_first_goes_on(self):
        owner = self.bus.owner
        second = daemon.Daemon()
        self.addCleanup(second.remove)
        second.spawn("--connect", second.uri)
        self.assertEqual(second.wait_exit(), 1)
        self.assertIn("another uservmd has it", second.log())
        self.assertEqual(self.bus.owner, owner)
        self.assertEqual(self.states(), {"test": "running"})

    def test_so_does_one_in_the_same_runtime_folder(self):
        """It has another bus, where it would get the name. It has not touched anything: what the
        first one is making looks like what was left behind."""
        second = daemon.Daemon()
        self.addCleanup(second.remove)
        _, second.bus_address = daemon.start_bus(self)
        second.runtime = self.daemon.runtime
        passt = f"{second.runtime}/libvirt/qemu/run/passt"
        os.makedirs(passt, 0o700)
        pid_file = f"{passt}/uservm-{'0' * 32}-{'0' * 12}.pid"
        with open(pid_file, "x", encoding="ascii"):
            pass
        second.spawn("--connect", second.uri)
        self.assertEqual(second.wait_exit(), 1)
        self.assertIn(f"Another uservmd (process {self.daemon.process.pid})", second.log())
        self.assertTrue(os.path.exists(pid_file))
        self.assertEqual(self.states(), {"test": "running"})

    def test_signals_end_it_well(self):
        for how in (signal.SIGTERM, signal.SIGINT):
            self.assertEqual(self.daemon.stop(how), 0, self.daemon.log())
            self.bus.wait(lambda: not self.bus.owner, "the name to be free")
            self.start()

    def test_it_can_be_started_anew_after_a_kill(self):
        self.assertEqual(self.daemon.stop(signal.SIGKILL), -signal.SIGKILL)
        self.bus.wait(lambda: not self.bus.owner, "the name to be free")
        self.start()
        self.assertEqual(self.states(), {"test": "running"})

    def test_it_ends_without_a_bus(self):
        other = daemon.Daemon()
        self.addCleanup(other.remove)
        other.bus_address = f"unix:path={other.folder}/none"
        other.spawn("--connect", other.uri)
        self.assertEqual(other.wait_exit(), 1)
        self.assertIn("session bus", other.log())


    def test_what_was_sent_before_the_end_is_answered(self):
        """It finds signal and calls at once, and gives up its name before it reads the calls."""
        self.assertEqual(self.states(), {"test": "running"})
        self.daemon.process.send_signal(signal.SIGSTOP)
        calls = [self.bus.send(client.ROOT, client.MANAGER, "ListVMs") for _ in range(100)]
        shutdown = self.bus.send(client.ROOT, client.MANAGER, "PowerOffVM", "(s)", "test")
        self.bus.call("/", "org.freedesktop.DBus", "GetId", destination="org.freedesktop.DBus")
        self.daemon.process.send_signal(signal.SIGTERM)
        self.daemon.process.send_signal(signal.SIGCONT)
        for call in calls:
            self.assertEqual([state for name, uuid, state, path in call.result()], ["running"])
        self.assertIsNone(shutdown.result())
        self.assertEqual(self.daemon.wait_exit(), 0, self.daemon.log())


class Flood(daemon.Case):
    domains = [domain(f"vm{i}", i + 1) for i in range(10)]

    def test_a_client_that_reads_nothing(self):
        """The bus keeps the replies, and others are answered. (What memory it takes is looked at in
        tests/faults/test_load.py, without sanitizers, which keep all that is freed.)"""
        bus = RawBus()
        self.addCleanup(bus.socket.close)
        question = client.NAME, client.ROOT, client.OBJECT_MANAGER, "GetManagedObjects"
        for _ in range(FLOOD):
            bus.socket.sendall(bus.message(*question))
        self.assertEqual(len(self.states()), 10)


class Idle(daemon.Case):
    """It leaves by itself, and not too early."""

    IDLE_SEC = 2
    domains = [domain("web", 1)]

    def start(self):
        self.daemon.start(self.bus, f"--idle-exit={self.IDLE_SEC}")

    def assertStays(self):
        with self.assertRaises(subprocess.TimeoutExpired):
            self.daemon.process.wait(2 * self.IDLE_SEC)

    def assertLeaves(self):
        self.assertEqual(self.daemon.wait_exit(), 0, self.daemon.log())
        self.assertIn("nothing to do", self.daemon.log())
        self.bus.wait(lambda: not self.bus.owner, "the name to be free")

    def test_with_nothing_to_do(self):
        self.assertLeaves()

    def test_not_while_a_client_is_there(self):
        other = client.Client()
        other.manager("ListVMs")
        self.assertStays()
        other.close()
        self.assertLeaves()

    def test_not_while_a_VM_runs(self):
        other = client.Client()
        other.manager("StartVM", "(s)", "web")
        other.close()
        self.assertStays()
        other = client.Client()
        other.manager("PowerOffVM", "(s)", "web")
        other.close()
        self.assertLeaves()

    def test_the_next_one_says_the_same(self):
        other = client.Client()
        before = other.managed_objects()
        other.close()
        self.assertLeaves()
        self.start()
        self.assertEqual(self.bus.managed_objects(), before)


class IdleWithoutLibvirt(Idle):
    """Whether a VM runs cannot be told."""

    def start(self):
        self.daemon.uri = f"test://{self.daemon.folder}/none.xml"
        super().start()

    def test_with_nothing_to_do(self):
        self.assertStays()
        self.daemon.write_node([domain("web", 1)], "none.xml")
        self.assertLeaves()

    test_not_while_a_client_is_there = None
    test_not_while_a_VM_runs = None
    test_the_next_one_says_the_same = None


class Work(daemon.Case):
    """While something takes long."""

    domains = [domain("web", 1)]
    programs = {"qemu-img": SLOW_QEMU_IMG}

    def setUp(self):
        super().setUp()
        for name in ("begun", "go"):
            os.mkfifo(f"{self.daemon.folder}/bin/{name}")

    def begin(self, name="new", **settings):
        """Has a VM created and returns when that is under way."""
        pending = self.bus.send(client.ROOT, client.MANAGER, "CreateVM", "(a{sv})",
                                dictionary({"name": name, "disk-size": "1G"} | settings))
        with open(f"{self.daemon.folder}/bin/begun", encoding="utf-8") as begun:
            self.assertEqual(begun.read(), "begun\n")
        return pending

    def go_on(self):
        with open(f"{self.daemon.folder}/bin/go", "w", encoding="utf-8") as go:
            go.write("go\n")

    def test_other_calls_are_answered_meanwhile(self):
        creation = self.begin()
        web = self.bus.manager("GetVM", "(s)", "web")
        self.bus.vm(web, "Start")
        self.assertEqual(self.states(), {"web": "running"})
        self.bus.create(name="other", kernel=KERNEL)
        self.bus.manager("DeleteVM", "(sa{sv})", "web", dictionary({"force": True}))
        self.assertIsNone(creation.reply)
        self.go_on()
        creation.result()
        self.assertEqual(self.states(), {"new": "running", "other": "running"})

    def test_the_name_of_a_VM_that_is_being_created_is_taken(self):
        creation = self.begin()
        self.assertFails("VMExists", self.bus.create, name="new", disk_size="1G", says="'new'")
        self.assertFails("NoSuchVM", self.bus.manager, "StartVM", "(s)", "new", says="'new'")
        self.go_on()
        creation.result()

    def test_it_is_not_idle_meanwhile(self):
        """Its client is gone, and there is no VM yet."""
        self.assertEqual(self.daemon.stop(), 0)
        self.bus.wait(lambda: not self.bus.owner, "the name to be free")
        self.daemon.start(self.bus, "--idle-exit=2")
        creator = client.Client()
        creator.connection.call(client.NAME, client.ROOT, client.MANAGER, "CreateVM",
                                GLib.Variant("(a{sv})", [dictionary(
                                    {"name": "new", "disk-size": "1G", "start": False})]),
                                None, Gio.DBusCallFlags.NONE, -1, None, None)
        with open(f"{self.daemon.folder}/bin/begun", encoding="utf-8") as begun:
            self.assertEqual(begun.read(), "begun\n")
        creator.close()
        with self.assertRaises(subprocess.TimeoutExpired):
            self.daemon.process.wait(4)
        self.go_on()
        self.assertEqual(self.daemon.wait_exit(), 0, self.daemon.log())

    def test_an_operation_is_finished_and_answered_before_the_end(self):
        creation = self.begin()
        self.daemon.process.send_signal(signal.SIGTERM)
        self.bus.wait(lambda: not self.bus.owner, "the name to be free")
        self.go_on()
        self.assertTrue(creation.result().startswith("/org/uservm1/vm/"))
        self.assertEqual(self.daemon.wait_exit(), 0, self.daemon.log())


class FailingQemuImg(daemon.Case):
    """Its words have bytes that are no UTF-8, as the path of a backing file may have."""

    programs = {"qemu-img": r"""#!/bin/sh
        printf 'no space in caf\351, \277\277 and \300\200 today\n' >&2
        exit 1
        """}

    def test_its_words_are_passed_on_and_nothing_is_left(self):
        self.assertFails("ImageUnusable", self.bus.create, name="new", disk_size="1G",
                         says=("no space in caf", " today"))
        self.assertEqual(self.files(), [])
        self.assertEqual(self.states(), {"test": "running"})


class NoLibvirt(daemon.Case):
    """libvirt cannot be reached at first."""

    def start(self):
        self.daemon.uri = f"test://{self.daemon.folder}/later.xml"
        super().start()

    def test_calls_tell_why(self):
        self.assertEqual(self.states(), {})
        self.assertFails("LibvirtFailed", self.bus.create, name="new", kernel=KERNEL,
                         says=("connect to libvirt", "later.xml"))
        self.assertEqual(self.states(), {})
        self.assertEqual(self.bus.managed_objects(), {})

    def test_libvirt_is_found_when_it_comes(self):
        self.daemon.write_node([domain("web", 1)], "later.xml")
        self.bus.create(name="new", kernel=KERNEL)
        self.bus.wait(lambda: "web" in self.states(), "the domains to be listed")
        self.assertEqual(self.states(), {"web": "shutoff", "new": "running"})
        self.bus.wait(lambda: self.bus.get(client.ROOT, "LibvirtVersion", client.MANAGER),
                      "the host to be looked at")

    def test_libvirt_is_tried_again(self):
        self.daemon.write_node([domain("web", 1)], "later.xml")
        self.bus.wait_signal("InterfacesAdded")
        self.assertEqual(self.states(), {"web": "shutoff"})


if __name__ == "__main__":
    tap.main()
