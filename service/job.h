/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Something that takes longer than a moment, as others see it: an object on D-Bus that tells how
 * far it is and can be asked to end (bus-interfaces/org.uservm1.Job.xml). It belongs to the main
 * thread; the worker that does the work reports to it and heeds its wish to end. */

#include <systemd/sd-bus.h>

#include "manager.h"

typedef struct Job Job;

/* Puts a job on the bus; operation is a word of org.uservm1.Job.xml and not copied. */
int job_new(Manager *m, const char *operation, const char *vm_name, Job **ret);

/* Takes it off again. */
Job *job_free(Job *job);

#define JOB_COPY "copy"
#define JOB_SAVE "save"

/* Cancels all jobs that copy, of which nothing is lost. */
void job_cancel_copies(Manager *m);

/* For job-bus. */
Job *job_find(Manager *m, const char *path); /* or NULL */
Job *job_next(Manager *m, Job *job);         /* the first one after NULL; NULL after the last */
const char *job_path(const Job *job);
const char *job_operation(const Job *job);
const char *job_vm_name(const Job *job);
double job_progress(const Job *job);
uint64_t job_rate(const Job *job);       /* bytes per second, on average */
uint64_t job_start_time(const Job *job); /* CLOCK_REALTIME, microseconds */
void job_cancel(Job *job);

/* For the worker. */

/* How much is done: of all, 0.0 to 1.0, and in bytes. Told to the bus ten times a second at most.
 */
void job_report(Job *job, double progress, uint64_t bytes);

/* Whether it is to end; and a descriptor that can be read from when it is. */
bool job_is_cancelled(const Job *job);
int job_cancel_fd(const Job *job);
