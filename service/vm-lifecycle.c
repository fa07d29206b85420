/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is allowed is decided from the VM's state when the operation's turn comes; libvirt, which
 * knows best, has the last word. Before a VM starts, every port it is to listen on is tried, so
 * that the error names who has the port; libvirt could only say that passt failed. */

#include "vm-lifecycle.h"

#include <errno.h>
#include <libvirt/virterror.h>

#include "autostart.h"
#include "disk-check.h"
#include "error.h"
#include "log.h"
#include "manager.h"
#include "operation.h"
#include "port-check.h"
#include "save.h"
#include "storage.h"
#include "utf8.h"

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
        return forward_list_extend(&o->vm->reserved, &s->forwards);
}

static int start_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        const Start *s = o->data;
        int r;

        /* Somebody may have started it, or the reading after a start have failed. */
        if (virDomainIsActive(domain) > 0)
                return sd_bus_error_setf(error, USERVM_ERROR_ALREADY_RUNNING,
                                         "VM '%s' is running already", o->name);
        for (size_t i = 0; i < s->forwards.n; i++) {
                r = port_check_host(&s->forwards.items[i], NULL, error);
                if (r < 0)
                        return r;
        }
        return vm_network_start_domain(conn, domain, s->managed, &o->vm->network, error);
}

static const OperationType start_type = {
        .name = "Start",
        .verb = "start",
        .prepare = start_prepare,
        .run = start_run,
        .free_data = start_free,
        .transition = VM_STARTING,
        .takes_long = true,
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
        if (virDomainDestroy(domain) < 0 &&
            virGetLastErrorCode() != VIR_ERR_OPERATION_INVALID) /* it stopped by itself just now */
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

/* libvirt does not resume a guest that has suspended itself. */
static int resume_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        int state, r;

        r = virDomainGetState(domain, &state, NULL, 0);
        if (r >= 0)
                r = state == VIR_DOMAIN_PMSUSPENDED ? virDomainPMWakeup(domain, 0)
                                                    : virDomainResume(domain);
        return r < 0 ? error_from_libvirt(error, "resume VM '%s'", o->name) : 0;
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

#define DEFINE_ACTIVE_OPERATION(function, need, run_function, name_text, verb_text,                \
                                transition_state)                                                  \
        int function(VM *vm, sd_bus_message *message) {                                            \
                static const OperationType type = {                                                \
                        .name = name_text,                                                         \
                        .verb = verb_text,                                                         \
                        .prepare = need,                                                           \
                        .run = run_function,                                                       \
                        .transition = transition_state,                                            \
                };                                                                                 \
                                                                                                   \
                return operation_submit(vm, &type, NULL, message);                                 \
        }

DEFINE_ACTIVE_OPERATION(vm_shutdown, need_active, shutdown_run, "Shutdown", "shut down",
                        VM_STATE_NONE)
DEFINE_ACTIVE_OPERATION(vm_power_off, need_active, power_off_run, "PowerOff", "power off",
                        VM_STOPPING)
DEFINE_ACTIVE_OPERATION(vm_reboot, need_active, reboot_run, "Reboot", "reboot", VM_STATE_NONE)
DEFINE_ACTIVE_OPERATION(vm_reset, need_active, reset_run, "Reset", "reset", VM_STATE_NONE)
DEFINE_ACTIVE_OPERATION(vm_pause, need_active, pause_run, "Pause", "pause", VM_STATE_NONE)
DEFINE_ACTIVE_OPERATION(vm_resume, need_paused, resume_run, "Resume", "resume", VM_STATE_NONE)

/* Save, which is a job */

static int save_prepare(Operation *o, sd_bus_error *error) {
        int r;

        r = need_active(o, error);
        return r < 0 ? r : job_new(o->vm->manager, JOB_SAVE, o->vm->name, &o->job);
}

static int save_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        return save_domain(domain, o->name, o->job, error);
}

static const OperationType save_type = {
        .name = "Save",
        .verb = "save",
        .prepare = save_prepare,
        .run = save_run,
        .transition = VM_STOPPING,
        .takes_long = true,
};

int vm_save(VM *vm, sd_bus_message *message) {
        return operation_submit(vm, &save_type, NULL, message);
}

/* Autostart */

