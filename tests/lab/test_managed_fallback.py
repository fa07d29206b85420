# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where passt cannot do what managed networking needs, VMs have native networking, and whoever misses
something is told why."""

import os

import lab  # first: it says where the others are
import client
import managed
import tap
from lab import stories_in_order as load_tests

UNIT = "uservmd.service"
PROGRAMS = os.path.expanduser("~/programs")  # uservmd's PATH
REPLUG_TIMEOUT_SEC = 10
OLD_PASST = """#!/bin/sh
[ "$1" = --help ] || exec /usr/bin/passt "$@"
/usr/bin/passt --help 2>&1 | grep -v -e '{}'
"""


def make_programs(*, without=(), passt=None):
    """All of the system's, or fewer; passt may be another."""
    lab.run("rm", "-rf", PROGRAMS)
    os.mkdir(PROGRAMS)
    for directory in "/usr/bin", "/usr/sbin":
        for name in os.listdir(directory):
            if name not in without and not os.path.lexists(f"{PROGRAMS}/{name}"):
                os.symlink(f"{directory}/{name}", f"{PROGRAMS}/{name}")
    if passt:
        os.unlink(f"{PROGRAMS}/passt")
        with open(f"{PROGRAMS}/passt", "w", encoding="ascii") as file:
            file.write(passt)
        os.chmod(f"{PROGRAMS}/passt", 0o755)


def restart_uservmd(path):
    """With these programs."""
    drop_in = os.path.expanduser(f"~/.config/systemd/user/{UNIT}.d")
    os.makedirs(drop_in, exist_ok=True)
    with open(f"{drop_in}/path.conf", "w", encoding="ascii") as file:
        file.write(f"[Service]\nEnvironment=PATH={path}\n")
    lab.systemctl("daemon-reload")
    lab.systemctl("restart", UNIT)
    lab.systemctl("reset-failed", UNIT)


class Fallback(managed.Story):
    def manager_property(self, name):
        return self.bus.get(client.ROOT, name, client.MANAGER)

    def check_reason(self, *words):
        reason = self.manager_property("NativeReason")
        lab.comment(f"NativeReason: {reason}")
        for word in words:
            self.assertIn(word, reason)
        features = self.manager_property("Features")
        self.assertIn("passt", features)
        self.assertNotIn("live-forwards", features)

    # What is missing, and that it is told

    def test_passt_without_vhost_user(self):
        make_programs(passt=OLD_PASST.format("--vhost-user"))
        restart_uservmd(PROGRAMS)
        self.check_reason("vhost-user", "old")

    def test_passt_without_control_socket(self):
        make_programs(passt=OLD_PASST.format("--conf-path"))
        restart_uservmd(PROGRAMS)
        self.check_reason("control socket", "old")

    def test_no_pesto(self):
        make_programs(without=["pesto"])
        restart_uservmd(PROGRAMS)
        self.check_reason("pesto")

    # A VM there

    def test_a_vm_has_native_networking(self):
        self.create(name="web", forwards=["8080:80"])
        self.assertEqual(self.network("web"), "native")
        self.assertEqual(self.network_error("web"), "")
        self.assertEqual(managed.passt_files(), [])
        self.assertAgree("web")
        lab.wait_answer(8080)

    def test_a_forward_added_is_pending_and_says_why(self):
        added = self.add("web", "8081:81")
        self.assertEqual((added["state"], added["persistent"]), ("pending", True))
        self.assertIn("pesto", added["error"])
        self.assertTrue(lab.is_refused(8081))

    def test_for_this_run_only_is_not_supported(self):
        self.assertFails("NotSupported", self.add_for_this_run, says=["native", "pesto"])
        self.assertNotIn("127.0.0.1:8082:82/tcp", managed.stored_specs("web"))

    def add_for_this_run(self):
        return self.add("web", "8082:82", persistent=False)

    def test_disruptive_works(self):
        self.assertEqual(self.add("web", "8083:83", disruptive=True)["state"], "active")
        for port in 8081, 8083:
            lab.wait_answer(port, timeout_sec=REPLUG_TIMEOUT_SEC)
        self.assertAgree("web")

    def test_a_forward_removed_listens_on(self):
        self.remove("web", "8081")
        self.assertEqual(self.forward_states("web")["127.0.0.1:8081:81/tcp"], "removing")
        self.remove("web", "8083", disruptive=True)
        for port in 8081, 8083:
            self.assertTrue(lab.is_refused(port))
        self.assertAgree("web")

    # passt is upgraded while a VM runs, and loses what it could

    def test_after_an_upgrade_the_running_vm_stays_native(self):
        restart_uservmd("/usr/bin:/usr/sbin")
        self.assertEqual(self.manager_property("NativeReason"), "")
        self.assertEqual(self.network("web"), "native")
        added = self.add("web", "8081:81")
        self.assertEqual(added["state"], "pending")
        self.assertFails("NotSupported", self.add_for_this_run, says="native")

    def test_and_is_managed_from_its_next_start(self):
        self.power_off("web")
        self.assertEqual(self.network("web"), "managed")
        self.start("web")
        self.assertEqual(self.network("web"), "managed")
        self.assertAgree("web")
        lab.wait_answer(8081)
        self.add("web", "8082:82", persistent=False)

    def test_a_managed_vm_runs_on_without_pesto(self):
        restart_uservmd(PROGRAMS)
        self.assertEqual(self.states(), {"web": "running"})
        self.check_reason("pesto")
        self.assertEqual(lab.fetch(8080), "hello from web")
        self.assertEqual(lab.fetch(8082), "hello from web")
        lab.comment(f"network {self.network('web')}; forwards {self.forward_states('web')}")
        with self.assertRaises(client.Error) as caught:
            self.add("web", "8084:84")
        lab.comment(str(caught.exception))
        self.assertIn("pesto", caught.exception.message)
        self.assertNotIn("127.0.0.1:8084:84/tcp", managed.stored_specs("web"))

    def test_and_is_itself_when_pesto_is_back(self):
        restart_uservmd("/usr/bin:/usr/sbin")
        self.add("web", "8084:84")
        self.assertEqual(lab.fetch(8084), "hello from web")
        self.assertAgree("web")
        self.assertIn("127.0.0.1:8082:82/tcp", self.forward_states("web"))

    def test_a_saved_one_goes_on_without_pesto(self):
        restart_uservmd(PROGRAMS)
        self.bus.vm(self.path("web"), "Save")
        self.start("web")
        self.assertEqual(lab.wait_answer(8080), "hello from web")
        self.delete("web", force=True)
        self.assertNothingLeft()

    # QEMU

    def test_QEMU_that_is_installed_later(self):
        make_programs(without=[name for name in os.listdir("/usr/bin") if name.startswith("qemu-")])
        lab.systemctl("stop", UNIT)
        for pid in lab.processes("libvirtd"):
            lab.kill(pid)
        restart_uservmd(PROGRAMS)
        self.assertEqual(self.manager_property("NativeReason"), "")
        self.assertFails("NotSupported", lambda: self.create(name="web"), says="QEMU")
        for name in os.listdir("/usr/bin"):
            if name.startswith("qemu-"):
                os.symlink(f"/usr/bin/{name}", f"{PROGRAMS}/{name}")
        self.create(name="web", forwards=["8080:80"])
        self.assertEqual(self.network("web"), "managed")
        self.assertEqual(lab.wait_answer(8080), "hello from web")
        self.delete("web", force=True)
        self.assertNothingLeft()


if __name__ == "__main__":
    tap.main()
