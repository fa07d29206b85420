# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VMs of the suite. `machines` is what is known of each: what was seen at the last check."""

import contextlib
import os
import signal
import time

import lab  # first: it says where the others are
import client
import libvirt
import operations
import world as place
from client import GLib
from world import Call, Check, View

AT_LEAST, AT_MOST = 3, 6  # of VMs without a guest
RECOVERY_SEC = 60         # a passt that goes on ending is started anew after up to 30 s
WEB_FORWARDS = frozenset({"127.0.0.1:7007:7/tcp", "127.0.0.1:8080:80/tcp"})


class Population:
    def __init__(self):
        self.bus = client.Client()
        self.machines = {}
        self.disks = {}
        self.kept = WEB_FORWARDS
        self.connection = None

    # Calls that no fault disturbs

    def reconnect(self):
        """After the end of the bus; systemd starts the next one when somebody connects."""
        end = time.monotonic() + place.REPLY_TIMEOUT_SEC
        while self.bus.connection.is_closed():
            try:
                self.bus = client.Client()
            except GLib.Error:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def call(self, *arguments):
        call = Call(self.bus, *arguments)
        if call.wait() != "done":
            raise AssertionError(f"{arguments[2:]}: {call.error}")
        return call.value

    def vm(self, machine, member, signature=None, *arguments):
        return self.call(self.path(machine), client.VM, member, signature, *arguments)

    def manager(self, member, signature=None, *arguments):
        return self.call(client.ROOT, client.MANAGER, member, signature, *arguments)

    @staticmethod
    def path(machine):
        """As sd_bus_path_encode(3) makes it: all but letters and digits, and a digit in front."""
        def escape(i, c):
            keep = c.isascii() and c.isalnum() and not (i == 0 and c.isdigit())
            return c if keep else f"_{ord(c):02x}"

        return f"{client.ROOT}/vm/" + "".join(escape(i, c) for i, c in enumerate(machine.uuid))

    def uuid_of_path(self, path):
        return self.bus.get(path, "UUID")

    def uuid_of(self, name):
        with contextlib.suppress(client.Error, GLib.Error):
            return self.uuid_of_path(self.bus.manager("GetVM", "(s)", name))
        return None

    # The VMs

    def start_web(self):
        """The one with a guest, and a connection that is to outlive everything."""
        self.manager("CreateVM", "(a{sv})", client.dictionary(
            lab.guest(name="web", forwards=sorted(WEB_FORWARDS))))
        lab.wait_answer(8080)
        self.connection = lab.connect_echo(7007)

    def create(self):
        operation = operations.Create(self, _Never())
        self.manager("CreateVM", "(a{sv})", client.dictionary(operation.settings))

    def fill(self):
        """Enough VMs, and none that virsh has started: the forwards of that one change at its next
        start."""
        for machine in [m for m in self.machines.values() if m.active]:
            if self.bus.get(self.path(machine), "Network") == "native":
                self.vm(machine, "PowerOff")
                self.look()
        while len(self.machines) < 1 + AT_LEAST:
            self.create()
            self.look()

    def look(self):
        """Takes over what there is, whatever it is."""
        view = View(self.bus, self.disks)
        self.machines = {uuid: view.machine(uuid) for uuid in view.objects}
        self.normalize()
        return view

    def normalize(self):
        for uuid, machine in self.machines.items():
            self.disks.setdefault(uuid, f"{machine.name}.qcow2")
            if machine.state == "crashed":
                self.machines[uuid] = machine.but(state="shutoff")

    def take(self, states, rng, web):
        """A VM for an operation, in one of these states."""
        if not states:
            return None
        machines = [m for m in self.machines.values() if web or m.name != "web"]
        fit = [m for m in machines if m.state in states]
        return rng.choice(fit) if fit else self.bring(rng.choice(machines), states[0])

    def bring(self, machine, state):
        """Into a state, over as many others as it takes."""
        steps = {"running": {"shutoff": "Start", "saved": "Start", "paused": "Resume"},
                 "paused": {"running": "Pause", "shutoff": "Start", "saved": "Start"},
                 "shutoff": {"running": "PowerOff", "paused": "PowerOff", "saved": "Start"},
                 "saved": {"running": "Save", "paused": "Save", "shutoff": "Start"}}[state]
        while machine.state != state:
            self.vm(machine, steps[machine.state])
            self.look()
            machine = self.machines[machine.uuid]
        return machine

    def without_autostart(self, machine):
        self.bus.set(self.path(machine), "Autostart", False)
        self.look()
        return self.machines[machine.uuid]

    def add(self, machine, spec):
        self.vm(machine, "AddPortForward", "(sa{sv})", spec, {})
        self.look()
        return self.machines[machine.uuid]

    def tidy(self, machine):
        """Fewer forwards."""
        for spec in machine.stored | machine.live:
            if spec not in self.kept:
                self.vm(machine, "RemovePortForward", "(sa{sv})", spec, {})
        self.look()

    # After a fault

    def settle(self, allowed, unknown=(), extra=lambda view: [], comes_back=True):
        """Looks until everything is as it must be, or long enough. `allowed` gives the Machines
        that may be, by UUID, of those that may not be as they were. Returns the violations that are
        left and the seconds that it took."""
        begin = time.monotonic()
        with contextlib.suppress(GLib.Error):
            self.reconnect()  # for which systemd may need longer, see faults.KillBus
        end = time.monotonic() + RECOVERY_SEC
        while True:
            violations = self.attempt(allowed, unknown, extra, comes_back)
            if not violations or time.monotonic() > end:
                return violations, time.monotonic() - begin
            time.sleep(0.05)

    def attempt(self, allowed, unknown, extra, comes_back):
        try:
            self.reconnect()
            if comes_back and not self.is_on_the_bus():
                return [place.Violation("reply", "uservmd has not come back by itself")]
            view = View(self.bus, self.disks)
            allowed = {uuid: [machine] for uuid, machine in self.machines.items()} | allowed()
        except (client.Error, GLib.Error, libvirt.libvirtError) as error:
            return [place.Violation("reply", f"it cannot be seen: {error}")]
        violations = Check(view, allowed, unknown).violations + extra(view)
        if self.connection and not lab.echoes(self.connection):
            violations.append(place.Violation("connection", "it echoes no more"))
        if not violations:
            self.machines = {uuid: view.machine(uuid) for uuid in view.objects}
            self.normalize()
        return violations

    def is_on_the_bus(self):
        return self.bus.call("/", "org.freedesktop.DBus", "NameHasOwner", "(s)", client.NAME,
                             destination="org.freedesktop.DBus")

    def start_over(self):
        """After what should not have happened, so that what comes next stands for itself."""
        if self.connection:
            self.connection.close()
        for process in place.processes():
            if process.name in ("uservmd", "libvirtd", "virtlogd", "passt", "pesto", "qemu-img") \
                    or process.name.startswith("qemu-system"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        self.reconnect()
        lab.until(self.undefine_all, "libvirt")
        for folder in place.IMAGES, place.SAVES, place.UNITS, \
                f"{place.RUNTIME}/libvirt/qemu/run/passt":
            for name in place.names_in(folder):
                os.unlink(f"{folder}/{name}")
        place.systemctl("restart", place.UNIT)
        self.disks = {}
        self.begin()

    @staticmethod
    def undefine_all():
        with contextlib.suppress(libvirt.libvirtError):
            session = libvirt.open("qemu:///session")
            for domain in session.listAllDomains():
                if domain.isActive():
                    domain.destroy()
                domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
            session.close()
            return True
        return False

    def begin(self):
        self.start_web()
        self.look()
        self.fill()


class _Never:
    """Instead of a random number generator, for a VM that is as most are."""

    @staticmethod
    def randrange(n):
        return n // 2

    @staticmethod
    def random():
        return 0.5
