/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* After each operation the worker reads the VM anew, whether it went well or not, and the main
 * thread takes that over before it replies. So a client that starts a VM and then reads State sees
 * "running", and nothing has to be guessed from what libvirt was asked to do. libvirt's own events
 * bring the same reading (an operation without a run part), in the same queue: an older reading can
 * never overwrite a newer one.
 *
 * What only reads changes nothing that others could wait for, and takes over nothing that could be
 * older than what is known. It does not wait in the queue, which a save can hold up for minutes. */

#include "operation.h"

#include <errno.h>
#include <libvirt/virterror.h>

#include "connection.h"
#include "error.h"
#include "guest-watch.h"
#include "log.h"
#include "manager.h"
#include "network-watch.h"
#include "worker.h"

/* Calls that wait for their turn or are being served; documented in org.uservm1.Manager.xml. */
#define CALLS_MAX_VM 1000
#define CALLS_MAX 5000

static void operation_begin(VM *vm);

/* Reads the VM and does nothing else. */
static const OperationType refresh_type = { .name = "Read",
                                            .verb = "read",
                                            .transition = VM_STATE_NONE };

static void count_call(const Operation *o, int n) {
        if (!o->message)
                return;
        o->vm->n_calls += n;
        o->vm->manager->n_calls += n;
}

static Operation *operation_free(Operation *o) {
        if (!o)
                return NULL;
        count_call(o, -1);
        if (o->type->free_data)
                o->type->free_data(o->data);
        sd_bus_message_unref(o->message);
        sd_bus_error_free(&o->error);
        vm_snapshot_free(o->snapshot);
        job_free(o->job);
        free(o->name);
        vm_unref(o->vm);
        free(o);
        return NULL;
}

static int run_on_domain(Operation *o, virConnectPtr conn) {
        _cleanup_domain_ virDomainPtr domain = NULL;

        if (!o->type->run)
                return 0;
        if (!o->type->creates) {
                domain = virDomainLookupByUUIDString(conn, o->vm->uuid);
                if (!domain)
                        return error_from_libvirt(&o->error, "%s VM '%s'", o->type->verb, o->name);
        }
        return o->type->run(o, conn, domain, &o->error);
}

/* What others did to the live VM, libvirt tells. */
static bool is_live_known(const Operation *o) {
        return o->type->spares_live && o->n_live_changes == o->n_live_changes_known;
}

static int read_vm(Operation *o, sd_bus_error *error) {
        _cleanup_connect_ virConnectPtr conn = NULL;
        int r;

        r = connection_acquire(o->vm->manager->connection, &conn, error);
        if (r < 0)
                return r;
        o->n_changes = o->vm->n_changes;
        o->n_live_changes = o->vm->n_live_changes;
        return vm_snapshot_read(conn, o->vm->uuid, &o->vm->network, is_live_known(o), &o->snapshot,
                                error);
}

/* If that cannot be read, libvirt's daemon has died, most likely, and the operation may have done
 * half of what it should. Then the next reading makes what is stored and what is live agree, as
 * that of a new uservmd does. */
static void read_result(Operation *o) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = read_vm(o, &error);
        if (r == -ENOENT && !sd_bus_error_is_set(&error))
                o->vanished = true;
        else if (r < 0) {
                log_write(LOG_WARNING, OPERATION_SUBJECT(o), "VM '%s': %s", o->name ?: o->vm->uuid,
                          error.message ?: strerror(-r));
                o->unread = true;
                if (o->type->run && o->vm->network)
                        o->vm->network->in_doubt = true;
        }
}

/* A failure that nobody has explained: mostly a lack of memory. */
static void set_error(Operation *o, int r) {
        if (r < 0 && !sd_bus_error_is_set(&o->error))
                (void) error_from_errno(&o->error, -r, "%s VM '%s'", o->type->verb,
                                        o->name ?: o->vm->uuid);
}

