/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The few C conveniences that every module uses: cleanup by attribute, ownership transfer, and
 * comparisons that read as words. Nothing here does I/O. */

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))

/* Defines NAMEp(), the cleanup function for a variable of type TYPE (a pointer). */
#define DEFINE_CLEANUP(type, name)                                                                 \
        static inline void name##p(type *p) {                                                      \
                if (*p)                                                                            \
                        name(*p);                                                                  \
        }

static inline void freep(void *p) {
        free(*(void **) p);
}

static inline void closep(int *fd) {
        if (*fd >= 0)
                close(*fd);
}

#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)

/* Hands the value of a variable on and leaves an empty one behind, so that cleanup spares it. */
#define TAKE_PTR(p)                                                                                \
        ({                                                                                         \
                typeof(p) *_pp = &(p);                                                             \
                typeof(p) _v = *_pp;                                                               \
                *_pp = NULL;                                                                       \
                _v;                                                                                \
        })
#define TAKE_FD(fd)                                                                                \
        ({                                                                                         \
                int *_pfd = &(fd);                                                                 \
                int _fd = *_pfd;                                                                   \
                *_pfd = -EBADF;                                                                    \
                _fd;                                                                               \
        })

#define ELEMENTSOF(array) (sizeof(array) / sizeof((array)[0]))

#define new0(type, n) ((type *) calloc((n), sizeof(type)))

static inline bool streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}

/* As streq(), with NULL equal only to NULL. */
static inline bool streq_ptr(const char *a, const char *b) {
        return a == b || (a && b && strcmp(a, b) == 0);
}

static inline bool isempty(const char *s) {
        return !s || !*s;
}

static inline char *startswith(const char *s, const char *prefix) {
        size_t n = strlen(prefix);

        return strncmp(s, prefix, n) == 0 ? (char *) s + n : NULL;
}

/* How much of a text from outside is quoted in a message, in bytes. */
#define QUOTED_MAX 64

/* The number of bytes of valid UTF-8 text that are no more than max and end with a whole character.
 */
static inline int utf8_prefix(const char *s, size_t max) {
        size_t n = strnlen(s, max + 1);

        if (n > max)
                for (n = max; n > 0 && ((unsigned char) s[n] & 0xc0) == 0x80; n--)
                        ;
        return (int) n;
}

/* A text as one word of a command that a message offers for a shell: in quotes, if it needs them,
 * whatever is in it. NULL without memory. */
static inline char *shell_quote(const char *s) {
        static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                    "0123456789_@%+=:,./-";
        char *quoted, *end;

        if (*s && !s[strspn(s, plain)])
                return strdup(s);
        quoted = end = new0(char, 4 * strlen(s) + 3);
        if (!quoted)
                return NULL;
        *end++ = '\'';
        for (; *s; s++)
                if (*s == '\'')
                        end = stpcpy(end, "'\\''");
                else
                        *end++ = *s;
        *end = '\'';
        return quoted;
}

static inline void strv_free(char **strv) {
        for (char **s = strv; s && *s; s++)
                free(*s);
        free(strv);
}
DEFINE_CLEANUP(char **, strv_free);

static inline bool strv_contains(char *const *strv, const char *s) {
        for (; strv && *strv; strv++)
                if (streq(*strv, s))
                        return true;
        return false;
}
