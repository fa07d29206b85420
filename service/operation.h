/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Something that is done to a VM, most often because a D-Bus call asks for it. Operations on one VM
 * run one after the other in the order in which they came, but for those that only read; those on
 * different VMs side by side. Each has up to three parts, and a reply that is sent when all is done
 * and the VM's properties show it. */

#include <libvirt/libvirt.h>
#include <systemd/sd-bus.h>

#include "job.h"
#include "log.h"
#include "vm.h"

typedef struct OperationType {
        /* What it is called in the journal and in LastError: as the method of org.uservm1.VM. */
        const char *name;

        /* For messages: "start", as in "Could not start VM 'web': ..." */
        const char *verb;

        /* Main thread, when its turn has come: is it allowed now, and what will it need? Sees the
         * effect of every operation before it. May be NULL. */
        int (*prepare)(Operation *o, sd_bus_error *error);

        /* Worker: does it. Sees o->data and o->name, and of the VM its UUID and its network only.
         * domain is NULL for a VM that is being created. May be NULL: the VM is just read. */
        int (*run)(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error);

        /* Main thread, after success: appends the reply's arguments. May be NULL: an empty reply.
         */
        int (*reply)(Operation *o, sd_bus_message *reply);

        void (*free_data)(void *data);
        VMState transition; /* the state to show meanwhile, or VM_STATE_NONE */
        bool creates;       /* there is no domain yet */
        bool spares_live;   /* of the live VM it changes the network at most */
        bool takes_long;    /* libvirt's part of it does, as it waits for QEMU */
        bool only_reads;    /* it changes nothing: it is done at once, there is nothing to prepare
                               before, to read anew after, or to log */
} OperationType;

struct Operation {
        const OperationType *type;
        VM *vm;
        sd_bus_message *message; /* the call to answer, or NULL */
        void *data;              /* the type's own */
        char *name;              /* the VM's, for messages */
        Job *job;                /* that others see of it, made by prepare; or NULL */

        /* Results, from the worker. */
        sd_bus_error error;
        VMSnapshot *snapshot;
        bool vanished;
        bool unread;                        /* reading the VM has failed */
        unsigned n_changes, n_live_changes; /* of the VM, when it was read */

        unsigned n_live_changes_known; /* of the VM, when it was read before */

        Operation *next;
};

/* For log_write(): what the operation is about. */
#define OPERATION_SUBJECT(o)                                                                       \
        (&(const LogSubject){                                                                      \
                .vm = (o)->name, .uuid = (o)->vm->uuid, .operation = (o)->type->name })

/* Queues an operation; takes over data (also on failure). message may be NULL. Returns 1, as a
 * D-Bus method handler that will reply later does, or a negative errno. */
int operation_submit(VM *vm, const OperationType *type, void *data, sd_bus_message *message);

/* libvirt told of a change (live: not of the stored definition alone): has the VM read again,
 * unless an operation reads it later than this anyway. Returns as operation_submit(). */
int vm_refresh(VM *vm, bool live);
