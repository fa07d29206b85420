# SPDX-License-Identifier: LGPL-2.1-or-later
"""All there is to be seen of uservm's VMs: what the API lists, what libvirt has stored and runs, what
the kernel listens on, and the processes and files that are there; and whether all of that agrees,
with each other and with what the calls that were answered must have led to.

uservmd runs in a place of its own that can be broken: its programs are links in a folder that can be
taken away, its files are on two small file systems that can be filled, and its clock can be set.
"""

import collections
import contextlib
import dataclasses
import glob
import os
import signal
import socket
import subprocess
import xml.etree.ElementTree as ElementTree

import lab  # first: it says where the others are
import client
import libvirt
import managed
from client import GLib, Gio

UNIT = "uservmd.service"
HOME = os.path.expanduser("~")
DISK = "/small/disk"  # see test_faults.root
RUNTIME = "/small/runtime"
PROGRAMS = f"{HOME}/programs"
IMAGES = f"{HOME}/.local/share/libvirt/images"
DEFINITIONS = f"{HOME}/.config/libvirt/qemu"
SAVES = f"{DEFINITIONS}/save"
UNITS = f"{HOME}/.config/systemd/user/default.target.wants"
CLOCK = f"{HOME}/clock"

REPLY_TIMEOUT_SEC = 100  # libvirt itself waits 30 s for a QEMU that does not answer
RUNNING = "running", "paused"

libvirt.registerErrorHandler(lambda userdata, error: None, None)


# The place

def link(name, target):
    os.makedirs(target, exist_ok=True)
    os.symlink(target, f"{HOME}/{name}")


def make_programs():
    os.mkdir(PROGRAMS)
    for folder in "/usr/bin", "/usr/sbin":
        for name in os.listdir(folder):
            with contextlib.suppress(FileExistsError):
                os.symlink(f"{folder}/{name}", f"{PROGRAMS}/{name}")


