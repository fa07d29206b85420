# SPDX-License-Identifier: LGPL-2.1-or-later
"""Another ordinary user of the same machine tries to get at the VMs of this one, and each attempt is
refused. That user is made by test_other_user.root; what they do here they do by way of su(1)."""

import glob
import json
import os
import socket
import stat
import subprocess

import lab  # first: it says where the others are
import client
import managed
import tap
from lab import stories_in_order as load_tests

USERVMD = "/usr/libexec/uservmd"
RUNTIME = os.environ["XDG_RUNTIME_DIR"]
OTHER_RUNTIME = "/run/user/1001"
OTHER_UID = 1001

# A session bus that lets everybody in, as an administrator might have configured it.
OPEN_BUS = """
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={path}</listen>
  <policy context="default">
    <allow user="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""

# Tries a thing the way a program would, and prints the name of the errno, or "done".
ATTEMPT = """
import errno, os, signal, socket, sys
how, what = sys.argv[1:]
try:
    if how == "connect":
        socket.socket(socket.AF_UNIX).connect(what)
    elif how == "list":
        os.listdir(what)
    elif how == "stat":
        os.stat(what)
    elif how == "read":
        open(what, "rb").read(1)
    elif how == "write":
        open(what, "r+b")
    elif how == "make":
        open(what, "x")
    elif how == "kill":
        os.kill(int(what), signal.SIGTERM)
    print("done")
except OSError as error:
    print(errno.errorcode[error.errno])
