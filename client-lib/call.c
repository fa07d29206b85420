/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How operations are carried out: waiting for the reply, or with a callback.
 *
 * Most methods take the name of a VM on the manager, some are on the VM's own object only, whose
 * path has to be asked for first. An Operation is one call, or such a pair.
 *
 *     sent ──reply──> (second call sent ──reply──>) result read ──> callback ──> gone
 *       └───────────── cancelled, or handle closed ──────────────────────────────> gone
 *
 * To cancel is to forget: D-Bus has no way to take a request back. While its callback runs, a call
 * is not in its handle's list any more, so that to close the handle leaves it alone. */

#include <errno.h>

#include "internal.h"

struct uservm_call {
        uservm *u; /* which the callback may close */
        uservm_call *next;
        uservm_call **link; /* what points to this call; NULL: not in the list */
        sd_bus_slot *slot;
        Operation operation;
        Result result;
        uservm_callback callback;
        void *userdata;
};

void result_clear(Result *result) {
        switch (result->type) {
        case RESULT_NONE:
                break;
        case RESULT_VM:
                uservm_vm_unref(result->vm);
                break;
        case RESULT_VMS:
                uservm_vms_free(result->vms);
                break;
        case RESULT_FORWARD:
                uservm_forward_unref(result->forward);
                break;
        case RESULT_FORWARDS:
                uservm_forwards_free(result->forwards);
                break;
        case RESULT_HOST:
                uservm_host_unref(result->host);
                break;
        case RESULT_DISKS:
                uservm_disks_free(result->disks);
                break;
        case RESULT_DELETION:
                uservm_deletion_unref(result->deletion);
                break;
        case RESULT_JOBS:
                uservm_jobs_free(result->jobs);
                break;
        }
        *result = (Result){};
}

void operation_clear(Operation *o) {
        o->first = sd_bus_message_unref(o->first);
        o->second = sd_bus_message_unref(o->second);
}

/* One of the two lists; the other goes. */
static int read_objects(sd_bus_message *reply, Result *result) {
        _cleanup_(objects_done) Objects o = {};
        int r;

        r = objects_read(reply, &o);
        if (r < 0)
                return r;
        if (result->type == RESULT_VMS) {
                result->vms = TAKE_PTR(o.vms);
                result->n = o.n_vms;
        } else {
                result->jobs = TAKE_PTR(o.jobs);
                result->n = o.n_jobs;
        }
        return 0;
}

static int read_result(sd_bus_message *reply, ResultType type, Result *ret) {
        Result result = { .type = type };
        int r = 0;

        switch (type) {
        case RESULT_NONE:
                break;
        case RESULT_VM:
                r = vm_read(reply, "", NULL, &result.vm);
                break;
        case RESULT_VMS:
        case RESULT_JOBS:
                r = read_objects(reply, &result);
                break;
        case RESULT_FORWARD:
                r = forward_read(reply, &result.forward);
                break;
        case RESULT_FORWARDS:
                r = forward_read_list(reply, &result.forwards, &result.n);
                break;
        case RESULT_HOST:
                r = host_read(reply, &result.host);
                break;
        case RESULT_DISKS:
                r = disk_read_list(reply, &result.disks, &result.n);
                break;
        case RESULT_DELETION:
                r = deletion_read(reply, &result.deletion);
                break;
        }
        if (r < 0)
                return r;
        *ret = result;
        return 0;
}

/* The second call, for the object whose path is in the reply of the first. */
static int make_second(sd_bus *bus, sd_bus_message *template, sd_bus_message *reply,
                       sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        const char *path;
        int r;

        r = sd_bus_message_read(reply, "o", &path);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_call(bus, &m, SERVICE_NAME, path,
                                           sd_bus_message_get_interface(template),
                                           sd_bus_message_get_member(template));
        if (r < 0)
                return r;
        r = sd_bus_message_copy(m, template, true);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

/* A message can be copied when it is sealed; the cookie is never sent. */
static int seal_second(Operation *o) {
        return o->second ? sd_bus_message_seal(o->second, 1, 0) : 0;
}

static bool is_gone(const sd_bus_error *error) {
        return sd_bus_error_has_name(error, SD_BUS_ERROR_UNKNOWN_OBJECT) ||
               sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
               sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER);
}

static int fail_first(uservm *u, const Operation *o, const sd_bus_error *error) {
        return o->gone_is_done && is_gone(error) ? handle_succeed(u) : handle_fail(u, error);
}

/* A VM that is deleted between the two calls has no object any more. */
static int fail_second(uservm *u, const sd_bus_error *error) {
        _cleanup_(sd_bus_error_free) sd_bus_error no_vm = SD_BUS_ERROR_NULL;

        if (!sd_bus_error_has_name(error, SD_BUS_ERROR_UNKNOWN_OBJECT))
                return handle_fail(u, error);
        sd_bus_error_set(&no_vm, "org.uservm1.Error.NoSuchVM", "The VM has just been deleted");
        return handle_fail(u, &no_vm);
}

/* Waiting */

static int wait_second(uservm *u, const Operation *o, sd_bus_message **reply) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *first_reply = NULL;
        int r;

        first_reply = TAKE_PTR(*reply);
        r = make_second(u->bus, o->second, first_reply, &m);
        if (r < 0)
                return handle_fail_read(u, r);
        r = sd_bus_call(u->bus, m, o->second_timeout, &error, reply);
        return r < 0 ? fail_second(u, &error) : 0;
}

