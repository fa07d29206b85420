/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What an image is, is qemu-img(1)'s to say; this module asks it, and turns its answers into errors
 * that name the file and the way out. Before that come the checks that qemu-img would answer less
 * clearly or not at all: whether the file is there, of a kind that can be a disk, and open to this
 * user. A raw image has no signature, so qemu-img takes any file for one; we ask that it at least
 * consist of whole sectors, which a stray text file seldom does.
 *
 * An image can name others that it is based on, and QEMU would open them for the guest. One from a
 * stranger could so have the guest read any file of the user's (a raw image of a private key), or
 * reach out to the network. So each image of the chain is looked at by itself before the next one
 * is; what it is based on has to be a file, of a format that is noted, in the same folder or in the
 * one where libvirt's session keeps images, and not of another VM. A file with a qcow2's data
 * outside of it is not taken at all. Encrypted images are not either: nobody could enter the
 * secret. */

#include "disk-check.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "error.h"
#include "qemu-img.h"
#include "storage.h"

#define SECTOR_SIZE 512
/* No honest chain is as long; QEMU opens a file for each. */
#define CHAIN_MAX 64

/* Files */

bool disk_is_block_device(const char *path) {
        struct stat st;

        return stat(path, &st) >= 0 && S_ISBLK(st.st_mode);
}

static int check_absolute(const char *what, const char *path, sd_bus_error *error) {
        if (path[0] == '/')
                return 0;
        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                 "The path of the %s, '%s', must be absolute.", what, path);
}

static int check_kind(const char *what, const char *path, bool block_device, const struct stat *st,
                      sd_bus_error *error) {
        if (S_ISREG(st->st_mode) || (block_device && S_ISBLK(st->st_mode)))
                return 0;
        if (S_ISDIR(st->st_mode))
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The %s '%s' is a folder.", what, path);
        return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                 "The %s '%s' is not a regular file%s.", what, path,
                                 block_device ? " or block device" : "");
}

static int check_access(const char *what, const char *path, int mode, sd_bus_error *error) {
        const char *verb = mode == R_OK ? "read" : "write to";

        if (faccessat(AT_FDCWD, path, mode, AT_EACCESS) >= 0)
                return 0;

        switch (errno) {
        case EACCES:
        case EPERM:
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "You have no permission to %s the %s '%s'.", verb, what,
                                         path);
        case EROFS:
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The %s '%s' is on a file system that is mounted "
                                         "read-only.",
                                         what, path);
        default:
                return error_from_errno(error, errno, "%s the %s '%s'", verb, what, path);
        }
}

/* What every file that a VM is given has to be: there, of the right kind, and readable. */
static int check_file(const char *what, const char *path, bool block_device, struct stat *ret,
                      sd_bus_error *error) {
        int r;

        r = check_absolute(what, path, error);
        if (r < 0)
                return r;

        if (stat(path, ret) < 0) {
                if (errno == ENOENT || errno == ENOTDIR)
                        return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_NOT_FOUND,
                                                 "There is no %s '%s'.", what, path);
                if (errno == EACCES)
                        return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                                 "You have no permission to search one of the "
                                                 "folders that lead to the %s '%s'.",
                                                 what, path);
                return error_from_errno(error, errno, "find the %s '%s'", what, path);
        }

        r = check_kind(what, path, block_device, ret, error);
        if (r < 0)
                return r;
        return check_access(what, path, R_OK, error);
}

int disk_check_readable(const char *key, const char *path, sd_bus_error *error) {
        struct stat st;

        return check_file(key, path, streq(key, "cdrom"), &st, error);
}

/* An image by itself */

/* qemu-img's description of the image alone. Without -U it looks at whether a program has it open
 * that would write to it, as QEMU does. */
/* sharing: also of an image that is in use. */
static int read_info(const char *path, bool sharing, ImageInfo **ret, sd_bus_error *error) {
        _cleanup_free_ char *output = NULL, *words = NULL;
        int r;

        r = qemu_img_run((const char *const[]){ "qemu-img", "info", "--output=json", path,
                                                sharing ? "--force-share" : NULL, NULL },
                         NULL, &output, &words, error);
        if (r < 0)
                return r;
        if (r > 0 && startswith(words, "Is another process using the image"))
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' is in use by another program, such as a VM "
                                         "that runs; shut that down first, or use a copy.",
                                         path);
        if (r > 0)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "qemu-img cannot make out the disk '%s': %s", path, words);

        r = image_info_parse(output, ret);
        if (r < 0)
                return error_from_errno(error, -r, "understand qemu-img's description of '%s'",
                                        path);
        return 0;
}

