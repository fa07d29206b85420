/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What an image is and what a new one looks like is qemu-img(1)'s to say; this module asks it,
 * in JSON, and turns its answers into errors that name the file and the way out. Before that come
 * the checks that qemu-img would answer less clearly or not at all: whether the file is there, of a
 * kind that can be a disk, and open to this user. A raw image has no signature, so qemu-img takes
 * any file for one; we ask that it at least consist of whole sectors, which a stray text file
 * seldom does.
 *
 * Paths are absolute: qemu-img takes "nbd:…" or "-x" for something other than a file, but nothing
 * that begins with a slash. A new image is created here, exclusively and for its owner alone, and
 * only then filled by qemu-img, which would overwrite whatever it found.
 *
 * Images are sparse and may be larger than what is free now. Encrypted images are not taken: nobody
 * could enter the secret. Images in use are looked at without their lock (-U): they belong to a VM
 * that runs, and libvirt is the one to refuse a second. */

#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>

#include "error.h"
#include "process.h"
#include "util.h"

#define SECTOR_SIZE 512

static inline void json_free(json_object *json) {
        json_object_put(json);
}
DEFINE_CLEANUP(json_object *, json_free);
#define _cleanup_json_ _cleanup_(json_freep)

/* Places */

static int home_folder(char **ret) {
        const char *home = getenv("HOME");
        struct passwd storage, *user = NULL;
        char buffer[4096];

        if (isempty(home) && getpwuid_r(getuid(), &storage, buffer, sizeof(buffer), &user) == 0 &&
            user)
                home = user->pw_dir;
        if (isempty(home))
                return -ENXIO;

        *ret = strdup(home);
        return *ret ? 0 : -ENOMEM;
}

int disk_folder(char **ret) {
        const char *data = getenv("XDG_DATA_HOME");
        _cleanup_free_ char *home = NULL;
        int r;

        /* A relative path is invalid and to be ignored, says the XDG Base Directory Specification.
         */
        if (data && data[0] == '/')
                return asprintf(ret, "%s/libvirt/images", data) < 0 ? -ENOMEM : 0;

        r = home_folder(&home);
        if (r < 0)
                return r;
        return asprintf(ret, "%s/.local/share/libvirt/images", home) < 0 ? -ENOMEM : 0;
}

int disk_path_for(const char *name, char **ret) {
        _cleanup_free_ char *folder = NULL;
        int r;

        if (isempty(name) || strchr(name, '/'))
                return -EINVAL;

        r = disk_folder(&folder);
        if (r < 0)
                return r;
        return asprintf(ret, "%s/%s.qcow2", folder, name) < 0 ? -ENOMEM : 0;
}

/* The folder that the absolute path is in. Returns NULL without memory. */
static char *parent_of(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash == path ? strdup("/") : strndup(path, (size_t) (slash - path));
}

/* Makes the folder, and first the ones it is in, those private as the XDG specification asks. */
static int make_folder(const char *path, mode_t mode) {
        _cleanup_free_ char *parent = NULL;
        int r;

        if (mkdir(path, mode) >= 0 || errno == EEXIST)
                return 0;
        if (errno != ENOENT)
                return -errno;

        parent = parent_of(path);
        if (!parent)
                return -ENOMEM;
        r = make_folder(parent, 0700);
        if (r < 0)
                return r;
        return mkdir(path, mode) < 0 && errno != EEXIST ? -errno : 0;
}

/* qemu-img */

/* The last line of what qemu-img complained of, without its name. Points into text. */
static const char *last_line(char *text) {
        size_t n = strlen(text);
        char *line, *words;

        while (n > 0 && text[n - 1] == '\n')
                text[--n] = '\0';
        line = strrchr(text, '\n');
        line = line ? line + 1 : text;
        words = startswith(line, "qemu-img: ");
        return words ?: line;
}

/* Returns qemu-img's exit status, or a negative errno with error set. *ret_words is to be freed,
 * its meaning is in last_line(). */
