/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The service replies when all is done; what happens meanwhile a watch tells. The job is known by
 * its operation and its VM, as the service has one such job of a VM at a time. It has the VM's
 * name, while the command line may have the UUID.
 *
 * An interrupt that comes before the job is waits for it. A second one ends this program at once,
 * and the service goes on or not, as it was. */

#include "job.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "interrupt.h"
#include "output.h"

typedef struct JobWait {
        uservm *u;
        Task *task;
        const char *operation;
        char *name; /* of the VM, once it is known that it has another one than we were given */
        uservm_job *job;
        Interrupt interrupt;
        int signal; /* it is to be cancelled, because of that */
        bool cancelled;
} JobWait;

static void job_wait_done(JobWait *w) {
        interrupt_end(&w->interrupt);
        uservm_job_unref(w->job);
        free(w->name);
}

static bool is_meant(const JobWait *w, const uservm_job *job) {
        return streq(job->operation, w->operation) &&
               streq(job->vm, w->name ?: w->task->progress.vm);
}

static void cancel_if_wanted(JobWait *w) {
        if (w->signal == 0 || w->cancelled || !w->job)
                return;
        w->cancelled = uservm_cancel_job_async(w->u, w->job, NULL, NULL, NULL) >= 0;
}

static void on_change(uservm_watch *watch, const uservm_change *change, void *userdata) {
        JobWait *w = userdata;

        if (change->vm && streq(change->vm->uuid, w->task->progress.vm)) {
                free(w->name);
                w->name = strdup(change->vm->name);
        }
        if (!change->job || !is_meant(w, change->job))
                return;
        w->job = uservm_job_unref(w->job);
        if (change->event == USERVM_EVENT_JOB_REMOVED) {
                progress_end(&w->task->progress);
                return;
        }
        w->job = uservm_job_ref(change->job);
        progress_show_job(&w->task->progress, w->job);
        cancel_if_wanted(w);
}

/* One turn of the loop. */
static int turn(JobWait *w) {
        struct pollfd fd = { .fd = w->interrupt.fd, .events = POLLIN };
        int r;

        r = session_iterate(w->u, &fd, 1, progress_show(&w->task->progress));
        if (r >= 0 && fd.revents != 0) {
                w->signal = interrupt_take(&w->interrupt);
                interrupt_end(&w->interrupt);
                cancel_if_wanted(w);
        }
        return r;
}

static Exit finish(const JobWait *w) {
        if (w->signal == 0)
                return task_exit(w->task);
        if (!streq_ptr(w->task->error_name, "org.uservm1.Error.Cancelled")) {
                if (w->task->result >= 0)
                        complain("it was too late to cancel");
                return task_exit(w->task);
        }
        if (streq(w->operation, JOB_COPY))
                complain("cancelled; nothing of '%s' is left", w->task->progress.vm);
        else
                complain("%s", w->task->error_message);
        output_flush();
        raise(w->signal);
        return EXIT_FAILED;
}

Exit job_wait(uservm *u, int r, Task *task, const char *operation) {
        _cleanup_(job_wait_done) JobWait w = {
                .u = u,
                .task = task,
                .operation = operation,
                .interrupt = { .fd = -EBADF },
        };
        _cleanup_(uservm_watch_stopp) uservm_watch *watch = NULL;

        if (r >= 0)
                r = uservm_watch_start(u, on_change, &w, &watch);
        if (r < 0)
                return session_failed(u, r);
        r = interrupt_begin(&w.interrupt);
        if (r < 0) {
                complain("cannot wait for signals: %s", strerror(-r));
                return EXIT_FAILED;
        }
        while (r >= 0 && !task->finished)
                r = turn(&w);
        progress_end(&task->progress);
        return task->finished ? finish(&w) : session_failed(u, r);
}
