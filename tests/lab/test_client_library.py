# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that know nothing of us but what is installed: one in C with the library, one in Python with
the D-Bus API."""

import os
import subprocess
import tempfile

import lab  # first: it says where the others are
import tap
from lab import stories_in_order as load_tests

EXAMPLE = "/usr/share/doc/uservm/examples/forward.py"
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../client-lib/page.c")


class Library(lab.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.program = f"{cls.folder.name}/page"

    def test_compiles_with_what_pkg_config_says(self):
        flags = lab.run("pkg-config", "--cflags", "--libs", "libuservm").split()
        lab.run("gcc", "-Wall", "-o", self.program, SOURCE, *flags)

    def check_page(self, *wrapper):
        result = subprocess.run([*wrapper, self.program, lab.KERNEL, lab.INITRD],
                                capture_output=True, text=True, check=False)
        lab.comment(result.stdout.strip())
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(":80/tcp, which is active\n", result.stdout)
        self.assertEqual(self.bus.manager("ListVMs"), [])

    def test_adds_a_forward_live_and_fetches_the_page(self):
        self.check_page()

    def test_leaks_nothing(self):
        self.check_page("valgrind", "--quiet", "--leak-check=full", "--error-exitcode=9")


class Python(lab.Story):
    def test_adds_a_forward_live(self):
        self.create(name="web")
        lines = lab.run("/usr/bin/python3", EXAMPLE, "web").splitlines()
        self.assertEqual(lines[0], "web is running")
        spec = lines[1].removeprefix("added ")
        self.assertEqual(lines[2:], [f"web {spec} active"])
        self.assertEqual(lab.wait_answer(int(spec.split(":")[1])), "hello from web")


if __name__ == "__main__":
    tap.main()
