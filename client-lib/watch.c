/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A watch keeps a copy of all VMs, and tells how it changes.
 *
 *              ┌────────────── uservmd is back ───────────────┐
 *              v                                              │
 *     READING: GetManagedObjects sent ──reply──> SYNCED ──> GONE
 *              └───────────── no reply, uservmd ends ─────────^
 *
 * uservmd is asked for signals first and for its VMs after that, and a bus keeps the order: signals
 * that come before the reply are in the reply, those that come after it are not. While READING they
 * are passed over.
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
        sd_bus_slot *service_match, *owner_match, *disconnected_match, *read;
        char *sender;    /* the unique name of the uservmd that the VMs are from */
        uservm_vm **vms; /* by name when they were read, and as they came after that */
        size_t n_vms;
        uservm_watch_callback callback;
        void *userdata;
};

static void watch_unref(uservm_watch *w) {
        if (--w->n_ref > 0)
                return;
        uservm_vms_free(w->vms);
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

static void tell(uservm_watch *w, uservm_event event, const uservm_vm *vm, const uservm_vm *before,
                 uint64_t changed) {
        uservm_change change = { event, vm, before, changed };

        if (w->u)
                w->callback(w, &change, w->userdata);
}

static void gone(uservm_watch *w) {
        w->read = sd_bus_slot_unref(w->read);
        if (w->state == GONE)
                return;
        w->state = GONE;
        tell(w, USERVM_EVENT_SERVICE_GONE, NULL, NULL, 0);
}

/* The copy */

static uservm_vm **find_vm(uservm_vm **vms, const char *path) {
        for (uservm_vm **vm = vms; vm && *vm; vm++)
                if (streq(vm_path(*vm), path))
                        return vm;
        return NULL;
}

/* Both take the reference over. */

static void add_vm(uservm_watch *w, uservm_vm *vm) {
        _cleanup_(uservm_vm_unrefp) uservm_vm *told = uservm_vm_ref(vm);

        if (vm_list_append(&w->vms, &w->n_vms, vm) < 0)
                uservm_vm_unref(vm);
        tell(w, USERVM_EVENT_VM_ADDED, told, NULL, 0);
}

static void change_vm(uservm_watch *w, uservm_vm **place, uservm_vm *vm) {
        _cleanup_(uservm_vm_unrefp) uservm_vm *before = *place, *told = uservm_vm_ref(vm);
        uint64_t changed = vm_compare(before, vm);

        *place = vm;
        if (changed)
                tell(w, USERVM_EVENT_VM_CHANGED, told, before, changed);
}

static void remove_vm(uservm_watch *w, uservm_vm **place) {
        _cleanup_(uservm_vm_unrefp) uservm_vm *vm = *place;
        size_t i = place - w->vms;

        memmove(place, place + 1, (w->n_vms - i) * sizeof(*place));
        w->n_vms--;
        tell(w, USERVM_EVENT_VM_REMOVED, vm, NULL, 0);
}

/* Takes over what has been read, and tells the differences. */
static void replace_vms(uservm_watch *w, uservm_vm **list, size_t n) {
        _cleanup_(uservm_vms_freep) uservm_vm **before = w->vms;

        w->vms = list;
        w->n_vms = n;
        for (uservm_vm **vm = before; vm && *vm; vm++)
                if (!find_vm(list, vm_path(*vm)))
                        tell(w, USERVM_EVENT_VM_REMOVED, *vm, NULL, 0);
        for (uservm_vm **vm = list; *vm; vm++) {
                uservm_vm **old = find_vm(before, vm_path(*vm));
                uint64_t changed = old ? vm_compare(*old, *vm) : 0;

                if (!old)
                        tell(w, USERVM_EVENT_VM_ADDED, *vm, NULL, 0);
                else if (changed)
                        tell(w, USERVM_EVENT_VM_CHANGED, *vm, *old, changed);
        }
        tell(w, USERVM_EVENT_SYNCED, NULL, NULL, 0);
}

static int take_vms(uservm_watch *w, sd_bus_message *reply) {
        uservm_vm **list;
        char *sender;
        size_t n;
        int r;

        r = vm_read_list(reply, &list, &n);
        if (r < 0)
                return r;
        sender = strdup(sd_bus_message_get_sender(reply));
        if (!sender) {
                uservm_vms_free(list);
                return -ENOMEM;
        }
        free(w->sender);
        w->sender = sender;
        w->state = SYNCED;
        replace_vms(w, list, n);
        return 0;
}

static int on_vms(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        _cleanup_(watch_unrefp) uservm_watch *w = watch_hold(userdata);
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        int r;

        w->read = sd_bus_slot_unref(w->read);
        if (error) {
                (void) handle_fail(w->u, error);
                gone(w);
                return 0;
        }
        r = take_vms(w, reply);
        if (r < 0) {
                (void) handle_fail_read(w->u, r);
                gone(w);
        }
        return 0;
}

/* The reply may be long in coming while uservmd starts; if it never comes, the bus says so. */
static int read_vms(uservm_watch *w, bool auto_start) {
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
        r = sd_bus_call_async(w->u->bus, &w->read, m, on_vms, w, TIMEOUT_NEVER);
        if (r < 0)
                return r;
        w->state = READING;
        return 0;
}

static void read_again(uservm_watch *w) {
        int r;

        r = read_vms(w, false);
        if (r < 0) {
                (void) handle_fail_errno(w->u, r);
                gone(w);
        }
}

/* Signals */

static int on_added(uservm_watch *w, sd_bus_message *m) {
        uservm_vm **place, *vm;
        const char *path;
        int r;

        r = sd_bus_message_read(m, "o", &path);
        if (r < 0)
                return r;
        r = vm_read_interfaces(m, path, &vm);
        if (r < 0 || !vm)
                return r;
        place = find_vm(w->vms, path);
        if (place)
                change_vm(w, place, vm);
        else
                add_vm(w, vm);
        return 0;
}

static int on_removed(uservm_watch *w, sd_bus_message *m) {
        _cleanup_(strv_freep) char **interfaces = NULL;
        uservm_vm **place;
        const char *path;
        int r;

        r = sd_bus_message_read(m, "o", &path);
        if (r < 0)
                return r;
        r = sd_bus_message_read_strv(m, &interfaces);
        if (r < 0)
                return r;
        place = find_vm(w->vms, path);
        if (place && strv_contains(interfaces, VM_INTERFACE))
                remove_vm(w, place);
        return 0;
}

static int on_changed(uservm_watch *w, sd_bus_message *m) {
        const char *interface, *path = sd_bus_message_get_path(m);
        uservm_vm **place, *vm;
        int r;

        r = sd_bus_message_read(m, "s", &interface);
        if (r < 0)
                return r;
        if (streq(interface, MANAGER_INTERFACE)) {
                tell(w, USERVM_EVENT_HOST_CHANGED, NULL, NULL, 0);
                return 0;
        }
        place = find_vm(w->vms, path);
        if (!place || !streq(interface, VM_INTERFACE))
                return 0;
        r = vm_read(m, path, *place, &vm);
        if (r < 0)
                return r;
        change_vm(w, place, vm);
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
                r = read_vms(w, true);
        if (r < 0) {
                watch_abandon(w);
                return handle_fail_errno(u, r);
        }
        if (ret)
                *ret = w;
        return 0;
}
