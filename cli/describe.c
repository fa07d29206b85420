/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The members of the JSON have the names that properties and dictionaries have on D-Bus, in lower
 * case; those that D-Bus leaves out of a forward's dictionary are left out here, too. */

#include "describe.h"

#include <errno.h>
#include <stdio.h>

static int set_string(json_object *object, const char *key, const char *value) {
        return json_set(object, key, json_object_new_string(value));
}

static int set_number(json_object *object, const char *key, uint64_t value) {
        return json_set(object, key, json_object_new_uint64(value));
}

static int set_bool(json_object *object, const char *key, bool value) {
        return json_set(object, key, json_object_new_boolean(value));
}

json_object *strings_to_json(const char *const *strings) {
        _cleanup_json_ json_object *array = json_object_new_array();

        for (; array && *strings; strings++)
                if (json_append(array, json_object_new_string(*strings)) < 0)
                        return NULL;
        return TAKE_PTR(array);
}

static json_object *range_to_json(const uservm_port_range *range) {
        _cleanup_json_ json_object *pair = json_object_new_array();

        if (!pair || json_append(pair, json_object_new_int(range->first)) < 0 ||
            json_append(pair, json_object_new_int(range->last)) < 0)
                return NULL;
        return TAKE_PTR(pair);
}

/* The ranges that are left out: [[5001, 5002]]. */
static json_object *exclude_to_json(const uservm_forward *forward) {
        _cleanup_json_ json_object *ranges = json_object_new_array();

        for (size_t i = 0; ranges && i < forward->n_exclude; i++)
                if (json_append(ranges, range_to_json(&forward->exclude[i])) < 0)
                        return NULL;
        return TAKE_PTR(ranges);
}

json_object *forward_to_json(const uservm_forward *f) {
        _cleanup_json_ json_object *object = json_object_new_object();

        if (!object || (f->vm && set_string(object, "vm", f->vm) < 0) ||
            set_string(object, "spec", f->spec) < 0 ||
            set_string(object, "protocol", f->protocol) < 0 ||
            set_string(object, "address", f->address) < 0 ||
            (f->interface && set_string(object, "interface", f->interface) < 0) ||
            set_number(object, "host-port", f->host_port) < 0 ||
            set_number(object, "host-port-end", f->host_port_end) < 0 ||
            set_number(object, "guest-port", f->guest_port) < 0 ||
            set_number(object, "guest-port-end", f->guest_port_end) < 0 ||
            (f->n_exclude > 0 && json_set(object, "exclude", exclude_to_json(f)) < 0) ||
            set_bool(object, "persistent", f->persistent) < 0 ||
            set_string(object, "state", uservm_forward_state_to_string(f->state)) < 0 ||
            (f->error && set_string(object, "error", f->error) < 0))
                return NULL;
        return TAKE_PTR(object);
}

static json_object *forwards_to_json(const uservm_vm *vm) {
        _cleanup_json_ json_object *array = json_object_new_array();

        for (size_t i = 0; array && i < vm->n_forwards; i++)
                if (json_append(array, forward_to_json(vm->forwards[i])) < 0)
                        return NULL;
        return TAKE_PTR(array);
}

json_object *vm_to_json(const uservm_vm *vm) {
        _cleanup_json_ json_object *object = json_object_new_object();

        if (!object || set_string(object, "name", vm->name) < 0 ||
            set_string(object, "uuid", vm->uuid) < 0 ||
            set_string(object, "state", uservm_state_to_string(vm->state)) < 0 ||
            set_number(object, "vcpus", vm->vcpus) < 0 ||
            set_number(object, "memory", vm->memory) < 0 ||
            set_string(object, "network", uservm_network_to_string(vm->network)) < 0 ||
            set_string(object, "network-error", vm->network_error) < 0 ||
            set_bool(object, "autostart", vm->autostart) < 0 ||
            json_set(object, "forwards", forwards_to_json(vm)) < 0 ||
            set_number(object, "live-vcpus", vm->live_vcpus) < 0 ||
            set_number(object, "live-memory", vm->live_memory) < 0 ||
            set_bool(object, "ready", vm->ready) < 0 ||
            set_string(object, "guest-hostname", vm->guest_hostname) < 0 ||
            set_string(object, "guest-os", vm->guest_os) < 0 ||
            json_set(object, "guest-addresses", strings_to_json(vm->guest_addresses)) < 0 ||
            set_string(object, "last-error", vm->last_error) < 0 ||
            set_string(object, "last-error-operation", vm->last_error_operation) < 0 ||
            set_number(object, "last-error-time", vm->last_error_time) < 0)
                return NULL;
        return TAKE_PTR(object);
}

static json_object *disk_to_json(const uservm_disk *disk) {
        _cleanup_json_ json_object *object = json_object_new_object();

        if (!object || set_string(object, "target", disk->target) < 0 ||
            set_string(object, "device", disk->device) < 0 ||
            (disk->path && set_string(object, "path", disk->path) < 0) ||
            (disk->format && set_string(object, "format", disk->format) < 0) ||
            set_bool(object, "created", disk->created) < 0 ||
            (disk->size > 0 && (set_number(object, "size", disk->size) < 0 ||
                                set_number(object, "allocation", disk->allocation) < 0)))
                return NULL;
        return TAKE_PTR(object);
}

json_object *disks_to_json(uservm_disk *const *disks, size_t n) {
        _cleanup_json_ json_object *array = json_object_new_array();

        for (size_t i = 0; array && i < n; i++)
                if (json_append(array, disk_to_json(disks[i])) < 0)
                        return NULL;
        return TAKE_PTR(array);
}

json_object *job_to_json(const uservm_job *job) {
        _cleanup_json_ json_object *object = json_object_new_object();

        if (!object || set_string(object, "operation", job->operation) < 0 ||
            set_string(object, "vm", job->vm) < 0 ||
            json_set(object, "progress", json_object_new_double(job->progress)) < 0 ||
            set_number(object, "rate", job->rate) < 0 ||
            set_number(object, "start-time", job->start_time) < 0)
                return NULL;
        return TAKE_PTR(object);
}

bool vm_memory_pending(const uservm_vm *vm) {
        return vm->live_memory > 0 && vm->live_memory != vm->memory;
}

bool vm_vcpus_pending(const uservm_vm *vm) {
        return vm->live_vcpus > 0 && vm->live_vcpus != vm->vcpus;
}

char *forward_short_text(const uservm_forward *forward) {
        const char *text = startswith(forward->spec, "127.0.0.1:");
        size_t n;

        if (!text)
                text = forward->spec;
        n = strlen(text);
        if (n > 4 && streq(text + n - 4, "/tcp"))
                n -= 4;
        return strndup(text, n);
}

const char *forward_note(const uservm_forward *forward) {
        if (forward->error)
                return forward->error;
        if (!forward->persistent && forward->state != USERVM_FORWARD_REMOVING)
                return "for this run only";
        return "";
}
