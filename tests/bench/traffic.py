# SPDX-License-Identifier: LGPL-2.1-or-later
"""How fast data goes, and how soon it goes again after passt has died."""

import os
import socket
import time

import lab
from guests import SINK_BLOCK, VM, first_answer, running

SIZE = 64 << 20
TIMES = 5
CRASHES = 5
RECOVERY_SEC = 30


# Throughput. The same client and the same services of the guest on all networks, and always a
# connection from the host through a forward, since that works on each of them.

def download(vm):
    """MB/s from the guest to the host."""
    buffer = bytearray(1 << 20)
    received = 0
    begin = time.perf_counter()
    with socket.create_connection(("127.0.0.1", vm.http), 60) as connection:
        connection.sendall(b"GET /64M HTTP/1.0\r\n\r\n")
        while n := connection.recv_into(buffer):
            received += n
    seconds = time.perf_counter() - begin
    if received < SIZE:
        raise AssertionError(f"{vm.name}: {received} of {SIZE} bytes came")
    return SIZE / seconds / 1e6


def upload(vm):
    """MB/s from the host to the guest, until the guest says that it has got all."""
    data = bytes(SIZE)
    begin = time.perf_counter()
    with socket.create_connection(("127.0.0.1", vm.sink), 60) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
    seconds = time.perf_counter() - begin
    if f"{SIZE // SINK_BLOCK}+0 records in" not in said:
        raise AssertionError(f"{vm.name}: sent {SIZE} bytes, and the guest says: {said}")
    return SIZE / seconds / 1e6


class Network:
    def __init__(self, what, vm):
        self.what = what
        self.vm = vm

    def begin(self):
        self.speeds = []
        self.broken = 0

    def try_transfer(self, transfer):
        """One that breaks is counted, and not tried again: a passt that has crashed is a result."""
        try:
            self.speeds.append(transfer(self.vm))
        except OSError:
            self.broken += 1
            lab.wait_answer(self.vm.http)


def measure_transfer(report, title, transfer, networks):
    for network in networks:
        network.begin()
    for _ in range(1 + TIMES):
        for network in networks:
            network.try_transfer(transfer)

    group = report.group(f"Throughput, {title}", "64 MiB over one TCP connection through a "
                         "forward; the networks in turn")
    managed = group.add(networks[0].what, "MB/s", networks[0].speeds)
    native, _ = [group.add(network.what, "MB/s", network.speeds, managed)
                 for network in networks[1:]]
    for network in networks:
        if network.broken:
            group.add(f"{network.what}: transfers", "broken", [network.broken])
    report.at_least(f"throughput {title}, managed / libvirt's passt",
                    managed.median / native.median, 1.3)
    report.at_most(f"transfers {title} that broke, managed", networks[0].broken, 0)


def measure_throughput(report, managed, native, slirp):
    networks = [Network("managed (vhost-user)", managed),
                Network("native (libvirt's passt)", native),
                Network("QEMU's own (slirp)", slirp)]
    measure_transfer(report, "guest to host", download, networks)
    measure_transfer(report, "host to guest", upload, networks)


# passt's crash

def passt_of(vm):
    """Nobody can see what passt listens on, but what it was told to."""
    return int(lab.run("pgrep", "--full", f"^[^ ]*passt .*127.0.0.1/{vm.http}:"))


def crash(vm):
    """Seconds from the crash to traffic."""
    pid = passt_of(vm)
    begin = time.perf_counter()
    lab.kill(pid)
    first_answer(vm.http, timeout_sec=RECOVERY_SEC)
    return time.perf_counter() - begin


def crashes_in_a_row(vm):
    """The seconds of each, and how many were not got over: none, or the last."""
    seconds = []
    try:
        while len(seconds) < CRASHES:
            seconds.append(crash(vm))
    except TimeoutError:
        return seconds, 1
    return seconds, 0


def measure_crashes(report, bus, native):
    # A passt of ours that dies again within half a minute is started later each time, so these are
    # the first crashes of several VMs.
    with running(bus, **{f"crash{i}": VM.start_managed for i in range(CRASHES)}) as vms:
        ours = [crash(vm) for vm in vms.values()]
    theirs, dead = crashes_in_a_row(native)

    group = report.group("From passt's crash to traffic", "kill -9, until a new connection gets "
                         "an answer over HTTP")
    managed = group.add("managed", "s", ours)
    if theirs:
        group.add("native (libvirt starts it anew, QEMU reconnects)", "s", theirs, managed)
    if dead:
        group.add(f"native: no traffic even after {RECOVERY_SEC} s", "times", [dead])
    report.at_most("slowest from passt's crash to traffic, s", max(managed.values), 1.5)
