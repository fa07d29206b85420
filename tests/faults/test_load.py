# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many clients, bad clients, many VMs, many forwards and large calls: answers stay correct, memory is
bounded and returns, and others are answered meanwhile. What is too much is refused and says so."""

import collections
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import uuid
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lab"))
import lab  # noqa: E402  first: it says where the others are
import client  # noqa: E402
import libvirt  # noqa: E402
import managed  # noqa: E402
import tap  # noqa: E402
from lab import stories_in_order as load_tests  # noqa: E402, F401
from rawbus import FIXED_HEADER, RawBus  # noqa: E402

UNIT = "uservmd.service"
CLIENTS = 50
CALLS = 100000
FLOOD = 20000             # calls of a client that reads nothing
WAITING_MAX = 1000        # calls for one VM, see org.uservm1.Manager
VMS = 1000
TABLE_SIZE = 255          # rules of one passt
SLACK_KIB = 3072          # of memory, between two times of rest
REST_SEC = 4              # uservmd gives memory back two seconds after it has had something to do
SLOWEST_SEC = 30          # to be answered while others do their worst, which takes two at most
USUAL_SEC = 1             # for most, which takes milliseconds

LIMITS_EXCEEDED = "org.freedesktop.DBus.Error.LimitsExceeded"


def memory_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))


def descriptors(pid):
    """What is open, by kind, and how often."""
    kinds = collections.Counter()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since
            kinds[os.readlink(f"/proc/{pid}/fd/{number}").split(":[")[0]] += 1
    return kinds


def body(message):
    size = int.from_bytes(message[4:8], "little" if message[:1] == b"l" else "big")
    return message[len(message) - size:]


# The load, in a process of its own: `test_load.py calls`

def flood(expected, questions, number, failures):
    bus = RawBus()
    messages = [bus.message(*questions[i % len(questions)]) for i in range(number)]
    for i, answer in enumerate(bus.exchange(messages)):
        if body(answer) != expected[i % len(expected)]:
            failures.append(f"call {i}: {answer!r}")


def calls(path):
    """50 clients, each in a thread, many calls on their way at a time."""
    name = client.NAME
    questions = [
        (name, client.ROOT, client.MANAGER, "ListVMs"),
        (name, client.ROOT, client.MANAGER, "GetVM", "(s)", "web"),
        (name, client.ROOT, client.MANAGER, "ListForwards", "(s)", "web"),
        (name, client.ROOT, client.MANAGER, "GetVM", "(s)", "nobody"),
        (name, path, client.PROPERTIES, "Get", "(ss)", client.VM, "Forwards"),
        (name, path, "org.freedesktop.DBus.Peer", "Ping"),
        (name, client.ROOT, client.MANAGER, "AddPortForward", "(ssa{sv})", "web", "nonsense", {}),
    ]
    bus = RawBus()
    expected = [body(answer) for answer in bus.exchange([bus.message(*q) for q in questions])]
    failures = []
    threads = [threading.Thread(target=flood, args=(expected, questions, CALLS // CLIENTS,
                                                    failures)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("\n".join(failures[:10]))
    sys.exit(1 if failures else 0)


# The tests

@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Watch:
    """Asks, from a connection of its own, for as long as the with block lasts, and looks at
    uservmd's memory."""

    def __init__(self, pid):
        self.pid = pid
        self.seconds = []
        self.peak_kib = 0
        self.failures = []
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.ending.set()
        self.thread.join()

    def watch(self):
        bus = RawBus()
        questions = [(client.NAME, client.ROOT, "org.freedesktop.DBus.Peer", "Ping"),
                     (client.NAME, client.ROOT, client.MANAGER, "ListVMs")]
        while not self.ending.is_set():
            for question in questions:
                begin = time.monotonic()
                try:
                    bus.call(*question)
                except (client.Error, OSError) as error:
                    self.failures.append(str(error))
                    return
                self.seconds.append(time.monotonic() - begin)
            self.peak_kib = max(self.peak_kib, memory_kib(self.pid))
            time.sleep(0.005)


