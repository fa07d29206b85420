# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every operation of the API, on a VM that is first brought into the state that it takes. What must
be true after its answer is known: all of it if it was done, nothing of it if it was refused, and
either if no answer came."""

import itertools

import lab  # first: it says where the others are
import client
from world import Call, Machine

KEPT_FORWARDS = 6
MEMORY = "32M"  # of VMs with an empty disk, whose firmware finds nothing to boot
numbers = itertools.count(1)
ports = itertools.count(20000)


class Operation:
    name = ""
    states = ("running", "paused", "shutoff", "saved")  # of the VM that it takes
    web = False  # also done to the VM with a guest, whose connections must not notice

    def __init__(self, world, rng):
        self.world = world
        self.rng = rng
        self.machine = world.take(self.states, rng, self.web)
        self.choose()

    def choose(self):
        pass

    def send(self):
        return self.call(self.method)

    def call(self, member, signature=None, *arguments):
        return Call(self.world.bus, self.world.path(self.machine), client.VM, member, signature,
                    *arguments)

    def done(self):
        """The Machine that it makes, or None."""
        return self.machine

    def allowed(self, answer):
        """The Machines that the VM may be, by UUID; the first is the likeliest."""
        before, after = self.machine, self.done()
        if answer == "done":
            return {before.uuid: [after]}
        return {before.uuid: [before, after] if answer == "cut" else self.refused(before, after)}

    def refused(self, before, after):
        """libvirt may have done it and died."""
        return [before, before.but(state=after.state)]

    def follow_up(self, answer):
        """What its caller would do afterwards."""

    def unknown(self, answer):
        """The names of VMs whose UUID is not known, and which may exist."""
        return set()

    def __str__(self):
        return f"{self.name} {self.machine.name}"


# Lifecycle

class Start(Operation):
    name, method, states = "start", "Start", ("shutoff",)

    def done(self):
        return self.machine.but(state="running", live=frozenset())


class Restore(Start):
    """A VM that was saved while it was paused is paused again."""
    name, states = "restore", ("saved",)

    def allowed(self, answer):
        (uuid, machines), = super().allowed(answer).items()
        return {uuid: machines + [self.done().but(state="paused")]}


class PowerOff(Operation):
    name, method, states = "power off", "PowerOff", ("running", "paused")

    def done(self):
        return self.machine.but(state="shutoff", live=frozenset())


class Reset(Operation):
    name, method, states = "reset", "Reset", ("running",)


class Pause(Operation):
    name, method, states, web = "pause", "Pause", ("running",), False

    def done(self):
        return self.machine.but(state="paused")


class Resume(Operation):
    name, method, states = "resume", "Resume", ("paused",)

    def done(self):
        return self.machine.but(state="running")


class Save(Operation):
    name, method, states = "save", "Save", ("running", "paused")

    def done(self):
        return self.machine.but(state="saved", live=frozenset())


class Autostart(Operation):
    name = "autostart"

    def send(self):
        return Call(self.world.bus, self.world.path(self.machine), client.PROPERTIES, "Set",
                    "(ssv)", client.VM, "Autostart", client.variant(not self.machine.autostart))

    def done(self):
        return self.machine.but(autostart=not self.machine.autostart)

    def refused(self, before, after):
        """systemd enables the unit, and may be cut off before it says so."""
        return [before, after]


class Rename(Operation):
    """Of one without autostart: a call cut short may leave a unit enabled for each name."""
    name, states = "rename", ("shutoff",)

    def choose(self):
        self.new = f"{self.machine.name.partition('-')[0]}-{next(numbers)}"
        if self.machine.autostart:
            self.machine = self.world.without_autostart(self.machine)

    def send(self):
        return self.call("Rename", "(s)", self.new)

    def done(self):
        return self.machine.but(name=self.new)

    def refused(self, before, after):
        return [before]


class SetMemory(Operation):
    name = "set memory"

    def choose(self):
        self.mib = self.rng.choice([mib for mib in range(32, 65, 4)
                                    if mib != self.machine.memory >> 20])

    def send(self):
        return self.call("SetMemory", "(t)", self.mib << 20)

    def done(self):
        return self.machine.but(memory=self.mib << 20)

    def refused(self, before, after):
        """libvirt may have done it and died, and not be there again."""
        return [before, after]

    def follow_up(self, answer):
        """libvirt writes twice. If it cannot the second time, nor take back the first, the file has
        what its next daemon will list."""
        machine = self.world.machines.get(self.machine.uuid)
        if answer == "refused" and machine:
            self.world.vm(machine, "SetMemory", "(t)", machine.memory)
            self.world.look()


# Forwards

class AddForward(Operation):
    name, web = "add forward", True

    def choose(self):
        port = next(ports)
        shape = self.rng.randrange(8)
        if shape == 0:
            self.spec = f"127.0.0.1:{port}-{port + 3}:80-83/tcp"
            for _ in range(3):
                next(ports)
        else:
            self.spec = f"127.0.0.1:{port}:{7 if self.machine.name == 'web' else 80}/" + (
                "udp" if shape == 1 else "tcp")
        self.persistent = not self.machine.active or shape != 2
        if self.machine.name == "web" and len(self.machine.stored) > 2 * KEPT_FORWARDS:
            self.world.tidy(self.machine)
            self.machine = self.world.machines[self.machine.uuid]

    def send(self):
        return self.call("AddPortForward", "(sa{sv})", self.spec,
                         client.dictionary({"persistent": self.persistent}))

    def done(self):
        if self.persistent:
            return self.machine.but(stored=self.machine.stored | {self.spec})
        return self.machine.but(live=self.machine.live | {self.spec})

    def refused(self, before, after):
        return [before]

    def __str__(self):
        return f"{super().__str__()} {self.spec}{'' if self.persistent else ', this run only'}"


class RemoveForward(Operation):
    name, web = "remove forward", True

    def choose(self):
        own = sorted(spec for spec in self.machine.stored | self.machine.live
                     if spec not in self.world.kept)
        if not own:
            self.machine = self.world.add(self.machine, f"127.0.0.1:{next(ports)}:80/tcp")
            own = sorted(self.machine.stored - self.world.kept)
        self.spec = self.rng.choice(own)

    def send(self):
        return self.call("RemovePortForward", "(sa{sv})", self.spec, {})

    def done(self):
        return self.machine.but(stored=self.machine.stored - {self.spec},
                                live=self.machine.live - {self.spec})

    def refused(self, before, after):
        return [before]

    def __str__(self):
        return f"{super().__str__()} {self.spec}"


# Beginning and end

class Create(Operation):
    name = "create"
    states = ()

    def choose(self):
        self.vm = f"vm{next(numbers)}"
        self.settings = {
            "name": self.vm, "memory": MEMORY, "vcpus": client.uint32(1), "disk-size": "8M",
            "forwards": [f"127.0.0.1:{next(ports)}:80/tcp" for _ in range(self.rng.randrange(4))],
            "start": self.rng.random() < 0.7, "autostart": self.rng.random() < 0.2}

    def send(self):
        self.sent = Call(self.world.bus, client.ROOT, client.MANAGER, "CreateVM", "(a{sv})",
                         client.dictionary(self.settings))
        return self.sent

    def made(self, uuid, **changes):
        return Machine(uuid, self.vm, "running" if self.settings["start"] else "shutoff",
                       frozenset(self.settings["forwards"]), frozenset(),
                       self.settings["autostart"]).but(**changes)

    def allowed(self, answer):
        """A cut one may be defined and not have been started, and its unit not enabled."""
        uuid = self.world.uuid_of(self.vm)
        if answer == "done":
            uuid = uuid or self.world.uuid_of_path(self.sent.value)
            return {uuid: [self.made(uuid)]}
        if answer == "refused":
            whole = uuid and "is there all the same" in self.sent.error.message
            return {uuid: [self.made(uuid, state="shutoff") if whole else None]} if uuid else {}
        return {uuid: [self.made(uuid), None, self.made(uuid, state="shutoff"),
                       self.made(uuid, autostart=False)]} if uuid else {}

    def unknown(self, answer):
        return {self.vm} if answer == "cut" else set()

    def __str__(self):
        return f"create {self.vm}{'' if self.settings['start'] else ', not started'}"


class Delete(Operation):
    name = "delete"

    def send(self):
        return self.call("Delete", "(a{sv})", client.dictionary({"force": True}))

    def done(self):
        return None

    def allowed(self, answer):
        """A cut one may be powered off and not deleted, and its unit disabled."""
        before = self.machine
        if answer == "done":
            return {before.uuid: [None]}
        rest = [before, before.but(state="shutoff"), before.but(autostart=False)]
        return {before.uuid: rest + ([None] if answer == "cut" else [])}


ALL = (Create, Delete, Start, Restore, PowerOff, Reset, Pause, Resume, Save, Autostart, Rename,
       SetMemory, AddForward, RemoveForward)
