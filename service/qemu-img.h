/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The one way to run qemu-img(1). Blocks: on a worker only. */

#include <systemd/sd-bus.h>

#include "process.h"

/* Runs it with these arguments, the program's name first; watch may be NULL. *ret_output and
 * *ret_words may be NULL; the latter is the last line of what it complained of, without its name,
 * and never NULL after success. Returns its exit status, or a negative errno with error set:
 * NotSupported if it is not installed, Cancelled. */
int qemu_img_run(const char *const argv[], const ProcessWatch *watch, char **ret_output,
                 char **ret_words, sd_bus_error *error);
