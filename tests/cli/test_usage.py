# SPDX-License-Identifier: LGPL-2.1-or-later
"""Wrong, missing and excess arguments of every command: one line that helps, and the exit status.
What the commands are, and what each takes, is what their help says."""

import re
import signal
import subprocess

import command
import tap
from command import FAILED, NOT_FOUND, USAGE
from daemon import domain

NOT_UTF_8 = b"caf\xe9"


class Option:
    def __init__(self, line):
        letter, self.name, self.value = re.match(r" +(?:-(.), )?--([a-z-]+)(?:=(\S+))?  ",
                                                 line).groups()
        self.spellings = [f"--{self.name}"] + ([f"-{letter}"] if letter else [])


class Command:
    """One command as its help has it: its name as a list of words, the least and greatest number of
    words that it takes (None: any number), and its options."""

    def __init__(self, text):
        usage, *lines = text.splitlines()
        self.options = [Option(line) for line in lines if re.match(" +(-., )?--", line)]
        name, words = re.match(r"uservm ([a-z]+(?: [a-z]+\b(?!\|))?)(.*)",
                               usage.replace(" [OPTION...]", "")).groups()
        self.name = name.split()
        self.min = len(re.sub(r"\[.*\]", "", words).split())
        self.max = None if "..." in words else len(words.split())
        self.takes_vm = "VM" in words

    def __str__(self):
        return " ".join(self.name)

    def arguments(self, vm):
        """With which nothing but the VM could be wrong."""
        return {"autostart": ["on", vm], "create": [vm, "--kernel=/k"],
                "disk resize": [vm, "vda", "2T"], "rename": [vm, "other"], "set": [vm, "-c1"],
                "forward add": [vm, "8080"], "forward remove": [vm, "8080"],
                "wait": [vm, "--port=80"]}.get(str(self), [vm] if self.max != 0 else [])


