/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libxml2 has a decoder, which takes a lone continuation byte for the begin of a character, and
 * characters that are longer than need be; its check is as lenient. A message with such a text is
 * refused by sd-bus, and who waits for it waits in vain. */

#include "utf8.h"

#include <stdbool.h>
#include <string.h>

static bool is_valid(uint32_t c, size_t length) {
        static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };

        if (c < least[length] || c > 0x10ffff)
                return false;
        if (c >= 0xd800 && c <= 0xdfff) /* halves of UTF-16 */
                return false;
        return !(c >= 0xfdd0 && c <= 0xfdef) && (c & 0xfffe) != 0xfffe;
}

size_t utf8_character(const char *s, uint32_t *ret) {
        const unsigned char *byte = (const unsigned char *) s;
        size_t length = *byte < 0x80   ? 1
                        : *byte < 0xc0 ? 0
                        : *byte < 0xe0 ? 2
                        : *byte < 0xf0 ? 3
                        : *byte < 0xf8 ? 4
                                       : 0;
        uint32_t c = length > 1 ? *byte & (0x7fU >> length) : *byte;

        for (size_t i = 1; i < length; i++) {
                if ((byte[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (byte[i] & 0x3f);
        }
        if (!is_valid(c, length))
                return 0;
        *ret = c;
        return length;
}

void utf8_make_valid(char *s) {
        while (*s) {
                uint32_t c;
                size_t length = utf8_character(s, &c);

                if (length == 0)
                        *s = '?';
                s += length > 0 ? length : 1;
        }
}

char *utf8_copy_printable(const char *s, size_t max) {
        char *copy = strndup(s, max);

        for (char *next = copy; next && *next;) {
                uint32_t c;
                size_t length = utf8_character(next, &c);

                if (length == 0 || c < ' ' || (c >= 0x7f && c < 0xa0)) {
                        *next = '?';
                        length = 1;
                }
                next += length;
        }
        return copy;
}
