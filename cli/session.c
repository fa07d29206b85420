/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reading is quick, and is done with the functions of libuservm that wait. What changes something
 * may take its time: it is done with their asynchronous twins, so that the line that tells of it
 * can be kept up to date between the events.
 *
 * An interrupt (Ctrl-C) ends this program and nothing else: the service finishes what it has begun.
 * Jobs are the exception, see job.c. */

#include "session.h"

#include <errno.h>
#include <stdio.h>

#include "output.h"

Exit output_exit(int r) {
        if (r >= 0)
                return EXIT_OK;
        complain("cannot write the output: %s", strerror(-r));
        return EXIT_FAILED;
}

Exit session_open(uservm **ret_handle) {
        int r;

        r = uservm_open(NULL, ret_handle);
        if (r < 0) {
                complain("cannot reach your session bus: %s; run this in a login session of the "
                         "user who owns the VMs, where DBUS_SESSION_BUS_ADDRESS or XDG_RUNTIME_DIR "
                         "is set",
                         strerror(-r));
                return EXIT_FAILED;
        }
        return EXIT_OK;
}

/* What the errors that are told apart by the exit status mean. */
static Exit error_exit(const char *name) {
        static const struct {
                const char *name;
                Exit status;
        } errors[] = {
                { "org.uservm1.Error.NoSuchVM", EXIT_NOT_FOUND },
                { "org.uservm1.Error.NoSuchForward", EXIT_NOT_FOUND },
                { "org.uservm1.Error.InvalidForward", EXIT_USAGE },
                { "org.freedesktop.DBus.Error.InvalidArgs", EXIT_USAGE },
        };

        for (size_t i = 0; i < ELEMENTSOF(errors); i++)
                if (streq_ptr(errors[i].name, name))
                        return errors[i].status;
        return EXIT_FAILED;
}

Exit complain_error(int r, const char *name, const char *message) {
        if (streq_ptr(name, "org.freedesktop.DBus.Error.ServiceUnknown"))
                complain("uservmd is not installed where D-Bus finds it, or could not be started "
                         "(%s); see: journalctl --user -u uservmd",
                         message);
        else if (streq_ptr(name, "org.freedesktop.DBus.Error.NoReply"))
                complain("uservmd has not answered, and may have done it or not (%s); see: "
                         "journalctl --user -u uservmd",
                         message);
        else
                complain("%s", isempty(message) ? strerror(-r) : message);
        return error_exit(name);
}

Exit session_failed(uservm *u, int r) {
        return complain_error(r, uservm_error_name(u), uservm_error_message(u));
}

/* Milliseconds from now, as poll(2) wants them, not a moment too early. */
static int milliseconds_until(uint64_t until_usec) {
        uint64_t now = now_usec(), rest;

        if (until_usec == UINT64_MAX)
                return -1;
        if (until_usec <= now)
                return 0;
        rest = (until_usec - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC;
        return rest > INT32_MAX ? INT32_MAX : (int) rest;
}

#define POLL_MAX 4

int session_iterate(uservm *u, struct pollfd *others, size_t n_others, uint64_t until_usec) {
        struct pollfd fds[1 + POLL_MAX];
        uint64_t timeout;
        int r, n;

        r = uservm_process(u);
        if (r != 0)
                return r;
        r = uservm_get_timeout(u, &timeout);
        if (r < 0)
                return r;
        fds[0] = (struct pollfd){ .fd = uservm_get_fd(u), .events = (short) uservm_get_events(u) };
        for (size_t i = 0; i < n_others; i++)
                fds[1 + i] = others[i];

        n = poll(fds, 1 + n_others,
                 milliseconds_until(timeout < until_usec ? timeout : until_usec));
        if (n < 0 && errno != EINTR)
                return -errno;
        for (size_t i = 0; i < n_others; i++)
                others[i].revents = n > 0 ? fds[1 + i].revents : 0;
        return 0;
}

void task_finished(uservm_call *call, int result, void *userdata) {
        uservm *u = uservm_call_get_handle(call);
        Task *task = userdata;

        task->finished = true;
        task->result = result;
        if (result < 0) {
                const char *name = uservm_error_name(u), *message;

                task->error_name = name ? strdup(name) : NULL;
                message = uservm_error_message(u);
                task->error_message = message ? strdup(message) : NULL;
                return;
        }
        task->vm = uservm_vm_ref(uservm_call_get_vm(call));
        task->forward = uservm_forward_ref(uservm_call_get_forward(call));
        task->deletion = uservm_deletion_ref(uservm_call_get_deletion(call));
}

void task_done(Task *task) {
        free(task->error_name);
        free(task->error_message);
        uservm_vm_unref(task->vm);
        uservm_forward_unref(task->forward);
        uservm_deletion_unref(task->deletion);
}

Exit task_exit(const Task *task) {
        if (task->result < 0)
                return complain_error(task->result, task->error_name, task->error_message);
        return EXIT_OK;
}

Exit task_wait(uservm *u, int r, Task *task) {
        if (r < 0)
                return session_failed(u, r);
        while (!task->finished) {
                r = session_iterate(u, NULL, 0, progress_show(&task->progress));
                if (r < 0 && !task->finished) {
                        progress_end(&task->progress);
                        return session_failed(u, r);
                }
        }
        progress_end(&task->progress);
        return task_exit(task);
}
