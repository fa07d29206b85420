/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The operations on what a VM is made of: its name, memory, virtual CPUs and disks. All of them are
 * methods of the VM's own object, see operation.c. */

#include <errno.h>

#include "internal.h"

/* The message that the arguments go to. */
static int make_call(uservm *u, const char *vm, const char *member, uint64_t timeout, Operation *o,
                     sd_bus_message **ret) {
        const Method method = { VM_INTERFACE, member, NULL, timeout };
        int r;

        if (!u)
                return -EINVAL;
        r = operation_check_vm(u, vm);
        if (r < 0)
                return r;
        return operation_made(u, operation_begin_vm(u, false, &method, vm, o, ret));
}

/* Name */

static int make_rename(uservm *u, const char *vm, const char *name, Operation *o) {
        sd_bus_message *m;
        int r;

        if (u && !name)
                return handle_fail_argument(u, "No new name is given");
        r = make_call(u, vm, "Rename", TIMEOUT_NEVER, o, &m);
        return r < 0 ? r : operation_made(u, sd_bus_message_append(m, "s", name));
}

_public_ int uservm_rename(uservm *u, const char *vm, const char *name) {
        Operation o = {};

        return operation_wait_for(u, &o, make_rename(u, vm, name, &o), NULL, NULL);
}

_public_ int uservm_rename_async(uservm *u, const char *vm, const char *name,
                                 uservm_callback callback, void *userdata, uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_rename(u, vm, name, &o), callback, userdata, ret_call);
}

/* Memory */

static int make_set_memory(uservm *u, const char *vm, uint64_t bytes, Operation *o) {
        sd_bus_message *m;
        int r;

        r = make_call(u, vm, "SetMemory", TIMEOUT_NEVER, o, &m);
        return r < 0 ? r : operation_made(u, sd_bus_message_append(m, "t", bytes));
}

_public_ int uservm_set_memory(uservm *u, const char *vm, uint64_t bytes) {
        Operation o = {};

        return operation_wait_for(u, &o, make_set_memory(u, vm, bytes, &o), NULL, NULL);
}

_public_ int uservm_set_memory_async(uservm *u, const char *vm, uint64_t bytes,
                                     uservm_callback callback, void *userdata,
                                     uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_set_memory(u, vm, bytes, &o), callback, userdata,
                              ret_call);
}

/* Virtual CPUs */

static int make_set_vcpus(uservm *u, const char *vm, uint32_t vcpus, Operation *o) {
        sd_bus_message *m;
        int r;

        r = make_call(u, vm, "SetVCPUs", TIMEOUT_NEVER, o, &m);
        return r < 0 ? r : operation_made(u, sd_bus_message_append(m, "u", vcpus));
}

_public_ int uservm_set_vcpus(uservm *u, const char *vm, uint32_t vcpus) {
        Operation o = {};

        return operation_wait_for(u, &o, make_set_vcpus(u, vm, vcpus, &o), NULL, NULL);
}

_public_ int uservm_set_vcpus_async(uservm *u, const char *vm, uint32_t vcpus,
                                    uservm_callback callback, void *userdata,
                                    uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_set_vcpus(u, vm, vcpus, &o), callback, userdata,
                              ret_call);
}

/* Disks */

static int make_list_disks(uservm *u, const char *vm, Operation *o) {
        sd_bus_message *m;

        o->type = RESULT_DISKS;
        return make_call(u, vm, "ListDisks", TIMEOUT_READ, o, &m);
}

_public_ int uservm_list_disks(uservm *u, const char *vm, uservm_disk ***ret, size_t *ret_n) {
        Operation o = {};

        return operation_wait_for(u, &o, make_list_disks(u, vm, &o), ret, ret_n);
}

_public_ int uservm_list_disks_async(uservm *u, const char *vm, uservm_callback callback,
                                     void *userdata, uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_list_disks(u, vm, &o), callback, userdata, ret_call);
}

static int make_resize_disk(uservm *u, const char *vm, const char *target, uint64_t bytes,
                            Operation *o) {
        sd_bus_message *m;
        int r;

        if (u && !target)
                return handle_fail_argument(u, "No disk is named");
        r = make_call(u, vm, "ResizeDisk", TIMEOUT_NEVER, o, &m);
        return r < 0 ? r : operation_made(u, sd_bus_message_append(m, "st", target, bytes));
}

_public_ int uservm_resize_disk(uservm *u, const char *vm, const char *target, uint64_t bytes) {
        Operation o = {};

        return operation_wait_for(u, &o, make_resize_disk(u, vm, target, bytes, &o), NULL, NULL);
}

_public_ int uservm_resize_disk_async(uservm *u, const char *vm, const char *target, uint64_t bytes,
                                      uservm_callback callback, void *userdata,
                                      uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_resize_disk(u, vm, target, bytes, &o), callback, userdata,
                              ret_call);
}
