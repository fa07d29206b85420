/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The options are the settings of CreateVM, one for one, and what their values may be is for the
 * service to say. Only what the service cannot know is done here: which directory a relative path
 * is relative to. */

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "commands.h"
#include "describe.h"
#include "output.h"
#include "session.h"

const Option options_create[] = {
        { "name", 'n', "NAME", "the VM's name, instead of the argument" },
        { "memory", 'm', "SIZE", "memory, like 512M or 4G (default: 2G)" },
        { "vcpus", 'c', "NUMBER", "virtual CPUs (default: 2)" },
        { "disk", 'd', "FILE", "use this disk image in place" },
        { "disk-size", 's', "SIZE", "make a new, empty disk, like 20G" },
        { "cdrom", 0, "FILE", "put in this ISO image" },
        { "kernel", 0, "FILE", "boot this Linux kernel directly" },
        { "initrd", 0, "FILE", "initial RAM disk for it" },
        { "cmdline", 0, "TEXT", "command line for it" },
        { "publish", 'p', "SPEC", "forward a port, like 8080:80; may be repeated" },
        { "accelerator", 0, "auto|kvm|tcg", "what the VM runs on (default: auto)" },
        { "firmware", 0, "bios|uefi", "what the VM boots with (default: bios)" },
        { "no-start", 0, NULL, "do not start it now" },
        { "autostart", 0, NULL, "start it at every login" },
        OPTION_JSON,
        {},
};

/* Neither the file nor its directory need be there: the service complains with better words. */
static int absolute_path(const char *path, char **ret_path) {
        _cleanup_free_ char *directory = NULL;

        if (path[0] == '/' || isempty(path)) {
                *ret_path = strdup(path);
                return *ret_path ? 0 : -ENOMEM;
        }
        directory = getcwd(NULL, 0);
        if (!directory)
                return -errno;
        if (asprintf(ret_path, "%s/%s", streq(directory, "/") ? "" : directory, path) < 0)
                return -ENOMEM;
        return 0;
}

/* Sets a file; does nothing if the option is not there. */
static int set_path(const Arguments *arguments, const char *name, uservm_settings *s,
                    int (*set)(uservm_settings *s, const char *path)) {
        const char *value = option_value(arguments, name);
        _cleanup_free_ char *path = NULL;
        int r;

        if (!value)
                return 0;
        r = absolute_path(value, &path);
        return r < 0 ? r : set(s, path);
}

static int set_kernel(const Arguments *arguments, uservm_settings *s) {
        const char *kernel = option_value(arguments, "kernel");
        const char *initrd = option_value(arguments, "initrd");
        _cleanup_free_ char *kernel_path = NULL, *initrd_path = NULL;
        int r;

        if (!kernel)
                return 0;
        r = absolute_path(kernel, &kernel_path);
        if (r >= 0 && initrd)
                r = absolute_path(initrd, &initrd_path);
        if (r < 0)
                return r;
        return uservm_settings_set_kernel(s, kernel_path, initrd_path,
                                          option_value(arguments, "cmdline"));
}

static int set_texts(const Arguments *arguments, uservm_settings *s) {
        static const struct {
                const char *name;
                int (*set)(uservm_settings *s, const char *value);
        } texts[] = {
                { "memory", uservm_settings_set_memory_text },
                { "disk-size", uservm_settings_set_disk_size_text },
                { "accelerator", uservm_settings_set_accelerator },
                { "firmware", uservm_settings_set_firmware },
        };
        const char *value;
        int r;

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                value = option_value(arguments, texts[i].name);
                r = value ? texts[i].set(s, value) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

static int set_forwards(const Arguments *arguments, uservm_settings *s) {
        int r;

        for (size_t i = 0; i < arguments->n_given; i++) {
                if (!streq(arguments->given[i].option->name, "publish"))
                        continue;
                r = uservm_settings_add_forward(s, arguments->given[i].value);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int fill_settings(const Arguments *arguments, uint64_t vcpus, uservm_settings *s) {
        int r;

        r = set_texts(arguments, s);
        if (r >= 0 && vcpus > 0)
                r = uservm_settings_set_vcpus(s, (uint32_t) vcpus);
        if (r >= 0)
                r = set_path(arguments, "disk", s, uservm_settings_set_disk);
        if (r >= 0)
                r = set_path(arguments, "cdrom", s, uservm_settings_set_cdrom);
        if (r >= 0)
                r = set_kernel(arguments, s);
        if (r >= 0)
                r = set_forwards(arguments, s);
        if (r >= 0 && option_given(arguments, "no-start"))
                r = uservm_settings_set_start(s, false);
        if (r >= 0 && option_given(arguments, "autostart"))
                r = uservm_settings_set_autostart(s, true);
        return r;
}

static Exit check(const Arguments *arguments, const char **ret_name, uint64_t *ret_vcpus) {
        const Command *command = arguments->command;
        const char *name = option_value(arguments, "name");

        if (name && arguments->n_words > 0)
                return usage_error(command, "the name is there twice, '%s' and '%s'", name,
                                   arguments->words[0]);
        if (!name && arguments->n_words == 0)
                return usage_error(command, "the VM needs a name");
        if (!option_value(arguments, "kernel") &&
            (option_value(arguments, "initrd") || option_value(arguments, "cmdline")))
                return usage_error(command, "--initrd and --cmdline need --kernel");
        if (!option_value(arguments, "kernel") && !option_value(arguments, "disk") &&
            !option_value(arguments, "disk-size") && !option_value(arguments, "cdrom"))
                return usage_error(command, "the VM has nothing to boot from; give it --disk, "
                                            "--disk-size, --cdrom or --kernel");
        *ret_name = name ? name : arguments->words[0];
        return option_number(arguments, "vcpus", 1, UINT32_MAX, ret_vcpus);
}

/* The forwards as they now are, ports that were picked included: those are what one needs to know.
 */
static void print_forwards(const uservm_vm *vm) {
        for (size_t i = 0; i < vm->n_forwards; i++) {
                print_text(STYLE_PLAIN, vm->forwards[i]->spec);
                putchar('\n');
        }
}

static Exit print_created(const Arguments *arguments, const uservm_vm *vm) {
        _cleanup_json_ json_object *object = NULL;
        int r;

        if (option_given(arguments, "json")) {
                object = vm_to_json(vm);
                r = object ? json_print(object) : -ENOMEM;
        } else {
                print_forwards(vm);
                r = output_flush();
        }
        if (r < 0)
                complain("'%s' has been created, but the output cannot be written: %s", vm->name,
                         strerror(-r));
        return r < 0 ? EXIT_FAILED : EXIT_OK;
}

int command_create(const Arguments *arguments) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_settings_freep) uservm_settings *settings = NULL;
        _cleanup_(task_done) Task task = { .progress = { .doing = "creating" } };
        const char *name = NULL;
        uint64_t vcpus = 0;
        Exit e;
        int r;

        e = check(arguments, &name, &vcpus);
        if (e != EXIT_OK)
                return e;
        r = uservm_settings_new(name, &settings);
        if (r >= 0)
                r = fill_settings(arguments, vcpus, settings);
        if (r == -EINVAL)
                return usage_error(arguments->command, "an argument is not valid UTF-8");
        if (r < 0) {
                complain("cannot prepare the settings: %s", strerror(-r));
                return EXIT_FAILED;
        }

        e = session_open(&u);
        if (e != EXIT_OK)
                return e;
        task.progress.vm = name;
        r = uservm_create_async(u, settings, task_finished, &task, NULL);
        e = task_wait(u, r, &task);
        return e != EXIT_OK ? e : print_created(arguments, task.vm);
}
