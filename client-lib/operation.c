/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The operations: which method each one calls, and with what. Each has a function that makes it,
 * and two that callers see, which carry it out. Those on what a VM is made of are in
 * operation-config.c, those on jobs in job.c.
 *
 * The manager has the most used methods of VMs under a name of its own, which saves those who wait
 * a round trip. Asynchronous operations do without: all of them ask for the VM's object first, so
 * that their second calls are in the order in which they were made, as uservmd's answers are. */

#include <errno.h>

#include "internal.h"

static int new_manager_call(uservm *u, const char *member, sd_bus_message **ret) {
        return sd_bus_message_new_method_call(u->bus, ret, SERVICE_NAME, MANAGER_PATH,
                                              MANAGER_INTERFACE, member);
}

/* The path is a placeholder, see Operation. */
static int new_second_call(uservm *u, const char *interface, const char *member,
                           sd_bus_message **ret) {
        return sd_bus_message_new_method_call(u->bus, ret, SERVICE_NAME, "/", interface, member);
}

int operation_begin_vm(uservm *u, bool wait, const Method *method, const char *vm, Operation *o,
                       sd_bus_message **ret) {
        bool direct = wait && method->manager_member;
        int r;

        r = new_manager_call(u, direct ? method->manager_member : "GetVM", &o->first);
        if (r < 0)
                return r;
        r = sd_bus_message_append(o->first, "s", vm);
        if (r < 0)
                return r;
        if (direct) {
                o->first_timeout = method->timeout;
                *ret = o->first;
                return 0;
        }
        o->second_timeout = method->timeout;
        r = new_second_call(u, method->interface, method->member, &o->second);
        if (r < 0)
                return r;
        *ret = o->second;
        return 0;
}

int operation_check_vm(uservm *u, const char *vm) {
        return vm ? 0 : handle_fail_argument(u, "No VM is named");
}

static int check_flags(uservm *u, uint64_t flags, uint64_t known) {
        if (flags & ~known)
                return handle_fail_argument(u, "Unknown flags 0x%llx",
                                            (unsigned long long) (flags & ~known));
        return 0;
}

/* That is the caller's text, or memory. */
int operation_made(uservm *u, int r) {
        if (r == -EINVAL)
                return handle_fail_argument(u, "Text is not valid UTF-8");
        return r < 0 ? handle_fail_errno(u, r) : 0;
}

int operation_wait_for(uservm *u, Operation *o, int r, void *ret, size_t *ret_n) {
        Result result = {};

        r = operation_wait(u, o, r, &result);
        if (r < 0)
                return r;
        if (ret_n)
                *ret_n = result.n;
        if (ret)
                memcpy(ret, &result.pointer, sizeof(result.pointer));
        else
                result_clear(&result);
        return 0;
}

/* The host */

static int make_get_host(uservm *u, Operation *o) {
        int r;

        if (!u)
                return -EINVAL;
        o->type = RESULT_HOST;
        r = sd_bus_message_new_method_call(u->bus, &o->first, SERVICE_NAME, MANAGER_PATH,
                                           PROPERTIES_INTERFACE, "GetAll");
        if (r >= 0)
                r = sd_bus_message_append(o->first, "s", MANAGER_INTERFACE);
        return operation_made(u, r);
}

_public_ int uservm_get_host(uservm *u, uservm_host **ret) {
        Operation o = {};

        return operation_wait_for(u, &o, make_get_host(u, &o), ret, NULL);
}

_public_ int uservm_get_host_async(uservm *u, uservm_callback callback, void *userdata,
                                   uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_get_host(u, &o), callback, userdata, ret_call);
}

/* VMs */

int operation_begin_objects(uservm *u, Operation *o) {
        return sd_bus_message_new_method_call(u->bus, &o->first, SERVICE_NAME, MANAGER_PATH,
                                              OBJECT_MANAGER_INTERFACE, "GetManagedObjects");
}

static int make_list_vms(uservm *u, Operation *o) {
        if (!u)
                return -EINVAL;
        o->type = RESULT_VMS;
        return operation_made(u, operation_begin_objects(u, o));
}