class Load(managed.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # A guest that answers: for one that does not, what is open changes with each attempt
        cls.bus.create(**lab.guest(name="web", forwards=["8080:80"]))
        cls.wait_ready(cls, "web")
        cls.pid = lab.main_pid(UNIT)
        with Watch(cls.pid):  # what is allocated once
            pass
        cls.rest_kib = cls.resting(cls)

    def create_vm(self, name, **settings):
        """With an empty disk, whose firmware finds nothing to boot, and soon rests."""
        return self.bus.create(**({"name": name, "memory": "32M", "vcpus": client.uint32(1),
                                   "disk-size": "8M"} | settings))

    def resting(self):
        time.sleep(REST_SEC)
        return memory_kib(self.pid)

    @contextlib.contextmanager
    def watched(self, what, bound_kib):
        """Others are answered meanwhile, memory is bounded, and it returns, as do files."""
        self.assertEqual(lab.main_pid(UNIT), self.pid)
        files = descriptors(self.pid)
        with Watch(self.pid) as watch:
            yield
        slowest = max(watch.seconds)
        rest = self.resting()
        lab.comment(f"{what}: {len(watch.seconds)} questions of another client were answered, in "
                    f"{1000 * statistics.median(watch.seconds):.1f} ms (median), "
                    f"{1000 * slowest:.0f} ms at most; uservmd had {watch.peak_kib} KiB at most, "
                    f"{self.rest_kib} before and {rest} after")
        self.assertEqual(watch.failures, [])
        self.assertLess(slowest, SLOWEST_SEC)
        self.assertLess(statistics.median(watch.seconds), USUAL_SEC)
        self.assertLess(watch.peak_kib, self.rest_kib + bound_kib)
        self.assertLess(rest, self.rest_kib + SLACK_KIB)
        self.assertLessEqual(descriptors(self.pid), files, "files are left open")
        self.assertEqual(lab.main_pid(UNIT), self.pid, "it is another uservmd")

    # Calls

    def test_50_clients_100000_calls(self):
        with self.watched("50 clients", 4096):
            begin = time.monotonic()
            result = subprocess.run([sys.executable, __file__, "calls", self.path("web")],
                                    capture_output=True, text=True, check=False)
            lab.comment(f"{CALLS} calls of {CLIENTS} clients in {time.monotonic() - begin:.1f} s")
        self.assertEqual((result.returncode, result.stdout + result.stderr), (0, "\n"))

    def test_a_client_that_reads_nothing(self):
        """The bus takes the replies and keeps them, up to its own limits."""
        bus = RawBus()
        bus.socket.settimeout(2)
        question = client.NAME, client.ROOT, client.OBJECT_MANAGER, "GetManagedObjects"
        with self.watched("a client that reads nothing", 8192):
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < FLOOD:
                    bus.socket.sendall(bus.message(*question))
                    sent += 1
            lab.comment(f"{sent} calls that nobody waits for")
            self.assertGreater(sent, 1000)
            self.add("web", "8081:80")
            self.remove("web", "8081")
            bus.socket.close()
        self.assertAgree("web")

    def test_more_calls_that_change_a_vm_than_may_wait(self):
        """Those that are too many are refused, and say so, at once; the others are done; another VM
        is not concerned."""
        self.create_vm("other", start=False)
        before = self.forward_states("web")
        self.bus.finished.clear()
        (libvirtd,) = lab.processes("libvirtd")
        with self.watched("many changes", 16384), stopped(libvirtd):
            first = self.bus.send(client.ROOT, client.MANAGER, "AddPortForward", "(ssa{sv})", "web",
                                  "8081:80", {})
            others = [self.bus.send(client.ROOT, client.MANAGER, "RemovePortForward", "(ssa{sv})",
                                    "web", "9999", {}) for i in range(2 * WAITING_MAX - 1)]
            refused = others[WAITING_MAX - 1:]
            self.bus.wait(lambda: len(self.bus.finished) >= len(refused), "those that are refused")
            for call in refused:
                self.assertIsError(LIMITS_EXCEEDED, "1000", call.result)
            os.kill(libvirtd, signal.SIGCONT)
            self.add("other", "8091:80")
            first.result()
            for call in others[:WAITING_MAX - 1]:
                self.assertIsError("org.uservm1.Error.NoSuchForward", "9999", call.result)
        self.remove("web", "8081")
        self.assertEqual(self.forward_states("web"), before)
        self.delete("other")

    def assertIsError(self, name, says, function):
        with self.assertRaises(client.Error) as caught:
            function()
        self.assertEqual(caught.exception.name, name, caught.exception.message)
        self.assertIn(says, caught.exception.message)

    def test_clients_that_go_away_mid_call(self):
        """What they had asked for happens or not, and nothing is left of them."""
        with self.watched("clients that go away", 8192):
            for i in range(200):
                bus = RawBus()
                member = "RemovePortForward" if i % 2 else "AddPortForward"
                port = 9000 + i // 2
                bus.socket.sendall(bus.message(
                    client.NAME, client.ROOT, client.MANAGER, member, "(ssa{sv})", "web",
                    f"{port}:80" if member == "AddPortForward" else f"{port}", {}))
                bus.socket.close()
            # in order: after this one all are done
            self.add("web", "8082:80")
            self.remove("web", "8082")
        self.assertAgree("web")
        for spec in self.forward_states("web"):
            if ":90" in spec:
                self.remove("web", spec)
        self.assertAgree("web")

    def test_half_a_message(self):
        """Of a client that then says nothing more: the bus waits for the rest, uservmd does not
        hear of it."""
        bus = RawBus()
        message = bus.message(client.NAME, client.ROOT, client.MANAGER, "ListVMs")
        bus.socket.sendall(message[:FIXED_HEADER + 5])
        self.assertEqual(self.states(), {"web": "running"})
        bus.socket.close()

    # Large calls

    def test_16_kib_of_options(self):
        """One value, many forwards, and many keys that are none."""
        self.assertIsError(client.INVALID_ARGS, "2047", lambda: self.create_vm(
            "long", kernel=lab.KERNEL, cmdline="x=" + "y" * (16 << 10)))
        forwards = [f"127.0.0.1:{port}-{port + 1}:80-81/udp" for port in range(10000, 11200, 2)]
        self.assertGreater(len(",".join(forwards)), 16 << 10)
        self.create_vm("many", forwards=forwards[:TABLE_SIZE], start=False)
        self.assertEqual(managed.stored_specs("many"), forwards[:TABLE_SIZE])
        self.delete("many")
        keys = {f"key-{i}-{'z' * 100}": True for i in range(160)}
        with self.assertRaises(client.Error) as caught:
            self.add("web", "8083:80", **keys)
        self.assertEqual(caught.exception.name, client.INVALID_ARGS)
        self.assertIn("key-", caught.exception.message)
        self.assertLess(len(caught.exception.message), 1000)
        self.assertAgree("web")

    def test_too_large_a_call(self):
        """A name and a spec of a megabyte: refused, and quoted in part only."""
        for arguments in (("x" * (1 << 20), "80:80"), ("web", "8" * (1 << 20))):
            with self.assertRaises(client.Error) as caught:
                self.add(*arguments)
            self.assertLess(len(caught.exception.message), 1000)

    # Forwards

    def test_as_many_forwards_as_passt_takes(self):
        with self.watched("255 forwards", 8192):
            begin = time.monotonic()
            pending = [self.bus.send(client.ROOT, client.MANAGER, "AddPortForward", "(ssa{sv})",
                                     "web", f"{port}:80", {})
                       for port in range(20000, 20000 + TABLE_SIZE - 1)]
            for call in pending:
                call.result()
            lab.comment(f"{len(pending)} forwards added in {time.monotonic() - begin:.1f} s")
            self.assertAgree("web")
            self.assertEqual(len(self.forwards("web")), TABLE_SIZE)

    def test_and_one_more(self):
        for options in {}, {"persistent": False}:
            self.assertFails("NotSupported", lambda: self.add("web", "8084:80", **options),
                             says="255")
        self.assertAgree("web")
        self.remove("web", "20000")
        self.add("web", "8084:80")
        self.assertAgree("web")

    def test_they_are_there_after_a_restart_of_all(self):
        self.power_off("web")
        self.start("web")
        self.assertAgree("web")
        lab.systemctl("restart", UNIT)
        type(self).pid = self.wait_another_uservmd(self.pid)
        self.assertAgree("web")

    def test_one_more_for_a_vm_that_does_not_run(self):
        """It could not be started any more."""
        self.power_off("web")
        self.assertFails("NotSupported", self.add, "web", "8085:80", says="255")
        self.start("web")
        self.assertAgree("web")
        self.delete("web", force=True)
        self.assertNothingLeft()

    def test_more_than_that_in_a_new_vm(self):
        forwards = [f"{port}:80" for port in range(20000, 20001 + TABLE_SIZE)]
        for start in True, False:
            self.assertFails("NotSupported", lambda: self.create_vm(
                "more", forwards=forwards, start=start), says="255")
        self.assertEqual(self.states(), {})
        self.assertNothingLeft()

    # VMs

    def define_many(self, template):
        session = libvirt.open("qemu:///session")
        for i in range(VMS):
            domain = ElementTree.fromstring(template)
            identity = uuid.uuid4()
            domain.find("name").text = f"many{i}"
            domain.find("uuid").text = str(identity)
            nic = domain.find("./devices/interface")
            nic.find("mac").set("address", "52:54:00:" + identity.bytes[:3].hex(":"))
            nic.find("./portForward/range").set("start", str(20000 + i))
            session.defineXML(ElementTree.tostring(domain, encoding="unicode"))
        session.close()

    def test_1000_vms(self):
        self.create_vm("first", start=False, forwards=["19999:80"])
        template = lab.virsh("dumpxml", "--inactive", "first")
        with Watch(self.pid) as watch:
            begin = time.monotonic()
            self.define_many(template)
            self.bus.wait(lambda: len(self.states()) == VMS + 1, f"{VMS + 1} VMs", 120000)
        lab.comment(f"{VMS} VMs defined by another tool are listed {time.monotonic() - begin:.1f} s "
                    f"later; questions were answered in {1000 * max(watch.seconds):.0f} ms at most")
        self.assertEqual(watch.failures, [])
        self.assertEqual(len(self.forwards("")), VMS + 1)

    def test_a_restart_with_1000_vms(self):
        begin = time.monotonic()
        lab.systemctl("restart", UNIT)
        self.assertEqual(len(self.states()), VMS + 1)
        lab.comment(f"with {VMS} VMs, a restart took {time.monotonic() - begin:.1f} s")
        type(self).pid = lab.main_pid(UNIT)
        lab.comment(f"uservmd has {self.resting()} KiB of its own then")
        self.assertLess(memory_kib(self.pid), self.rest_kib + 20 * VMS)

    def test_one_of_1000_is_started(self):
        begin = time.monotonic()
        self.start("many500")
        self.add("many500", "8080:80")
        lab.comment(f"one of them was started, and had another forward, in "
                    f"{time.monotonic() - begin:.2f} s")
        self.assertAgree("many500")
        self.assertFails("PortInUse", self.add, "many500", "20501:80", says="many501")
        self.power_off("many500")

    def test_and_all_are_undefined(self):
        session = libvirt.open("qemu:///session")
        for domain in session.listAllDomains():
            if domain.name() != "first":
                domain.undefine()
        session.close()
        self.bus.wait(lambda: len(self.states()) == 1, "all but one to be gone", 120000)
        rest = self.resting()
        lab.comment(f"uservmd has {rest} KiB after that, and had {self.rest_kib} at first")
        self.assertLess(rest, self.rest_kib + SLACK_KIB)
        self.delete("first")
        self.assertNothingLeft()


if __name__ == "__main__":
    if sys.argv[1:2] == ["calls"]:
        calls(sys.argv[2])
    tap.main()
