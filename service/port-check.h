/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* May a VM have this host port? Asked before anything is touched; a refusal is a D-Bus error that
 * names who has the port, and what to do. */

#include <systemd/sd-bus.h>

#include "forward.h"
#include "manager.h"

/* Main thread. PortInUse when another VM has the port: stored (unless active_only), live, or about
 * to be. */
int port_check_other_vms(Manager *m, const VM *vm, const Forward *f, bool active_only,
                         sd_bus_error *error);

/* Worker. PortInUse when a process holds it, PortPrivileged, InvalidForward when the address is not
 * on this host. Ports in `except` (or NULL) are the VM's own. */
int port_check_host(const Forward *f, const ForwardList *except, sd_bus_error *error);

/* Main thread; a few system calls. If f asks for a free port (host port 0), fills one in that no VM
 * has. */
int port_choose(Manager *m, Forward *f, sd_bus_error *error);
