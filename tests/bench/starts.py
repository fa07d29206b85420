# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long it takes to start a VM, until the call or command says that it runs."""

import time

import client
import guests
import lab

TIMES = 7


def timed(function, *arguments):
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


def virt_install(name):
    port = next(guests.ports)
    lab.run("virt-install", "--connect", "qemu:///session", "--name", name, "--memory", "256",
            "--vcpus", "1", "--virt-type", "qemu", "--osinfo", "detect=on,require=off",
            "--boot", f"kernel={lab.KERNEL},initrd={lab.INITRD},kernel_args={lab.CMDLINE}",
            "--disk", "none", "--network",
            "type=user,backend.type=passt,portForward0.proto=tcp,portForward0.address=127.0.0.1,"
            f"portForward0.range0.start={port},portForward0.range0.to=80",
            "--noautoconsole")


def create(bus, name):
    """Seconds, through CreateVM."""
    return bus.timed([bus.manager("CreateVM", "(a{sv})", client.dictionary(lab.guest(
        name=name, forwards=[f"{next(guests.ports)}:{guests.HTTP_PORT}"])))])[0]


def measure_starts(report, client_bus, bus):
    ours, virsh, created, installed = [], [], [], []
    vm = guests.VM(client_bus, "start")
    for _ in range(TIMES):
        ours.append(bus.timed([bus.manager("StartVM", "(s)", vm.name)])[0])
        lab.virsh("destroy", vm.name)
        virsh.append(timed(lab.virsh, "start", vm.name))
        lab.virsh("destroy", vm.name)
        created.append(create(bus, "created"))
        delete(client_bus, "created")
        installed.append(timed(virt_install, "installed"))
        delete(client_bus, "installed")
    vm.delete()

    group = report.group("Starting a VM", "until the call returns or the program ends, all with "
                         "passt")
    start = group.add("uservm, StartVM", "s", ours)
    peer = group.add("virsh start", "s", virsh, start)
    defined = group.add("uservm, CreateVM (defines it too)", "s", created)
    group.add("virt-install (defines it too)", "s", installed, defined)
    report.at_most("StartVM / virsh start", start.median / peer.median, 1.1)


def delete(client_bus, name):
    client_bus.manager("DeleteVM", "(sa{sv})", name, client.dictionary({"force": True}))