_public_ int uservm_list_vms(uservm *u, uservm_vm ***ret, size_t *ret_n) {
        Operation o = {};

        return operation_wait_for(u, &o, make_list_vms(u, &o), ret, ret_n);
}

_public_ int uservm_list_vms_async(uservm *u, uservm_callback callback, void *userdata,
                                   uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_list_vms(u, &o), callback, userdata, ret_call);
}

static int make_get_vm(uservm *u, const char *vm, Operation *o) {
        static const Method method = { PROPERTIES_INTERFACE, "GetAll", NULL, TIMEOUT_READ };
        sd_bus_message *m;
        int r;

        if (!u)
                return -EINVAL;
        o->type = RESULT_VM;
        r = operation_check_vm(u, vm);
        if (r < 0)
                return r;
        r = operation_begin_vm(u, false, &method, vm, o, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", VM_INTERFACE);
        return operation_made(u, r);
}

_public_ int uservm_get_vm(uservm *u, const char *vm, uservm_vm **ret) {
        Operation o = {};

        return operation_wait_for(u, &o, make_get_vm(u, vm, &o), ret, NULL);
}

_public_ int uservm_get_vm_async(uservm *u, const char *vm, uservm_callback callback,
                                 void *userdata, uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_get_vm(u, vm, &o), callback, userdata, ret_call);
}

static int make_create(uservm *u, const uservm_settings *settings, bool read, Operation *o) {
        int r;

        if (!u)
                return -EINVAL;
        if (!settings)
                return handle_fail_argument(u, "There are no settings");
        o->first_timeout = TIMEOUT_NEVER;
        r = new_manager_call(u, "CreateVM", &o->first);
        if (r >= 0)
                r = settings_append(settings, o->first);
        if (r < 0 || !read)
                return operation_made(u, r);
        o->type = RESULT_VM;
        r = new_second_call(u, PROPERTIES_INTERFACE, "GetAll", &o->second);
        if (r >= 0)
                r = sd_bus_message_append(o->second, "s", VM_INTERFACE);
        return operation_made(u, r);
}

_public_ int uservm_create(uservm *u, const uservm_settings *settings, uservm_vm **ret) {
        Operation o = {};

        return operation_wait_for(u, &o, make_create(u, settings, ret, &o), ret, NULL);
}

_public_ int uservm_create_async(uservm *u, const uservm_settings *settings,
                                 uservm_callback callback, void *userdata, uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_create(u, settings, true, &o), callback, userdata,
                              ret_call);
}

/* What is done to a VM with nothing but its name */

static int make_action(uservm *u, bool wait, const char *vm, uint64_t flags, const char *member,
                       const char *manager_member, Operation *o) {
        Method method = { VM_INTERFACE, member, manager_member, TIMEOUT_NEVER };
        sd_bus_message *m;
        int r;

        if (!u)
                return -EINVAL;
        r = operation_check_vm(u, vm);
        if (r < 0)
                return r;
        r = check_flags(u, flags, 0);
        if (r < 0)
                return r;
        return operation_made(u, operation_begin_vm(u, wait, &method, vm, o, &m));
}

static int act(uservm *u, const char *vm, uint64_t flags, const char *member,
               const char *manager_member) {
        Operation o = {};

        return operation_wait_for(
                u, &o, make_action(u, true, vm, flags, member, manager_member, &o), NULL, NULL);
}

static int act_async(uservm *u, const char *vm, uint64_t flags, const char *member,
                     uservm_callback callback, void *userdata, uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_action(u, false, vm, flags, member, NULL, &o), callback,
                              userdata, ret_call);
}

_public_ int uservm_start(uservm *u, const char *vm, uint64_t flags) {
        return act(u, vm, flags, "Start", "StartVM");
}

_public_ int uservm_start_async(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                                void *userdata, uservm_call **ret_call) {
        return act_async(u, vm, flags, "Start", callback, userdata, ret_call);
}

_public_ int uservm_shutdown(uservm *u, const char *vm, uint64_t flags) {
        return act(u, vm, flags, "Shutdown", "ShutdownVM");
}

_public_ int uservm_shutdown_async(uservm *u, const char *vm, uint64_t flags,
                                   uservm_callback callback, void *userdata,
                                   uservm_call **ret_call) {
        return act_async(u, vm, flags, "Shutdown", callback, userdata, ret_call);
}

