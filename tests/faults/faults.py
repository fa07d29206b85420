# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes wrong. Each kind is injected at a moment of an operation, held for a while, and healed;
`alter` says what may be true of the operation's VM afterwards that would not be without."""

import contextlib
import os
import resource
import signal
import subprocess
import time

import lab  # first: it says where the others are
import libvirt
import managed
import world as place
from world import DEFINITIONS, DISK, IMAGES, PROGRAMS, RUNTIME, UNIT, systemctl

SLICES = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service"


class Nothing(Exception):
    """There is nothing here that this fault could hit just now."""


class Fault:
    name = ""
    hold_sec = 0, 0    # at least and at most
    until_answer = False  # held until the answer, if that comes first
    early = False      # may also begin before the operation
    comes_back = True  # uservmd, without being called
    takes_long = False
    weight = 1

    def __init__(self, world, rng, operation):
        self.world = world
        self.rng = rng
        self.operation = operation
        self.machine = operation.machine
        self.hold = rng.uniform(*self.hold_sec)
        if not self.applies():
            raise Nothing

    def applies(self):
        return True

    def inject(self):
        raise NotImplementedError

    def heal(self):
        pass

    def alter(self, machines):
        return machines

    def verify(self, view):
        """What is to be true of the fault itself: Violations."""
        return []

    def __str__(self):
        return self.name


# Processes

class Processes(Fault):
    """Sends a signal to some."""
    signal = signal.SIGKILL

    def find(self):
        raise NotImplementedError

    def inject(self):
        self.pids = self.find()
        if not self.pids:
            raise Nothing
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, self.signal)

    def heal(self):
        if self.signal == signal.SIGSTOP:
            for pid in self.pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def uservmd():
    return [pid for pid in [place.main_pid(UNIT)] if pid]


def libvirtd():
    return lab.processes("libvirtd")


def bus():
    return [pid for pid in [place.main_pid("dbus.service")] if pid]


class Stopped:
    """Not for so long that anybody gives up."""
    signal = signal.SIGSTOP
    hold_sec = 0.1, 1.5


class KillUservmd(Processes):
    name, weight = "kill -9 of uservmd", 5

    def find(self):
        return uservmd()


class StopUservmd(Stopped, KillUservmd):
    name, weight = "SIGSTOP of uservmd", 2


class KillLibvirt(Processes):
    name, weight = "kill -9 of libvirt's daemon", 5

    def find(self):
        return libvirtd()


class StopLibvirt(Stopped, KillLibvirt):
    name, hold_sec, weight = "libvirt answers late (SIGSTOP)", (0.3, 4), 3


class KillBoth(Processes):
    name, weight = "kill -9 of uservmd and libvirt's daemon", 2

    def find(self):
        return uservmd() + libvirtd()


class KillBus(Processes):
    """It may take 90 s until there is another. When the connection to the bus ends before the
    bus's process has been seen to, systemd --user connects again, to its own socket, and waits for
    an answer that only the process could give that it is about to start (systemd 257, sd_bus_flush()
    in destroy_bus())."""
    name, takes_long = "kill -9 of the session bus", True

    def find(self):
        return bus()


class RestartBus(Fault):
    name, weight = "restart of the session bus", 3

    def inject(self):
        systemctl("--no-block", "restart", "dbus.service")

    def heal(self):
        """systemd may have other things to do first."""
        lab.until(self.world.bus.connection.is_closed, "the bus to end")


class StopBus(Stopped, KillBus):
    name, weight = "SIGSTOP of the session bus", 1


class OfTheVM(Processes):
    """Of the operation's VM; never of the one whose connections must not notice."""

    def applies(self):
        return not self.machine or self.machine.name != "web"

    def arguments(self):
        if self.machine:
            return self.machine.uuid
        return f"guest={self.operation.vm},"


class KillPasst(OfTheVM):
    name, weight = "kill -9 of passt", 3

    def find(self):
        wanted = self.machine.uuid.replace("-", "") if self.machine else "uservm-"
        known = {vm.uuid.replace("-", "") for vm in self.world.machines.values()}
        return [p.pid for p in place.processes() if p.name == "passt"
                and any(wanted in a for a in p.arguments)
                and (self.machine or not any(uuid in a for uuid in known for a in p.arguments))]


class StopPasst(Stopped, KillPasst):
    name, weight = "SIGSTOP of passt", 2


class PasstSilent(StopPasst):
    name, hold_sec, until_answer, weight = "passt does not answer for 6 s", (6, 6), True, 1


