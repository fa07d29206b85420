/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Signals that ask this program to end, as something to poll for instead: for as long as there is
 * something that it must not leave behind. */

#include <signal.h>
#include <stdbool.h>

#include "util.h"

typedef struct Interrupt {
        int fd; /* can be read from when there was a signal; -EBADF: it is over */
        sigset_t before;
} Interrupt;

/* From here on such a signal waits. A signal that is ignored (nohup(1)) stays so. Returns a
 * negative errno. */
int interrupt_begin(Interrupt *i);

/* From here on it ends this program again, and so does one that has waited. */
void interrupt_end(Interrupt *i);

/* Takes one that has waited. Returns its number, or 0 if there is none. */
int interrupt_take(Interrupt *i);
