# SPDX-License-Identifier: LGPL-2.1-or-later
"""Forwards of a running VM with managed networking: what is added answers at once, what is removed
is refused at once, what is refused leaves nothing, and the stored definition is plain libvirt."""

import os
import socket
import xml.etree.ElementTree as ElementTree

import lab  # first: it says where the others are
import client
import managed
import tap
from lab import stories_in_order as load_tests

TABLE_SIZE = 255  # rules of one passt


def devices(domain):
    """What and where, NICs apart."""
    return [(device.tag, device.get("type"), lab.canonical(device.find("address"))
             if device.find("address") is not None else None)
            for device in domain.find("devices") if device.tag != "interface"]


class Forwards(managed.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bus.create(**lab.guest(name="web", start=False,
                                   forwards=["8080:80", "[::1]:8080:80", "7007:7"]))
        cls.defined = lab.virsh("dumpxml", "--inactive", "web")
        cls.bus.manager("StartVM", "(s)", "web")
        cls.connection = lab.connect_echo(7007)
        cls.addClassCleanup(cls.connection.close)
        lab.wait_answer(8080, "::1")  # a guest's IPv6 takes some seconds more

    def setUp(self):
        super().setUp()
        self.stored = lab.virsh("dumpxml", "--inactive", "web")

    def tearDown(self):
        self.assertTrue(lab.echoes(self.connection), "the established connection")

    # The two definitions

    def test_it_is_managed(self):
        self.assertEqual(self.network("web"), "managed")
        self.assertEqual(self.network_error("web"), "")
        self.assertEqual(self.bus.get(client.ROOT, "NativeReason", client.MANAGER), "")
        features = self.bus.get(client.ROOT, "Features", client.MANAGER)
        self.assertLessEqual({"passt", "vhost-user", "live-forwards"}, set(features))
        self.assertAgree("web")

    def test_the_stored_definition_is_as_it_was_before_the_start(self):
        self.assertEqual(self.stored, self.defined)

    def test_the_live_definition_has_the_same_devices(self):
        stored, live = lab.definition("web"), lab.definition("web", live=True)
        self.assertEqual(devices(live), devices(stored))
        self.assertEqual(live.find("./devices/interface").get("type"), "vhostuser")
        for tag in "mac", "model", "address":
            self.assertEqual(lab.canonical(live.find(f"./devices/interface/{tag}")),
                             lab.canonical(stored.find(f"./devices/interface/{tag}")))
        for tag in "uuid", "memory", "vcpu", "features", "cpu":
            self.assertEqual(lab.canonical(live.find(tag)), lab.canonical(stored.find(tag)))

    def test_the_guest_has_the_name_of_the_vm(self):
        self.assertEqual(lab.fetch(8080), "hello from web")

    def test_only_the_user_can_reach_passt(self):
        self.assertEqual(os.stat(managed.PASST_FILES).st_mode & 0o777, 0o700)
        self.assertEqual(len(managed.passt_files()), 3)
        for name in managed.passt_files():
            self.assertEqual(os.stat(f"{managed.PASST_FILES}/{name}").st_mode & 0o777, 0o600, name)

    # Add and remove

    def test_an_added_one_answers_at_once(self):
        path = self.path("web")
        self.bus.take_signals()
        added = self.add("web", "8081:81")
        self.assertEqual(lab.fetch(8081), "hello from web")
        self.assertEqual((added["spec"], added["state"], added["persistent"]),
                         ("127.0.0.1:8081:81/tcp", "active", True))
        self.assertEqual(client.changes(self.bus.take_signals(), path),
                         [{"Forwards": self.forwards("web")}])
        self.assertIn(added, self.forwards("web"))
        self.assertAgree("web")

    def test_a_removed_one_is_refused_at_once(self):
        path = self.path("web")
        self.bus.take_signals()
        self.remove("web", "8081")
        self.assertTrue(lab.is_refused(8081))
        self.assertEqual(client.changes(self.bus.take_signals(), path),
                         [{"Forwards": self.forwards("web")}])
        self.assertAgree("web")

    def test_connections_through_a_removed_one_go_on(self):
        self.add("web", "7008:7")
        with socket.create_connection(("127.0.0.1", 7008)) as connection:
            self.assertTrue(lab.echoes(connection))
            self.remove("web", "7008")
            self.assertTrue(lab.is_refused(7008))
            self.assertTrue(lab.echoes(connection))
            self.add("web", "7008:7")
            self.assertTrue(lab.echoes(connection))
            self.assertTrue(managed.is_echoed(7008))
        self.remove("web", "7008")

    def test_host_port_0_picks_a_free_one(self):
        added = self.add("web", "0:80")
        self.assertEqual(lab.fetch(added["host-port"]), "hello from web")
        self.assertAgree("web")
        self.remove("web", added["spec"])

    def test_udp(self):
        self.add("web", "7009:7/udp")
        self.assertTrue(lab.echoes_datagram(7009))
        self.assertAgree("web")
        self.remove("web", "7009/udp")
        self.assertAgree("web")
        self.assertFalse(lab.echoes_datagram(7009, lab.ATTEMPT_TIMEOUT_SEC))

    def test_ipv6(self):
        self.add("web", "[::1]:8082:82")
        self.assertEqual(lab.fetch(8082, "::1"), "hello from web")
        self.assertTrue(lab.is_refused(8082))
        self.assertAgree("web")
        self.remove("web", "[::1]:8082")
        self.assertTrue(lab.is_refused(8082, "::1"))

    def test_every_address(self):
        self.add("web", "*:8083:83")
        for address in "127.0.0.1", "127.0.0.2", "::1":
            self.assertEqual(lab.fetch(8083, address), "hello from web")
        self.assertAgree("web")
        self.remove("web", "*:8083")
        self.assertAgree("web")

    def test_the_same_port_on_two_addresses(self):
        self.add("web", "8084:84")
        self.add("web", "127.0.0.2:8084:85")
        for address in "127.0.0.1", "127.0.0.2":
            self.assertEqual(lab.fetch(8084, address), "hello from web")
        self.remove("web", "8084")
        self.assertTrue(lab.is_refused(8084))
        self.assertEqual(lab.fetch(8084, "127.0.0.2"), "hello from web")
        self.remove("web", "127.0.0.2:8084")

    def test_a_range(self):
        self.add("web", "8200-8210:80-90")
        for port in 8200, 8205, 8210:
            self.assertEqual(lab.fetch(port), "hello from web")
        self.assertAgree("web")
        self.assertFails("NoSuchForward", self.remove, "web", "8205")
        self.remove("web", "8200-8210")
        self.assertAgree("web")

    # For this run only

    def test_not_persistent(self):
        added = self.add("web", "8085:85", persistent=False)
        self.assertEqual((added["state"], added["persistent"]), ("active", False))
        self.assertEqual(lab.fetch(8085), "hello from web")
        self.assertEqual(lab.virsh("dumpxml", "--inactive", "web"), self.stored)
        self.assertAgree("web")

    def test_made_persistent_later(self):
        self.assertFails("ForwardExists", self.add, "web", "8085:86", says="127.0.0.1:8085:85/tcp")
        self.assertTrue(self.add("web", "8085:85")["persistent"])
        self.assertIn("127.0.0.1:8085:85/tcp", managed.stored_specs("web"))
        self.assertAgree("web")

    def test_removed_from_this_run_only(self):
        self.remove("web", "8085", persistent=False)
        self.assertTrue(lab.is_refused(8085))
        self.assertEqual(self.forward_states("web")["127.0.0.1:8085:85/tcp"], "pending")
        self.assertIn("127.0.0.1:8085:85/tcp", managed.stored_specs("web"))

    def test_and_made_live_again(self):
        self.assertEqual(self.add("web", "8085:85")["state"], "active")
        self.assertEqual(lab.fetch(8085), "hello from web")
        self.remove("web", "8085")
        self.assertAgree("web")

    def test_the_definition_is_what_it_was(self):
        self.assertEqual(self.stored, self.defined)

    # What is refused leaves nothing, and blocks nothing

    def check_refused(self, name, spec, says):
        self.assertFails(name, self.add, "web", spec, says=says)
        self.assertFails(name, self.add_for_this_run, spec, says=says)
        self.assertEqual(lab.virsh("dumpxml", "--inactive", "web"), self.stored)
        self.assertEqual(lab.fetch(self.add("web", "0:80")["host-port"]), "hello from web")
        self.remove("web", self.forwards("web")[-1]["spec"])

    def add_for_this_run(self, spec):
        return self.add("web", spec, persistent=False)

    def test_a_process_has_the_port(self):
        who = [f"process {os.getpid()}", "python3", "8095"]
        with socket.create_server(("127.0.0.1", 8095)):
            self.check_refused("PortInUse", "8095:80", who)
            self.check_refused("PortInUse", "*:8095:80", who)
        with socket.create_server(("::1", 8095), family=socket.AF_INET6):
            self.check_refused("PortInUse", "*:8095:80", who)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 8095))
            self.check_refused("PortInUse", "8095:80/udp", who)
        self.assertAgree("web")

    def test_of_a_range_all_or_nothing(self):
        with socket.create_server(("127.0.0.1", 8225)):
            self.check_refused("PortInUse", "8220-8230:80-90",
                               [f"process {os.getpid()}", "8225"])
            self.assertEqual({port for protocol, address, port in managed.listening()},
                             {7007, 8080, 8225})
        self.assertAgree("web")

    def test_another_vm_has_the_port(self):
        self.create(name="other", start=False, forwards=["8096:80"])
        self.check_refused("PortInUse", "8096:80", ["8096", "'other'"])
        self.check_refused("PortInUse", "8090-8099:80-89", "'other'")
        self.delete("other")
        self.assertAgree("web")

    def test_the_vm_itself_has_the_port(self):
        self.check_refused("ForwardExists", "8080:80", "127.0.0.1:8080:80/tcp")
        self.check_refused("ForwardExists", "*:8080:81", "127.0.0.1:8080:80/tcp")
        self.check_refused("ForwardExists", "8070-8090:70-90", "127.0.0.1:8080:80/tcp")
        self.assertAgree("web")

    def test_privileged_ports(self):
        says = ["1024", "net.ipv4.ip_unprivileged_port_start"]
        self.check_refused("PortPrivileged", "80:80", says)
        self.check_refused("PortPrivileged", "1020-1030:20-30", says)
        self.assertAgree("web")

    def test_an_address_that_the_host_does_not_have(self):
        self.check_refused("InvalidForward", "192.0.2.1:8095:80", "address")
        self.assertAgree("web")

    def test_a_full_table(self):
        free = TABLE_SIZE - len(self.forwards("web"))
        calls = [self.bus.send(client.ROOT, client.MANAGER, "AddPortForward", "(ssa{sv})", "web",
                               f"{20000 + i}:80", client.dictionary({"persistent": False}))
                 for i in range(free)]
        for call in calls:
            call.result()
        self.assertAgree("web")
        self.assertFails("NotSupported", self.add, "web", "8095:80", says="255")
        self.assertFails("NotSupported", self.add_for_this_run, "8095:80", says="255")
        self.assertEqual(lab.virsh("dumpxml", "--inactive", "web"), self.stored)
        self.remove("web", f"{20000 + free - 1}")
        self.add("web", "8095:80")
        self.assertEqual(lab.fetch(8095), "hello from web")
        self.assertAgree("web")


