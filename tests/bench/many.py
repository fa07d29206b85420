# SPDX-License-Identifier: LGPL-2.1-or-later
"""What VMs cost that are only there: the time of questions about all of them, memory, wake-ups. The
peer is libvirt-dbus, which mirrors libvirt's API on D-Bus."""

import copy
import glob
import os
import time
import uuid
import xml.etree.ElementTree as ElementTree

import libvirt

import guests
import lab
from front_ends import measure_front_ends
from rawbus import WINDOW

NUMBERS = 1, 100, 1000
NUMBER_FOR_MEMORY = NUMBER_FOR_FRONT_ENDS = 100
TIMES = 10
IDLE_SEC = 30
SETTLE_SEC = 5  # for what follows a start
LIBVIRTD_CONF = os.path.expanduser("~/.config/libvirt/libvirtd.conf")

PEER = "org.libvirt"
PEER_ROOT = "/org/libvirt/QEMU"
INACTIVE = int(libvirt.VIR_DOMAIN_XML_INACTIVE)


# Domains

def named(template, name):
    """A definition like this one, with two ports of its own."""
    domain = copy.deepcopy(template)
    identity = uuid.uuid4()
    domain.find("name").text = name
    domain.find("uuid").text = str(identity)
    nic = domain.find("./devices/interface")
    nic.find("mac").set("address", "52:54:00:" + identity.bytes[:3].hex(":"))
    for item in nic.findall("./portForward/range"):
        item.set("start", str(next(guests.ports)))
    return ElementTree.tostring(domain, encoding="unicode")


def make_template(client_bus):
    """Of a VM with one NIC and two forwards."""
    client_bus.create(**lab.guest(name="many0", start=False, forwards=[
        f"{next(guests.ports)}:{guests.HTTP_PORT}", f"{next(guests.ports)}:{guests.ECHO_PORT}"]))
    return lab.definition("many0")


def grow(client_bus, template, number):
    """Defines domains until there are so many, and waits until uservm knows them all."""
    session = libvirt.open("qemu:///session")
    for i in range(len(session.listAllDomains()), number):
        session.defineXML(named(template, f"many{i}"))
    session.close()
    lab.until(lambda: len(client_bus.manager("ListForwards", "(s)", "")) == 2 * number,
              f"{number} VMs to be listed")


# Questions

def ask_peer(bus, calls):
    """The list of domains, and for each these calls, many at a time."""
    begin, paths = bus.timed([bus.message(PEER, PEER_ROOT, "org.libvirt.Connect", "ListDomains",
                                          "(u)", 0)])
    messages = [bus.message(PEER, path, *call) for path in paths[0] for call in calls]
    seconds, replies = bus.timed(messages)
    return begin + seconds, replies


# uservm: name, UUID, state and path. The UUID is in the path of libvirt-dbus.
NAME_AND_STATE = [("org.freedesktop.DBus.Properties", "Get", "(ss)", "org.libvirt.Domain", "Name"),
                  ("org.libvirt.Domain", "GetState", "(u)", 0)]
# The forwards are in there; to find them, and whether they listen, is left to the client.
DEFINITION = [("org.libvirt.Domain", "GetXMLDesc", "(u)", INACTIVE)]


def compare(group, ask_ours, ask_theirs):
    """Adds the times of both, in turn, and returns their ratio and last replies. What they need the
    first time only is not counted."""
    asked = [(ask_ours(), ask_theirs()) for _ in range(1 + TIMES)][1:]
    ours, theirs = ([seconds * 1000 for seconds, _ in answers] for answers in zip(*asked))
    ours = group.add("uservm", "ms", ours)
    theirs = group.add("libvirt-dbus", "ms", theirs, ours)
    return theirs.median / ours.median, asked[-1][0][1], asked[-1][1][1]


def measure_questions(report, bus, number):
    group = report.group(f"ListVMs, {number} defined", "over one open D-Bus connection; "
                         "libvirt-dbus is asked for name and state of each, "
                         f"{WINDOW} calls at a time")
    _, ours, theirs = compare(group, lambda: bus.timed([bus.manager("ListVMs")]),
                              lambda: ask_peer(bus, NAME_AND_STATE))
    if len(ours[0]) != number or len(theirs) != 2 * number:
        raise AssertionError(f"{number} VMs, but {len(ours[0])} and {len(theirs)} answers")

    group = report.group(f"ListForwards of all, {number} defined", "two each; libvirt-dbus gives "
                         "the XML of each domain, which its client has yet to parse")
    ratio, ours, theirs = compare(group,
                                  lambda: bus.timed([bus.manager("ListForwards", "(s)", "")]),
                                  lambda: ask_peer(bus, DEFINITION))
    if len(ours[0]) != 2 * number or sum(xml.count("<range ") for xml in theirs) != 2 * number:
        raise AssertionError(f"{number} VMs, but {len(ours[0])} and {len(theirs)} answers")
    return ratio


