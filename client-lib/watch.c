/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A watch keeps a copy of all VMs and jobs, and tells how it changes.
 *
 *              ┌────────────── uservmd is back ───────────────┐
 *              v                                              │
 *     READING: GetManagedObjects sent ──reply──> SYNCED ──> GONE
 *              └───────────── no reply, uservmd ends ─────────^
 *
 * uservmd is asked for signals first and for its objects after that, and a bus keeps the order:
 * signals that come before the reply are in the reply, those that come after it are not. While
 * READING they are passed over. What the host can do is not in the reply, so it may have changed
 * whenever all is read again. It has not at the first reading to those who ask for it after they
 * have started the watch.
 *
 * Only the first reading may start uservmd. When somebody ends it, a watch must not bring it back.
 *
 * Everybody on a bus can send us a signal that looks right: those of another sender than the one of
 * the reply are passed over, those of an earlier uservmd included.
 *
 * A callback may stop its watch, or close the handle. The watch is then left by all functions of
 * this file before it is freed, which the reference count is for. */

#include <errno.h>

#include "internal.h"

typedef enum WatchState {
        READING,
        SYNCED,
        GONE,
} WatchState;

struct uservm_watch {
        unsigned n_ref;
        uservm *u; /* NULL: it has been stopped */
        uservm_watch *next, **link;
        WatchState state;
        bool again; /* this reading is not the first */
        sd_bus_slot *service_match, *owner_match, *disconnected_match, *read;
        char *sender;    /* the unique name of the uservmd that the objects are from */
        Objects objects; /* in order when they were read, and as they came after that */
        uservm_watch_callback callback;
        void *userdata;
};

static void watch_unref(uservm_watch *w) {
        if (--w->n_ref > 0)
                return;
        objects_done(&w->objects);
        free(w->sender);
        free(w);
}
DEFINE_CLEANUP(uservm_watch *, watch_unref);

void watch_abandon(uservm_watch *w) {
        *w->link = w->next;
        if (w->next)
                w->next->link = w->link;
        w->service_match = sd_bus_slot_unref(w->service_match);
        w->owner_match = sd_bus_slot_unref(w->owner_match);
        w->disconnected_match = sd_bus_slot_unref(w->disconnected_match);
        w->read = sd_bus_slot_unref(w->read);
        w->u = NULL;
        watch_unref(w);
}

_public_ uservm_watch *uservm_watch_stop(uservm_watch *w) {
        if (w && w->u)
                watch_abandon(w);
        return NULL;
}

/* Takes a reference for as long as a callback may end the watch. */
static uservm_watch *watch_hold(uservm_watch *w) {
        w->n_ref++;
        return w;
}

static void tell(uservm_watch *w, const uservm_change *change) {
        if (w->u)
                w->callback(w, change, w->userdata);
}

static void tell_event(uservm_watch *w, uservm_event event) {
        tell(w, &(uservm_change){ .event = event });
}

static void tell_vm(uservm_watch *w, uservm_event event, const uservm_vm *vm) {
        tell(w, &(uservm_change){ .event = event, .vm = vm });
}

/* Tells nothing if nothing has changed. */
static void tell_vm_changed(uservm_watch *w, const uservm_vm *vm, const uservm_vm *before) {
        uint64_t changed = vm_compare(before, vm);

        if (changed)
                tell(w, &(uservm_change){ USERVM_EVENT_VM_CHANGED, vm, before, changed, NULL });
}

static void tell_job(uservm_watch *w, uservm_event event, const uservm_job *job) {
        tell(w, &(uservm_change){ .event = event, .job = job });
}

static void gone(uservm_watch *w) {
        w->read = sd_bus_slot_unref(w->read);
        if (w->state == GONE)
                return;
        w->state = GONE;
        tell_event(w, USERVM_EVENT_SERVICE_GONE);
}

/* The copy */

static uservm_vm **find_vm(uservm_vm **vms, const char *path) {
        for (uservm_vm **vm = vms; vm && *vm; vm++)
                if (streq(vm_path(*vm), path))
                        return vm;
        return NULL;
}

