/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Has no more answered than the bus takes: of who calls without end and reads nothing, the bus
 * keeps a lot, and what it does not keep would pile up in our memory. */

#include "manager.h"

/* From now on, while much waits to be written, nothing is read from the bus. To be called when the
 * bus has its event loop, and before client_register(). */
int backlog_register(Manager *m);
