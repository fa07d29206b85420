# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands that wait for a guest, or for changes: wait, ssh, monitor. What passt and the guest would
do behind the host port the test does."""

import json
import os
import select
import signal
import socket
import time

import command
import tap
from command import (FAILED, NOT_FOUND, TIMEOUT, Guest, Lines, close, greet, keep, passt_nic, reset,
                     serve, ssh_banner)
from daemon import USER_NIC, domain, uuid

SSH = """#!/bin/sh
for argument; do printf '%s\\n' "$argument"; done
exit 42
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Waiting(command.Case):
    """VM web runs, and forwards a port that something listens on to its port 80, and to 22."""

    programs = {"ssh": SSH}

    def setUp(self):
        self.treat = reset
        self.guest = Guest(lambda connection: self.treat(connection))
        self.addCleanup(self.guest.close)
        self.other_port = free_port()
        nic = passt_nic((self.guest.port, self.guest_port), (self.other_port, 81),
                        (self.other_port + 1, 83, "tcp", "eth0"))
        self.domains = [domain("web", 1, devices=nic, running=True),
                        domain("off", 2, devices=USER_NIC),
                        domain("plain", 3, devices=USER_NIC, running=True),
                        domain("it's mine", 4, devices=USER_NIC),
                        domain("also mine", 5, devices=USER_NIC, running=True)]
        super().setUp()
        self.need_passt()

    guest_port = 80

    def wait(self, *arguments):
        return self.spawn("wait", *arguments)


class Answers(Waiting):
    def answers_after(self, before, after):
        """It does not return as long as the guest is treated in one way, and returns in the other."""
        self.treat = before
        process = self.wait("web", "--port", "80", "--timeout", "20")
        self.guest.wait_connections(5)
        self.assertIsNone(process.poll())
        self.treat = after
        result = self.finish(process)
        self.assertEqual((result.out, result.err), ("", ""))

    def test_a_server_that_reads(self):
        self.answers_after(reset, serve)

    def test_a_server_that_speaks_first(self):
        self.answers_after(reset, greet)

    def test_behind_an_old_passt(self):
        self.answers_after(close, serve)

    def test_a_guest_that_boots(self):
        self.answers_after(keep, serve)

    def test_no_answer_in_time(self):
        for treat in reset, close, keep:
            self.treat = treat
            self.refused(TIMEOUT, "wait", "web", "--port=80", "--timeout=1",
                         says=["80", "'web'", "in time"])

    def test_an_attempt_that_is_given_up_is_reset(self):
        """passt would go on connecting to the guest otherwise."""
        self.treat = keep
        next_one = len(self.guest.kept)
        self.wait("web", "--port", "80", "--timeout", "20")
        self.guest.wait_connections(3)
        errors = select.poll()
        errors.register(self.guest.kept[next_one], 0)
        self.assertTrue(errors.poll(1000 * command.TIMEOUT_SEC))

    def test_it_does_not_try_too_often(self):
        self.treat = serve
        self.run_command("wait", "web", "--ready")  # uservmd does not ask any more
        self.treat, before = reset, self.guest.count
        self.run_command("wait", "web", "--port=80", "--timeout=3", status=TIMEOUT)
        self.assertLess(self.guest.count - before, 20)

    def test_no_forward_that_works(self):
        self.refused(FAILED, "wait", "web", "--port=82", says=["82", "uservm forward add web 0:82"])
        self.refused(FAILED, "wait", "web", "--port=81", says=[str(self.other_port), "failed"])
        # from this machine nothing comes through an interface other than lo
        self.refused(FAILED, "wait", "web", "--port=83", says="uservm forward add web 0:83")
        self.refused(FAILED, "wait", "off", "--port=80", says="uservm start off")
        self.refused(FAILED, "wait", "it's mine", "--port=80", says="uservm start 'it'\\''s mine'")
        for arguments in ("wait", "also mine", "--port=80"), ("ssh", "also mine"):
            self.refused(FAILED, *arguments, says="uservm forward add 'also mine' 0:")

    def test_the_VM_stops_meanwhile(self):
        process = self.wait("web", "--port=80")
        self.guest.wait_connections(1)
        self.run_command("poweroff", "web")
        self.assertIn("'web' does not run", self.finish(process, FAILED).err)

    def test_the_VM_is_deleted_meanwhile(self):
        process = self.wait("web", "--port=80")
        self.guest.wait_connections(1)
        self.run_command("delete", "-f", "web")
        # it sees the VM shut off first, or only that it is gone
        status = process.wait(command.TIMEOUT_SEC)
        self.assertIn(status, (FAILED, NOT_FOUND))
        self.assertTrue(self.finish(process, status).err)