static uservm_job **find_job(uservm_job **jobs, const char *path) {
        for (uservm_job **job = jobs; job && *job; job++)
                if (streq((*job)->id, path))
                        return job;
        return NULL;
}

/* These take the reference over. */

static void add_vm(uservm_watch *w, uservm_vm *vm) {
        _cleanup_(uservm_vm_unrefp) uservm_vm *told = uservm_vm_ref(vm);

        (void) objects_add_vm(&w->objects, vm);
        tell_vm(w, USERVM_EVENT_VM_ADDED, told);
}

static void change_vm(uservm_watch *w, uservm_vm **place, uservm_vm *vm) {
        _cleanup_(uservm_vm_unrefp) uservm_vm *before = *place, *told = uservm_vm_ref(vm);

        *place = vm;
        tell_vm_changed(w, told, before);
}

static void add_job(uservm_watch *w, uservm_job *job) {
        _cleanup_(uservm_job_unrefp) uservm_job *told = uservm_job_ref(job);

        (void) objects_add_job(&w->objects, job);
        tell_job(w, USERVM_EVENT_JOB_ADDED, told);
}

static void change_job(uservm_watch *w, uservm_job **place, uservm_job *job) {
        _cleanup_(uservm_job_unrefp) uservm_job *before = *place, *told = uservm_job_ref(job);

        *place = job;
        if (!job_equal(before, told))
                tell_job(w, USERVM_EVENT_JOB_CHANGED, told);
}

/* Takes one out of a list that ends with NULL. */
static void *take_out(void *list, size_t *n, void *place) {
        void **items = list, **item = place, *taken = *item;

        memmove(item, item + 1, (size_t) (items + *n - item) * sizeof(*item));
        (*n)--;
        return taken;
}

static void remove_vm(uservm_watch *w, uservm_vm **place) {
        _cleanup_(uservm_vm_unrefp) uservm_vm *vm =
                take_out(w->objects.vms, &w->objects.n_vms, place);

        tell_vm(w, USERVM_EVENT_VM_REMOVED, vm);
}

static void remove_job(uservm_watch *w, uservm_job **place) {
        _cleanup_(uservm_job_unrefp) uservm_job *job =
                take_out(w->objects.jobs, &w->objects.n_jobs, place);

        tell_job(w, USERVM_EVENT_JOB_REMOVED, job);
}

static void tell_different_vms(uservm_watch *w, uservm_vm **before, uservm_vm **now) {
        for (uservm_vm **vm = before; vm && *vm; vm++)
                if (!find_vm(now, vm_path(*vm)))
                        tell_vm(w, USERVM_EVENT_VM_REMOVED, *vm);
        for (uservm_vm **vm = now; *vm; vm++) {
                uservm_vm **old = find_vm(before, vm_path(*vm));

                if (old)
                        tell_vm_changed(w, *vm, *old);
                else
                        tell_vm(w, USERVM_EVENT_VM_ADDED, *vm);
        }
}

static const uservm_job *find_same_job(uservm_job **jobs, const uservm_job *job) {
        uservm_job **found = find_job(jobs, job->id);

        return found && job_is_same(*found, job) ? *found : NULL;
}

static void tell_different_jobs(uservm_watch *w, uservm_job **before, uservm_job **now) {
        for (uservm_job **job = before; job && *job; job++)
                if (!find_same_job(now, *job))
                        tell_job(w, USERVM_EVENT_JOB_REMOVED, *job);
        for (uservm_job **job = now; *job; job++) {
                const uservm_job *old = find_same_job(before, *job);

                if (!old)
                        tell_job(w, USERVM_EVENT_JOB_ADDED, *job);
                else if (!job_equal(old, *job))
                        tell_job(w, USERVM_EVENT_JOB_CHANGED, *job);
        }
}

/* Takes over what has been read, and tells the differences. */
static void replace_objects(uservm_watch *w, const Objects *objects) {
        _cleanup_(objects_done) Objects before = w->objects;

        w->objects = *objects;
        tell_different_vms(w, before.vms, w->objects.vms);
        tell_different_jobs(w, before.jobs, w->objects.jobs);
        if (w->again)
                tell_event(w, USERVM_EVENT_HOST_CHANGED);
        tell_event(w, USERVM_EVENT_SYNCED);
}