static int check_raw(const char *path, const struct stat *st, sd_bus_error *error) {
        if (!S_ISREG(st->st_mode))
                return 0;
        if (st->st_size == 0)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' is an empty file.", path);
        if (st->st_size % SECTOR_SIZE != 0)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The file '%s' is not a disk image: it has no format that "
                                         "qemu-img knows, and its %jd bytes are no whole number of "
                                         "%d-byte sectors.",
                                         path, (intmax_t) st->st_size, SECTOR_SIZE);
        return 0;
}

static int check_format(const char *path, const ImageInfo *info, const struct stat *st,
                        sd_bus_error *error) {
        _cleanup_free_ char *quoted = shell_quote(path);

        if (!quoted)
                return -ENOMEM;
        if (info->encrypted)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' is encrypted, which is not supported. "
                                         "Encrypt inside the VM instead.",
                                         path);
        if (streq(info->format, "raw"))
                return check_raw(path, st, error);
        if (!streq(info->format, "qcow2"))
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' is of the format %s; only qcow2 and raw "
                                         "are supported. Convert it with: qemu-img convert -O "
                                         "qcow2 %s NEW.qcow2",
                                         path, info->format, quoted);
        if (info->corrupt)
                return sd_bus_error_setf(
                        error, USERVM_ERROR_IMAGE_UNUSABLE,
                        "The disk '%s' is marked as corrupt. Make a copy, then try "
                        "to repair it with: qemu-img check -r all %s",
                        path, quoted);
        if (info->data_file)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' has its data in another file, '%s', which "
                                         "is not supported. Convert it with: qemu-img convert -O "
                                         "qcow2 %s NEW.qcow2",
                                         path, info->data_file, quoted);
        return 0;
}

/* The chain */

static bool same_file(const char *a, const char *b) {
        struct stat x, y;

        return stat(a, &x) >= 0 && stat(b, &y) >= 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static char *folder_of(const char *path) {
        return strndup(path, (size_t) (strrchr(path, '/') + 1 - path));
}

/* Whether an image may name this file, see above. What counts is where the file is: an archive may
 * have brought, beside an image, a link to anywhere. */
static int is_near(const char *path, const char *backing) {
        _cleanup_free_ char *real = realpath(backing, NULL), *folder = NULL, *backing_folder = NULL,
                            *storage = NULL;

        if (!real)
                return errno == ENOMEM ? -ENOMEM : 0;
        folder = folder_of(path);
        backing_folder = folder_of(real);
        if (!folder || !backing_folder)
                return -ENOMEM;
        if (same_file(folder, backing_folder))
                return true;
        return storage_folder(&storage) >= 0 && same_file(storage, backing_folder);
}

static int check_backing(const char *path, const ImageInfo *info, sd_bus_error *error) {
        _cleanup_free_ char *quoted = shell_quote(path), *backing = shell_quote(info->backing);
        struct stat st;
        int r;

        if (!quoted || !backing)
                return -ENOMEM;
        if (info->backing[0] != '/')
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' is based on '%s', which is not a file.",
                                         path, info->backing);
        if (!info->backing_format)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' is based on '%s' and does not say of which "
                                         "format that is. If it is qcow2, note it with: qemu-img "
                                         "rebase -u -F qcow2 -b %s %s",
                                         path, info->backing, backing, quoted);
        if (stat(info->backing, &st) < 0)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' is based on '%s', which cannot be used: %s",
                                         path, info->backing, strerror(errno));
        r = is_near(path, info->backing);
        if (r < 0)
                return r;
        if (r == 0)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' is based on '%s' in another folder, as an "
                                         "image that is to steal a file would be. If that is all "
                                         "right, put both into one folder, or make one of them: "
                                         "qemu-img convert -O qcow2 %s NEW.qcow2",
                                         path, info->backing, quoted);
        return 0;
}

/* One image of the chain. */
static int inspect(const char *path, ImageInfo **ret, sd_bus_error *error) {
        _cleanup_(image_info_freep) ImageInfo *info = NULL;
        struct stat st;
        int r;

        r = check_file("disk", path, true, &st, error);
        if (r < 0)
                return r;
        r = read_info(path, false, &info, error);
        if (r < 0)
                return r;
        r = check_format(path, info, &st, error);
        if (r < 0)
                return r;
        if (info->backing) {
                r = check_backing(path, info, error);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(info);
        return 0;
}

/* Says which image the trouble is with, and which one it is trouble for. */
static int fail_chain(const char *path, int r, const sd_bus_error *reason, sd_bus_error *error) {
        if (!sd_bus_error_is_set(reason))
                return r;
        return sd_bus_error_setf(error, reason->name, "The disk '%s' cannot be used as it is. %s",
                                 path, reason->message);
}

/* A base that changes is no base; and one that is a disk of a VM may have been named in order to
 * get at what is on it. */
static int check_backing_users(const char *path, const DiskUsers *users, sd_bus_error *error) {
        for (size_t i = 0; i < users->n; i++) {
                const DiskUser *user = &users->items[i];

                if (!user->writes || user->is_base || !same_file(user->path, path))
                        continue;
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "It is based on '%s', which belongs to VM '%s'.", path,
                                         user->vm);
        }
        return 0;
}

