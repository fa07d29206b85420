/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The cache behind every property. It changes in two places only: vm_update(), with a fresh reading
 * of libvirt, and vm_set_transition(), while an operation runs; both tell the bus exactly what
 * became different. */

#include "vm.h"

#include <errno.h>
#include <time.h>

#include "guest-watch.h"
#include "manager.h"
#include "network-watch.h"
#include "vm-bus.h"
#include "vm-log.h"

int vm_new(Manager *manager, const char *uuid, const char *name, VM **ret) {
        _cleanup_(vm_unrefp) VM *vm = new0(VM, 1);
        int r;

        if (!vm)
                return -ENOMEM;
        vm->manager = manager;
        vm->n_ref = 1;
        vm->transition = VM_STATE_NONE;

        vm->uuid = strdup(uuid);
        if (!vm->uuid)
                return -ENOMEM;
        if (name) {
                vm->name = strdup(name);
                if (!vm->name)
                        return -ENOMEM;
        }
        r = vm_bus_path(uuid, &vm->path);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(vm);
        return 0;
}

VM *vm_ref(VM *vm) {
        vm->n_ref++;
        return vm;
}

VM *vm_unref(VM *vm) {
        if (!vm || --vm->n_ref > 0)
                return NULL;
        network_watch_free(vm->watch);
        guest_watch_free(vm->guest);
        vm_network_free(vm->network);
        vm_snapshot_free(vm->snapshot);
        forward_list_done(&vm->reserved);
        free(vm->last_error.message);
        free(vm->name);
        free(vm->path);
        free(vm->uuid);
        free(vm);
        return NULL;
}

static bool forwards_equal(const ForwardList *a, const ForwardList *b) {
        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++) {
                const Forward *x = &a->items[i], *y = &b->items[i];

                if (!forward_equal(x, y) || x->persistent != y->persistent ||
                    x->state != y->state || !streq_ptr(x->error, y->error))
                        return false;
        }
        return true;
}

/* Of a VM that does not run, what it will have when uservm starts it. */
static const char *network_of(const VM *vm, const VMSnapshot *s) {
        if (s->managed)
                return "managed";
        if (s->stored->n_nics == 0)
                return "none";
        return !s->active && manager_can_manage(vm->manager) ? "managed" : "native";
}

static void announce_changes(VM *vm, const VMSnapshot *before, VMState state_before) {
        const VMSnapshot *now = vm->snapshot;
        const char *changed[10];
        size_t n = 0;

        if (state_before != vm_state(vm))
                changed[n++] = "State";
        if (!streq(before->stored->name, now->stored->name))
                changed[n++] = "Name";
        if (before->stored->vcpus != now->stored->vcpus)
                changed[n++] = "VCPUs";
        if (before->stored->memory != now->stored->memory)
                changed[n++] = "Memory";
        if (before->live_vcpus != now->live_vcpus)
                changed[n++] = "LiveVCPUs";
        if (before->live_memory != now->live_memory)
                changed[n++] = "LiveMemory";
        if (!streq(network_of(vm, before), network_of(vm, now)))
                changed[n++] = "Network";
        if (!forwards_equal(&before->forwards, &now->forwards))
                changed[n++] = "Forwards";
        if (before->autostart != now->autostart)
                changed[n++] = "Autostart";
        changed[n] = NULL;

        if (n > 0)
                vm_bus_changed(vm, changed);
}

/* What of the live VM has not been read is as it was before. */
static void keep_live(VMSnapshot *now, const VMSnapshot *before) {
        if (now->live_read || !before)
                return;
        now->agent = before->agent;
        now->live_memory = before->live_memory;
        now->live_vcpus = before->live_vcpus;
}

/* Without memory for the new name the old one stays: the next reading tries again. */
static void take_name(VM *vm, const char *name) {
        char *copy;

        if (streq_ptr(vm->name, name))
                return;
        copy = strdup(name);
        if (copy) {
                free(vm->name);
                vm->name = copy;
        }
}

bool vm_update(VM *vm, VMSnapshot *snapshot, const char *operation) {
        _cleanup_(vm_snapshot_freep) VMSnapshot *before = TAKE_PTR(vm->snapshot);
        VMState state_before = vm->transition != VM_STATE_NONE ? vm->transition
                               : before                        ? before->state
                                                               : VM_STATE_NONE;

        keep_live(snapshot, before);
        vm->snapshot = snapshot;
        vm->gone = false;
        vm->transition = VM_STATE_NONE;
        take_name(vm, snapshot->stored->name);
        if (before)
                announce_changes(vm, before, state_before);
        else
                vm_bus_appeared(vm);
        return vm_log_changes(vm, before, operation);
}

static uint64_t now_usec(void) {
        struct timespec t;

        clock_gettime(CLOCK_REALTIME, &t);
        return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

void vm_set_last_error(VM *vm, const char *operation, const char *message) {
        LastError *last = &vm->last_error;
        char *copy = NULL;

        if (!message && !streq_ptr(last->operation, operation))
                return;
        if (message) {
                copy = strdup(message);
                if (!copy)
                        return;
        }
        free(last->message);
        *last = message ? (LastError){ operation, copy, now_usec() } : (LastError){};
        vm_bus_changed(vm, (const char *[]){ "LastError", NULL });
}

void vm_set_transition(VM *vm, VMState transition) {
        VMState before;

        if (!vm->snapshot) {
                vm->transition = transition;
                return;
        }
        before = vm_state(vm);
        vm->transition = transition;
        if (vm_state(vm) != before)
                vm_bus_changed(vm, (const char *[]){ "State", NULL });
}

void vm_host_changed(VM *vm) {
        if (vm->snapshot && !vm->snapshot->active && vm->snapshot->stored->n_nics > 0)
                vm_bus_changed(vm, (const char *[]){ "Network", NULL });
}

void vm_vanish(VM *vm) {
        vm->gone = true;
        if (!vm->snapshot)
                return;
        vm_bus_vanished(vm);
        vm_log_vanished(vm);
        vm->snapshot = vm_snapshot_free(vm->snapshot);
}

bool vm_is_active(const VM *vm) {
        return vm->snapshot->active;
}

VMState vm_state(const VM *vm) {
        return vm->transition != VM_STATE_NONE ? vm->transition : vm->snapshot->state;
}

const char *vm_network(const VM *vm) {
        return network_of(vm, vm->snapshot);
}

const char *vm_network_error(const VM *vm) {
        return network_watch_error(vm->watch);
}

const ForwardList *vm_forwards(const VM *vm) {
        return &vm->snapshot->forwards;
}
