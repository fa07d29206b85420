# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests in the lab share: the guest, the ports of the host, and the programs that a user
would look with (busctl, virsh, systemctl).

Each test file has a lab of its own, in which uservmd is not running yet and there is no VM. A class
that derives from Story is one story: its tests run in the order in which they are written, and each
goes on where the one before it ended, because a guest takes seconds to boot.
"""

import glob
import http.client
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import client  # noqa: E402

GUEST = "/usr/share/uservm-guest"
KERNEL = f"{GUEST}/vmlinuz"
INITRD = f"{GUEST}/initrd.img"
CMDLINE = "console=ttyS0 quiet"
# It has a page on the TCP ports 80 to 90, and an echo on TCP and UDP port 7.

BOOT_TIMEOUT_SEC = 120  # without KVM, and there may be another lab beside this one
ATTEMPT_TIMEOUT_SEC = 1  # for one of many


def guest(**settings):
    """The settings of CreateVM for a VM that boots the guest."""
    return {"memory": "256M", "kernel": KERNEL, "initrd": INITRD, "cmdline": CMDLINE} | settings


def comment(text):
    """For who reads the test's output."""
    print("#", text, flush=True)


# Programs

def run(*command, check=True):
    """Runs a program and returns its standard output; a failure says what it printed."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            check=False)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit status {result.returncode}\n"
                             f"{result.stdout}{result.stderr}")
    return result.stdout


def virsh(*arguments, **keywords):
    return run("virsh", "--quiet", "--connect", "qemu:///session", *arguments, **keywords)


def systemctl(*arguments, **keywords):
    return run("systemctl", "--user", *arguments, **keywords)


def plain(value):
    """A value without the types that busctl puts into its JSON."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"type", "data"}:
            return plain(value["data"])
        return {key: plain(item) for key, item in value.items()}
    return value


def busctl(*arguments):
    """The reply's first value, or None."""
    output = run("busctl", "--user", "--json=short", *arguments)
    data = plain(json.loads(output)) if output.strip() else None
    return data[0] if data and arguments[0] == "call" else data


def call(member, *arguments):
    """Calls a method of org.uservm1.Manager with busctl; the arguments are as busctl's."""
    return busctl("call", client.NAME, client.ROOT, client.MANAGER, member, *arguments)


def processes(name):
    """The process IDs of this user's programs whose name begins so (passt's is passt.avx2). Not of
    those that have ended, and whose parent has yet to see that."""
    return [int(pid) for pid in run("pgrep", "--uid", str(os.getuid()), "--runstates", "RSDTt",
                                    f"^{name}", check=False).split()]


def arguments(pid):
    """The command line of a process, which is empty if it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read().split("\0")[:-1]
    except OSError:
        return []


def kill(pid):
    """Kills a process that is not a child, and waits for its end."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [])
    finally:
        os.close(pidfd)


def last_words():
    """The end of the log of each QEMU that has not been ended by anybody."""
    words = []
    for path in glob.glob(os.path.expanduser("~/.cache/libvirt/qemu/log/*.log")):
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line[:400] for line in file if not line.endswith(" \\\n")]
        if any("reason=crashed" in line for line in lines[-3:]):
            words += [f"{path}: {line.rstrip()}" for line in lines[-10:]]
    return "\n".join(words)


def main_pid(unit):
    return int(systemctl("show", "--property=MainPID", "--value", unit))


# libvirt's XML

def definition(name, *, live=False):
    """A domain's XML as a tree: what is stored, or what runs."""
    return ElementTree.fromstring(virsh("dumpxml", *([] if live else ["--inactive"]), name))


def define(domain):
    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        file.write(ElementTree.tostring(domain))
        file.flush()
        virsh("define", file.name)


def wait_console(name, text):
    """Waits for the guest to print this."""
    with open(definition(name, live=True).find("./devices/console").get("tty"), "rb") as console:
        end = time.monotonic() + BOOT_TIMEOUT_SEC
        seen = b""
        while text.encode() not in seen:
            if not select.select([console], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{name} did not print {text!r}, but {seen!r}")
            seen += os.read(console.fileno(), 4096)


def canonical(element):
    return ElementTree.canonicalize(ElementTree.tostring(element, encoding="unicode"),
                                    strip_text=True)


# Ports of the host

def url(port, address="127.0.0.1"):
    return f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"


def fetch(port, address="127.0.0.1", timeout_sec=BOOT_TIMEOUT_SEC):
    """The guest's page, or an OSError or HTTPException."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout_sec)
    try:
        connection.request("GET", "/")
        reply = connection.getresponse()
        if reply.status != http.client.OK:
            raise OSError(f"{url(port, address)}: {reply.status} {reply.reason}")
        return reply.read().decode().strip()
    except (OSError, http.client.HTTPException):
        if connection.sock:
            abandon(connection.sock)
        raise
    finally:
        connection.close()


def abandon(connection):
    """Resets it. After an orderly end passt would go on connecting to the guest for a while, if
    that has not answered yet."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def until(condition, what, timeout_sec=BOOT_TIMEOUT_SEC):
    """Tries until condition() is true, for what sends no signal: a guest that boots."""
    end = time.monotonic() + timeout_sec
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_sec} s for {what}")
        time.sleep(0.1)
    return value


def answers(port, address="127.0.0.1"):
    """The guest's page, or "" if there is none. passt accepts connections from the start, and
    drops them, or lets them wait, until the guest listens."""
    try:
        return fetch(port, address, ATTEMPT_TIMEOUT_SEC)
    except (OSError, http.client.HTTPException):
        return ""


