# SPDX-License-Identifier: LGPL-2.1-or-later
"""`./dev bench`: figures of uservm, each beside those of its peers, measured in one run. Runs in a
fresh lab as its user. Standard output is the table, file descriptor 3 gets the same as JSON."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lab"))
import lab  # noqa: E402  first: it says where the others are
import changes  # noqa: E402
import client  # noqa: E402
import guests  # noqa: E402
import many  # noqa: E402
import starts  # noqa: E402
import traffic  # noqa: E402
from guests import VM  # noqa: E402
from rawbus import RawBus  # noqa: E402
from report import Report  # noqa: E402

JSON_FD = 3


def say(text):
    print("bench:", text, file=sys.stderr, flush=True)


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}"


def machine(bus):
    """What the figures depend on."""
    versions = {name: bus.get(client.ROOT, f"{name}Version", client.MANAGER)
                for name in ("Libvirt", "Qemu", "Passt")}
    return {"processors": processor(), "kernel": os.uname().release, "guests": "TCG",
            "uservm": bus.get(client.ROOT, "Version", client.MANAGER),
            "libvirt": versions["Libvirt"], "QEMU": versions["Qemu"],
            "passt": versions["Passt"].split("\n")[0]} | {
                name: lab.run("dpkg-query", "--show", "--showformat=${Version}", name)
                for name in ("libvirt-dbus", "virtinst")}


def measure(report, bus, raw):
    say("booting a VM on each kind of network")
    with guests.running(bus, managed=VM.start_managed, native=VM.start_native,
                        slirp=VM.start_slirp) as vms:
        managed, native, slirp = vms["managed"], vms["native"], vms["slirp"]
        say("adding forwards")
        changes.measure_adding(report, raw, managed, native)
        say("changing forwards under load")
        changes.measure_losses(report, raw, managed, native)
        say("throughput")
        traffic.measure_throughput(report, managed, native, slirp)
        say("crashes of passt")
        traffic.measure_crashes(report, bus, native)
    say("starting VMs")
    starts.measure_starts(report, bus, raw)
    say("up to 1000 VMs")
    many.measure_many(report, bus, raw)


def main():
    guests.make_initrd()
    bus, raw = client.Client(), RawBus()
    report = Report(machine(bus))
    measure(report, bus, raw)
    for line in report.text():
        print(line)
    with open(JSON_FD, "w", encoding="utf-8") as file:
        print(report.json(), file=file)


if __name__ == "__main__":
    main()
