# SPDX-License-Identifier: LGPL-2.1-or-later
"""load.py PORT CONNECTIONS: streams data to an echo server and back over so many connections, and
opens and closes others meanwhile. Prints "ready" when all of them have got an echo, and goes on
until its standard input ends; then it waits for what is still on its way, and prints as JSON how
many connections were lost: ended by the other side, or not given back every byte as it was.

A process of its own, so that it is busy beside what is measured and not in it."""

import json
import os
import select
import socket
import sys
import threading

BLOCK = os.urandom(1 << 20)
ON_ITS_WAY = 16384
END_SEC = 10
SHORT_TEXT = b"open, say this, hear it, close"


class Stream:
    """Sends the block again and again."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), END_SEC)
        self.sent = self.received = 0
        self.lost = ""

    def fileno(self):
        return self.socket.fileno()

    def send(self):
        at = self.sent % len(BLOCK)
        room = ON_ITS_WAY - (self.sent - self.received)
        self.sent += self.socket.send(BLOCK[at:at + room], socket.MSG_DONTWAIT)

    def receive(self):
        at = self.received % len(BLOCK)
        data = self.socket.recv(len(BLOCK) - at, socket.MSG_DONTWAIT)
        if not data:
            raise OSError("it was closed")
        if data != BLOCK[at:at + len(data)]:
            raise OSError("it gave back something else")
        self.received += len(data)

    def attempt(self, action):
        try:
            action()
        except BlockingIOError:
            pass
        except OSError as error:
            self.lost = str(error)
            self.socket.close()


class ShortConnections(threading.Thread):
    def __init__(self, port):
        super().__init__()
        self.port = port
        self.end = threading.Event()
        self.tried = 0
        self.failures = []

    def run(self):
        while not self.end.wait(0.005):
            self.tried += 1
            try:
                with socket.create_connection(("127.0.0.1", self.port), END_SEC) as connection:
                    connection.sendall(SHORT_TEXT)
                    heard = connection.recv(len(SHORT_TEXT), socket.MSG_WAITALL)
                if heard != SHORT_TEXT:
                    self.failures.append("it was closed")
            except OSError as error:
                self.failures.append(str(error))


def turn(streams, sending, others=()):
    """Waits until something can be done, and does it; returns all that could be read."""
    alive = [stream for stream in streams if not stream.lost]
    full = [s for s in alive if s.sent - s.received >= ON_ITS_WAY]
    readable, writable, _ = select.select(
        alive + list(others), [s for s in alive if s not in full] if sending else [], [], END_SEC)
    for stream in alive:
        if stream in readable:
            stream.attempt(stream.receive)
        if stream in writable and not stream.lost:
            stream.attempt(stream.send)
    return readable


def main():
    port, number = int(sys.argv[1]), int(sys.argv[2])
    streams = [Stream(port) for _ in range(number)]
    while not all(stream.received or stream.lost for stream in streams):
        turn(streams, True)
    short = ShortConnections(port)
    short.start()
    print("ready", flush=True)

    while sys.stdin not in turn(streams, True, [sys.stdin]):
        pass
    short.end.set()
    short.join()
    while any(not s.lost and s.received < s.sent for s in streams) and turn(streams, False):
        pass

    lost = [s.lost or "it did not give back everything" for s in streams
            if s.lost or s.received < s.sent]
    print(json.dumps({"established": number, "lost": len(lost), "why": sorted(set(lost)),
                      "bytes": sum(s.received for s in streams), "short": short.tried,
                      "short-failed": len(short.failures),
                      "short-why": sorted(set(short.failures))}))


if __name__ == "__main__":
    main()
