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

/* Takes the lock of the one uservmd that works in the runtime folder (uservmd.lock). It is held
 * until *ret_fd is closed, or the process ends, however it does. Without a runtime folder there is
 * nothing to lock: *ret_fd is -EBADF then. -EBUSY with error set: another one has it. */
int runtime_lock(int *ret_fd, sd_bus_error *error);
