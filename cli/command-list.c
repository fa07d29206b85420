/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The commands that only read: list, show, version. A list is one round trip, whatever the number
 * of VMs. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "commands.h"
#include "config.h"
#include "describe.h"
#include "output.h"
#include "session.h"

const Option options_json[] = {
        OPTION_JSON,
        {},
};

const Option options_list[] = {
        { "all", 'a', NULL, "all VMs; this is the default" },
        { "quiet", 'q', NULL, "names only" },
        OPTION_JSON,
        {},
};

/* All forwards of a VM in a cell: "8080:80, *:5353:53/udp". */
static char *forwards_text(const uservm_vm *vm) {
        _cleanup_free_ char *text = strdup("");

        for (size_t i = 0; text && i < vm->n_forwards; i++) {
                _cleanup_free_ char *forward = forward_short_text(vm->forwards[i]);
                char *longer;

                if (!forward || asprintf(&longer, "%s%s%s", text, i > 0 ? ", " : "", forward) < 0)
                        return NULL;
                free(text);
                text = longer;
        }
        return TAKE_PTR(text);
}

static int add_row(Table *table, const uservm_vm *vm) {
        _cleanup_free_ char *forwards = forwards_text(vm);
        const char *state = uservm_state_to_string(vm->state);
        char size[SIZE_TEXT_MAX], vcpus[16];

        if (!forwards)
                return -ENOMEM;
        snprintf(vcpus, sizeof(vcpus), "%" PRIu32, vm->vcpus);
        if (table_add(table, STYLE_BOLD, vm->name) < 0 ||
            table_add(table, state_style(state), state) < 0 ||
            table_add(table, STYLE_PLAIN, vcpus) < 0 ||
            table_add(table, STYLE_PLAIN, format_size(vm->memory, size)) < 0 ||
            table_add(table, isempty(vm->network_error) ? STYLE_PLAIN : STYLE_BAD,
                      uservm_network_to_string(vm->network)) < 0 ||
            table_add(table, STYLE_PLAIN, forwards) < 0)
                return -ENOMEM;
        return 0;
}

static int print_table(uservm_vm *const *vms, size_t n) {
        static const char *const titles[] = { "NAME",    "STATE",    "VCPUS", "MEMORY",
                                              "NETWORK", "FORWARDS", NULL };
        _cleanup_(table_freep) Table *table = NULL;
        int r;

        r = table_new(titles, &table);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                r = add_row(table, vms[i]);
                if (r < 0)
                        return r;
        }
        return table_print(table);
}

static int print_json(uservm_vm *const *vms, size_t n) {
        _cleanup_json_ json_object *array = json_object_new_array();

        if (!array)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                if (json_append(array, vm_to_json(vms[i])) < 0)
                        return -ENOMEM;
        return json_print(array);
}

static int print_names(uservm_vm *const *vms, size_t n) {
        for (size_t i = 0; i < n; i++) {
                print_text(STYLE_PLAIN, vms[i]->name);
                putchar('\n');
        }
        return output_flush();
}

int command_list(const Arguments *arguments) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_vms_freep) uservm_vm **vms = NULL;
        size_t n;
        Exit e;
        int r;

        if (option_given(arguments, "json") && option_given(arguments, "quiet"))
                return usage_error(arguments->command, "--json and --quiet exclude each other");
        e = session_open(&u);
        if (e != EXIT_OK)
                return e;
        r = uservm_list_vms(u, &vms, &n);
        if (r < 0)
                return session_failed(u, r);

        if (option_given(arguments, "json"))
                return output_exit(print_json(vms, n));
        if (option_given(arguments, "quiet"))
                return output_exit(print_names(vms, n));
        r = print_table(vms, n);
        if (n == 0 && isatty(STDOUT_FILENO))
                fprintf(stderr, "No VMs yet; see uservm create --help.\n");
        return output_exit(r);
}

static void print_forward_line(const char *label, const uservm_forward *f) {
        const char *state = uservm_forward_state_to_string(f->state), *note = forward_note(f);

        printf("%10s%c ", label, *label ? ':' : ' ');
        print_text(STYLE_PLAIN, f->spec);
        putchar(' ');
        print_text(state_style(state), state);
        if (*note) {
                printf(" (");
                print_text(STYLE_PLAIN, note);
                putchar(')');
        }
        putchar('\n');
}

/* What a VM that runs has now stands behind what it has after its next start. */
static void print_resources(const uservm_vm *vm) {
        char size[SIZE_TEXT_MAX], now[SIZE_TEXT_MAX], text[2 * SIZE_TEXT_MAX + 16];

        snprintf(text, sizeof(text), "%" PRIu32, vm->vcpus);
        if (vm_vcpus_pending(vm))
                snprintf(text, sizeof(text), "%" PRIu32 " (%" PRIu32 " now)", vm->vcpus,
                         vm->live_vcpus);
        print_value("vCPUs", STYLE_PLAIN, text);
        format_size(vm->memory, size);
        snprintf(text, sizeof(text), "%s", size);
        if (vm_memory_pending(vm))
                snprintf(text, sizeof(text), "%s (%s now)", size,
                         format_size(vm->live_memory, now));
        print_value("Memory", STYLE_PLAIN, text);
}

