/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Start, shut down, pause and delete a VM, and whether it starts at login. Each call queues an
 * operation and returns as operation_submit(); message gets the reply when it is done. */

#include <systemd/sd-bus.h>

#include "vm.h"

int vm_start(VM *vm, sd_bus_message *message);
int vm_shutdown(VM *vm, sd_bus_message *message); /* replies when the guest has been asked */
int vm_power_off(VM *vm, sd_bus_message *message);
int vm_reboot(VM *vm, sd_bus_message *message); /* asks the guest */
int vm_reset(VM *vm, sd_bus_message *message);
int vm_pause(VM *vm, sd_bus_message *message);
int vm_resume(VM *vm, sd_bus_message *message);
int vm_save(VM *vm, sd_bus_message *message); /* memory to disk, then off */
int vm_set_autostart(VM *vm, bool enable, sd_bus_message *message);

typedef struct DeleteOptions {
        bool storage; /* the disks that uservm created go too */
        bool force;   /* a running VM is powered off first */
} DeleteOptions;

int vm_delete(VM *vm, const DeleteOptions *options, sd_bus_message *message);