class Usage(command.Case):
    domains = [domain("web", 1)]

    def setUp(self):
        super().setUp()
        self.commands = [
            Command(self.run_command("help", *name.split()).out)
            for name in re.findall(r"^  ([a-z]+(?: add| remove| list| resize)?)\b",
                                   self.run_command("help").out, re.MULTILINE)]
        self.takers = [c for c in self.commands if c.takes_vm]

    def says_usage(self, each, *arguments, says=()):
        says = [says] if isinstance(says, str) else says
        self.refused(USAGE, *each.name, *arguments, says=[f"usage: uservm {each}", *says])

    def test_the_table_is_read(self):
        """The other tests would find nothing wrong if they had nothing to look at."""
        read = {str(c): (c.min, c.max, [o.name for o in c.options]) for c in self.commands}
        self.assertEqual(read["list"], (0, 0, ["all", "quiet", "json", "help"]))
        self.assertEqual(read["show"], (1, 1, ["json", "help"]))
        self.assertEqual(read["start"], (1, None, ["help"]))
        self.assertEqual(read["autostart"], (2, None, ["help"]))
        self.assertEqual(read["forward list"][:2], (0, 1))
        self.assertEqual(read["ssh"], (1, None, ["login", "timeout", "help"]))
        self.assertEqual(read["help"][:2], (0, 1))
        self.assertGreater(len(read), 20)
        self.assertGreater(len(self.takers), 16)

    def test_help_of_each_command(self):
        for each in self.commands:
            text = self.run_command(*each.name, "--help").out
            self.assertTrue(text.startswith(f"uservm {each}"), text)
            self.assertEqual(self.run_command("help", *each.name).out, text)
            self.assertEqual(self.run_command(*each.name, "-h").out, text)
            self.assertLessEqual(max(map(len, text.splitlines())), 80, text)
        for arguments in ["--help"], ["-h"]:
            self.assertEqual(self.run_command(*arguments).out, self.run_command("help").out)
        self.assertIn("uservm forward add", self.run_command("forward", "--help").out)
        self.assertIn("uservm forward add", self.run_command("help", "forward").out)

    def test_version_of_the_command(self):
        self.assertRegex(self.run_command("--version").out, r"\Auservm \d+\.\d+")

    def test_no_command(self):
        self.refused(USAGE, says="--help")
        self.refused(USAGE, "", says="--help")

    def test_unknown_commands(self):
        self.refused(USAGE, "nonsense", says=["'nonsense'", "uservm --help"])
        self.refused(USAGE, "--nonsense", "list", says="'--nonsense'")
        self.refused(USAGE, "help", "nonsense", says="'nonsense'")
        self.refused(USAGE, "help", "list", "show", says="'list'")
        self.refused(USAGE, "forward", says=["add", "remove", "list"])
        self.refused(USAGE, "forward", "nonsense", says=["'forward nonsense'", "add"])
        self.refused(USAGE, "disk", says=["list", "resize"])
        self.refused(USAGE, "disk", "add", says=["'disk add'", "resize"])

    def test_names_of_other_tools(self):
        for other, ours in {"destroy": "poweroff", "undefine": "delete", "rm": "delete",
                            "ps": "list", "stop": "shutdown", "suspend": "pause"}.items():
            self.refused(USAGE, other, "web", says=[f"'{other}'", f"uservm {ours} "])

    def test_unknown_options(self):
        for each in self.commands:
            for option in "--nonsense", "-Z", "--nonsense=1":
                self.says_usage(each, option, says=option.split("=")[0])

    def test_missing_words(self):
        for each in self.commands:
            if each.min > 0:
                self.says_usage(each, *["on"] * (each.min - 1))

    def test_excess_words(self):
        for each in self.commands:
            if each.max is not None and str(each) != "help":  # a command may have two words
                self.says_usage(each, *["web"] * each.max, "excess", says="'excess'")
        self.refused(USAGE, "help", "forward", "add", "excess", says="'excess'")

    def test_empty_words(self):
        for each in self.commands:
            if each.max != 0:
                self.says_usage(each, *[""] * max(each.min, 1), says="empty")

    def test_options_without_their_value(self):
        for each in self.commands:
            for option in each.options:
                for spelling in option.spellings if option.value else []:
                    self.says_usage(each, *each.arguments("web"), spelling,
                                    says=f"'{spelling}' needs a value")

    def test_options_with_a_value_too_much(self):
        for each in self.commands:
            for option in each.options:
                if not option.value:
                    self.says_usage(each, *each.arguments("web"), f"--{option.name}=yes",
                                    says="takes no value")

    def test_options_that_take_a_number(self):
        """Whatever else they are given, it is not taken for one."""
        for each in self.commands:
            for option in each.options:
                if option.value not in ("NUMBER", "PORT", "SECONDS"):
                    continue
                for wrong in "0", "-1", "x", "1x", "", "99999999999999999999", " 1", "1.5", "0x10":
                    self.says_usage(each, *each.arguments("web"), f"--{option.name}={wrong}",
                                    says=f"--{option.name}")

    def test_options_that_exclude_each_other(self):
        for each in self.commands:
            if {"json", "quiet"} <= {option.name for option in each.options}:
                self.says_usage(each, "--json", "--quiet", says="exclude")

    def test_values_that_are_wrong(self):
        self.refused(USAGE, "wait", "web", "--port=65536", says="65535")
        self.refused(USAGE, "wait", "web", "--state=blue", says=["'blue'", "shutoff"])
        self.refused(USAGE, "wait", "web", says=["--ready", "--port", "--state"])
        self.refused(USAGE, "set", "web", says=["--memory", "--vcpus"])
        self.refused(USAGE, "autostart", "web", "on", says=["'web'", "on|off"])
        self.refused(USAGE, "create", says="name")

    def test_options_anywhere(self):
        for arguments in (["show", "web", "--json"], ["show", "--json", "web"],
                          ["show", "--json", "--", "web"], ["show", "--js", "web"]):
            self.assertEqual(self.run_command(*arguments).json["name"], "web")
        self.refused(USAGE, "show", "--", "web", "--json", says="'--json'")
        self.refused(NOT_FOUND, "show", "--", "--json", says="--json")

    def test_no_such_VM(self):
        for each in self.takers:
            self.refused(NOT_FOUND, *each.name, *each.arguments("nobody"), says="nobody")
        self.refused(NOT_FOUND, "wait", "nobody", "--state=running", says="nobody")

    def test_names_that_are_not_UTF_8(self):
        for each in self.takers:
            if str(each) == "wait":  # which looks for it among those there are
                self.refused(NOT_FOUND, *each.name, *each.arguments(NOT_UTF_8), says="caf?")
            else:
                self.refused(USAGE, *each.name, *each.arguments(NOT_UTF_8), says="UTF-8")
        self.refused(USAGE, "create", NOT_UTF_8, "--kernel=/k", says="UTF-8")
        for name in "add", "remove":
            self.refused(USAGE, "forward", name, "web", NOT_UTF_8, says="UTF-8")

    def test_no_bus(self):
        environment = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}
        for each in self.commands:
            if str(each) != "help":
                self.refused(FAILED, *each.name, *each.arguments("web"), says="session bus",
                             environment=environment)

    def test_no_service(self):
        self.daemon.stop()
        for each in self.commands:
            if str(each) != "help":
                self.refused(FAILED, *each.name, *each.arguments("web"), says="uservmd")

    def monitor_bus(self, *rules):
        monitor = subprocess.Popen(["dbus-monitor", *rules], stdout=subprocess.PIPE, text=True)
        self.addCleanup(monitor.stdout.close)
        self.addCleanup(monitor.wait)
        self.addCleanup(monitor.kill)
        self.read_until(monitor, "member=NameLost")  # from then on it is one
        return monitor

    def read_until(self, process, words):
        if not any(words in line for line in process.stdout):
            self.fail(f"{process.args} ended without {words}")

    def test_service_that_ends_before_it_answers(self):
        monitor = self.monitor_bus("interface=org.uservm1.Manager")
        self.daemon.process.send_signal(signal.SIGSTOP)
        process = self.spawn("start", "web")
        self.read_until(monitor, "interface=org.uservm1.Manager")
        self.daemon.stop(signal.SIGKILL)
        self.assertRegex(self.finish(process, FAILED).err,
                         r"\Auservm: uservmd has not answered[^\n]+\n\Z")

    def test_service_that_does_not_answer_in_time(self):
        self.daemon.process.send_signal(signal.SIGSTOP)
        self.refused(FAILED, "show", "web", environment={"SYSTEMD_BUS_TIMEOUT": "1s"},
                     says="uservmd has not answered")
        self.daemon.process.send_signal(signal.SIGCONT)

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            for arguments in ["list"], ["list", "--json"], ["show", "web"], ["--help"], ["monitor"]:
                process = subprocess.run(
                    [command.USERVM, *arguments], env=self.environment(), stdout=full,
                    stderr=subprocess.PIPE, text=True, timeout=command.TIMEOUT_SEC)
                self.assertEqual(process.returncode, FAILED)
                self.assertRegex(process.stderr, r"\Auservm: cannot write [^\n]*No space[^\n]*\n\Z")


if __name__ == "__main__":
    tap.main()
