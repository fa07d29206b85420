/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is read from files and from the terminal for a new VM: SSH keys, a password, user data. All
 * of them return EXIT_OK, or complain about what is wrong with it. */

#include <uservm.h>

#include "arguments.h"

/* What r, as libuservm returns it, makes of preparing the settings. */
Exit input_failed(int r);

/* The value is a public key, or names a file with one or more. */
Exit input_ssh_keys(const char *value, uservm_settings *s);

/* The first line of the file, or if it is "-" of standard input. On a terminal it is asked for, and
 * not shown. */
Exit input_password(const char *path, uservm_settings *s);

/* All of the file. */
Exit input_user_data(const char *path, uservm_settings *s);