static int take_objects(uservm_watch *w, sd_bus_message *reply) {
        Objects objects;
        char *sender;
        int r;

        r = objects_read(reply, &objects);
        if (r < 0)
                return r;
        sender = strdup(sd_bus_message_get_sender(reply));
        if (!sender) {
                objects_done(&objects);
                return -ENOMEM;
        }
        free(w->sender);
        w->sender = sender;
        w->state = SYNCED;
        replace_objects(w, &objects);
        return 0;
}

static int on_objects(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        _cleanup_(watch_unrefp) uservm_watch *w = watch_hold(userdata);
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        int r;

        w->read = sd_bus_slot_unref(w->read);
        if (error) {
                (void) handle_fail(w->u, error);
                gone(w);
                return 0;
        }
        r = take_objects(w, reply);
        if (r < 0) {
                (void) handle_fail_read(w->u, r);
                gone(w);
        }
        return 0;
}

/* The reply may be long in coming while uservmd starts; if it never comes, the bus says so. */
static int read_objects(uservm_watch *w, bool auto_start) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        w->read = sd_bus_slot_unref(w->read);
        r = sd_bus_message_new_method_call(w->u->bus, &m, SERVICE_NAME, MANAGER_PATH,
                                           OBJECT_MANAGER_INTERFACE, "GetManagedObjects");
        if (r < 0)
                return r;
        r = sd_bus_message_set_auto_start(m, auto_start);
        if (r < 0)
                return r;
        r = sd_bus_call_async(w->u->bus, &w->read, m, on_objects, w, TIMEOUT_NEVER);
        if (r < 0)
                return r;
        w->state = READING;
        return 0;
}

static void read_again(uservm_watch *w) {
        int r;

        w->again = true;
        r = read_objects(w, false);
        if (r < 0) {
                (void) handle_fail_errno(w->u, r);
                gone(w);
        }
}

/* Signals */

static void on_vm_added(uservm_watch *w, uservm_vm *vm) {
        uservm_vm **place = find_vm(w->objects.vms, vm_path(vm));

        if (place)
                change_vm(w, place, vm);
        else
                add_vm(w, vm);
}

static void on_job_added(uservm_watch *w, uservm_job *job) {
        uservm_job **place = find_job(w->objects.jobs, job->id);

        if (place)
                change_job(w, place, job);
        else
                add_job(w, job);
}

static int on_added(uservm_watch *w, sd_bus_message *m) {
        const char *path;
        uservm_vm *vm;
        uservm_job *job;
        int r;

        r = sd_bus_message_read(m, "o", &path);
        if (r < 0)
                return r;
        r = interfaces_read(m, path, &vm, &job);
        if (r < 0)
                return r;
        if (vm)
                on_vm_added(w, vm);
        if (job)
                on_job_added(w, job);
        return 0;
}

static int on_removed(uservm_watch *w, sd_bus_message *m) {
        _cleanup_(strv_freep) char **interfaces = NULL;
        uservm_vm **vm;
        uservm_job **job;
        const char *path;
        int r;

        r = sd_bus_message_read(m, "o", &path);
        if (r < 0)
                return r;
        r = sd_bus_message_read_strv(m, &interfaces);
        if (r < 0)
                return r;
        vm = find_vm(w->objects.vms, path);
        if (vm && strv_contains(interfaces, VM_INTERFACE))
                remove_vm(w, vm);
        job = find_job(w->objects.jobs, path);
        if (job && strv_contains(interfaces, JOB_INTERFACE))
                remove_job(w, job);
        return 0;
}

static int on_vm_changed(uservm_watch *w, sd_bus_message *m, const char *path) {
        uservm_vm **place = find_vm(w->objects.vms, path), *vm;
        int r;

        if (!place)
                return 0;
        r = vm_read(m, path, *place, &vm);
        if (r < 0)
                return r;
        change_vm(w, place, vm);
        return 0;
}

static int on_job_changed(uservm_watch *w, sd_bus_message *m, const char *path) {
        uservm_job **place = find_job(w->objects.jobs, path), *job;
        int r;

        if (!place)
                return 0;
        r = job_read(m, path, *place, &job);
        if (r < 0)
                return r;
        change_job(w, place, job);
        return 0;
}

