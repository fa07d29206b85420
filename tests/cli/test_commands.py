# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each command does, and what it prints: for people, for programs, and on a terminal."""

import json
import os
import re

import command
import tap
from command import FAILED, NOT_FOUND, OK, USAGE, passt_nic
from daemon import USER_NIC, domain, uuid

GIB = 1024 ** 3
ODD_NIC = """
    <interface type='user'>
      <mac address='52:54:00:00:00:02'/><backend type='passt'/>
      <portForward proto='tcp' address='127.0.0.1' dev='lo'>
        <range start='18100' end='18109'/>
        <range start='18102' exclude='yes'/><range start='18104' end='18105' exclude='yes'/>
      </portForward>
    </interface>"""


class Commands(command.Case):
    domains = [
        domain("web", 1, devices=passt_nic((18080, 80), (15353, 53, "udp"))),
        domain("on", 2, devices=USER_NIC, running=True),
        domain("bare", 3),
        domain("odd", 4, devices=ODD_NIC),
    ]

    def setUp(self):
        super().setUp()
        self.need_passt()

    def state(self, name):
        return self.run_command("show", name, "--json").json["state"]

    # Reads

    def test_list(self):
        self.assertEqual(self.run_command("list").out, (
            "NAME  STATE    VCPUS  MEMORY  NETWORK  FORWARDS\n"
            "bare  shutoff  3      1 GiB   none\n"
            "odd   shutoff  3      1 GiB   native   18100-18109:18100-18109\n"
            "on    running  3      1 GiB   native\n"
            "web   shutoff  3      1 GiB   native   18080:80, 15353:53/udp\n"))
        self.assertEqual(self.run_command("list", "--all").out, self.run_command("list").out)
        self.assertEqual(self.run_command("list", "-q").out, "bare\nodd\non\nweb\n")

    def test_list_as_JSON(self):
        vms = self.run_command("list", "--json").json
        self.assertEqual([vm["name"] for vm in vms], ["bare", "odd", "on", "web"])
        self.assertEqual(vms[3] | {"disks": []}, self.run_command("show", "web", "--json").json)

    def test_show(self):
        self.assertEqual(self.run_command("show", "web").out, (
            "      Name: web\n"
            f"      UUID: {uuid(1)}\n"
            "     State: shutoff\n"
            "     vCPUs: 3\n"
            "    Memory: 1 GiB\n"
            " Autostart: off\n"
            "   Network: native\n"
            "  Forwards: 127.0.0.1:18080:80/tcp inactive\n"
            "            127.0.0.1:15353:53/udp inactive\n"))
        self.assertEqual(self.run_command("show", uuid(1)).out, self.run_command("show", "web").out)

    def test_show_as_JSON(self):
        vm = self.run_command("show", "web", "--json").json
        forward = {
            "spec": "127.0.0.1:18080:80/tcp", "protocol": "tcp", "address": "127.0.0.1",
            "host-port": 18080, "host-port-end": 18080, "guest-port": 80, "guest-port-end": 80,
            "persistent": True, "state": "inactive",
        }
        self.assertEqual(vm.pop("forwards")[0], forward)
        self.assertEqual(vm, {
            "name": "web", "uuid": uuid(1), "state": "shutoff", "vcpus": 3, "memory": GIB,
            "network": "native", "network-error": "", "autostart": False,
            "live-vcpus": 0, "live-memory": 0, "ready": False,
            "guest-hostname": "", "guest-os": "", "guest-addresses": [], "disks": [],
            "last-error": "", "last-error-operation": "", "last-error-time": 0,
        })

    def test_what_failed_last(self):
        """There is no systemd on this bus that could be asked for it."""
        self.assertNotIn("Failure:", self.run_command("show", "web").out)
        self.refused(FAILED, "autostart", "on", "web", says="systemd")
        self.assertRegex(self.run_command("show", "web").out,
                         r"Failure: 20\d\d-[-\d]+ [:\d]+ Autostart: Autostart needs a systemd")
        vm = self.run_command("show", "web", "--json").json
        self.assertEqual(vm["last-error-operation"], "Autostart")
        self.assertGreater(vm["last-error-time"], 0)

    def test_version(self):
        text = self.run_command("version").out
        for label in "uservm", "uservmd", "libvirt", "QEMU", "passt", "Features":
            self.assertRegex(text, rf"(?m)^ *{label}: ")
        versions = self.run_command("version", "--json").json
        self.assertEqual(set(versions), {"command-version", "version", "libvirt-version",
                                         "qemu-version", "passt-version", "features",
                                         "native-reason"})
        self.assertIn("passt", versions["features"])
        self.assertTrue(versions["native-reason"])

    # A VM as a whole

    def test_a_life(self):
        for name, state in {"start": "running", "pause": "paused", "resume": "running",
                            "reboot": "running", "save": "saved"}.items():
            self.assertEqual(self.run_command(name, "bare").out, "")
            self.assertIn(self.state("bare"), [state, "shutoff"] if name == "reboot" else [state])
            if self.state("bare") == "shutoff":  # how the test driver reboots
                self.run_command("start", "bare")
        self.run_command("start", "bare")
        self.run_command("shutdown", "bare")
        self.assertEqual(self.state("bare"), "shutoff")
        self.run_command("start", uuid(3))
        self.run_command("poweroff", "bare")
        self.run_command("delete", "bare")
        self.refused(NOT_FOUND, "show", "bare", says="'bare'")

    def test_what_a_state_does_not_allow(self):
        self.refused(FAILED, "start", "on", says="on")
        for name in "shutdown", "poweroff", "reboot", "reset", "pause", "resume", "save":
            self.refused(FAILED, name, "bare", says="bare")
        self.refused(FAILED, "delete", "on", says="force")
        self.run_command("delete", "--force", "on")

    def test_several_VMs(self):
        self.run_command("start", "bare", "web")
        self.assertEqual((self.state("bare"), self.state("web")), ("running", "running"))
        self.refused(NOT_FOUND, "poweroff", "bare", "nobody", "web", says="nobody")
        self.assertEqual((self.state("bare"), self.state("web")), ("shutoff", "shutoff"))
        result = self.run_command("poweroff", "bare", "nobody", status=FAILED)
        self.assertEqual(len(result.err.splitlines()), 2)

    def test_autostart_without_systemd(self):
        for switch in "on", "off":
            self.refused(FAILED, "autostart", switch, "web", says="systemd")

    # Forwards

    def test_forwards(self):
        self.assertEqual(self.run_command("forward", "add", "web", "18081:81", "*:18082/udp").out,
                         "127.0.0.1:18081:81/tcp\n*:18082:18082/udp\n")
        self.assertEqual(self.run_command("forward", "list", "web").out, (
            "VM   FORWARD                 STATE     NOTE\n"
            "web  127.0.0.1:18080:80/tcp  inactive\n"
            "web  127.0.0.1:15353:53/udp  inactive\n"
            "web  127.0.0.1:18081:81/tcp  inactive\n"
            "web  *:18082:18082/udp       inactive\n"))
        self.run_command("forward", "remove", "web", "18080", "127.0.0.1:15353:53/udp")
        self.assertEqual(self.run_command("forward", "list", "web", "-q").out,
                         "127.0.0.1:18081:81/tcp\n*:18082:18082/udp\n")
        self.assertEqual(self.run_command("forward", "list", "bare", "-q").out, "")

    def test_forwards_as_JSON(self):
        added, = self.run_command("forward", "add", "web", "0:22", "--json").json
        self.assertGreaterEqual(added["host-port"], 1024)
        listed = self.run_command("forward", "list", "web", "--json").json
        self.assertIn(added, listed)
        self.assertEqual([forward for forward in self.run_command("forward", "list", "--json").json
                          if forward["vm"] == "web"],
                         [{"vm": "web"} | forward for forward in listed])
        self.assertEqual(self.run_command("forward", "list", "bare", "--json").json, [])

    def test_what_others_wrote_as_JSON(self):
        forward, = self.run_command("forward", "list", "odd", "--json").json
        self.assertEqual((forward["interface"], forward["exclude"]),
                         ("lo", [[18102, 18102], [18104, 18105]]))

    def test_forwards_that_are_refused(self):
        self.refused(USAGE, "forward", "add", "web", "nonsense", says="nonsense")
        self.refused(FAILED, "forward", "add", "web", "18080:80", says="18080")
        self.refused(FAILED, "forward", "add", "on", "18080:80", says="'web'")
        self.refused(FAILED, "forward", "add", "bare", "18081:80", says="bare")
        self.refused(FAILED, "forward", "add", "on", "18081:80", "--runtime", says="on")
        self.refused(NOT_FOUND, "forward", "remove", "web", "18081", says="web")
        self.refused(USAGE, "forward", "remove", "web", "nonsense", says="nonsense")

    def test_the_first_failure_ends_it(self):
        result = self.run_command("forward", "add", "web", "18081", "18080", "18083",
                                  status=FAILED)
        self.assertEqual(result.out, "127.0.0.1:18081:18081/tcp\n")
        self.assertNotIn("18083", self.run_command("forward", "list").out)

    def test_a_forward_that_has_to_wait(self):
        result = self.finish(self.spawn("forward", "add", "on", "18081:80"))
        self.assertEqual(result.out, "127.0.0.1:18081:80/tcp\n")
        self.assertRegex(result.err, r"\Auservm: 127.0.0.1:18081:80/tcp is pending: .*passt.*\n\Z")
        self.assertEqual(self.run_command("forward", "list", "on").rows,
                         [["on", "127.0.0.1:18081:80/tcp", "pending"]])


