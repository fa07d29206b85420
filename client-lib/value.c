/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* VMs, forwards and hosts: read from a message once, never changed after, shared by reference
 * count. The count is atomic and all else constant, so that they may go from thread to thread. A
 * change makes a new VM that starts as a copy of the one before; forwards are shared by both.
 *
 * In front of each object is the structure that callers see. It may grow, as nobody but this file
 * allocates one, and lists hold pointers. Disks, deletions (disk.c) and jobs (job.c) are the same.
 */

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#include "dictionary.h"
#include "internal.h"

typedef struct VM {
        uservm_vm public;
        atomic_uint n_ref;
        char *path;
} VM;

typedef struct PortForward {
        uservm_forward public;
        atomic_uint n_ref;
} PortForward;

typedef struct Host {
        uservm_host public;
        atomic_uint n_ref;
} Host;

/* Words */

static const char *const state_names[] = {
        [USERVM_STATE_SHUTOFF] = "shutoff", [USERVM_STATE_STARTING] = "starting",
        [USERVM_STATE_RUNNING] = "running", [USERVM_STATE_PAUSED] = "paused",
        [USERVM_STATE_SAVED] = "saved",     [USERVM_STATE_STOPPING] = "stopping",
        [USERVM_STATE_CRASHED] = "crashed",
};

static const char *const network_names[] = {
        [USERVM_NETWORK_NONE] = "none",
        [USERVM_NETWORK_MANAGED] = "managed",
        [USERVM_NETWORK_NATIVE] = "native",
};

static const char *const forward_state_names[] = {
        [USERVM_FORWARD_INACTIVE] = "inactive", [USERVM_FORWARD_ACTIVE] = "active",
        [USERVM_FORWARD_PENDING] = "pending",   [USERVM_FORWARD_REMOVING] = "removing",
        [USERVM_FORWARD_FAILED] = "failed",
};

static const char *name_of(const char *const *names, size_t n, unsigned value) {
        return value < n && names[value] ? names[value] : "unknown";
}

/* 0 is the value for what is unknown. */
static unsigned value_of(const char *const *names, size_t n, const char *name) {
        for (size_t i = 1; i < n; i++)
                if (streq(names[i], name))
                        return i;
        return 0;
}

_public_ const char *uservm_state_to_string(uservm_state state) {
        return name_of(state_names, ELEMENTSOF(state_names), state);
}

_public_ const char *uservm_network_to_string(uservm_network network) {
        return name_of(network_names, ELEMENTSOF(network_names), network);
}

_public_ const char *uservm_forward_state_to_string(uservm_forward_state state) {
        return name_of(forward_state_names, ELEMENTSOF(forward_state_names), state);
}

/* References */

_public_ uservm_forward *uservm_forward_ref(const uservm_forward *forward) {
        PortForward *f = (PortForward *) forward;

        if (f)
                atomic_fetch_add(&f->n_ref, 1);
        return (uservm_forward *) forward;
}

_public_ uservm_forward *uservm_forward_unref(uservm_forward *forward) {
        PortForward *f = (PortForward *) forward;

        if (!f || atomic_fetch_sub(&f->n_ref, 1) > 1)
                return NULL;
        free_const(forward->spec);
        free_const(forward->protocol);
        free_const(forward->address);
        free_const(forward->interface);
        free_const(forward->exclude);
        free_const(forward->error);
        free_const(forward->vm);
        free(f);
        return NULL;
}

_public_ void uservm_forwards_free(uservm_forward **forwards) {
        for (uservm_forward **f = forwards; f && *f; f++)
                uservm_forward_unref(*f);
        free(forwards);
}

_public_ uservm_vm *uservm_vm_ref(const uservm_vm *vm) {
        VM *v = (VM *) vm;

        if (v)
                atomic_fetch_add(&v->n_ref, 1);
        return (uservm_vm *) vm;
}

_public_ uservm_vm *uservm_vm_unref(uservm_vm *vm) {
        VM *v = (VM *) vm;

        if (!v || atomic_fetch_sub(&v->n_ref, 1) > 1)
                return NULL;
        free_const(vm->name);
        free_const(vm->uuid);
        free_const(vm->network_error);
        free_const(vm->last_error);
        free_const(vm->last_error_operation);
        uservm_forwards_free((uservm_forward **) vm->forwards);
        free_const(vm->guest_hostname);
        free_const(vm->guest_os);
        strings_free(vm->guest_addresses);
        free(v->path);
        free(v);
        return NULL;
}

