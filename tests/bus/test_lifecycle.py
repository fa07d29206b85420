# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a VM's methods do to its state, what they refuse, and that the bus is told of changes when
there are any, and only then."""

import os
import time

import client
import daemon
import tap
from client import Gio, GLib, changes
from daemon import domain

OFF, ON, PAUSED, SAVED = "shutoff", "running", "paused", "saved"

# From which states a method leads to which, and the states shown on the way.
TRANSITIONS = [
    ("Start", OFF, ["starting", ON]),
    ("Start", SAVED, ["starting", ON]),
    ("Shutdown", ON, [OFF]),  # the test driver's guests obey at once
    ("PowerOff", ON, ["stopping", OFF]),
    ("PowerOff", PAUSED, ["stopping", OFF]),
    ("Reboot", ON, []),
    ("Reset", ON, []),
    ("Pause", ON, [PAUSED]),
    ("Resume", PAUSED, [ON]),
    ("Save", ON, ["stopping", SAVED]),
]

REFUSALS = [
    ("Start", ON, "AlreadyRunning"),
    ("Start", PAUSED, "AlreadyRunning"),
    ("Shutdown", OFF, "NotRunning"),
    ("PowerOff", OFF, "NotRunning"),
    ("PowerOff", SAVED, "NotRunning"),
    ("Reboot", OFF, "NotRunning"),
    ("Reset", OFF, "NotRunning"),
    ("Pause", OFF, "NotRunning"),
    ("Resume", OFF, "NotRunning"),
    ("Save", OFF, "NotRunning"),
]

# The methods that the manager has, too.
MANAGER_METHODS = {"Start": "StartVM", "Shutdown": "ShutdownVM", "PowerOff": "PowerOffVM",
                   "Reboot": "RebootVM"}

SYSTEMD = """
    <node>
      <interface name="org.freedesktop.systemd1.Manager">
        <method name="EnableUnitFiles">
          <arg type="as" direction="in"/>
          <arg type="b" direction="in"/>
          <arg type="b" direction="in"/>
          <arg type="b" direction="out"/>
          <arg type="a(sss)" direction="out"/>
        </method>
        <method name="Reload"/>
      </interface>
    </node>"""


class Lifecycle(daemon.Case):
    domains = [domain("web", 1, devices=daemon.USER_NIC)]

    def setUp(self):
        super().setUp()
        self.path = self.bus.manager("GetVM", "(s)", "web")

    def state(self):
        return self.bus.get(self.path, "State")

    def bring_to(self, state):
        """From shutoff."""
        steps = {OFF: [], ON: ["Start"], PAUSED: ["Start", "Pause"], SAVED: ["Start", "Save"]}
        if self.state() in (ON, PAUSED):
            self.bus.vm(self.path, "PowerOff")
        for method in steps[state]:
            if self.state() == SAVED:
                self.bus.vm(self.path, "Start")
            else:
                self.bus.vm(self.path, method)
        self.assertEqual(self.state(), state)
        self.bus.take_signals()

    def check_transition(self, call, before, shown):
        self.bring_to(before)
        call()
        after = shown[-1] if shown else before
        # At once, and in the signals that came before the reply.
        seen = changes(self.bus.take_signals(), self.path)
        self.assertEqual([change["State"] for change in seen], shown)
        self.check_live(after)
        self.assertEqual(self.state(), after)
        self.assertEqual(self.states(), {"web": after})

    def check_live(self, state):
        """What a VM has now, if it runs."""
        runs = state in (ON, PAUSED)
        self.assertEqual((self.bus.get(self.path, "LiveVCPUs"),
                          self.bus.get(self.path, "LiveMemory")), (3, 1 << 30) if runs else (0, 0))

    def check_refusal(self, call, before, error):
        self.bring_to(before)
        self.assertFails(error, call, says="'web'")
        self.assertEqual(changes(self.bus.take_signals(), self.path), [])
        self.assertEqual(self.state(), before)

    def test_methods_of_the_VM(self):
        for method, before, shown in TRANSITIONS:
            with self.subTest(method=method, before=before):
                self.check_transition(lambda: self.bus.vm(self.path, method), before, shown)
                self.bring_to_off()

    def test_methods_of_the_manager(self):
        for method, before, shown in TRANSITIONS:
            if method not in MANAGER_METHODS:
                continue
            with self.subTest(method=method, before=before):
                self.check_transition(
                    lambda: self.bus.manager(MANAGER_METHODS[method], "(s)", "web"), before, shown)
                self.bring_to_off()

    def bring_to_off(self):
        if self.state() == SAVED:
            self.bus.vm(self.path, "Start")
        if self.state() != OFF:
            self.bus.vm(self.path, "PowerOff")

    def test_refusals_of_the_VM(self):
        for method, before, error in REFUSALS:
            with self.subTest(method=method, before=before):
                self.check_refusal(lambda: self.bus.vm(self.path, method), before, error)
                self.bring_to_off()

    def test_refusals_of_the_manager(self):
        for method, before, error in REFUSALS:
            if method not in MANAGER_METHODS:
                continue
            with self.subTest(method=method, before=before):
                self.check_refusal(
                    lambda: self.bus.manager(MANAGER_METHODS[method], "(s)", "web"), before, error)
                self.bring_to_off()

    def test_a_paused_VM_that_is_started_is_said_to_be_paused(self):
        self.bring_to(PAUSED)
        self.assertFails("AlreadyRunning", self.bus.vm, self.path, "Start", says="resume")

    def test_resume_of_a_VM_that_is_not_paused(self):
        self.bring_to(ON)
        with self.assertRaises(client.Error):
            self.bus.vm(self.path, "Resume")
        self.assertEqual(self.state(), ON)

    def test_reading_changes_nothing(self):
        self.bus.get_all(self.path)
        self.bus.manager("ListVMs")
        self.bus.manager("ListForwards", "(s)", "")
        self.bus.managed_objects()
        self.assertEqual(self.bus.take_signals(), [])

    def test_autostart_without_systemd(self):
        self.assertFails("NotSupported", self.bus.set, self.path, "Autostart", True, says="systemd")
        self.assertIs(self.bus.get(self.path, "Autostart"), False)
        self.assertEqual([list(change) for change in changes(self.bus.take_signals(), self.path)],
                         [["LastError"]])

    def test_autostart_when_systemd_does_not_reload(self):
        folder = f"{self.daemon.home}/.config/systemd/user/default.target.wants"

        def answer(connection, sender, path, interface, method, arguments, invocation):
            if method == "Reload":
                invocation.return_dbus_error("org.freedesktop.systemd1.Failed", "no time for that")
                return
            os.makedirs(folder)
            os.symlink("nowhere", f"{folder}/{arguments.unpack()[0][0]}")
            invocation.return_value(GLib.Variant("(ba(sss))", (True, [])))

        self.bus.connection.register_object(
            "/org/freedesktop/systemd1", Gio.DBusNodeInfo.new_for_xml(SYSTEMD).interfaces[0],
            answer, None, None)
        self.bus.call("/", "org.freedesktop.DBus", "RequestName", "(su)",
                      "org.freedesktop.systemd1", 0, destination="org.freedesktop.DBus")
        self.bus.send(self.path, client.PROPERTIES, "Set", "(ssv)", client.VM, "Autostart",
                      client.variant(True)).result()
        self.assertTrue(self.bus.get(self.path, "Autostart"))
        self.assertIn("no time for that", self.daemon.log())

    def test_autostart_that_is_no_boolean(self):
        self.assertFails(client.INVALID_ARGS, self.bus.set, self.path, "Autostart", "yes",
                         says=("Autostart", "'s'"))

    def last_error(self):
        """What the property says, which the bus has been told of just now."""
        value = self.bus.get(self.path, "LastError")
        self.assertIn({"LastError": value}, changes(self.bus.take_signals(), self.path))
        return value

    def test_the_last_failure(self):
        self.bus.create(name="other", kernel="/proc/version", start=False)
        before = time.time()
        message = self.assertFails("VMExists", self.bus.vm, self.path, "Rename", "(s)", "other")
        failure = self.last_error()
        self.assertEqual(failure[:2], ("Rename", message))
        self.assertLessEqual(int(before * 1000000), failure[2])
        self.assertLessEqual(failure[2], time.time() * 1000000)

        # not by what is of no use now, nor by what goes well and is something else
        self.assertFails("NotRunning", self.bus.vm, self.path, "Pause")
        self.bus.vm(self.path, "Start")
        self.assertEqual(self.bus.get(self.path, "LastError"), failure)
        self.bus.vm(self.path, "PowerOff")

        # the next one takes its place
        message = self.assertFails("NotSupported", self.bus.set, self.path, "Autostart", True)
        self.assertEqual(self.last_error()[:2], ("Autostart", message))
        self.bus.vm(self.path, "Rename", "(s)", "new")
        self.assertEqual(self.bus.get(self.path, "LastError")[0], "Autostart")

        # the same one makes up for it
        self.assertFails("VMExists", self.bus.vm, self.path, "Rename", "(s)", "other")
        self.assertEqual(self.last_error()[0], "Rename")
        self.bus.vm(self.path, "Rename", "(s)", "newer")
        self.assertEqual(self.last_error(), ("", "", 0))

    def test_a_line_an_event(self):
        """On standard error, where that is no journal: without a priority in front."""
        self.bus.vm(self.path, "Start")
        self.bus.vm(self.path, "Pause")
        self.bus.vm(self.path, "PowerOff")
        self.assertFails("NotRunning", self.bus.vm, self.path, "Pause")
        lines = self.daemon.log().splitlines()
        self.assertEqual(lines[:3], ["VM 'web' has started", "pause VM 'web': done",
                                     "VM 'web' has stopped"])
        self.assertRegex(lines[3], "^pause VM 'web': .*not running")
        self.assertEqual(len(lines), 4)

    def test_calls_on_one_VM_are_answered_in_their_order(self):
        methods = ["Start", "Start", "Pause", "Resume", "Save", "Start", "PowerOff", "PowerOff"]
        sent = [self.bus.send(self.path, client.VM, method) for method in methods]
        results = []
        for pending in sent:
            try:
                results.append(pending.result())
            except client.Error as error:
                results.append(error.name.split(".")[-1])
        self.assertEqual(results, [None, "AlreadyRunning", None, None, None, None, None,
                                   "NotRunning"])
        self.assertEqual(self.bus.finished, sent)
        self.assertEqual(
            [change["State"] for change in changes(self.bus.take_signals(), self.path)],
            ["starting", ON, PAUSED, ON, "stopping", SAVED, "starting", ON, "stopping", OFF])

    def test_calls_behind_a_delete_find_no_VM(self):
        delete = self.bus.send(client.ROOT, client.MANAGER, "DeleteVM", "(sa{sv})", "web", {})
        start = self.bus.send(client.ROOT, client.MANAGER, "StartVM", "(s)", "web")
        self.assertEqual(delete.result(), {"removed": [], "left": []})
        self.assertFails("NoSuchVM", start.result, says="'web'")


if __name__ == "__main__":
    tap.main()
