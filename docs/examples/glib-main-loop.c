/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libuservm in a GLib main loop: starts a VM, shows what happens meanwhile, and ends when it runs.
 *
 *     cc glib-main-loop.c $(pkg-config --cflags --libs libuservm glib-2.0)
 *     ./a.out VM
 *
 * A GSource does what uservm_get_fd() says: it asks for events and timeout before each poll. */

#include <glib-unix.h>
#include <stdio.h>
#include <uservm.h>

typedef struct Source {
        GSource source;
        uservm *u;
        void *fd; /* GLib's tag of what it polls */
} Source;

/* A handle that is lost is ready at once, so that dispatch() ends it. */
static gboolean prepare(GSource *source, int *ret_msec) {
        Source *s = (Source *) source;
        uint64_t until;

        *ret_msec = -1;
        if (uservm_get_events(s->u) < 0 || uservm_get_timeout(s->u, &until) < 0)
                return TRUE;
        g_source_modify_unix_fd(source, s->fd, (GIOCondition) uservm_get_events(s->u));
        g_source_set_ready_time(source, until > INT64_MAX ? -1 : (gint64) until);
        return FALSE;
}

/* The ready time is of the same clock, CLOCK_MONOTONIC, and GLib itself looks at it. */
static gboolean check(GSource *source) {
        return g_source_query_unix_fd(source, ((Source *) source)->fd) != 0;
}

static gboolean dispatch(GSource *source, GSourceFunc callback, void *userdata) {
        return uservm_process(((Source *) source)->u) < 0 ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

static GSource *source_new(uservm *u) {
        static GSourceFuncs functions = { .prepare = prepare,
                                          .check = check,
                                          .dispatch = dispatch };
        GSource *source = g_source_new(&functions, sizeof(Source));
        Source *s = (Source *) source;

        s->u = u;
        s->fd = g_source_add_unix_fd(source, uservm_get_fd(u), G_IO_IN);
        return source;
}

typedef struct Program {
        GMainLoop *loop;
        int result;
} Program;

static void on_change(uservm_watch *watch, const uservm_change *change, void *userdata) {
        if (change->event == USERVM_EVENT_VM_ADDED || change->event == USERVM_EVENT_VM_CHANGED)
                printf("%s is %s\n", change->vm->name, uservm_state_to_string(change->vm->state));
}

static void on_started(uservm_call *call, int result, void *userdata) {
        Program *program = userdata;

        if (result < 0)
                fprintf(stderr, "%s\n", uservm_error_message(uservm_call_get_handle(call)));
        program->result = result;
        g_main_loop_quit(program->loop);
}

int main(int argc, char *argv[]) {
        Program program = { .result = -1 };
        GSource *source;
        uservm *u;

        if (argc != 2 || uservm_open(NULL, &u) < 0) {
                fprintf(stderr, "usage: %s VM (in a session with a bus)\n", argv[0]);
                return 1;
        }
        program.loop = g_main_loop_new(NULL, FALSE);
        source = source_new(u);
        g_source_attach(source, NULL);
        if (uservm_watch_start(u, on_change, NULL, NULL) >= 0 &&
            uservm_start_async(u, argv[1], 0, on_started, &program, NULL) >= 0)
                g_main_loop_run(program.loop);
        g_source_destroy(source);
        g_source_unref(source);
        g_main_loop_unref(program.loop);
        uservm_close(u);
        return program.result < 0;
}