class Ready(Waiting):
    def test_a_server_that_answers(self):
        process = self.wait("web", "--ready", "--timeout=20")
        self.treat = serve
        result = self.finish(process)
        self.assertEqual((result.out, result.err), ("", ""))
        self.assertIn("     Ready: yes\n", self.run_command("show", "web").out)
        self.run_command("wait", "web", "--ready")

    def test_not_in_time(self):
        self.assertIn("     Ready: no\n", self.run_command("show", "web").out)
        self.refused(TIMEOUT, "wait", "web", "--ready", "--timeout=1", says=["'web'", "not ready"])

    def test_the_VM_does_not_run(self):
        self.refused(FAILED, "wait", "off", "--ready", says="uservm start off")
        self.refused(NOT_FOUND, "wait", "nobody", "--ready", says="nobody")

    def test_it_stops_meanwhile(self):
        process = self.wait("plain", "--ready")
        self.run_command("poweroff", "plain")
        self.assertIn("'plain' does not run", self.finish(process, FAILED).err)

    def test_state_ready_and_port(self):
        self.treat = serve
        self.run_command("wait", "web", "-s", "running", "-r", "-p", "80", "-t", "20")


class States(Waiting):
    def test_it_is_so_already(self):
        self.run_command("wait", "web", "--state", "running", "--timeout=5")
        self.run_command("wait", uuid(2), "--state=shutoff")

    def test_it_becomes_so(self):
        process = self.wait("off", "--state=running")
        time.sleep(0.3)
        self.assertIsNone(process.poll())
        self.run_command("start", "off")
        self.finish(process)

    def test_it_does_not(self):
        self.refused(TIMEOUT, "wait", "off", "--state=running", "--timeout=1",
                     says=["shutoff", "running"])

    def test_state_and_port(self):
        self.treat = serve
        self.run_command("wait", "web", "--state=running", "--port=80", "--timeout=10")
        self.treat = reset
        self.run_command("wait", "web", "--state=running", "--port=80", "--timeout=1",
                         status=TIMEOUT)

    def test_the_service_ends_and_comes_back(self):
        process = self.wait("off", "--state=running")
        time.sleep(0.3)
        self.assertEqual(self.daemon.stop(), 0)
        # nothing starts it on this bus
        self.assertIn("uservmd", self.finish(process, FAILED).err)