static int on_changed(uservm_watch *w, sd_bus_message *m) {
        const char *interface, *path = sd_bus_message_get_path(m);
        int r;

        r = sd_bus_message_read(m, "s", &interface);
        if (r < 0)
                return r;
        if (streq(interface, VM_INTERFACE))
                return on_vm_changed(w, m, path);
        if (streq(interface, JOB_INTERFACE))
                return on_job_changed(w, m, path);
        if (streq(interface, MANAGER_INTERFACE))
                tell_event(w, USERVM_EVENT_HOST_CHANGED);
        return 0;
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        _cleanup_(watch_unrefp) uservm_watch *w = watch_hold(userdata);
        int r = 0;

        if (w->state != SYNCED || !streq_ptr(sd_bus_message_get_sender(m), w->sender))
                return 0;
        if (sd_bus_message_is_signal(m, OBJECT_MANAGER_INTERFACE, "InterfacesAdded"))
                r = on_added(w, m);
        else if (sd_bus_message_is_signal(m, OBJECT_MANAGER_INTERFACE, "InterfacesRemoved"))
                r = on_removed(w, m);
        else if (sd_bus_message_is_signal(m, PROPERTIES_INTERFACE, "PropertiesChanged"))
                r = on_changed(w, m);
        if (r < 0)
                read_again(w); /* what has changed is not known */
        return 0;
}

/* A new owner while READING is the uservmd that this reading has started. */
static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        _cleanup_(watch_unrefp) uservm_watch *w = watch_hold(userdata);
        const char *owner;
        int r;

        r = sd_bus_message_read(m, "sss", NULL, NULL, &owner);
        if (r < 0)
                return 0;
        if (isempty(owner)) {
                (void) handle_fail(w->u, &SD_BUS_ERROR_MAKE_CONST(SD_BUS_ERROR_SERVICE_UNKNOWN,
                                                                  "uservmd has ended"));
                gone(w);
        } else if (w->state != READING)
                read_again(w);
        return 0;
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        _cleanup_(watch_unrefp) uservm_watch *w = watch_hold(userdata);

        (void) handle_fail_errno(w->u, -ENOTCONN);
        gone(w);
        return 0;
}

static int add_matches(uservm_watch *w) {
        sd_bus *bus = w->u->bus;
        int r;

        r = sd_bus_add_match_async(bus, &w->owner_match,
                                   "type='signal',sender='org.freedesktop.DBus',"
                                   "path='/org/freedesktop/DBus',"
                                   "interface='org.freedesktop.DBus',member='NameOwnerChanged',"
                                   "arg0='" SERVICE_NAME "'",
                                   on_owner_changed, NULL, w);
        if (r < 0)
                return r;
        r = sd_bus_match_signal_async(bus, &w->service_match, SERVICE_NAME, NULL, NULL, NULL,
                                      on_signal, NULL, w);
        if (r < 0)
                return r;
        return sd_bus_match_signal_async(bus, &w->disconnected_match, "org.freedesktop.DBus.Local",
                                         "/org/freedesktop/DBus/Local",
                                         "org.freedesktop.DBus.Local", "Disconnected",
                                         on_disconnected, NULL, w);
}

_public_ int uservm_watch_start(uservm *u, uservm_watch_callback callback, void *userdata,
                                uservm_watch **ret) {
        uservm_watch *w;
        int r;

        if (!u)
                return -EINVAL;
        if (!callback)
                return handle_fail_argument(u, "A watch needs a callback");
        w = new0(uservm_watch, 1);
        if (!w)
                return handle_fail_errno(u, -ENOMEM);
        w->n_ref = 1;
        w->u = u;
        w->callback = callback;
        w->userdata = userdata;
        w->next = u->watches;
        if (w->next)
                w->next->link = &w->next;
        w->link = &u->watches;
        u->watches = w;
        r = add_matches(w);
        if (r >= 0)
                r = read_objects(w, true);
        if (r < 0) {
                watch_abandon(w);
                return handle_fail_errno(u, r);
        }
        if (ret)
                *ret = w;
        return 0;
}