def wait_answer(port, address="127.0.0.1", timeout_sec=BOOT_TIMEOUT_SEC):
    return until(lambda: answers(port, address), f"an answer from {url(port, address)}",
                 timeout_sec)


def wait_no_answer(port):
    until(lambda: not answers(port), f"{url(port)} not to answer any more")


def is_refused(port, address="127.0.0.1"):
    try:
        socket.create_connection((address, port), timeout=ATTEMPT_TIMEOUT_SEC).close()
    except ConnectionRefusedError:
        return True
    return False


def connect_echo(port):
    """A connection to the guest's echo service that has been heard by the guest."""
    def attempt():
        connection = None
        try:
            connection = socket.create_connection(("127.0.0.1", port), ATTEMPT_TIMEOUT_SEC)
            if echoes(connection):
                connection.settimeout(BOOT_TIMEOUT_SEC)
                return connection
        except OSError:
            pass
        if connection:
            abandon(connection)
        return None

    return until(attempt, f"an echo from port {port}")


def echoes(connection, text=b"Is anybody there?"):
    connection.sendall(text)
    received = b""
    while len(received) < len(text):
        more = connection.recv(len(text) - len(received))
        if not more:
            return False
        received += more
    return received == text


def echoes_datagram(port, timeout_sec=BOOT_TIMEOUT_SEC, text=b"Is anybody there?"):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(timeout_sec)
        udp.connect(("127.0.0.1", port))
        try:
            udp.send(text)
            return udp.recv(len(text)) == text
        except OSError:
            return False


# Tests

class Story(unittest.TestCase):
    """See above. The class has one client, whose signals are those of the whole story."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        systemctl("stop", "uservmd.path")  # uservmd runs when a test wants it, and not before
        cls.bus = client.Client()
        cls.addClassCleanup(cls.bus.close)

    def setUp(self):
        self.begin = time.time()

    def diagnostics(self):
        """What one wants to see of a failure."""
        return "\n".join([
            "--- virsh list --all", virsh("list", "--all", check=False),
            "--- listening", run("ss", "-Hltun", check=False),
            "--- journal", run("journalctl", "--user", "--no-pager", "--output=short-precise",
                               f"--since=@{self.begin}", "--lines=60", "--identifier=uservmd",
                               "--identifier=uservm-unit", "--identifier=libvirtd",
                               "--identifier=systemd", "--identifier=passt", check=False),
            "--- QEMUs that have crashed", last_words(),
        ])

    def assertFails(self, name, function, *arguments, says=()):
        """The call gives this error of org.uservm1.Error, and its message has all these words."""
        with self.assertRaises(client.Error) as caught:
            function(*arguments)
        error = caught.exception
        self.assertEqual(error.name, f"org.uservm1.Error.{name}", error.message)
        for words in [says] if isinstance(says, str) else says:
            self.assertIn(words, error.message)

    # What a client asks uservm

    def path(self, name):
        return self.bus.manager("GetVM", "(s)", name)

    def state(self, name):
        return self.bus.get(self.path(name), "State")

    def states(self):
        return {name: state for name, uuid, state, path in self.bus.manager("ListVMs")}

    def forwards(self, name):
        return self.bus.manager("ListForwards", "(s)", name)

    def forward_states(self, name):
        return {forward["spec"]: forward["state"] for forward in self.forwards(name)}

    def create(self, **settings):
        return self.bus.create(**guest(**settings))

    def add(self, name, spec, **options):
        return self.bus.manager("AddPortForward", "(ssa{sv})", name, spec,
                                client.dictionary(options))

    def remove(self, name, spec, **options):
        return self.bus.manager("RemovePortForward", "(ssa{sv})", name, spec,
                                client.dictionary(options))

    def delete(self, name, **options):
        return self.bus.manager("DeleteVM", "(sa{sv})", name, client.dictionary(options))

    def wait_state(self, name, state):
        """Waits for the signal, unless it is so already."""
        try:
            self.bus.wait(lambda: self.state(name) == state, f"VM {name} to be {state}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; it is {self.state(name)}") from None

    def uservmd(self):
        """The process ID of the one on the bus."""
        return self.bus.call("/", "org.freedesktop.DBus", "GetConnectionUnixProcessID", "(s)",
                             client.NAME, destination="org.freedesktop.DBus")

    def wait_another_uservmd(self, *old):
        """Waits until another process than these is on the bus, and returns its ID."""
        def another():
            try:
                pid = self.uservmd()
            except client.Error:
                return None
            return None if pid in old else pid

        return self.bus.wait(another, "another uservmd")

    def wait_ready(self, name):
        """Waits until uservm has found out that the guest is up. A uservmd that has just been
        started has yet to do that."""
        self.bus.wait(lambda: self.bus.get(self.bus.manager("GetVM", "(s)", name), "Ready"),
                      f"the guest of {name} to be ready", 1000 * BOOT_TIMEOUT_SEC)

    def wait_change(self, path, what, value):
        """Waits for a PropertiesChanged that says so."""
        self.bus.wait_signal("PropertiesChanged", lambda signal: signal.path == path
                             and signal.arguments[1].get(what) == value)


def stories_in_order(loader, tests, pattern):
    """For a test file's `load_tests`: unittest would go by the alphabet."""
    classes = {type(test) for suite in tests for test in suite}
    return unittest.TestSuite(
        unittest.TestSuite(case(name) for name in vars(case) if name.startswith("test_"))
        for case in sorted(classes, key=lambda case: case.__firstlineno__))
