# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the documentation shows is what happens: the tour of the README and the examples of uservm(1)
are typed as they stand there, and the demo is run."""

import os
import re
import shutil
import subprocess

import lab  # first: it says where the others are
import tap
from lab import stories_in_order as load_tests

README = "/usr/share/doc/uservm/README.md"
MANUAL = "/usr/share/man/man1/uservm.1"
DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "demo")

# What is another one each time: the UUID in the path of a VM, a port that was picked, and whose home
# it is.
VARYING = ((r"(?<=/org/uservm1/vm/)\w+", "UUID"), (r"\b(3[2-9]|[45]\d|60)\d{3}\b", "PORT"),
           (r"/home/\w+/", "/home/NAME/"))


def sessions(lines):
    """Of the lines of a terminal: each command that is typed, with the output that is shown."""
    found = []
    for line in lines:
        if line.startswith("$ "):
            found.append([line[2:], ""])
        elif found[-1][0].endswith("\\"):
            found[-1][0] += "\n" + line
        else:
            found[-1][1] += line + "\n"
    return found


def read_tour():
    with open(README, encoding="utf-8") as file:
        tour = re.search(r"^## A tour$(.*?)^## ", file.read(), re.MULTILINE | re.DOTALL)[1]
    return sessions(line[4:] for line in tour.splitlines() if line.startswith("    "))


def read_examples():
    with open(MANUAL, encoding="utf-8") as file:
        examples = file.read().split("\n.Sh EXAMPLES\n")[1].split("\n.Sh ")[0]
    blocks = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", examples, re.MULTILINE | re.DOTALL)
    return sessions("".join(blocks).replace("\\e", "\\").replace("\\&", "").splitlines())


def constant(text):
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return text.rstrip()


class Typed(lab.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        os.chdir(os.path.expanduser("~"))
        with open(".curlrc", "w", encoding="ascii") as file:
            file.write("silent\nshow-error\n")  # as if it was on a terminal
        with open("secret", "w", encoding="ascii") as file:
            file.write("open sesame\n")
        os.makedirs(".ssh", 0o700, exist_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ".ssh/id_ed25519"],
                       check=True)
        shutil.copy("/usr/share/uservm-guest/debian.qcow2", "debian-13.qcow2")
        cls.shell = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True)
        cls.addClassCleanup(cls.shell.wait)
        cls.addClassCleanup(cls.shell.stdout.close)
        cls.addClassCleanup(cls.shell.stdin.close)

    def type(self, command):
        """What a shell, always the same, prints."""
        self.shell.stdin.write(f"{command}\necho; echo this was it\n")
        self.shell.stdin.flush()
        output = ""
        while not output.endswith("\nthis was it\n"):
            line = self.shell.stdout.readline()
            self.assertTrue(line, f"{command}: the shell has ended after {output}")
            output += line
        return output.removesuffix("\nthis was it\n")

    def type_all(self, typed):
        self.assertGreater(len(typed), 5)
        for command, output in typed:
            if "uservm ssh" not in command:  # who would wait for that guest, or have installed one?
                self.assertEqual(constant(self.type(command)), constant(output), command)

    def test_the_tour(self):
        self.type_all(read_tour())
        self.assertEqual(self.bus.manager("ListVMs"), [])

    def test_the_examples(self):
        with open("debian.iso", "wb") as file:
            file.truncate(1 << 20)
        self.type_all(read_examples())
        self.delete("box", force=True)
        self.assertEqual(self.bus.manager("ListVMs"), [])


class Demo(lab.Story):
    def test_it_ends_with_replies_a_table_and_a_shell(self):
        output = lab.run(DEMO)
        self.assertEqual(output.count("hello from web\n"), 2)
        self.assertIn(
            "$ uservm forward list web\n"
            "VM   FORWARD                STATE   NOTE\n"
            "web  127.0.0.1:8080:80/tcp  active\n"
            "web  127.0.0.1:8081:81/tcp  active\n", output)
        self.assertIn("\nI am user on debian\n", output)
        self.assertTrue(output.endswith(f"left {lab.GUEST}/debian.qcow2\n"), output)
        self.assertEqual(self.bus.manager("ListVMs"), [])


if __name__ == "__main__":
    tap.main()
