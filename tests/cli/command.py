# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command uservm under test, against a real uservmd on libvirt's test driver."""

import contextlib
import fcntl
import json
import os
import pty
import select
import socket
import struct
import subprocess
import sys
import termios
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "bus"))

import daemon  # noqa: E402

USERVM = os.environ["USERVM"]
COMMAND = os.environ.get("VALGRIND", "").split() + [USERVM]
TIMEOUT_SEC = 30

OK, FAILED, USAGE, NOT_FOUND, TIMEOUT = range(5)


def port_forward(host, guest, protocol="tcp", interface=None):
    dev = f" dev='{interface}'" if interface else ""
    return (f"<portForward proto='{protocol}' address='127.0.0.1'{dev}>"
            f"<range start='{host}' to='{guest}'/></portForward>")


def passt_nic(*rules):
    """A NIC with forwards, each with the arguments of port_forward()."""
    text = "".join(port_forward(*rule) for rule in rules)
    return (f"<interface type='user'><mac address='52:54:00:00:00:01'/>"
            f"<backend type='passt'/>{text}</interface>")


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def rows(self):
        """The table without its titles."""
        return [line.split() for line in self.out.splitlines()[1:]]


class Case(daemon.Case):
    """Tests of the command. self.run_command() runs it, and fails unless it ends as expected."""

    def environment(self, **more):
        # what the command must be tested without
        environment = {name: value for name, value in self.daemon.environment().items()
                       if not name.startswith("XDG_STATE")}
        environment["LC_ALL"] = "C.UTF-8"
        return environment | more

    def spawn(self, *arguments, environment=None, **keywords):
        process = subprocess.Popen(
            [*COMMAND, *arguments], env=self.environment(**(environment or {})),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            **keywords)
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        """A test that fails must not leave a command to the next one."""
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()

    def finish(self, process, status=OK):
        out, err = process.communicate(timeout=TIMEOUT_SEC)
        self.assertEqual(process.returncode, status, f"{process.args}: {out}{err}")
        return Result(process.returncode, out, err)

    def run_command(self, *arguments, status=OK, **keywords):
        result = self.finish(self.spawn(*arguments, **keywords), status)
        if status == OK:
            self.assertEqual(result.err, "", arguments)
        return result

    def refused(self, status, *arguments, says=(), **keywords):
        """It ends with the status, prints nothing, and says why in one line with these words."""
        result = self.run_command(*arguments, status=status, **keywords)
        self.assertEqual(result.out, "", arguments)
        self.assertRegex(result.err, r"\Auservm: [^\n]+\n\Z", arguments)
        for words in [says] if isinstance(says, str) else says:
            self.assertIn(words, result.err)
        return result

    def spawn_on_terminal(self, *arguments, columns=80, environment=None):
        """Returns the process, and our side of its terminal, which is of that width."""
        terminal, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=side, stdout=side, stderr=side, close_fds=True,
            env=self.environment(**{"TERM": "xterm"} | (environment or {})))
        os.close(side)
        return process, terminal

    def run_on_terminal(self, *arguments, **keywords):
        """What it writes, standard error included."""
        process, terminal = self.spawn_on_terminal(*arguments, **keywords)
        text = read_terminal(terminal)
        self.assertEqual(process.wait(TIMEOUT_SEC), OK, text)
        return text.decode().replace("\r\n", "\n")


def read_terminal(terminal):
    """All that is written on a terminal until nobody has it open any more; closes our side."""
    text = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        text += part
    os.close(terminal)
    return text


class Guest:
    """Stands in for passt and a guest: listens on a port of this machine and treats connections as
    the function does."""

    def __init__(self, treat, port=0):
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        self.treat = treat
        self.count = 0
        self.counted = threading.Condition()
        self.kept = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                connection = self.socket.accept()[0]
            except OSError:
                return
            self.kept.append(connection)
            with self.counted:
                self.count += 1
                self.counted.notify()
            try:
                self.treat(connection)
            except OSError:
                pass  # the other side has gone already

    def wait_connections(self, n):
        """Waits for so many more. There are two at a time at most, and as many of uservmd until it
        has its answer, so the fifth is one that follows another that was no answer."""
        with self.counted:
            n += self.count
            if not self.counted.wait_for(lambda: self.count >= n, TIMEOUT_SEC):
                raise AssertionError(f"{n} connections expected, not {self.count}")

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()
        for connection in self.kept:
            connection.close()


# How a server in the guest, and passt in front of it, may treat a connection.

def reset(connection):
    """There is no server: passt resets."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def close(connection):
    """There is no server, and an old passt closes in good order."""
    connection.close()


def keep(connection):
    """The guest does not run yet: nothing happens."""


def greet(connection):
    """A server that speaks first."""
    connection.sendall(b"220 hello\r\n")


def serve(connection):
    """A server that reads requests until there are no more, as one of HTTP does."""
    def run():
        with connection, contextlib.suppress(ConnectionResetError):
            while connection.recv(4096):
                pass

    threading.Thread(target=run, daemon=True).start()


def ssh_banner(connection):
    connection.sendall(b"SSH-")
    time.sleep(0.05)
    connection.sendall(b"2.0-test\r\n")


class Lines:
    """The lines that a program writes, as they come."""

    def __init__(self, process):
        self.fd = process.stdout.fileno()
        self.text = b""

    def take(self, n):
        end = time.monotonic() + TIMEOUT_SEC
        while self.text.count(b"\n") < n:
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{n} lines expected, not {self.text}")
            part = os.read(self.fd, 65536)
            if not part:
                raise AssertionError(f"it ends after {self.text}")
            self.text += part
        *lines, self.text = self.text.split(b"\n", n)
        return [line.decode() for line in lines]
