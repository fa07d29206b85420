# SPDX-License-Identifier: LGPL-2.1-or-later
"""uservm from other languages than C: the example in Python, and code that GLib's generator makes of
the interface descriptions."""

import glob
import os
import re
import shutil
import subprocess
import tempfile

import daemon
import tap
from daemon import USER_NIC, domain, uuid

HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLE = os.path.join(HERE, "../../docs/examples/forward.py")
INTERFACES = os.environ["BUS_INTERFACES"]
TIMEOUT_SEC = 20

PROGRAM = """
#include <stdio.h>
#include "generated.h"

int main(void) {
        g_autoptr(GError) error = NULL;
        g_autoptr(UservmManager) manager = NULL;
        g_autoptr(GVariant) vms = NULL;

        manager = uservm_manager_proxy_new_for_bus_sync(G_BUS_TYPE_SESSION, 0, "org.uservm1",
                                                        "/org/uservm1", NULL, &error);
        if (manager && uservm_manager_call_list_vms_sync(manager, &vms, NULL, &error))
                for (gsize i = 0; i < g_variant_n_children(vms); i++) {
                        const char *name, *path;
                        g_autoptr(UservmVM) vm = NULL;

                        g_variant_get_child(vms, i, "(&s&s&s&o)", &name, NULL, NULL, &path);
                        vm = uservm_vm_proxy_new_for_bus_sync(G_BUS_TYPE_SESSION, 0, "org.uservm1",
                                                              path, NULL, &error);
                        if (!vm)
                                break;
                        printf("%s %s %u\\n", name, uservm_vm_get_uuid(vm), uservm_vm_get_vcpus(vm));
                }
        if (error)
                fprintf(stderr, "%s\\n", error->message);
        return error != NULL;
}
"""


class Languages(daemon.Case):
    domains = [domain("web", 1, devices=USER_NIC), domain("db", 2)]

    def run_here(self, *command, **keywords):
        """Runs a program on the bus; its standard output. It has nothing to complain about."""
        result = subprocess.run(command, env=self.daemon.environment(), timeout=TIMEOUT_SEC,
                                capture_output=True, text=True, check=False, **keywords)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout

    def test_Python(self):
        self.need_passt()
        lines = self.run_here("/usr/bin/python3", EXAMPLE, "web").splitlines()
        self.assertEqual(sorted(lines[:2]), ["db is shutoff", "web is shutoff"])
        forward = re.fullmatch(r"added (127\.0\.0\.1:\d+:80/tcp)", lines[2])[1]
        self.assertEqual(lines[3:], [f"web {forward} inactive"])

    def test_code_that_is_generated(self):
        if not shutil.which("gdbus-codegen"):
            self.skipTest("gdbus-codegen is not installed")
        with tempfile.TemporaryDirectory() as folder:
            self.run_here("gdbus-codegen", "--interface-prefix=org.uservm1.", "--c-namespace=Uservm",
                          "--c-generate-object-manager", "--c-generate-autocleanup=all",
                          "--generate-c-code=generated", f"--output-directory={folder}",
                          *glob.glob(f"{INTERFACES}/*.xml"))
            with open(f"{folder}/program.c", "x", encoding="utf-8") as file:
                file.write(PROGRAM)
            flags = self.run_here("pkg-config", "--cflags", "--libs", "gio-unix-2.0").split()
            self.run_here("cc", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-o",
                          "program", "program.c", "generated.c", *flags, cwd=folder)
            self.assertEqual(sorted(self.run_here(f"{folder}/program").splitlines()),
                             [f"db {uuid(2)} 3", f"web {uuid(1)} 3"])


if __name__ == "__main__":
    tap.main()