class Creating(command.Case):
    uri = "test:///default"

    def file(self, name):
        path = f"{self.daemon.home}/{name}"
        with open(path, "wb") as file:
            file.truncate(1024 * 1024)
        return path

    def test_all_settings(self):
        self.need_passt()
        for name in "kernel", "initrd", "boot.iso":
            self.file(name)
        result = self.run_command(
            "create", "new", "-m", "512M", "-c", "3", "--disk-size=1G", "--cdrom", "boot.iso",
            "--kernel", "kernel", "--initrd", "./initrd", "--cmdline", "quiet splash",
            "-p", "18080:80", "-p", "0:22", "--accelerator=tcg", "--firmware", "bios",
            "--no-start", "--json", cwd=self.daemon.home).json
        self.assertEqual(
            (result["name"], result["memory"], result["vcpus"], result["state"],
             [forward["guest-port"] for forward in result["forwards"]]),
            ("new", 512 * 1024 ** 2, 3, "shutoff", [80, 22]))
        self.assertTrue(os.path.exists(f"{self.daemon.images}/new.qcow2"))
        self.run_command("delete", "new")
        self.assertFalse(os.path.exists(f"{self.daemon.images}/new.qcow2"))

    def test_storage_that_is_kept(self):
        self.run_command("create", "--name", "new", "-s", "1G", "--no-start")
        self.run_command("delete", "new", "--keep-storage")
        self.assertTrue(os.path.exists(f"{self.daemon.images}/new.qcow2"))

    def test_it_starts(self):
        self.file("disk.img")
        self.assertEqual(
            self.run_command("create", "new", "-d", "disk.img", cwd=self.daemon.home).out, "")
        self.assertEqual(self.run_command("show", "new", "--json").json["state"], "running")

    def test_it_prints_forwards(self):
        self.need_passt()
        out = self.run_command("create", "new", "-s", "1G", "--no-start", "-p", "18080:80").out
        self.assertEqual(out, "127.0.0.1:18080:80/tcp\n")

    def test_what_is_refused(self):
        kernel = f"--kernel={self.file('kernel')}"
        self.refused(USAGE, "create", "new", says=["--disk", "--kernel"])
        self.refused(USAGE, "create", "new", "--initrd=/x", "-s1G", says="--kernel")
        self.refused(USAGE, "create", "one", "--name", "two", kernel, says=["'one'", "'two'"])
        self.refused(USAGE, "create", "new", kernel, "-m", "much", says="memory")
        self.refused(USAGE, "create", "new", kernel, "-c", "256", says="vcpus")
        self.refused(USAGE, "create", "-s1G", "no name", says="name")
        self.refused(USAGE, "create", "new", kernel, "--accelerator=fast", says="accelerator")
        self.refused(USAGE, "create", "new", kernel, "--firmware=none", says="firmware")
        self.refused(USAGE, "create", "new", kernel, "-p", "nonsense", says="nonsense")
        self.refused(USAGE, "create", "new", "-s1G", "-d", "/x", says="disk")
        self.refused(USAGE, "create", "new", kernel, "--cmdline", b"\xff", says="UTF-8")
        self.refused(FAILED, "create", "new", "--kernel=missing", cwd=self.daemon.home,
                     says=f"{self.daemon.home}/missing")
        self.refused(FAILED, "create", "test", kernel, says="test")  # the driver's own
        self.assertEqual(self.run_command("list", "-q").out, "test\n")


