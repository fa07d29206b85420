/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the table of commands in main.c is made of. Each function runs a command with arguments that
 * fit its entry there, and returns the exit status. */

#include "arguments.h"

/* Commands that only have --json. */
extern const Option options_json[];

extern const Option options_list[];
int command_list(const Arguments *arguments);
int command_show(const Arguments *arguments);
int command_version(const Arguments *arguments);

extern const Option options_create[];
int command_create(const Arguments *arguments);

int command_rename(const Arguments *arguments);
extern const Option options_set[];
int command_set(const Arguments *arguments);
int command_disk_list(const Arguments *arguments);
int command_disk_resize(const Arguments *arguments);

extern const Option options_delete[];
int command_delete(const Arguments *arguments);
int command_start(const Arguments *arguments);
int command_shutdown(const Arguments *arguments);
int command_poweroff(const Arguments *arguments);
int command_reboot(const Arguments *arguments);
int command_reset(const Arguments *arguments);
int command_pause(const Arguments *arguments);
int command_resume(const Arguments *arguments);
int command_save(const Arguments *arguments);
int command_autostart(const Arguments *arguments);

extern const Option options_forward_add[];
extern const Option options_forward_remove[];
extern const Option options_forward_list[];
int command_forward_add(const Arguments *arguments);
int command_forward_remove(const Arguments *arguments);
int command_forward_list(const Arguments *arguments);

extern const Option options_wait[];
int command_wait(const Arguments *arguments);

extern const Option options_ssh[];
int command_ssh(const Arguments *arguments);

int command_monitor(const Arguments *arguments);