class Ssh(Waiting):
    guest_port = 22

    def ssh(self, *arguments, environment=None):
        """What ssh was called with."""
        result = self.finish(self.spawn("ssh", *arguments, environment=environment), 42)
        self.assertEqual(result.err, "")
        return result.out.splitlines()

    def expected(self, *more, state=None):
        state = state or f"{self.daemon.home}/.local/state"
        return ["-p", str(self.guest.port),
                "-o", f'UserKnownHostsFile="{state}/uservm/known_hosts"',
                "-o", f"HostKeyAlias=uservm-{uuid(1)}", "-o", "StrictHostKeyChecking=accept-new",
                "-o", "ControlPath=none", "-o", "ProxyCommand=none", *more]

    def test_arguments(self):
        self.treat = ssh_banner
        for given, passed in {
                (): ["--", "127.0.0.1"],
                ("-l", "root"): ["-l", "root", "--", "127.0.0.1"],
                ("--login=root", "uname"): ["-l", "root", "--", "127.0.0.1", "uname"],
                ("uname", "-l", "--", "x"): ["--", "127.0.0.1", "uname", "-l", "--", "x"],
                ("--", "uname", "-a"): ["--", "127.0.0.1", "uname", "-a"],
                ("--", "-l", ""): ["--", "127.0.0.1", "-l", ""],
        }.items():
            with self.subTest(given=given):
                self.assertEqual(self.ssh("web", *given), self.expected(*passed))
        self.assertEqual(self.ssh("-l", "me", "web", "--", "id"),
                         self.expected("-l", "me", "--", "127.0.0.1", "id"))
        self.assertEqual(self.ssh(uuid(1)), self.expected("--", "127.0.0.1"))

    def test_where_keys_are_kept(self):
        self.treat = ssh_banner
        self.assertFalse(os.path.exists(f"{self.daemon.home}/.local/state"))
        self.ssh("web")
        self.assertEqual(os.stat(f"{self.daemon.home}/.local/state/uservm").st_mode & 0o777, 0o700)
        state = f"{self.daemon.folder}/a state 100%"
        self.assertEqual(self.ssh("web", environment={"XDG_STATE_HOME": state}),
                         self.expected("--", "127.0.0.1", state=state.replace("%", "%%")))
        self.assertTrue(os.path.isdir(f"{state}/uservm"))
        self.assertEqual(self.ssh("web", environment={"XDG_STATE_HOME": "relative"}),
                         self.expected("--", "127.0.0.1"))
        self.refused(FAILED, "ssh", "web", environment={"XDG_STATE_HOME": "/dev/null"},
                     says="XDG_STATE_HOME")

    def test_it_waits_for_the_banner(self):
        for before in reset, close, keep, greet, serve:
            with self.subTest(before=before.__name__):
                self.treat = before
                process = self.spawn("ssh", "web")
                self.guest.wait_connections(3)
                self.assertIsNone(process.poll())
                self.treat = ssh_banner
                self.finish(process, 42)

    def test_a_server_is_asked_once(self):
        """sshd refuses clients that come often and do not log in."""
        self.treat = ssh_banner
        self.run_command("wait", "web", "--ready")  # uservmd does not ask any more
        before = self.guest.count
        self.ssh("web")
        self.assertEqual(self.guest.count, before + 1)

    def test_no_banner_in_time(self):
        self.refused(TIMEOUT, "ssh", "web", "--timeout=1", says="22")

    def test_no_forward(self):
        self.refused(FAILED, "ssh", "off", says="uservm start off")
        self.refused(FAILED, "ssh", "plain", says=["native", "uservm forward add plain 0:22"])

    def test_no_ssh(self):
        self.treat = ssh_banner
        # all but ssh, as the command may be a script of libtool's
        path = f"{self.daemon.folder}/path"
        os.mkdir(path)
        for name in os.listdir("/usr/bin"):
            if name != "ssh":
                os.symlink(f"/usr/bin/{name}", f"{path}/{name}")
        self.refused(FAILED, "ssh", "web", environment={"PATH": path},
                     says=["ssh", "openssh-client"])