class Terminal(command.Case):
    domains = [
        domain("web", 1, devices=passt_nic(*((18000 + n, n) for n in range(1, 30)))),
        domain("grün", 2, running=True),
        domain("other", 3),
    ]

    def setUp(self):
        super().setUp()
        self.need_passt()

    def test_colours(self):
        text = self.run_on_terminal("list", columns=500)
        self.assertIn("\x1b[32mrunning\x1b[0m", text)
        self.assertNotIn("\x1b", self.run_command("list", environment={"TERM": "xterm"}).out)
        for environment in {"NO_COLOR": "1"}, {"TERM": "dumb"}:
            self.assertNotIn("\x1b", self.run_on_terminal("list", environment=environment))

    def test_width(self):
        plain = {"NO_COLOR": "1"}
        for columns in 50, 80, 120:
            text = self.run_on_terminal("list", columns=columns, environment=plain)
            self.assertEqual(max(map(len, text.splitlines())), columns)
            self.assertTrue(text.splitlines()[3].endswith("..."))
        self.assertEqual(self.run_on_terminal("list", columns=1000, environment=plain),
                         self.run_command("list").out)
        for columns, titles in (40, "NAME   STATE    VCPUS  MEMORY  NETWORK"), (20, "NAME   STATE"):
            lines = self.run_on_terminal("list", columns=columns, environment=plain).splitlines()
            self.assertEqual(lines[0], titles)
            self.assertFalse([line for line in lines if len(line) > columns or line.endswith(" ")])
        self.assertEqual(self.run_on_terminal("list", columns=1), "\n" * 4)

    def test_columns_are_as_wide_as_on_the_screen(self):
        lines = self.run_command("list").out.splitlines()
        self.assertEqual(len({line.index(word) for line, word in
                              zip(lines, ("STATE", "running", "shutoff", "shutoff"))}), 1)

    def test_progress_of_what_takes_longer(self):
        process, terminal = self.spawn_on_terminal("wait", "other", "--state=running")
        text = b""
        while not re.search(rb" \d+ s", text):  # it has the whole test's time for that
            text += os.read(terminal, 100)
        self.run_command("start", "other")
        text += command.read_terminal(terminal)
        self.assertEqual(process.wait(command.TIMEOUT_SEC), OK)
        self.assertRegex(text, rb"\A(\rwaiting for other \.\.\. \d+ s)+\r\x1b\[K\Z")


