# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of managed networking share: what is to be seen of it from outside of uservmd, and
that all of that agrees."""

import os
import socket
import time

import lab

PASST_FILES = os.path.join(os.environ["XDG_RUNTIME_DIR"], "libvirt/qemu/run/passt")
REVIVAL_TIMEOUT_SEC = 5  # it takes about one
SILENCE_SEC = 1
LONGEST_WAIT_SEC = 30  # between two attempts to start a passt that goes on ending


def passts():
    """The passts of uservm's own that are up: those that have written their PID files, and run."""
    found = {}
    for name in passt_files():
        if name.endswith(".pid"):
            try:
                with open(f"{PASST_FILES}/{name}", encoding="ascii") as file:
                    pid = int(file.read() or 0)
                found[pid] = lab.arguments(pid)
            except OSError:
                continue
    return {pid: arguments for pid, arguments in found.items() if arguments}


def the_passt():
    """The process ID of the only one, which is up, or will be."""
    (pid,) = lab.until(passts, "a passt", LONGEST_WAIT_SEC + 5)
    return pid


def passt_files():
    try:
        return sorted(name for name in os.listdir(PASST_FILES) if name.startswith("uservm-"))
    except FileNotFoundError:
        return []


def stored_specs(name):
    """The forwards that virsh shows in the stored definition, as uservm would write them."""
    specs = []
    for rule in lab.definition(name).findall("./devices/interface/portForward"):
        address = rule.get("address", "*")
        address = f"[{address}]" if ":" in address else address
        for ports in rule.findall("range"):
            start, to = int(ports.get("start")), int(ports.get("to", ports.get("start")))
            length = int(ports.get("end", start)) - start
            host, guest = (f"{first}-{first + length}" if length else str(first)
                           for first in (start, to))
            specs.append(f"{address}:{host}:{guest}/{rule.get('proto')}")
    return specs


def listening():
    """What listens in the lab: (protocol, address, port)."""
    sockets = set()
    for line in lab.run("ss", "--no-header", "--listening", "--tcp", "--udp",
                        "--numeric").splitlines():
        protocol, local = (line.split()[i] for i in (0, 4))
        address, port = local.rsplit(":", 1)
        sockets.add((protocol, address.strip("[]"), int(port)))
    return sockets


def host_sides(forwards):
    """What has to listen for them."""
    return {(forward["protocol"], forward["address"], port) for forward in forwards
            for port in range(forward["host-port"], forward["host-port-end"] + 1)}


def fall_silent():
    """passt ends when it has something for a guest that stands still, be it an acknowledgement
    ("Error writing vhost-user queue eventfd"). All that is on its way is there after this."""
    time.sleep(SILENCE_SEC)


def is_echoed(port, address="127.0.0.1"):
    """The guest echoes over a new connection. Nothing is tried twice."""
    with socket.create_connection((address, port), lab.BOOT_TIMEOUT_SEC) as connection:
        return lab.echoes(connection)


class Story(lab.Story):
    def assertAgree(self, *names):
        """What is listed as active, what is stored and what listens are the same. The VMs are all
        those that run."""
        running = []
        for name in names:
            forwards = self.forwards(name)
            self.assertEqual({forward["spec"]: forward["state"] for forward in forwards},
                             {forward["spec"]: "active" for forward in forwards})
            self.assertEqual([forward["spec"] for forward in forwards if forward["persistent"]],
                             stored_specs(name))
            running += forwards
        self.assertEqual(listening(), host_sides(running))

    def assertNothingLeft(self):
        """No VM runs."""
        self.assertEqual(lab.processes("passt"), [])
        self.assertEqual(passt_files(), [])
        self.assertEqual(lab.processes("qemu"), [])
        self.assertEqual(listening(), set())

    def assertRight(self, name, network="managed"):
        """A VM with the forwards 8080:80 and 7007:7, as soon as the guest is there."""
        lab.wait_answer(8080)
        self.assertEqual(self.network(name), network)
        self.assertEqual(self.network_error(name), "")
        self.assertAgree(name)
        self.assertTrue(is_echoed(7007))
        if network == "managed":
            self.add(name, "8081:81", persistent=False)
            self.assertEqual(lab.fetch(8081), f"hello from {name}")
            self.remove(name, "8081")
            self.assertAgree(name)

    def check_boots_again(self, name, how):
        """One of those that assertRight() knows, and the only one that runs."""
        before = passts()
        how()
        lab.wait_no_answer(8080)
        self.assertRight(name)
        # The passt of 2026-07-28 may end while the guest's queues go away: it is another one then.
        self.assertEqual(list(passts().values()), list(before.values()))

    def network(self, name):
        return self.bus.get(self.path(name), "Network")

    def network_error(self, name):
        return self.bus.get(self.path(name), "NetworkError")

    def start(self, name):
        self.bus.manager("StartVM", "(s)", name)

    def power_off(self, name):
        self.bus.manager("PowerOffVM", "(s)", name)

    def diagnostics(self):
        return "\n".join([super().diagnostics(), "--- passt",
                          *(f"{pid} {' '.join(arguments)}" for pid, arguments in passts().items()),
                          *passt_files()])
