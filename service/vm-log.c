/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A VM that is seen for the first time has started some time ago, unless it has just been created.
 */

#include "vm-log.h"

#include "domain-files.h"
#include "log.h"

static bool is_crashed(const VMSnapshot *s) {
        return s && s->state == VM_CRASHED;
}

static void log_stopped(const VM *vm, VMState state, const char *operation) {
        const char *how = state == VM_SAVED ? "has been saved" : "has stopped";

        log_write(LOG_INFO,
                  &(LogSubject){
                          .vm = vm->name,
                          .uuid = vm->uuid,
                          .operation = operation,
                          .id = LOG_ID_VM_STOPPED,
                  },
                  "VM '%s' %s", vm->name, how);
}

/* Of a guest that has panicked, QEMU knows no more. */
static void log_crashed(const VM *vm) {
        LogSubject subject = { .vm = vm->name, .uuid = vm->uuid, .id = LOG_ID_VM_CRASHED };
        _cleanup_free_ char *path = NULL;

        if (!vm->snapshot->active && domain_files_log_path(vm->name, &path) >= 0)
                log_write(LOG_ERR, &subject, "VM '%s' has crashed; what QEMU has said is in %s",
                          vm->name, path);
        else
                log_write(LOG_ERR, &subject, "VM '%s' has crashed", vm->name);
}

static bool log_state(const VM *vm, const VMSnapshot *before, const char *operation) {
        const VMSnapshot *now = vm->snapshot;
        bool was_active = before ? before->active : !operation && now->active;

        if (is_crashed(now) && before && !is_crashed(before)) {
                log_crashed(vm);
                return true;
        }
        if (was_active == now->active)
                return false;
        if (is_crashed(before) && !operation)
                return false;
        if (!now->active) {
                log_stopped(vm, now->state, operation);
                return true;
        }
        log_write(LOG_INFO,
                  &(LogSubject){
                          .vm = vm->name,
                          .uuid = vm->uuid,
                          .operation = operation,
                          .id = LOG_ID_VM_STARTED,
                  },
                  "VM '%s' has started", vm->name);
        return true;
}

static bool had_failed(const VMSnapshot *before, const Forward *f) {
        for (size_t i = 0; before && i < before->forwards.n; i++)
                if (before->forwards.items[i].state == FORWARD_FAILED &&
                    forward_same_host_side(&before->forwards.items[i], f))
                        return true;
        return false;
}

/* However many they are, it is one event: most often one passt has ended. */
static void log_failed_forwards(const VM *vm, const VMSnapshot *before) {
        const ForwardList *list = &vm->snapshot->forwards;
        const Forward *first = NULL;
        _cleanup_free_ char *spec = NULL;
        char more[48] = "";
        size_t n = 0;

        if (vm->snapshot->state != VM_RUNNING && vm->snapshot->state != VM_PAUSED)
                return; /* one that shuts down loses its passt */
        for (size_t i = 0; i < list->n; i++)
                if (list->items[i].state == FORWARD_FAILED &&
                    !had_failed(before, &list->items[i])) {
                        first = first ?: &list->items[i];
                        n++;
                }
        if (n == 0 || forward_format(first, &spec) < 0)
                return;
        if (n > 1)
                snprintf(more, sizeof(more), " (and %zu more)", n - 1);
        log_write(LOG_WARNING,
                  &(LogSubject){ .vm = vm->name, .uuid = vm->uuid, .id = LOG_ID_FORWARD_FAILED },
                  "VM '%s': the forward %s%s has failed: %s", vm->name, spec, more,
                  first->error ?: "");
}

bool vm_log_changes(const VM *vm, const VMSnapshot *before, const char *operation) {
        bool logged = log_state(vm, before, operation);

        log_failed_forwards(vm, before);
        return logged;
}

void vm_log_vanished(const VM *vm) {
        if (vm->snapshot->active)
                log_stopped(vm, VM_SHUTOFF, NULL);
}