class Names(command.Case):
    """Of other tools, with a control character that begins what is an order to a terminal."""

    domains = [domain("a\x9b2Jb", 1, devices="""
        <disk type='file' device='disk'>
          <source file='/x\x7f'/><target dev='vd\x9b2Ja' bus='virtio'/>
          <address type='pci' bus='0' slot='5'/>
        </disk>""")]

    def test_they_are_no_orders_to_the_terminal(self):
        self.assertEqual(self.run_command("list", "-q").out, "a??2Jb\n")
        self.assertIn(" Disks: vd??2Ja ", self.run_command("show", uuid(1)).out)
        process, terminal = self.spawn_on_terminal("wait", "a\x9b2Jb", "--state=running")
        text = b""
        while not re.search(rb" \d+ s", text):
            text += os.read(terminal, 100)
        self.run_command("start", uuid(1))
        text += command.read_terminal(terminal)
        self.assertEqual(process.wait(command.TIMEOUT_SEC), OK)
        self.assertRegex(text, rb"\A(\rwaiting for a\?\?2Jb \.\.\. \d+ s)+\r\x1b\[K\Z")

    def test_nor_in_the_C_locale(self):
        c_locale = {"LC_ALL": "C"}
        self.assertEqual(self.run_command("list", "-q", environment=c_locale).out, "a??2Jb\n")
        self.refused(NOT_FOUND, "show", "\xdf\x9b2J", environment=c_locale, says="'\xdf??2J'")

    def test_nor_in_JSON(self):
        text = self.run_on_terminal("show", "--json", uuid(1))
        self.assertNotRegex(text, "[\x7f-\x9f]")
        shown = json.loads(text)
        self.assertEqual(shown["name"], "a\x9b2Jb")
        self.assertEqual([(disk["target"], disk["path"]) for disk in shown["disks"]],
                         [("vd\x9b2Ja", "/x\x7f")])


if __name__ == "__main__":
    tap.main()
