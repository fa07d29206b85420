/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Images are sparse and may be larger than what is free now; only a copy is known to need its space
 * at once. What a new one can be as large as, is asked of the file system before qemu-img, which
 * says it less well. Formats are always given, and never guessed. */

#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "error.h"
#include "image-info.h"
#include "qemu-img.h"
#include "storage.h"
#include "util.h"

#define SECTOR_SIZE 512
#define NUMBER_MAX sizeof("18446744073709551615")

static int refuse_size(const char *name, uint64_t size, const char *why, sd_bus_error *error) {
        return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                 "A disk of %" PRIu64 " bytes cannot be created as '%s': %s", size,
                                 name, why);
}

/* Rounds it up, and asks the file system whether it allows it: how far a file may reach is the one
 * thing that seeking checks (lseek(2), EINVAL). */
static int check_size(const char *path, const char *name, uint64_t *size, sd_bus_error *error) {
        _cleanup_close_ int fd = -EBADF;

        if (*size > INT64_MAX - SECTOR_SIZE)
                return refuse_size(name, *size, "no file can be that large.", error);
        *size = (*size + SECTOR_SIZE - 1) / SECTOR_SIZE * SECTOR_SIZE;

        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return error_from_errno(error, errno, "open '%s'", name);
        if (lseek(fd, (off_t) *size, SEEK_SET) < 0)
                return refuse_size(name, *size, "the file system allows no file of that size.",
                                   error);
        return 0;
}

int disk_create(const char *path, const char *name, uint64_t size, sd_bus_error *error) {
        _cleanup_free_ char *words = NULL;
        char number[NUMBER_MAX];
        int r;

        r = check_size(path, name, &size, error);
        if (r < 0)
                return r;
        snprintf(number, sizeof(number), "%" PRIu64, size);
        r = qemu_img_run((const char *const[]){ "qemu-img", "create", "-q", "-f", "qcow2", path,
                                                number, NULL },
                         NULL, NULL, &words, error);
        return r > 0 ? refuse_size(name, size, words, error) : r;
}

int disk_create_overlay(const char *path, const char *name, const char *base,
                        const char *base_format, uint64_t size, sd_bus_error *error) {
        _cleanup_free_ char *words = NULL;
        char number[NUMBER_MAX];
        int r;

        r = check_size(path, name, &size, error);
        if (r < 0)
                return r;
        snprintf(number, sizeof(number), "%" PRIu64, size);
        r = qemu_img_run((const char *const[]){ "qemu-img", "create", "-q", "-f", "qcow2", "-b",
                                                base, "-F", base_format, path, number, NULL },
                         NULL, NULL, &words, error);
        return r > 0 ? refuse_size(name, size, words, error) : r;
}

/* Copying */

static int check_room(const char *name, const char *source, const char *format, uint64_t *ret_bytes,
                      sd_bus_error *error) {
        _cleanup_free_ char *output = NULL, *words = NULL;
        uint64_t room;
        int r;

        r = qemu_img_run((const char *const[]){ "qemu-img", "measure", "--output=json", "-f",
                                                format, "-O", "qcow2", source, NULL },
                         NULL, &output, &words, error);
        if (r < 0)
                return r;
        if (r > 0)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' cannot be copied: %s", source, words);
        r = image_measure_parse(output, ret_bytes);
        if (r < 0)
                return error_from_errno(error, -r, "understand how large a copy of '%s' would be",
                                        source);
        r = storage_free_space(&room);
        if (r < 0)
                return error_from_errno(error, -r, "find out how much room there is for '%s'",
                                        name);
        if (*ret_bytes > room)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "There is no room for '%s': a copy of '%s' takes up to "
                                         "%" PRIu64 " MiB, and %" PRIu64 " MiB are free. Without "
                                         "'copy' it takes next to nothing.",
                                         name, source, (*ret_bytes >> 20) + 1, room >> 20);
        return 0;
}

typedef struct Copying {
        const DiskProgress *progress;
        uint64_t bytes;
} Copying;

static void on_output(const char *output, void *userdata) {
        const Copying *c = userdata;

        c->progress->report(image_progress_parse(output), c->bytes, c->progress->userdata);
}

int disk_copy(const char *path, const char *name, const char *source, const char *source_format,
              uint64_t size, const DiskProgress *progress, sd_bus_error *error) {
        Copying copying = { .progress = progress };
        const ProcessWatch watch = { on_output, &copying, progress->cancel_fd };
        _cleanup_free_ char *words = NULL;
        int r;

        r = check_size(path, name, &size, error);
        if (r < 0)
                return r;
        r = check_room(name, source, source_format, &copying.bytes, error);
        if (r < 0)
                return r;
        r = qemu_img_run((const char *const[]){ "qemu-img", "convert", "-p", "-f", source_format,
                                                "-O", "qcow2", source, path, NULL },
                         &watch, NULL, &words, error);
        if (r < 0)
                return r;
        if (r > 0)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' could not be copied to '%s': %s", source,
                                         name, words);
        return disk_resize(path, "qcow2", size, error);
}

int disk_resize(const char *path, const char *format, uint64_t size, sd_bus_error *error) {
        _cleanup_free_ char *words = NULL;
        char number[NUMBER_MAX];
        int r;

        r = check_size(path, path, &size, error);
        if (r < 0)
                return r;
        snprintf(number, sizeof(number), "%" PRIu64, size);
        r = qemu_img_run((const char *const[]){ "qemu-img", "resize", "-q", "-f", format, path,
                                                number, NULL },
                         NULL, NULL, &words, error);
        if (r > 0)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' cannot be made larger: %s", path, words);
        return r;
}
