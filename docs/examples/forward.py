#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""uservm from Python: lists all VMs, forwards a free port of this machine to port 80 of one of them,
and shows its forwards when the signal comes that they have changed.

    python3 forward.py VM
"""
import sys
from gi.repository import Gio, GLib

NAME, PATH, VM = "org.uservm1", "/org/uservm1", "org.uservm1.VM"
objects = Gio.DBusObjectManagerClient.new_for_bus_sync(
    Gio.BusType.SESSION, Gio.DBusObjectManagerClientFlags.NONE, NAME, PATH, None, None, None)
loop = GLib.MainLoop()


def on_changed(objects, path, vm, changed, invalidated):
    for forward in changed.unpack().get("Forwards", []):
        print(vm.get_cached_property("Name").unpack(), forward["spec"], forward["state"])
        loop.quit()


vms = [each.get_interface(VM) for each in objects.get_objects() if each.get_interface(VM)]
for vm in vms:
    print(vm.get_cached_property("Name").unpack(), "is", vm.get_cached_property("State").unpack())
objects.connect("interface-proxy-properties-changed", on_changed)
for vm in vms:
    if vm.get_cached_property("Name").unpack() == sys.argv[1]:
        print("added", vm.AddPortForward("(sa{sv})", "0:80", {})["spec"])
        loop.run()
