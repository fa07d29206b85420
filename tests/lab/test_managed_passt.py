# SPDX-License-Identifier: LGPL-2.1-or-later
"""When passt dies under a running VM, it is back with the same forwards; if it goes on dying, what
is wrong shows, and it is back in the end."""

import os
import signal
import socket
import time

import lab  # first: it says where the others are
import client
import managed
import tap
from lab import stories_in_order as load_tests

UNIT = "uservmd.service"
LONG_WAIT_SEC = 20


class Passt(managed.Story):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bus.create(**lab.guest(name="web", forwards=["8080:80", "7007:7"]))
        lab.wait_answer(8080)

    def fill(self):
        """Of every kind: stored and for this run only, a range, UDP, every address."""
        self.add("web", "7007:7/udp")
        self.add("web", "*:8081:81")
        self.add("web", "8200-8210:80-90")
        self.add("web", "8082:82", persistent=False)
        self.add("web", "7008:7/udp", persistent=False)

    def kill(self):
        """Returns when it was."""
        begin = time.monotonic()
        lab.kill(managed.the_passt())
        return begin

    def errors_seen(self, path):
        return [change["NetworkError"] for change in client.changes(self.bus.take_signals(), path)
                if "NetworkError" in change]

    def test_a_killed_one_is_back_within_seconds(self):
        self.fill()
        path = self.path("web")
        forwards, old = self.forwards("web"), managed.the_passt()
        stored = lab.virsh("dumpxml", "--inactive", "web")
        self.bus.take_signals()
        begin = self.kill()
        lab.wait_answer(8080, timeout_sec=managed.REVIVAL_TIMEOUT_SEC)
        lab.comment(f"passt was killed; the guest answered {time.monotonic() - begin:.2f} s later")
        self.assertNotEqual(managed.the_passt(), old)
        self.assertEqual(self.network_error("web"), "")
        errors = self.errors_seen(path)
        self.assertIn("passt", errors[0])
        self.assertEqual(errors[-1], "")
        self.assertEqual(self.forwards("web"), forwards)
        self.assertEqual(self.network("web"), "managed")
        self.assertEqual(lab.virsh("dumpxml", "--inactive", "web"), stored)
        self.assertAgree("web")

    def test_all_forwards_answer_again(self):
        for port in 8081, 8082, 8200, 8210:
            self.assertEqual(lab.fetch(port), "hello from web")
        for port in 7007, 7008:
            self.assertTrue(lab.echoes_datagram(port))
        self.assertTrue(managed.is_echoed(7007))

    def test_changes_are_live_as_before(self):
        self.add("web", "8083:83")
        self.assertEqual(lab.fetch(8083), "hello from web")
        self.remove("web", "8083")
        self.remove("web", "8082")
        self.assertTrue(lab.is_refused(8082))
        self.add("web", "8082:82", persistent=False)
        self.assertAgree("web")

    def test_the_caller_is_told_if_it_dies_meanwhile(self):
        """Or the forward is there."""
        old = managed.the_passt()
        os.kill(old, signal.SIGSTOP)
        call = self.bus.send(client.ROOT, client.MANAGER, "AddPortForward", "(ssa{sv})", "web",
                             "8083:83", {})
        os.kill(old, signal.SIGKILL)
        try:
            call.result()
        except client.Error as error:
            self.assertEqual(error.name, "org.uservm1.Error.PasstFailed", error.message)
        lab.wait_answer(8080)
        self.bus.wait(lambda: not self.network_error("web"), "it to be over")
        self.assertAgree("web")
        if "127.0.0.1:8083:83/tcp" in self.forward_states("web"):
            self.remove("web", "8083")

    def test_if_it_does_not_answer_the_caller_is_told(self):
        stored = lab.virsh("dumpxml", "--inactive", "web")
        os.kill(managed.the_passt(), signal.SIGSTOP)
        try:
            self.assertFails("PasstFailed", self.add, "web", "8083:83", says="answer")
            self.assertFails("PasstFailed", self.remove, "web", "8082", says="answer")
        finally:
            os.kill(managed.the_passt(), signal.SIGCONT)
        self.assertEqual(lab.virsh("dumpxml", "--inactive", "web"), stored)
        self.assertAgree("web")
        self.add("web", "8083:83")
        self.assertEqual(lab.fetch(8083), "hello from web")
        self.remove("web", "8083")

    def wait_sec(self):
        """How long it is going to wait, as it says."""
        words = self.network_error("web").split()
        return float(words[-2]) if words[-1:] == ["s"] else 0

    def test_killed_again_and_again(self):
        """It is started anew at once, then later and later."""
        before = self.forwards("web")
        waits = [self.wait_sec()]
        while waits[-1] < LONG_WAIT_SEC:
            self.kill()
            self.bus.wait(lambda: self.wait_sec() > waits[-1], "a longer wait")
            waits.append(self.wait_sec())
        lab.comment(f"waits: {waits[1:]} s")
        self.assertIn("passt", self.network_error("web"))
        self.bus.wait(lambda: {f["state"] for f in self.forwards("web")} == {"failed"},
                      "the forwards to be failed")
        self.assertTrue(all(forward["error"] for forward in self.forwards("web")))
        self.assertEqual([forward["spec"] for forward in self.forwards("web")],
                         [forward["spec"] for forward in before])
        self.assertTrue(lab.is_refused(8080))
        self.assertEqual(self.state("web"), "running")

    def test_what_is_called_meanwhile_fails_or_is_kept(self):
        """Nothing that has been reported as done is lost when it is back."""
        type(self).expected = {forward["spec"] for forward in self.forwards("web")}
        try:
            self.add("web", "8084:84")
            self.expected.add("127.0.0.1:8084:84/tcp")
        except client.Error as error:
            lab.comment(f"to add one meanwhile: {error}")
        self.remove("web", "*:8081")  # it may be why passt cannot be started
        self.expected.remove("*:8081:81/tcp")

    def test_a_port_that_was_taken_meanwhile(self):
        """Its forward is failed and says whose it is; all others are back, by themselves."""
        with socket.create_server(("127.0.0.1", 8205)):
            lab.until(lambda: lab.answers(8080), "the page", managed.LONGEST_WAIT_SEC + 10)
            self.bus.wait(lambda: not self.network_error("web"), "it to be over")
            states = self.forward_states("web")
            self.assertEqual(set(states), self.expected)
            self.assertEqual({spec for spec, state in states.items() if state != "active"},
                             {"127.0.0.1:8200-8210:80-90/tcp"}, states)
            (failed,) = [f for f in self.forwards("web") if f["state"] == "failed"]
            self.assertIn(f"process {os.getpid()}", failed["error"])
            self.assertIn("8205", failed["error"])
            self.assertTrue(lab.is_refused(8200))
            self.add("web", "8085:85")
            self.assertEqual(lab.fetch(8085), "hello from web")
            self.remove("web", "8085")

    def test_it_is_live_again_when_it_is_added_again(self):
        self.assertEqual(self.add("web", "8200-8210:80-90")["state"], "active")
        self.assertEqual(lab.fetch(8205), "hello from web")
        self.assertAgree("web")

    def test_killed_while_uservmd_is_stopped(self):
        """What is stored is back; what was for this run only went with the passt that had it."""
        lab.systemctl("stop", UNIT)
        lab.kill(managed.the_passt())
        begin = time.monotonic()
        self.assertEqual(self.network("web"), "managed")
        lab.wait_answer(8080, timeout_sec=managed.REVIVAL_TIMEOUT_SEC)
        lab.comment(f"the guest answered {time.monotonic() - begin:.2f} s after the first call")
        self.bus.wait(lambda: not self.network_error("web"), "it to be over")
        self.assertAgree("web")

    def test_a_passt_that_does_not_answer_does_not_hide_its_vm(self):
        lab.systemctl("stop", UNIT)
        passt = managed.the_passt()
        os.kill(passt, signal.SIGSTOP)
        try:
            self.assertEqual(self.states(), {"web": "running"})
            states = self.forward_states("web")
            self.assertEqual(set(states), set(managed.stored_specs("web")))
            lab.comment(f"forwards of a passt that does not answer: {set(states.values())}")
        finally:
            os.kill(passt, signal.SIGCONT)
        self.bus.wait(lambda: set(self.forward_states("web").values()) == {"active"},
                      "uservmd to ask again", 1000 * managed.LONGEST_WAIT_SEC)
        self.assertEqual(managed.the_passt(), passt)
        self.assertAgree("web")

    def test_a_normal_end_is_no_error(self):
        path = self.path("web")
        self.bus.take_signals()
        self.power_off("web")
        self.assertNothingLeft()
        time.sleep(0.5)  # longer than a revival would wait
        self.assertEqual(self.errors_seen(path), [])
        self.assertEqual(self.network_error("web"), "")
        self.assertNothingLeft()
        log = lab.run("journalctl", "--user", "--no-pager", "--output=cat",
                      f"--since=@{self.begin}", "--identifier=uservmd")
        self.assertNotIn("anew", log)

    def test_one_that_ends_before_qemu_is_connected(self):
        """Once: the VM starts all the same. Again and again: the start fails; it would go on for
        ever otherwise, because QEMU waits for passt and libvirt for QEMU."""
        self.define_slow()
        for kills in 1, 10:
            call = self.bus.send(client.ROOT, client.MANAGER, "StartVM", "(s)", "slow")
            for _ in range(kills):
                lab.until(lambda: self.has_replied(call) or managed.passts(), "a passt")
                if call.reply:
                    break
                lab.kill(*managed.passts())
            if kills == 1:
                call.result()
                self.assertEqual(self.state("slow"), "running")
                self.assertAgree("slow")
                self.power_off("slow")
            else:
                self.assertFails("PasstFailed", call.result, says=["slow", "ending"])
                self.assertEqual(self.state("slow"), "shutoff")
            self.assertNothingLeft()
        self.delete("slow")

    def has_replied(self, call):
        self.bus.take_signals()  # and replies
        return call.reply

    def define_slow(self):
        """Like VM web, but its QEMU takes its time."""
        emulator = os.path.expanduser("~/slow-qemu")
        with open(emulator, "w", encoding="ascii") as file:
            # libvirt also asks it what it can do; that may be quick
            file.write("#!/bin/sh\ncase \"$*\" in *guest=*) sleep 2 ;; esac\n"
                       "exec qemu-system-x86_64 \"$@\"\n")
        os.chmod(emulator, 0o755)
        domain = lab.definition("web")
        domain.find("name").text = "slow"
        domain.remove(domain.find("uuid"))
        domain.find("./devices/emulator").text = emulator
        nic = domain.find("./devices/interface")
        nic.find("mac").set("address", "52:54:00:00:00:01")
        lab.define(domain)
        self.bus.wait(lambda: "slow" in self.states(), "VM slow to be listed")

    def test_leftovers_are_cleaned_up(self):
        """Of a VM that ended while uservmd was stopped, in a way that leaves passt: saved."""
        self.start("web")
        lab.systemctl("stop", UNIT)
        lab.virsh("managedsave", "web")
        self.assertNotEqual(managed.passt_files(), [])
        self.assertEqual(self.state("web"), "saved")
        self.assertNothingLeft()

    def test_and_those_that_come_to_light_later(self):
        """Of a VM that was being saved when an earlier uservmd was killed, and still was when this
        one looked which VMs ran: so there is one that it does not know."""
        uuid = lab.virsh("domuuid", "web").strip()
        path = f"{managed.PASST_FILES}/uservm-{uuid.replace('-', '')}-525400000002"
        lab.run("passt", "--vhost-user", "--quiet", "--repair-path", "none",
                "--socket", f"{path}.sock", "--pid", f"{path}.pid")
        managed.the_passt()
        lab.define(lab.definition("web"))
        lab.until(lambda: not managed.passt_files(), "the VM to be read again", 20)
        self.assertNothingLeft()
        self.delete("web")


if __name__ == "__main__":
    tap.main()
