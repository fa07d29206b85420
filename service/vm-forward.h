/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Add and remove a VM's port forwards. Each call queues an operation and returns as
 * operation_submit(). */

#include <systemd/sd-bus.h>

#include "vm.h"

typedef struct ForwardOptions {
        bool persistent; /* store it; false: for this run only */
        bool disruptive; /* re-plug the NIC so that it takes effect now */
} ForwardOptions;

/* Takes over the forward. Replies with its dictionary. */
int vm_add_forward(VM *vm, Forward *f, const ForwardOptions *options, sd_bus_message *message);
int vm_remove_forward(VM *vm, Forward *f, const ForwardOptions *options, sd_bus_message *message);