class Monitor(command.Case):
    domains = [domain("web", 1, devices=USER_NIC, running=True), domain("off", 2)]

    def monitor(self, *arguments):
        process = self.spawn("monitor", *arguments)
        self.monitored = Lines(process)
        return process

    def lines(self, n):
        """Without the time of day."""
        lines = self.monitored.take(n)
        for line in lines:
            self.assertRegex(line, r"^\d\d:\d\d:\d\d ")
        return [line[9:] for line in lines]

    def events(self, n):
        return [json.loads(line) for line in self.monitored.take(n)]

    def test_for_people(self):
        self.monitor()
        self.assertEqual(sorted(self.lines(2)), ["off: shutoff", "web: running"])
        self.run_command("pause", "web")
        self.assertEqual(self.lines(1), ["web: paused"])
        self.run_command("delete", "off")
        line, = self.lines(1)
        if line == "off: stopping":
            line, = self.lines(1)
        self.assertEqual(line, "off: deleted")
        self.run_command("create", "new", "-s1G", "--no-start")
        self.assertEqual(self.lines(1), ["new: new, shutoff"])

    def test_forwards(self):
        self.need_passt()
        self.monitor()
        self.lines(2)
        self.finish(self.spawn("forward", "add", "web", "18080:80"))
        line, = self.lines(1)
        self.assertEqual(line, "web: forward 127.0.0.1:18080:80/tcp pending")
        self.run_command("forward", "remove", "web", "18080")
        self.assertEqual(self.lines(1), ["web: forward removed: 127.0.0.1:18080:80/tcp"])

    def test_for_programs(self):
        self.monitor("--json")
        events = self.events(3)
        self.assertEqual([event["event"] for event in events],
                         ["vm-added", "vm-added", "synced"])
        self.assertEqual(sorted((event["vm"] for event in events[:2]),
                                key=lambda vm: vm["name"]),
                         self.run_command("list", "--json").json)
        self.run_command("pause", "web")
        event, = self.events(1)
        self.assertEqual((event["event"], event["changed"], event["vm"]["state"]),
                         ("vm-changed", ["state"], "paused"))
        self.run_command("delete", "off")
        while (event := self.events(1)[0])["event"] != "vm-removed":
            pass
        self.assertEqual(event["vm"]["name"], "off")

    def test_of_some_VMs(self):
        self.monitor("--json", uuid(1))
        self.assertEqual([event["event"] for event in self.events(2)],
                         ["vm-added", "synced"])
        self.run_command("start", "off")
        self.run_command("pause", "web")
        self.assertEqual(self.events(1)[0]["vm"]["name"], "web")

    def test_a_VM_that_is_renamed(self):
        for name, new, given in ("off", "on", "off"), ("on", "off", uuid(2)):
            self.monitor(given)
            self.assertEqual(self.lines(1), [f"{name}: shutoff"])
            self.run_command("rename", name, new)
            self.assertEqual(self.lines(1), [f"{new}: renamed from {name}"])
            self.run_command("start", new)
            self.run_command("save", "web", new)
            lines = []
            while f"{new}: job ended: save" not in lines:
                lines += self.lines(1)
            self.assertIn(f"{new}: running", lines)
            self.assertIn(f"{new}: job begun: save", lines)
            self.assertFalse([line for line in lines if "web" in line])
            self.run_command("start", "web", new)
            self.run_command("poweroff", new)

    def test_a_VM_that_is_made_anew(self):
        self.monitor("off")
        self.lines(1)
        self.run_command("delete", "off")
        self.assertEqual(self.lines(2), ["off: stopping", "off: deleted"])
        self.run_command("create", "off", f"--kernel={__file__}", "--no-start")
        self.assertEqual(self.lines(1), ["off: new, shutoff"])

    def test_the_service_ends_and_comes_back(self):
        self.monitor()
        self.lines(2)
        self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual(self.lines(1), ["uservmd: has ended"])
        self.bus.wait(lambda: not self.bus.owner, "the name to be free")
        self.start()
        while (line := self.lines(1)[0]) != "uservmd: what the host can do may have changed":
            self.assertRegex(line, "^(web|off): ")
        self.assertEqual(self.lines(1), ["uservmd: is back"])
        self.run_command("pause", "web")
        self.assertEqual(self.lines(1), ["web: paused"])

    def test_nobody_reads(self):
        process = self.monitor()
        self.lines(2)
        process.stdout.close()
        self.run_command("pause", "web")
        self.assertEqual(process.wait(command.TIMEOUT_SEC), -signal.SIGPIPE)


if __name__ == "__main__":
    tap.main()
