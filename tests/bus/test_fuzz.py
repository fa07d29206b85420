# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random calls, well-formed for D-Bus and otherwise of any sense, at everything that the service
has on the bus. It must answer each, and be none the worse for it.

$FUZZ_SEED is a number that a run printed, to have its calls again; $FUZZ_SECONDS how long it goes
on calling. With a uservmd that is built with the sanitizers, which end it when they find something,
this finds most.
"""

import os
import random
import re
import time
import unittest
import xml.etree.ElementTree as ET

import client
import daemon
import malformed
import tap
from client import GLib, Gio

SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(2 ** 32))
SECONDS = float(os.environ.get("FUZZ_SECONDS") or 5)

AT_A_TIME = 16     # calls without a reply yet
GROWTH_KIB = 65536  # how much larger the process may be than after the first calls

PORTS = range(20100, 20108)
NEW_VMS = [f"fuzz-{i}" for i in range(6)]
NOT_A_CHARACTER = "a\ufdd0"  # XML has it, and sd-bus refuses it

DOMAINS = [
    daemon.domain("web", 1, devices=daemon.USER_NIC),
    daemon.domain("on", 2, devices=daemon.USER_NIC, running=True),
    daemon.domain("bare", 3),
    daemon.domain(NOT_A_CHARACTER, 4, devices=daemon.USER_NIC),
]

# How often a method is called; others: 1. So there are VMs to call, and they have forwards.
WEIGHTS = {"CreateVM": 3, "AddPortForward": 3, "RemovePortForward": 2, "Delete": 0.2,
           "DeleteVM": 0.2}

# The names of errors that callers are told of. The last is sd-bus's for a text that is none to it.
ERRORS = re.compile(
    r"org\.uservm1\.Error\.[A-Z][A-Za-z]+|org\.freedesktop\.DBus\.Error\.(InvalidArgs|Failed|"
    r"Unknown(Method|Object|Interface|Property)|PropertyReadOnly|InconsistentMessage)")


def limit_quarantine():
    """Has the address sanitizer keep little of what has been freed: the growth is to be ours."""
    os.environ["ASAN_OPTIONS"] = f"{os.environ.get('ASAN_OPTIONS', '')}:quarantine_size_mb=1"


DISK_KEYS = {"disk": ["s"], "image": ["s"], "copy": ["b"], "disk-size": ["t", "s"]}


class Values:
    """Random values: those that a method may well mean, and any others of a D-Bus type."""

    BASIC = "ybnqiuxtdsog"
    NUMBERS = {"y": 8, "n": -16, "q": 16, "i": -32, "u": 32, "x": -64, "t": 64}

    def __init__(self, random, world):
        self.random = random
        words = world.words
        self.names = ["web", "on", "bare", NOT_A_CHARACTER, *NEW_VMS, *map(daemon.uuid, range(5))]
        ports = [str(port) for port in PORTS]
        self.specs = [f"{port}:80" for port in ports] + [
            f"{ports[0]}-{ports[-1]}", f"*:{ports[1]}/udp", f"[::1]:{ports[2]}:80",
            "0:80", "80:80", "192.0.2.1:20100:80", "20100:x", f"{ports[3]}:81/tcp"]
        self.image, self.key = words["file"], words["key"]
        self.files = [words["image"], words["odd"], words["secret"], words["folder"], "/dev/null",
                      "none", "/none"]
        self.odd = ["", " ", "/", "..", "-f", "<a>&amp;", "a\nb", "%s%n", "x" * 300,
                    "\u00e9" * 150, "\U0001f4a9", "\u202e", "../../etc/passwd", "true", "0"]
        # of CreateVM and of all options: the types that are meant
        self.keys = {
            "name": ["s"], "memory": ["t", "s"], "vcpus": ["u"], "disk": ["s"], "image": ["s"],
            "copy": ["b"], "disk-size": ["t", "s"], "disks": ["aa{sv}"], "cdrom": ["s"],
            "kernel": ["s"], "initrd": ["s"], "cmdline": ["s"], "hostname": ["s"], "user": ["s"],
            "ssh-keys": ["as"], "password": ["s"], "user-data": ["s"], "guest-setup": ["s"],
            "forwards": ["as"], "accelerator": ["s"], "firmware": ["s"], "start": ["b"],
            "autostart": ["b"],
        }
        self.options = {name: ["b"] for name in ("persistent", "disruptive", "force")}

    def text(self):
        words = self.random.choice([self.names, self.names, self.specs, self.files, self.odd])
        text = self.random.choice(words)
        if self.random.random() < 0.1:
            i = self.random.randrange(len(text) + 1)
            text = text[:i] + self.random.choice("0:-/x\u00e9\x01 ") + text[i + 1:]
        return text

    def number(self, bits):
        low, high = (-2 ** (-bits - 1), 2 ** (-bits - 1) - 1) if bits < 0 else (0, 2 ** bits - 1)
        edge = self.random.choice([0, 1, -1, 2, 255, 4096, 2 ** 24, 2 ** 30, 2 ** 40, low, high])
        return min(max(edge, low), high)

    def signature(self, depth=0):
        kind = self.random.random()
        if depth == 3 or kind < 0.7:
            return self.random.choice(self.BASIC)
        if kind < 0.8:
            return "a" + self.signature(depth + 1)
        if kind < 0.85:
            return "v"
        if kind < 0.95:
            return "(" + "".join(self.signature(depth + 1)
                                 for _ in range(self.random.randint(1, 3))) + ")"
        return "a{" + self.random.choice(self.BASIC) + self.signature(depth + 1) + "}"

    def value(self, signature):
        """A value of one complete type."""
        kind = signature[0]
        if kind in self.NUMBERS:
            return self.number(self.NUMBERS[kind])
        if kind == "b":
            return self.random.random() < 0.5
        if kind == "d":
            return self.random.choice([0.0, -1.5, 1e300, float("inf"), float("nan")])
        if kind == "s":
            return self.text()
        if kind == "o":
            return self.random.choice(["/", "/org/uservm1", "/org/uservm1/vm/none"])
        if kind == "g":
            return self.random.choice(["", "s", "a{sv}"])
        if kind == "v":
            inner = self.signature(1)
            return GLib.Variant(inner, self.value(inner))
        if kind == "(":
            return tuple(self.value(part) for part in split(signature[1:-1]))
        if signature.startswith("a{"):
            key, value = split(signature[2:-1])
            return {self.value(key): self.value(value)
                    for _ in range(self.random.randint(0, 3))}
        return [self.value(signature[1:]) for _ in range(self.random.randint(0, 4))]

    def meant(self, key, signature):
        """A value that makes sense for a key."""
        if key in ("disk", "image", "cdrom", "kernel", "initrd"):
            return self.image
        return {
            "name": lambda: self.random.choice(NEW_VMS),
            "memory": lambda: 2 ** 25 if signature == "t" else "64M",
            "vcpus": lambda: self.random.randint(1, 4),
            "disk-size": lambda: 2 ** 20 if signature == "t" else "1M",
            "disks": lambda: [self.dictionary(DISK_KEYS, ["image"])
                              for _ in range(self.random.randint(1, 2))],
            "cmdline": lambda: "quiet <&>",
            "hostname": lambda: "guest.example",
            "user": lambda: "dev",
            "ssh-keys": lambda: [self.key],
            "password": lambda: "open sesame",
            "user-data": lambda: "#cloud-config\n",
            "guest-setup": lambda: self.random.choice(["cloud-init", "credentials"]),
            "forwards": lambda: self.random.sample(self.specs, self.random.randint(0, 2)),
            "accelerator": lambda: self.random.choice(["auto", "tcg", "kvm"]),
            "firmware": lambda: self.random.choice(["bios", "uefi"]),
        }.get(key, lambda: self.value(signature))()

    def dictionary(self, keys, likely):
        """An a{sv} of keys that there are, most with values of their types, and of others."""
        entries = {}
        for key in dict.fromkeys(likely + self.random.choices(list(keys),
                                                              k=self.random.randint(0, 4))):
            signature = self.random.choice(keys[key])
            entries[key] = (signature, self.meant(key, signature))
        if self.random.random() < 0.3:
            key = self.random.choice([*keys, self.text()])
            signature = self.random.choice([*keys.get(key, ()), self.signature()])
            entries[key] = (signature, self.value(signature))
        return {key: GLib.Variant(*entry) for key, entry in entries.items()}

    def argument(self, name, signature, vms):
        """A value for an argument of this name."""
        if name == "settings":
            return self.dictionary(self.keys, ["name", "kernel"])
        if name == "options":
            return self.dictionary(self.options, [])
        if name == "vm" and vms and self.random.random() < 0.8:
            return self.random.choice(vms)
        if name == "spec" and self.random.random() < 0.8:
            return self.random.choice(self.specs)
        return self.value(signature)

    def body(self, arguments, vms):
        """What to call a method with that has these arguments: names and types. vms are names and
        UUIDs that there are."""
        if self.random.random() < 0.1:
            arguments = [(None, self.signature()) for _ in range(self.random.randint(0, 4))]
        return GLib.Variant(f"({''.join(signature for _, signature in arguments)})",
                            tuple(self.argument(*argument, vms) for argument in arguments))


def split(signature):
    """The complete types of a signature."""
    types, i = [], 0
    while i < len(signature):
        start = i
        while signature[i] == "a":
            i += 1
        depth = 0
        while True:
            depth += (signature[i] in "({") - (signature[i] in ")}")
            i += 1
            if depth == 0:
                break
        types.append(signature[start:i])
    return types


class Model:
    """What there is on the bus, as signals tell."""

    def __init__(self, bus):
        self.bus = bus
        bus.take_signals()
        self.objects = bus.managed_objects()

    def apply(self, signal):
        if signal.member == "InterfacesAdded":
            path, interfaces = signal.arguments
            self.objects.setdefault(path, {}).update(interfaces)
        elif signal.member == "InterfacesRemoved":
            path, interfaces = signal.arguments
            for interface in interfaces:
                self.objects[path].pop(interface, None)
            if not self.objects[path]:
                del self.objects[path]
        elif signal.member == "PropertiesChanged" and signal.path in self.objects:
            interface, changed, _ = signal.arguments
            self.objects[signal.path][interface].update(changed)

    def vms(self):
        """Their names and UUIDs."""
        return [vm[client.VM][key] for vm in self.objects.values() if client.VM in vm
                for key in ("Name", "UUID")]

    def paths(self, interface):
        return [path for path, interfaces in self.objects.items() if interface in interfaces]

    def follow(self, n=None):
        """Applies the signals that have come, or the first n of them."""
        for signal in self.bus.signals[:n]:
            self.apply(signal)
        del self.bus.signals[:n]

    def compare(self):
        """Raises if what the service says now is not what its signals add up to."""
        call = self.bus.send(client.ROOT, client.OBJECT_MANAGER, "GetManagedObjects")
        now = call.result()
        self.follow(call.n_signals)
        assert self.objects == now, f"signals say\n{self.objects}\nand the service says\n{now}"


class Method:
    def __init__(self, interface, node):
        self.interface = interface
        self.member = node.get("name")
        self.arguments, reply = ([(argument.get("name"), argument.get("type"))
                                  for argument in node.findall("arg")
                                  if argument.get("direction", "in") == way]
                                 for way in ("in", "out"))
        self.reply = f"({''.join(signature for _, signature in reply)})"


class Fuzz(unittest.TestCase):
    """One uservmd for all of it; the tests are the parts of a run, in order."""

    @classmethod
    def setUpClass(cls):
        limit_quarantine()
        cls.bus = client.Client()
        cls.addClassCleanup(cls.bus.close)
        cls.daemon = daemon.Daemon(domains=DOMAINS)
        cls.addClassCleanup(cls.daemon.remove)
        cls.daemon.start(cls.bus)
        cls.world = malformed.World("web")
        cls.addClassCleanup(cls.world.close)
        cls.random = random.Random(SEED)
        cls.values = Values(cls.random, cls.world)
        cls.model = Model(cls.bus)
        cls.paths = ["/", client.ROOT, f"{client.ROOT}/vm", f"{client.ROOT}/vm/none",
                     f"{client.ROOT}/vm/_30", f"{client.ROOT}/job/1", *cls.model.objects]
        cls.methods = cls.find_methods()
        cls.calls, cls.failures = 0, {}
        cls.descriptors = cls.count_descriptors()

    @classmethod
    def tearDownClass(cls):
        status = cls.daemon.stop()
        if status != 0:
            raise AssertionError(f"uservmd ended with {status}:\n{cls.daemon.log()}")

    @classmethod
    def find_methods(cls):
        """All of ours, and D-Bus's own, which every object has."""
        texts = [cls.bus.introspect(client.ROOT)]
        for name in (client.VM, client.JOB):
            with open(f"{os.environ['BUS_INTERFACES']}/{name}.xml", encoding="utf-8") as file:
                texts.append(file.read())
        return [Method(interface.get("name"), node) for text in texts
                for interface in ET.fromstring(text).iter("interface")
                for node in interface.iter("method")]

    @classmethod
    def count_descriptors(cls):
        return len(os.listdir(f"/proc/{cls.daemon.process.pid}/fd"))

    @classmethod
    def size(cls):
        with open(f"/proc/{cls.daemon.process.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])

    def diagnostics(self):
        return f"FUZZ_SEED={SEED}, call {self.calls}\n" + "\n".join(
            self.daemon.log().splitlines()[-60:])

    # The run

    def choose_path(self, interface):
        known = self.model.paths(interface)
        if self.random.random() < 0.1:
            return self.random.choice(self.paths)
        if known:
            return self.random.choice(known)
        return client.ROOT

    def choose_body(self, method):
        if method.interface == client.PROPERTIES and self.random.random() < 0.8:
            interface = self.random.choice([client.VM, client.MANAGER, client.JOB])
            name = self.random.choice(["Name", "State", "Autostart", "Forwards", "Version", "None"])
            return {
                "Get": lambda: GLib.Variant("(ss)", (interface, name)),
                "GetAll": lambda: GLib.Variant("(s)", (interface,)),
                "Set": lambda: GLib.Variant("(ssv)", (interface, name, self.values.value("v"))),
            }[method.member]()
        return self.values.body(method.arguments, self.model.vms())

    def send(self):
        self.model.follow()
        method = self.random.choices(self.methods, [WEIGHTS.get(method.member, 1)
                                                    for method in self.methods])[0]
        path, body = self.choose_path(method.interface), self.choose_body(method)
        type(self).calls += 1
        pending = self.bus.send(path, method.interface, method.member, body)
        pending.call = f"{path} {method.interface}.{method.member} {body.print_(True)}"
        pending.types = method.reply
        return pending

    def check_reply(self, pending):
        body = pending.reply.get_body()
        if pending.reply.get_message_type() == Gio.DBusMessageType.ERROR:
            name = pending.reply.get_error_name()
            message = body.unpack()[0] if body else ""
            self.failures[name] = self.failures.get(name, 0) + 1
            self.assertRegex(name, ERRORS, f"{pending.call}: {message}")
            self.assertTrue(message.strip(), f"{pending.call}: {name}")
        else:
            self.assertEqual(body.get_type_string() if body else "()", pending.types, pending.call)

    def run_calls(self, seconds):
        end = time.monotonic() + seconds
        pending = []
        while time.monotonic() < end or pending:
            if time.monotonic() < end and len(pending) < AT_A_TIME:
                pending.append(self.send())
                continue
            self.bus.wait(lambda: any(call.reply for call in pending),
                          f"a reply to one of:\n{chr(10).join(call.call for call in pending)}\n")
            for call in pending:
                if call.reply:
                    self.check_reply(call)
            pending = [call for call in pending if not call.reply]
            if self.random.random() < 0.01:
                self.model.compare()

    def test_1_every_call_is_answered_and_signals_tell_of_every_change(self):
        tap.comment(f"FUZZ_SEED={SEED}")
        self.run_calls(SECONDS / 4)
        size = self.size()
        self.run_calls(SECONDS * 3 / 4)
        self.model.compare()
        tap.comment(f"{self.calls} calls; {size} KiB after the first quarter, {self.size()} KiB in "
                    f"the end; errors: {self.failures}")
        self.assertLess(self.size(), size + GROWTH_KIB)

    def test_2_all_lists_agree(self):
        vms = self.bus.manager("ListVMs")
        self.assertEqual(sorted(path for _, _, _, path in vms), sorted(self.model.paths(client.VM)))
        for name, uuid, state, path in vms:
            properties = self.bus.get_all(path)
            self.assertEqual((properties["Name"], properties["UUID"], properties["State"]),
                             (name, uuid, state))
            self.assertEqual(self.bus.manager("GetVM", "(s)", uuid), path)
            self.assertEqual(self.bus.vm(path, "ListForwards"), properties["Forwards"])

    def test_3_nothing_is_left(self):
        for _, uuid, _, _ in self.bus.manager("ListVMs"):
            self.bus.manager("DeleteVM", "(sa{sv})", uuid, client.dictionary({"force": True}))
        self.assertEqual((self.bus.manager("ListVMs"), self.bus.managed_objects(),
                          self.bus.manager("ListForwards", "(s)", "")), ([], {}, []))
        self.assertEqual(daemon.Case.files(self), [])
        for task in os.listdir(f"/proc/{self.daemon.process.pid}/task"):
            with open(f"/proc/{self.daemon.process.pid}/task/{task}/children",
                      encoding="ascii") as children:
                self.assertEqual(children.read(), "")
        self.assertLessEqual(self.count_descriptors(), self.descriptors)

    def test_4_names_and_ports_can_be_had_again(self):
        passt = "passt" in daemon.Case.features(self)
        for name in ("web", *NEW_VMS):
            specs = [f"{port}:80" for port in PORTS] if passt else []
            self.bus.create(name=name, kernel=self.world.words["file"], forwards=specs,
                            start=False)
            self.bus.manager("DeleteVM", "(sa{sv})", name, {})

    def test_5_it_answers_as_ever(self):
        features = daemon.Case.features(self)
        self.bus.create(name="web", kernel=self.world.words["file"], start=False)
        for call in malformed.CALLS:
            if call.passt and "passt" not in features:
                continue
            with self.subTest(call=call.description), self.assertRaises(client.Error) as caught:
                self.world.run(self.bus, call)
            self.assertEqual(caught.exception.name, call.error, caught.exception.message)


if __name__ == "__main__":
    tap.main()
