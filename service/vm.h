/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One VM, as the main thread knows it: what libvirt said of it last, what is being done to it, and
 * what is waiting to be done. Everything here belongs to the main thread. */

#include "forward.h"
#include "vm-snapshot.h"

typedef struct Manager Manager;
typedef struct Operation Operation;
typedef struct NetworkWatch NetworkWatch;
typedef struct GuestWatch GuestWatch;

/* What was done to a VM last without success; operation is NULL when there is no such thing. */
typedef struct LastError {
        const char *operation; /* its name, not copied */
        char *message;
        uint64_t time; /* CLOCK_REALTIME, microseconds */
} LastError;

typedef struct VM {
        Manager *manager;
        unsigned n_ref;

        char *uuid;
        char *path; /* D-Bus object path */
        char *name; /* follows the snapshot; of a VM that is being created, the name to be */
        VMSnapshot *snapshot; /* NULL: not known yet, and not on the bus */
        bool gone;            /* libvirt has it no more; what waits for it is yet to be told so */
        VMState transition; /* VM_STARTING or VM_STOPPING while such an operation runs, else NONE */

        VMNetwork
                *network; /* NULL: not managed, or not known; vm-network.h says who may touch it */
        NetworkWatch *watch; /* over the passts of the network, or NULL */
        GuestWatch *guest;   /* over the guest of a VM that runs, or NULL */

        LastError last_error;

        Operation *operations; /* the first one runs, the others wait in order */
        ForwardList reserved;  /* forwards the running operation is about to add or start */
        unsigned n_calls;      /* those of them that somebody waits for */
        bool refresh_waiting;  /* a refresh is queued that has not begun */

        /* How often libvirt has told of a change (of those that are live, too), and up to which of
         * them the snapshot is good: a worker notes the first before it reads. */
        _Atomic unsigned n_changes;
        _Atomic unsigned n_live_changes;
        unsigned n_changes_read, n_live_changes_read;
} VM;

/* A VM that is not on the bus yet. name may be NULL: not known yet. */
int vm_new(Manager *manager, const char *uuid, const char *name, VM **ret);
VM *vm_ref(VM *vm);
VM *vm_unref(VM *vm);
DEFINE_CLEANUP(VM *, vm_unref);

/* Takes over a new snapshot and the end of any transition, and tells the bus what changed: the VM
 * appears with its first snapshot. The journal is told if it has started or stopped since the one
 * before, or if forwards have failed; operation is the name of what was done to it meanwhile, or
 * NULL. Returns whether it has started or stopped. */
bool vm_update(VM *vm, VMSnapshot *snapshot, const char *operation);

/* Shows a passing state until the next vm_update(). */
void vm_set_transition(VM *vm, VMState transition);

/* What the host can do has become known, or changed: tells the bus what that means for the VM. */
void vm_host_changed(VM *vm);

/* libvirt has no such domain any more: off the bus and out of the manager's list. */
void vm_vanish(VM *vm);

/* An operation has failed, or with a message of NULL gone well, which makes up for an earlier
 * failure of the same one. */
void vm_set_last_error(VM *vm, const char *operation, const char *message);

bool vm_is_active(const VM *vm);
VMState vm_state(const VM *vm);
const char *vm_network(const VM *vm);       /* "managed", "native" or "none" */
const char *vm_network_error(const VM *vm); /* what is wrong with it, or "" */
const ForwardList *vm_forwards(const VM *vm);
