/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The files that uservm makes for a VM, in the folder where libvirt's session keeps images. They
 * have hidden names until the VM is defined, so that an end at a bad moment, kill -9 included,
 * leaves nothing that is not recognized and removed. Blocks: on a worker only. */

#include <stdint.h>
#include <systemd/sd-bus.h>

#include "util.h"

/* The folder in which libvirt's session driver keeps images,
 * $XDG_DATA_HOME/libvirt/images or ~/.local/share/libvirt/images. Returns 0, -ENOMEM, or -ENXIO for
 * a user without a home. */
int storage_folder(char **ret);

typedef struct NewFile {
        char *path;      /* what it is to be called */
        char *temporary; /* what it is called meanwhile */
        int fd;          /* open for writing, and locked, which says that its maker is alive */
} NewFile;

/* The new files of one VM, or those that are to go; begin with { .uuid = the VM's }. */
typedef struct Storage {
        const char *uuid;
        NewFile *files;
        size_t n;
        bool committed;
} Storage;

/* Makes an empty file NAME, in FOLDER and for its owner alone; makes the folder (0711 as libvirt
 * does) if needed. ImageUnusable if there is a file NAME, or if others could exchange what is in
 * the folder. *ret is valid until the next call. */
int storage_add(Storage *s, const char *name, const NewFile **ret, sd_bus_error *error);

/* Gives all files their names. Fails as storage_add(), and all are as before then. */
int storage_commit(Storage *s, sd_bus_error *error);

/* Forgets the files. What has not been committed is removed. */
void storage_done(Storage *s);

/* Forgets the files, and removes none: storage_clean_up() will find what is to become of them. */
void storage_leave(Storage *s);

/* Removes the files, committed or not. */
void storage_undo(Storage *s);

#define _cleanup_storage_ _cleanup_(storage_done)

/* Free space of the folder for this user, in bytes; the folder need not be there yet. */
int storage_free_space(uint64_t *ret);

/* Takes a file that uservm has made for the VM out of use: it gets a hidden name again, and goes
 * with storage_done(), or gets its name back with storage_restore(). One that is gone already, that
 * is not in the folder, or is no regular file is left alone and is no error. Returns 1: withdrawn,
 * 0: left, or a negative errno with error set. */
int storage_withdraw(Storage *s, const char *path, sd_bus_error *error);
void storage_restore(Storage *s); /* forgets the files, and removes none */

/* Finishes what was left by one that has been killed, or by storage_leave(): files of VMs that are
 * defined (their UUIDs, NULL-terminated) get their names, others are removed. Those that are being
 * made are left alone. */
void storage_clean_up(char *const *uuids);
