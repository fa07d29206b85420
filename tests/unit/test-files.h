/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the tests of files and disk images share: a folder of their own, and the real qemu-img. */

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "error.h"
#include "process.h"
#include "test.h"
#include "util.h"

#define _cleanup_error_ _cleanup_(sd_bus_error_free)

#define CHECK_ERROR(expression, error_name)                                                        \
        do {                                                                                       \
                CHECK((expression) < 0);                                                           \
                CHECK_STR(error.name, error_name);                                                 \
        } while (0)

#define CHECK_MENTIONS(text, part)                                                                 \
        do {                                                                                       \
                const char *_t = (text);                                                           \
                if (!_t || !strstr(_t, part))                                                      \
                        printf("# in \"%s\"\n", _t ?: "(null)");                                   \
                CHECK(_t != NULL && strstr(_t, part) != NULL);                                     \
        } while (0)

static char root[64];

/* The path of a file in the test's folder. One of eight buffers in turn. */
static inline const char *in_root(const char *name) {
        static char buffers[8][256];
        static unsigned next;
        char *buffer = buffers[next++ % ELEMENTSOF(buffers)];

        snprintf(buffer, sizeof(buffers[0]), "%s/%s", root, name);
        return buffer;
}

static inline void write_file(const char *path, const void *data, size_t n) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        if (write(fd, data, n) != (ssize_t) n)
                abort();
}

static inline void write_zeros(const char *path, off_t size) {
        write_file(path, "", 0);
        if (truncate(path, size) < 0)
                abort();
}

/* Runs qemu-img with the arguments, up to NULL. */
static inline int qemu_img(const char *argument, ...) {
        const char *argv[16] = { "qemu-img", argument };
        va_list list;

        va_start(list, argument);
        for (size_t i = 2; i < ELEMENTSOF(argv) - 1 && argv[i - 1]; i++)
                argv[i] = va_arg(list, const char *);
        va_end(list);
        return process_run(argv, NULL, NULL);
}

static inline bool exists(const char *path) {
        struct stat st;

        return lstat(path, &st) >= 0;
}

/* The first and the last test. */

TEST(begins_in_a_folder_of_its_own) {
        snprintf(root, sizeof(root), "/tmp/uservm-test-files-XXXXXX");
        CHECK(mkdtemp(root));
        setenv("XDG_DATA_HOME", in_root("data"), 1);
        umask(022);
}

TEST(leaves_nothing_behind) {
        CHECK_INT(process_run((const char *const[]){ "rm", "-rf", root, NULL }, NULL, NULL), 0);
}
