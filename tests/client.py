# SPDX-License-Identifier: LGPL-2.1-or-later
"""A D-Bus client of uservm, for the tests: calls that return plain values or raise Error with the
error's D-Bus name, and the signals that have come, in order.

A call's reply is taken in the order in which it came with the signals, so after a call
take_signals() has everything that the service sent before its reply.
"""

import collections

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME = "org.uservm1"
ROOT = "/org/uservm1"
MANAGER = "org.uservm1.Manager"
VM = "org.uservm1.VM"
JOB = "org.uservm1.Job"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
INVALID_ARGS = "org.freedesktop.DBus.Error.InvalidArgs"

TIMEOUT_MSEC = 120000  # on a busy machine, and a call may be the last of hundreds

Signal = collections.namedtuple("Signal", "path interface member arguments")


class Error(Exception):
    def __init__(self, name, message):
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


def variant(value):
    """A value for a{sv}. A number is a size, the type 't'; for another one pass a GLib.Variant."""
    if isinstance(value, GLib.Variant):
        return value
    if isinstance(value, bool):
        return GLib.Variant("b", value)
    if isinstance(value, int):
        return GLib.Variant("t", value)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return GLib.Variant("aa{sv}", [dictionary(item) for item in value])
    if isinstance(value, list):
        return GLib.Variant("as", value)
    return GLib.Variant("s", value)


def dictionary(values):
    return {key: variant(value) for key, value in values.items()}


def uint32(number):
    return GLib.Variant("u", number)


def unpack_reply(message):
    body = message.get_body()
    if message.get_message_type() == Gio.DBusMessageType.ERROR:
        text = body.unpack()[0] if body and body.get_type_string().startswith("(s") else ""
        raise Error(message.get_error_name(), text)
    if body is None or body.n_children() == 0:
        return None
    return body.unpack()[0]


class Pending:
    """A call whose reply has not been waited for."""

    def __init__(self, client):
        self.client = client
        self.reply = None

    def done(self, connection, result):
        self.reply = connection.send_message_with_reply_finish(result)
        self.n_signals = len(self.client.signals)  # that came before it and are not taken yet
        self.client.finished.append(self)

    def result(self):
        self.client.wait(lambda: self.reply, "the reply")
        return unpack_reply(self.reply)


