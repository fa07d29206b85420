/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What this host offers for VMs: versions of what uservm stands on, and which features they give.
 * Blocks: on a worker only. */

#include <libvirt/libvirt.h>
#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "util.h"

typedef struct Host {
        char *libvirt_version; /* of the session daemon; "" where unknown, so for all three */
        char *qemu_version;
        char *passt_version;
        char **features;     /* NULL-terminated, see Features in org.uservm1.Manager.xml */
        bool managed;        /* there is all that managed networking needs */
        char *native_reason; /* what is missing for it, as a sentence; "" if nothing is */
} Host;

int host_read(virConnectPtr conn, Host **ret, sd_bus_error *error);
Host *host_free(Host *host);
DEFINE_CLEANUP(Host *, host_free);

/* The kind of virtual machine to make on this host. */
typedef struct HostGuest {
        char *type; /* libvirt's domain type: "kvm", "qemu" */
        char *arch; /* "x86_64" */
        bool q35;   /* there is a machine type q35 */
        bool passt; /* libvirt can give it passt networking */
} HostGuest;

/* accelerator is "auto", "kvm" or "tcg". KVM is there when libvirt says that it works for this
 * user. NotSupported when it is asked for and is not there. */
int host_guest_read(virConnectPtr conn, const char *accelerator, HostGuest *ret,
                    sd_bus_error *error);
void host_guest_done(HostGuest *guest);
