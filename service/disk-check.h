/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Whether files that a caller names can be what they are named for, looked at before anything is
 * made. Blocks: on a worker only. Errors are D-Bus errors that a person can act on (see error.h):
 * ImageNotFound, ImageUnusable, InvalidArgs for a relative path, NotSupported without qemu-img. */

#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "domain-xml.h"
#include "image-info.h"

/* Checks that a file named by the setting `key` (cdrom, kernel, initrd) is an absolute path to a
 * readable regular file (cdrom: or a block device). */
int disk_check_readable(const char *key, const char *path, sd_bus_error *error);

bool disk_is_block_device(const char *path);

/* What a VM would have a disk image for. */
typedef enum DiskUse {
        DISK_IN_PLACE, /* to write to it */
        DISK_AS_BASE,  /* to make a new image of it or on top of it */
} DiskUse;

/* A file that a VM has as a disk, or that uservm made for it. */
typedef struct DiskUser {
        char *vm, *path;
        bool writes;  /* to it, or it is nobody else's business */
        bool is_base; /* a disk of the VM is based on it */
} DiskUser;

typedef struct DiskUsers {
        DiskUser *items;
        size_t n;
} DiskUsers;

void disk_users_done(DiskUsers *users);
int disk_users_add(DiskUsers *users, const char *vm, const char *path, bool writes, bool is_base);
int disk_users_add_domain(DiskUsers *users, const DomainInfo *info); /* all that it has */

/* Checks that an image can be used so by this user: absolute path, a regular file or block device,
 * qcow2 or raw, readable (and writable), not encrypted, corrupt, or open in another program, and
 * all that it is based on there, as it should be, and no file that a VM of the users writes to.
 * *ret is what qemu-img says of it. */
int disk_inspect(const char *path, DiskUse use, const DiskUsers *users, ImageInfo **ret,
                 sd_bus_error *error);

/* Whether the file is one of the users'; files are compared, not their paths. */
bool disk_has_user(const char *path, const DiskUsers *users);

/* Whether a disk of the users is based on the file, however many images are between. */
bool disk_is_base(const char *path, const DiskUsers *users);

/* Checks that no VM has the file in a way that does not go together with this use: a base must not
 * be written to, and a disk belongs to one VM. ImageUnusable names the VM. Files are compared, not
 * their paths. */
int disk_check_users(const char *path, DiskUse use, const DiskUsers *users, sd_bus_error *error);