class KillQemu(OfTheVM):
    name, weight = "kill -9 of QEMU", 3

    def find(self):
        return [p.pid for p in place.processes() if p.name.startswith("qemu-system")
                and any(self.arguments() in a for a in p.arguments)]

    def alter(self, machines):
        return machines + [m.but(state="shutoff") for m in machines if m]


class StopQemu(Stopped, KillQemu):
    name, weight = "SIGSTOP of QEMU", 1

    def alter(self, machines):
        return machines


class KillHelper(Processes):
    """Whatever uservmd has started and waits for: passt on its way to the background, pesto,
    qemu-img."""
    name, weight = "kill -9 of a child of uservmd", 3

    def find(self):
        parent = place.main_pid(UNIT)
        end = time.monotonic() + 1
        while time.monotonic() < end and parent:
            for thread in os.listdir(f"/proc/{parent}/task"):
                with contextlib.suppress(OSError):
                    with open(f"/proc/{parent}/task/{thread}/children", encoding="ascii") as file:
                        children = [int(pid) for pid in file.read().split()]
                    if children:
                        return children
        return []


class KillLogDaemon(Processes):
    name = "kill -9 of libvirt's log daemon"

    def find(self):
        return lab.processes("virtlogd")


# uservmd by its unit

class Restart(Fault):
    name, weight = "restart of uservmd.service", 2

    def inject(self):
        systemctl("--no-block", "restart", UNIT)


class Stop(Fault):
    name, comes_back = "stop of uservmd.service", False

    def inject(self):
        systemctl("--no-block", "stop", UNIT)


class Reload(Fault):
    name = "daemon-reload of the user manager"

    def inject(self):
        systemctl("daemon-reload")


class Second(Fault):
    """It has to leave, and to do nothing before it does."""
    name, weight = "a second uservmd", 3

    def inject(self):
        self.others = [subprocess.Popen(
            ["/usr/libexec/uservmd"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True) for _ in range(self.rng.randrange(1, 3))]

    def heal(self):
        self.ends = [(other.communicate(timeout=60)[1], other.returncode) for other in self.others]

    def verify(self, view):
        return [place.Violation("reply", f"a second uservmd ended with {code}: {text}")
                for text, code in self.ends if code != 1 or "Another uservmd" not in text]


class Suspend(Fault):
    """What systemd does to the user's processes when the machine is suspended."""
    name, hold_sec, weight = "suspend of the session (frozen)", (0.2, 2), 2

    def write(self, state):
        for name in "app.slice", "session.slice":
            with open(f"{SLICES}/{name}/cgroup.freeze", "w", encoding="ascii") as file:
                file.write(state)

    def inject(self):
        self.write("1")

    def heal(self):
        self.write("0")


class Clock(Fault):
    name, hold_sec, weight = "the clock set back, or forth", (0.1, 1), 2

    def inject(self):
        place.set_clock(self.rng.choice((-86400 * 365, -3600, 86400 * 30)))

    def heal(self):
        place.set_clock(0)


# What is missing

class Lack(Fault):
    """There from before, or from the midst of the operation on, until it was answered."""
    hold_sec, until_answer, early = (0.5, 3), True, True


class Full(Lack):
    folder = ""

    def inject(self):
        path = f"{self.folder}/fill"
        with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
            free = os.statvfs(self.folder)
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_bsize)
            while file.write(bytes(4096)):
                pass

    def heal(self):
        os.unlink(f"{self.folder}/fill")


class DiskFull(Full):
    name, folder, weight = "a full disk", DISK, 3


class RuntimeFull(Full):
    name, folder, weight = "a full runtime folder", RUNTIME, 2


class Unwritable(Lack):
    folder = ""

    def inject(self):
        os.chmod(self.folder, 0o500)

    def heal(self):
        os.chmod(self.folder, 0o700)


class NoDefinitions(Unwritable):
    name, folder, weight = "an unwritable home", DEFINITIONS, 2


class NoImages(Unwritable):
    name, folder = "an unwritable folder of images", IMAGES


class Missing(Lack):
    program = ""

    def inject(self):
        os.rename(f"{PROGRAMS}/{self.program}", f"{PROGRAMS}/.{self.program}")

    def heal(self):
        os.rename(f"{PROGRAMS}/.{self.program}", f"{PROGRAMS}/{self.program}")


class NoPasst(Missing):
    name, program = "no passt", "passt"


class NoPesto(Missing):
    name, program = "no pesto", "pesto"


