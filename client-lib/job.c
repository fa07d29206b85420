/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Jobs: what a service reports of them, and how one is cancelled. They are values like VMs, see
 * value.c.
 *
 * Paths of jobs are numbered anew by each uservmd, so that a job is known by its path and the
 * unique name of its uservmd together. To that name the request to cancel goes: another uservmd's
 * job of the same number is safe from it. */

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#include "dictionary.h"
#include "internal.h"

typedef struct Job {
        uservm_job public;
        atomic_uint n_ref;
        char *sender;
} Job;

_public_ uservm_job *uservm_job_ref(const uservm_job *job) {
        Job *j = (Job *) job;

        if (j)
                atomic_fetch_add(&j->n_ref, 1);
        return (uservm_job *) job;
}

_public_ uservm_job *uservm_job_unref(uservm_job *job) {
        Job *j = (Job *) job;

        if (!j || atomic_fetch_sub(&j->n_ref, 1) > 1)
                return NULL;
        free_const(job->id);
        free_const(job->operation);
        free_const(job->vm);
        free(j->sender);
        free(j);
        return NULL;
}

_public_ void uservm_jobs_free(uservm_job **jobs) {
        for (uservm_job **j = jobs; j && *j; j++)
                uservm_job_unref(*j);
        free(jobs);
}

static const Key keys[] = {
        { "Operation", read_string, offsetof(uservm_job, operation) },
        { "VM", read_string, offsetof(uservm_job, vm) },
        { "Progress", read_double, offsetof(uservm_job, progress) },
        { "Rate", read_uint64, offsetof(uservm_job, rate) },
        { "StartTime", read_uint64, offsetof(uservm_job, start_time) },
        {},
};

static int copy_job(uservm_job *job, const uservm_job *from) {
        job->operation = strdup(from->operation);
        job->vm = strdup(from->vm);
        job->progress = from->progress;
        job->rate = from->rate;
        job->start_time = from->start_time;
        return job->operation && job->vm ? 0 : -ENOMEM;
}

int job_read(sd_bus_message *m, const char *path, const uservm_job *before, uservm_job **ret) {
        _cleanup_(uservm_job_unrefp) uservm_job *job = NULL;
        Job *new;
        int r;

        new = new0(Job, 1);
        if (!new)
                return -ENOMEM;
        new->n_ref = 1;
        job = &new->public;
        new->sender = strdup(sd_bus_message_get_sender(m));
        job->id = strdup(path);
        if (!new->sender || !job->id)
                return -ENOMEM;
        r = before ? copy_job(job, before) : 0;
        if (r < 0)
                return r;
        r = dictionary_read(m, keys, job);
        if (r < 0)
                return r;
        if (!job->operation || !job->vm)
                return -EBADMSG;
        *ret = TAKE_PTR(job);
        return 0;
}

bool job_is_same(const uservm_job *a, const uservm_job *b) {
        return streq(a->id, b->id) && streq(((const Job *) a)->sender, ((const Job *) b)->sender);
}

bool job_equal(const uservm_job *a, const uservm_job *b) {
        return a->progress == b->progress && a->rate == b->rate;
}

/* Operations */

static int make_list_jobs(uservm *u, Operation *o) {
        if (!u)
                return -EINVAL;
        o->type = RESULT_JOBS;
        return operation_made(u, operation_begin_objects(u, o));
}

_public_ int uservm_list_jobs(uservm *u, uservm_job ***ret, size_t *ret_n) {
        Operation o = {};

        return operation_wait_for(u, &o, make_list_jobs(u, &o), ret, ret_n);
}

_public_ int uservm_list_jobs_async(uservm *u, uservm_callback callback, void *userdata,
                                    uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_list_jobs(u, &o), callback, userdata, ret_call);
}

static int make_cancel_job(uservm *u, const uservm_job *job, Operation *o) {
        if (!u)
                return -EINVAL;
        if (!job)
                return handle_fail_argument(u, "No job is given");
        o->gone_is_done = true;
        return operation_made(u, sd_bus_message_new_method_call(u->bus, &o->first,
                                                                ((const Job *) job)->sender,
                                                                job->id, JOB_INTERFACE, "Cancel"));
}

_public_ int uservm_cancel_job(uservm *u, const uservm_job *job) {
        Operation o = {};

        return operation_wait_for(u, &o, make_cancel_job(u, job, &o), NULL, NULL);
}

_public_ int uservm_cancel_job_async(uservm *u, const uservm_job *job, uservm_callback callback,
                                     void *userdata, uservm_call **ret_call) {
        Operation o = {};

        return operation_send(u, &o, make_cancel_job(u, job, &o), callback, userdata, ret_call);
}
