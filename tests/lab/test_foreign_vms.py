# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs that other tools made: all are listed as they are, and what uservm changes in one is what it
was asked to, and nothing else."""

import copy
import xml.etree.ElementTree as ElementTree

import lab  # first: it says where the others are
import client
import tap
from lab import stories_in_order as load_tests

# virt-install's options: rules with ranges, exclusions, several ranges in one rule, an interface,
# IPv6 and UDP, on two NICs. The guest has nothing plugged into the second one: it would be given
# the same address twice and confuse them.
COMPLEX_NICS = [
    "type=user,backend.type=passt,model=virtio,"
    "portForward0.proto=tcp,portForward0.address=127.0.0.1,"
    "portForward0.range0.start=8000,portForward0.range0.end=8010,portForward0.range0.to=80,"
    "portForward0.range1.start=8003,portForward0.range1.end=8004,portForward0.range1.exclude=yes,"
    "portForward0.range2.start=8006,portForward0.range2.exclude=yes,"
    "portForward0.range3.start=9000,portForward0.range3.to=7,"
    "portForward1.proto=udp,portForward1.address=::1,"
    "portForward1.range0.start=9000,portForward1.range0.end=9001,portForward1.range0.to=7,"
    "portForward2.proto=tcp,portForward2.dev=lo,"
    "portForward2.range0.start=8100,portForward2.range0.to=80",
    "passt,model=virtio,link.state=down,portForward0=8300:80,portForward1=8301:81/udp",
]


def forward(spec, address, host, guest, protocol="tcp", state="active", **more):
    """The dictionary of a forward; host and guest are (first, last)."""
    return {"spec": spec, "protocol": protocol, "address": address,
            "host-port": host[0], "host-port-end": host[1],
            "guest-port": guest[0], "guest-port-end": guest[1],
            "persistent": True, "state": state} | more


COMPLEX = [
    forward("127.0.0.1:8000-8010:80-90/tcp", "127.0.0.1", (8000, 8010), (80, 90),
            exclude=[(8003, 8004), (8006, 8006)]),
    forward("127.0.0.1:9000:7/tcp", "127.0.0.1", (9000, 9000), (7, 7)),
    forward("[::1]:9000-9001:7-8/udp", "::1", (9000, 9001), (7, 8), "udp"),
    forward("*:8100:80/tcp", "*", (8100, 8100), (80, 80), interface="lo"),
    forward("*:8300:80/tcp", "*", (8300, 8300), (80, 80)),
    forward("*:8301:81/udp", "*", (8301, 8301), (81, 81), "udp"),
]


def without_rule(domain, host_port):
    """The domain without the <portForward> that begins with this host port."""
    domain = copy.deepcopy(domain)
    for nic in domain.findall("./devices/interface"):
        for rule in nic.findall("portForward"):
            if rule.find("range").get("start") == str(host_port):
                nic.remove(rule)
    return domain


class VirtInstall(lab.Story):
    def test_its_vm_appears(self):
        lab.run("virt-install", "--connect", "qemu:///session", "--name", "complex",
                "--memory", "256", "--vcpus", "1", "--osinfo", "detect=off,require=off",
                "--import", "--disk", "none", "--graphics", "none", "--noautoconsole",
                "--boot", f"kernel={lab.KERNEL},initrd={lab.INITRD},cmdline={lab.CMDLINE}",
                *(word for nic in COMPLEX_NICS for word in ("--network", nic)))
        self.assertEqual(self.states(), {"complex": "running"})
        properties = self.bus.get_all(self.path("complex"))
        self.assertEqual((properties["Name"], properties["VCPUs"], properties["Memory"]),
                         ("complex", 1, 256 << 20))
        self.assertEqual(properties["Network"], "native")
        type(self).before = lab.definition("complex")

    def test_its_rules_are_listed_as_they_are(self):
        self.assertEqual(self.forwards("complex"), COMPLEX)
        self.assertEqual(self.bus.get(self.path("complex"), "Forwards"), COMPLEX)

    def test_they_are_what_the_guest_answers_through(self):
        for port in 8000, 8010, 8100:
            lab.wait_answer(port)
        lab.connect_echo(9000).close()
        for port in 8003, 8004, 8006:
            self.assertTrue(lab.is_refused(port), port)

    def test_conflicts_with_them_are_seen(self):
        self.create(name="other", start=False)
        for spec in "8005:80", "*:8100:80", "8300:80", "[::1]:9001:80/udp", "7990-8001:7990-8001":
            self.assertFails("PortInUse", self.add, "other", spec, says="'complex'")
        self.add("other", "8006:80")  # excluded there
        self.delete("other")

    def test_a_forward_added_to_it_leaves_them_as_they_were(self):
        self.assertEqual(self.add("complex", "8400:80")["state"], "pending")
        self.assertEqual(self.forwards("complex"), self.with_added("pending"))
        after = lab.definition("complex")
        self.assertEqual(lab.canonical(without_rule(after, 8400)), lab.canonical(self.before))

    def with_added(self, state):
        """It is on the first NIC, so it comes before those of the second."""
        added = forward("127.0.0.1:8400:80/tcp", "127.0.0.1", (8400, 8400), (80, 80), state=state)
        return COMPLEX[:4] + [added] + COMPLEX[4:]

    def test_so_does_a_disruptive_one(self):
        """The re-plug makes the one that is pending active, too."""
        self.assertEqual(self.add("complex", "8401:80", disruptive=True)["state"], "active")
        self.remove("complex", "8401", disruptive=True)
        self.assertEqual(self.forwards("complex"), self.with_added("active"))
        self.assertTrue(lab.is_refused(8401))
        lab.wait_answer(8400)
        lab.wait_answer(8100)

    def test_and_the_removal_of_it(self):
        self.remove("complex", "8400", disruptive=True)
        self.assertEqual(self.forwards("complex"), COMPLEX)
        self.assertEqual(lab.canonical(lab.definition("complex")), lab.canonical(self.before))

    def test_one_of_several_ranges_can_be_removed(self):
        self.bus.manager("PowerOffVM", "(s)", "complex")
        self.remove("complex", "9000")
        after, expected = lab.definition("complex"), copy.deepcopy(self.before)
        rule = expected.find("./devices/interface/portForward")
        rule.remove(rule.findall("range")[3])
        self.assertEqual(lab.canonical(after), lab.canonical(expected))
        lab.virsh("undefine", "complex")


SLIRP = "<interface type='user'><model type='virtio'/></interface>"


class Networks(lab.Story):
    def define(self, name, nics, memory=256):
        domain = ElementTree.fromstring(f"""
            <domain type='qemu'>
              <name>{name}</name>
              <memory unit='MiB'>{memory}</memory>
              <os>
                <type machine='q35'>hvm</type>
                <kernel>{lab.KERNEL}</kernel>
                <initrd>{lab.INITRD}</initrd>
                <cmdline>{lab.CMDLINE}</cmdline>
              </os>
              <features><acpi/><apic/></features>
              <devices>{nics}<console type='pty'/></devices>
            </domain>""")
        lab.define(domain)
        self.bus.wait(lambda: name in self.states(), f"VM {name} to be listed")

    def test_all_ports(self):
        """A rule without ranges, as libvirt allows it."""
        self.define("all", "<interface type='user'><backend type='passt'/>"
                    "<portForward proto='tcp'/></interface>")
        self.assertEqual(self.forwards("all"), [forward(
            "*:1-65535:1-65535/tcp", "*", (1, 65535), (1, 65535), state="inactive")])
        lab.virsh("undefine", "all")

    def test_no_user_nic(self):
        self.define("alone", "")
        self.assertEqual(self.bus.get(self.path("alone"), "Network"), "none")
        self.assertFails("NoUserNetwork", self.add, "alone", "8080:80", says="'alone'")
        self.assertFails("NoUserNetwork", self.remove, "alone", "8080")
        self.assertEqual(self.forwards("alone"), [])
        lab.virsh("undefine", "alone")

    def test_a_nic_without_passt_is_turned_to_passt(self):
        self.define("slirp", SLIRP)
        lab.virsh("start", "slirp")
        self.wait_state("slirp", "running")
        mac = lab.definition("slirp").find("./devices/interface/mac").get("address")
        self.assertEqual(self.add("slirp", "8080:80")["state"], "pending")
        nic = lab.definition("slirp").find("./devices/interface")
        self.assertEqual(nic.get("type"), "user")
        self.assertEqual(nic.find("backend").get("type"), "passt")
        self.assertEqual(nic.find("mac").get("address"), mac)
        self.assertEqual(nic.find("portForward/range").attrib, {"start": "8080", "to": "80"})
        self.assertFalse(lab.processes("passt"), "the live NIC changed too")

    def test_at_once_if_it_may_be_disruptive(self):
        # the guest can let go of its NIC when it has come so far as to name itself
        lab.wait_console("slirp", "guest: ")
        self.assertEqual(self.add("slirp", "8081:81", disruptive=True)["state"], "active")
        self.assertEqual(set(self.forward_states("slirp").values()), {"active"})
        lab.wait_answer(8081)
        lab.wait_answer(8080)
        lab.virsh("destroy", "slirp")
        lab.virsh("undefine", "slirp")


class Virsh(lab.Story):
    """Whatever virsh does shows at once, by signals."""

    define = Networks.define

    def changed(self, path, what, value):
        self.bus.wait_signal("PropertiesChanged", lambda signal: signal.path == path
                             and signal.arguments[1].get(what) == value)
        self.assertEqual(self.bus.get(path, what), value)

    def test_define(self):
        self.bus.take_signals()
        self.define("mine", SLIRP)
        appeared = self.bus.wait_signal("InterfacesAdded")
        path, interfaces = appeared.arguments
        self.assertEqual(path, self.path("mine"))
        self.assertEqual((interfaces[client.VM]["Name"], interfaces[client.VM]["State"]),
                         ("mine", "shutoff"))
        self.assertEqual(interfaces[client.VM]["UUID"], lab.virsh("domuuid", "mine").strip())

    def test_redefine(self):
        path = self.path("mine")
        domain = lab.definition("mine")
        domain.find("memory").text = domain.find("currentMemory").text = str(512 << 10)
        domain.find("vcpu").text = "3"
        lab.define(domain)
        self.bus.wait_signal("PropertiesChanged",
                             lambda s: s.path == path
                             and s.arguments[1] == {"Memory": 512 << 20, "VCPUs": 3})

    def test_rename(self):
        path = self.path("mine")
        lab.virsh("domrename", "mine", "yours")
        self.changed(path, "Name", "yours")
        self.assertEqual(self.path("yours"), path)
        self.assertFails("NoSuchVM", self.path, "mine")

    def test_what_libvirt_does_not_tell_of(self):
        path = self.path("yours")
        lab.virsh("setmaxmem", "yours", "768M", "--config")
        self.changed(path, "Memory", 768 << 20)
        lab.virsh("setvcpus", "yours", "2", "--config")
        self.changed(path, "VCPUs", 2)

    def test_start_suspend_resume_destroy(self):
        path = self.path("yours")
        for command, state in (("start", "running"), ("suspend", "paused"), ("resume", "running"),
                               ("destroy", "shutoff")):
            lab.virsh(command, "yours")
            self.changed(path, "State", state)

    def test_managedsave(self):
        path = self.path("yours")
        for command, state in (("start", "running"), ("managedsave", "saved"),
                               ("start", "running"), ("destroy", "shutoff")):
            lab.virsh(command, "yours")
            self.changed(path, "State", state)

    def test_forwards_edited_with_virsh(self):
        path = self.path("yours")
        domain = lab.definition("yours")
        nic = domain.find("./devices/interface")
        nic.append(ElementTree.fromstring("<backend type='passt'/>"))
        nic.append(ElementTree.fromstring(
            "<portForward proto='tcp' address='127.0.0.1'><range start='8080' to='80'/>"
            "</portForward>"))
        lab.define(domain)
        self.bus.wait_signal("PropertiesChanged", lambda s: s.path == path
                             and "Forwards" in s.arguments[1])
        self.assertEqual(self.forward_states("yours"), {"127.0.0.1:8080:80/tcp": "inactive"})

    def test_undefine(self):
        path = self.path("yours")
        lab.virsh("undefine", "yours")
        self.bus.wait_signal("InterfacesRemoved", lambda s: s.arguments[0] == path)
        self.assertFails("NoSuchVM", self.path, "yours")
        self.assertEqual(self.states(), {})

    def test_transient(self):
        self.define("passing", "<interface type='user'><backend type='passt'/>"
                    "<portForward proto='tcp' address='127.0.0.1'>"
                    "<range start='8080' to='80'/></portForward></interface>")
        lab.virsh("start", "passing")
        lab.virsh("undefine", "passing")  # it runs on, with nothing stored
        self.bus.wait(lambda: [f for f in self.forwards("passing") if not f["persistent"]],
                      "the forward not to be persistent")
        self.assertEqual(self.states(), {"passing": "running"})
        self.assertEqual(self.forward_states("passing"), {"127.0.0.1:8080:80/tcp": "active"})
        self.assertFails("NotSupported", self.add, "passing", "8081:81", says="'passing'")
        path = self.path("passing")
        lab.virsh("destroy", "passing")
        self.bus.wait_signal("InterfacesRemoved", lambda s: s.arguments[0] == path)
        self.assertEqual(self.states(), {})


if __name__ == "__main__":
    tap.main()