# Memory and wake-ups

def memory(pid):
    """MB by kind: what is resident, what of that is not from files, and with the pages that are
    shared divided among those who share them."""
    found = {}
    for file, key in [("status", "VmRSS"), ("status", "RssAnon"), ("smaps_rollup", "Pss")]:
        with open(f"/proc/{pid}/{file}", encoding="ascii") as lines:
            found[key] = [int(line.split()[1]) * 1024 / 1e6 for line in lines
                          if line.startswith(f"{key}:")][0]
    return found


def measure_memory(report, asked, idle):
    """What each process had right after the questions, and at the end of the idle time."""
    group = report.group(f"Memory with {NUMBER_FOR_MEMORY} domains", "both started with them; "
                         f"after the questions above, and {IDLE_SEC} s later")
    for found, kind, what in [(idle, "VmRSS", "resident, idle"),
                              (idle, "RssAnon", "anonymous, idle"),
                              (idle, "Pss", "proportional (PSS), idle"),
                              (asked, "VmRSS", "resident, after the questions")]:
        ours = group.add(f"uservmd, {what}", "MB", [found["uservmd"][kind]])
        group.add(f"libvirt-dbus, {what}", "MB", [found["libvirt-dbus"][kind]], ours)
    report.at_most(f"resident memory, {NUMBER_FOR_MEMORY} domains, idle, uservmd / libvirt-dbus",
                   idle["uservmd"]["VmRSS"] / idle["libvirt-dbus"]["VmRSS"], 0.5)


def context_switches(pid):
    """By thread, of those that it has now."""
    total = {}
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path, encoding="ascii") as status:
            total[path] = sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)
    return total


def wake_ups(before, after):
    """A thread that has ended meanwhile was woken for that."""
    return (sum(after[thread] - before.get(thread, 0) for thread in after)
            + len(before.keys() - after.keys()))


def be_idle(client_bus, processes):
    """For a while, with a VM that runs: the wake-ups of each process, and its memory then."""
    client_bus.manager("StartVM", "(s)", "many0")
    lab.wait_answer(client_bus.manager("ListForwards", "(s)", "many0")[0]["host-port"])
    time.sleep(SETTLE_SEC)
    before = {name: context_switches(pid) for name, pid in processes.items()}
    time.sleep(IDLE_SEC)
    found = {name: wake_ups(before[name], context_switches(pid))
             for name, pid in processes.items()}
    idle = {name: memory(pid) for name, pid in processes.items()}
    client_bus.manager("PowerOffVM", "(s)", "many0")
    return found, idle


def turn_keepalive_off():
    with open(LIBVIRTD_CONF, "x", encoding="ascii") as file:
        file.write("keepalive_interval = -1\n")
    for pid in lab.processes("libvirtd"):
        lab.kill(pid)


def measure_idle(report, client_bus, bus, processes):
    asked = {name: memory(pid) for name, pid in processes.items()}
    asked_by_libvirt, idle = be_idle(client_bus, processes)
    measure_memory(report, asked, idle)
    turn_keepalive_off()
    unasked, _ = be_idle(client_bus, started_anew(bus))

    group = report.group(f"Wake-ups in {IDLE_SEC} idle seconds", "context switches of all threads, "
                         f"with {NUMBER_FOR_MEMORY} domains of which one runs; unless its keepalive "
                         "is off, libvirtd asks each client every 5 s whether it is alive")
    for found, condition in (unasked, "libvirtd without keepalive"), (asked_by_libvirt, "with it"):
        ours = group.add(f"uservmd, {condition}", "wake-ups", [found["uservmd"]])
        group.add(f"libvirt-dbus, {condition}", "wake-ups", [found["libvirt-dbus"]], ours)
    report.at_most(f"wake-ups of uservmd of its own in {IDLE_SEC} idle seconds",
                   unasked["uservmd"], 0)


def started_anew(bus):
    lab.systemctl("restart", "uservmd.service")
    lab.kill(bus.process(PEER))
    return {"uservmd": lab.main_pid("uservmd.service"), "libvirt-dbus": bus.process(PEER)}


def measure_many(report, client_bus, bus):
    template = make_template(client_bus)
    for number in NUMBERS:
        grow(client_bus, template, number)
        if number == NUMBER_FOR_MEMORY:
            processes = started_anew(bus)
        ratio = measure_questions(report, bus, number)
        if number == NUMBER_FOR_FRONT_ENDS:
            measure_front_ends(report, number, "many0")
        if number == NUMBER_FOR_MEMORY:
            report.at_least(f"ListForwards, {number} VMs, libvirt-dbus / uservm", ratio, 10)
            measure_idle(report, client_bus, bus, processes)