static int qemu_img(const char *const argv[], char **ret_output, char **ret_words,
                    sd_bus_error *error) {
        int r;

        r = process_run(argv, ret_output, ret_words);
        if (r == -ENOENT)
                return sd_bus_error_set(error, USERVM_ERROR_NOT_SUPPORTED,
                                        "qemu-img is not installed. It comes with the package "
                                        "qemu-utils (Debian, Ubuntu) or qemu-img (Fedora).");
        if (r < 0)
                return error_from_errno(error, -r, "run qemu-img");
        return r;
}

/* Files */

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

/* Looking at an image */

static const char *get_string(json_object *json, const char *key) {
        json_object *value;

        return json_object_object_get_ex(json, key, &value) ? json_object_get_string(value) : NULL;
}

static bool get_bool(json_object *json, const char *key) {
        json_object *value;

        return json_object_object_get_ex(json, key, &value) && json_object_get_boolean(value);
}

/* qemu-img's description of the image, whose backing files it does not open for this. */
static int image_info(const char *path, json_object **ret, sd_bus_error *error) {
        _cleanup_free_ char *output = NULL, *words = NULL;
        int r;

        r = qemu_img((const char *const[]){ "qemu-img", "info", "--output=json", "-U", path, NULL },
                     &output, &words, error);
        if (r < 0)
                return r;
        if (r > 0)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "qemu-img cannot make out the disk '%s': %s", path,
                                         last_line(words));

        *ret = json_tokener_parse(output);
        if (!json_object_is_type(*ret, json_type_object)) {
                json_object_put(*ret);
                return error_from_errno(error, EBADMSG, "understand qemu-img's description of '%s'",
                                        path);
        }
        return 0;
}

static bool is_corrupt(json_object *info) {
        json_object *specific, *data;

        return json_object_object_get_ex(info, "format-specific", &specific) &&
               json_object_object_get_ex(specific, "data", &data) && get_bool(data, "corrupt");
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

static int check_format(const char *path, const char *format, json_object *info,
                        const struct stat *st, sd_bus_error *error) {
        if (get_bool(info, "encrypted"))
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' is encrypted, which is not supported. "
                                         "Encrypt inside the VM instead.",
                                         path);
        if (streq(format, "raw"))
                return check_raw(path, st, error);
        if (!streq(format, "qcow2"))
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The disk '%s' is of the format %s; only qcow2 and raw "
                                         "are supported. Convert it with: qemu-img convert -O "
                                         "qcow2 '%s' NEW.qcow2",
                                         path, format, path);
        if (is_corrupt(info))
                return sd_bus_error_setf(
                        error, USERVM_ERROR_IMAGE_UNUSABLE,
                        "The disk '%s' is marked as corrupt. Make a copy, then try "
                        "to repair it with: qemu-img check -r all '%s'",
                        path, path);
        return 0;
}

/* Lets qemu-img open every image that this one is based on. */
static int check_backing_chain(const char *path, json_object *info, sd_bus_error *error) {
        const char *backing = get_string(info, "full-backing-filename");
        _cleanup_free_ char *words = NULL;
        int r;

        if (!backing)
                backing = get_string(info, "backing-filename");
        if (!backing)
                return 0;

        r = qemu_img((const char *const[]){ "qemu-img", "info", "--output=json", "-U",
                                            "--backing-chain", path, NULL },
                     NULL, &words, error);
        if (r <= 0)
                return r;
        return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                 "The disk '%s' is based on '%s', which cannot be used: %s", path,
                                 backing, last_line(words));
}

int disk_inspect(const char *path, char **ret_format, sd_bus_error *error) {
        _cleanup_json_ json_object *info = NULL;
        const char *format;
        struct stat st;
        char *copy;
        int r;

        r = check_file("disk", path, true, &st, error);
        if (r < 0)
                return r;
        r = check_access("disk", path, W_OK, error);
        if (r < 0)
                return r;

        r = image_info(path, &info, error);
        if (r < 0)
                return r;
        format = get_string(info, "format") ?: "unknown";

        r = check_format(path, format, info, &st, error);
        if (r < 0)
                return r;
        r = check_backing_chain(path, info, error);
        if (r < 0)
                return r;

        copy = strdup(format);
        if (!copy)
                return error_from_errno(error, ENOMEM, "inspect the disk '%s'", path);
        *ret_format = copy;
        return 0;
}

