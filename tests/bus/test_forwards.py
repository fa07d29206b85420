# SPDX-License-Identifier: LGPL-2.1-or-later
"""Port forwards: shown as they are, added and removed in the stored definition, and refused before
anything is touched. libvirt's test driver starts no passt; where something has to listen, the test
does it."""

import os
import re
import socket

import client
import daemon
import tap
from client import changes, dictionary
from daemon import domain, uuid


def nic(rules, mac="52:54:00:00:00:01"):
    return f"""<interface type='user'>
                 <mac address='{mac}'/><backend type='passt'/>{rules}
               </interface>"""


def rule(protocol, *ranges, **attributes):
    attributes = "".join(f" {name}='{value}'" for name, value in attributes.items())
    return f"<portForward proto='{protocol}'{attributes}>{''.join(ranges)}</portForward>"


def entry(spec, state, *, exclude=None, interface=None, error=None, persistent=True):
    """The dictionary of a forward: what the spec says, and the rest."""
    left, protocol = spec.rsplit("/", 1)
    address, host, guest = left.rsplit(":", 2)
    host, guest = ([int(port) for port in ports.split("-")] for ports in (host, guest))
    forward = {
        "spec": spec, "protocol": protocol, "address": address.strip("[]"),
        "host-port": host[0], "host-port-end": host[-1],
        "guest-port": guest[0], "guest-port-end": guest[-1],
        "persistent": persistent, "state": state,
    }
    optional = {"exclude": exclude, "interface": interface, "error": error}
    return forward | {key: value for key, value in optional.items() if value is not None}


class Forwards(daemon.Case):
    """uservmd with some domains that others made."""

    domains = [
        domain("web", 1, devices="<interface type='user'/>"),
        domain("on", 2, devices="<interface type='user'/>", running=True),
        domain("bare", 3),
    ]

    def setUp(self):
        super().setUp()
        self.need_passt()
        self.web, self.on, self.bare = (self.bus.manager("GetVM", "(s)", name)
                                        for name in ("web", "on", "bare"))

    def add(self, path, spec, **options):
        return self.bus.vm(path, "AddPortForward", "(sa{sv})", spec, dictionary(options))

    def remove(self, path, spec, **options):
        return self.bus.vm(path, "RemovePortForward", "(sa{sv})", spec, dictionary(options))

    def forwards(self, path):
        """The VM's forwards, which all ways of asking agree about."""
        listed = self.bus.vm(path, "ListForwards")
        name = self.bus.get(path, "Name")
        self.assertEqual(self.bus.get(path, "Forwards"), listed)
        self.assertEqual(self.bus.manager("ListForwards", "(s)", name), listed)
        self.assertEqual([forward for forward in self.bus.manager("ListForwards", "(s)", "")
                          if forward["vm"] == name],
                         [{"vm": name} | forward for forward in listed])
        return listed

    def specs(self, path):
        return [(forward["spec"], forward["state"]) for forward in self.forwards(path)]


