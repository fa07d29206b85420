/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Methods that name a VM find it and hand the rest of the message to the method of the same
 * name on the VM's own interface. Lists are answered from memory. */

#include "manager-bus.h"

#include <errno.h>

#include "config.h"
#include "create.h"
#include "error.h"
#include "job-bus.h"
#include "settings.h"
#include "vm-bus.h"

#define MANAGER_PATH "/org/uservm1"
#define MANAGER_INTERFACE "org.uservm1.Manager"

static int method_create_vm(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Settings *settings;
        int r;

        /* It may have a password in it. */
        r = sd_bus_message_sensitive(m);
        if (r < 0)
                return r;
        r = settings_read(m, &settings, error);
        if (r < 0)
                return r;
        return create_vm(userdata, settings, m, error);
}

static int read_vm(sd_bus_message *m, Manager *manager, VM **ret, sd_bus_error *error) {
        const char *name;
        int r;

        r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        return manager_find(manager, name, ret, error);
}

static int method_get_vm(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        VM *vm;
        int r;

        r = read_vm(m, userdata, &vm, error);
        if (r < 0)
                return r;
        return sd_bus_reply_method_return(m, "o", vm->path);
}

static int method_list_vms(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const Manager *manager = userdata;
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'a', "(ssso)");
        if (r < 0)
                return r;
        for (size_t i = 0; i < manager->n_vms; i++) {
                const VM *vm = manager->vms[i];

                if (!vm->snapshot)
                        continue;
                r = sd_bus_message_append(reply, "(ssso)", vm->name, vm->uuid,
                                          vm_state_to_string(vm_state(vm)), vm->path);
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_close_container(reply);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

static int append_all_forwards(sd_bus_message *reply, const Manager *manager, const VM *only) {
        int r;

        r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        if (r < 0)
                return r;
        for (size_t i = 0; i < manager->n_vms; i++) {
                const VM *vm = manager->vms[i];

                if (!vm->snapshot || (only && vm != only))
                        continue;
                r = vm_bus_append_forwards(reply, vm_forwards(vm), only ? NULL : vm->name);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

static int method_list_forwards(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        Manager *manager = userdata;
        const char *name;
        VM *only = NULL;
        int r;

        r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        if (!isempty(name)) {
                r = manager_find(manager, name, &only, error);
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_new_method_return(m, &reply);
        if (r < 0)
                return r;
        r = append_all_forwards(reply, manager, only);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

/* Finds the VM and passes the call on to the method of its own interface. */
static int forward_to_vm(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        static const struct {
                const char *manager_method, *vm_method;
        } methods[] = {
                { "StartVM", "Start" },
                { "ShutdownVM", "Shutdown" },
                { "PowerOffVM", "PowerOff" },
                { "RebootVM", "Reboot" },
                { "DeleteVM", "Delete" },
                { "AddPortForward", "AddPortForward" },
                { "RemovePortForward", "RemovePortForward" },
        };
        VM *vm;
        int r;

        r = read_vm(m, userdata, &vm, error);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(methods); i++)
                if (streq(methods[i].manager_method, sd_bus_message_get_member(m)))
                        return vm_bus_method(methods[i].vm_method)(m, vm, error);
        return -ENOSYS;
}

/* Properties */

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", PACKAGE_VERSION);
}

static int get_libvirt_version(sd_bus *bus, const char *path, const char *interface,
                               const char *property, sd_bus_message *reply, void *userdata,
                               sd_bus_error *error) {
        const Manager *m = userdata;

        return sd_bus_message_append(reply, "s", m->host ? m->host->libvirt_version : "");
}

static int get_qemu_version(sd_bus *bus, const char *path, const char *interface,
                            const char *property, sd_bus_message *reply, void *userdata,
                            sd_bus_error *error) {
        const Manager *m = userdata;

        return sd_bus_message_append(reply, "s", m->host ? m->host->qemu_version : "");
}

static int get_passt_version(sd_bus *bus, const char *path, const char *interface,
                             const char *property, sd_bus_message *reply, void *userdata,
                             sd_bus_error *error) {
        const Manager *m = userdata;

        return sd_bus_message_append(reply, "s", m->host ? m->host->passt_version : "");
}

static int get_features(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const Manager *m = userdata;

        return sd_bus_message_append_strv(reply, m->host ? m->host->features : NULL);
}

static int get_native_reason(sd_bus *bus, const char *path, const char *interface,
                             const char *property, sd_bus_message *reply, void *userdata,
                             sd_bus_error *error) {
        const Manager *m = userdata;

        return sd_bus_message_append(
                reply, "s", m->host ? m->host->native_reason : "The host has not been looked at");
}

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("LibvirtVersion", "s", get_libvirt_version, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("QemuVersion", "s", get_qemu_version, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("PasstVersion", "s", get_passt_version, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Features", "as", get_features, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("NativeReason", "s", get_native_reason, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),

        SD_BUS_METHOD_WITH_ARGS("CreateVM", SD_BUS_ARGS("a{sv}", settings),
                                SD_BUS_RESULT("o", path), method_create_vm,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetVM", SD_BUS_ARGS("s", vm), SD_BUS_RESULT("o", path),
                                method_get_vm, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListVMs", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssso)", vms),
                                method_list_vms, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("StartVM", SD_BUS_ARGS("s", vm), SD_BUS_NO_RESULT, forward_to_vm,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ShutdownVM", SD_BUS_ARGS("s", vm), SD_BUS_NO_RESULT, forward_to_vm,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PowerOffVM", SD_BUS_ARGS("s", vm), SD_BUS_NO_RESULT, forward_to_vm,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RebootVM", SD_BUS_ARGS("s", vm), SD_BUS_NO_RESULT, forward_to_vm,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("DeleteVM", SD_BUS_ARGS("s", vm, "a{sv}", options),
                                SD_BUS_RESULT("a{sv}", result), forward_to_vm,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("AddPortForward", SD_BUS_ARGS("s", vm, "s", spec, "a{sv}", options),
                                SD_BUS_RESULT("a{sv}", forward), forward_to_vm,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RemovePortForward",
                                SD_BUS_ARGS("s", vm, "s", spec, "a{sv}", options), SD_BUS_NO_RESULT,
                                forward_to_vm, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListForwards", SD_BUS_ARGS("s", vm),
                                SD_BUS_RESULT("aa{sv}", forwards), method_list_forwards,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

int manager_bus_register(Manager *m) {
        int r;

        r = sd_bus_add_object_vtable(m->bus, NULL, MANAGER_PATH, MANAGER_INTERFACE, manager_vtable,
                                     m);
        if (r < 0)
                return r;
        r = sd_bus_add_object_manager(m->bus, NULL, MANAGER_PATH);
        if (r < 0)
                return r;
        r = vm_bus_register(m);
        return r < 0 ? r : job_bus_register(m);
}

void manager_bus_host_changed(Manager *m) {
        (void) sd_bus_emit_properties_changed(m->bus, MANAGER_PATH, MANAGER_INTERFACE,
                                              "LibvirtVersion", "QemuVersion", "PasstVersion",
                                              "Features", "NativeReason", NULL);
}