static int autostart_run(Operation *o, virConnectPtr conn, virDomainPtr domain,
                         sd_bus_error *error) {
        const bool *enable = o->data;

        return autostart_set(o->name, *enable, error);
}

static const OperationType autostart_type = {
        .name = "Autostart",
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
        DomainInfo *info; /* the snapshot's, which outlives the operation's run */
        bool active, persistent, autostart;
        bool shares_nvram; /* with another VM */
        DiskUsers files;   /* of other VMs */
        DiskUsers images;  /* those of them that may be based on a disk of this one */
        Storage storage;
        char **removed, **left; /* files, NULL-terminated */
        size_t n_removed, n_left;
} Deletion;

static void deletion_free(void *data) {
        Deletion *d = data;

        if (d) {
                disk_users_done(&d->files);
                disk_users_done(&d->images);
                strv_free(d->removed);
                strv_free(d->left);
        }
        free(d);
}

/* What uservm's own disks are based on is noted, what others are, only they know. */
static int note_images(Deletion *d, const DomainInfo *info) {
        int r = 0;

        for (size_t i = 0; i < info->n_disks && r >= 0; i++) {
                const DomainDisk *disk = &info->disks[i];

                if (disk->path && !streq_ptr(disk->format, "raw") &&
                    !domain_info_created(info, disk->path))
                        r = disk_users_add(&d->images, info->name, disk->path, true, false);
        }
        return r;
}

/* A clone of the VM by another tool does not have copies of all files, and it is not only a clone
 * that can have a disk in common. */
