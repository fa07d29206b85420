/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* org.uservm1.Manager and ObjectManager at /org/uservm1 on D-Bus: see
 * bus-interfaces/org.uservm1.Manager.xml. */

#include "manager.h"

#define USERVM_BUS_NAME "org.uservm1"

int manager_bus_register(Manager *m);

/* The host has been looked at (again): tells what it offers. */
void manager_bus_host_changed(Manager *m);