class Stop(managed.Story):
    """The same VM, with many forwards for that run only, and one that is stored."""

    def test_power_off_leaves_nothing(self):
        path = self.path("web")
        self.power_off("web")
        self.assertEqual(self.forward_states("web"),
                         dict.fromkeys(managed.stored_specs("web"), "inactive"))
        self.assertEqual(len(managed.stored_specs("web")), 4)
        self.assertNothingLeft()
        self.assertEqual(self.bus.get(path, "Network"), "managed")
        self.assertFails("NotRunning", self.add_for_this_run)

    def add_for_this_run(self):
        return self.add("web", "8090:80", persistent=False)

    def test_a_vm_whose_port_a_process_has_does_not_start(self):
        with socket.create_server(("127.0.0.1", 8095)):
            self.assertFails("PortInUse", self.start, "web",
                             says=[f"process {os.getpid()}", "python3", "8095"])
        self.assertEqual(self.state("web"), "shutoff")
        self.assertNothingLeft()

    def test_nor_if_it_is_a_port_of_udp(self):
        self.add("web", "7009:7/udp")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 7009))
            self.assertFails("PortInUse", self.start, "web", says=f"process {os.getpid()}")
        self.remove("web", "7009/udp")
        self.assertNothingLeft()

    def test_what_libvirt_cannot_start(self):
        """libvirt's own words, and nothing left."""
        disk = os.path.expanduser("~/gone.qcow2")
        lab.run("qemu-img", "create", "-q", "-f", "qcow2", disk, "64M")
        self.create(name="broken", disk=disk, start=False, forwards=["8091:80"])
        os.unlink(disk)
        self.assertFails("LibvirtFailed", self.start, "broken", says=["'broken'", disk])
        self.assertEqual(self.state("broken"), "shutoff")
        self.assertNothingLeft()
        self.delete("broken")

    def test_the_next_start_has_what_is_stored(self):
        self.start("web")
        self.assertAgree("web")
        self.assertEqual(set(self.forward_states("web")),
                         {f"{forward}/tcp" for forward in
                          ("127.0.0.1:8080:80", "[::1]:8080:80", "127.0.0.1:7007:7",
                           "127.0.0.1:8095:80")})

    def test_another_vm_with_one_of_its_ports_does_not_start(self):
        """Whose definition was made with virsh, which does not mind."""
        domain = lab.definition("web")
        domain.find("name").text = "twin"
        domain.remove(domain.find("uuid"))
        lab.define(domain)
        self.bus.wait(lambda: "twin" in self.states(), "the VM to be listed")
        self.assertFails("PortInUse", self.start, "twin", says="'web'")
        self.delete("twin")
        self.assertAgree("web")

    def test_deletion_leaves_nothing(self):
        self.delete("web", force=True)
        self.assertNothingLeft()