/* All that the image is based on. */
static int check_chain(const char *path, const ImageInfo *info, const DiskUsers *users,
                       sd_bus_error *error) {
        _cleanup_free_ char *next = info->backing ? strdup(info->backing) : NULL;

        if (info->backing && !next)
                return -ENOMEM;
        for (unsigned i = 0; next; i++) {
                _cleanup_(image_info_freep) ImageInfo *backing = NULL;
                _cleanup_(sd_bus_error_free) sd_bus_error reason = SD_BUS_ERROR_NULL;
                int r;

                if (i == CHAIN_MAX)
                        return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                                 "The disk '%s' is based on more than %d others.",
                                                 path, CHAIN_MAX);
                r = check_backing_users(next, users, &reason);
                if (r >= 0)
                        r = inspect(next, &backing, &reason);
                if (r < 0)
                        return fail_chain(path, r, &reason, error);
                free(next);
                next = TAKE_PTR(backing->backing);
        }
        return 0;
}

int disk_inspect(const char *path, DiskUse use, const DiskUsers *users, ImageInfo **ret,
                 sd_bus_error *error) {
        _cleanup_(image_info_freep) ImageInfo *info = NULL;
        struct stat st;
        int r;

        r = check_file("disk", path, true, &st, error);
        if (r >= 0 && use == DISK_IN_PLACE)
                r = check_access("disk", path, W_OK, error);
        if (r >= 0)
                r = inspect(path, &info, error);
        if (r >= 0)
                r = check_chain(path, info, users, error);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(info);
        return 0;
}

/* Other VMs */

void disk_users_done(DiskUsers *users) {
        for (size_t i = 0; i < users->n; i++) {
                free(users->items[i].vm);
                free(users->items[i].path);
        }
        free(users->items);
        *users = (DiskUsers){};
}

int disk_users_add(DiskUsers *users, const char *vm, const char *path, bool writes, bool is_base) {
        DiskUser *items = reallocarray(users->items, users->n + 1, sizeof(DiskUser));

        if (!items)
                return -ENOMEM;
        users->items = items;
        items[users->n] = (DiskUser){ strdup(vm), strdup(path), writes, is_base };
        if (!items[users->n].vm || !items[users->n].path) {
                free(items[users->n].vm);
                free(items[users->n].path);
                return -ENOMEM;
        }
        users->n++;
        return 0;
}

int disk_users_add_domain(DiskUsers *users, const DomainInfo *info) {
        int r = 0;

        for (size_t i = 0; i < info->n_disks && r >= 0; i++)
                if (info->disks[i].path)
                        r = disk_users_add(users, info->name, info->disks[i].path,
                                           !info->disks[i].read_only, false);
        for (size_t i = 0; i < info->n_storage && r >= 0; i++) {
                const DomainStorage *storage = &info->storage[i];

                if (storage->is_setup) /* there may be a password in it */
                        r = disk_users_add(users, info->name, storage->path, true, false);
                if (storage->base && r >= 0)
                        r = disk_users_add(users, info->name, storage->base, false, true);
        }
        return r;
}

bool disk_has_user(const char *path, const DiskUsers *users) {
        for (size_t i = 0; i < users->n; i++)
                if (same_file(users->items[i].path, path))
                        return true;
        return false;
}

static bool is_in_chain(const char *path, const char *image) {
        _cleanup_free_ char *next = strdup(image);

        for (unsigned i = 0; next && i < CHAIN_MAX; i++) {
                _cleanup_(image_info_freep) ImageInfo *info = NULL;

                if (read_info(next, true, &info, NULL) < 0 || !info->backing)
                        return false;
                if (same_file(info->backing, path))
                        return true;
                free(next);
                next = strdup(info->backing);
        }
        return false;
}

bool disk_is_base(const char *path, const DiskUsers *users) {
        for (size_t i = 0; i < users->n; i++)
                if (is_in_chain(path, users->items[i].path))
                        return true;
        return false;
}

int disk_check_users(const char *path, DiskUse use, const DiskUsers *users, sd_bus_error *error) {
        for (size_t i = 0; i < users->n; i++) {
                const DiskUser *user = &users->items[i];

                if (!same_file(user->path, path))
                        continue;
                if (user->is_base && use == DISK_IN_PLACE)
                        return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                                 "The disk of VM '%s' is based on '%s', which must "
                                                 "not be written to. Give it as 'image' instead.",
                                                 user->vm, path);
                if (!user->is_base && (user->writes || use == DISK_IN_PLACE))
                        return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                                 "'%s' is a disk of VM '%s' already. Use a copy of "
                                                 "it, or delete that VM first.",
                                                 path, user->vm);
        }
        return 0;
}