static void operation_run(void *userdata) {
        Operation *o = userdata;
        _cleanup_connect_ virConnectPtr conn = NULL;
        int r;

        r = o->type->takes_long
                    ? connection_open_another(o->vm->manager->connection, &conn, &o->error)
                    : connection_acquire(o->vm->manager->connection, &conn, &o->error);
        if (r < 0)
                return;
        r = run_on_domain(o, conn);
        set_error(o, r);
        if (!o->type->only_reads)
                read_result(o);
}

static void send_reply(Operation *o) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        if (!o->message)
                return;
        if (sd_bus_error_is_set(&o->error)) {
                (void) sd_bus_reply_method_error(o->message, &o->error);
                return;
        }

        r = sd_bus_message_new_method_return(o->message, &reply);
        if (r >= 0 && o->type->reply)
                r = o->type->reply(o, reply);
        if (r < 0)
                (void) sd_bus_reply_method_errno(o->message, r, NULL);
        else
                (void) sd_bus_send(NULL, reply, NULL);
}

/* Of what nobody asked for, only failures: what it did, if anything, it logs itself. */
static void log_result(const Operation *o, bool logged) {
        if (sd_bus_error_is_set(&o->error))
                log_write(LOG_WARNING, OPERATION_SUBJECT(o), "%s VM '%s': %s", o->type->verb,
                          o->name, o->error.message);
        else if (o->message && !logged)
                log_write(LOG_INFO, OPERATION_SUBJECT(o), "%s VM '%s': done", o->type->verb,
                          o->name);
}

/* What was of no use in the state that the VM is in, or not wanted any more, is no failure. */
static bool is_failure(const sd_bus_error *error) {
        return sd_bus_error_is_set(error) &&
               !sd_bus_error_has_names(error, USERVM_ERROR_ALREADY_RUNNING,
                                       USERVM_ERROR_NOT_RUNNING, USERVM_ERROR_BUSY,
                                       USERVM_ERROR_FORWARD_EXISTS, USERVM_ERROR_NO_SUCH_FORWARD,
                                       USERVM_ERROR_CANCELLED);
}

static void note_result(const Operation *o) {
        if (!o->vm->snapshot || o->type == &refresh_type)
                return;
        if (is_failure(&o->error))
                vm_set_last_error(o->vm, o->type->name, o->error.message);
        else if (!sd_bus_error_is_set(&o->error))
                vm_set_last_error(o->vm, o->type->name, NULL);
}

static bool take_result(Operation *o) {
        const OperationType *type = o->type;
        bool starts_or_stops = type->creates || type->transition != VM_STATE_NONE;

        if (o->snapshot) {
                o->vm->n_changes_read = o->n_changes;
                o->vm->n_live_changes_read = o->n_live_changes;
                return vm_update(o->vm, TAKE_PTR(o->snapshot), starts_or_stops ? type->name : NULL);
        }
        if (o->vanished)
                vm_vanish(o->vm);
        else
                vm_set_transition(o->vm, VM_STATE_NONE);
        return false;
}

static void operation_finish(Operation *o) {
        VM *vm = o->vm;
        bool logged;

        forward_list_done(&vm->reserved);
        o->job = job_free(o->job);
        if (sd_bus_error_is_set(&o->error))
                error_make_utf8(&o->error);
        logged = take_result(o);
        log_result(o, logged);
        note_result(o);
        if (o->unread || (vm->network && vm->network->in_doubt))
                manager_read_later(vm->manager);
        network_watch_update(vm);
        guest_watch_update(vm);
        send_reply(o);
}

static void operation_done(void *userdata) {
        Operation *o = userdata;
        _cleanup_(vm_unrefp) VM *vm = vm_ref(o->vm);

        operation_finish(o);
        vm->operations = o->next;
        operation_free(o);
        operation_begin(vm);
}

