/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* uservmd leaves by itself when it has had nothing to do for a while: no VM runs, none is being
 * worked on, and no client is there. D-Bus starts it again with the next call. */

#include "manager.h"

/* To be called whenever something has ended that may have been the last thing to do. */
void idle_later(Manager *m);
