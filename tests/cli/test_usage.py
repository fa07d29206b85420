# SPDX-License-Identifier: LGPL-2.1-or-later
"""Wrong, missing and excess arguments of every command: one line that helps, and the exit status."""

import re

import command
import tap
from command import FAILED, NOT_FOUND, USAGE
from daemon import domain

COMMANDS = {
    "list": 0, "show": 1, "create": 1, "delete": None, "start": None, "shutdown": None,
    "poweroff": None, "reboot": None, "reset": None, "pause": None, "resume": None, "save": None,
    "autostart": None, "forward add": None, "forward remove": None, "forward list": 1, "ssh": None,
    "wait": 1, "monitor": None, "version": 0, "help": 2,
}  # with the greatest number of words, None if there is none
NEED_A_VM = set(COMMANDS) - {"list", "create", "autostart", "forward list", "monitor", "version",
                             "help"}


class Usage(command.Case):
    domains = [domain("web", 1)]

    def test_help_lists_all_commands(self):
        for arguments in ["--help"], ["-h"], ["help"]:
            listed = re.findall(r"^  ([a-z]+(?: add| remove| list)?)\b",
                                self.run_command(*arguments).out, re.MULTILINE)
            self.assertEqual(set(listed), set(COMMANDS))

    def test_help_of_each_command(self):
        for name in COMMANDS:
            text = self.run_command(*name.split(), "--help").out
            self.assertTrue(text.startswith(f"uservm {name}"), text)
            self.assertEqual(self.run_command("help", *name.split()).out, text)
            self.assertEqual(self.run_command(*name.split(), "-h").out, text)
            self.assertLessEqual(max(map(len, text.splitlines())), 80, text)
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

    def test_names_of_other_tools(self):
        for other, ours in {"destroy": "poweroff", "undefine": "delete", "rm": "delete",
                            "ps": "list", "stop": "shutdown", "suspend": "pause"}.items():
            self.refused(USAGE, other, "web", says=[f"'{other}'", f"uservm {ours} "])

    def test_unknown_options(self):
        for name in COMMANDS:
            for option in "--nonsense", "-Z", "--nonsense=1":
                self.refused(USAGE, *name.split(), option,
                             says=[option.split("=")[0] + "", f"usage: uservm {name}"])

    def test_missing_words(self):
        for name in NEED_A_VM:
            self.refused(USAGE, *name.split(), says=["missing", f"usage: uservm {name}"])
        for name in "forward add", "forward remove":
            self.refused(USAGE, *name.split(), "web", says=["missing", f"usage: uservm {name}"])
        self.refused(USAGE, "autostart", says="on|off")
        self.refused(USAGE, "autostart", "on", says="on|off")
        self.refused(USAGE, "autostart", "web", "on", says="'web'")
        self.refused(USAGE, "create", says="name")

    def test_words_too_many(self):
        for name, n in COMMANDS.items():
            if n is not None:
                self.refused(USAGE, *name.split(), *["web"] * n, "excess",
                             says=["'excess'", f"usage: uservm {name}"])

    def test_empty_words(self):
        for name in NEED_A_VM:
            self.refused(USAGE, *name.split(), "", "", says="uservm")

    def test_options_and_their_values(self):
        self.refused(USAGE, "create", "a", "--memory", says="'--memory' needs a value")
        self.refused(USAGE, "create", "a", "-m", says="'-m' needs a value")
        self.refused(USAGE, "list", "--json=yes", says="takes no value")
        self.refused(USAGE, "list", "--json", "--quiet", says="exclude")
        self.refused(USAGE, "forward", "list", "--json", "-q", says="exclude")
        for wrong in "0", "-1", "x", "1x", "", "99999999999999999999", " 1":
            self.refused(USAGE, "create", "a", "--kernel=/k", "--vcpus", wrong, says="--vcpus")
            self.refused(USAGE, "wait", "web", "--port", wrong, says="--port")
            self.refused(USAGE, "wait", "web", "--port=80", "--timeout", wrong, says="--timeout")
            self.refused(USAGE, "ssh", "web", "--timeout", wrong, says="--timeout")
        self.refused(USAGE, "wait", "web", "--port=65536", says="65535")
        self.refused(USAGE, "wait", "web", "--state=blue", says=["'blue'", "shutoff"])
        self.refused(USAGE, "wait", "web", says=["--port", "--state"])

    def test_options_anywhere(self):
        for arguments in (["show", "web", "--json"], ["show", "--json", "web"],
                          ["show", "--json", "--", "web"], ["show", "--js", "web"]):
            self.assertEqual(self.run_command(*arguments).json["name"], "web")
        self.refused(USAGE, "show", "--", "web", "--json", says="'--json'")
        self.refused(NOT_FOUND, "show", "--", "--json", says="--json")

    def test_no_such_VM(self):
        for name in NEED_A_VM | {"forward list", "monitor"}:
            more = {"forward add": ["8080"], "forward remove": ["8080"], "wait": ["--port=80"],
                    }.get(name, [])
            self.refused(NOT_FOUND, *name.split(), "nobody", *more, says="nobody")
        self.refused(NOT_FOUND, "wait", "nobody", "--state=running", says="nobody")
        self.refused(NOT_FOUND, "autostart", "on", "nobody", says="nobody")

    def test_no_bus(self):
        environment = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}
        for arguments in (["list"], ["start", "web"], ["monitor"], ["wait", "web", "--port=1"]):
            self.refused(FAILED, *arguments, environment=environment, says="session bus")

    def test_no_service(self):
        self.daemon.stop()
        for arguments in (["list"], ["start", "web"], ["monitor"], ["wait", "web", "--port=1"],
                          ["ssh", "web"], ["version"]):
            self.refused(FAILED, *arguments, says="uservmd")

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            for arguments in ["list"], ["list", "--json"], ["show", "web"], ["--help"], ["monitor"]:
                process = command.subprocess.run(
                    [command.USERVM, *arguments], env=self.environment(), stdout=full,
                    stderr=command.subprocess.PIPE, text=True, timeout=command.TIMEOUT_SEC)
                self.assertEqual(process.returncode, FAILED)
                self.assertRegex(process.stderr, r"\Auservm: cannot write [^\n]*No space[^\n]*\n\Z")


if __name__ == "__main__":
    tap.main()
