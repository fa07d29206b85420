/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Disk images, made and changed with qemu-img(1). Blocks: on a worker only. Errors are D-Bus errors
 * that a person can act on (see error.h). */

#include <stdint.h>
#include <systemd/sd-bus.h>

/* For what takes a while. */
typedef struct DiskProgress {
        /* How much is done, 0.0 to 1.0, of how many bytes. */
        void (*report)(double done, uint64_t bytes, void *userdata);
        void *userdata;
        int cancel_fd; /* once this can be read it ends, with the error Cancelled */
} DiskProgress;

/* They fill the file at path, an absolute one, which has to exist and whose content is lost. Sizes
 * are in bytes and rounded up to whole sectors; ImageUnusable if qcow2 or the file system cannot
 * have one as large. name is what the file is called in messages. */

/* An empty qcow2. */
int disk_create(const char *path, const char *name, uint64_t size, sd_bus_error *error);

/* A qcow2 on top of another image, which is at least of this size. */
int disk_create_overlay(const char *path, const char *name, const char *base,
                        const char *base_format, uint64_t size, sd_bus_error *error);

/* A qcow2 with all that is in another image and what that is based on, of at least this size. If
 * there is no room for it, it is not begun. */
int disk_copy(const char *path, const char *name, const char *source, const char *source_format,
              uint64_t size, const DiskProgress *progress, sd_bus_error *error);

/* Makes an image that nobody has open larger. */
int disk_resize(const char *path, const char *format, uint64_t size, sd_bus_error *error);