class Client:
    """A connection of its own to the session bus."""

    def __init__(self):
        self.connection = Gio.DBusConnection.new_for_address_sync(
            Gio.dbus_address_get_for_bus_sync(Gio.BusType.SESSION, None),
            Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
            | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
        self.finished = []  # Pending, in the order in which the replies came
        self.signals = []
        self._owner = None
        self.connection.signal_subscribe(NAME, None, None, None, None,
                                         Gio.DBusSignalFlags.NONE, self._on_signal)
        self.connection.signal_subscribe("org.freedesktop.DBus", "org.freedesktop.DBus",
                                         "NameOwnerChanged", None, NAME,
                                         Gio.DBusSignalFlags.NONE, self._on_owner_changed)
        try:
            self._owner = self.call("/", "org.freedesktop.DBus", "GetNameOwner", "(s)", NAME,
                                    destination="org.freedesktop.DBus")
        except Error:
            pass

    def close(self):
        if not self.connection.is_closed():  # the bus may have ended
            self.connection.close_sync(None)

    def _on_signal(self, connection, sender, path, interface, member, arguments):
        self.signals.append(Signal(path, interface, member, arguments.unpack()))

    def _on_owner_changed(self, connection, sender, path, interface, member, arguments):
        self._owner = arguments.unpack()[2] or None

    @property
    def owner(self):
        """The unique name of the service, or None, as the signals tell that have come."""
        self.let_come()
        return self._owner

    # Calls

    def _message(self, path, interface, member, signature, arguments, destination):
        message = Gio.DBusMessage.new_method_call(destination, path, interface, member)
        if isinstance(signature, GLib.Variant):
            message.set_body(signature)
        elif signature:
            message.set_body(GLib.Variant(signature, arguments))
        return message

    def call(self, path, interface, member, signature=None, *arguments, destination=NAME):
        """Calls a method, waits, and returns the first value of its reply, unpacked. Instead of a
        signature and arguments, the whole body can be given, as a GLib.Variant."""
        reply = self.connection.send_message_with_reply_sync(
            self._message(path, interface, member, signature, arguments, destination),
            Gio.DBusSendMessageFlags.NONE, TIMEOUT_MSEC, None)[0]
        return unpack_reply(reply)

    def send(self, path, interface, member, signature=None, *arguments):
        """Calls a method and returns a Pending at once."""
        pending = Pending(self)
        self.connection.send_message_with_reply(
            self._message(path, interface, member, signature, arguments, NAME),
            Gio.DBusSendMessageFlags.NONE, TIMEOUT_MSEC, None, pending.done)
        return pending

    def manager(self, member, signature=None, *arguments):
        return self.call(ROOT, MANAGER, member, signature, *arguments)

    def vm(self, path, member, signature=None, *arguments):
        return self.call(path, VM, member, signature, *arguments)

    def create(self, **settings):
        """CreateVM; '_' in a key stands for '-'. Returns the VM's path."""
        return self.manager("CreateVM", "(a{sv})", dictionary(
            {key.replace("_", "-"): value for key, value in settings.items()}))

    def get(self, path, name, interface=VM):
        return self.call(path, PROPERTIES, "Get", "(ss)", interface, name)

    def get_all(self, path, interface=VM):
        return self.call(path, PROPERTIES, "GetAll", "(s)", interface)

    def set(self, path, name, value, interface=VM):
        return self.call(path, PROPERTIES, "Set", "(ssv)", interface, name, variant(value))

    def managed_objects(self):
        return self.call(ROOT, OBJECT_MANAGER, "GetManagedObjects")

    def introspect(self, path):
        return self.call(path, INTROSPECTABLE, "Introspect")

    # Waiting

    def wait(self, condition, what, timeout_msec=TIMEOUT_MSEC):
        """Lets events come in until condition() is true, and returns what it returned."""
        context = GLib.MainContext.default()
        late = []
        timer = GLib.timeout_add(timeout_msec, late.append, True)
        try:
            while not (value := condition()):
                if late:
                    raise TimeoutError(f"waited {timeout_msec} ms for {what}")
                context.iteration(True)
        finally:
            if not late:
                GLib.source_remove(timer)
        return value

    @staticmethod
    def let_come():
        """What has come and was not dealt with."""
        context = GLib.MainContext.default()
        while context.pending():
            context.iteration(False)

    def take_signals(self):
        """The signals that have come since the last time."""
        self.let_come()
        signals, self.signals = self.signals, []
        return signals

    def wait_signal(self, member, matches=lambda signal: True):
        """Waits for a signal, and takes it and those before it."""
        def find():
            for i, signal in enumerate(self.signals):
                if signal.member == member and matches(signal):
                    del self.signals[:i + 1]
                    return signal
            return None

        return self.wait(find, f"the signal {member}")


def changes(signals, path):
    """What the PropertiesChanged among the signals say of a VM, in order: [{name: value}]."""
    return [signal.arguments[1] for signal in signals
            if signal.member == "PropertiesChanged" and signal.path == path
            and signal.arguments[0] == VM]


def without_last_error(signals):
    """Those that tell of more than that a call has failed."""
    return [signal for signal in signals if signal.member != "PropertiesChanged"
            or set(signal.arguments[1]) != {"LastError"}]


def lasting(objects):
    """GetManagedObjects without what failed last."""
    return {path: {interface: {name: value for name, value in properties.items()
                               if name != "LastError"}
                   for interface, properties in interfaces.items()}
            for path, interfaces in objects.items()}
