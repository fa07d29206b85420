# SPDX-License-Identifier: LGPL-2.1-or-later
"""uservmd under test, on libvirt's test driver, which keeps its domains in the process: each starts
with those it is told of, and nothing outlives it."""

import os
import select
import shutil
import signal
import subprocess
import tempfile
import unittest

import client
from client import GLib

USERVMD = os.environ["USERVMD"]
EXIT_TIMEOUT_SEC = 20
BUS_CONFIG = f"{os.path.dirname(os.path.abspath(__file__))}/session.conf"


def domain(name, number, *, devices="", running=False, memory="1048576"):
    """The XML of a domain; its UUID ends in the number."""
    return f"""
        <domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>
          <name>{name}</name>
          <uuid>{uuid(number)}</uuid>
          <memory unit='KiB'>{memory}</memory>
          <vcpu>3</vcpu>
          <os><type>hvm</type></os>
          <devices>{devices}</devices>
          <test:runstate>{1 if running else 5}</test:runstate>
        </domain>"""


def uuid(number):
    return f"00000000-0000-4000-8000-{number:012d}"


# What the host has must not matter: this passt can do what libvirt needs of one, and no more.
# libvirt's test driver does not run it.
PASST = "#!/bin/sh\necho 'passt 0.0~test'\n"
NO_PASST = "#!/bin/sh\nexit 1\n"

USER_NIC = "<interface type='user'><mac address='52:54:00:00:00:01'/></interface>"


def start_bus(case):
    """Another session bus than that of the tests, which ends with the test at the latest. Returns
    its process and its address."""
    bus = subprocess.Popen(["dbus-daemon", f"--config-file={BUS_CONFIG}", "--nofork",
                            "--print-address"], stdout=subprocess.PIPE, text=True)
    case.addCleanup(bus.stdout.close)
    case.addCleanup(bus.wait)
    case.addCleanup(bus.terminate)
    return bus, bus.stdout.readline().strip()


class Daemon:
    """A uservmd with a home of its own."""

    def __init__(self, uri="test:///default", domains=None, programs=None):
        self.folder = tempfile.mkdtemp(prefix="uservm-test-")
        self.process = None
        self.bus_address = os.environ["DBUS_SESSION_BUS_ADDRESS"]
        self.runtime = f"{self.folder}/run"
        self.log_file = f"{self.folder}/log"
        with open(self.log_file, "x", encoding="utf-8"):
            pass
        for name in ("home", "run", "bin"):
            os.mkdir(f"{self.folder}/{name}", 0o700)
        if domains is not None:
            uri = f"test://{self.write_node(domains)}"
        for name, text in ({"passt": PASST} | (programs or {})).items():
            self.write_program(name, text)
        self.uri = uri

    @property
    def home(self):
        return f"{self.folder}/home"

    @property
    def images(self):
        return f"{self.home}/.local/share/libvirt/images"

    def write_node(self, domains, name="node.xml"):
        path = f"{self.folder}/{name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"<node>{''.join(domains)}</node>")
        return path

    def write_program(self, name, text):
        """Something that uservmd finds in its $PATH before all others."""
        path = f"{self.folder}/bin/{name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o755)

    def environment(self):
        keep = {name: value for name, value in os.environ.items()
                if name.endswith("SAN_OPTIONS") or name == "LANG"}
        return keep | {
            "DBUS_SESSION_BUS_ADDRESS": self.bus_address,
            "HOME": self.home,
            "XDG_RUNTIME_DIR": self.runtime,
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
        }

    def spawn(self, *arguments):
        """Runs uservmd and does not wait for its name on the bus."""
        with open(self.log_file, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([USERVMD, *arguments], env=self.environment(),
                                            stdin=subprocess.DEVNULL, stderr=log)

    def start(self, bus, *arguments):
        self.spawn("--connect", self.uri, *arguments)
        pidfd = os.pidfd_open(self.process.pid)
        end = GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, pidfd, GLib.IOCondition.IN,
                                    lambda *_: True)
        bus.wait(lambda: bus.owner or self.process.poll() is not None,
                 "uservmd's name on the bus")
        GLib.source_remove(end)
        os.close(pidfd)
        if not bus.owner:
            raise AssertionError(f"uservmd did not start:\n{self.log()}")

    def wait_exit(self):
        """Waits until it ends and returns its exit status."""
        pidfd = os.pidfd_open(self.process.pid)
        try:
            if not select.select([pidfd], [], [], EXIT_TIMEOUT_SEC)[0]:
                raise AssertionError(f"uservmd still runs:\n{self.log()}")
        finally:
            os.close(pidfd)
        status = self.process.wait()
        self.process = None
        return status

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.wait_exit()

    def log(self):
        """What it wrote to standard error."""
        with open(self.log_file, encoding="utf-8", errors="replace") as log:
            return log.read()

    def remove(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder)


class Case(unittest.TestCase):
    """Tests with a uservmd each. It must end well, which under the sanitizers means that nothing
    leaked, and give its name on the bus back."""

    uri = "test:///default"
    domains = None
    programs = None
    daemon = None

    def setUp(self):
        self.bus = client.Client()
        self.addCleanup(self.bus.close)
        # a test that was skipped has killed its own, of which the bus may not know yet
        self.bus.wait(lambda: not self.bus.owner, "the name to be free")
        self.daemon = Daemon(self.uri, self.domains, self.programs)
        self.addCleanup(self.daemon.remove)
        self.start()

    def start(self):
        self.daemon.start(self.bus)

    def tearDown(self):
        if self.daemon.process:
            self.assertEqual(self.daemon.stop(), 0, self.daemon.log())
        self.bus.wait(lambda: not self.bus.owner, "the name to be free")

    def diagnostics(self):
        return self.daemon.log() if self.daemon else ""

    # What several tests need

    def assertFails(self, name, function, /, *arguments, says=(), **keywords):
        """The call gives this error (org.uservm1.Error. is left out), whose message has all of
        these words. Returns the message."""
        if "." not in name:
            name = f"org.uservm1.Error.{name}"
        with self.assertRaises(client.Error) as caught:
            function(*arguments, **keywords)
        self.assertEqual(caught.exception.name, name, caught.exception.message)
        self.assertTrue(caught.exception.message)
        for words in [says] if isinstance(says, str) else says:
            self.assertIn(words, caught.exception.message)
        return caught.exception.message

    def features(self):
        return self.bus.get(client.ROOT, "Features", client.MANAGER)

    def need_passt(self):
        if "passt" not in self.features():
            self.skipTest("this libvirt has no passt, which came with 9.1")

    def states(self):
        return {name: state for name, uuid, state, path in self.bus.manager("ListVMs")}

    def files(self):
        """All files in the user's home."""
        return sorted(os.path.join(folder, name)
                      for folder, _, names in os.walk(self.daemon.home) for name in names)
