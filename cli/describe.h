/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* VMs and what belongs to them as JSON and as text. The JSON is an interface, described in
 * uservm(1): members are added, but neither renamed nor removed. */

#include <uservm.h>

#include "output.h"

/* All of them return NULL if memory is short. */
json_object *vm_to_json(const uservm_vm *vm);
json_object *forward_to_json(const uservm_forward *forward);
json_object *disks_to_json(uservm_disk *const *disks, size_t n);
json_object *job_to_json(const uservm_job *job);
json_object *strings_to_json(const char *const *strings);

/* Whether a VM that runs has something else now than what is stored. */
bool vm_memory_pending(const uservm_vm *vm);
bool vm_vcpus_pending(const uservm_vm *vm);

/* A forward as one would type it: without what is the default anyway. Free it. */
char *forward_short_text(const uservm_forward *forward);

/* What is to be known of a forward besides its state; "" if nothing is. */
const char *forward_note(const uservm_forward *forward);
