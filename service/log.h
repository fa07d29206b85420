/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One line an event, to standard error; under systemd that is the journal, which reads the
 * priority in front (sd-daemon(3)). */

#include <stdio.h>
#include <systemd/sd-daemon.h>

#define log_info(format, ...) fprintf(stderr, SD_INFO format "\n", ##__VA_ARGS__)
#define log_warning(format, ...) fprintf(stderr, SD_WARNING format "\n", ##__VA_ARGS__)
#define log_error(format, ...) fprintf(stderr, SD_ERR format "\n", ##__VA_ARGS__)
