/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* uservm create: settings.c makes settings of the options. */

#include <errno.h>
#include <stdio.h>

#include "commands.h"
#include "describe.h"
#include "job.h"
#include "output.h"
#include "session.h"
#include "settings.h"

const Option options_create[] = {
        { "name", 'n', "NAME", "the VM's name, instead of the argument" },
        { "memory", 'm', "SIZE", "memory, like 512M or 4G (default: 2G)" },
        { "vcpus", 'c', "NUMBER", "virtual CPUs (default: 2)" },
        { "image", 'i', "FILE", "make the disk of this image" },
        { "copy", 0, NULL, "copy the image, instead of an overlay of it" },
        { "disk", 'd', "FILE", "use this disk image in place" },
        { "disk-size", 's', "SIZE", "size of the new disk, like 20G" },
        { "add-disk", 0, "WHAT", "one more: path=FILE, size=SIZE, image=FILE" },
        { "cdrom", 0, "FILE", "put in this ISO image" },
        { "kernel", 0, "FILE", "boot this Linux kernel directly" },
        { "initrd", 0, "FILE", "initial RAM disk for it" },
        { "cmdline", 0, "TEXT", "command line for it" },
        { "publish", 'p', "SPEC", "forward a port, like 8080:80; may be repeated" },
        { "accelerator", 0, "auto|kvm|tcg", "what the VM runs on (default: auto)" },
        { "firmware", 0, "bios|uefi", "what the VM boots with (default: bios)" },
        { "hostname", 0, "NAME", "the guest's host name (default: the VM's)" },
        { "user", 'u', "USER", "who can log in to the guest (default: you)" },
        { "ssh-key", 'k', "FILE|KEY", "public key to log in with; may be repeated" },
        { "password-file", 0, "FILE", "password to log in with, or - to be asked" },
        { "user-data", 0, "FILE", "your own user data for cloud-init" },
        { "guest-setup", 0, "HOW", "cloud-init (the default) or credentials" },
        { "no-start", 0, NULL, "do not start it now" },
        { "autostart", 0, NULL, "start it at every login" },
        OPTION_JSON,
        {},
};

static Exit check(const Arguments *arguments, const char **ret_name) {
        static const char *const sources[] = { "image",    "disk",  "disk-size",
                                               "add-disk", "cdrom", "kernel" };
        const Command *command = arguments->command;
        const char *name = option_value(arguments, "name");
        bool has_source = false;

        if (name && arguments->n_words > 0)
                return usage_error(command, "the name is there twice, '%s' and '%s'", name,
                                   arguments->words[0]);
        if (!name && arguments->n_words == 0)
                return usage_error(command, "the VM needs a name");
        if (!option_value(arguments, "kernel") &&
            (option_value(arguments, "initrd") || option_value(arguments, "cmdline")))
                return usage_error(command, "--initrd and --cmdline need --kernel");
        for (size_t i = 0; i < ELEMENTSOF(sources); i++)
                has_source = has_source || option_given(arguments, sources[i]);
        if (!has_source)
                return usage_error(command,
                                   "the VM has nothing to boot from; give it --image, --disk, "
                                   "--disk-size, --add-disk, --cdrom or --kernel");
        *ret_name = name ? name : arguments->words[0];
        return EXIT_OK;
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
        bool copies = false;
        Exit e;
        int r;

        e = check(arguments, &task.progress.vm);
        if (e != EXIT_OK)
                return e;
        r = uservm_settings_new(task.progress.vm, &settings);
        if (r < 0) {
                complain("cannot prepare the settings: %s", strerror(-r));
                return EXIT_FAILED;
        }
        e = settings_fill(arguments, settings, &copies);
        if (e == EXIT_OK)
                e = session_open(&u);
        if (e != EXIT_OK)
                return e;
        r = uservm_create_async(u, settings, task_finished, &task, NULL);
        settings = uservm_settings_free(settings); /* with the password */
        e = copies ? job_wait(u, r, &task, JOB_COPY) : task_wait(u, r, &task);
        return e != EXIT_OK ? e : print_created(arguments, task.vm);
}
