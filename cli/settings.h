/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the options of "create" say, as settings of libuservm. */

#include <uservm.h>

#include "arguments.h"

/* Sets all but the name; asks for a password last. *ret_copies says whether an image is to be
 * copied, which takes a while. Returns EXIT_OK, or complains. */
Exit settings_fill(const Arguments *arguments, uservm_settings *s, bool *ret_copies);
