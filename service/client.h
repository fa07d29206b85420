/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Who calls. Only the user whose VMs these are is served: what another one of the machine calls is
 * refused, on a bus that lets them in. A program that has called is a client until it leaves the
 * bus. */

#include "manager.h"

/* Whether the session bus is this user's own; otherwise its owner could call in the name of
 * anybody. Logs the reason why not. To be asked before anything else is done on it. */
int client_check_bus(sd_bus *bus);

/* From now on looks at every call before it is handled. To be called when all others have added
 * their filters: of several, sd-bus asks the last one first. */
int client_register(Manager *m);

bool client_is_any(const Manager *m);
