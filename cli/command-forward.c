/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Port forwards: added and removed one after the other; if one fails, those after it are left, as
 * they may have been meant together. What has been added is printed as it now is, in the form that
 * "forward remove" takes, so that scripts learn the port that was picked. */

#include <errno.h>
#include <stdio.h>

#include "commands.h"
#include "describe.h"
#include "output.h"
#include "session.h"

#define OPTION_RUNTIME                                                                             \
        { "runtime", 0, NULL, "for this run only; what is stored stays as it is" }
#define OPTION_DISRUPTIVE                                                                          \
        { "disruptive", 0, NULL, "with native networking: now, cutting connections" }

const Option options_forward_add[] = {
        OPTION_RUNTIME,
        OPTION_DISRUPTIVE,
        OPTION_JSON,
        {},
};

const Option options_forward_remove[] = {
        OPTION_RUNTIME,
        OPTION_DISRUPTIVE,
        {},
};

const Option options_forward_list[] = {
        { "quiet", 'q', NULL, "forwards only, without their state" },
        OPTION_JSON,
        {},
};

static uint64_t flags_of(const Arguments *arguments) {
        uint64_t flags = 0;

        if (option_given(arguments, "runtime"))
                flags |= USERVM_FORWARD_THIS_RUN;
        if (option_given(arguments, "disruptive"))
                flags |= USERVM_FORWARD_DISRUPTIVE;
        return flags;
}

/* Adds one, and prints it, or appends it to the array if there is one. */
static Exit add(uservm *u, const char *vm, const char *spec, uint64_t flags, json_object *array) {
        _cleanup_(task_done)
                Task task = { .progress = { .doing = "adding a forward to", .vm = vm } };
        const uservm_forward *f;
        Exit e;
        int r;

        r = uservm_add_forward_async(u, vm, spec, flags, task_finished, &task, NULL);
        e = task_wait(u, r, &task);
        if (e != EXIT_OK)
                return e;
        f = task.forward;
        if (array) {
                r = json_append(array, forward_to_json(f));
                if (r < 0)
                        complain("%s: %s", f->spec, strerror(-r));
                return r < 0 ? EXIT_FAILED : EXIT_OK;
        }
        print_text(STYLE_PLAIN, f->spec);
        putchar('\n');
        if (f->state != USERVM_FORWARD_ACTIVE && f->state != USERVM_FORWARD_INACTIVE)
                complain("%s is %s%s%s", f->spec, uservm_forward_state_to_string(f->state),
                         f->error ? ": " : "", f->error ? f->error : "");
        return EXIT_OK;
}

int command_forward_add(const Arguments *arguments) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_json_ json_object *array = NULL;
        Exit e;
        int r = 0;

        e = session_open(&u);
        if (e != EXIT_OK)
                return e;
        if (option_given(arguments, "json")) {
                array = json_object_new_array();
                if (!array)
                        r = -ENOMEM;
        }
        for (char *const *spec = arguments->words + 1; r >= 0 && e == EXIT_OK && *spec; spec++)
                e = add(u, arguments->words[0], *spec, flags_of(arguments), array);

        /* also what was added before one failed */
        if (array)
                r = json_print(array);
        return r < 0 ? output_exit(r) : e;
}

int command_forward_remove(const Arguments *arguments) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        const char *vm = arguments->words[0];
        Exit e;
        int r;

        e = session_open(&u);
        for (char *const *spec = arguments->words + 1; e == EXIT_OK && *spec; spec++) {
                _cleanup_(task_done) Task task = {
                        .progress = { .doing = "removing a forward of", .vm = vm },
                };

                r = uservm_remove_forward_async(u, vm, *spec, flags_of(arguments), task_finished,
                                                &task, NULL);
                e = task_wait(u, r, &task);
        }
        return e;
}

static int print_table(uservm_forward *const *forwards, size_t n, const char *vm) {
        static const char *const titles[] = { "VM", "FORWARD", "STATE", "NOTE", NULL };
        _cleanup_(table_freep) Table *table = NULL;
        int r;

        r = table_new(titles, &table);
        for (size_t i = 0; r >= 0 && i < n; i++) {
                const uservm_forward *f = forwards[i];
                const char *state = uservm_forward_state_to_string(f->state);

                if (table_add(table, STYLE_BOLD, f->vm ? f->vm : vm) < 0 ||
                    table_add(table, STYLE_PLAIN, f->spec) < 0 ||
                    table_add(table, state_style(state), state) < 0 ||
                    table_add(table, STYLE_PLAIN, forward_note(f)) < 0)
                        r = -ENOMEM;
        }
        return r < 0 ? r : table_print(table);
}

static int print_json(uservm_forward *const *forwards, size_t n) {
        _cleanup_json_ json_object *array = json_object_new_array();
        int r = array ? 0 : -ENOMEM;

        for (size_t i = 0; r >= 0 && i < n; i++)
                r = json_append(array, forward_to_json(forwards[i]));
        return r < 0 ? r : json_print(array);
}

static int print_specs(uservm_forward *const *forwards, size_t n) {
        for (size_t i = 0; i < n; i++) {
                print_text(STYLE_PLAIN, forwards[i]->spec);
                putchar('\n');
        }
        return output_flush();
}

int command_forward_list(const Arguments *arguments) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_forwards_freep) uservm_forward **forwards = NULL;
        const char *vm = arguments->words[0]; /* NULL: of all */
        size_t n;
        Exit e;
        int r;

        if (option_given(arguments, "json") && option_given(arguments, "quiet"))
                return usage_error(arguments->command, "--json and --quiet exclude each other");
        e = session_open(&u);
        if (e != EXIT_OK)
                return e;
        r = uservm_list_forwards(u, vm, &forwards, &n);
        if (r < 0)
                return session_failed(u, r);

        if (option_given(arguments, "json"))
                r = print_json(forwards, n);
        else if (option_given(arguments, "quiet"))
                r = print_specs(forwards, n);
        else
                r = print_table(forwards, n, vm);
        return output_exit(r);
}
