/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Two sources know who has a port: our own list, for VMs (one that is not running has its ports
 * reserved: it would fail to start otherwise), and the kernel, for everything else. */

#include "port-check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "host-port.h"

/* What to do about a port that is taken; names one that is free, as far as `reserved` knows.
 * Returns NULL without memory. */
static char *advise(const Forward *f, const ForwardList *reserved) {
        uint16_t port;
        char *advice;
        int r;

        if (f->host.start != f->host.end || host_port_pick(f, reserved, &port) < 0)
                return strdup("choose other host ports");
        r = asprintf(&advice, "choose another host port, like %u, or 0 for a free one", port);
        return r < 0 ? NULL : advice;
}

int port_check_other_vms(Manager *m, const VM *vm, const Forward *f, bool active_only,
                         sd_bus_error *error) {
        _cleanup_free_ char *wanted = NULL, *taken = NULL, *advice = NULL;
        _cleanup_forward_list_ ForwardList reserved = {};
        const Forward *other;
        VM *other_vm;

        if (!manager_find_conflict(m, vm, f, active_only, &other_vm, &other))
                return 0;
        if (forward_format(f, &wanted) < 0 || forward_format(other, &taken) < 0 ||
            manager_all_forwards(m, &reserved) < 0)
                return -ENOMEM;
        advice = advise(f, &reserved);
        if (!advice)
                return -ENOMEM;
        return sd_bus_error_setf(error, USERVM_ERROR_PORT_IN_USE,
                                 "%s: VM '%s' has the forward %s; %s", wanted, other_vm->name,
                                 taken, advice);
}

int port_check_host(const Forward *f, const ForwardList *except, sd_bus_error *error) {
        _cleanup_free_ char *spec = NULL, *owner = NULL, *advice = NULL;
        uint16_t port, lowest;
        int r;

        if (forward_format(f, &spec) < 0)
                return -ENOMEM;
        r = host_port_probe(f, except, &port);
        switch (r) {
        case 0:
                return 0;
        case -EADDRINUSE:
                advice = advise(f, &(ForwardList){});
                if (!advice || host_port_describe_owner(f, port, &owner) < 0)
                        return -ENOMEM;
                return sd_bus_error_setf(error, USERVM_ERROR_PORT_IN_USE,
                                         "%s: %s has host port %u; %s", spec, owner, port, advice);
        case -EACCES:
        case -EPERM:
                lowest = host_port_lowest_unprivileged();
                return sd_bus_error_setf(
                        error, USERVM_ERROR_PORT_PRIVILEGED,
                        "%s: host ports below %u are privileged; use %u or above, or "
                        "lower the sysctl net.ipv4.ip_unprivileged_port_start",
                        spec, lowest, lowest);
        case -EADDRNOTAVAIL:
                return sd_bus_error_setf(
                        error, USERVM_ERROR_INVALID_FORWARD,
                        "%s: this host does not have that address; leave it out for "
                        "127.0.0.1, or use '*' for every address",
                        spec);
        case -ENODEV:
                return sd_bus_error_setf(error, USERVM_ERROR_INVALID_FORWARD,
                                         "%s: this host has no network interface '%s'", spec,
                                         f->interface);
        default:
                return error_from_errno(error, -r, "try host port %u", port);
        }
}

int port_choose(Manager *m, Forward *f, sd_bus_error *error) {
        _cleanup_forward_list_ ForwardList reserved = {};
        uint16_t port;
        int r;

        if (f->host.start != 0)
                return 0;
        r = manager_all_forwards(m, &reserved);
        if (r < 0)
                return r;
        r = host_port_pick(f, &reserved, &port);
        if (r < 0)
                return error_from_errno(error, -r, "find a free host port");
        f->host = (PortRange){ port, port };
        return 0;
}