static int operation_prepare(Operation *o) {
        int r;

        if (o->type == &refresh_type)
                o->vm->refresh_waiting = false;
        o->name = strdup(o->vm->name ?: o->vm->uuid);
        if (!o->name)
                return -ENOMEM;
        o->n_live_changes_known = o->vm->n_live_changes_read;
        if (o->type != &refresh_type && !o->vm->snapshot && !o->type->creates)
                return sd_bus_error_setf(&o->error, USERVM_ERROR_NO_SUCH_VM,
                                         "VM '%s' has just been deleted", o->name);
        if (o->type->prepare) {
                r = o->type->prepare(o, &o->error);
                if (r < 0)
                        return r;
        }
        if (o->type->transition != VM_STATE_NONE)
                vm_set_transition(o->vm, o->type->transition);
        return worker_submit(o->vm->manager->workers, operation_run, operation_done, o);
}

/* A refresh is for nothing when the VM has been read since the change that it is for. */
static bool is_needless(const Operation *o) {
        return o->type == &refresh_type && o->vm->snapshot &&
               o->vm->n_changes_read == o->vm->n_changes;
}

/* Starts the first operation of the VM's queue; one that is refused ends at once. */
static void operation_begin(VM *vm) {
        Operation *o;
        int r;

        while ((o = vm->operations)) {
                if (is_needless(o)) {
                        vm->refresh_waiting = false;
                        vm->operations = o->next;
                        operation_free(o);
                        continue;
                }
                r = operation_prepare(o);
                if (r >= 0)
                        return;
                set_error(o, r);
                operation_finish(o);
                vm->operations = o->next;
                operation_free(o);
        }
        manager_vm_idle(vm->manager, vm);
}

static void reading_done(void *userdata) {
        Operation *o = userdata;

        if (sd_bus_error_is_set(&o->error))
                error_make_utf8(&o->error);
        send_reply(o);
        operation_free(o);
}

/* Beside the queue. */
static void reading_begin(Operation *o) {
        int r;

        o->name = strdup(o->vm->name ?: o->vm->uuid);
        r = o->name ? worker_submit(o->vm->manager->workers, operation_run, reading_done, o)
                    : -ENOMEM;
        if (r >= 0)
                return;
        set_error(o, r);
        reading_done(o);
}

/* So that nobody can have uservmd fill the memory with calls. Returns 1 if this one is refused. */
static int check_limits(const VM *vm, sd_bus_message *message) {
        const Manager *m = vm->manager;

        if (!message || (vm->n_calls < CALLS_MAX_VM && m->n_calls < CALLS_MAX))
                return 0;
        (void) sd_bus_reply_method_errorf(message, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                          "Too many calls wait already (%u for VM '%s', %u in "
                                          "all); wait for their replies first",
                                          vm->n_calls, vm->name ?: vm->uuid, m->n_calls);
        return 1;
}

static int operation_new(VM *vm, const OperationType *type, void *data, sd_bus_message *message,
                         Operation **ret) {
        Operation *o;
        int r;

        r = check_limits(vm, message);
        if (r != 0)
                return r;
        o = new0(Operation, 1);
        if (!o)
                return -ENOMEM;
        *o = (Operation){
                .type = type, .vm = vm_ref(vm), .message = sd_bus_message_ref(message), .data = data
        };
        count_call(o, 1);
        *ret = o;
        return 0;
}

int operation_submit(VM *vm, const OperationType *type, void *data, sd_bus_message *message) {
        Operation *o = NULL, **last;
        int r;

        r = operation_new(vm, type, data, message, &o);
        if (!o) {
                if (type->free_data)
                        type->free_data(data);
                if (!vm->operations)
                        manager_vm_idle(vm->manager, vm); /* it may never come to be */
                return r;
        }

        if (type->only_reads) {
                reading_begin(o);
                return 1;
        }
        for (last = &vm->operations; *last; last = &(*last)->next)
                ;
        *last = o;
        if (vm->operations == o)
                operation_begin(vm);
        return 1;
}

int vm_refresh(VM *vm, bool live) {
        int r;

        if (live)
                vm->n_live_changes++; /* first: who sees the other one sees this one, too */
        vm->n_changes++;
        if (vm->refresh_waiting)
                return 0;
        vm->refresh_waiting = true;
        r = operation_submit(vm, &refresh_type, NULL, NULL);
        if (r < 0)
                vm->refresh_waiting = false;
        return r;
}
