/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Disks of VMs, and what a deletion has done to their files. They are values like VMs, see value.c.
 */

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#include "dictionary.h"
#include "internal.h"

typedef struct Disk {
        uservm_disk public;
        atomic_uint n_ref;
} Disk;

typedef struct Deletion {
        uservm_deletion public;
        atomic_uint n_ref;
} Deletion;

/* Disks */

_public_ uservm_disk *uservm_disk_ref(const uservm_disk *disk) {
        Disk *d = (Disk *) disk;

        if (d)
                atomic_fetch_add(&d->n_ref, 1);
        return (uservm_disk *) disk;
}

_public_ uservm_disk *uservm_disk_unref(uservm_disk *disk) {
        Disk *d = (Disk *) disk;

        if (!d || atomic_fetch_sub(&d->n_ref, 1) > 1)
                return NULL;
        free_const(disk->target);
        free_const(disk->device);
        free_const(disk->path);
        free_const(disk->format);
        free(d);
        return NULL;
}

_public_ void uservm_disks_free(uservm_disk **disks) {
        for (uservm_disk **d = disks; d && *d; d++)
                uservm_disk_unref(*d);
        free(disks);
}

static const Key disk_keys[] = {
        { "target", read_string, offsetof(uservm_disk, target) },
        { "device", read_string, offsetof(uservm_disk, device) },
        { "path", read_string, offsetof(uservm_disk, path) },
        { "format", read_string, offsetof(uservm_disk, format) },
        { "created", read_bool, offsetof(uservm_disk, created) },
        { "size", read_uint64, offsetof(uservm_disk, size) },
        { "allocation", read_uint64, offsetof(uservm_disk, allocation) },
        {},
};

static int read_disk(sd_bus_message *m, void **ret) {
        _cleanup_(uservm_disk_unrefp) uservm_disk *disk = NULL;
        Disk *new;
        int r;

        new = new0(Disk, 1);
        if (!new)
                return -ENOMEM;
        new->n_ref = 1;
        disk = &new->public;
        r = dictionary_read(m, disk_keys, disk);
        if (r < 0)
                return r;
        if (!disk->target || !disk->device)
                return -EBADMSG;
        *ret = TAKE_PTR(disk);
        return 0;
}

static void release_disk(void *disk) {
        uservm_disk_unref(disk);
}

int disk_read_list(sd_bus_message *m, uservm_disk ***ret, size_t *ret_n) {
        return dictionary_read_list(m, read_disk, release_disk, (void ***) ret, ret_n);
}

/* Deletions */

_public_ uservm_deletion *uservm_deletion_ref(const uservm_deletion *deletion) {
        Deletion *d = (Deletion *) deletion;

        if (d)
                atomic_fetch_add(&d->n_ref, 1);
        return (uservm_deletion *) deletion;
}

_public_ uservm_deletion *uservm_deletion_unref(uservm_deletion *deletion) {
        Deletion *d = (Deletion *) deletion;

        if (!d || atomic_fetch_sub(&d->n_ref, 1) > 1)
                return NULL;
        strings_free(deletion->removed);
        strings_free(deletion->left);
        free(d);
        return NULL;
}

static const Key deletion_keys[] = {
        { "removed", read_strings, offsetof(uservm_deletion, removed) },
        { "left", read_strings, offsetof(uservm_deletion, left) },
        {},
};

int deletion_read(sd_bus_message *m, uservm_deletion **ret) {
        _cleanup_(uservm_deletion_unrefp) uservm_deletion *deletion = NULL;
        Deletion *new;
        int r;

        new = new0(Deletion, 1);
        if (!new)
                return -ENOMEM;
        new->n_ref = 1;
        deletion = &new->public;
        r = dictionary_read(m, deletion_keys, deletion);
        if (r < 0)
                return r;
        if (!deletion->removed || !deletion->left)
                return -EBADMSG;
        *ret = TAKE_PTR(deletion);
        return 0;
}
