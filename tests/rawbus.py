# SPDX-License-Identifier: LGPL-2.1-or-later
"""A D-Bus connection that costs next to nothing, to time services and not the client's library:
messages are made before the clock runs, and replies are looked into after it was stopped."""

import os
import socket
import time

import client
from client import Gio, GLib

WINDOW = 50  # calls on their way at a time: a good client of a service that needs many does that
FIXED_HEADER = 16
ANSWERS = 2, 3  # types of messages: method return, error


class RawBus:
    def __init__(self):
        address = os.environ["DBUS_SESSION_BUS_ADDRESS"]
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(address.removeprefix("unix:path=").split(",")[0])
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode()
                            + b"\r\n")
        if not self.socket.recv(4096).startswith(b"OK "):
            raise OSError("the bus does not know us")
        self.socket.sendall(b"BEGIN\r\n")
        self.serial = 0
        self.unread = bytearray()
        self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")

    def message(self, destination, path, interface, member, signature=None, *arguments):
        message = Gio.DBusMessage.new_method_call(destination, path, interface, member)
        if signature:
            message.set_body(GLib.Variant(signature, arguments))
        self.serial += 1
        message.set_serial(self.serial)
        return message.to_blob(Gio.DBusCapabilityFlags.NONE)

    def _next_message(self):
        """The whole of the next message, or None if it has not come in full."""
        data = self.unread
        if len(data) < FIXED_HEADER:
            return None
        order = "little" if data[:1] == b"l" else "big"
        fields = int.from_bytes(data[12:16], order)
        size = FIXED_HEADER + (fields + 7) // 8 * 8 + int.from_bytes(data[4:8], order)
        if len(data) < size:
            return None
        message = bytes(data[:size])
        del data[:size]
        return message

    def _answer(self):
        """The next reply. Signals are passed over."""
        while True:
            message = self._next_message()
            if message is None:
                more = self.socket.recv(1 << 20)
                if not more:
                    raise OSError("the bus has closed the connection")
                self.unread += more
            elif message[1] in ANSWERS:
                return message

    def exchange(self, messages):
        """Sends calls and returns their replies, unopened."""
        answers = []
        for sent, message in enumerate(messages):
            if sent - len(answers) == WINDOW:
                answers.append(self._answer())
            self.socket.sendall(message)
        while len(answers) < len(messages):
            answers.append(self._answer())
        return answers

    def timed(self, messages):
        """The seconds that it takes to have all replies to these calls, and the replies."""
        begin = time.perf_counter()
        answers = self.exchange(messages)
        return time.perf_counter() - begin, [opened(answer) for answer in answers]

    def call(self, *arguments):
        return opened(self.exchange([self.message(*arguments)])[0])

    def manager(self, member, signature=None, *arguments):
        """A call of uservm, to be sent."""
        return self.message(client.NAME, client.ROOT, client.MANAGER, member, signature,
                            *arguments)

    def process(self, name):
        """The process that has a name on the bus; it is started if need be."""
        destination = "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"
        self.call(*destination, "StartServiceByName", "(su)", name, 0)
        return self.call(*destination, "GetConnectionUnixProcessID", "(s)", name)


def opened(answer):
    return client.unpack_reply(
        Gio.DBusMessage.new_from_blob(answer, Gio.DBusCapabilityFlags.NONE))
