# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hundreds of changes of the forwards of a VM whose forwards are in use: 20 connections stream
random data to the guest and back, and new ones open and close. No byte is lost, no connection is
reset, and nothing piles up.

Each change makes passt close and bind all its listening sockets. What tries to connect just then is
refused, or reset before passt has seen it, and tries again; how often that happens is counted.

The load is IPv6, because of passt 2026-07-28, which under a load of IPv4 ends by itself, changes or
not (tcp_vu.c: when 1 to 5 bytes are left of the guest's window, it takes all receive buffers that
the guest offers, and an assertion fails if those are 1024)."""

import os
import selectors
import socket
import threading
import time

import lab  # first: it says where the others are
import client
import managed
import tap
from lab import stories_in_order as load_tests

CHANGES = 200  # additions, and as many removals
KEPT = 5  # forwards that are there at a time
FIRST_PORT = 21000
STREAMS = 20
WINDOW = 64 << 10  # bytes of one stream that are on their way
PATTERN = os.urandom(1 << 20)
PATTERN_TWICE = PATTERN * 2
DRAIN_TIMEOUT_SEC = 30


class Stream:
    def __init__(self, port):
        self.socket = socket.create_connection(("::1", port), lab.BOOT_TIMEOUT_SEC)
        self.socket.setblocking(False)
        self.sent = self.received = 0

    def expected(self, start, n):
        start %= len(PATTERN)
        return PATTERN_TWICE[start:start + n]

    def send(self):
        n = WINDOW - (self.sent - self.received)
        if n > 0:
            self.sent += self.socket.send(self.expected(self.sent, n))

    def receive(self):
        data = self.socket.recv(WINDOW)
        if not data:
            raise EOFError("end of stream")
        if data != self.expected(self.received, len(data)):
            raise ValueError(f"wrong data at byte {self.received}")
        self.received += len(data)


class Load:
    """Everything in a thread of its own, until the end of the with block."""

    def __init__(self, port):
        self.port = port
        self.streams = [Stream(port) for i in range(STREAMS)]
        self.failures = []
        self.opened = self.refused = self.dropped = 0
        self.gaps = self.longest_gap = 0
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=work) for work in (self.stream, self.open)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        for stream in self.streams:
            stream.socket.close()

    def stream(self):
        with selectors.DefaultSelector() as selector:
            for stream in self.streams:
                selector.register(stream.socket, selectors.EVENT_READ, stream)
            end = None
            while end is None or time.monotonic() < end:
                if self.stopping.is_set():
                    end = end or time.monotonic() + DRAIN_TIMEOUT_SEC
                    if all(stream.sent == stream.received for stream in self.streams):
                        return
                self.turn(selector)
        self.failures += [f"stream {i}: {stream.sent - stream.received} bytes did not come back"
                          for i, stream in enumerate(self.streams)
                          if stream.sent != stream.received]

    def turn(self, selector):
        for stream in list(self.streams) if not self.stopping.is_set() else []:
            self.attempt(selector, stream, stream.send)
        for key, events in selector.select(0.01):
            self.attempt(selector, key.data, key.data.receive)

    def attempt(self, selector, stream, function):
        try:
            function()
        except BlockingIOError:
            pass
        except (OSError, EOFError, ValueError) as error:
            self.failures.append(f"after {stream.received} bytes: {error!r}")
            selector.unregister(stream.socket)
            self.streams.remove(stream)

    def open(self):
        """One connection after the other, for some bytes each."""
        gap_begin = None
        while not self.stopping.is_set():
            at = self.opened * 4096 % len(PATTERN)
            outcome = open_once(self.port, PATTERN[at:at + 4096])
            if outcome == "refused":
                now = time.monotonic()
                self.refused += 1
                self.gaps += gap_begin is None
                gap_begin = gap_begin or now
                self.longest_gap = max(self.longest_gap, now - gap_begin)
                continue
            gap_begin = None
            if outcome == "opened":
                self.opened += 1
            elif outcome == "dropped":
                self.dropped += 1
            else:
                self.failures.append(f"a new connection: {outcome}")

    def bytes(self):
        return sum(stream.received for stream in self.streams)


def open_once(port, data):
    """Opens a connection, has the data echoed, and closes it. "dropped": reset before any byte came
    back, as by a kernel that had accepted it for a socket that passt then closed."""
    received = b""
    try:
        with socket.create_connection(("::1", port), lab.BOOT_TIMEOUT_SEC) as connection:
            connection.sendall(data)
            while len(received) < len(data) and (more := connection.recv(len(data))):
                received += more
    except ConnectionRefusedError:
        return "refused"
    except (ConnectionResetError, BrokenPipeError) as error:
        return f"{error!r} after {len(received)} bytes" if received else "dropped"
    except OSError as error:
        return repr(error)
    return "opened" if received == data else f"{len(received)} bytes of {len(data)} came back"


def status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return {name: value.split()[0] for name, value in
                (line.split(":", 1) for line in file) if value.strip()}


def resources():
    """What could pile up. passt does not let its files be seen: the size of its table of them, and
    all sockets there are in the lab, tell enough. Nor is the guest's memory, which it maps, its
    own."""
    uservmd, passt = lab.main_pid("uservmd.service"), managed.the_passt()
    with open("/proc/net/sockstat", encoding="ascii") as file:
        sockets = int(next(line for line in file if line.startswith("TCP:")).split()[2])
    return {
        "uservmd's memory in KiB": int(status(uservmd)["RssAnon"]),
        "uservmd's open files": len(os.listdir(f"/proc/{uservmd}/fd")),
        "uservmd's threads": int(status(uservmd)["Threads"]),
        "passt's memory in KiB": int(status(passt)["RssAnon"]),
        "passt's table of open files": int(status(passt)["FDSize"]),
        "TCP sockets": sockets,
    }


SLACK = {"uservmd's memory in KiB": 512, "uservmd's open files": 0, "uservmd's threads": 0,
         "passt's memory in KiB": 1024, "passt's table of open files": 0, "TCP sockets": 0}


class UnderLoad(managed.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bus.create(**lab.guest(name="web",
                                   forwards=["7007:7", "[::1]:7007:7", "[::1]:8080:80"]))
        cls.connection = lab.connect_echo(7007)
        cls.addClassCleanup(cls.connection.close)
        lab.wait_answer(8080, "::1")
        cls.first = set(managed.stored_specs("web"))

    def change(self, port):
        """Adds a forward and removes an older one; returns the seconds that each took. No other
        change is on its way, so what is there is there at once."""
        times = [time.monotonic()]
        self.add("web", f"{port}:7", persistent=port % 2 == 0)
        times.append(time.monotonic())
        self.assertTrue(managed.is_echoed(port), f"port {port}")
        times.append(time.monotonic())
        self.remove("web", str(port - KEPT))
        times.append(time.monotonic())
        self.assertTrue(lab.is_refused(port - KEPT), f"port {port - KEPT}")
        return times[1] - times[0], times[3] - times[2]

    def prepare(self, first_port):
        """Forwards to remove first."""
        for port in range(first_port - KEPT, first_port):
            self.add("web", f"{port}:7", persistent=port % 2 == 0)

    def tidy(self, end_port):
        for port in range(end_port - KEPT, end_port):
            self.remove("web", str(port))

    def run_under_load(self, first_port, n):
        self.prepare(first_port)
        with Load(7007) as load:
            times = [self.change(port) for port in range(first_port, first_port + n)]
        self.tidy(first_port + n)
        self.assertEqual(load.failures, [])
        self.assertEqual(len(load.streams), STREAMS)
        return load, times

    def check_resources(self, before):
        """They are back. What the last connections leave behind goes a moment later."""
        def excess():
            return {name: (before[name], now) for name, now in resources().items()
                    if now > before[name] + SLACK[name]}

        try:
            lab.until(lambda: not excess(), "it", 20)
        except AssertionError:
            self.fail(f"before and after: {excess()}")

    def test_200_additions_and_removals(self):
        self.run_under_load(FIRST_PORT, 20)
        before = type(self).before = resources()
        begin = time.monotonic()
        load, times = self.run_under_load(FIRST_PORT + 1000, CHANGES)
        self.assertGreater(min(stream.received for stream in load.streams), 0)
        self.assertGreater(load.opened, 0)
        for what, seconds in zip(("an addition", "a removal"), zip(*times)):
            seconds = sorted(seconds)
            lab.comment(f"{what} took {1000 * seconds[len(seconds) // 2]:.1f} ms (median), at most "
                        f"{1000 * seconds[-1]:.1f} ms")
        lab.comment(f"{STREAMS} connections streamed {load.bytes() >> 20} MiB there and back in "
                    f"{time.monotonic() - begin:.1f} s")
        lab.comment(f"{load.opened} connections opened and closed; {load.refused} attempts were "
                    f"refused, in {load.gaps} gaps of {1000 * load.longest_gap:.1f} ms at most, "
                    f"and {load.dropped} dropped, and made again")
        self.assertAgree("web")
        self.check_resources(before)

    def test_the_established_connection_lives_on(self):
        self.assertTrue(lab.echoes(self.connection))

    def test_nothing_was_logged_but_the_changes(self):
        log = lab.run("journalctl", "--user", "--no-pager", "--output=cat", "--identifier=uservmd")
        self.assertEqual([line for line in log.splitlines() if not line.endswith(": done")],
                         ["VM 'web' has started"])

    def test_ten_clients_at_once(self):
        """Each with a connection of its own to the bus, and not waiting for a reply to call
        again: each adds a range and three forwards, and removes one; all add the same one, and
        remove the same one."""
        self.add("web", "22500:7")
        clients = [client.Client() for i in range(10)]
        calls = {i: list(self.send_all(bus, 22000 + 10 * i)) for i, bus in enumerate(clients)}
        begin = time.monotonic()
        outcomes = {i: [outcome(call) for call in pending] for i, pending in calls.items()}
        lab.comment(f"{sum(map(len, calls.values()))} calls in {time.monotonic() - begin:.2f} s")
        for bus in clients:
            bus.close()

        self.assertEqual({tuple(own[:5]) for own in outcomes.values()}, {("done",) * 5}, outcomes)
        self.assertEqual(sorted(own[5] for own in outcomes.values()),
                         ["done"] + ["org.uservm1.Error.ForwardExists"] * 9)
        self.assertEqual(sorted(own[6] for own in outcomes.values()),
                         ["done"] + ["org.uservm1.Error.NoSuchForward"] * 9)
        self.assertAgree("web")
        expected = {"22501:7"}
        for i in range(10):
            expected |= {f"{22001 + 10 * i}:7", f"{22002 + 10 * i}:7",
                         f"{22003 + 10 * i}-{22005 + 10 * i}:80-82"}
        self.assertEqual(set(self.forward_states("web")),
                         self.first | {f"127.0.0.1:{ports}/tcp" for ports in expected})
        self.assertTrue(all(managed.is_echoed(22001 + 10 * i) for i in range(10)))
        self.assertTrue(lab.echoes(self.connection))

    def send_all(self, bus, port):
        def send(member, spec, **options):
            return bus.send(client.ROOT, client.MANAGER, member, "(ssa{sv})", "web", spec,
                            client.dictionary(options))

        yield send("AddPortForward", f"{port}:7")
        yield send("AddPortForward", f"{port + 1}:7")
        yield send("AddPortForward", f"{port + 3}-{port + 5}:80-82")
        yield send("RemovePortForward", f"{port}")
        yield send("AddPortForward", f"{port + 2}:7", persistent=False)
        yield send("AddPortForward", "22501:7")
        yield send("RemovePortForward", "22500")

    def test_and_all_removed_at_once(self):
        clients = [client.Client() for i in range(10)]
        specs = [spec for spec in self.forward_states("web") if ":22" in spec]
        calls = [clients[i % 10].send(client.ROOT, client.MANAGER, "RemovePortForward",
                                      "(ssa{sv})", "web", spec, {})
                 for i, spec in enumerate(specs)]
        self.assertEqual({outcome(call) for call in calls}, {"done"})
        for bus in clients:
            bus.close()
        self.assertAgree("web")
        self.assertEqual(set(self.forward_states("web")), self.first)
        self.assertTrue(lab.echoes(self.connection))
        self.check_resources(self.before)
        self.delete("web", force=True)
        self.assertNothingLeft()


def outcome(call):
    try:
        call.result()
    except client.Error as error:
        return error.name
    return "done"


if __name__ == "__main__":
    tap.main()
