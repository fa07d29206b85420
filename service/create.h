/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Making a new VM from the settings of CreateVM. */

#include <systemd/sd-bus.h>

#include "manager.h"
#include "settings.h"

/* Takes over the settings. Returns as operation_submit(); message gets the reply, the path of the
 * new VM, when it is defined and, unless told otherwise, running. A failure leaves nothing behind.
 */
int create_vm(Manager *m, Settings *settings, sd_bus_message *message, sd_bus_error *error);
