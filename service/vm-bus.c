/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The method handlers read arguments and queue an operation; the reply comes when it is done. They
 * take the VM as userdata, so that org.uservm1.Manager, whose methods name the VM in an argument,
 * can hand the rest of its message to the very same handlers.
 *
 * sd-bus answers a property's Set when the setter returns, which is too early for Autostart:
 * systemd has to be asked, and that may fail. A filter takes that one call out before sd-bus sees
 * it. */

#include "vm-bus.h"

#include <errno.h>

#include "error.h"
#include "guest-watch.h"
#include "manager.h"
#include "settings.h"
#include "vm-config.h"
#include "vm-forward.h"
#include "vm-lifecycle.h"

#define VM_INTERFACE "org.uservm1.VM"
#define VM_PATH_PREFIX "/org/uservm1/vm"

int vm_bus_path(const char *uuid, char **ret) {
        return sd_bus_path_encode(VM_PATH_PREFIX, uuid, ret);
}

/* The dictionary of a forward */

static int append_exclude(sd_bus_message *m, const Forward *f) {
        int r;

        if (f->n_exclude == 0)
                return 0;
        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", "exclude");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'v', "a(qq)");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'a', "(qq)");
        if (r < 0)
                return r;
        for (size_t i = 0; i < f->n_exclude; i++) {
                r = sd_bus_message_append(m, "(qq)", f->exclude[i].start, f->exclude[i].end);
                if (r < 0)
                        return r;
        }
        for (int i = 0; i < 3; i++) {
                r = sd_bus_message_close_container(m);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int append_string(sd_bus_message *m, const char *key, const char *value) {
        return isempty(value) ? 0 : sd_bus_message_append(m, "{sv}", key, "s", value);
}

int vm_bus_append_forward(sd_bus_message *m, const Forward *f, const char *vm_name) {
        char address[INET6_ADDRSTRLEN];
        _cleanup_free_ char *spec = NULL;
        int r;

        r = forward_format(f, &spec);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        r = append_string(m, "vm", vm_name);
        if (r < 0)
                return r;
        r = sd_bus_message_append(
                m, "{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}", "spec", "s", spec, "protocol", "s",
                forward_protocol_to_string(f->protocol), "address", "s",
                forward_address_to_string(f, address, sizeof(address)), "host-port", "q",
                f->host.start, "host-port-end", "q", f->host.end, "guest-port", "q", f->guest.start,
                "guest-port-end", "q", f->guest.end, "persistent", "b", f->persistent, "state", "s",
                forward_state_to_string(f->state));
        if (r < 0)
                return r;
        r = append_string(m, "interface", f->interface);
        if (r < 0)
                return r;
        r = append_string(m, "error", f->error);
        if (r < 0)
                return r;
        r = append_exclude(m, f);
        if (r < 0)
                return r;
        return sd_bus_message_close_container(m);
}

int vm_bus_append_forwards(sd_bus_message *m, const ForwardList *list, const char *vm_name) {
        for (size_t i = 0; i < list->n; i++) {
                int r = vm_bus_append_forward(m, &list->items[i], vm_name);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* Methods */

static int method_start(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return vm_start(userdata, m);
}

static int method_shutdown(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return vm_shutdown(userdata, m);
}

static int method_power_off(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return vm_power_off(userdata, m);
}

static int method_reboot(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return vm_reboot(userdata, m);
}

static int method_reset(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return vm_reset(userdata, m);
}

static int method_pause(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return vm_pause(userdata, m);
}

static int method_resume(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return vm_resume(userdata, m);
}

static int method_save(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return vm_save(userdata, m);
}

static int method_delete(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        DeleteOptions options = { .storage = true };
        int r;

        r = options_read(m, error, "storage", &options.storage, "force", &options.force, NULL);
        if (r < 0)
                return r;
        return vm_delete(userdata, &options, m);
}

static int method_rename(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *name;
        int r;

        r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        r = settings_check_name(name, error);
        return r < 0 ? r : vm_rename(userdata, name, m);
}

static int method_set_memory(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        uint64_t bytes;
        int r;

        r = sd_bus_message_read(m, "t", &bytes);
        if (r < 0)
                return r;
        r = settings_check_memory(bytes, error);
        return r < 0 ? r : vm_set_memory(userdata, bytes, m);
}

static int method_set_vcpus(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        unsigned vcpus;
        int r;

        r = sd_bus_message_read(m, "u", &vcpus);
        if (r < 0)
                return r;
        r = settings_check_vcpus(vcpus, error);
        return r < 0 ? r : vm_set_vcpus(userdata, vcpus, m);
}

static int method_list_disks(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return vm_list_disks(userdata, m);
}

static int method_resize_disk(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *target;
        uint64_t size;
        int r;

        r = sd_bus_message_read(m, "st", &target, &size);
        if (r < 0)
                return r;
        return vm_resize_disk(userdata, target, size, m);
}

static int read_forward(sd_bus_message *m,
                        int (*parse)(const char *spec, Forward *ret, char **ret_reason),
                        Forward *ret, ForwardOptions *ret_options, sd_bus_error *error) {
        _cleanup_free_ char *reason = NULL;
        const char *spec;
        int r;

        *ret_options = (ForwardOptions){ .persistent = true };
        r = sd_bus_message_read(m, "s", &spec);
        if (r < 0)
                return r;
        r = options_read(m, error, "persistent", &ret_options->persistent, "disruptive",
                         &ret_options->disruptive, NULL);
        if (r < 0)
                return r;
        r = parse(spec, ret, &reason);
        if (r == -EINVAL)
                return sd_bus_error_set(error, USERVM_ERROR_INVALID_FORWARD, reason);
        return r;
}

static int method_add_port_forward(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_forward_ Forward f = {};
        ForwardOptions options;
        int r;

        r = read_forward(m, forward_parse, &f, &options, error);
        if (r < 0)
                return r;
        return vm_add_forward(userdata, &f, &options, m);
}

static int method_remove_port_forward(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_forward_ Forward f = {};
        ForwardOptions options;
        int r;

        r = read_forward(m, forward_parse_host_side, &f, &options, error);
        if (r < 0)
                return r;
        return vm_remove_forward(userdata, &f, &options, m);
}

static int append_forwards_array(sd_bus_message *m, const VM *vm) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "a{sv}");
        if (r < 0)
                return r;
        r = vm_bus_append_forwards(m, vm_forwards(vm), NULL);
        if (r < 0)
                return r;
        return sd_bus_message_close_container(m);
}

static int method_list_forwards(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r < 0)
                return r;
        r = append_forwards_array(reply, userdata);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

/* Properties */

static int get_name(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const VM *vm = userdata;

        return sd_bus_message_append(reply, "s", vm->name);
}

static int get_uuid(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const VM *vm = userdata;

        return sd_bus_message_append(reply, "s", vm->uuid);
}

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", vm_state_to_string(vm_state(userdata)));
}

static int get_vcpus(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const VM *vm = userdata;

        return sd_bus_message_append(reply, "u", vm->snapshot->stored->vcpus);
}

static int get_memory(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const VM *vm = userdata;

        return sd_bus_message_append(reply, "t", vm->snapshot->stored->memory);
}

static int get_live_vcpus(sd_bus *bus, const char *path, const char *interface,
                          const char *property, sd_bus_message *reply, void *userdata,
                          sd_bus_error *error) {
        const VM *vm = userdata;

        return sd_bus_message_append(reply, "u", vm->snapshot->live_vcpus);
}

static int get_live_memory(sd_bus *bus, const char *path, const char *interface,
                           const char *property, sd_bus_message *reply, void *userdata,
                           sd_bus_error *error) {
        const VM *vm = userdata;

        return sd_bus_message_append(reply, "t", vm->snapshot->live_memory);
}

static int get_ready(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const VM *vm = userdata;

        return sd_bus_message_append(reply, "b", guest_watch_ready(vm->guest));
}

static int get_guest_hostname(sd_bus *bus, const char *path, const char *interface,
                              const char *property, sd_bus_message *reply, void *userdata,
                              sd_bus_error *error) {
        const VM *vm = userdata;

        return sd_bus_message_append(reply, "s", guest_watch_facts(vm->guest)->hostname ?: "");
}

static int get_guest_os(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const VM *vm = userdata;

        return sd_bus_message_append(reply, "s", guest_watch_facts(vm->guest)->os ?: "");
}

static int get_guest_addresses(sd_bus *bus, const char *path, const char *interface,
                               const char *property, sd_bus_message *reply, void *userdata,
                               sd_bus_error *error) {
        const VM *vm = userdata;

        return sd_bus_message_append_strv(reply, guest_watch_facts(vm->guest)->addresses);
}

static int get_network(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", vm_network(userdata));
}

static int get_network_error(sd_bus *bus, const char *path, const char *interface,
                             const char *property, sd_bus_message *reply, void *userdata,
                             sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", vm_network_error(userdata));
}

static int get_last_error(sd_bus *bus, const char *path, const char *interface,
                          const char *property, sd_bus_message *reply, void *userdata,
                          sd_bus_error *error) {
        const LastError *last = &((const VM *) userdata)->last_error;

        return sd_bus_message_append(reply, "(sst)", last->operation ?: "", last->message ?: "",
                                     last->time);
}

static int get_forwards(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return append_forwards_array(reply, userdata);
}

static int get_autostart(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const VM *vm = userdata;

        return sd_bus_message_append(reply, "b", vm->snapshot->autostart);
}

/* Never called, see filter_set_autostart(); it makes the property a writable one. */
static int set_autostart(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *value, void *userdata, sd_bus_error *error) {
        return -ENOTSUP;
}

static const sd_bus_vtable vm_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Name", "s", get_name, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("UUID", "s", get_uuid, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("State", "s", get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("VCPUs", "u", get_vcpus, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Memory", "t", get_memory, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("LiveVCPUs", "u", get_live_vcpus, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("LiveMemory", "t", get_live_memory, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Ready", "b", get_ready, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("GuestHostname", "s", get_guest_hostname, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("GuestOS", "s", get_guest_os, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("GuestAddresses", "as", get_guest_addresses, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Network", "s", get_network, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("NetworkError", "s", get_network_error, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("LastError", "(sst)", get_last_error, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Forwards", "aa{sv}", get_forwards, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_WRITABLE_PROPERTY("Autostart", "b", get_autostart, set_autostart, 0,
                                 SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE | SD_BUS_VTABLE_UNPRIVILEGED),

        SD_BUS_METHOD("Start", "", "", method_start, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Shutdown", "", "", method_shutdown, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("PowerOff", "", "", method_power_off, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Reboot", "", "", method_reboot, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Reset", "", "", method_reset, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Pause", "", "", method_pause, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Resume", "", "", method_resume, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Save", "", "", method_save, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Delete", SD_BUS_ARGS("a{sv}", options),
                                SD_BUS_RESULT("a{sv}", result), method_delete,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Rename", SD_BUS_ARGS("s", name), SD_BUS_NO_RESULT, method_rename,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetMemory", SD_BUS_ARGS("t", bytes), SD_BUS_NO_RESULT,
                                method_set_memory, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetVCPUs", SD_BUS_ARGS("u", vcpus), SD_BUS_NO_RESULT,
                                method_set_vcpus, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListDisks", SD_BUS_NO_ARGS, SD_BUS_RESULT("aa{sv}", disks),
                                method_list_disks, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ResizeDisk", SD_BUS_ARGS("s", target, "t", size), SD_BUS_NO_RESULT,
                                method_resize_disk, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("AddPortForward", SD_BUS_ARGS("s", spec, "a{sv}", options),
                                SD_BUS_RESULT("a{sv}", forward), method_add_port_forward,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RemovePortForward", SD_BUS_ARGS("s", spec, "a{sv}", options),
                                SD_BUS_NO_RESULT, method_remove_port_forward,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListForwards", SD_BUS_NO_ARGS, SD_BUS_RESULT("aa{sv}", forwards),
                                method_list_forwards, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

sd_bus_message_handler_t vm_bus_method(const char *name) {
        for (const sd_bus_vtable *v = vm_vtable; v->type != _SD_BUS_VTABLE_END; v++)
                if (v->type == _SD_BUS_VTABLE_METHOD && streq(v->x.method.member, name))
                        return v->x.method.handler;
        return NULL;
}

/* Objects */

static int find_vm(sd_bus *bus, const char *path, const char *interface, void *userdata,
                   void **ret_found, sd_bus_error *error) {
        _cleanup_free_ char *uuid = NULL;
        VM *vm;
        int r;

        r = sd_bus_path_decode(path, VM_PATH_PREFIX, &uuid);
        if (r <= 0)
                return r;
        vm = manager_find_uuid(userdata, uuid);
        if (!vm || !vm->snapshot)
                return 0;
        *ret_found = vm;
        return 1;
}

static int enumerate_vms(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes,
                         sd_bus_error *error) {
        Manager *m = userdata;
        _cleanup_(strv_freep) char **nodes = new0(char *, m->n_vms + 1);
        size_t n = 0;

        if (!nodes)
                return -ENOMEM;
        for (size_t i = 0; i < m->n_vms; i++) {
                if (!m->vms[i]->snapshot)
                        continue;
                nodes[n] = strdup(m->vms[i]->path);
                if (!nodes[n++])
                        return -ENOMEM;
        }
        *ret_nodes = TAKE_PTR(nodes);
        return 0;
}

static int filter_set_autostart(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *interface, *property;
        void *vm;
        int r, enable;

        if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", "Set") <= 0 ||
            !sd_bus_message_has_signature(m, "ssv"))
                return 0;
        r = sd_bus_message_read(m, "ss", &interface, &property);
        if (r < 0)
                return r;
        if (streq(interface, VM_INTERFACE) && streq(property, "Autostart") &&
            find_vm(NULL, sd_bus_message_get_path(m), interface, userdata, &vm, error) > 0 &&
            sd_bus_message_read(m, "v", "b", &enable) > 0)
                return vm_set_autostart(vm, enable, m);
        return sd_bus_message_rewind(m, true) < 0 ? -EIO : 0;
}

int vm_bus_register(Manager *m) {
        int r;

        r = sd_bus_add_fallback_vtable(m->bus, NULL, VM_PATH_PREFIX, VM_INTERFACE, vm_vtable,
                                       find_vm, m);
        if (r < 0)
                return r;
        r = sd_bus_add_node_enumerator(m->bus, NULL, VM_PATH_PREFIX, enumerate_vms, m);
        if (r < 0)
                return r;
        return sd_bus_add_filter(m->bus, NULL, filter_set_autostart, m);
}

/* A signal that cannot be sent is lost with the bus that it was for. */

void vm_bus_appeared(VM *vm) {
        (void) sd_bus_emit_object_added(vm->manager->bus, vm->path);
}

void vm_bus_vanished(VM *vm) {
        (void) sd_bus_emit_object_removed(vm->manager->bus, vm->path);
}

void vm_bus_changed(VM *vm, const char *properties[]) {
        (void) sd_bus_emit_properties_changed_strv(vm->manager->bus, vm->path, VM_INTERFACE,
                                                   (char **) properties);
}