_public_ int uservm_power_off(uservm *u, const char *vm, uint64_t flags) {
        return act(u, vm, flags, "PowerOff", "PowerOffVM");
}

_public_ int uservm_power_off_async(uservm *u, const char *vm, uint64_t flags,
                                    uservm_callback callback, void *userdata,
                                    uservm_call **ret_call) {
        return act_async(u, vm, flags, "PowerOff", callback, userdata, ret_call);
}

_public_ int uservm_reboot(uservm *u, const char *vm, uint64_t flags) {
        return act(u, vm, flags, "Reboot", "RebootVM");
}

_public_ int uservm_reboot_async(uservm *u, const char *vm, uint64_t flags,
                                 uservm_callback callback, void *userdata, uservm_call **ret_call) {
        return act_async(u, vm, flags, "Reboot", callback, userdata, ret_call);
}

_public_ int uservm_reset(uservm *u, const char *vm, uint64_t flags) {
        return act(u, vm, flags, "Reset", NULL);
}

_public_ int uservm_reset_async(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                                void *userdata, uservm_call **ret_call) {
        return act_async(u, vm, flags, "Reset", callback, userdata, ret_call);
}

_public_ int uservm_pause(uservm *u, const char *vm, uint64_t flags) {
        return act(u, vm, flags, "Pause", NULL);
}

_public_ int uservm_pause_async(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                                void *userdata, uservm_call **ret_call) {
        return act_async(u, vm, flags, "Pause", callback, userdata, ret_call);
}

_public_ int uservm_resume(uservm *u, const char *vm, uint64_t flags) {
        return act(u, vm, flags, "Resume", NULL);
}

_public_ int uservm_resume_async(uservm *u, const char *vm, uint64_t flags,
                                 uservm_callback callback, void *userdata, uservm_call **ret_call) {
        return act_async(u, vm, flags, "Resume", callback, userdata, ret_call);
}

_public_ int uservm_save(uservm *u, const char *vm, uint64_t flags) {
        return act(u, vm, flags, "Save", NULL);
}

_public_ int uservm_save_async(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                               void *userdata, uservm_call **ret_call) {
        return act_async(u, vm, flags, "Save", callback, userdata, ret_call);
}

static int make_delete(uservm *u, bool wait, const char *vm, uint64_t flags, Operation *o) {
        static const Method method = { VM_INTERFACE, "Delete", "DeleteVM", TIMEOUT_NEVER };
        int force = !!(flags & USERVM_DELETE_FORCE);
        int storage = !(flags & USERVM_DELETE_KEEP_STORAGE);
        sd_bus_message *m;
        int r;

        if (!u)
                return -EINVAL;
        r = operation_check_vm(u, vm);
        if (r < 0)
                return r;
        o->type = RESULT_DELETION;
        r = check_flags(u, flags, USERVM_DELETE_FORCE | USERVM_DELETE_KEEP_STORAGE);
        if (r < 0)
                return r;
        r = operation_begin_vm(u, wait, &method, vm, o, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "a{sv}", 2, "force", "b", force, "storage", "b",
                                          storage);
        return operation_made(u, r);
}

_public_ int uservm_delete(uservm *u, const char *vm, uint64_t flags, uservm_deletion **ret) {
        Operation o = {};

        return operation_wait_for(u, &o, make_delete(u, true, vm, flags, &o), ret, NULL);
}

_public_ int uservm_delete_async(uservm *u, const char *vm, uint64_t flags,
                                 uservm_callback callback, void *userdata, uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_delete(u, false, vm, flags, &o), callback, userdata,
                              ret_call);
}

static int make_set_autostart(uservm *u, const char *vm, bool autostart, Operation *o) {
        static const Method method = { PROPERTIES_INTERFACE, "Set", NULL, TIMEOUT_NEVER };
        sd_bus_message *m;
        int r;

        if (!u)
                return -EINVAL;
        r = operation_check_vm(u, vm);
        if (r < 0)
                return r;
        r = operation_begin_vm(u, false, &method, vm, o, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "ssv", VM_INTERFACE, "Autostart", "b",
                                          (int) autostart);
        return operation_made(u, r);
}

