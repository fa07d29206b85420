# SPDX-License-Identifier: LGPL-2.1-or-later
"""The running service has exactly the interfaces of bus-interfaces/, which has them documented."""

import os
import xml.etree.ElementTree as ET

import client
import daemon
import tap

FOLDER = os.environ["BUS_INTERFACES"]
EMITS_CHANGED = "org.freedesktop.DBus.Property.EmitsChangedSignal"


def parse(text):
    """The tree with its comments."""
    return ET.fromstring(text, ET.XMLParser(target=ET.TreeBuilder(insert_comments=True)))


def arguments(member):
    """Of a method 'in' is the default direction, of a signal 'out' (D-Bus Specification)."""
    default = "in" if member.tag == "method" else "out"
    return [(argument.get("name"), argument.get("type"), argument.get("direction", default))
            for argument in member.iter("arg")]


def annotations(member):
    values = {annotation.get("name"): annotation.get("value")
              for annotation in member.findall("annotation")}
    if member.tag == "property":
        values.setdefault(EMITS_CHANGED, "true")
    return values


def members(interface):
    """What an interface says to a program, by kind and name."""
    return {(member.tag, member.get("name")): {
                "type": member.get("type"), "access": member.get("access"),
                "arguments": arguments(member), "annotations": annotations(member)}
            for member in interface if member.tag in ("method", "property", "signal")}


def interfaces(text):
    return {interface.get("name"): interface for interface in parse(text).findall("interface")}


class Contract(daemon.Case):
    maxDiff = None

    def documented(self, name):
        with open(f"{FOLDER}/{name}.xml", encoding="utf-8") as file:
            return interfaces(file.read())[name]

    def check(self, path, name):
        running = interfaces(self.bus.introspect(path))
        self.assertEqual({other for other in running if other.startswith("org.uservm1")}, {name})
        self.assertEqual(members(running[name]), members(self.documented(name)))

    def test_the_manager(self):
        self.check(client.ROOT, client.MANAGER)
        self.assertIn(client.OBJECT_MANAGER, interfaces(self.bus.introspect(client.ROOT)))

    def test_a_VM(self):
        self.check(self.bus.manager("GetVM", "(s)", "test"), client.VM)

    def test_every_member_is_documented(self):
        for name in (client.JOB, client.MANAGER, client.VM):
            before = None
            for node in self.documented(name):
                if node.tag in ("method", "property", "signal"):
                    with self.subTest(interface=name, member=node.get("name")):
                        self.assertIs(getattr(before, "tag", None), ET.Comment)
                        self.assertIn(node.get("name"), before.text)
                        for argument in node.findall("arg"):
                            self.assertIn(f"@{argument.get('name')}", before.text)
                before = node

    def test_there_is_a_file_for_every_interface(self):
        self.assertEqual(sorted(name for name in os.listdir(FOLDER) if name.endswith(".xml")),
                         [f"{name}.xml" for name in (client.JOB, client.MANAGER, client.VM)])

    def test_VMs_are_found_by_introspection(self):
        nodes = parse(self.bus.introspect(f"{client.ROOT}/vm")).findall("node")
        self.assertEqual([f"{client.ROOT}/vm/{node.get('name')}" for node in nodes],
                         [path for _, _, _, path in self.bus.manager("ListVMs")])


if __name__ == "__main__":
    tap.main()