_public_ void uservm_vms_free(uservm_vm **vms) {
        for (uservm_vm **v = vms; v && *v; v++)
                uservm_vm_unref(*v);
        free(vms);
}

_public_ uservm_host *uservm_host_ref(const uservm_host *host) {
        Host *h = (Host *) host;

        if (h)
                atomic_fetch_add(&h->n_ref, 1);
        return (uservm_host *) host;
}

_public_ uservm_host *uservm_host_unref(uservm_host *host) {
        Host *h = (Host *) host;

        if (!h || atomic_fetch_sub(&h->n_ref, 1) > 1)
                return NULL;
        free_const(host->version);
        free_const(host->libvirt_version);
        free_const(host->qemu_version);
        free_const(host->passt_version);
        strings_free(host->features);
        free_const(host->native_reason);
        free(h);
        return NULL;
}

static int read_word(sd_bus_message *m, const char *const *names, size_t n, unsigned *ret) {
        const char *word;
        int r;

        r = read_basic(m, 's', &word);
        if (r < 0)
                return r;
        *ret = value_of(names, n, word);
        return 0;
}

static int read_state(sd_bus_message *m, void *member) {
        return read_word(m, state_names, ELEMENTSOF(state_names), member);
}

static int read_network(sd_bus_message *m, void *member) {
        return read_word(m, network_names, ELEMENTSOF(network_names), member);
}

static int read_forward_state(sd_bus_message *m, void *member) {
        return read_word(m, forward_state_names, ELEMENTSOF(forward_state_names), member);
}

/* Forwards */

static int read_exclude_ranges(sd_bus_message *m, uservm_forward *f) {
        uservm_port_range range, *ranges;
        int r;

        while ((r = sd_bus_message_read(m, "(qq)", &range.first, &range.last)) > 0) {
                ranges = reallocarray((void *) f->exclude, f->n_exclude + 1, sizeof(range));
                if (!ranges)
                        return -ENOMEM;
                ranges[f->n_exclude++] = range;
                f->exclude = ranges;
        }
        return r;
}

