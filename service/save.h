/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Saving a VM's memory to disk, with its progress. Blocks: on a worker only. */

#include <libvirt/libvirt.h>

#include "job.h"

/* Saves and stops a running domain (virDomainManagedSave(3)). Cancelled when the job was, and the
 * VM runs on. */
int save_domain(virDomainPtr domain, const char *name, Job *job, sd_bus_error *error);
