/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a VM is made of: its name, memory, virtual CPUs and disks. What is changed is stored; if the
 * VM runs and has something else for now, a line on standard error says so. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "commands.h"
#include "describe.h"
#include "output.h"
#include "session.h"
#include "size.h"

int command_rename(const Arguments *arguments) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        const char *vm = arguments->words[0];
        _cleanup_(task_done) Task task = { .progress = { .doing = "renaming", .vm = vm } };
        Exit e;
        int r;

        e = session_open(&u);
        if (e != EXIT_OK)
                return e;
        r = uservm_rename_async(u, vm, arguments->words[1], task_finished, &task, NULL);
        return task_wait(u, r, &task);
}

const Option options_set[] = {
        { "memory", 'm', "SIZE", "memory, like 512M or 4G" },
        { "vcpus", 'c', "NUMBER", "virtual CPUs" },
        {},
};

static Exit set_memory(uservm *u, const char *vm, uint64_t bytes) {
        _cleanup_(task_done)
                Task task = { .progress = { .doing = "setting the memory of", .vm = vm } };
        int r;

        r = uservm_set_memory_async(u, vm, bytes, task_finished, &task, NULL);
        return task_wait(u, r, &task);
}

static Exit set_vcpus(uservm *u, const char *vm, uint32_t vcpus) {
        _cleanup_(task_done)
                Task task = { .progress = { .doing = "setting the CPUs of", .vm = vm } };
        int r;

        r = uservm_set_vcpus_async(u, vm, vcpus, task_finished, &task, NULL);
        return task_wait(u, r, &task);
}

/* What a VM that runs does not have yet of what was set. */
static Exit tell_pending(uservm *u, const char *name, bool memory, bool vcpus) {
        _cleanup_(uservm_vm_unrefp) uservm_vm *vm = NULL;
        char now[SIZE_TEXT_MAX], then[SIZE_TEXT_MAX];
        int r;

        r = uservm_get_vm(u, name, &vm);
        if (r < 0)
                return session_failed(u, r);
        if (memory && vm_memory_pending(vm))
                complain("'%s' has %s of memory now, and %s %s", name,
                         format_size(vm->live_memory, now), format_size(vm->memory, then),
                         vm->live_memory > vm->memory
                                 ? "when its guest gives some back, or after the next start"
                                 : "after the next start");
        if (vcpus && vm_vcpus_pending(vm))
                complain("'%s' has %" PRIu32 " vCPUs now, and %" PRIu32 " after the next start",
                         name, vm->live_vcpus, vm->vcpus);
        return EXIT_OK;
}

static Exit parse_size(const Arguments *arguments, const char *what, const char *text,
                       uint64_t *ret) {
        if (size_parse(text, ret) >= 0)
                return EXIT_OK;
        return usage_error(arguments->command, "%s is a size like 512M or 4G, not '%s'", what,
                           text);
}

int command_set(const Arguments *arguments) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        const char *vm = arguments->words[0], *memory = option_value(arguments, "memory");
        uint64_t bytes = 0, vcpus = 0;
        Exit e = EXIT_OK;

        if (memory)
                e = parse_size(arguments, "--memory", memory, &bytes);
        if (e == EXIT_OK)
                e = option_number(arguments, "vcpus", 1, UINT32_MAX, &vcpus);
        if (e == EXIT_OK && !memory && vcpus == 0)
                e = usage_error(arguments->command, "set what? Give it --memory or --vcpus");
        if (e == EXIT_OK)
                e = session_open(&u);
        if (e == EXIT_OK && memory)
                e = set_memory(u, vm, bytes);
        if (e == EXIT_OK && vcpus > 0)
                e = set_vcpus(u, vm, (uint32_t) vcpus);
        return e == EXIT_OK ? tell_pending(u, vm, memory, vcpus > 0) : e;
}

/* Disks */

static int add_row(Table *table, const uservm_disk *disk) {
        char size[SIZE_TEXT_MAX] = "", allocation[SIZE_TEXT_MAX] = "";

        if (disk->size > 0) {
                format_size(disk->size, size);
                format_size(disk->allocation, allocation);
        }
        if (table_add(table, STYLE_BOLD, disk->target) < 0 ||
            table_add(table, STYLE_PLAIN, disk->device) < 0 ||
            table_add(table, STYLE_PLAIN, size) < 0 ||
            table_add(table, STYLE_PLAIN, allocation) < 0 ||
            table_add(table, STYLE_PLAIN, disk->format ?: "") < 0 ||
            table_add(table, STYLE_PLAIN, disk->created ? "yes" : "no") < 0 ||
            table_add(table, STYLE_PLAIN, disk->path ?: "") < 0)
                return -ENOMEM;
        return 0;
}

static int print_table(uservm_disk *const *disks, size_t n) {
        static const char *const titles[] = { "DISK",   "DEVICE",  "SIZE", "ALLOCATED",
                                              "FORMAT", "CREATED", "FILE", NULL };
        _cleanup_(table_freep) Table *table = NULL;
        int r;

        r = table_new(titles, &table);
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = add_row(table, disks[i]);
        return r < 0 ? r : table_print(table);
}

int command_disk_list(const Arguments *arguments) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_disks_freep) uservm_disk **disks = NULL;
        _cleanup_json_ json_object *array = NULL;
        size_t n;
        Exit e;
        int r;

        e = session_open(&u);
        if (e != EXIT_OK)
                return e;
        r = uservm_list_disks(u, arguments->words[0], &disks, &n);
        if (r < 0)
                return session_failed(u, r);
        if (!option_given(arguments, "json"))
                return output_exit(print_table(disks, n));
        array = disks_to_json(disks, n);
        return output_exit(array ? json_print(array) : -ENOMEM);
}

int command_disk_resize(const Arguments *arguments) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        const char *vm = arguments->words[0], *target = arguments->words[1];
        _cleanup_(task_done)
                Task task = { .progress = { .doing = "resizing a disk of", .vm = vm } };
        uint64_t bytes;
        Exit e;
        int r;

        e = parse_size(arguments, "the third argument", arguments->words[2], &bytes);
        if (e == EXIT_OK)
                e = session_open(&u);
        if (e != EXIT_OK)
                return e;
        r = uservm_resize_disk_async(u, vm, target, bytes, task_finished, &task, NULL);
        return task_wait(u, r, &task);
}