_public_ int uservm_set_autostart(uservm *u, const char *vm, bool autostart) {
        Operation o = {};

        return operation_wait_for(u, &o, make_set_autostart(u, vm, autostart, &o), NULL, NULL);
}

_public_ int uservm_set_autostart_async(uservm *u, const char *vm, bool autostart,
                                        uservm_callback callback, void *userdata,
                                        uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_set_autostart(u, vm, autostart, &o), callback, userdata,
                              ret_call);
}

/* Forwards */

static int make_change_forward(uservm *u, const Method *method, bool wait, const char *vm,
                               const char *spec, uint64_t flags, Operation *o) {
        int persistent = !(flags & USERVM_FORWARD_THIS_RUN);
        int disruptive = !!(flags & USERVM_FORWARD_DISRUPTIVE);
        sd_bus_message *m;
        int r;

        if (!u)
                return -EINVAL;
        r = operation_check_vm(u, vm);
        if (r < 0)
                return r;
        if (!spec)
                return handle_fail_argument(u, "No forward is given");
        r = check_flags(u, flags, USERVM_FORWARD_THIS_RUN | USERVM_FORWARD_DISRUPTIVE);
        if (r < 0)
                return r;
        r = operation_begin_vm(u, wait, method, vm, o, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "sa{sv}", spec, 2, "persistent", "b", persistent,
                                          "disruptive", "b", disruptive);
        return operation_made(u, r);
}

static int make_add_forward(uservm *u, bool wait, const char *vm, const char *spec, uint64_t flags,
                            Operation *o) {
        static const Method method = { VM_INTERFACE, "AddPortForward", "AddPortForward",
                                       TIMEOUT_NEVER };

        o->type = RESULT_FORWARD;
        return make_change_forward(u, &method, wait, vm, spec, flags, o);
}

_public_ int uservm_add_forward(uservm *u, const char *vm, const char *spec, uint64_t flags,
                                uservm_forward **ret) {
        Operation o = {};

        return operation_wait_for(u, &o, make_add_forward(u, true, vm, spec, flags, &o), ret, NULL);
}

_public_ int uservm_add_forward_async(uservm *u, const char *vm, const char *spec, uint64_t flags,
                                      uservm_callback callback, void *userdata,
                                      uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_add_forward(u, false, vm, spec, flags, &o), callback,
                              userdata, ret_call);
}

static int make_remove_forward(uservm *u, bool wait, const char *vm, const char *spec,
                               uint64_t flags, Operation *o) {
        static const Method method = { VM_INTERFACE, "RemovePortForward", "RemovePortForward",
                                       TIMEOUT_NEVER };

        return make_change_forward(u, &method, wait, vm, spec, flags, o);
}

_public_ int uservm_remove_forward(uservm *u, const char *vm, const char *spec, uint64_t flags) {
        Operation o = {};

        return operation_wait_for(u, &o, make_remove_forward(u, true, vm, spec, flags, &o), NULL,
                                  NULL);
}

_public_ int uservm_remove_forward_async(uservm *u, const char *vm, const char *spec,
                                         uint64_t flags, uservm_callback callback, void *userdata,
                                         uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_remove_forward(u, false, vm, spec, flags, &o), callback,
                              userdata, ret_call);
}

/* An empty name, which no VM has, is all VMs to the method. */
static int make_list_forwards(uservm *u, const char *vm, Operation *o) {
        int r;

        if (!u)
                return -EINVAL;
        o->type = RESULT_FORWARDS;
        if (vm && isempty(vm))
                return operation_check_vm(u, NULL);
        r = new_manager_call(u, "ListForwards", &o->first);
        if (r >= 0)
                r = sd_bus_message_append(o->first, "s", vm ? vm : "");
        return operation_made(u, r);
}

_public_ int uservm_list_forwards(uservm *u, const char *vm, uservm_forward ***ret, size_t *ret_n) {
        Operation o = {};

        return operation_wait_for(u, &o, make_list_forwards(u, vm, &o), ret, ret_n);
}

_public_ int uservm_list_forwards_async(uservm *u, const char *vm, uservm_callback callback,
                                        void *userdata, uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_list_forwards(u, vm, &o), callback, userdata, ret_call);
}