"""


# su(1) hands what comes last to the user's shell, which this spares a round of quoting.
AS_OTHER = ["su", "--shell=/usr/bin/env", "--", "other", f"XDG_RUNTIME_DIR={OTHER_RUNTIME}",
            f"DBUS_SESSION_BUS_ADDRESS=unix:path={OTHER_RUNTIME}/bus"]


def run(command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)


def as_other(*command):
    """Runs a program as the other user, in their session."""
    return run([*AS_OTHER, *command])


def attempt(how, what):
    result = as_other("python3", "-c", ATTEMPT, how, str(what))
    if result.returncode != 0:
        raise AssertionError(result.stderr)
    return result.stdout.strip()


def sockets_in(folder):
    return [path for path in glob.glob(f"{folder}/**", recursive=True, include_hidden=True)
            if stat.S_ISSOCK(os.lstat(path).st_mode)]


class OtherUser(managed.Story):
    """A VM runs, and has all that a VM can have."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bus.create(**lab.guest(name="web", disk_size="64M", forwards=["8080:80"]))
        lab.wait_answer(8080)
        lab.until(lambda: as_other("test", "-S", f"{OTHER_RUNTIME}/bus").returncode == 0,
                  "the session of the other user")

    def assertRefused(self, how, what):
        self.assertEqual(attempt(how, what), "EACCES", f"{how} {what}")

    # That a refusal says something

    def test_the_other_user_is_one_like_this(self):
        self.assertEqual(as_other("id", "--user").stdout, f"{OTHER_UID}\n")
        self.assertEqual(attempt("connect", f"{OTHER_RUNTIME}/bus"), "done")
        self.assertEqual(attempt("list", OTHER_RUNTIME), "done")

    def test_the_others_uservmd_is_theirs(self):
        """It serves them, and knows nothing of the VMs of this user."""
        result = as_other("busctl", "--user", "--json=short", "call", client.NAME, client.ROOT,
                          client.MANAGER, "ListVMs")
        self.assertEqual(json.loads(result.stdout)["data"], [[]], result.stderr)
        mine, theirs = (lab.run("pgrep", "--uid", str(uid), "^uservmd").split()
                        for uid in (os.getuid(), OTHER_UID))
        self.assertEqual((len(mine), len(theirs)), (1, 1))

    # The bus

    def test_the_bus_cannot_be_reached(self):
        self.assertRefused("connect", f"{RUNTIME}/bus")
        result = as_other("busctl", f"--address=unix:path={RUNTIME}/bus", "call", client.NAME,
                          client.ROOT, client.MANAGER, "ListVMs")
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr, "Permission denied|not permitted")

    # Sockets and files

    def test_sockets_cannot_be_seen_or_reached(self):
        found = sockets_in(f"{RUNTIME}/libvirt")
        for name in (".sock", ".ctl"):
            self.assertTrue([path for path in found if "uservm-" in path and path.endswith(name)])
        for path in found:
            self.assertRefused("stat", path)
            self.assertRefused("connect", path)
        for folder in RUNTIME, f"{RUNTIME}/libvirt", managed.PASST_FILES:
            self.assertRefused("list", folder)
            self.assertRefused("make", f"{folder}/new")

    def test_not_even_if_the_runtime_folder_were_open(self):
        """passt's own folder and its sockets are closed by themselves."""
        for folder in RUNTIME, f"{RUNTIME}/libvirt", f"{RUNTIME}/libvirt/qemu", \
                f"{RUNTIME}/libvirt/qemu/run":
            self.addCleanup(os.chmod, folder, stat.S_IMODE(os.stat(folder).st_mode))
            os.chmod(folder, 0o755)
        self.assertEqual(attempt("list", os.path.dirname(managed.PASST_FILES)), "done")
        self.assertRefused("list", managed.PASST_FILES)
        for name in managed.passt_files():
            self.assertEqual(stat.S_IMODE(os.stat(f"{managed.PASST_FILES}/{name}").st_mode) & 0o077,
                             0, name)
            self.assertRefused("stat", f"{managed.PASST_FILES}/{name}")

    def test_nor_those_at_home_if_that_were_open(self):
        """QEMU's monitor and display; that of the guest's agent is in the runtime folder."""
        found = sockets_in(os.path.expanduser("~"))
        self.assertGreaterEqual(len(found), 2, found)
        folder = os.path.expanduser("~/.config/libvirt/qemu")
        while folder != "/home":
            self.addCleanup(os.chmod, folder, stat.S_IMODE(os.stat(folder).st_mode))
            os.chmod(folder, 0o755)
            folder = os.path.dirname(folder)
        self.assertEqual(attempt("list", os.path.expanduser("~/.config/libvirt/qemu")), "done")
        for path in found:
            self.assertRefused("connect", path)

    def test_passt_takes_no_orders(self):
        (control,) = glob.glob(f"{managed.PASST_FILES}/uservm-*.ctl")
        result = as_other("pesto", "--add", "--tcp-ports", "127.0.0.1/8081:81", control)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("Permission denied", result.stderr)
        self.assertTrue(lab.is_refused(8081))
        self.assertAgree("web")

    def test_disks_cannot_be_read(self):
        """Even where the folders on the way to them are open to everybody."""
        images = os.path.expanduser("~/.local/share/libvirt/images")
        disk = f"{images}/web.qcow2"
        self.assertRefused("read", disk)
        folder = images
        while folder != "/home":
            self.addCleanup(os.chmod, folder, stat.S_IMODE(os.stat(folder).st_mode))
            os.chmod(folder, 0o755)
            folder = os.path.dirname(folder)
        self.assertEqual(attempt("stat", disk), "done")
        self.assertRefused("read", disk)
        self.assertRefused("write", disk)
        self.assertRefused("make", f"{images}/new")

    def test_the_console_cannot_be_used(self):
        terminal = lab.virsh("ttyconsole", "web").strip()
        self.assertTrue(terminal.startswith("/dev/pts/"))
        self.assertRefused("read", terminal)

    def test_processes_cannot_be_signalled(self):
        for name in "uservmd", "libvirtd", "qemu", "passt":
            for pid in lab.processes(name):
                self.assertEqual(attempt("kill", pid), "EPERM", name)

    # A bus that lets others in

    def start_bus(self, name, *become):
        """A bus that lets everybody in, by this user or whom the command `become` makes."""
        path = f"/tmp/{name}"
        with open(f"{path}.conf", "x", encoding="utf-8") as file:
            file.write(OPEN_BUS.format(path=path))
        command = f"umask 0; exec dbus-daemon --config-file={path}.conf --nofork --print-address"
        bus = subprocess.Popen([*become, "sh", "-c", command], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, text=True)
        self.addCleanup(bus.stdout.close)
        self.addCleanup(bus.wait)
        self.addCleanup(bus.terminate)
        return bus.stdout.readline().strip()

    def start_uservmd(self, address, runtime):
        os.makedirs(runtime, 0o700, exist_ok=True)
        uservmd = subprocess.Popen(
            [USERVMD, "--connect=test:///default"], stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
            env=os.environ | {"DBUS_SESSION_BUS_ADDRESS": address, "XDG_RUNTIME_DIR": runtime})
        self.addCleanup(uservmd.stderr.close)
        self.addCleanup(uservmd.wait)
        self.addCleanup(uservmd.terminate)
        return uservmd

    def test_only_this_user_is_served_on_an_open_bus(self):
        address = self.start_bus("open-bus")
        uservmd = self.start_uservmd(address, "/tmp/open-runtime")

        def busctl(*arguments, become=()):
            return run([*become, "busctl", f"--address={address}", *arguments])

        list_vms = ("call", client.NAME, client.ROOT, client.MANAGER, "ListVMs")
        result = lab.until(lambda: (r := busctl(*list_vms)).returncode == 0 and r, "uservmd there")
        self.assertIn('"running"', result.stdout)
        vm = json.loads(busctl("--json=short", *list_vms).stdout)["data"][0][0][3]

        # the other one is let in by the bus itself
        self.assertIn(client.NAME, busctl("list", "--acquired", become=AS_OTHER).stdout)
        calls = [
            list_vms,
            ("call", client.NAME, client.ROOT, client.MANAGER, "PowerOffVM", "s", "test"),
            ("call", client.NAME, vm, client.VM, "PowerOff"),
            ("get-property", client.NAME, vm, client.VM, "Name"),
            ("set-property", client.NAME, vm, client.VM, "Autostart", "b", "true"),
            ("call", client.NAME, client.ROOT, client.OBJECT_MANAGER, "GetManagedObjects"),
            ("call", client.NAME, client.ROOT, client.INTROSPECTABLE, "Introspect"),
        ]
        for call in calls:
            result = busctl(*call, become=AS_OTHER)
            self.assertNotEqual(result.returncode, 0, call)
            self.assertIn("Access denied", result.stderr, call)
        self.assertIn('"running"', busctl(*list_vms).stdout)

        # which was uservmd's doing
        uservmd.terminate()
        self.assertEqual(uservmd.stderr.read().count(f"another user ({OTHER_UID}) was refused"),
                         len(calls))

    def test_a_bus_of_another_user_is_not_used(self):
        address = self.start_bus("others-bus", *AS_OTHER)
        # this user can use it: that is what is dangerous about it
        self.assertEqual(lab.run("busctl", f"--address={address}", "--no-legend", "list",
                                 "--acquired").split()[0], "org.freedesktop.DBus")
        uservmd = self.start_uservmd(address, "/tmp/others-bus-runtime")
        self.assertEqual(uservmd.wait(lab.BOOT_TIMEOUT_SEC), 1)
        self.assertIn(f"belongs to another user ({OTHER_UID})", uservmd.stderr.read())

    # Folders that another user has a hand in

    def check_runtime_is_refused(self, runtime, says):
        uservmd = self.start_uservmd(os.environ["DBUS_SESSION_BUS_ADDRESS"], runtime)
        self.assertEqual(uservmd.wait(lab.BOOT_TIMEOUT_SEC), 1)
        self.assertIn(says, uservmd.stderr.read())

    def test_a_runtime_folder_of_another_user_is_refused(self):
        as_other("mkdir", "--mode=0777", "/tmp/others-runtime")
        self.check_runtime_is_refused("/tmp/others-runtime", f"another user ({OTHER_UID})")

    def test_so_is_a_link_by_another_user_to_one_of_ones_own(self):
        os.mkdir("/tmp/my-runtime", 0o700)
        as_other("ln", "-s", "/tmp/my-runtime", "/tmp/link-to-runtime")
        self.check_runtime_is_refused("/tmp/link-to-runtime", "is a link")
        self.assertEqual(os.listdir("/tmp/my-runtime"), [])

    def test_the_vm_has_noticed_nothing(self):
        self.assertEqual(self.states(), {"web": "running"})
        self.assertAgree("web")
        self.assertEqual(lab.fetch(8080), "hello from web")
        self.delete("web", force=True)
        self.assertNothingLeft()


if __name__ == "__main__":
    tap.main()
