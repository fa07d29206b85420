/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The user's runtime folder, XDG_RUNTIME_DIR: what is made in it is made only where nobody else can
 * put something in its place, and only by one uservmd at a time. */

#include <sys/types.h>
#include <systemd/sd-bus.h>

/* Its path, or NULL: a relative one counts as none (XDG Base Directory Specification). */
const char *runtime_folder(void);

/* Makes the folder `below` ("a/b/c") in it, where it is not there, and the last one its owner's
 * alone (0700). All of them have to be folders, no links, and this user's, and the runtime folder
 * itself open to nobody else; otherwise, or if there is none, error is set and tells what to do. */
int runtime_make_folder(const char *below, sd_bus_error *error);

/* Takes the lock of the one uservmd that works in the runtime folder (uservmd.lock), for as long as
 * this process lives. One that is just leaving is waited for; with another one, returns -EBUSY with
 * error set. Without a runtime folder there is nothing to lock. error may not be NULL. */
int runtime_lock(sd_bus_error *error);

/* Tells who wants the lock that it is about to be free. */
void runtime_leave(void);