class Editing(Forwards):
    def test_add_to_a_VM_that_does_not_run(self):
        forward = self.add(self.web, "18080:80")
        self.assertEqual(forward, entry("127.0.0.1:18080:80/tcp", "inactive"))
        self.assertEqual(changes(self.bus.take_signals(), self.web), [{"Forwards": [forward]}])
        self.assertEqual(self.forwards(self.web), [forward])

    def test_notations(self):
        for spec, canonical in {
                "18080": "127.0.0.1:18080:18080/tcp",
                "18081:80/tcp": "127.0.0.1:18081:80/tcp",
                "18080:80/udp": "127.0.0.1:18080:80/udp",
                "*:18082:80": "*:18082:80/tcp",
                "0.0.0.0:18083:80": "0.0.0.0:18083:80/tcp",
                "127.0.0.2:18080:80": "127.0.0.2:18080:80/tcp",
                "[::1]:18080:80": "[::1]:18080:80/tcp",
                "[::]:18084:80": "[::]:18084:80/tcp",
                "18090-18099:8090-8099/udp": "127.0.0.1:18090-18099:8090-8099/udp",
        }.items():
            with self.subTest(spec=spec):
                self.assertEqual(self.add(self.web, spec), entry(canonical, "inactive"))
                self.assertEqual(self.forwards(self.web), [entry(canonical, "inactive")])
                self.remove(self.web, canonical)
        self.assertEqual(self.forwards(self.web), [])

    def test_types_in_the_dictionary(self):
        reply = self.bus.connection.call_sync(
            client.NAME, self.web, client.VM, "AddPortForward",
            client.GLib.Variant("(sa{sv})", ("18080:80", {})), None,
            client.Gio.DBusCallFlags.NONE, -1, None)
        forward = reply.get_child_value(0)
        self.assertEqual(
            {key: forward.lookup_value(key, None).get_type_string() for key in forward.keys()},
            {"spec": "s", "protocol": "s", "address": "s", "host-port": "q", "host-port-end": "q",
             "guest-port": "q", "guest-port-end": "q", "persistent": "b", "state": "s"})

    def test_a_free_port_is_picked_and_told(self):
        first, second = (self.add(self.web, "0:80") for _ in range(2))
        self.assertGreaterEqual(first["host-port"], 1024)
        self.assertNotEqual(first["host-port"], second["host-port"])
        self.assertEqual(self.forwards(self.web), [first, second])

    def test_the_host_side_identifies_a_forward(self):
        self.add(self.web, "18080:80")
        self.add(self.web, "18080:80/udp")
        self.add(self.web, "[::1]:18080:80")
        for wrong in ("18081", "127.0.0.2:18080", "18080-18081:80-81", "*:18080"):
            self.assertFails("NoSuchForward", self.remove, self.web, wrong, says="'web'")
        self.bus.take_signals()
        self.remove(self.web, "18080:443")
        left = [entry("127.0.0.1:18080:80/udp", "inactive"),
                entry("[::1]:18080:80/tcp", "inactive")]
        self.assertEqual(changes(self.bus.take_signals(), self.web), [{"Forwards": left}])
        self.assertEqual(self.forwards(self.web), left)

    def test_a_running_VM_gets_it_at_the_next_start(self):
        pending = self.add(self.on, "18080:80")
        self.assertIn("passt", pending.pop("error"))  # why it is not at once
        self.assertEqual(pending, entry("127.0.0.1:18080:80/tcp", "pending"))
        self.remove(self.on, "18080")
        self.assertEqual(self.forwards(self.on), [])
        self.add(self.on, "18081:80")
        self.bus.vm(self.on, "PowerOff")
        self.assertEqual(self.specs(self.on), [("127.0.0.1:18081:80/tcp", "inactive")])
        self.bus.vm(self.on, "Start")
        forward, = self.forwards(self.on)
        self.assertEqual(forward["state"], "failed")  # nothing listens with the test driver
        self.assertIn("18081", forward["error"])

    def test_through_the_manager(self):
        forward = self.bus.manager("AddPortForward", "(ssa{sv})", "web", "18080:80", {})
        self.assertEqual(forward, entry("127.0.0.1:18080:80/tcp", "inactive"))
        self.assertEqual(self.forwards(self.web), [forward])
        self.bus.manager("RemovePortForward", "(ssa{sv})", uuid(1), "18080", {})
        self.assertEqual(self.forwards(self.web), [])

    def test_a_change_that_cannot_take_effect_at_once_is_taken_back(self):
        # libvirt's test driver does not take NICs out.
        self.add(self.on, "18080:80")
        before = self.forwards(self.on)
        self.bus.take_signals()
        for change, spec in ((self.add, "18081:80"), (self.remove, "18080")):
            with self.subTest(spec=spec), self.assertRaises(client.Error):
                change(self.on, spec, disruptive=True)
            self.assertEqual(self.forwards(self.on), before)
            self.assertEqual(changes(client.without_last_error(
                self.bus.take_signals()), self.on), [])

    def test_disruptive_on_a_VM_that_does_not_run_disrupts_nothing(self):
        self.add(self.web, "18080:80", disruptive=True)
        self.remove(self.web, "18080", disruptive=True)
        self.assertEqual(self.forwards(self.web), [])


