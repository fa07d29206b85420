/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Disk images: made, inspected and removed with qemu-img(1), whose JSON json-c reads. Blocks: call
 * it on a worker. Errors are D-Bus errors that a person can act on (see error.h). */

#include <stdint.h>
#include <systemd/sd-bus.h>

/* The folder in which libvirt's session driver keeps images,
 * $XDG_DATA_HOME/libvirt/images or ~/.local/share/libvirt/images. Returns 0, -ENOMEM, or -ENXIO for
 * a user without a home. */
int disk_folder(char **ret);

/* The path a new image for the VM of this name gets: FOLDER/NAME.qcow2. Returns as
 * disk_folder(), or -EINVAL for a name that is empty or has a slash. */
int disk_path_for(const char *name, char **ret);

/* Creates an empty qcow2 of size bytes, rounded up to whole sectors, at path, which must not exist;
 * makes the folder (0711 as libvirt does) if needed. On failure no file is left. A size beyond
 * what qcow2 or a file on that file system can have is refused with ImageUnusable, a file that
 * exists already as well; size 0 and a relative path are InvalidArgs. */
int disk_create(const char *path, uint64_t size, sd_bus_error *error);

/* Checks that an existing image can be used as the VM's disk by this user: absolute path, a regular
 * file or block device, readable and writable, not encrypted, corrupt or on top of a broken chain.
 * *ret_format is "qcow2" or "raw" (anything else is ImageUnusable). Missing file: ImageNotFound.
 * Relative path: InvalidArgs. */
int disk_inspect(const char *path, char **ret_format, sd_bus_error *error);

/* Checks that a file named by the setting `key` (cdrom, kernel, initrd) is an absolute path to a
 * readable regular file (cdrom: or a block device). ImageNotFound, ImageUnusable, or
 * org.freedesktop.DBus.Error.InvalidArgs for a relative path. */
int disk_check_readable(const char *key, const char *path, sd_bus_error *error);

/* Removes an image that uservm created. A file that is gone already, or one that is not in
 * disk_folder(), is left alone and is no error. Returns 0 or a negative errno with error set. */
int disk_remove(const char *path, sd_bus_error *error);
