/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Sizes as people write them. Pure; the command uses it, too. */

#include <stdint.h>

/* "2G", "512M", "1073741824": bytes, with the suffixes K, M, G and T as powers of 1024, "iB"
 * allowed after them. Returns 0, -EINVAL, or -ERANGE. */
int size_parse(const char *s, uint64_t *ret);
