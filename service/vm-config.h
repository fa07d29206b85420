/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Change what a VM is: its name, memory, CPUs and disks. Each call queues an operation and returns
 * as operation_submit(); message gets the reply when it is done. The arguments have been checked.
 */

#include <systemd/sd-bus.h>

#include "vm.h"

int vm_rename(VM *vm, const char *name, sd_bus_message *message);
int vm_set_memory(VM *vm, uint64_t bytes, sd_bus_message *message);
int vm_set_vcpus(VM *vm, unsigned vcpus, sd_bus_message *message);
int vm_resize_disk(VM *vm, const char *target, uint64_t size, sd_bus_message *message);

/* Replies with the disks as ListDisks() has them. */
int vm_list_disks(VM *vm, sd_bus_message *message);