class NoQemu(Missing):
    name, program = "no QEMU", "qemu-system-x86_64"


class NoQemuImg(Missing):
    name, program = "no qemu-img", "qemu-img"


class NoLibvirt(Missing):
    name, program, hold_sec, weight = "no libvirt", "libvirtd", (0.5, 2), 2

    def inject(self):
        super().inject()
        for pid in libvirtd():
            os.kill(pid, signal.SIGKILL)


class Limit(Lack):
    def inject(self):
        pids = self.find()
        if not pids:
            raise Nothing
        self.pid = pids[0]
        self.old = resource.prlimit(self.pid, self.limit)
        resource.prlimit(self.pid, self.limit, (self.value(), self.old[1]))

    def heal(self):
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.pid, self.limit, self.old)


class NoMemory(Limit):
    """Of the guest: QEMU inherits it."""
    name, limit, find = "no memory for a guest", resource.RLIMIT_AS, staticmethod(libvirtd)

    def value(self):
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize() + (64 << 20)


class NoFiles(Limit):
    name, limit, find = "no file descriptors for uservmd", resource.RLIMIT_NOFILE, \
                        staticmethod(uservmd)

    def value(self):
        return max(map(int, os.listdir(f"/proc/{self.pid}/fd"))) + 2


class NoProcesses(Limit):
    name, limit, find = "no processes for uservmd", resource.RLIMIT_NPROC, staticmethod(uservmd)

    def value(self):
        return 1


# Other tools, in the midst of it

class Virsh(Fault):
    """One call, as virsh makes it. libvirt may refuse it."""
    weight = 1
    state = None  # what the VM may be afterwards

    def applies(self):
        return self.machine and self.machine.name != "web"

    def inject(self):
        self.succeeded = False
        session = libvirt.open("qemu:///session")
        try:
            domain = session.lookupByUUIDString(self.machine.uuid)
            self.act(domain)
            self.succeeded = True
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                raise Nothing from None
        finally:
            session.close()

    def alter(self, machines):
        """Before, in the midst, or after it."""
        return machines + [m.but(state=self.state) for m in machines if m and self.state]


class VirshDestroy(Virsh):
    name, state = "virsh destroy", "shutoff"

    def act(self, domain):
        domain.destroy()


class VirshStart(Virsh):
    name, state = "virsh start", "running"

    def act(self, domain):
        if domain.hasManagedSaveImage():
            raise Nothing
        domain.create()


class VirshSuspend(Virsh):
    name, state = "virsh suspend", "paused"

    def act(self, domain):
        domain.suspend()


class VirshResume(Virsh):
    name, state = "virsh resume", "running"

    def act(self, domain):
        domain.resume()


class VirshSave(Virsh):
    name, state = "virsh managedsave", "saved"

    def act(self, domain):
        domain.managedSave()


class VirshRename(Virsh):
    """Of one that does not run."""
    name = "virsh domrename"

    def applies(self):
        return super().applies() and not self.machine.active and not self.machine.autostart \
            and self.operation.name not in ("autostart", "rename")

    def act(self, domain):
        self.new = self.machine.name + "r"
        domain.rename(self.new)

    def alter(self, machines):
        return machines + [m.but(name=self.new, disk=False) for m in machines if m]


class VirshEdit(Virsh):
    """An edit that the operation has not to do with."""
    name, weight = "virsh desc", 4

    def act(self, domain):
        self.title = f"edited at {time.monotonic()}"
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, self.title, None, None,
                           libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    def verify(self, view):
        domain = view.domains.get(self.machine.uuid)
        if self.succeeded and domain and domain.title != self.title:
            return [place.Violation("state", f"{domain.name}: an edit by virsh is lost: "
                                             f"{domain.title!r}, not {self.title!r}")]
        return []


class VirshUndefine(Virsh):
    """Of one that does not run, with --remove-all-storage."""
    name, weight = "virsh undefine", 2

    def applies(self):
        return super().applies() and not self.machine.active and not self.machine.autostart \
            and self.operation.name not in ("autostart", "delete")

    def act(self, domain):
        if domain.isActive():
            raise Nothing
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{IMAGES}/{self.world.disks[self.machine.uuid]}")

    def alter(self, machines):
        return [None] if self.succeeded else machines


def everything():
    found = []
    def collect(kind):
        for derived in kind.__subclasses__():
            if derived.name:
                found.append(derived)
            collect(derived)
    collect(Fault)
    return sorted(set(found), key=lambda kind: kind.name)


ALL = everything()
