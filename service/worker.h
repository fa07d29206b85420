/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Threads for calls that block (libvirt, files, child processes), so that the main thread never
 * does. A job has two halves: one that runs on a thread of the pool, and one that the event loop
 * then runs on the main thread with the result. Jobs run in any order; what must be in order (the
 * operations on one VM) is ordered by who submits it. */

#include <systemd/sd-event.h>

#include "util.h"

typedef struct WorkerPool WorkerPool;

typedef void (*worker_func_t)(void *userdata);

/* A pool of up to max_threads threads, started as they are needed and kept; idle ones sleep. */
int worker_pool_new(sd_event *event, unsigned max_threads, WorkerPool **ret);

/* Ends the pool: jobs that run are waited for, jobs that wait are dropped, and no second half is
 * called any more; what was posted still is. Call it when worker_pool_busy() is 0 to lose nothing.
 */
WorkerPool *worker_pool_free(WorkerPool *pool);
DEFINE_CLEANUP(WorkerPool *, worker_pool_free);

/* Runs run(userdata) on a thread, then done(userdata) on the main thread.
 * Main thread only. Returns 0, -ENOMEM, or -EAGAIN when no thread could be started. */
int worker_submit(WorkerPool *pool, worker_func_t run, worker_func_t done, void *userdata);

/* Has func(userdata) called on the main thread soon. From any thread. 0 or -ENOMEM. */
int worker_post(WorkerPool *pool, worker_func_t func, void *userdata);

/* Jobs submitted whose second half has not run yet. Main thread only. */
unsigned worker_pool_busy(const WorkerPool *pool);
