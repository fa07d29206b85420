/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Text of any origin, as D-Bus can carry it: UTF-8 (RFC 3629) without Unicode's noncharacters,
 * which sd-bus refuses. Pure. */

#include <stddef.h>
#include <stdint.h>

/* Reads the character at s. Returns its length in bytes, 1 to 4, or 0 if there is none that D-Bus
 * can carry; at the end of the string it is 1 and *ret is 0. */
size_t utf8_character(const char *s, uint32_t *ret);

/* Makes each byte that belongs to no such character a '?'. */
void utf8_make_valid(char *s);

/* A copy of what a stranger says, fit to be shown: at most max bytes of it, as above, and each byte
 * of a control character a '?' too, as a terminal would obey it. NULL without memory. */
char *utf8_copy_printable(const char *s, size_t max);
