# SPDX-License-Identifier: LGPL-2.1-or-later
"""org.uservm1.Manager and the objects it makes: creating, finding, listing and deleting VMs."""

import json
import os
import stat
import subprocess

import client
import daemon
import tap
from client import uint32
from daemon import USER_NIC, domain, uuid

MIB = 1 << 20
STANDARD_INTERFACES = {"org.freedesktop.DBus.Peer", "org.freedesktop.DBus.Introspectable",
                       "org.freedesktop.DBus.Properties"}


def has_passt(host):
    return tuple(map(int, host["LibvirtVersion"].split("."))) >= (9, 1)


class Manager(daemon.Case):
    domains = [domain("web", 1, devices=USER_NIC), domain("old", 2, running=True)]

    def setUp(self):
        super().setUp()
        self.kernel = f"{self.daemon.folder}/kernel"
        with open(self.kernel, "w", encoding="utf-8") as file:
            file.write("kernel")

    def delete(self, vm, **options):
        return self.bus.manager("DeleteVM", "(sa{sv})", vm, client.dictionary(options))

    def path_of(self, vm):
        return self.bus.manager("GetVM", "(s)", vm)

    # Finding

    def test_domains_that_others_made_are_listed(self):
        self.assertEqual(
            sorted((name, id, state) for name, id, state, path in self.bus.manager("ListVMs")),
            [("old", uuid(2), "running"), ("web", uuid(1), "shutoff")])

    def test_a_VM_is_found_by_name_and_by_UUID(self):
        for name, id, _, path in self.bus.manager("ListVMs"):
            self.assertEqual(self.path_of(name), path)
            self.assertEqual(self.path_of(id), path)
            self.assertEqual(self.bus.get(path, "Name"), name)
            self.assertEqual(self.bus.get(path, "UUID"), id)

    def test_methods_take_a_UUID_for_the_name(self):
        self.bus.manager("StartVM", "(s)", uuid(1))
        self.assertEqual(self.states()["web"], "running")
        self.bus.manager("PowerOffVM", "(s)", uuid(1))
        self.delete(uuid(1))
        self.assertNotIn("web", self.states())

    def test_properties_tell_what_the_domain_has(self):
        web = self.bus.get_all(self.path_of("web"))
        self.assertEqual(web, {
            "Name": "web", "UUID": uuid(1), "State": "shutoff", "VCPUs": 3, "Memory": 1024 * MIB,
            "LiveVCPUs": 0, "LiveMemory": 0, "Ready": False, "GuestHostname": "", "GuestOS": "",
            "GuestAddresses": [], "Network": "native", "NetworkError": "",
            "LastError": ("", "", 0), "Forwards": [], "Autostart": False})
        self.assertEqual(self.bus.get(self.path_of("old"), "Network"), "none")

    def test_properties_of_the_host_are_known_from_the_start(self):
        host = self.bus.get_all(client.ROOT, client.MANAGER)
        self.assertRegex(host["Version"], r"^[0-9]+\.[0-9]+")
        self.assertRegex(host["LibvirtVersion"], r"^[0-9]+\.[0-9]+\.[0-9]+$")
        self.assertEqual(host["PasstVersion"], "0.0~test")
        self.assertEqual(set(host["Features"]), {"passt"} if has_passt(host) else set())

    # Creating

    def test_create_with_defaults(self):
        path = self.bus.create(name="new", kernel=self.kernel)
        vm = self.bus.get_all(path)
        self.assertEqual(vm.pop("UUID"), {name: id for name, id, _, _
                                          in self.bus.manager("ListVMs")}["new"])
        self.assertEqual(vm, {
            "Name": "new", "State": "running", "VCPUs": 2, "Memory": 2048 * MIB, "LiveVCPUs": 2,
            "LiveMemory": 2048 * MIB, "Ready": False, "GuestHostname": "", "GuestOS": "",
            "GuestAddresses": [], "Network": "native", "NetworkError": "",
            "LastError": ("", "", 0), "Forwards": [], "Autostart": False})
        self.assertEqual(path, self.path_of("new"))

    def test_create_with_a_disk_and_a_cdrom(self):
        path = self.bus.create(name="new", memory="512M", vcpus=uint32(4), disk_size="100M",
                               cdrom=self.kernel, accelerator="tcg", firmware="uefi", start=False,
                               autostart=False)
        vm = self.bus.get_all(path)
        self.assertEqual((vm["State"], vm["VCPUs"], vm["Memory"]), ("shutoff", 4, 512 * MIB))
        self.bus.vm(path, "Start")
        self.assertEqual(self.bus.get(path, "State"), "running")

    def test_create_with_a_kernel(self):
        path = self.bus.create(name="new", kernel=self.kernel, initrd=self.kernel, start=True,
                               cmdline="console=ttyS0 <&>'\"", accelerator="auto", firmware="bios")
        self.assertEqual(self.bus.get(path, "State"), "running")

    def test_sizes_are_numbers_or_text(self):
        for i, memory in enumerate((64 * MIB, "64M", "67108864", "65536K", "64MiB", "64m")):
            path = self.bus.create(name=f"new{i}", kernel=self.kernel, memory=memory, start=False)
            self.assertEqual(self.bus.get(path, "Memory"), 64 * MIB, memory)

    def test_a_new_disk_is_where_libvirt_keeps_images(self):
        self.bus.create(name="new", disk_size="100M")
        disk = f"{self.daemon.images}/new.qcow2"
        self.assertEqual(self.files(), [disk])
        self.assertEqual(stat.S_IMODE(os.stat(disk).st_mode), 0o600)
        info = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", disk]))
        self.assertEqual((info["format"], info["virtual-size"]), ("qcow2", 100 * MIB))

    def test_an_existing_disk_is_used_where_it_is_and_never_deleted(self):
        disk = f"{self.daemon.folder}/disk.raw"
        with open(disk, "wb") as file:
            file.truncate(MIB)
        self.bus.create(name="new", disk=disk)
        self.delete("new", force=True)
        self.assertTrue(os.path.exists(disk))

    def test_a_file_where_the_new_disk_would_be_is_left_alone(self):
        os.makedirs(self.daemon.images)
        disk = f"{self.daemon.images}/new.qcow2"
        with open(disk, "w", encoding="utf-8") as file:
            file.write("mine")
        self.assertFails("ImageUnusable", self.bus.create, name="new", disk_size="1G", says=disk)
        with open(disk, encoding="utf-8") as file:
            self.assertEqual(file.read(), "mine")
        self.assertNotIn("new", self.states())

    def test_a_name_that_is_taken_is_refused_and_can_be_used_again_later(self):
        self.assertFails("VMExists", self.bus.create, name="web", kernel=self.kernel, says="'web'")
        self.delete("web")
        self.bus.create(name="web", kernel=self.kernel)

    def test_accelerator_kvm_without_kvm(self):
        self.assertFails("NotSupported", self.bus.create, name="new", kernel=self.kernel,
                         accelerator="kvm", says="KVM")

    def test_a_new_VM_appears_complete_and_before_the_reply(self):
        path = self.bus.create(name="new", kernel=self.kernel)
        added, = self.bus.take_signals()
        self.assertEqual((added.path, added.interface, added.member),
                         (client.ROOT, client.OBJECT_MANAGER, "InterfacesAdded"))
        self.assertEqual(added.arguments[0], path)
        self.assertEqual(set(added.arguments[1]), STANDARD_INTERFACES | {client.VM})
        self.assertEqual(added.arguments[1][client.VM], self.bus.get_all(path))

    def test_a_creation_that_fails_late_leaves_nothing(self):
        before = self.bus.manager("ListVMs"), self.bus.managed_objects()
        # There is no systemd here, which is found out when domain and disk have been made.
        self.assertFails("NotSupported", self.bus.create, name="new", disk_size="1G",
                         autostart=True, says="systemd")
        self.assertEqual(self.files(), [])
        self.assertEqual((self.bus.manager("ListVMs"), self.bus.managed_objects()), before)
        self.assertEqual(self.bus.take_signals(), [])
        self.bus.create(name="new", disk_size="1G")

    # Objects

    def test_managed_objects_are_the_VMs(self):
        self.bus.create(name="new", kernel=self.kernel)
        objects = self.bus.managed_objects()
        self.assertEqual(set(objects), {path for _, _, _, path in self.bus.manager("ListVMs")})
        for path, interfaces in objects.items():
            self.assertEqual(interfaces[client.VM], self.bus.get_all(path))

    # Deleting

    def test_delete_takes_the_VM_and_its_object_away(self):
        path = self.path_of("web")
        self.delete("web")
        signals = self.bus.take_signals()
        removed = signals.pop()
        self.assertEqual(removed.member, "InterfacesRemoved")
        self.assertEqual(removed.arguments[0], path)
        self.assertEqual(set(removed.arguments[1]), STANDARD_INTERFACES | {client.VM})
        self.assertEqual(client.changes(signals, path), [{"State": "stopping"}])

        self.assertNotIn("web", self.states())
        self.assertNotIn(path, self.bus.managed_objects())
        self.assertFails("NoSuchVM", self.bus.manager, "GetVM", "(s)", "web", says="'web'")
        self.assertFails("org.freedesktop.DBus.Error.UnknownObject", self.bus.vm, path, "Start")

    def test_delete_removes_the_disk_that_uservm_made(self):
        self.bus.create(name="new", disk_size="1G", start=False)
        self.delete("new")
        self.assertEqual(self.files(), [])

    def test_delete_keeps_the_disk_if_told_to(self):
        self.bus.create(name="new", disk_size="1G", start=False)
        self.delete("new", storage=False)
        self.assertEqual(self.files(), [f"{self.daemon.images}/new.qcow2"])

    def test_delete_of_a_running_VM_needs_force(self):
        self.assertFails("Busy", self.delete, "old", says=("'old'", "force"))
        self.assertEqual(self.states()["old"], "running")
        self.delete("old", force=True)
        self.assertNotIn("old", self.states())

    def test_delete_of_a_saved_VM(self):
        path = self.path_of("old")
        self.bus.vm(path, "Save")
        self.bus.vm(path, "Delete", "(a{sv})", {})
        self.assertNotIn("old", self.states())


class WithoutPasst(daemon.Case):
    programs = {"passt": daemon.NO_PASST}

    def test_it_is_said_that_there_is_no_passt(self):
        self.assertEqual(self.bus.get(client.ROOT, "PasstVersion", client.MANAGER), "")
        self.assertEqual(self.features(), [])

    def test_VMs_can_be_created_all_the_same(self):
        path = self.bus.create(name="new", disk_size="1M")
        self.assertEqual(self.bus.get(path, "Network"), "native")

    def test_forwards_are_not_supported(self):
        path = self.bus.create(name="new", disk_size="1M")
        self.assertFails("NotSupported", self.bus.vm, path, "AddPortForward", "(sa{sv})",
                         "18080:80", {}, says="passt")
        self.assertFails("NotSupported", self.bus.create, name="other", disk_size="1M",
                         forwards=["18080:80"], says="passt")
        self.assertEqual(self.states(), {"new": "running", "test": "running"})
        self.assertEqual(self.files(), [f"{self.daemon.images}/new.qcow2"])


if __name__ == "__main__":
    tap.main()
