/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What qemu-img(1) says of a disk image in JSON ("qemu-img info --output=json"), read with json-c.
 * Pure: text in, values out. */

#include <stdbool.h>
#include <stdint.h>

#include "util.h"

typedef struct ImageInfo {
        char *format;          /* "qcow2", "raw", ... */
        uint64_t virtual_size; /* bytes, as a guest sees it */
        bool encrypted;
        bool corrupt;         /* qcow2's own mark */
        char *data_file;      /* a qcow2's other file with its data, or NULL */
        char *backing;        /* what it is based on, a path or what else QEMU knows, or NULL */
        char *backing_format; /* as noted in this image; NULL if it is not, and would be guessed */
} ImageInfo;

/* Returns 0; -EBADMSG: not what qemu-img prints; -ENOMEM. */
int image_info_parse(const char *json, ImageInfo **ret);
ImageInfo *image_info_free(ImageInfo *info);
DEFINE_CLEANUP(ImageInfo *, image_info_free);

/* How large a copy would be at most ("qemu-img measure --output=json": "required"), in bytes.
 * Returns as above. */
int image_measure_parse(const char *json, uint64_t *ret);

/* The last percentage that "qemu-img -p" has printed ("    (12.34/100%)\r", over and over): 0.0 to
 * 1.0; 0 if there is none yet. */
double image_progress_parse(const char *output);
