/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is done to VMs as a whole, one after the other in the order of the command line. If it fails
 * for one, the others are done all the same; the exit status tells of the first failure. */

#include <errno.h>

#include "commands.h"
#include "output.h"
#include "session.h"

typedef int (*Begin)(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                     void *userdata, uservm_call **ret_call);

static int for_each(char *const vms[], const char *doing, Begin begin, uint64_t flags) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        Exit first = EXIT_OK, e;
        int r;

        e = session_open(&u);
        if (e != EXIT_OK)
                return e;
        for (char *const *vm = vms; *vm; vm++) {
                _cleanup_(task_done) Task task = { .progress = { .doing = doing, .vm = *vm } };

                r = begin(u, *vm, flags, task_finished, &task, NULL);
                e = task_wait(u, r, &task);
                if (first == EXIT_OK)
                        first = e;
        }
        return first;
}

int command_start(const Arguments *arguments) {
        return for_each(arguments->words, "starting", uservm_start_async, 0);
}

int command_shutdown(const Arguments *arguments) {
        return for_each(arguments->words, "asking to shut down:", uservm_shutdown_async, 0);
}

int command_poweroff(const Arguments *arguments) {
        return for_each(arguments->words, "powering off", uservm_power_off_async, 0);
}

int command_reboot(const Arguments *arguments) {
        return for_each(arguments->words, "asking to reboot:", uservm_reboot_async, 0);
}

int command_reset(const Arguments *arguments) {
        return for_each(arguments->words, "resetting", uservm_reset_async, 0);
}

int command_pause(const Arguments *arguments) {
        return for_each(arguments->words, "pausing", uservm_pause_async, 0);
}

int command_resume(const Arguments *arguments) {
        return for_each(arguments->words, "resuming", uservm_resume_async, 0);
}

int command_save(const Arguments *arguments) {
        return for_each(arguments->words, "saving", uservm_save_async, 0);
}

const Option options_delete[] = {
        { "force", 'f', NULL, "power a VM that runs off first" },
        { "keep-storage", 0, NULL, "do not delete the disks that uservm made" },
        {},
};

int command_delete(const Arguments *arguments) {
        uint64_t flags = 0;

        if (option_given(arguments, "force"))
                flags |= USERVM_DELETE_FORCE;
        if (option_given(arguments, "keep-storage"))
                flags |= USERVM_DELETE_KEEP_STORAGE;
        return for_each(arguments->words, "deleting", uservm_delete_async, flags);
}

static int begin_autostart(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                           void *userdata, uservm_call **ret_call) {
        return uservm_set_autostart_async(u, vm, flags > 0, callback, userdata, ret_call);
}

int command_autostart(const Arguments *arguments) {
        const char *word = arguments->words[0];

        if (!streq(word, "on") && !streq(word, "off"))
                return usage_error(arguments->command, "on or off, not '%s'", word);
        return for_each(arguments->words + 1, "setting autostart of", begin_autostart,
                        streq(word, "on"));
}
