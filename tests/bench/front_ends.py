# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a front-end adds to the calls that it makes: libuservm beside raw sd-bus, and the command
beside busctl."""

import collections
import os

import lab
import process

LIBRARY_TIMES = 200
COMMAND_TIMES = 30

BUSCTL = "busctl", "--user", "call", "org.uservm1", "/org/uservm1"


def build():
    """The program that does the library's part, compiled with what is installed."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "library.c")
    program = os.path.expanduser("~/bench-library")
    lab.run("gcc", "-O2", "-Wall", "-o", program, source,
            *lab.run("pkg-config", "--cflags", "--libs", "libuservm", "libsystemd").split())
    return program


def measure_library(report, number, vm):
    values = collections.defaultdict(list)
    for line in lab.run(build(), str(LIBRARY_TIMES), vm).splitlines():
        what, usec = line.split()
        values[what].append(float(usec) / 1000)

    group = report.group(f"A call through libuservm, {number} VMs", "over one open connection each, "
                         "in turn; raw sd-bus throws the reply away, libuservm makes structures "
                         "of it")
    raw = group.add("raw sd-bus, the forwards of one VM", "ms", values["raw-forwards"])
    forwards = group.add("libuservm, the same", "ms", values["library-forwards"], raw)
    raw = group.add("raw sd-bus, all VMs with all their forwards", "ms", values["raw-vms"])
    group.add("libuservm, the same", "ms", values["library-vms"], raw)
    report.at_most("forwards of one VM, libuservm / raw sd-bus", forwards.ratio, 1.25)


def measure_command(report, number):
    values = collections.defaultdict(list)
    for _ in range(COMMAND_TIMES):
        for what, command in [
                ("uservm", ("uservm", "list")),
                ("names", (*BUSCTL, "org.uservm1.Manager", "ListVMs")),
                ("objects", (*BUSCTL, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"))]:
            values[what].append(process.timed(*command))

    group = report.group(f"A command that lists {number} VMs", "a process each; ListVMs has names "
                         "and states, GetManagedObjects all that uservm list shows")
    ours = group.add("uservm list", "ms", values["uservm"])
    names = group.add("busctl call ListVMs", "ms", values["names"], ours)
    group.add("busctl call GetManagedObjects", "ms", values["objects"], ours)
    report.at_most(f"uservm list, {number} VMs / busctl call ListVMs", ours.median / names.median,
                   1.5)


def measure_front_ends(report, number, vm):
    """There are so many VMs, and this is one of them."""
    measure_library(report, number, vm)
    measure_command(report, number)