def make_clock():
    """A file with the seconds that are added to the time of day, for all that uservmd starts."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clock.c")
    lab.run("gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", f"{CLOCK}.so", source)
    set_clock(0)


def set_clock(seconds):
    with open(CLOCK, "r+b" if os.path.exists(CLOCK) else "x+b") as file:
        file.write(seconds.to_bytes(8, "little", signed=True))


def make_place():
    """Before uservmd is called first."""
    for name in ".config", ".local", ".cache":
        link(name, f"{DISK}/{name[1:]}")
    make_programs()
    make_clock()
    environment = {"PATH": PROGRAMS, "XDG_RUNTIME_DIR": RUNTIME,
                   "VIRTD_PATH": PROGRAMS}
    drop_in = f"{HOME}/.config/systemd/user/{UNIT}.d"
    os.makedirs(drop_in)
    with open(f"{drop_in}/place.conf", "w", encoding="ascii") as file:
        file.write("[Service]\n" + "".join(
            f"Environment={key}={value}\n" for key, value in (environment | {
                "LD_PRELOAD": f"{CLOCK}.so", "FAULTS_CLOCK": CLOCK}).items()))
    lab.systemctl("daemon-reload")
    # libvirt's daemon may be started from here as well; systemctl has to find systemd
    os.environ.update(environment)
    managed.PASST_FILES = f"{RUNTIME}/libvirt/qemu/run/passt"


def systemctl(*arguments, **keywords):
    return lab.run("env", f"XDG_RUNTIME_DIR=/run/user/{os.getuid()}", "systemctl", "--user",
                   *arguments, **keywords)


# Calls

class Call:
    """A call whose reply has not been waited for."""

    def __init__(self, bus, path, interface, member, signature=None, *arguments):
        self.bus = bus
        self.answer = None  # "done", "refused" (with an error's name and message), "cut"
        self.error = None
        self.value = None
        message = bus._message(path, interface, member, signature, arguments, client.NAME)
        bus.connection.send_message_with_reply(
            message, Gio.DBusSendMessageFlags.NONE, REPLY_TIMEOUT_SEC * 1000, None, self._on_reply)

    def _on_reply(self, connection, result):
        try:
            self.value = client.unpack_reply(connection.send_message_with_reply_finish(result))
            self.answer = "done"
        except client.Error as error:
            self.error = error
            self.answer = "cut" if error.name in CUT else "refused"
        except GLib.Error as error:
            self.error = client.Error(error.domain, error.message)
            closed = error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.CLOSED)
            self.answer = "cut" if closed else "late"

    def wait(self):
        self.bus.wait(lambda: self.answer, "a reply", 1000 * (REPLY_TIMEOUT_SEC + 5))
        return self.answer


# What the bus says for uservmd when it has gone.
CUT = {"org.freedesktop.DBus.Error." + name for name in
       ("NoReply", "Disconnected", "NameHasNoOwner", "ServiceUnknown", "TimedOut")} | {
       "org.freedesktop.systemd1.ShuttingDown", "org.freedesktop.DBus.Error.Spawn.ChildExited"}


# VMs

@dataclasses.dataclass(frozen=True)
class Machine:
    """What is, or may be, true of a VM."""
    uuid: str
    name: str
    state: str = "running"
    stored: frozenset = frozenset()   # specs of forwards
    live: frozenset = frozenset()     # those for this run only
    autostart: bool = False
    disk: bool = True                 # one that uservm made
    memory: int = 32 << 20            # bytes

    def but(self, **changes):
        return dataclasses.replace(self, **changes)

    @property
    def active(self):
        return self.state in RUNNING


@dataclasses.dataclass
class Violation:
    kind: str
    text: str

    def __str__(self):
        return f"{self.kind}: {self.text}"


KINDS = ("lost VM", "phantom VM", "lost forward", "phantom forward", "leak", "state", "reply",
         "connection")


# A look at everything

@dataclasses.dataclass
class Domain:
    name: str
    state: str
    stored: list
    title: str
    memory: int
    managed: bool


def domain_state(domain):
    state, reason = domain.state()
    if state == libvirt.VIR_DOMAIN_PAUSED:
        return "paused"
    if state == libvirt.VIR_DOMAIN_SHUTOFF:
        return "saved" if domain.hasManagedSaveImage() else "shutoff"
    return "running"


def specs(domain):
    """The forwards in a definition, as uservm writes them."""
    found = []
    for rule in domain.findall("./devices/interface/portForward"):
        address = rule.get("address", "*")
        address = f"[{address}]" if ":" in address else address
        for ports in rule.findall("range"):
            start, to = int(ports.get("start")), int(ports.get("to", ports.get("start")))
            length = int(ports.get("end", start)) - start
            host, guest = (f"{first}-{first + length}" if length else str(first)
                           for first in (start, to))
            found.append(f"{address}:{host}:{guest}/{rule.get('proto')}")
    return found


def read_domain(domain):
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    stored = ElementTree.fromstring(xml)
    live = domain.XMLDesc() if domain.isActive() else ""
    return Domain(domain.name(), domain_state(domain), specs(stored),
                  stored.findtext("title", ""), int(stored.findtext("memory")) << 10,
                  "type='vhostuser'" in live)


def read_domains():
    session = libvirt.open("qemu:///session")
    try:
        return {domain.UUIDString(): read_domain(domain) for domain in session.listAllDomains()}
    finally:
        session.close()


HEX_ADDRESS = {8: socket.AF_INET, 32: socket.AF_INET6}


def address_of(text):
    """An address as /proc/net has it: words in the machine's order."""
    data = b"".join(bytes.fromhex(text[i:i + 8])[::-1] for i in range(0, len(text), 8))
    return socket.inet_ntop(HEX_ADDRESS[len(text)], data)


def listening():
    found = set()
    for protocol, state in ("tcp", "0A"), ("udp", "07"):
        for suffix in "", "6":
            with open(f"/proc/net/{protocol}{suffix}", encoding="ascii") as file:
                for row in list(file)[1:]:
                    local, remote, row_state = row.split()[1:4]
                    address, port = local.split(":")
                    if row_state == state and int(remote.split(":")[1], 16) == 0:
                        found.add((protocol, address_of(address), int(port, 16)))
    return found


def connected_sockets():
    """The names of UNIX sockets that somebody is connected to."""
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
        rows = [row.split() for row in list(file)[1:]]
    return {os.path.basename(row[7]) for row in rows if len(row) == 8 and row[5] == "03"}


@dataclasses.dataclass
class Process:
    pid: int
    parent: int
    state: str
    arguments: list

    @property
    def name(self):
        return os.path.basename(self.arguments[0]) if self.arguments else "?"


