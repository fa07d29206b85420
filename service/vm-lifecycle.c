/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is allowed is decided from the VM's state when the operation's turn comes; libvirt, which
 * knows best, has the last word. Before a VM starts, every port it is to listen on is tried, so
 * that the error names who has the port; libvirt could only say that passt failed. */

#include "vm-lifecycle.h"

#include <errno.h>
#include <libvirt/virterror.h>

#include "autostart.h"
#include "disk.h"
#include "error.h"
#include "log.h"
#include "manager.h"
#include "operation.h"
#include "port-check.h"

static int need_active(Operation *o, sd_bus_error *error) {
        if (vm_is_active(o->vm))
                return 0;
        return sd_bus_error_setf(error, USERVM_ERROR_NOT_RUNNING,
                                 "VM '%s' is not running; start it first", o->name);
}

/* Start */

typedef struct Start {
        ForwardList forwards; /* whose ports have to be free */
        bool managed;         /* managed networking, if the VM has a NIC for it */
} Start;

static void start_free(void *data) {
        Start *s = data;

        if (s)
                forward_list_done(&s->forwards);
        free(s);
}

static int start_prepare(Operation *o, sd_bus_error *error) {
        Start *s;
        int r;

        if (vm_is_active(o->vm))
                return sd_bus_error_setf(error, USERVM_ERROR_ALREADY_RUNNING,
                                         vm_state(o->vm) == VM_PAUSED
                                                 ? "VM '%s' is running, but paused; resume it"
                                                 : "VM '%s' is running already",
                                         o->name);

        s = o->data = new0(Start, 1);
        if (!s)
                return -ENOMEM;
        s->managed = manager_can_manage(o->vm->manager);
        r = forward_list_copy(vm_forwards(o->vm), &s->forwards);
        if (r < 0)
                return r;
        for (size_t i = 0; i < s->forwards.n; i++) {
                r = port_check_other_vms(o->vm->manager, o->vm, &s->forwards.items[i], true, error);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int start_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        const Start *s = o->data;
        int r;

        for (size_t i = 0; i < s->forwards.n; i++) {
                r = port_check_host(&s->forwards.items[i], NULL, error);
                if (r < 0)
                        return r;
        }
        return vm_network_start_domain(conn, domain, s->managed, &o->vm->network, error);
}

static const OperationType start_type = {
        .verb = "start",
        .prepare = start_prepare,
        .run = start_run,
        .free_data = start_free,
        .transition = VM_STARTING,
};

int vm_start(VM *vm, sd_bus_message *message) {
        return operation_submit(vm, &start_type, NULL, message);
}

/* Those that are one call of libvirt's on an active domain */

static int shutdown_run(Operation *o, virConnectPtr conn, virDomainPtr domain,
                        sd_bus_error *error) {
        if (virDomainShutdown(domain) < 0)
                return error_from_libvirt(error, "shut down VM '%s'", o->name);
        return 0;
}

static int power_off_run(Operation *o, virConnectPtr conn, virDomainPtr domain,
                         sd_bus_error *error) {
        if (virDomainDestroy(domain) < 0)
                return error_from_libvirt(error, "power off VM '%s'", o->name);
        return 0;
}

static int reboot_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        if (virDomainReboot(domain, 0) < 0)
                return error_from_libvirt(error, "reboot VM '%s'", o->name);
        return 0;
}

static int reset_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        if (virDomainReset(domain, 0) < 0)
                return error_from_libvirt(error, "reset VM '%s'", o->name);
        return 0;
}

static int pause_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        if (virDomainSuspend(domain) < 0)
                return error_from_libvirt(error, "pause VM '%s'", o->name);
        return 0;
}

static int resume_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        if (virDomainResume(domain) < 0)
                return error_from_libvirt(error, "resume VM '%s'", o->name);
        return 0;
}

static int save_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        if (virDomainManagedSave(domain, 0) < 0)
                return error_from_libvirt(error, "save VM '%s'", o->name);
        return 0;
}

static int need_paused(Operation *o, sd_bus_error *error) {
        int r;

        r = need_active(o, error);
        if (r < 0)
                return r;
        if (vm_state(o->vm) == VM_RUNNING)
                return sd_bus_error_setf(error, USERVM_ERROR_ALREADY_RUNNING,
                                         "VM '%s' is running; it is not paused", o->name);
        return 0;
}

#define DEFINE_ACTIVE_OPERATION(function, need, run_function, verb_text, transition_state)         \
        int function(VM *vm, sd_bus_message *message) {                                            \
                static const OperationType type = {                                                \
                        .verb = verb_text,                                                         \
                        .prepare = need,                                                           \
                        .run = run_function,                                                       \
                        .transition = transition_state,                                            \
                };                                                                                 \
                                                                                                   \
                return operation_submit(vm, &type, NULL, message);                                 \
        }

