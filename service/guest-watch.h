/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Watches over the guest of a VM that runs: whether it is up, and what its agent says of it. Main
 * thread. */

#include "vm.h"

/* What the guest says of itself, by its agent. */
typedef struct GuestFacts {
        char *hostname, *os; /* NULL: not known */
        char **addresses;    /* NULL-terminated; or NULL */
} GuestFacts;

/* To be called after every operation on the VM. */
void guest_watch_update(VM *vm);

/* libvirt tells that the guest has been reset, or has rebooted. */
void guest_watch_rebooted(VM *vm);

/* w may be NULL. */
bool guest_watch_ready(const GuestWatch *w);
const GuestFacts *guest_watch_facts(const GuestWatch *w);

GuestWatch *guest_watch_free(GuestWatch *w);