def read_process(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        state, parent = file.read().rpartition(")")[2].split()[:2]
    return Process(pid, int(parent), state, lab.arguments(pid))


def processes():
    """Of this user, but not those of the test itself."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == os.getuid():
                    found.append(read_process(int(entry.name)))
    own = {os.getpid()}
    while more := {p.pid for p in found if p.parent in own} - own:
        own |= more
    return [p for p in found if p.pid not in own or p.name in ("libvirtd", "virtlogd")]


def main_pid(unit):
    """0: none, or systemd does not say."""
    return int(systemctl("show", "--property=MainPID", "--value", unit, check=False) or 0)


def names_in(folder, pattern="*"):
    return {os.path.basename(path) for path in glob.glob(f"{folder}/{pattern}")
            + glob.glob(f"{folder}/.{pattern}")}


def is_incomplete(image):
    """A saved state that was cut short. libvirt ignores it, and removes it at the next start."""
    try:
        with open(image, "rb") as file:
            return file.read(16) == b"LibvirtQemudPart"
    except FileNotFoundError:
        return True


def waits_for_next_start(found, forward):
    """It was changed when virsh had started the VM just before; in native networking that has no
    effect until it ends."""
    return found["Network"] == "native" and forward["state"] in ("pending", "removing")


class View:
    """One look. `disks` are the images' names by UUID, of VMs that may have been renamed."""

    def __init__(self, bus, disks):
        self.disks = disks
        self.objects = {properties["UUID"]: properties for properties in
                        (interfaces[client.VM] for interfaces in bus.managed_objects().values()
                         if client.VM in interfaces)}
        self.domains = read_domains()
        self.listening = listening()
        self.processes = processes()
        self.passt_files = managed.passt_files()
        self.connected = connected_sockets()
        self.images = names_in(IMAGES)
        self.saves = {name for name in names_in(SAVES) if not is_incomplete(f"{SAVES}/{name}")}
        self.autostart = {name.removeprefix("uservm@").removesuffix(".service").replace(r"\x2d", "-")
                          for name in names_in(UNITS, "uservm@*")}

    def machine(self, uuid):
        """What is there of a VM, or None."""
        found = self.objects.get(uuid)
        if not found:
            return None
        forwards = [f for f in found["Forwards"]
                    if f["persistent"] or not waits_for_next_start(found, f)]
        return Machine(uuid, found["Name"], found["State"],
                       frozenset(f["spec"] for f in forwards if f["persistent"]),
                       frozenset(f["spec"] for f in forwards if not f["persistent"]),
                       found["Autostart"], self.disk(uuid) in self.images, found["Memory"])

    def disk(self, uuid):
        return self.disks.get(uuid) or f"{self.objects[uuid]['Name']}.qcow2"


# Does it agree?

class Check:
    """Compares a view with what may be: a list of possible Machines, or None for no VM, by UUID.
    VMs that are not in there may not exist; `unknown` are the names of VMs that may."""

    def __init__(self, view, allowed, unknown=()):
        self.view = view
        self.allowed = allowed
        self.unknown = unknown
        self.violations = []
        self.check_list()
        for uuid in view.objects.keys() & view.domains.keys():
            self.check_vm(uuid)
        self.check_listening()
        self.check_processes()
        self.check_files()
        self.check_connected()

    def add(self, kind, text):
        self.violations.append(Violation(kind, text))

    def check_list(self):
        view = self.view
        for uuid, machines in self.allowed.items():
            names = {machine.name for machine in machines if machine}
            if uuid not in view.domains and None not in machines:
                self.add("lost VM", f"{names} is not defined any more")
            if uuid in view.domains and machines == [None]:
                self.add("phantom VM", f"{view.domains[uuid].name} is there again")
        for uuid, domain in view.domains.items():
            if uuid not in self.allowed and domain.name not in self.unknown:
                self.add("phantom VM", f"{domain.name} is defined")
            if uuid not in view.objects:
                self.add("lost VM", f"{domain.name} is not listed")
        for uuid in view.objects.keys() - view.domains.keys():
            self.add("phantom VM", f"{view.objects[uuid]['Name']} is listed")

    def check_vm(self, uuid):
        found, domain = self.view.machine(uuid), self.view.domains[uuid]
        state = "shutoff" if found.state == "crashed" else found.state
        listed, wanted = ((found.name, state, found.memory),
                          (domain.name, domain.state, domain.memory))
        if listed != wanted:
            self.add("state", f"{listed} is listed, and libvirt has {wanted}")
        self.compare_specs(f"{found.name}, listed and stored", found.stored, domain.stored)
        if network_error := self.view.objects[uuid]["NetworkError"]:
            self.add("state", f"{found.name}: {network_error}")
        wanted = "active" if found.active else "inactive"
        for forward in self.view.objects[uuid]["Forwards"]:
            if forward["state"] != wanted and not waits_for_next_start(
                    self.view.objects[uuid], forward):
                self.add("lost forward", f"{found.name}: {forward['spec']} is {forward['state']}: "
                                         f"{forward.get('error')}")
        machines = [machine for machine in self.allowed.get(uuid, []) if machine]
        if machines:
            self.check_allowed(found, state, machines)

    def compare_specs(self, what, listed, wanted):
        for spec in set(wanted) - set(listed):
            self.add("lost forward", f"{what}: {spec} is not listed")
        for spec in set(listed) - set(wanted):
            self.add("phantom forward", f"{what}: {spec} is listed")

    def check_allowed(self, found, state, machines):
        for what, value in ("state", state), ("name", found.name), ("autostart", found.autostart), \
                           ("disk", found.disk), ("memory", found.memory):
            possible = {getattr(machine, what) for machine in machines}
            if value not in possible:
                self.add("lost VM" if what == "disk" else "state",
                         f"{found.name}: {what} is {value}, not of {possible}")
        for what, specs_found in ("stored", found.stored), ("live", found.live):
            possible = [getattr(machine, what) for machine in machines]
            if what == "live" and not found.active:
                possible = [frozenset()]
            if specs_found not in possible:
                self.compare_specs(f"{found.name}, {what}, and what must be", specs_found,
                                   possible[0])

    def check_listening(self):
        wanted = managed.host_sides(
            [forward for vm in self.view.objects.values() if vm["State"] in RUNNING
             for forward in vm["Forwards"] if forward["state"] in ("active", "removing")])
        for sock in self.view.listening - wanted:
            self.add("phantom forward", f"{sock} is listened on")
        for sock in wanted - self.view.listening:
            self.add("lost forward", f"nobody listens on {sock}")

    def check_processes(self):
        """A passt and a QEMU for each VM that runs, one of each daemon, and no zombie."""
        counted = collections.Counter()
        for process in self.view.processes:
            name = process.name
            if process.state == "Z":
                self.add("leak", f"a zombie of {process.parent}: {process}")
            elif name.startswith("qemu-system"):
                counted["qemu"] += 1
            elif name == "passt":
                counted["passt"] += 1
            else:
                counted[name] += 1
        active = [uuid for uuid, domain in self.view.domains.items() if domain.state in RUNNING]
        for name in "qemu", "passt":
            if counted[name] != len(active):
                self.add("leak", f"{counted[name]} processes of {name}, and {len(active)} VMs run")
        for name in "pesto", "qemu-img":
            if counted[name]:
                self.add("leak", f"{counted[name]} processes of {name}")
        for name in "uservmd", "libvirtd", "virtlogd":
            if counted[name] > 1:
                self.add("leak", f"{counted[name]} processes of {name}")
        files = sorted(f"uservm-{uuid.replace('-', '')}" for uuid in active
                       if self.view.domains[uuid].managed)
        if sorted(name.rpartition("-")[0] for name in self.view.passt_files) != sorted(3 * files):
            self.add("leak", f"files of passt: {self.view.passt_files}, of {files}")

    def check_connected(self):
        """QEMU is connected to passt; after the end of a passt it tries every second."""
        for name in self.view.passt_files:
            if name.endswith(".sock") and name not in self.view.connected:
                self.add("state", f"nobody is connected to {name}")

    def check_files(self):
        vms = [self.view.machine(uuid) for uuid in self.view.objects]
        for image in self.view.images - {self.view.disk(vm.uuid) for vm in vms}:
            self.add("leak", f"the image {image}")
        wanted = {vm.name for vm in vms if vm.autostart}
        if self.view.autostart != wanted:
            self.add("leak", f"units {self.view.autostart} are enabled, and autostart {wanted}")
        saved = {f"{vm.name}.save" for vm in vms if vm.state == "saved"}
        for name in self.view.saves - saved:
            self.add("leak", f"the saved image {name}")
