# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls that are wrong, each in its own way, with the error that each must get. None may leave
anything behind: no domain, file, process or port.

Strings, keys included, may name what a World has: "{file}".
"""

import dataclasses
import os
import shutil
import socket
import tempfile

import client
from client import INVALID_ARGS, MANAGER, ROOT, VM, GLib

INVALID_FORWARD = "org.uservm1.Error.InvalidForward"
NO_SUCH_VM = "org.uservm1.Error.NoSuchVM"
NOT_FOUND = "org.uservm1.Error.ImageNotFound"
UNUSABLE = "org.uservm1.Error.ImageUnusable"
UNKNOWN_METHOD = "org.freedesktop.DBus.Error.UnknownMethod"


@dataclasses.dataclass
class Call:
    description: str
    member: str
    signature: str            # or the whole body, a GLib.Variant
    arguments: list
    error: str
    says: list                # words that its message must have
    cause: str = ""           # calls of one cause may have the same message
    passt: bool = False       # of a host without passt the error is another one
    path: str = ROOT
    interface: str = MANAGER


class World:
    """What the calls refer to: files, a port that this process holds, and a VM with user-mode
    network."""

    def __init__(self, vm):
        self.folder = tempfile.mkdtemp(prefix="uservm-malformed-")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.words = {
            "vm": vm,
            "folder": self.folder,
            "file": self.write("file", b"\1" * 512),
            "odd": self.write("odd", b"no image"),
            "empty": self.write("empty", b""),
            "secret": self.write("secret", b"\1" * 512, 0),
            "readonly": self.write("readonly", b"\1" * 512, 0o444),
            "image": self.write("image", b"\1" * 512, 0o400),
            "port": self.listener.getsockname()[1],
            "pid": os.getpid(),
            "long": "x" * 300,
            "key": "ssh-ed25519 "
                   "AAAAC3NzaC1lZDI1NTE5AAAAIJ9J5ZEsUPOjdjzVzwTSJkGDjyCMPuLV1zCmSfb1dHpC me",
            # cut anywhere, one of the two is cut in the midst of a character
            "even": "\u00e9" * 150,
            "uneven": "x" + "\u00e9" * 150,
            "max": 2 ** 64 - 1,
        }

    def write(self, name, content, mode=0o600):
        path = f"{self.folder}/{name}"
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, mode)
        return path

    def close(self):
        self.listener.close()
        shutil.rmtree(self.folder)

    def fill(self, value):
        if isinstance(value, str):
            return value.format(**self.words)
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, dict):
            return {self.fill(key): client.variant(self.fill(item)) for key, item in value.items()}
        return value

    def run(self, bus, call):
        """Makes the call; raises client.Error."""
        return bus.call(call.path, call.interface, call.member, call.signature,
                        *(self.fill(argument) for argument in call.arguments))


def create(description, error, *says, cause="", passt=False, **settings):
    """CreateVM with these settings, which without their mistake would do."""
    settings = {"name": "malformed", "kernel": "{file}", "start": False} | {
        key.replace("_", "-"): value for key, value in settings.items()}
    return Call(description, "CreateVM", "(a{sv})",
                [{key: value for key, value in settings.items() if value is not None}],
                error, list(says), cause, passt)


def boots(description, error, *says, **settings):
    """The same without a kernel."""
    return create(description, error, *says, **{"kernel": None} | settings)


def forward(description, spec, *says, error=INVALID_FORWARD, passt=False):
    return [
        Call(f"forward: {description}", "AddPortForward", "(ssa{sv})", ["{vm}", spec, {}], error,
             list(says), cause=description, passt=passt),
        create(f"CreateVM with a forward: {description}", error, *says, cause=description,
               passt=passt, forwards=[spec]),
    ]


def nobody(description, name):
    """Each method that names a VM, with a name that none has."""
    return [Call(f"{member}: {description}", member, signature, [name, *rest], NO_SUCH_VM, says,
                 cause=description)
            for member, signature, rest in (
                ("GetVM", "(s)", []), ("StartVM", "(s)", []), ("ShutdownVM", "(s)", []),
                ("PowerOffVM", "(s)", []), ("RebootVM", "(s)", []),
                ("DeleteVM", "(sa{sv})", [{}]), ("ListForwards", "(s)", []),
                ("AddPortForward", "(ssa{sv})", ["8080:80", {}]),
                ("RemovePortForward", "(ssa{sv})", ["8080:80", {}]))
            for says in [[name[:30]]]
            if name or member != "ListForwards"]


NAME_TWICE = GLib.Variant.parse(GLib.VariantType("(a{sv})"),
                                "([{'name', <'a'>}, {'name', <'b'>}],)", None, None)


SIZE_TWICE = GLib.Variant.parse(GLib.VariantType("aa{sv}"),
                                "[[{'disk-size', <'1G'>}, {'disk-size', <'2G'>}]]", None, None)


CALLS = [
    # The name
    create("no name", INVALID_ARGS, "name", name=None),
    create("an empty name", INVALID_ARGS, "name", "empty", name=""),
    create("a name with <", INVALID_ARGS, "name", "letters", name="a<b>",
           cause="characters of a name"),
    create("a name with /", INVALID_ARGS, "name", name="../a", cause="characters of a name"),
    create("a name with a newline", INVALID_ARGS, "name", name="a\nb",
           cause="characters of a name"),
    create("a name with a control character", INVALID_ARGS, "name", name="a\1",
           cause="characters of a name"),
    create("a name that is not ASCII", INVALID_ARGS, "name", name="caf\u00e9",
           cause="characters of a name"),
    create("a name like an option", INVALID_ARGS, "name", name="-a",
           cause="characters of a name"),
    create("a name with a space", INVALID_ARGS, "name", name="a b",
           cause="characters of a name"),
    create("a name of 300 bytes", INVALID_ARGS, "name", "300", name="{long}"),
    create("a name that is a UUID", INVALID_ARGS, "name", "UUID",
           name="0e3a9d70-7ec5-4d3a-8f7e-4b1c36a7c7f4"),
    create("a name that is a number", INVALID_ARGS, "name", "'t'", name=7),
    create("a name that is taken", "org.uservm1.Error.VMExists", "'{vm}'", name="{vm}"),

    # Keys and types
    create("an unknown key", INVALID_ARGS, "'colour'", colour="red"),
    create("an unknown key in upper case", INVALID_ARGS, "'Memory'", Memory="1G"),
    create("an empty key", INVALID_ARGS, "''", **{"": "red"}),
    create("a key of 300 bytes", INVALID_ARGS, "xxxx", **{"{long}": "red"}),
    create("a key of 300 bytes, not ASCII", INVALID_ARGS, "\u00e9", **{"{even}": "red"}),
    create("a key of 301 bytes, not ASCII", INVALID_ARGS, "\u00e9", **{"{uneven}": "red"}),
    Call("a key that is given twice", "CreateVM", NAME_TWICE, [], INVALID_ARGS, ["name", "twice"]),
    Call("settings of the wrong D-Bus type", "CreateVM", "(s)", ["malformed"], INVALID_ARGS, ["s"]),
    Call("no settings at all", "CreateVM", "", [], INVALID_ARGS, ["a{{sv}}"]),
    create("start that is text", INVALID_ARGS, "start", "'s'", start="yes"),
    create("autostart that is a number", INVALID_ARGS, "autostart", "'t'", autostart=1),
    create("a kernel that is true", INVALID_ARGS, "kernel", "'b'", kernel=True),

    # Memory and CPUs
    create("memory of 0", INVALID_ARGS, "memory", "0", memory=0),
    create("memory of 1 KiB", INVALID_ARGS, "memory", "1024", memory="1K"),
    create("memory 2X", INVALID_ARGS, "memory", memory="2X", cause="no size"),
    create("memory 2 GB", INVALID_ARGS, "memory", memory="2 GB", cause="no size"),
    create("memory that is empty", INVALID_ARGS, "memory", memory="", cause="no size"),
    create("negative memory", INVALID_ARGS, "memory", memory="-1", cause="no size"),
    create("memory beyond 64 bits", INVALID_ARGS, "memory", memory="99999999T", cause="no size"),
    create("more memory than there is", INVALID_ARGS, "memory", "host", memory="100T"),
    create("all memory that can be written", INVALID_ARGS, "memory", "host", memory=2 ** 64 - 1),
    create("memory that is an int32", INVALID_ARGS, "memory", "'i'", memory=GLib.Variant("i", -1)),
    create("memory that is a double", INVALID_ARGS, "memory", "'d'",
           memory=GLib.Variant("d", 1e9)),
    create("no CPU", INVALID_ARGS, "vcpus", " 0", vcpus=client.uint32(0)),
    create("256 CPUs", INVALID_ARGS, "vcpus", "256", vcpus=client.uint32(256)),
    create("CPUs as text", INVALID_ARGS, "vcpus", "'s'", vcpus="2"),
    create("CPUs that are an int32", INVALID_ARGS, "vcpus", "'i'", vcpus=GLib.Variant("i", 2)),

    # Disks
    boots("a disk that is missing", NOT_FOUND, "{folder}/none", disk="{folder}/none"),
    boots("a disk below a file", NOT_FOUND, "{file}/none", disk="{file}/none"),
    boots("a disk by a relative path", INVALID_ARGS, "disk", "'disk.qcow2'", disk="disk.qcow2"),
    boots("a disk that is a folder", UNUSABLE, "disk", "{folder}", disk="{folder}"),
    boots("a disk that is a device", UNUSABLE, "/dev/null", disk="/dev/null"),
    boots("a disk that is no image", UNUSABLE, "{odd}", disk="{odd}"),
    boots("a disk that is an empty file", UNUSABLE, "{empty}", disk="{empty}"),
    boots("a disk that cannot be read", UNUSABLE, "{secret}", "permission", disk="{secret}"),
    boots("a disk that cannot be written", UNUSABLE, "{readonly}", "permission", "write",
          disk="{readonly}"),
    boots("a disk with an empty path", INVALID_ARGS, "disk", "empty", disk=""),
    boots("a disk with a control character", INVALID_ARGS, "disk", disk="/a\nb"),
    boots("a disk and a disk-size", INVALID_ARGS, "disk-size", disk="{file}", disk_size="1G"),
    boots("a disk-size of 0", INVALID_ARGS, "disk-size", "0", disk_size=0),
    boots("a disk-size that is no size", INVALID_ARGS, "disk-size", disk_size="big"),
    boots("a disk-size that no file can have", UNUSABLE, "{max}", disk_size=2 ** 64 - 1),
    boots("a disk-size of 1000000 TiB", UNUSABLE, disk_size="1000000T"),

    boots("an image that is missing", NOT_FOUND, "{folder}/no-image", image="{folder}/no-image"),
    boots("an image by a relative path", INVALID_ARGS, "'debian.qcow2'", image="debian.qcow2"),
    boots("an image that is a folder", UNUSABLE, "{folder}", image="{folder}",
          cause="a disk that is a folder"),
    boots("an image that is a text file", UNUSABLE, "{odd}", image="{odd}",
          cause="a disk that is no image"),
    boots("an image that is an empty file", UNUSABLE, "{empty}", image="{empty}",
          cause="a disk that is an empty file"),
    boots("an image that cannot be read", UNUSABLE, "{secret}", image="{secret}",
          cause="a disk that cannot be read"),
    boots("an image and a disk", INVALID_ARGS, "image", "'disk'", image="{image}", disk="{file}"),
    boots("a copy of nothing", INVALID_ARGS, "copy", copy=True),
    boots("a copy of a new disk", INVALID_ARGS, "copy", copy=True, disk_size="1G",
          cause="a copy of nothing"),
    boots("a copy that is text", INVALID_ARGS, "copy", "'s'", image="{image}", copy="yes"),
    boots("an image of a size that cannot be", UNUSABLE, "{max}", image="{image}",
          disk_size=2 ** 64 - 1, cause="a disk-size that no file can have"),
    boots("disks that are text", INVALID_ARGS, "disks", "'aa{{sv}}'", disks="{file}"),
    boots("a disk of nothing", INVALID_ARGS, "disks", disks=[{}]),
    boots("a disk with an unknown key", INVALID_ARGS, "'size'",
          disks=[{"size": "1G"}]),
    boots("a disk with a key that is given twice", INVALID_ARGS, "disk-size", "twice",
          disks=SIZE_TWICE),
    boots("17 disks", INVALID_ARGS, "disks", "15", disk_size="1M",
          disks=[{"disk-size": "1M"}] * 16),
    boots("a second disk that is missing", NOT_FOUND, "/no/second", disk_size="1M",
          disks=[{"disk": "/no/second"}]),
    boots("an image that is also a disk", UNUSABLE, "'malformed'", image="{file}",
          disks=[{"disk": "{file}"}]),
    boots("one disk twice", UNUSABLE, "'malformed'", disk="{file}", disks=[{"disk": "{file}"}],
          cause="an image that is also a disk"),

    # What the guest is set up with
    create("a host name with an underscore", INVALID_ARGS, "hostname", hostname="a_b"),
    create("a host name with a space", INVALID_ARGS, "hostname", hostname="a b",
           cause="a host name with an underscore"),
    create("a host name that begins with a dash", INVALID_ARGS, "hostname", hostname="-a"),
    create("a host name of 300 bytes", INVALID_ARGS, "hostname", hostname="{long}"),
    create("a host name that is empty", INVALID_ARGS, "hostname", "empty", hostname=""),
    create("a user with a colon", INVALID_ARGS, "user", user="a:b", ssh_keys=["{key}"]),
    create("a user with a newline", INVALID_ARGS, "user", user="a\nroot", ssh_keys=["{key}"],
           cause="a user with a colon"),
    create("a user of 300 bytes", INVALID_ARGS, "user", user="{long}", ssh_keys=["{key}"]),
    create("a user without key or password", INVALID_ARGS, "user", user="dev"),
    create("keys that are text", INVALID_ARGS, "ssh-keys", "'as'", ssh_keys="{key}"),
    create("a key that is a file name", INVALID_ARGS, "ssh-keys", ssh_keys=["~/.ssh/id.pub"]),
    create("a private key", INVALID_ARGS, "ssh-keys", "private",
           ssh_keys=["-----BEGIN OPENSSH PRIVATE KEY-----"]),
    create("two keys in one", INVALID_ARGS, "ssh-keys", ssh_keys=["{key}\n{key}"]),
    create("a key that is empty", INVALID_ARGS, "ssh-keys", ssh_keys=[""]),
    create("a password that is empty", INVALID_ARGS, "password", password=""),
    create("a password with a newline", INVALID_ARGS, "password", password="a\nb"),
    create("a password of 300 bytes", INVALID_ARGS, "password", password="{long}"),
    create("user-data that is empty", INVALID_ARGS, "user-data", user_data=""),
    create("user-data of 2 MiB", INVALID_ARGS, "user-data", user_data="#" * (2 << 20)),
    create("user-data and a key", INVALID_ARGS, "user-data", user_data="#!/bin/sh",
           ssh_keys=["{key}"]),
    create("user-data in credentials", INVALID_ARGS, "user-data", "cloud-init",
           user_data="#!/bin/sh", guest_setup="credentials"),
    create("a set-up that there is not", INVALID_ARGS, "guest-setup", "'cloud-init'",
           guest_setup="ignition"),

    # What it boots from
    boots("nothing to boot from", INVALID_ARGS, "boot"),
    boots("a cdrom that is missing", NOT_FOUND, "cdrom", "{folder}/none", cdrom="{folder}/none"),
    boots("a cdrom by a relative path", INVALID_ARGS, "cdrom", "'cd.iso'", cdrom="cd.iso"),
    boots("a cdrom that is a folder", UNUSABLE, "cdrom", "{folder}", cdrom="{folder}"),
    create("a kernel that is missing", NOT_FOUND, "kernel", "{folder}/none",
           kernel="{folder}/none"),
    create("a kernel by a relative path", INVALID_ARGS, "kernel", "'vmlinuz'", kernel="vmlinuz"),
    create("a kernel that is a folder", UNUSABLE, "kernel", "{folder}", kernel="{folder}"),
    create("a kernel that cannot be read", UNUSABLE, "kernel", "{secret}", kernel="{secret}"),
    create("an initrd that is missing", NOT_FOUND, "initrd", "{folder}/none",
           initrd="{folder}/none"),
    create("an initrd by a relative path", INVALID_ARGS, "initrd", "'initrd'", initrd="initrd"),
    boots("an initrd without a kernel", INVALID_ARGS, "initrd", "kernel", cdrom="{file}",
          initrd="{file}"),
    boots("a cmdline without a kernel", INVALID_ARGS, "cmdline", "kernel", cdrom="{file}",
          cmdline="quiet"),
    create("a cmdline that is too long", INVALID_ARGS, "cmdline", "2047", cmdline="x" * 2048),
    create("a cmdline with a control character", INVALID_ARGS, "cmdline", cmdline="a\33b"),
    create("a kernel with UEFI", INVALID_ARGS, "firmware", firmware="uefi"),
    create("a firmware that there is not", INVALID_ARGS, "firmware", "'bios'",
           firmware="coreboot"),
    create("an accelerator that there is not", INVALID_ARGS, "accelerator", "'tcg'",
           accelerator="xen"),

    # Forwards
    create("forwards that are text", INVALID_ARGS, "forwards", "'as'", forwards="8080:80"),
    *forward("an empty one", "", "empty"),
    *forward("garbage", "web", "web"),
    *forward("ports as words", "http:80", "http"),
    *forward("host port 0 in a range", "0-5:80", "0-5:80"),
    *forward("host port 65536", "65536:80", "65536"),
    *forward("guest port 65536", "8080:65536", "65536"),
    *forward("guest port 0", "8080:0", "8080:0"),
    *forward("a range that is reversed", "8005-8000:80-85", "8005-8000", "reversed"),
    *forward("ranges of different lengths", "8000-8005:80-82", "8000-8005:80-82", "80-85"),
    *forward("a range that ends too high", "8000-8005:65533-65538", "65538"),
    *forward("host port 0 without a guest port", "0", "guest"),
    *forward("a negative port", "-1:80", "-1:80"),
    *forward("a port in hexadecimal", "0x50:80", "0x50"),
    *forward("a port with a leading zero", "08080:80", "08080"),
    *forward("a space", "8080: 80", "8080: 80"),
    *forward("an unknown protocol", "8080:80/sctp", "sctp"),
    *forward("a host name for the address", "localhost:8080:80", "127.0.0.1"),
    *forward("no address at all", "1.2.3:8080:80", "1.2.3"),
    *forward("IPv6 without brackets", "::1:8080:80", "brackets"),
    *forward("a bracket that is not closed", "[::1:8080:80", "bracket"),
    *forward("an address with a zone", "[fe80::1%lo]:8080:80", "zone"),
    *forward("an address that is not of this host", "192.0.2.1:8080:80", "192.0.2.1", passt=True),
    *forward("300 bytes", "{long}", "too long"),
    *forward("a control character", "8080\n:80", "8080\\x0a"),
    *forward("a privileged port", "80:80", "80", "ip_unprivileged_port_start",
             error="org.uservm1.Error.PortPrivileged", passt=True),
    *forward("a port that a process holds", "{port}:80", "{port}", "process {pid} (",
             error="org.uservm1.Error.PortInUse", passt=True),
    create("one forward twice", INVALID_FORWARD, "18080:81", forwards=["18080:80", "18080:81"]),
    create("forwards that overlap", INVALID_FORWARD, "*:18082:80",
           forwards=["18080-18089:80-89", "*:18082:80"]),
    create("one good forward and a bad one", INVALID_FORWARD, "18081:x",
           forwards=["18080:80", "18081:x"]),
    create("more forwards than passt takes", "org.uservm1.Error.NotSupported", "255",
           forwards=[f"{port}:80" for port in range(20000, 20256)]),
    Call("a forward that there is not", "RemovePortForward", "(ssa{sv})", ["{vm}", "18080", {}],
         "org.uservm1.Error.NoSuchForward", ["'{vm}'", "127.0.0.1:18080"]),
    Call("to remove host port 0", "RemovePortForward", "(ssa{sv})", ["{vm}", "0:80", {}],
         INVALID_FORWARD, ["0:80"]),
    Call("to remove garbage", "RemovePortForward", "(ssa{sv})", ["{vm}", "all", {}],
         INVALID_FORWARD, ["all"]),

    # Options
    Call("an unknown option of AddPortForward", "AddPortForward", "(ssa{sv})",
         ["{vm}", "18080:80", {"live": True}], INVALID_ARGS, ["'live'"]),
    *(Call(f"an unknown option, {words}, not ASCII", "DeleteVM", "(sa{sv})",
           ["{vm}", {f"{{{words}}}": True}], INVALID_ARGS, ["\u00e9"])
      for words in ("even", "uneven")),
    Call("an option of the wrong type", "AddPortForward", "(ssa{sv})",
         ["{vm}", "18080:80", {"disruptive": "yes"}], INVALID_ARGS, ["disruptive", "'s'"]),
    Call("an unknown option of RemovePortForward", "RemovePortForward", "(ssa{sv})",
         ["{vm}", "18080", {"force": True}], INVALID_ARGS, ["'force'"]),
    Call("an unknown option of DeleteVM", "DeleteVM", "(sa{sv})", ["{vm}", {"disks": True}],
         INVALID_ARGS, ["'disks'"]),
    Call("force that is a number", "DeleteVM", "(sa{sv})", ["{vm}", {"force": 1}], INVALID_ARGS,
         ["force", "'t'"]),
    Call("no options", "DeleteVM", "(s)", ["{vm}"], INVALID_ARGS, ["sa{{sv}}"]),

    # VMs that there are not
    *nobody("a name that no VM has", "nobody"),
    *nobody("an empty name", ""),
    *nobody("a UUID that no VM has", "0e3a9d70-7ec5-4d3a-8f7e-4b1c36a7c7f4"),
    *nobody("a name that no VM can have", "<a>/../b"),
    *nobody("a name of 300 bytes that no VM has", "y" * 300),
    *nobody("a name that no VM has, not ASCII", "\u00e9" * 150),
    *nobody("another name that no VM has, not ASCII", "x" + "\u00e9" * 150),

    # What there is not
    Call("a method that there is not", "StopVM", "(s)", ["{vm}"], UNKNOWN_METHOD, ["StopVM"]),
    Call("an interface that there is not", "StartVM", "(s)", ["{vm}"],
         UNKNOWN_METHOD, ["org.uservm2"],
         interface="org.uservm2.Manager"),
    Call("an object that there is not", "Start", "", [],
         "org.freedesktop.DBus.Error.UnknownObject", ["/org/uservm1/vm/none"],
         path="/org/uservm1/vm/none", interface=VM),
    Call("a property that there is not", "Get", "(ss)", [MANAGER, "Colour"],
         "org.freedesktop.DBus.Error.UnknownProperty", ["Colour"], interface=client.PROPERTIES),
    Call("to set a property that cannot be set", "Set", "(ssv)",
         [MANAGER, "Version", client.variant("9")], "org.freedesktop.DBus.Error.PropertyReadOnly",
         ["Version"], interface=client.PROPERTIES),
]
