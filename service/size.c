/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "size.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "util.h"

int size_parse(const char *s, uint64_t *ret) {
        static const char units[] = "KMGT";
        unsigned long long value;
        const char *unit;
        char *end;

        if (!isdigit((unsigned char) *s))
                return -EINVAL;
        errno = 0;
        value = strtoull(s, &end, 10);
        if (errno == ERANGE)
                return -ERANGE;
        if (*end) {
                unit = strchr(units, toupper((unsigned char) *end));
                if (!unit || (!streq(end + 1, "") && !streq(end + 1, "iB")))
                        return -EINVAL;
                if (__builtin_mul_overflow(value, 1ULL << (10 * (unit - units + 1)), &value))
                        return -ERANGE;
        }
        *ret = value;
        return 0;
}
