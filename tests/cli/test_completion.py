# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completion: what bash offers, and that the scripts of all shells know all commands and options."""

import os
import re
import shutil
import subprocess

import command
import tap
from command import passt_nic
from daemon import domain

COMPLETION = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "cli",
                          "completion")
BASH = """
source "$1"
COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_uservm 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


class Bash(command.Case):
    domains = [domain("web", 1), domain("db", 2), domain("a b", 3)]

    def setUp(self):
        super().setUp()
        os.symlink(command.USERVM, f"{self.daemon.folder}/bin/uservm")

    def complete(self, *words):
        """What may follow; words are as bash splits them."""
        return subprocess.run(["bash", "-c", BASH, "bash", f"{COMPLETION}/uservm", "uservm", *words],
                              env=self.environment(), stdout=subprocess.PIPE, text=True,
                              check=True).stdout.split("\n")[:-1]

    def test_commands(self):
        self.assertEqual(self.complete("sh"), ["show", "shutdown"])
        self.assertEqual(self.complete("forward", ""), ["add", "list", "remove"])
        self.assertEqual(self.complete("help", "po"), ["poweroff"])

    def test_options(self):
        self.assertEqual(self.complete("delete", "--"), ["--force", "--help", "--keep-storage"])
        self.assertEqual(self.complete("forward", "add", "--d"), ["--disruptive"])
        self.assertEqual(self.complete("create", "--firmware", "="), ["bios", "uefi"])
        self.assertEqual(self.complete("create", "--firmware", "=", "u"), ["uefi"])
        self.assertEqual(self.complete("create", "--accelerator", "t"), ["tcg"])
        self.assertEqual(self.complete("wait", "web", "-s", "p"), ["paused"])

    def test_VMs(self):
        vms = ["a\\ b", "db", "web"]
        for name in ("show", "start", "delete", "ssh", "wait", "monitor"):
            self.assertEqual(self.complete(name, ""), vms)
        for name in "add", "remove", "list":
            self.assertEqual(self.complete("forward", name, ""), vms)
        self.assertEqual(self.complete("start", "db", "w"), ["web"])
        self.assertEqual(self.complete("show", "web", ""), [""])
        self.assertEqual(self.complete("autostart", "o"), ["on", "off"])
        self.assertEqual(self.complete("autostart", "on", "w"), ["web"])

    def test_without_the_service(self):
        self.daemon.stop()
        self.assertEqual(self.complete("show", ""), [""])


class BashForwards(Bash):
    domains = [domain("web", 1, devices=passt_nic((18080, 80), (18081, 81)))]

    def setUp(self):
        super().setUp()
        self.need_passt()

    test_VMs = test_commands = test_options = test_without_the_service = None

    def test_forwards(self):
        self.assertEqual(self.complete("forward", "remove", "web", ""),
                         ["127.0.0.1:18080:80/tcp", "127.0.0.1:18081:81/tcp"])
        # bash takes what follows the last colon for the word
        self.assertEqual(self.complete("forward", "remove", "web", "127.0.0.1", ":", "18081"),
                         ["18081:81/tcp"])
        self.assertEqual(self.complete("forward", "remove", "web", "127.0.0.1", ":"),
                         ["18080:80/tcp", "18081:81/tcp"])


class Scripts(command.Case):
    domains = []

    def test_syntax(self):
        for shell, name in {"bash": "uservm", "zsh": "_uservm", "fish": "uservm.fish"}.items():
            if shutil.which(shell):
                subprocess.run([shell, "-n", f"{COMPLETION}/{name}"], check=True)

    def test_that_of_zsh_knows_all_options(self):
        with open(f"{COMPLETION}/_uservm", encoding="utf-8") as file:
            script = file.read()
        names = re.findall(r"^  ([a-z]+(?: add| remove| list)?)\b",
                           self.run_command("--help").out, re.MULTILINE)
        for name in names:
            self.assertRegex(script, rf"(?m)^ +('{name}'|.*\b{name}\b.*)\)")
            for option in re.findall(r"--[a-z-]+", self.run_command("help", *name.split()).out):
                self.assertIn(option, script)


if __name__ == "__main__":
    tap.main()