/* Making and removing one */

static int refuse_size(const char *path, uint64_t size, const char *why, sd_bus_error *error) {
        return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                 "A disk of %" PRIu64 " bytes cannot be created as '%s': %s", size,
                                 path, why);
}

/* Creates the file that qemu-img is to fill. */
static int create_file(const char *path, uint64_t size, sd_bus_error *error) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno == EEXIST)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The file '%s' exists already and is not overwritten. "
                                         "Remove it, or use it as it is with the setting 'disk'.",
                                         path);
        if (fd < 0)
                return error_from_errno(error, errno, "create the disk '%s'", path);

        /* How far a file may reach is the one thing that seeking checks (lseek(2), EINVAL). */
        if (lseek(fd, (off_t) size, SEEK_SET) < 0) {
                r = refuse_size(path, size, "the file system allows no file of that size.", error);
                unlink(path);
                return r;
        }
        return 0;
}

static int fill_file(const char *path, uint64_t size, sd_bus_error *error) {
        _cleanup_free_ char *words = NULL;
        char number[sizeof("18446744073709551615")];
        int r;

        snprintf(number, sizeof(number), "%" PRIu64, size);
        r = qemu_img((const char *const[]){ "qemu-img", "create", "-q", "-f", "qcow2", path, number,
                                            NULL },
                     NULL, &words, error);
        return r > 0 ? refuse_size(path, size, last_line(words), error) : r;
}

int disk_create(const char *path, uint64_t size, sd_bus_error *error) {
        _cleanup_free_ char *folder = NULL;
        int r;

        r = check_absolute("disk", path, error);
        if (r < 0)
                return r;
        if (size == 0)
                return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                        "The size of a disk must be more than 0.");
        if (size > INT64_MAX - SECTOR_SIZE)
                return refuse_size(path, size, "no file can be that large.", error);
        size = (size + SECTOR_SIZE - 1) / SECTOR_SIZE * SECTOR_SIZE;

        folder = parent_of(path);
        r = folder ? make_folder(folder, 0711) : -ENOMEM;
        if (r < 0)
                return error_from_errno(error, -r, "create the folder of the disk '%s'", path);

        r = create_file(path, size, error);
        if (r < 0)
                return r;

        r = fill_file(path, size, error);
        if (r < 0)
                unlink(path);
        return r;
}

/* Opens the folder that the path is in, if that is the one of disk_folder(): the same folder,
 * however it is written. Otherwise, or if it does not exist, returns -ENOENT. */
static int open_disk_folder_of(const char *path) {
        _cleanup_free_ char *folder = NULL, *parent = NULL;
        _cleanup_close_ int folder_fd = -EBADF, parent_fd = -EBADF;
        struct stat a, b;
        int r;

        r = disk_folder(&folder);
        if (r < 0)
                return r;
        parent = parent_of(path);
        if (!parent)
                return -ENOMEM;

        folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (folder_fd >= 0)
                parent_fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (parent_fd < 0)
                return errno == ENOTDIR ? -ENOENT : -errno;
        if (fstat(folder_fd, &a) < 0 || fstat(parent_fd, &b) < 0)
                return -errno;
        if (a.st_dev != b.st_dev || a.st_ino != b.st_ino)
                return -ENOENT;
        return TAKE_FD(parent_fd);
}

int disk_remove(const char *path, sd_bus_error *error) {
        _cleanup_close_ int folder_fd = -EBADF;
        const char *name;
        struct stat st;

        if (path[0] != '/')
                return 0;

        folder_fd = open_disk_folder_of(path);
        if (folder_fd == -ENOENT)
                return 0;
        if (folder_fd < 0)
                return error_from_errno(error, -folder_fd, "remove the disk '%s'", path);

        /* A symbolic link is not what uservm made, nor is what it points to. */
        name = strrchr(path, '/') + 1;
        if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && !S_ISREG(st.st_mode))
                return 0;

        if (unlinkat(folder_fd, name, 0) < 0 && errno != ENOENT)
                return error_from_errno(error, errno, "remove the disk '%s'", path);
        return 0;
}