DEFINE_ACTIVE_OPERATION(vm_shutdown, need_active, shutdown_run, "shut down", VM_STATE_NONE)
DEFINE_ACTIVE_OPERATION(vm_power_off, need_active, power_off_run, "power off", VM_STOPPING)
DEFINE_ACTIVE_OPERATION(vm_reboot, need_active, reboot_run, "reboot", VM_STATE_NONE)
DEFINE_ACTIVE_OPERATION(vm_reset, need_active, reset_run, "reset", VM_STATE_NONE)
DEFINE_ACTIVE_OPERATION(vm_pause, need_active, pause_run, "pause", VM_STATE_NONE)
DEFINE_ACTIVE_OPERATION(vm_resume, need_paused, resume_run, "resume", VM_STATE_NONE)
DEFINE_ACTIVE_OPERATION(vm_save, need_active, save_run, "save", VM_STOPPING)

/* Autostart */

static int autostart_run(Operation *o, virConnectPtr conn, virDomainPtr domain,
                         sd_bus_error *error) {
        const bool *enable = o->data;

        return autostart_set(o->name, *enable, error);
}

static const OperationType autostart_type = {
        .verb = "change autostart of",
        .run = autostart_run,
        .free_data = free,
        .transition = VM_STATE_NONE,
};

int vm_set_autostart(VM *vm, bool enable, sd_bus_message *message) {
        bool *data = new0(bool, 1);

        if (!data)
                return -ENOMEM;
        *data = enable;
        return operation_submit(vm, &autostart_type, data, message);
}

/* Delete */

typedef struct Deletion {
        DeleteOptions options;
        char **storage; /* the files uservm created for the VM */
        bool active, persistent, autostart;
} Deletion;

static void deletion_free(void *data) {
        Deletion *d = data;

        if (d)
                strv_free(d->storage);
        free(d);
}

static int strv_copy(char **strv, char ***ret) {
        _cleanup_(strv_freep) char **copy = NULL;
        size_t n = 0;

        while (strv && strv[n])
                n++;
        copy = new0(char *, n + 1);
        if (!copy)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                copy[i] = strdup(strv[i]);
                if (!copy[i])
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(copy);
        return 0;
}

static int delete_prepare(Operation *o, sd_bus_error *error) {
        Deletion *d = o->data;
        const VMSnapshot *s = o->vm->snapshot;

        if (s->active && !d->options.force)
                return sd_bus_error_setf(
                        error, USERVM_ERROR_BUSY,
                        "VM '%s' is running; power it off first, or delete it with "
                        "the option 'force'",
                        o->name);
        d->active = s->active;
        d->persistent = s->persistent;
        d->autostart = s->autostart;
        return strv_copy(s->stored->storage, &d->storage);
}

/* libvirt's test driver refuses flags it has no use for, as an older libvirt would. */
static int undefine(virDomainPtr domain) {
        const unsigned flags =
                VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;

        if (virDomainUndefineFlags(domain, flags | VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA |
                                                   VIR_DOMAIN_UNDEFINE_NVRAM) >= 0)
                return 0;
        if (virGetLastErrorCode() != VIR_ERR_INVALID_ARG)
                return -1;
        return virDomainUndefineFlags(domain, flags);
}

static int delete_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        const Deletion *d = o->data;
        int r = 0;

        if (d->active && virDomainDestroy(domain) < 0 &&
            virGetLastErrorCode() != VIR_ERR_OPERATION_INVALID) /* it stopped by itself just now */
                return error_from_libvirt(error, "power off VM '%s'", o->name);
        if (d->persistent && undefine(domain) < 0)
                return error_from_libvirt(error, "delete VM '%s'", o->name);

        if (d->autostart)
                r = autostart_set(o->name, false, error);
        if (d->options.storage)
                for (char **path = d->storage; *path; path++) {
                        /* The first failure is the one that is told; the others may go well. */
                        int k = disk_remove(*path, r < 0 ? NULL : error);

                        if (r >= 0)
                                r = k;
                }
        return r;
}

static const OperationType delete_type = {
        .verb = "delete",
        .prepare = delete_prepare,
        .run = delete_run,
        .free_data = deletion_free,
        .transition = VM_STOPPING,
};

int vm_delete(VM *vm, const DeleteOptions *options, sd_bus_message *message) {
        Deletion *d = new0(Deletion, 1);

        if (!d)
                return -ENOMEM;
        d->options = *options;
        return operation_submit(vm, &delete_type, d, message);
}
