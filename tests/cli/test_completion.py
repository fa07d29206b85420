# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completion: what bash, zsh and fish offer, where they are installed."""

import os
import pty
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
((${#COMPREPLY[@]} == 0)) || printf '%s\\n' "${COMPREPLY[@]}"
"""

# What is read before the line: everything that is offered goes to a file, and then it is over.
ZSH = """
fpath=($COMPLETION $fpath)
autoload -Uz compinit && compinit -D -u
bindkey '^I' complete-word
compadd() {
    local -a hits
    [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\\ * ]] || {
        builtin compadd -A hits "$@"
        ((!$#hits)) || print -rl -- $hits >>$OFFERED
    }
    builtin compadd "$@"
}
comppostfuncs=(exit)
"""

FISH = """
source $argv[1]
complete --do-complete="$argv[2]"
"""


class Offers:
    """What each shell has to offer. complete() returns it, sorted; its arguments are the words on
    the line, the last of which is being typed."""

    domains = [domain("web", 1), domain("db", 2), domain("a b", 3)]
    quoted = "a b"

    def setUp(self):
        if not shutil.which(self.shell):
            self.skipTest(f"{self.shell} is not installed")
        super().setUp()
        os.symlink(command.USERVM, f"{self.daemon.folder}/bin/uservm")

    def offered(self, *arguments, **environment):
        out = subprocess.run(arguments, env=self.environment(**environment), check=True, text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout
        return sorted(set(out.splitlines()))

    def test_commands(self):
        self.assertEqual(self.complete("sh"), ["show", "shutdown"])
        self.assertEqual(self.complete("forward", ""), ["add", "list", "remove"])
        self.assertEqual(self.complete("disk", ""), ["list", "resize"])
        self.assertEqual(self.complete("help", "po"), ["poweroff"])

    def test_options(self):
        self.assertEqual({"--force", "--keep-storage"} - set(self.complete("delete", "--")), set())
        self.assertEqual(self.complete("forward", "add", "--d"), ["--disruptive"])
        self.assertEqual(self.complete("create", "--accelerator", "t"), ["tcg"])
        self.assertEqual(self.complete("wait", "web", "-s", "p"), ["paused"])
        self.assertEqual(self.complete("create", "--guest-setup", "c"),
                         ["cloud-init", "credentials"])

    def test_VMs(self):
        vms = [self.quoted, "db", "web"]
        for name in ("show", "start", "delete", "ssh", "wait", "monitor"):
            self.assertEqual(self.complete(name, ""), vms)
        for name in "add", "remove", "list":
            self.assertEqual(self.complete("forward", name, ""), vms)
        self.assertEqual(self.complete("start", "db", "w"), ["web"])
        self.assertFalse(set(vms) & set(self.complete("show", "web", "")))
        self.assertEqual(self.complete("autostart", "o"), ["off", "on"])
        self.assertEqual(self.complete("autostart", "on", "w"), ["web"])
        for name in ["disk", "list"], ["disk", "resize"], ["rename"], ["set"]:
            self.assertEqual(self.complete(*name, ""), vms)

    def test_disks(self):
        self.run_command("create", "new", "-s1M", "--add-disk=size=1M", "--no-start")
        self.assertEqual(self.complete("disk", "resize", "new", ""), ["vda", "vdb"])
        self.assertFalse({"vda", "vdb"} & set(self.complete("disk", "resize", "new", "vda", "")))

    def test_files(self):
        path = f"{self.daemon.folder}/kernel"
        with open(path, "x", encoding="utf-8"):
            pass
        self.assertIn("kernel", self.complete("create", "--kernel", path[:-2])[0])

    def test_without_the_service(self):
        self.daemon.stop()
        self.assertEqual(self.complete("show", ""), [])


class OffersOfForwards(Offers):
    domains = [domain("web", 1, devices=passt_nic((18080, 80), (18081, 81))), domain("db", 2)]

    def setUp(self):
        super().setUp()
        self.need_passt()

    test_VMs = test_commands = test_options = test_disks = test_files = None
    test_without_the_service = None

    def test_forwards(self):
        forwards = ["127.0.0.1:18080:80/tcp", "127.0.0.1:18081:81/tcp"]
        self.assertEqual(self.complete("forward", "remove", "web", ""), forwards)
        self.assertEqual(self.complete("forward", "remove", "--runtime", "web", "127"), forwards)
        self.assertEqual(self.complete("forward", "remove", "db", "127"), [])


class InBash:
    shell = "bash"
    quoted = r"a\ b"

    def complete(self, *words):
        """Words are as bash splits them."""
        return self.offered("bash", "-c", BASH, "bash", f"{COMPLETION}/uservm", "uservm", *words)


class InZsh:
    shell = "zsh"
    quoted = r"a\ b"

    def complete(self, *words):
        """On a terminal: without one there is no completion."""
        home, offered = self.daemon.home, f"{self.daemon.folder}/offered"
        with open(f"{home}/.zshrc", "w", encoding="utf-8") as file:
            file.write(ZSH)
        with open(offered, "w", encoding="utf-8"):
            pass
        pid, terminal = pty.fork()
        if pid == 0:
            os.execvpe("zsh", ["zsh", "-d", "-i"], self.environment(
                TERM="dumb", ZDOTDIR=home, COMPLETION=COMPLETION, OFFERED=offered))
        os.write(terminal, f"uservm {' '.join(words)}\t".encode())
        command.read_terminal(terminal)
        os.waitpid(pid, 0)
        with open(offered, encoding="utf-8") as file:
            return sorted(set(file.read().splitlines()))


class InFish:
    shell = "fish"

    def complete(self, *words):
        lines = self.offered("fish", "--no-config", "-c", FISH, f"{COMPLETION}/uservm.fish",
                             f"uservm {' '.join(words)}")
        return [line.split("\t")[0] for line in lines]


class Bash(InBash, Offers, command.Case):
    def test_after_an_equals_sign(self):
        self.assertEqual(self.complete("create", "--firmware", "="), ["bios", "uefi"])
        self.assertEqual(self.complete("create", "--firmware", "=", "u"), ["uefi"])
        self.assertEqual(self.complete("create", "--add-disk", "=", "i"), ["image="])


class BashForwards(InBash, OffersOfForwards, command.Case):
    def test_after_a_colon(self):
        """bash takes what follows the last one for the word."""
        self.assertEqual(self.complete("forward", "remove", "web", "127.0.0.1", ":", "18081"),
                         ["18081:81/tcp"])
        self.assertEqual(self.complete("forward", "remove", "web", "127.0.0.1", ":"),
                         ["18080:80/tcp", "18081:81/tcp"])


class Zsh(InZsh, Offers, command.Case):
    def test_after_an_equals_sign(self):
        self.assertEqual(self.complete("create", "--firmware="), ["bios", "uefi"])


class ZshForwards(InZsh, OffersOfForwards, command.Case):
    pass


class Fish(InFish, Offers, command.Case):
    def test_after_an_equals_sign(self):
        self.assertEqual(self.complete("create", "--firmware="),
                         ["--firmware=bios", "--firmware=uefi"])


class FishForwards(InFish, OffersOfForwards, command.Case):
    pass


class Scripts(command.Case):
    domains = []

    def test_syntax(self):
        for shell, name in {"bash": "uservm", "zsh": "_uservm", "fish": "uservm.fish"}.items():
            if shutil.which(shell):
                subprocess.run([shell, "-n", f"{COMPLETION}/{name}"], check=True)

    def test_that_of_zsh_knows_all_options(self):
        with open(f"{COMPLETION}/_uservm", encoding="utf-8") as file:
            script = file.read()
        names = re.findall(r"^  ([a-z]+(?: add| remove| list| resize)?)\b",
                           self.run_command("--help").out, re.MULTILINE)
        for name in names:
            self.assertRegex(script, rf"(?m)^ +('{name}'|.*\b{name}\b.*)\)")
            for option in re.findall(r"--[a-z-]+", self.run_command("help", *name.split()).out):
                self.assertIn(option, script)


if __name__ == "__main__":
    tap.main()
