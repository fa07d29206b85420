# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VMs that are measured: the lab's guest with one service more, on three kinds of network."""

import contextlib
import itertools
import os
import selectors
import socket
import subprocess
import time

import client
import lab

INITRD = os.path.expanduser("~/bench-initrd.img")
INITTAB = os.path.join(os.path.dirname(lab.__file__), "guest", "inittab")
# Reads all that comes, and says at the end how many blocks that was.
SINK_BLOCK = 65536
SINK = f"""#!/bin/sh
exec dd of=/dev/null bs={SINK_BLOCK} iflag=fullblock 2>&1
"""
HTTP_PORT, ECHO_PORT, SINK_PORT = 80, 7, 9
SINK_LINE = f"::respawn:/bin/nc -ll -p {SINK_PORT} -e /bin/sink\n"

ATTEMPT_SEC = 1  # an attempt that came too early may never get a reply

ports = itertools.count(20000)  # never the same one twice, so that no test disturbs another


def make_initrd():
    """The kernel unpacks archives that follow each other, and a later file replaces an earlier."""
    files = os.path.expanduser("~/bench-initrd")
    for name, data, mode in [("bin/sink", SINK.encode(), 0o755),
                             ("etc/inittab", open(INITTAB, "rb").read() + SINK_LINE.encode(),
                              0o644)]:
        path = os.path.join(files, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, mode)
    with open(lab.INITRD, "rb") as initrd:
        start = initrd.read()
    archive = subprocess.run("find . | busybox cpio -o -H newc", shell=True, cwd=files,
                             capture_output=True, check=True).stdout
    with open(INITRD, "wb") as initrd:
        initrd.write(start + bytes(-len(start) % 4) + archive)


class VM:
    """One that is defined, with a host port for each of the guest's services."""

    def __init__(self, bus, name):
        self.bus = bus
        self.name = name
        self.http, self.echo, self.sink = (next(ports) for _ in range(3))
        self.path = bus.create(**lab.guest(
            name=name, initrd=INITRD, start=False,
            forwards=[f"{self.http}:{HTTP_PORT}", f"{self.echo}:{ECHO_PORT}",
                      f"{self.sink}:{SINK_PORT}"]))

    def start_managed(self):
        self.bus.manager("StartVM", "(s)", self.name)
        network = self.bus.get(self.path, "Network")
        if network != "managed":
            raise AssertionError(f"the network of {self.name} is {network}, not managed")

    def start_native(self):
        lab.virsh("start", self.name)

    def start_slirp(self):
        """libvirt cannot define a forward of QEMU's user networking; QEMU's monitor can make one.
        """
        domain = lab.definition(self.name)
        nic = domain.find("./devices/interface")
        for element in nic.findall("backend") + nic.findall("portForward"):
            nic.remove(element)
        lab.define(domain)
        lab.virsh("start", self.name)
        for host, guest in [(self.http, HTTP_PORT), (self.echo, ECHO_PORT),
                            (self.sink, SINK_PORT)]:
            lab.virsh("qemu-monitor-command", self.name, "--hmp",
                      f"hostfwd_add hostnet0 tcp:127.0.0.1:{host}-:{guest}")

    def delete(self):
        self.bus.manager("DeleteVM", "(sa{sv})", self.name, client.dictionary({"force": True}))


@contextlib.contextmanager
def running(bus, **starts):
    """VMs of these names, each started by this method, that have booted."""
    vms = {name: VM(bus, name) for name in starts}
    try:
        for name, start in starts.items():
            start(vms[name])
        for vm in vms.values():
            lab.wait_answer(vm.http)
        yield vms
    finally:
        for vm in vms.values():
            vm.delete()


def attempt(selector, port):
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex(("127.0.0.1", port))
    selector.register(connection, selectors.EVENT_WRITE, time.monotonic() + ATTEMPT_SEC)


def give_up(selector, connection):
    selector.unregister(connection)
    connection.close()


def has_answer(selector, key):
    """Goes on with an attempt, for which something has happened."""
    try:
        if key.events == selectors.EVENT_READ and key.fileobj.recv(64).startswith(b"HTTP/1"):
            return True
        if key.events == selectors.EVENT_WRITE:
            key.fileobj.send(b"GET / HTTP/1.0\r\n\r\n")
            selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
            return False
    except OSError:
        pass
    give_up(selector, key.fileobj)
    return False


def first_answer(port, pace_sec=0.05, timeout_sec=lab.BOOT_TIMEOUT_SEC):
    """Waits for the first answer over HTTP. Tries anew at this pace, whatever has become of the
    attempts before: one of them may hang, and what counts is when traffic is possible. passt keeps
    all attempts for the guest, which has to work through them when it comes back: longer waits need
    a slower pace."""
    end = time.monotonic() + timeout_sec
    with selectors.DefaultSelector() as selector:
        try:
            while time.monotonic() < end:
                attempt(selector, port)
                next_attempt = time.monotonic() + pace_sec
                while (rest := next_attempt - time.monotonic()) > 0:
                    for key, _ in selector.select(rest):
                        if has_answer(selector, key):
                            return
                for key in list(selector.get_map().values()):
                    if key.data < time.monotonic():
                        give_up(selector, key.fileobj)
        finally:
            for key in list(selector.get_map().values()):
                give_up(selector, key.fileobj)
    raise TimeoutError(f"no answer from port {port} in {timeout_sec} s")
