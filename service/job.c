/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The worker leaves numbers in atomic variables, and every tenth of a second at most has the main
 * thread look at them, by way of the pool (worker_post()). A look that is still on its way when the
 * job ends finds it by its number, or does not find it.
 *
 * To cancel is to write to an eventfd, which a worker that waits for a child process polls, and one
 * that waits for libvirt waits on in a thread of its own. */

#include "job.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>

#include "job-bus.h"

#define REPORT_INTERVAL_USEC 100000ULL

struct Job {
        Manager *manager;
        Job *next;
        unsigned number;
        const char *operation;
        char *path, *vm_name;
        uint64_t start_time; /* CLOCK_REALTIME */
        uint64_t begin_usec; /* CLOCK_MONOTONIC */
        int cancel_fd;

        /* From the worker. */
        _Atomic double progress;
        _Atomic uint64_t rate;
        uint64_t reported_usec; /* the worker's own */
};

static uint64_t now_usec(clockid_t clock) {
        struct timespec t;

        clock_gettime(clock, &t);
        return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

int job_new(Manager *m, const char *operation, const char *vm_name, Job **ret) {
        Job *job = new0(Job, 1);

        if (!job)
                return -ENOMEM;
        *job = (Job){
                .manager = m,
                .number = ++m->n_jobs_begun,
                .operation = operation,
                .start_time = now_usec(CLOCK_REALTIME),
                .begin_usec = now_usec(CLOCK_MONOTONIC),
                .cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                .vm_name = strdup(vm_name),
        };
        if (job->cancel_fd < 0 || !job->vm_name ||
            asprintf(&job->path, JOB_PATH_PREFIX "/%u", job->number) < 0) {
                closep(&job->cancel_fd);
                free(job->vm_name);
                free(job);
                return -ENOMEM;
        }
        job->next = m->jobs;
        m->jobs = job;
        job_bus_appeared(m, job);
        *ret = job;
        return 0;
}

Job *job_free(Job *job) {
        Job **link;

        if (!job)
                return NULL;
        for (link = &job->manager->jobs; *link != job; link = &(*link)->next)
                ;
        job_bus_vanished(job->manager, job);
        *link = job->next;
        closep(&job->cancel_fd);
        free(job->vm_name);
        free(job->path);
        free(job);
        return NULL;
}

Job *job_find(Manager *m, const char *path) {
        for (Job *job = m->jobs; job; job = job->next)
                if (streq(job->path, path))
                        return job;
        return NULL;
}

Job *job_next(Manager *m, Job *job) {
        return job ? job->next : m->jobs;
}

const char *job_path(const Job *job) {
        return job->path;
}

const char *job_operation(const Job *job) {
        return job->operation;
}

const char *job_vm_name(const Job *job) {
        return job->vm_name;
}

double job_progress(const Job *job) {
        return job->progress;
}

uint64_t job_rate(const Job *job) {
        return job->rate;
}

uint64_t job_start_time(const Job *job) {
        return job->start_time;
}

void job_cancel(Job *job) {
        (void) eventfd_write(job->cancel_fd, 1);
}

void job_cancel_copies(Manager *m) {
        for (Job *job = m->jobs; job; job = job->next)
                if (streq(job->operation, JOB_COPY))
                        job_cancel(job);
}

/* A look at the numbers, on the main thread. */
typedef struct Report {
        Manager *manager;
        unsigned number;
} Report;

static void on_report(void *userdata) {
        Report *report = userdata;

        for (Job *job = report->manager->jobs; job; job = job->next)
                if (job->number == report->number)
                        job_bus_changed(report->manager, job);
        free(report);
}

void job_report(Job *job, double progress, uint64_t bytes) {
        uint64_t now = now_usec(CLOCK_MONOTONIC), elapsed = now - job->begin_usec;
        Report *report;

        job->progress = progress;
        job->rate = elapsed > 0 ? (uint64_t) ((double) bytes * 1000000 / (double) elapsed) : 0;
        if (now - job->reported_usec < REPORT_INTERVAL_USEC)
                return;
        report = new0(Report, 1);
        if (!report)
                return;
        *report = (Report){ job->manager, job->number };
        if (worker_post(job->manager->workers, on_report, report) < 0)
                free(report);
        else
                job->reported_usec = now;
}

bool job_is_cancelled(const Job *job) {
        struct pollfd p = { .fd = job->cancel_fd, .events = POLLIN };

        return poll(&p, 1, 0) > 0;
}

int job_cancel_fd(const Job *job) {
        return job->cancel_fd;
}
