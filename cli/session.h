/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The service, as the commands use it: a connection, operations that show on a terminal that they
 * take their time, and failures that become a line of text and an exit status. */

#include <poll.h>
#include <stdint.h>
#include <uservm.h>

#include "arguments.h"
#include "progress.h"

/* Returns EXIT_OK, or complains that what was printed could not be written if r is negative. */
Exit output_exit(int r);

/* Connects to the user's bus. Returns EXIT_OK, or complains. */
Exit session_open(uservm **ret_handle);

/* Complains about the operation that has just failed with r, in the service's own words. */
Exit session_failed(uservm *u, int r);

/* The same for an error that is known by its D-Bus name and message; both may be NULL. */
Exit complain_error(int r, const char *name, const char *message);

/* Lets events come in, also those of n_others more file descriptors, and returns after some have,
 * or at a time of CLOCK_MONOTONIC. Returns a negative errno if the bus has gone. */
int session_iterate(uservm *u, struct pollfd *others, size_t n_others, uint64_t until_usec);

/* An asynchronous operation that is waited for:
 *
 *     _cleanup_(task_done) Task task = { .progress = { "starting", name } };
 *     r = uservm_start_async(u, name, 0, task_finished, &task, NULL);
 *     e = task_wait(u, r, &task);
 */
typedef struct Task {
        Progress progress;
        bool finished;
        int result;
        char *error_name, *error_message;
        uservm_vm *vm;             /* what uservm_call_get_vm() gave */
        uservm_forward *forward;   /* what uservm_call_get_forward() gave */
        uservm_deletion *deletion; /* what uservm_call_get_deletion() gave */
} Task;

void task_finished(uservm_call *call, int result, void *userdata);
void task_done(Task *task);

/* r is what the function that began it returned. Returns EXIT_OK, or complains. */
Exit task_wait(uservm *u, int r, Task *task);

/* The same for one that has finished. */
Exit task_exit(const Task *task);