static int read_exclude(sd_bus_message *m, void *member) {
        int r;

        r = sd_bus_message_enter_container(m, 'v', "a(qq)");
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(m, 'a', "(qq)");
        if (r < 0)
                return r;
        r = read_exclude_ranges(m, member);
        if (r < 0)
                return r;
        r = sd_bus_message_exit_container(m);
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

static const Key forward_keys[] = {
        { "vm", read_string, offsetof(uservm_forward, vm) },
        { "spec", read_string, offsetof(uservm_forward, spec) },
        { "protocol", read_string, offsetof(uservm_forward, protocol) },
        { "address", read_string, offsetof(uservm_forward, address) },
        { "host-port", read_uint16, offsetof(uservm_forward, host_port) },
        { "host-port-end", read_uint16, offsetof(uservm_forward, host_port_end) },
        { "guest-port", read_uint16, offsetof(uservm_forward, guest_port) },
        { "guest-port-end", read_uint16, offsetof(uservm_forward, guest_port_end) },
        { "persistent", read_bool, offsetof(uservm_forward, persistent) },
        { "state", read_forward_state, offsetof(uservm_forward, state) },
        { "interface", read_string, offsetof(uservm_forward, interface) },
        { "error", read_string, offsetof(uservm_forward, error) },
        { "exclude", read_exclude, 0 },
        {},
};

int forward_read(sd_bus_message *m, uservm_forward **ret) {
        _cleanup_(uservm_forward_unrefp) uservm_forward *f = NULL;
        PortForward *new;
        int r;

        new = new0(PortForward, 1);
        if (!new)
                return -ENOMEM;
        new->n_ref = 1;
        f = &new->public;
        r = dictionary_read(m, forward_keys, f);
        if (r < 0)
                return r;
        if (!f->spec || !f->protocol || !f->address)
                return -EBADMSG;
        *ret = TAKE_PTR(f);
        return 0;
}

static int read_forward(sd_bus_message *m, void **ret) {
        uservm_forward *f;
        int r;

        r = forward_read(m, &f);
        if (r < 0)
                return r;
        *ret = f;
        return 0;
}

static void release_forward(void *forward) {
        uservm_forward_unref(forward);
}

int forward_read_list(sd_bus_message *m, uservm_forward ***ret, size_t *ret_n) {
        return dictionary_read_list(m, read_forward, release_forward, (void ***) ret, ret_n);
}

static int read_forwards(sd_bus_message *m, void *member) {
        uservm_vm *vm = member;
        uservm_forward **list;
        int r;

        r = sd_bus_message_enter_container(m, 'v', "aa{sv}");
        if (r < 0)
                return r;
        r = forward_read_list(m, &list, &vm->n_forwards);
        if (r < 0)
                return r;
        uservm_forwards_free((uservm_forward **) vm->forwards);
        vm->forwards = list;
        return sd_bus_message_exit_container(m);
}

static bool ranges_equal(const uservm_forward *a, const uservm_forward *b) {
        return a->n_exclude == b->n_exclude &&
               (a->n_exclude == 0 ||
                memcmp(a->exclude, b->exclude, a->n_exclude * sizeof(*a->exclude)) == 0);
}

/* The spec says all about addresses and ports but what is excluded. */
static bool forward_equal(const uservm_forward *a, const uservm_forward *b) {
        return streq(a->spec, b->spec) && streq_ptr(a->interface, b->interface) &&
               ranges_equal(a, b) && a->persistent == b->persistent && a->state == b->state &&
               streq_ptr(a->error, b->error);
}

static bool forwards_equal(const uservm_vm *a, const uservm_vm *b) {
        if (a->n_forwards != b->n_forwards)
                return false;
        for (size_t i = 0; i < a->n_forwards; i++)
                if (!forward_equal(a->forwards[i], b->forwards[i]))
                        return false;
        return true;
}

/* VMs */

static int read_last_error(sd_bus_message *m, void *member) {
        const char *operation, *error;
        uservm_vm *vm = member;
        int r;

        r = sd_bus_message_read(m, "v", "(sst)", &operation, &error, &vm->last_error_time);
        if (r < 0)
                return r;
        free_const(vm->last_error);
        free_const(vm->last_error_operation);
        vm->last_error = strdup(error);
        vm->last_error_operation = strdup(operation);
        return vm->last_error && vm->last_error_operation ? 0 : -ENOMEM;
}

static const Key vm_keys[] = {
        { "Name", read_string, offsetof(uservm_vm, name) },
        { "UUID", read_string, offsetof(uservm_vm, uuid) },
        { "State", read_state, offsetof(uservm_vm, state) },
        { "VCPUs", read_uint32, offsetof(uservm_vm, vcpus) },
        { "Memory", read_uint64, offsetof(uservm_vm, memory) },
        { "LiveVCPUs", read_uint32, offsetof(uservm_vm, live_vcpus) },
        { "LiveMemory", read_uint64, offsetof(uservm_vm, live_memory) },
        { "Ready", read_bool, offsetof(uservm_vm, ready) },
        { "GuestHostname", read_string, offsetof(uservm_vm, guest_hostname) },
        { "GuestOS", read_string, offsetof(uservm_vm, guest_os) },
        { "GuestAddresses", read_strings, offsetof(uservm_vm, guest_addresses) },
        { "Network", read_network, offsetof(uservm_vm, network) },
        { "NetworkError", read_string, offsetof(uservm_vm, network_error) },
        { "LastError", read_last_error, 0 },
        { "Forwards", read_forwards, 0 },
        { "Autostart", read_bool, offsetof(uservm_vm, autostart) },
        {},
};

const char *vm_path(const uservm_vm *vm) {
        return ((const VM *) vm)->path;
}

/* An empty list if there are none. */
static int copy_forwards(uservm_vm *vm, const uservm_vm *from) {
        size_t n = from ? from->n_forwards : 0;
        uservm_forward **list = new0(uservm_forward *, n + 1);

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                list[i] = uservm_forward_ref(from->forwards[i]);
        vm->forwards = list;
        vm->n_forwards = n;
        return 0;
}

static bool has_strings(const uservm_vm *vm) {
        return vm->name && vm->uuid && vm->network_error && vm->guest_hostname && vm->guest_os &&
               vm->last_error && vm->last_error_operation;
}

static int copy_strings(uservm_vm *vm, const uservm_vm *from) {
        vm->name = strdup(from->name);
        vm->uuid = strdup(from->uuid);
        vm->network_error = strdup(from->network_error);
        vm->guest_hostname = strdup(from->guest_hostname);
        vm->guest_os = strdup(from->guest_os);
        vm->last_error = strdup(from->last_error);
        vm->last_error_operation = strdup(from->last_error_operation);
        if (!has_strings(vm))
                return -ENOMEM;
        return strings_copy(from->guest_addresses, &vm->guest_addresses);
}

static int vm_new(const char *path, const uservm_vm *before, uservm_vm **ret) {
        _cleanup_(uservm_vm_unrefp) uservm_vm *vm = NULL;
        VM *new;
        int r;

        new = new0(VM, 1);
        if (!new)
                return -ENOMEM;
        new->n_ref = 1;
        vm = &new->public;
        new->path = strdup(path);
        if (!new->path)
                return -ENOMEM;
        if (before) {
                vm->state = before->state;
                vm->vcpus = before->vcpus;
                vm->memory = before->memory;
                vm->network = before->network;
                vm->autostart = before->autostart;
                vm->live_vcpus = before->live_vcpus;
                vm->live_memory = before->live_memory;
                vm->ready = before->ready;
                vm->last_error_time = before->last_error_time;
                r = copy_strings(vm, before);
                if (r < 0)
                        return r;
        }
        r = copy_forwards(vm, before);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(vm);
        return 0;
}

int vm_read(sd_bus_message *m, const char *path, const uservm_vm *before, uservm_vm **ret) {
        _cleanup_(uservm_vm_unrefp) uservm_vm *vm = NULL;
        int r;

        r = vm_new(path, before, &vm);
        if (r < 0)
                return r;
        r = dictionary_read(m, vm_keys, vm);
        if (r < 0)
                return r;
        if (!has_strings(vm))
                return -EBADMSG;
        r = strings_ensure(&vm->guest_addresses);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(vm);
        return 0;
}

uint64_t vm_compare(const uservm_vm *a, const uservm_vm *b) {
        return (streq(a->name, b->name) ? 0 : USERVM_CHANGED_NAME) |
               (a->state == b->state ? 0 : USERVM_CHANGED_STATE) |
               (a->vcpus == b->vcpus ? 0 : USERVM_CHANGED_VCPUS) |
               (a->memory == b->memory ? 0 : USERVM_CHANGED_MEMORY) |
               (a->network == b->network ? 0 : USERVM_CHANGED_NETWORK) |
               (streq(a->network_error, b->network_error) ? 0 : USERVM_CHANGED_NETWORK_ERROR) |
               (a->autostart == b->autostart ? 0 : USERVM_CHANGED_AUTOSTART) |
               (forwards_equal(a, b) ? 0 : USERVM_CHANGED_FORWARDS) |
               (a->live_vcpus == b->live_vcpus ? 0 : USERVM_CHANGED_LIVE_VCPUS) |
               (a->live_memory == b->live_memory ? 0 : USERVM_CHANGED_LIVE_MEMORY) |
               (a->ready == b->ready ? 0 : USERVM_CHANGED_READY) |
               (streq(a->guest_hostname, b->guest_hostname) ? 0 : USERVM_CHANGED_GUEST_HOSTNAME) |
               (streq(a->guest_os, b->guest_os) ? 0 : USERVM_CHANGED_GUEST_OS) |
               (strings_equal(a->guest_addresses, b->guest_addresses)
                        ? 0
                        : USERVM_CHANGED_GUEST_ADDRESSES) |
               (a->last_error_time == b->last_error_time && streq(a->last_error, b->last_error)
                        ? 0
                        : USERVM_CHANGED_LAST_ERROR);
}

/* The host */

static const Key host_keys[] = {
        { "Version", read_string, offsetof(uservm_host, version) },
        { "LibvirtVersion", read_string, offsetof(uservm_host, libvirt_version) },
        { "QemuVersion", read_string, offsetof(uservm_host, qemu_version) },
        { "PasstVersion", read_string, offsetof(uservm_host, passt_version) },
        { "Features", read_strings, offsetof(uservm_host, features) },
        { "NativeReason", read_string, offsetof(uservm_host, native_reason) },
        {},
};

int host_read(sd_bus_message *m, uservm_host **ret) {
        _cleanup_(uservm_host_unrefp) uservm_host *host = NULL;
        Host *new;
        int r;

        new = new0(Host, 1);
        if (!new)
                return -ENOMEM;
        new->n_ref = 1;
        host = &new->public;
        r = dictionary_read(m, host_keys, host);
        if (r < 0)
                return r;
        if (!host->version || !host->libvirt_version || !host->qemu_version ||
            !host->passt_version || !host->native_reason)
                return -EBADMSG;
        r = strings_ensure(&host->features);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(host);
        return 0;
}