int operation_wait(uservm *u, Operation *o, int r, Result *ret) {
        _cleanup_(operation_clear) Operation operation = *o;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(result_clear) Result result = {};

        *o = (Operation){};
        if (r < 0)
                return r;
        r = seal_second(&operation);
        if (r < 0)
                return handle_fail_errno(u, r);
        r = sd_bus_call(u->bus, operation.first, operation.first_timeout, &error, &reply);
        if (r < 0)
                return fail_first(u, &operation, &error);
        if (operation.second) {
                r = wait_second(u, &operation, &reply);
                if (r < 0)
                        return r;
        }
        r = read_result(reply, operation.type, &result);
        if (r < 0)
                return handle_fail_read(u, r);
        *ret = result;
        result = (Result){};
        return handle_succeed(u);
}

/* Calling back */

static void call_unlink(uservm_call *call) {
        if (!call->link)
                return;
        *call->link = call->next;
        if (call->next)
                call->next->link = call->link;
        call->link = NULL;
}

static void call_free(uservm_call *call) {
        call_unlink(call);
        sd_bus_slot_unref(call->slot);
        operation_clear(&call->operation);
        result_clear(&call->result);
        free(call);
}
DEFINE_CLEANUP(uservm_call *, call_free);

static int call_finish(uservm_call *call, int r) {
        call_unlink(call);
        if (call->callback)
                call->callback(call, r, call->userdata);
        call_free(call);
        return 0;
}

static int on_last_reply(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        uservm_call *call = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        int r;

        if (error)
                return call_finish(call, call->operation.second
                                                 ? fail_second(call->u, error)
                                                 : fail_first(call->u, &call->operation, error));
        r = read_result(reply, call->operation.type, &call->result);
        return call_finish(call, r < 0 ? handle_fail_read(call->u, r) : handle_succeed(call->u));
}

static int send_second(uservm_call *call, sd_bus_message *reply) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = make_second(call->u->bus, call->operation.second, reply, &m);
        if (r < 0)
                return r;
        call->slot = sd_bus_slot_unref(call->slot);
        return sd_bus_call_async(call->u->bus, &call->slot, m, on_last_reply, call,
                                 call->operation.second_timeout);
}

static int on_first_reply(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        uservm_call *call = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        int r;

        if (error)
                return call_finish(call, handle_fail(call->u, error));
        r = send_second(call, reply);
        return r < 0 ? call_finish(call, handle_fail_read(call->u, r)) : 0;
}

static int call_send(uservm_call *call) {
        Operation *o = &call->operation;
        int r;

        r = seal_second(o);
        if (r < 0)
                return r;
        r = sd_bus_call_async(call->u->bus, &call->slot, o->first,
                              o->second ? on_first_reply : on_last_reply, call, o->first_timeout);
        o->first = sd_bus_message_unref(o->first); /* it may have secrets, and is sent */
        return r;
}

static void call_link(uservm_call *call) {
        uservm *u = call->u;

        call->next = u->calls;
        if (call->next)
                call->next->link = &call->next;
        call->link = &u->calls;
        u->calls = call;
}

int operation_send(uservm *u, Operation *o, int r, uservm_callback callback, void *userdata,
                   uservm_call **ret) {
        _cleanup_(call_freep) uservm_call *call = NULL;

        if (r >= 0) {
                call = new0(uservm_call, 1);
                if (!call)
                        r = handle_fail_errno(u, -ENOMEM);
        }
        if (r < 0) {
                operation_clear(o);
                return r;
        }
        call->u = u;
        call->callback = callback;
        call->userdata = userdata;
        call->operation = *o;
        *o = (Operation){};
        r = call_send(call);
        if (r < 0)
                return handle_fail_errno(u, r);
        call_link(call);
        if (ret)
                *ret = call;
        call = NULL;
        return 0;
}

void call_abandon(uservm_call *call) {
        call_free(call);
}

_public_ uservm_call *uservm_call_cancel(uservm_call *call) {
        if (call && call->link)
                call_free(call);
        return NULL;
}

_public_ uservm *uservm_call_get_handle(uservm_call *call) {
        return call ? call->u : NULL;
}

static void *call_result(uservm_call *call, ResultType type, size_t *ret_n) {
        bool has = call && call->result.type == type;

        if (ret_n)
                *ret_n = has ? call->result.n : 0;
        return has ? call->result.pointer : NULL;
}

_public_ const uservm_vm *uservm_call_get_vm(uservm_call *call) {
        return call_result(call, RESULT_VM, NULL);
}

_public_ uservm_vm *const *uservm_call_get_vms(uservm_call *call, size_t *ret_n) {
        return call_result(call, RESULT_VMS, ret_n);
}

_public_ const uservm_forward *uservm_call_get_forward(uservm_call *call) {
        return call_result(call, RESULT_FORWARD, NULL);
}

_public_ uservm_forward *const *uservm_call_get_forwards(uservm_call *call, size_t *ret_n) {
        return call_result(call, RESULT_FORWARDS, ret_n);
}

_public_ const uservm_host *uservm_call_get_host(uservm_call *call) {
        return call_result(call, RESULT_HOST, NULL);
}

_public_ uservm_disk *const *uservm_call_get_disks(uservm_call *call, size_t *ret_n) {
        return call_result(call, RESULT_DISKS, ret_n);
}

_public_ const uservm_deletion *uservm_call_get_deletion(uservm_call *call) {
        return call_result(call, RESULT_DELETION, NULL);
}

_public_ uservm_job *const *uservm_call_get_jobs(uservm_call *call, size_t *ret_n) {
        return call_result(call, RESULT_JOBS, ret_n);
}
