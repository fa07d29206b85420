/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What libvirt and the kernel say of one VM at one moment: read on a worker, then handed to the
 * main thread, which answers from it until the next event. */

#include <libvirt/libvirt.h>
#include <systemd/sd-bus.h>

#include "domain-xml.h"
#include "forward.h"
#include "vm-network.h"

typedef enum VMState {
        VM_SHUTOFF,
        VM_STARTING,
        VM_RUNNING,
        VM_PAUSED,
        VM_SAVED, /* not running; its memory is stored and the next start resumes from it */
        VM_STOPPING,
        VM_CRASHED,
        VM_STATE_NONE = -1,
} VMState;

typedef struct VMSnapshot {
        VMState state;
        bool active;          /* libvirt's word for: there is a QEMU process */
        bool persistent;      /* it has a stored definition */
        bool autostart;       /* its systemd unit is enabled */
        bool managed;         /* it runs with managed networking */
        bool halted;          /* libvirt has stopped the guest for as long as a call takes */
        bool live_read;       /* what follows has been read, and is not as it was before */
        bool agent;           /* QEMU's guest agent is connected */
        uint64_t live_memory; /* bytes, less the balloon; 0 if it does not run, as the next */
        unsigned live_vcpus;
        DomainInfo *stored;   /* of a VM that is not persistent: the live one */
        ForwardList forwards; /* of all its NICs, with their states */
} VMSnapshot;

const char *vm_state_to_string(VMState state);

/* Reads everything anew. *network is what is known of the VM's managed networking, or NULL; that of
 * a running VM is found when it is not known, and that of a VM that has stopped is ended. `known`:
 * the NICs of the live VM are those that *network tells of, and need not be looked at.
 * Returns 0; -ENOENT when libvirt has no such domain (any more), with no error set; or a negative
 * errno with error set. */
int vm_snapshot_read(virConnectPtr conn, const char *uuid, VMNetwork **network, bool known,
                     VMSnapshot **ret, sd_bus_error *error);
VMSnapshot *vm_snapshot_free(VMSnapshot *s);
DEFINE_CLEANUP(VMSnapshot *, vm_snapshot_free);
