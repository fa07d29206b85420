# SPDX-License-Identifier: LGPL-2.1-or-later
"""The main job, and what an ordinary VM goes through from its creation to its end. The first
classes use busctl alone, as the README does; the others go on with the VM that they leave running.
"""

import os
import socket
import time

import lab  # first: it says where the others are
import client
import tap
from lab import call, stories_in_order as load_tests

IMAGES = os.path.expanduser("~/.local/share/libvirt/images")
REPLUG_TIMEOUT_SEC = 10  # "within seconds"


def listed(spec):
    """The forward of VM web that busctl lists with this spec."""
    found = [forward for forward in call("ListForwards", "s", "web") if forward["spec"] == spec]
    return found[0] if found else None


def stored_ranges():
    """The <range> elements that virsh shows of VM web's stored definition: start and to."""
    return [(item.get("start"), item.get("to", item.get("start")))
            for item in lab.definition("web").findall("./devices/interface/portForward/range")]


class BusctlAlone(lab.Story):
    def test_one_call_makes_and_starts_a_vm_with_a_forward(self):
        path = call("CreateVM", "a{sv}", "7", "name", "s", "web", "memory", "s", "256M",
                    "disk-size", "s", "64M", "kernel", "s", lab.KERNEL,
                    "initrd", "s", lab.INITRD, "cmdline", "s", lab.CMDLINE,
                    "forwards", "as", "4", "8080:80", "7007:7/udp", "[::1]:8080:80", "7007:7")
        uuid = lab.virsh("domuuid", "web").strip()
        self.assertEqual(call("ListVMs"), [["web", uuid, "running", path]])
        self.assertEqual(call("GetVM", "s", uuid), path)
        appeared = self.bus.wait_signal("InterfacesAdded", lambda s: s.arguments[0] == path)
        properties = appeared.arguments[1][client.VM]
        self.assertEqual((properties["Name"], properties["UUID"], properties["State"]),
                         ("web", uuid, "running"))
        self.assertEqual((properties["VCPUs"], properties["Memory"], properties["Autostart"]),
                         (1, 256 << 20, False))

    def test_list_forwards_shows_it_active(self):
        self.assertEqual(listed("127.0.0.1:8080:80/tcp"), {
            "spec": "127.0.0.1:8080:80/tcp", "protocol": "tcp", "address": "127.0.0.1",
            "host-port": 8080, "host-port-end": 8080, "guest-port": 80, "guest-port-end": 80,
            "persistent": True, "state": "active"})
        self.assertEqual({forward["spec"]: forward["state"]
                          for forward in call("ListForwards", "s", "")},
                         {"127.0.0.1:8080:80/tcp": "active", "127.0.0.1:7007:7/udp": "active",
                          "[::1]:8080:80/tcp": "active", "127.0.0.1:7007:7/tcp": "active"})

    def test_virsh_shows_the_same_rules(self):
        self.assertEqual(stored_ranges(),
                         [("8080", "80"), ("7007", "7"), ("8080", "80"), ("7007", "7")])

    def test_curl_gets_the_guests_page_through_it(self):
        lab.wait_answer(8080)
        self.assertIn("hello from ", lab.run("curl", "--silent", "--fail", lab.url(8080)))


