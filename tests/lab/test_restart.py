# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nothing happens to a running VM when uservmd or libvirt's session daemon are restarted or killed,
and afterwards all is as before."""

import contextlib
import os
import shutil
import signal

import lab  # first: it says where the others are
import client
import managed
import tap
from lab import stories_in_order as load_tests

UNIT = "uservmd.service"
PROGRAM = "/usr/libexec/uservmd"
OWN_PROGRAM = os.path.expanduser("~/uservmd")
DROP_IN = os.path.expanduser("~/.config/systemd/user/uservmd.service.d/upgrade.conf")


def libvirt_daemon():
    """Whichever this libvirt has."""
    return (lab.processes("libvirtd") + lab.processes("virtqemud"))[0]


class Restart(lab.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bus.create(**lab.guest(name="web", forwards=["8080:80", "7007:7"]))
        cls.bus.create(**lab.guest(name="other", start=False, forwards=["8090:80"]))
        cls.connection = lab.connect_echo(7007)
        cls.addClassCleanup(cls.connection.close)
        cls.qemu = lab.processes("qemu")
        cls.before = cls.picture(cls)

    def setUp(self):
        super().setUp()
        # systemd would find that so many starts in so little time are too many
        lab.systemctl("reset-failed", UNIT)

    def picture(self):
        """Everything that the API shows."""
        lab.Story.wait_ready(self, "web")
        return sorted(self.bus.managed_objects().items())

    def check_unharmed(self):
        self.assertEqual(lab.processes("qemu"), self.qemu)
        self.assertTrue(lab.echoes(self.connection), "the established connection")
        self.assertTrue(lab.fetch(8080), "a new connection")
        self.assertEqual(self.picture(), self.before)

    # uservmd

    def test_restart_of_uservmd(self):
        old = lab.main_pid(UNIT)
        lab.systemctl("restart", UNIT)
        self.wait_another_uservmd(old)
        self.check_unharmed()

    def test_stop_of_uservmd(self):
        """The next call starts it."""
        lab.systemctl("stop", UNIT)
        self.bus.wait(lambda: not self.bus.owner, "uservmd to leave the bus")
        self.assertEqual(lab.processes("qemu"), self.qemu)
        self.check_unharmed()

    def test_kill_of_uservmd(self):
        """systemd starts it again, although nobody calls."""
        old = lab.main_pid(UNIT)
        lab.kill(old)
        self.wait_another_uservmd(old)
        self.check_unharmed()

    def test_kill_in_the_middle_of_a_start(self):
        """The caller is told. Whether the VM has started or not, the API says so, and it can be
        used."""
        start = self.bus.send(client.ROOT, client.MANAGER, "StartVM", "(s)", "other")
        self.bus.wait(lambda: self.state("other") == "starting", "the start to begin")
        old = lab.main_pid(UNIT)
        lab.kill(old)
        with self.assertRaises(client.Error) as caught:
            start.result()
        self.assertEqual(caught.exception.name, "org.freedesktop.DBus.Error.NoReply")
        self.wait_another_uservmd(old)
        state = lab.until(lambda: self.agreed_state("other"), "uservmd to agree with libvirt", 20)
        lab.comment(f"the VM is {state}")
        if state == "shutoff":
            self.bus.manager("StartVM", "(s)", "other")
        self.wait_state("other", "running")
        self.assertEqual(set(self.forward_states("other").values()), {"active"})
        self.bus.manager("PowerOffVM", "(s)", "other")
        self.check_unharmed()

    def agreed_state(self, name):
        """The VM's state, if libvirt and uservmd agree whether it is down."""
        state = self.state(name)
        is_down = lab.virsh("domstate", name).strip() in ("shut off", "crashed")
        return state if is_down == (state in ("shutoff", "crashed")) else None

    def run_own_copy(self, marker):
        """Puts a program in the place of the one that runs, as a package manager does, and restarts
        the service. What is behind an ELF file's end is of no concern to anybody."""
        old = lab.main_pid(UNIT)
        shutil.copy(PROGRAM, f"{OWN_PROGRAM}.new")
        with open(f"{OWN_PROGRAM}.new", "ab") as file:
            file.write(marker)
        os.rename(f"{OWN_PROGRAM}.new", OWN_PROGRAM)
        lab.systemctl("daemon-reload")
        lab.systemctl("restart", UNIT)
        self.wait_another_uservmd(old)
        with open(f"/proc/{lab.main_pid(UNIT)}/exe", "rb") as file:
            self.assertTrue(file.read().endswith(marker))

    def test_an_upgrade(self):
        """Every VM and forward is kept, those for this run only too."""
        self.add("web", "8085:81", persistent=False)
        self.add("web", "8086:82/udp", persistent=False)
        upgraded = self.picture()
        passt = lab.processes("passt")
        os.makedirs(os.path.dirname(DROP_IN))
        with open(DROP_IN, "x", encoding="utf-8") as file:
            file.write(f"[Service]\nExecStart=\nExecStart={OWN_PROGRAM}\n")
        for marker in b"version 1", b"version 2":
            self.run_own_copy(marker)
            self.assertEqual(self.picture(), upgraded)
            self.assertEqual(lab.processes("passt"), passt)
            self.assertTrue(lab.fetch(8085))
            self.assertTrue(lab.echoes(self.connection))
        os.unlink(DROP_IN)
        old = lab.main_pid(UNIT)
        lab.systemctl("daemon-reload")
        lab.systemctl("restart", UNIT)
        self.wait_another_uservmd(old)
        self.remove("web", "8085")
        self.remove("web", "8086/udp")
        self.check_unharmed()

    # libvirt's daemon

    def kill_libvirt(self):
        old = libvirt_daemon()
        lab.kill(old)
        return old

    def new_libvirt(self, old):
        lab.until(lambda: [pid for pid in lab.processes("libvirtd") + lab.processes("virtqemud")
                           if pid != old], "another daemon of libvirt", 20)

    def test_kill_of_libvirts_daemon(self):
        """uservmd connects to the next one by itself, which starts it."""
        uservmd = lab.main_pid(UNIT)
        self.new_libvirt(self.kill_libvirt())
        self.check_unharmed()
        self.assertEqual(lab.main_pid(UNIT), uservmd)

    def test_changes_afterwards_are_seen(self):
        path = self.path("web")
        self.bus.take_signals()
        managed.fall_silent()
        lab.virsh("suspend", "web")
        self.wait_change(path, "State", "paused")
        lab.virsh("resume", "web")
        self.wait_change(path, "State", "running")
        self.check_unharmed()

    def test_calls_right_after_a_kill(self):
        self.kill_libvirt()
        self.assertEqual(self.add("other", "8091:81")["state"], "inactive")
        self.kill_libvirt()
        self.remove("other", "8091")
        self.kill_libvirt()
        self.bus.manager("StartVM", "(s)", "other")
        self.assertEqual(set(self.forward_states("other").values()), {"active"})
        self.bus.manager("PowerOffVM", "(s)", "other")
        self.check_unharmed()

    def test_what_happened_meanwhile_is_seen(self):
        """While libvirt's daemon is gone, the VM ends; and one was defined that uservmd could not
        hear of, as it is stopped."""
        path = self.path("other")
        self.bus.manager("StartVM", "(s)", "other")
        uservmd = lab.main_pid(UNIT)
        (qemu,) = set(lab.processes("qemu")) - set(self.qemu)
        self.bus.take_signals()
        os.kill(uservmd, signal.SIGSTOP)
        self.kill_libvirt()
        lab.kill(qemu)
        domain = lab.definition("other")
        domain.find("name").text = "third"
        domain.remove(domain.find("uuid"))
        domain.find("devices").remove(domain.find("./devices/interface"))
        lab.define(domain)
        os.kill(uservmd, signal.SIGCONT)
        self.bus.wait_signal("PropertiesChanged", lambda s: s.path == path
                             and s.arguments[1].get("State") in ("shutoff", "crashed"))
        self.bus.wait(lambda: "third" in self.states(), "VM third to be listed")
        lab.virsh("undefine", "third")
        self.bus.wait(lambda: "third" not in self.states(), "VM third to be gone")
        # it says how the VM ended until the next start
        self.bus.manager("StartVM", "(s)", "other")
        self.bus.manager("PowerOffVM", "(s)", "other")
        self.check_unharmed()

    def test_kill_of_libvirts_daemon_during_a_start(self):
        """The caller gets an answer, whichever, and the API shows what libvirt has."""
        before = self.vm_processes()
        start = self.bus.send(client.ROOT, client.MANAGER, "StartVM", "(s)", "other")
        self.bus.wait(lambda: self.state("other") == "starting", "the start to begin")
        self.kill_libvirt()
        try:
            start.result()
            lab.comment("StartVM succeeded")
        except client.Error as error:
            lab.comment(str(error))
            self.assertEqual(error.name, "org.uservm1.Error.LibvirtFailed")
        state = lab.until(lambda: self.agreed_state("other"), "uservmd to agree with libvirt", 20)
        if state not in ("shutoff", "crashed"):
            self.bus.manager("PowerOffVM", "(s)", "other")
        # what libvirt had started and forgot; it may hold the VM's ports
        for process in self.vm_processes() - before:
            lab.comment(f"libvirt has forgotten process {process}")
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself meanwhile
                lab.kill(process)
        self.bus.manager("StartVM", "(s)", "other")
        self.bus.manager("PowerOffVM", "(s)", "other")
        self.check_unharmed()

    def vm_processes(self):
        """Not those of passt that uservmd asks what they can do."""
        passts = {pid for pid in lab.processes("passt") if "--socket" in lab.arguments(pid)}
        return set(lab.processes("qemu")) | passts

    def test_kill_of_both(self):
        old = lab.main_pid(UNIT)
        lab.kill(old)
        self.kill_libvirt()
        self.wait_another_uservmd(old)
        self.check_unharmed()

    def test_a_change_of_a_forward_still_works(self):
        self.add("web", "8081:81", disruptive=True)
        lab.wait_answer(8081)
        self.remove("web", "8081", disruptive=True)
        self.assertTrue(lab.is_refused(8081))
        self.delete("web", force=True)
        self.assertFalse(lab.processes("qemu") + lab.processes("passt"))


if __name__ == "__main__":
    tap.main()
