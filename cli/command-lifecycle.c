/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is done to VMs as a whole, one after the other in the order of the command line. If it fails
 * for one, the others are done all the same; the exit status tells of the first failure. */

#include <stdio.h>

#include "commands.h"
#include "job.h"
#include "output.h"
#include "session.h"

typedef struct Action {
        const char *doing;
        int (*begin)(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                     void *userdata, uservm_call **ret_call);
        uint64_t flags;
        const char *job;                     /* what it is a job of, see job.h; or NULL */
        void (*print)(const Task *finished); /* or NULL */
} Action;

static Exit act(uservm *u, const char *vm, const Action *action) {
        _cleanup_(task_done) Task task = { .progress = { .doing = action->doing, .vm = vm } };
        Exit e;
        int r;

        r = action->begin(u, vm, action->flags, task_finished, &task, NULL);
        e = action->job ? job_wait(u, r, &task, action->job) : task_wait(u, r, &task);
        if (e != EXIT_OK || !action->print)
                return e;
        action->print(&task);
        return output_exit(output_flush());
}

static int for_each(char *const vms[], const Action *action) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        Exit first = EXIT_OK, e;

        e = session_open(&u);
        if (e != EXIT_OK)
                return e;
        for (char *const *vm = vms; *vm; vm++) {
                e = act(u, *vm, action);
                if (first == EXIT_OK)
                        first = e;
        }
        return first;
}

int command_start(const Arguments *arguments) {
        return for_each(arguments->words, &(Action){ "starting", uservm_start_async });
}

int command_shutdown(const Arguments *arguments) {
        return for_each(arguments->words,
                        &(Action){ "asking to shut down:", uservm_shutdown_async });
}

int command_poweroff(const Arguments *arguments) {
        return for_each(arguments->words, &(Action){ "powering off", uservm_power_off_async });
}

int command_reboot(const Arguments *arguments) {
        return for_each(arguments->words, &(Action){ "asking to reboot:", uservm_reboot_async });
}

int command_reset(const Arguments *arguments) {
        return for_each(arguments->words, &(Action){ "resetting", uservm_reset_async });
}

int command_pause(const Arguments *arguments) {
        return for_each(arguments->words, &(Action){ "pausing", uservm_pause_async });
}

int command_resume(const Arguments *arguments) {
        return for_each(arguments->words, &(Action){ "resuming", uservm_resume_async });
}

int command_save(const Arguments *arguments) {
        return for_each(arguments->words,
                        &(Action){ "saving", uservm_save_async, .job = JOB_SAVE });
}

const Option options_delete[] = {
        { "force", 'f', NULL, "power a VM that runs off first" },
        { "keep-storage", 0, NULL, "do not delete the disks that uservm made" },
        {},
};

static void print_files(const char *what, const char *const *files) {
        for (; *files; files++) {
                printf("%s ", what);
                print_text(STYLE_PLAIN, *files);
                putchar('\n');
        }
}

static void print_deletion(const Task *finished) {
        print_files("removed", finished->deletion->removed);
        print_files("left", finished->deletion->left);
}

int command_delete(const Arguments *arguments) {
        uint64_t flags = 0;

        if (option_given(arguments, "force"))
                flags |= USERVM_DELETE_FORCE;
        if (option_given(arguments, "keep-storage"))
                flags |= USERVM_DELETE_KEEP_STORAGE;
        return for_each(arguments->words, &(Action){ "deleting", uservm_delete_async, flags,
                                                     .print = print_deletion });
}

static int begin_autostart(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                           void *userdata, uservm_call **ret_call) {
        return uservm_set_autostart_async(u, vm, flags > 0, callback, userdata, ret_call);
}

int command_autostart(const Arguments *arguments) {
        const char *word = arguments->words[0];

        if (!streq(word, "on") && !streq(word, "off"))
                return usage_error(arguments->command, "on or off, not '%s'", word);
        return for_each(arguments->words + 1,
                        &(Action){ "setting autostart of", begin_autostart, streq(word, "on") });
}