NIC = """<interface type='user'>
           <mac address='52:54:00:00:00:0{number}'/>
           <ip family='ipv4' address='10.{number}.0.2' prefix='24'/>
           <portForward proto='tcp' address='::1'><range start='808{number}' to='80'/></portForward>
           <backend type='passt'/>
           <model type='virtio'/>
           {more}
         </interface>"""
DOWN = "<boot order='1'/><link state='down'/><mtu size='1400'/>"


class Nics(managed.Story):
    """A VM with several, each of them with a passt of its own. Through IPv6, where a passt's
    gateway is a link-local address, so that the guest replies through the NIC it was asked by."""

    def test_each_nic_answers(self):
        domain = ElementTree.fromstring(f"""
            <domain type='qemu'>
              <name>several</name>
              <memory unit='MiB'>256</memory>
              <os>
                <type machine='q35'>hvm</type>
                <kernel>{lab.KERNEL}</kernel>
                <initrd>{lab.INITRD}</initrd>
                <cmdline>{lab.CMDLINE}</cmdline>
              </os>
              <features><acpi/><apic/></features>
              <devices>
                {NIC.format(number=1, more="")}
                {NIC.format(number=2, more="<boot order='2'/>")}
                {NIC.format(number=3, more=DOWN)}
                <console type='pty'/>
              </devices>
            </domain>""")
        lab.define(domain)
        self.bus.wait(lambda: "several" in self.states(), "the VM to be listed")
        type(self).stored = lab.virsh("dumpxml", "--inactive", "several")
        self.start("several")
        self.assertEqual(len(managed.passts()), 3)
        self.assertAgree("several")
        for port in 8081, 8082:
            self.assertEqual(lab.wait_answer(port, "::1"), "hello from several")
        self.assertEqual(lab.answers(8083, "::1"), "", "the NIC whose link is down")

    def test_each_is_as_it_is_stored(self):
        self.assertEqual(lab.virsh("dumpxml", "--inactive", "several"), self.stored)
        stored, live = (lab.definition("several", live=live).findall("./devices/interface")
                        for live in (False, True))
        self.assertEqual([nic.get("type") for nic in live], ["vhostuser"] * 3)
        self.assertEqual(len({nic.find("source").get("path") for nic in live}), 3)
        for tag in "mac", "model", "address", "boot", "link":
            self.assertEqual(*([nic.find(tag).attrib if nic.find(tag) is not None else None
                                for nic in nics] for nics in (live, stored)), tag)

    def test_forwards_of_each_change(self):
        added = self.add("several", "[::1]:8090:80")
        self.assertEqual(lab.fetch(8090, "::1"), "hello from several")
        self.remove("several", "[::1]:8082")
        self.assertTrue(lab.is_refused(8082, "::1"))
        self.assertEqual(lab.fetch(8081, "::1"), "hello from several")
        self.assertAgree("several")
        rules = [len(nic.findall("portForward"))
                 for nic in lab.definition("several").findall("./devices/interface")]
        self.assertEqual(rules, [2, 0, 1], added)

    def test_its_end_is_the_end_of_all(self):
        lab.virsh("destroy", "several")
        self.wait_state("several", "shutoff")
        self.assertNothingLeft()


if __name__ == "__main__":
    tap.main()
