/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Whether a VM comes up at login: whether the systemd user unit uservm@NAME.service is enabled.
 * systemd enables and disables it (org.freedesktop.systemd1(5)); nothing is stored elsewhere. */

#include <stdbool.h>
#include <systemd/sd-bus.h>

/* The unit of the VM of this name, "uservm@NAME.service", escaped as systemd.unit(5) says. */
int autostart_unit_name(const char *name, char **ret);

/* Whether the unit is enabled: whether `systemctl --user enable` has left its symbolic link in
 * default.target.wants of the user's unit folder. Reads one folder entry. */
bool autostart_enabled(const char *name);

/* Enables or disables the unit through the user's systemd manager. Blocks: on a worker only.
 * NotSupported when there is no systemd user manager on the session bus. If systemd then fails to
 * read its units anew, that is only logged. */
int autostart_set(const char *name, bool enable, sd_bus_error *error);
