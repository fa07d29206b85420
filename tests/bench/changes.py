# SPDX-License-Identifier: LGPL-2.1-or-later
"""Forwards of a VM that runs: how long it takes to add one, and what it costs others."""

import contextlib
import json
import os
import subprocess
import sys
import time

import client
import lab
import process
from guests import HTTP_PORT, first_answer, ports

LIVE_TIMES = 100
REPLUG_TIMES = 8
RESTART_TIMES = 3
CONNECTIONS = 20
CHANGES_UNDER_LOAD = 200
REPLUGS_UNDER_LOAD = 3


def host(port):
    return f"127.0.0.1:{port}"


def change(bus, member, vm, spec, **options):
    """Milliseconds of the call."""
    return bus.timed([bus.manager(member, "(ssa{sv})", vm.name, spec,
                                  client.dictionary(options))])[0] * 1000


def add(bus, vm, port, **options):
    return change(bus, "AddPortForward", vm, f"{port}:{HTTP_PORT}", **options)


def remove(bus, vm, port, **options):
    return change(bus, "RemovePortForward", vm, host(port), **options)


# Adding one

def add_and_remove(bus, vm, times, **options):
    port = next(ports)
    times[0].append(add(bus, vm, port, **options))
    lab.fetch(port)  # an OSError if it does not answer
    times[1].append(remove(bus, vm, port, **options))
    if not lab.is_refused(port):
        raise AssertionError(f"port {port}, just removed, is still there")


def control_socket(vm):
    socket = lab.definition(vm.name, live=True).find("./devices/interface/source").get("path")
    return socket.removesuffix(".sock") + ".ctl"


def pesto_add_and_remove(control, times):
    port = next(ports)
    rule = f"127.0.0.1/{port}:{HTTP_PORT}"
    times.append(process.timed("pesto", "-A", "-t", rule, control))
    lab.wait_answer(port)  # pesto may have ended before passt listens
    process.timed("pesto", "-D", "-t", rule, control)


def replug(bus, vm):
    """Milliseconds of the call, and until the new forward answers. The forward added the time
    before goes in the same re-plug."""
    port = next(ports)
    begin = time.perf_counter()
    call = add(bus, vm, port, disruptive=True)
    first_answer(port)
    answer = (time.perf_counter() - begin) * 1000
    remove(bus, vm, port)
    return call, answer


def edit_and_restart(vm):
    """Milliseconds until the new forward answers."""
    port = next(ports)
    editor = os.path.expanduser("~/add-range")
    with open(editor, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\nexec sed -i '0,/<.portForward>/s||<range start=\"{port}\""
                   f" to=\"{HTTP_PORT}\"/>&|' \"$1\"\n")
    os.chmod(editor, 0o755)
    begin = time.perf_counter()
    lab.virsh("shutdown", vm.name)
    lab.until(lambda: vm.bus.get(vm.path, "State") == "shutoff", f"{vm.name} to be down")
    lab.run("env", f"EDITOR={editor}", "virsh", "-c", "qemu:///session", "edit", vm.name)
    lab.virsh("start", vm.name)
    first_answer(port, pace_sec=0.2)
    return (time.perf_counter() - begin) * 1000


def measure_adding(report, bus, managed, native):
    stored, this_run, by_pesto = ([], []), ([], []), []
    control = control_socket(managed)
    for _ in range(LIVE_TIMES):
        add_and_remove(bus, managed, stored)
        add_and_remove(bus, managed, this_run, persistent=False)
        pesto_add_and_remove(control, by_pesto)
    replugs = [replug(bus, native) for _ in range(REPLUG_TIMES)]
    restarts = [edit_and_restart(native) for _ in range(RESTART_TIMES)]

    group = report.group("Adding a forward to a running VM", "calls over one open D-Bus "
                         "connection; every forward added was tried")
    live = group.add("uservm, live (stored too)", "ms", stored[0])
    run_only = group.add("uservm, live, for this run (persistent=false)", "ms", this_run[0], live)
    alone = group.add("pesto alone, a process", "ms", by_pesto, live)
    plug = group.add("NIC re-plug, the call", "ms", [call for call, _ in replugs], live)
    group.add("NIC re-plug, until the port answers", "ms", [answer for _, answer in replugs], live)
    group.add("virsh shutdown, edit, start, until it answers", "ms", restarts, live)
    group.add("removing one: uservm, live (stored too)", "ms", stored[1])
    group.add("removing one: uservm, live, for this run", "ms", this_run[1])
    report.at_least("NIC re-plug / adding live", plug.median / live.median, 30)
    report.at_most("adding live / pesto alone", live.median / alone.median, 2)
    report.at_most("adding live for this run / pesto alone", run_only.median / alone.median, 2)


# What others notice

@contextlib.contextmanager
def load(vm):
    """What load.py says at its end is in the dictionary that this gives."""
    result = {}
    with subprocess.Popen([sys.executable, os.path.join(os.path.dirname(__file__), "load.py"),
                           str(vm.echo), str(CONNECTIONS)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as loader:
        if loader.stdout.readline() != "ready\n":
            raise AssertionError("load.py did not begin")
        yield result
        loader.stdin.close()
        result |= json.loads(loader.stdout.readline())


def change_under_load(bus, vm):
    """What load.py says, the milliseconds that each addition took, and the error that ended it all
    too early, if there was one: a passt that has crashed is a result."""
    times, error = [], ""
    with load(vm) as result:
        try:
            while len(times) < CHANGES_UNDER_LOAD // 2:
                port = next(ports)
                times.append(add(bus, vm, port))
                remove(bus, vm, port)
        except client.Error as caught:
            error = caught.message
    lab.wait_answer(vm.http)
    return result, times, error


def replug_under_load(bus, vm):
    with load(vm) as result:
        replug(bus, vm)
    return result["lost"]


def measure_losses(report, bus, managed, native):
    live, times, error = change_under_load(bus, managed)
    replugs = [replug_under_load(bus, native) for _ in range(REPLUGS_UNDER_LOAD)]

    group = report.group(f"Of {CONNECTIONS} busy connections, lost", "data streams to the guest's "
                         "echo server and back, every byte compared; errors: "
                         + ("; ".join(filter(None, [error, *live["why"], *live["short-why"]]))
                            or "none"))
    lost = group.add(f"uservm, {2 * len(times)} changes live", "lost", [live["lost"]])
    group.add("one NIC re-plug", "lost", replugs)
    group.add(f"uservm: of {live['short']} new connections meanwhile", "failed",
              [live["short-failed"]])
    group.add("uservm: data given back meanwhile", "MB", [live["bytes"] / 1e6])
    group.add("uservm: adding a forward meanwhile", "ms", times)
    report.at_most(f"connections lost over {CHANGES_UNDER_LOAD} changes", lost.median, 0)
