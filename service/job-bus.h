/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* org.uservm1.Job on D-Bus: see bus-interfaces/org.uservm1.Job.xml. */

#include "job.h"

#define JOB_PATH_PREFIX "/org/uservm1/job"

/* Registers the interface for all jobs of the manager. */
int job_bus_register(Manager *m);

void job_bus_appeared(Manager *m, Job *job);
void job_bus_vanished(Manager *m, Job *job);
void job_bus_changed(Manager *m, Job *job); /* progress and rate */
