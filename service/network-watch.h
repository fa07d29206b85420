/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Watches over the passts of a VM with managed networking: one that ends while its VM runs is
 * started anew, at once the first time, later and later if it goes on ending. */

#include "vm.h"

/* To be called after every operation on the VM: watches what there is now. Main thread. */
void network_watch_update(VM *vm);

/* What is wrong at present, as a sentence; "" if nothing is, or w is NULL. */
const char *network_watch_error(const NetworkWatch *w);

NetworkWatch *network_watch_free(NetworkWatch *w);