class Refusing(Forwards):
    def check(self, error, path, spec, says=(), **options):
        before = self.bus.manager("ListForwards", "(s)", "")
        self.bus.take_signals()
        self.assertFails(error, self.add, path, spec, says=says, **options)
        self.assertEqual(self.bus.manager("ListForwards", "(s)", ""), before)
        self.assertEqual(client.without_last_error(self.bus.take_signals()), [])

    def test_without_a_user_mode_NIC(self):
        self.check("NoUserNetwork", self.bare, "18080:80", "'bare'")
        self.assertFails("NoUserNetwork", self.remove, self.bare, "18080", says="'bare'")

    def test_what_the_VM_has_already(self):
        self.add(self.web, "18080-18085:80-85")
        for spec in ("18080-18085:80-85", "18083:90", "*:18080:80", "0.0.0.0:18085:1"):
            self.check("ForwardExists", self.web, spec,
                       ("'web'", "127.0.0.1:18080-18085:80-85/tcp"))
        self.add(self.web, "18080:80/udp")
        self.add(self.web, "[::1]:18080:80")

    def test_what_another_VM_has(self):
        self.add(self.web, "18080:80")
        for spec in ("18080:80", "*:18079-18081:1-3"):
            self.check("PortInUse", self.on, spec, ("'web'", "127.0.0.1:18080:80/tcp"))

    def test_the_free_port_that_is_named_instead(self):
        self.add(self.web, "18080:80")
        with socket.create_server(("127.0.0.1", 0)) as server:
            for port in 18080, server.getsockname()[1]:
                message = self.assertFails("PortInUse", self.add, self.on, f"{port}:80")
                self.add(self.on, f"{re.search('like ([0-9]+), or 0', message)[1]}:80")

    def test_what_a_process_has(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.check("PortInUse", self.web, f"{port}:80", (str(port), f"process {os.getpid()} ("))
            self.check("PortInUse", self.web, f"*:{port}:80", f"process {os.getpid()} (")
        self.add(self.web, f"{port}:80")

    def test_what_a_process_has_whose_name_is_not_UTF_8(self):
        with open("/proc/self/comm", "r+b", buffering=0) as comm:
            name = comm.read().strip()
            comm.write(b"caf\xe9")
            with socket.create_server(("127.0.0.1", 0)) as server:
                self.check("PortInUse", self.web, f"{server.getsockname()[1]}:80",
                           f"process {os.getpid()} (caf")
            comm.write(name)

    def test_what_a_process_has_over_UDP(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
            self.check("PortInUse", self.web, f"{port}:53/udp", f"process {os.getpid()} (")
            self.add(self.web, f"{port}:53/tcp")

    def test_for_this_run_only(self):
        """Only passt of uservm's own can do that."""
        self.check("NotRunning", self.web, "18080:80", "'web'", persistent=False)
        self.check("NotSupported", self.on, "18080:80", "'on'", persistent=False)

    def test_what_another_VM_got_at_the_same_time(self):
        results = [self.bus.send(path, client.VM, "AddPortForward", "(sa{sv})", "18080:80", {})
                   for path in (self.web, self.on)]
        self.assertEqual(results[0].result()["spec"], "127.0.0.1:18080:80/tcp")
        self.assertFails("PortInUse", results[1].result, says="'web'")

    def test_the_start_of_a_VM_whose_port_a_process_has(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            server.close()
            self.add(self.web, f"{port}:80")
        with socket.create_server(("127.0.0.1", port)):
            self.assertFails("PortInUse", self.bus.vm, self.web, "Start",
                             says=(str(port), f"process {os.getpid()} ("))
        self.assertEqual(self.states()["web"], "shutoff")
        self.bus.vm(self.web, "Start")


class Creating(Forwards):
    def test_with_forwards(self):
        path = self.bus.create(name="new", disk_size="1M", start=False,
                               forwards=["18080:80", "*:18443:443", "18053:53/udp"])
        self.assertEqual(self.forwards(path), [
            entry("127.0.0.1:18080:80/tcp", "inactive"), entry("*:18443:443/tcp", "inactive"),
            entry("127.0.0.1:18053:53/udp", "inactive")])

    def test_with_free_ports(self):
        path = self.bus.create(name="new", disk_size="1M", start=False, forwards=["0:80", "0:22"])
        ports = [forward["host-port"] for forward in self.forwards(path)]
        self.assertEqual(len(set(ports)), 2)
        self.assertNotIn(0, ports)

    def test_with_a_port_that_another_VM_has(self):
        self.add(self.web, "18080:80")
        before = self.bus.managed_objects()
        self.assertFails("PortInUse", self.bus.create, name="new", disk_size="1M",
                         forwards=["18081:81", "18080:80"], says="'web'")
        self.assertEqual(self.bus.managed_objects(), before)
        self.assertEqual(self.files(), [])
        self.add(self.on, "18081:80")  # given back

    def test_a_deleted_VM_gives_its_ports_back(self):
        self.bus.create(name="new", disk_size="1M", forwards=["18080:80"])
        self.bus.manager("DeleteVM", "(sa{sv})", "new", dictionary({"force": True}))
        self.add(self.web, "18080:80")


class MadeByOthers(Forwards):
    """Rules that uservm would not write."""

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]

    domains = [
        domain("web", 1, devices=nic(
            rule("tcp", "<range start='18080' end='18089' to='8080'/>",
                 "<range start='18083' exclude='yes'/>",
                 "<range start='18085' end='18086' exclude='yes'/>",
                 "<range start='18443' to='443'/>", address="127.0.0.1")
            + rule("udp", "<range start='18053' to='53'/>")
            + rule("tcp", "<range start='18022' to='22'/>", address="::1", dev="lo"))
            + nic(rule("tcp", "<range start='18090'/>", address="0.0.0.0"), "52:54:00:00:00:02")),
        domain("on", 2, running=True, devices=nic(
            rule("tcp", f"<range start='{port}' to='80'/>",
                 "<range start='18444' to='443'/>", address="127.0.0.1"))),
        domain("bare", 3),
        domain("twins", 5, devices=nic(
            "".join(rule("tcp", "<range start='18022' to='22'/>", address="127.0.0.1", dev=name)
                    for name in ("lo", "eth0")))),
        domain("rival", 4, devices=nic(
            rule("tcp", "<range start='18444' to='443'/>", address="127.0.0.1"))),
    ]

    stored = [
        entry("127.0.0.1:18080-18089:8080-8089/tcp", "inactive",
              exclude=[(18083, 18083), (18085, 18086)]),
        entry("127.0.0.1:18443:443/tcp", "inactive"),
        entry("*:18053:53/udp", "inactive"),
        entry("[::1]:18022:22/tcp", "inactive", interface="lo"),
        entry("0.0.0.0:18090:18090/tcp", "inactive"),
    ]

    def test_are_listed_as_they_are(self):
        self.assertEqual(self.forwards(self.web), self.stored)

    def test_survive_an_addition_and_a_removal(self):
        self.add(self.web, "18888:88")
        self.assertEqual([forward for forward in self.forwards(self.web)
                          if forward["host-port"] != 18888], self.stored)
        self.assertEqual(len(self.forwards(self.web)), len(self.stored) + 1)
        self.remove(self.web, "18888")
        self.assertEqual(self.forwards(self.web), self.stored)

    def test_can_be_removed_one_by_one(self):
        for gone in range(len(self.stored)):
            self.remove(self.web, self.stored[gone]["spec"])
            self.assertEqual(self.forwards(self.web), self.stored[gone + 1:])

    def test_of_several_that_differ_in_their_interface_none_is_meant(self):
        twins = self.bus.manager("GetVM", "(s)", "twins")
        before = self.forwards(twins)
        self.assertEqual([forward["interface"] for forward in before], ["lo", "eth0"])
        self.assertFails("InvalidForward", self.remove, twins, "18022",
                         says=("'twins'", "interface"))
        self.assertEqual(self.forwards(twins), before)

    def test_an_excluded_port_is_free(self):
        self.check_taken("18082:80")
        self.assertEqual(self.add(self.web, "18083:80")["state"], "inactive")

    def check_taken(self, spec):
        self.assertFails("ForwardExists", self.add, self.web, spec, says="'web'")

    def test_active_is_what_listens(self):
        active, failed = self.forwards(self.on)
        self.assertEqual(active, entry(f"127.0.0.1:{self.port}:80/tcp", "active"))
        self.assertIn("18444", failed.get("error", ""))
        self.assertEqual(failed, entry("127.0.0.1:18444:443/tcp", "failed", error=failed["error"]))

    def test_what_is_removed_listens_until_the_next_start(self):
        self.remove(self.on, str(self.port))
        self.assertEqual(
            [(spec, state) for spec, state in self.specs(self.on) if state != "failed"],
            [(f"127.0.0.1:{self.port}:80/tcp", "removing")])
        self.assertFalse(self.forwards(self.on)[-1]["persistent"])
        self.bus.vm(self.on, "PowerOff")
        self.assertEqual(self.specs(self.on), [("127.0.0.1:18444:443/tcp", "inactive")])

    def test_what_is_removed_can_be_added_again(self):
        self.remove(self.on, str(self.port))
        self.add(self.on, f"{self.port}:80")
        self.assertIn((f"127.0.0.1:{self.port}:80/tcp", "active"), self.specs(self.on))

    def test_of_two_VMs_with_one_port_one_can_run(self):
        rival = self.bus.manager("GetVM", "(s)", "rival")
        self.assertFails("PortInUse", self.bus.vm, rival, "Start", says=("'on'", "18444"))
        self.assertEqual(self.bus.get(rival, "State"), "shutoff")
        self.bus.vm(self.on, "PowerOff")
        self.bus.vm(rival, "Start")
        self.assertEqual(self.bus.get(rival, "State"), "running")


if __name__ == "__main__":
    tap.main()