static void print_disk_line(const char *label, const uservm_disk *disk) {
        char size[SIZE_TEXT_MAX] = "";

        if (disk->size > 0)
                format_size(disk->size, size);
        printf("%10s%c ", label, *label ? ':' : ' ');
        print_text(STYLE_PLAIN, disk->target);
        printf(" %s%s", size, *size && disk->path ? " " : "");
        print_text(STYLE_PLAIN, disk->path ?: disk->device);
        putchar('\n');
}

static void print_guest(const uservm_vm *vm) {
        if (*vm->guest_os)
                print_value("Guest", STYLE_PLAIN, vm->guest_os);
        if (*vm->guest_hostname)
                print_value("Host name", STYLE_PLAIN, vm->guest_hostname);
        for (const char *const *a = vm->guest_addresses; *a; a++)
                print_value(a == vm->guest_addresses ? "Addresses" : "", STYLE_PLAIN, *a);
}

/* What failed last, and when: "2026-11-24 12:00:00 Start: Could not ...". */
static void print_last_error(const uservm_vm *vm) {
        time_t seconds = (time_t) (vm->last_error_time / USEC_PER_SEC);
        struct tm local;
        char when[32];

        if (!*vm->last_error || !localtime_r(&seconds, &local) ||
            strftime(when, sizeof(when), "%F %T", &local) == 0)
                return;
        printf("%10s: %s %s: ", "Failure", when, vm->last_error_operation);
        print_text(STYLE_BAD, vm->last_error);
        putchar('\n');
}

static void print_vm(const uservm_vm *vm, uservm_disk *const *disks) {
        const char *state = uservm_state_to_string(vm->state);

        print_value("Name", STYLE_BOLD, vm->name);
        print_value("UUID", STYLE_PLAIN, vm->uuid);
        print_value("State", state_style(state), state);
        if (vm->state == USERVM_STATE_RUNNING)
                print_value("Ready", vm->ready ? STYLE_GOOD : STYLE_PLAIN,
                            vm->ready ? "yes" : "no");
        print_guest(vm);
        print_resources(vm);
        for (uservm_disk *const *disk = disks; *disk; disk++)
                print_disk_line(disk == disks ? "Disks" : "", *disk);
        print_value("Autostart", STYLE_PLAIN, vm->autostart ? "on" : "off");
        print_value("Network", STYLE_PLAIN, uservm_network_to_string(vm->network));
        if (!isempty(vm->network_error))
                print_value("", STYLE_BAD, vm->network_error);
        for (size_t i = 0; i < vm->n_forwards; i++)
                print_forward_line(i == 0 ? "Forwards" : "", vm->forwards[i]);
        print_last_error(vm);
}

int command_show(const Arguments *arguments) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_vm_unrefp) uservm_vm *vm = NULL;
        _cleanup_(uservm_disks_freep) uservm_disk **disks = NULL;
        _cleanup_json_ json_object *object = NULL;
        size_t n_disks;
        Exit e;
        int r;

        e = session_open(&u);
        if (e != EXIT_OK)
                return e;
        r = uservm_get_vm(u, arguments->words[0], &vm);
        if (r >= 0)
                r = uservm_list_disks(u, vm->uuid, &disks, &n_disks);
        if (r < 0)
                return session_failed(u, r);
        if (!option_given(arguments, "json")) {
                print_vm(vm, disks);
                return output_exit(output_flush());
        }
        object = vm_to_json(vm);
        r = object ? json_set(object, "disks", disks_to_json(disks, n_disks)) : -ENOMEM;
        return output_exit(r < 0 ? r : json_print(object));
}

static const char *or_unknown(const char *version) {
        return isempty(version) ? "not found" : version;
}

static void print_host(const uservm_host *host) {
        print_value("uservm", STYLE_PLAIN, PACKAGE_VERSION);
        print_value("uservmd", STYLE_PLAIN, host->version);
        print_value("libvirt", STYLE_PLAIN, or_unknown(host->libvirt_version));
        print_value("QEMU", STYLE_PLAIN, or_unknown(host->qemu_version));
        print_value("passt", STYLE_PLAIN, or_unknown(host->passt_version));
        printf("%10s:", "Features");
        for (const char *const *f = host->features; *f; f++) {
                putchar(' ');
                print_text(STYLE_PLAIN, *f);
        }
        putchar('\n');
        if (!isempty(host->native_reason))
                print_value("Network", STYLE_BUSY, host->native_reason);
}

static int print_host_json(const uservm_host *host) {
        _cleanup_json_ json_object *object = json_object_new_object();
        const struct {
                const char *key, *value;
        } strings[] = {
                { "command-version", PACKAGE_VERSION },
                { "version", host->version },
                { "libvirt-version", host->libvirt_version },
                { "qemu-version", host->qemu_version },
                { "passt-version", host->passt_version },
                { "native-reason", host->native_reason },
        };

        if (!object)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(strings); i++)
                if (json_set(object, strings[i].key, json_object_new_string(strings[i].value)) < 0)
                        return -ENOMEM;
        if (json_set(object, "features", strings_to_json(host->features)) < 0)
                return -ENOMEM;
        return json_print(object);
}

int command_version(const Arguments *arguments) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_host_unrefp) uservm_host *host = NULL;
        Exit e;
        int r;

        e = session_open(&u);
        if (e != EXIT_OK)
                return e;
        r = uservm_get_host(u, &host);
        if (r < 0)
                return session_failed(u, r);
        if (option_given(arguments, "json"))
                return output_exit(print_host_json(host));
        print_host(host);
        return output_exit(output_flush());
}