static int note_files_of_others(Deletion *d, const VM *vm) {
        const Manager *m = vm->manager;

        for (size_t i = 0; i < m->n_vms; i++) {
                const DomainInfo *info = m->vms[i]->snapshot ? m->vms[i]->snapshot->stored : NULL;
                int r;

                if (m->vms[i] == vm || !info)
                        continue;
                if (info->nvram && streq_ptr(info->nvram, d->info->nvram))
                        d->shares_nvram = true;
                r = disk_users_add_domain(&d->files, info);
                if (r >= 0)
                        r = note_images(d, info);
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool is_to_go(const Deletion *d, const DomainStorage *storage) {
        return storage->is_own && (d->options.storage || storage->is_setup) &&
               !disk_has_user(storage->path, &d->files) &&
               (storage->is_setup || !disk_is_base(storage->path, &d->images));
}

static int refuse_running(const Operation *o, sd_bus_error *error) {
        return sd_bus_error_setf(error, USERVM_ERROR_BUSY,
                                 "VM '%s' is running; power it off first, or delete it with the "
                                 "option 'force'",
                                 o->name);
}

/* The VM's snapshot stays as it is until this operation has ended. */
static int delete_prepare(Operation *o, sd_bus_error *error) {
        Deletion *d = o->data;
        const VMSnapshot *s = o->vm->snapshot;

        if (s->active && !d->options.force)
                return refuse_running(o, error);
        d->active = s->active;
        d->persistent = s->persistent;
        d->autostart = s->autostart;
        d->info = s->stored;
        d->removed = new0(char *, d->info->n_storage + 1);
        d->left = new0(char *, d->info->n_disks + 2 * d->info->n_storage + 1);
        if (!d->removed || !d->left)
                return -ENOMEM;
        return note_files_of_others(d, o->vm);
}

/* libvirt's test driver refuses flags it has no use for, as an older libvirt would. */
static int undefine(virDomainPtr domain, bool keep_nvram) {
        const unsigned flags =
                VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;

        if (virDomainUndefineFlags(domain, flags | VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA |
                                                   (keep_nvram ? VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
                                                               : VIR_DOMAIN_UNDEFINE_NVRAM)) >= 0)
                return 0;
        if (virGetLastErrorCode() != VIR_ERR_INVALID_ARG)
                return -1;
        return virDomainUndefineFlags(domain, flags);
}

static int withdraw_storage(Deletion *d, sd_bus_error *error) {
        for (size_t i = 0; i < d->info->n_storage; i++) {
                const DomainStorage *storage = &d->info->storage[i];
                int r;

                if (!is_to_go(d, storage))
                        continue;
                r = storage_withdraw(&d->storage, storage->path, error);
                if (r < 0)
                        return r;
                if (r > 0) {
                        d->removed[d->n_removed] = strdup(storage->path);
                        if (!d->removed[d->n_removed++])
                                return -ENOMEM;
                }
        }
        return 0;
}

/* Files that the VM had, and what its own were on top of. */
static int note_left(Deletion *d, const char *path) {
        if (!path || strv_contains(d->removed, path) || strv_contains(d->left, path) ||
            access(path, F_OK) < 0)
                return 0;
        d->left[d->n_left] = strdup(path);
        return d->left[d->n_left++] ? 0 : -ENOMEM;
}

static int note_all_left(Deletion *d) {
        int r = 0;

        for (size_t i = 0; i < d->info->n_disks && r >= 0; i++)
                r = note_left(d, d->info->disks[i].path);
        for (size_t i = 0; i < d->info->n_storage && r >= 0; i++) {
                if (!d->info->storage[i].is_own)
                        continue;
                r = note_left(d, d->info->storage[i].path);
                if (r >= 0)
                        r = note_left(d, d->info->storage[i].base);
        }
        return r;
}

/* If libvirt's daemon dies over it, the next one is told again. -ENOTCONN: there is none, so it is
 * not known whether it is done. */
static int delete_definition(Operation *o, virDomainPtr domain, sd_bus_error *error) {
        const Deletion *d = o->data;
        _cleanup_domain_ virDomainPtr again = NULL;
        int r, q;

        if (undefine(domain, d->shares_nvram) >= 0)
                return 0;
        r = error_from_libvirt(error, "delete VM '%s'", o->name);
        q = connection_find_again(o->vm->manager->connection, domain, &again, NULL);
        if (q == 0)
                return r;
        if (q < 0 && q != -ENOENT)
                return -ENOTCONN;
        sd_bus_error_free(error);
        if (q < 0 || undefine(again, d->shares_nvram) >= 0)
                return 0;
        return error_from_libvirt(error, "delete VM '%s'", o->name);
}

/* Another tool may have started it since it was read. */
static int check_stopped(Operation *o, virDomainPtr domain, sd_bus_error *error) {
        const Deletion *d = o->data;

        if (virDomainIsActive(domain) <= 0)
                return 0;
        if (!d->options.force)
                return refuse_running(o, error);
        return power_off_run(o, virDomainGetConnect(domain), domain, error);
}

/* The definition goes last but for the files, which are only hidden before that: so what is cut
 * short can be begun again, or is finished by the next uservmd (storage.c). */
static int delete_all(Operation *o, virDomainPtr domain, sd_bus_error *error) {
        Deletion *d = o->data;
        int r;

        r = withdraw_storage(d, error);
        if (r >= 0 && d->autostart)
                r = autostart_set(o->name, false, error);
        if (r < 0 || !d->persistent)
                return r;
        r = check_stopped(o, domain, error);
        if (r >= 0)
                r = delete_definition(o, domain, error);
        if (r < 0 && d->autostart)
                (void) autostart_set(o->name, true, NULL);
        return r;
}

static int delete_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        Deletion *d = o->data;
        int r;

        if (d->active) {
                r = power_off_run(o, conn, domain, error);
                if (r < 0)
                        return r;
        }
        d->storage.uuid = o->vm->uuid;
        r = delete_all(o, domain, error);
        if (r == -ENOTCONN)
                storage_leave(&d->storage);
        else if (r < 0)
                storage_restore(&d->storage);
        else
                storage_done(&d->storage);
        return r < 0 ? r : note_all_left(d);
}

/* A name that D-Bus cannot carry must not make a failure of what is done. */
static int append_files(sd_bus_message *reply, const char *key, char **files) {
        int r;

        for (char **file = files; *file; file++)
                utf8_make_valid(*file);
        r = sd_bus_message_open_container(reply, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(reply, "s", key);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_append_strv(reply, files);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int delete_reply(Operation *o, sd_bus_message *reply) {
        const Deletion *d = o->data;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "{sv}");
        if (r >= 0)
                r = append_files(reply, "removed", d->removed);
        if (r >= 0)
                r = append_files(reply, "left", d->left);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static const OperationType delete_type = {
        .name = "Delete",
        .verb = "delete",
        .prepare = delete_prepare,
        .run = delete_run,
        .reply = delete_reply,
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