class BusctlAloneOnANativeNetwork(lab.Story):
    """Started by virsh, the VM has libvirt's own passt, whose forwards cannot change."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        call("PowerOffVM", "s", "web")
        lab.virsh("start", "web")
        lab.wait_answer(8080)

    def test_virsh_started_it(self):
        path = call("GetVM", "s", "web")
        self.assertEqual(lab.busctl("get-property", client.NAME, path, client.VM, "Network"),
                         "native")
        self.assertEqual({forward["state"] for forward in call("ListForwards", "s", "web")},
                         {"active"})

    def test_a_forward_added_while_it_runs_is_pending(self):
        added = call("AddPortForward", "ssa{sv}", "web", "8081:81", "0")
        self.assertEqual(added["state"], "pending")
        self.assertEqual(listed("127.0.0.1:8081:81/tcp")["state"], "pending")
        self.assertTrue(lab.is_refused(8081))
        self.assertIn(("8081", "81"), stored_ranges())
        self.assertTrue(lab.fetch(8080), "the other forward no longer answers")

    def test_with_disruptive_it_answers_within_seconds(self):
        begin = time.monotonic()
        added = call("AddPortForward", "ssa{sv}", "web", "8082:82", "1", "disruptive", "b", "true")
        self.assertEqual(added["state"], "active")
        lab.wait_answer(8082, timeout_sec=REPLUG_TIMEOUT_SEC)
        lab.comment(f"answered {time.monotonic() - begin:.1f} s after the call")
        self.assertIn(("8082", "82"), stored_ranges())

    def test_the_pending_one_has_come_along(self):
        self.assertEqual(listed("127.0.0.1:8081:81/tcp")["state"], "active")
        lab.wait_answer(8081)


class Forwards(lab.Story):
    """Of the same VM."""

    def test_ipv6_and_udp(self):
        lab.wait_answer(8080, "::1")
        lab.until(lambda: lab.echoes_datagram(7007, lab.ATTEMPT_TIMEOUT_SEC), "an echo over UDP")

    def test_a_removed_one_listens_until_the_next_start(self):
        self.remove("web", "8081")
        forward = [f for f in self.forwards("web") if f["host-port"] == 8081][0]
        self.assertEqual((forward["state"], forward["persistent"]), ("removing", False))
        self.assertTrue(lab.fetch(8081))
        self.assertNotIn(("8081", "81"), stored_ranges())

    def test_with_disruptive_it_is_gone_at_once(self):
        path = self.path("web")
        self.bus.take_signals()
        self.remove("web", "127.0.0.1:8082:82/tcp", disruptive=True)
        changes = client.changes(self.bus.take_signals(), path)
        self.assertTrue(changes, "no PropertiesChanged")
        self.assertFalse([f for f in changes[-1]["Forwards"] if f["host-port"] in (8081, 8082)],
                         changes)
        self.assertTrue(lab.is_refused(8082))
        self.assertTrue(lab.is_refused(8081))
        self.assertEqual(set(self.forward_states("web").values()), {"active"})
        lab.wait_answer(8080, timeout_sec=REPLUG_TIMEOUT_SEC)

    def test_host_port_0_picks_a_free_one(self):
        added = self.add("web", "0:80", disruptive=True)
        self.assertGreaterEqual(added["host-port"], 1024)
        self.assertEqual(added["state"], "active")
        lab.wait_answer(added["host-port"], timeout_sec=REPLUG_TIMEOUT_SEC)
        self.remove("web", added["spec"])

    def test_another_vm_has_the_port(self):
        self.create(name="other", start=False, forwards=["8090:80"])
        self.assertFails("PortInUse", self.add, "web", "8090:80", says=["8090", "'other'"])
        self.assertFails("PortInUse", self.add, "other", "*:8080", says=["8080", "'web'"])
        with self.assertRaises(client.Error) as caught:
            self.create(name="third", forwards=["8090:80"])
        self.assertIn("'other'", caught.exception.message)
        self.assertNotIn("third", self.states())

    def test_a_process_has_the_port(self):
        who = [f"process {os.getpid()}", "python3"]
        with socket.create_server(("127.0.0.1", 8095)):
            self.assertFails("PortInUse", self.add, "web", "8095:80", says=who + ["8095"])
            self.assertFails("PortInUse", self.add, "web", "8094-8096:80-82", says=who + ["8095"])
            self.assertFails("PortInUse", self.create_named, "third", "8095:80", says=who)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 8096))
            self.assertFails("PortInUse", self.add, "web", "8096:80/udp", says=who)
        self.assertNotIn("third", self.states())

    def create_named(self, name, *forwards):
        return self.create(name=name, forwards=list(forwards))

    def test_a_vm_whose_port_a_process_has_does_not_start(self):
        with socket.create_server(("127.0.0.1", 8090)):
            self.assertFails("PortInUse", self.bus.manager, "StartVM", "(s)", "other",
                             says=["8090", f"process {os.getpid()}"])
        self.assertEqual(self.state("other"), "shutoff")

    def test_privileged_ports(self):
        self.assertFails("PortPrivileged", self.add, "web", "80:80",
                         says=["1024", "net.ipv4.ip_unprivileged_port_start"])
        self.assertFails("PortPrivileged", self.create_named, "third", "1023-1025:23-25",
                         says="1024")

    def test_a_forward_that_is_there_already(self):
        self.assertFails("ForwardExists", self.add, "web", "8080:81", says="127.0.0.1:8080:80/tcp")
        self.assertFails("NoSuchForward", self.remove, "web", "8081", says="8081")

    def test_what_was_refused_has_left_nothing(self):
        self.assertEqual(self.forward_states("web").keys(),
                         {"127.0.0.1:8080:80/tcp", "127.0.0.1:7007:7/udp", "[::1]:8080:80/tcp",
                          "127.0.0.1:7007:7/tcp"} | self.picked())
        self.assertEqual(len(stored_ranges()), 4)
        self.delete("other")

    def picked(self):
        """What is left of the forward with the port that was picked."""
        return {spec for spec, state in self.forward_states("web").items() if state == "removing"}


class Lifecycle(lab.Story):
    """Of the same VM, started by uservm from its third test on."""

    def test_pause_and_resume(self):
        path = self.path("web")
        self.bus.take_signals()
        self.bus.vm(path, "Pause")
        self.assertEqual(self.state("web"), "paused")
        self.assertEqual(lab.virsh("domstate", "web").strip(), "paused")
        self.assertFalse(lab.answers(8080), "the guest answers while it is paused")
        self.bus.vm(path, "Resume")
        self.assertEqual(self.state("web"), "running")
        lab.wait_answer(8080)
        self.assertEqual(self.seen_states(path), ["paused", "running"])

    def seen_states(self, path):
        return [change["State"] for change in client.changes(self.bus.take_signals(), path)
                if "State" in change]

    def test_save_and_start_resumes(self):
        path = self.path("web")
        self.bus.take_signals()
        self.bus.vm(path, "Save")
        self.assertEqual(self.state("web"), "saved")
        self.assertTrue(lab.is_refused(8080))
        self.assertEqual(set(self.forward_states("web").values()), {"inactive"})
        self.bus.manager("StartVM", "(s)", "web")
        self.assertEqual(self.seen_states(path), ["stopping", "saved", "starting", "running"])
        self.assertIn("restored", lab.virsh("domstate", "--reason", "web"))
        lab.wait_answer(8080)

    def check_goes_and_comes_back(self, how):
        path = self.path("web")
        process = lab.processes("qemu")
        self.bus.take_signals()
        how(path)
        lab.wait_no_answer(8080)
        lab.wait_answer(8080)
        self.assertEqual(lab.processes("qemu"), process)
        self.assertEqual(self.state("web"), "running")
        self.assertNotIn("shutoff", self.seen_states(path))

    def test_reboot(self):
        self.check_goes_and_comes_back(lambda path: self.bus.manager("RebootVM", "(s)", "web"))

    def test_reset(self):
        self.check_goes_and_comes_back(lambda path: self.bus.vm(path, "Reset"))

    def test_shutdown(self):
        path = self.path("web")
        self.add("web", "8083:83")
        self.bus.take_signals()
        self.bus.manager("ShutdownVM", "(s)", "web")
        self.wait_change(path, "State", "shutoff")
        self.assertIn("(shutdown)", lab.virsh("domstate", "--reason", "web"))
        self.assertEqual(set(self.forward_states("web").values()), {"inactive"})
        self.assertTrue(lab.is_refused(8080))
        self.assertFalse(lab.processes("passt"), "passt still runs")
        self.assertFails("NotRunning", self.bus.manager, "ShutdownVM", "(s)", "web")

    def test_the_next_start_makes_pending_forwards_active(self):
        path = self.path("web")
        self.bus.take_signals()
        self.bus.manager("StartVM", "(s)", "web")
        self.assertEqual(self.seen_states(path), ["starting", "running"])
        self.assertEqual(self.forward_states("web")["127.0.0.1:8083:83/tcp"], "active")
        self.assertEqual(set(self.forward_states("web").values()), {"active"})
        self.assertFails("AlreadyRunning", self.bus.manager, "StartVM", "(s)", "web")
        lab.wait_answer(8083)

    def test_power_off(self):
        self.bus.manager("PowerOffVM", "(s)", "web")
        self.assertEqual(self.state("web"), "shutoff")
        self.assertIn("(destroyed)", lab.virsh("domstate", "--reason", "web"))
        self.assertFails("NotRunning", self.bus.manager, "PowerOffVM", "(s)", "web")


class End(lab.Story):
    """What is deleted, and what is not."""

    def test_deleting_removes_the_disk_that_uservm_made(self):
        path = self.path("web")
        self.assertTrue(os.path.exists(f"{IMAGES}/web.qcow2"))
        self.delete("web")
        self.bus.wait_signal("InterfacesRemoved", lambda signal: signal.arguments[0] == path)
        self.assertFalse(os.path.exists(f"{IMAGES}/web.qcow2"))
        self.assertFails("NoSuchVM", self.path, "web")
        self.assertEqual(lab.virsh("list", "--all", "--name").strip(), "")

    def test_not_one_that_was_there_before(self):
        disk = os.path.expanduser("~/mine.qcow2")
        lab.run("qemu-img", "create", "-q", "-f", "qcow2", disk, "64M")
        self.create(name="mine", disk=disk, start=False)
        self.delete("mine")
        self.assertTrue(os.path.exists(disk))

    def test_storage_false_leaves_it(self):
        self.create(name="kept", disk_size="64M", start=False)
        self.delete("kept", storage=False)
        self.assertTrue(os.path.exists(f"{IMAGES}/kept.qcow2"))
        self.assertEqual(self.states(), {})
        self.assertFails("ImageUnusable", self.create_kept, says=f"{IMAGES}/kept.qcow2")
        self.assertEqual(lab.run("qemu-img", "info", f"{IMAGES}/kept.qcow2").count("64 MiB"), 1)

    def create_kept(self):
        return self.create(name="kept", disk_size="128M", start=False)

    def test_a_running_one_needs_force(self):
        self.create(name="last", disk_size="64M", forwards=["8080:80"])
        self.assertFails("Busy", self.delete, "last")
        self.assertEqual(self.state("last"), "running")
        self.delete("last", force=True)
        self.assertFalse(os.path.exists(f"{IMAGES}/last.qcow2"))
        self.assertEqual(lab.virsh("list", "--all", "--name").strip(), "")
        self.assertTrue(lab.is_refused(8080))
        self.assertFalse(lab.processes("qemu") + lab.processes("passt"))


if __name__ == "__main__":
    tap.main()
