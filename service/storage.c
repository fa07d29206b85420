/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A new file is .uservm-UUID.NAME, with the UUID of the VM that is being created, until that is
 * defined. So what is left when uservmd is killed is either before that, and goes, or after it, and
 * the VM needs it: then the file gets its name late. A lock (flock(2)) on each says that it is not
 * left but being made, by another uservmd on another libvirt perhaps. Files of a VM that is being
 * deleted go the same way back.
 *
 * A file is created exclusively, and gets its name only if nobody has it (RENAME_NOREPLACE):
 * nothing that was there before is ever overwritten. */

#include "storage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "error.h"
#include "log.h"

#define PREFIX ".uservm-"
#define UUID_LENGTH 36

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

int storage_folder(char **ret) {
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

/* Making files */

static void new_file_done(NewFile *f) {
        closep(&f->fd);
        free(f->path);
        free(f->temporary);
}

static int refuse_existing(const char *path, sd_bus_error *error) {
        return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                 "The file '%s' exists already and is not overwritten. Choose "
                                 "another name for the VM; or, if no other VM needs that file, "
                                 "remove it, or use it as it is with the setting 'disk'.",
                                 path);
}

static int check_free_name(const char *path, sd_bus_error *error) {
        struct stat st;

        if (lstat(path, &st) >= 0)
                return refuse_existing(path, error);
        return errno == ENOENT ? 0 : error_from_errno(error, errno, "create '%s'", path);
}

/* Whoever may rename files in it could exchange an image for another. The folder may well be a link
 * to a larger file system. */
static int check_folder(const char *folder, sd_bus_error *error) {
        _cleanup_free_ char *quoted = shell_quote(folder);
        struct stat st;

        if (!quoted)
                return -ENOMEM;
        if (stat(folder, &st) < 0)
                return error_from_errno(error, errno, "find the folder '%s'", folder);
        if (st.st_uid != geteuid() && st.st_uid != 0)
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "The folder '%s' belongs to another user (%u), who could "
                                         "exchange the disks of your VMs; use one of your own.",
                                         folder, st.st_uid);
        if ((st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX))
                return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                         "Everybody can write to the folder '%s', and exchange the "
                                         "disks of your VMs; run: chmod o-w %s",
                                         folder, quoted);
        return 0;
}

static int create_file(const char *folder, NewFile *f, sd_bus_error *error) {
        int r;

        r = make_folder(folder, 0711);
        if (r < 0)
                return error_from_errno(error, -r, "create the folder of '%s'", f->path);
        r = check_folder(folder, error);
        if (r < 0)
                return r;
        r = check_free_name(f->path, error);
        if (r < 0)
                return r;
        f->fd = open(f->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (f->fd < 0)
                return error_from_errno(error, errno, "create '%s'", f->path);
        if (flock(f->fd, LOCK_EX | LOCK_NB) >= 0)
                return 0;
        r = error_from_errno(error, errno, "lock '%s'", f->path);
        (void) unlink(f->temporary);
        return r;
}

int storage_add(Storage *s, const char *name, const NewFile **ret, sd_bus_error *error) {
        _cleanup_free_ char *folder = NULL;
        _cleanup_(new_file_done) NewFile f = { .fd = -EBADF };
        NewFile *files;
        int r;

        r = storage_folder(&folder);
        if (r < 0)
                return error_from_errno(error, -r, "find the folder for disk images");
        if (asprintf(&f.path, "%s/%s", folder, name) < 0 ||
            asprintf(&f.temporary, "%s/" PREFIX "%s.%s", folder, s->uuid, name) < 0)
                return -ENOMEM;
        files = reallocarray(s->files, s->n + 1, sizeof(NewFile));
        if (!files)
                return -ENOMEM;
        s->files = files;

        r = create_file(folder, &f, error);
        if (r < 0)
                return r;
        files[s->n] = f;
        f = (NewFile){ .fd = -EBADF };
        *ret = &files[s->n++];
        return 0;
}

int storage_commit(Storage *s, sd_bus_error *error) {
        for (size_t i = 0; i < s->n; i++) {
                const NewFile *f = &s->files[i];
                int failure;

                if (renameat2(AT_FDCWD, f->temporary, AT_FDCWD, f->path, RENAME_NOREPLACE) >= 0)
                        continue;
                failure = errno;
                while (i-- > 0)
                        (void) rename(s->files[i].path, s->files[i].temporary);
                return failure == EEXIST ? refuse_existing(f->path, error)
                                         : error_from_errno(error, failure, "create '%s'", f->path);
        }
        s->committed = true;
        return 0;
}

static void remove_and_forget(Storage *s, bool remove) {
        for (size_t i = 0; i < s->n; i++) {
                if (remove)
                        (void) unlink(s->committed ? s->files[i].path : s->files[i].temporary);
                new_file_done(&s->files[i]);
        }
        free(s->files);
        *s = (Storage){};
}

void storage_done(Storage *s) {
        remove_and_forget(s, !s->committed);
}

void storage_undo(Storage *s) {
        remove_and_forget(s, true);
}

void storage_leave(Storage *s) {
        remove_and_forget(s, false);
}

void storage_restore(Storage *s) {
        if (storage_commit(s, NULL) < 0)
                log_error("Files of VM %s keep hidden names until uservmd starts anew", s->uuid);
        remove_and_forget(s, false);
}

/* The nearest folder that is there has the space. */
int storage_free_space(uint64_t *ret) {
        _cleanup_free_ char *folder = NULL;
        struct statvfs st;
        int r;

        r = storage_folder(&folder);
        if (r < 0)
                return r;
        while (statvfs(folder, &st) < 0) {
                char *parent;

                if (errno != ENOENT || streq(folder, "/"))
                        return -errno;
                parent = parent_of(folder);
                if (!parent)
                        return -ENOMEM;
                free(folder);
                folder = parent;
        }
        *ret = (uint64_t) st.f_bavail * st.f_frsize;
        return 0;
}

/* Removing files */

/* Opens the folder that the path is in, if that is the one of storage_folder(): the same folder,
 * however it is written. Otherwise, or if it does not exist, returns -ENOENT. */
static int open_storage_folder_of(const char *path) {
        _cleanup_free_ char *folder = NULL, *parent = NULL;
        _cleanup_close_ int folder_fd = -EBADF, parent_fd = -EBADF;
        struct stat a, b;
        int r;

        r = storage_folder(&folder);
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

static int forget_file(NewFile *f, int r) {
        new_file_done(f);
        return r;
}

/* It may have been removed, or replaced by a link, meanwhile: then it is not ours any more. */
static int hide(int folder_fd, NewFile *f, sd_bus_error *error) {
        const char *name = strrchr(f->path, '/') + 1, *hidden = strrchr(f->temporary, '/') + 1;
        struct stat st;

        /* A symbolic link is not what uservm made, nor is what it points to. */
        if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && !S_ISREG(st.st_mode))
                return 0;
        f->fd = openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (f->fd >= 0)
                (void) flock(f->fd, LOCK_EX | LOCK_NB);
        if (renameat2(folder_fd, name, folder_fd, hidden, RENAME_NOREPLACE) >= 0)
                return 1;
        return errno == ENOENT ? 0 : error_from_errno(error, errno, "remove '%s'", f->path);
}

int storage_withdraw(Storage *s, const char *path, sd_bus_error *error) {
        _cleanup_close_ int folder_fd = -EBADF;
        NewFile f = { .fd = -EBADF }, *files;
        int r;

        if (path[0] != '/')
                return 0;
        folder_fd = open_storage_folder_of(path);
        if (folder_fd == -ENOENT)
                return 0;
        if (folder_fd < 0)
                return error_from_errno(error, -folder_fd, "remove '%s'", path);

        files = reallocarray(s->files, s->n + 1, sizeof(NewFile));
        if (!files)
                return -ENOMEM;
        s->files = files;
        f.path = strdup(path);
        if (!f.path ||
            asprintf(&f.temporary, "%.*s/" PREFIX "%s.%s", (int) (strrchr(path, '/') - path), path,
                     s->uuid, strrchr(path, '/') + 1) < 0)
                return forget_file(&f, -ENOMEM);
        r = hide(folder_fd, &f, error);
        if (r <= 0)
                return forget_file(&f, r);
        files[s->n++] = f;
        return 1;
}

/* Cleaning up */

/* One that was left: nobody has it locked. */
static bool is_left(int folder_fd, const char *name) {
        _cleanup_close_ int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) >= 0;
}

static void finish(int folder_fd, const char *name, char *const *uuids) {
        char uuid[UUID_LENGTH + 1];
        const char *wanted;

        wanted = startswith(name, PREFIX);
        if (!wanted || strlen(wanted) <= UUID_LENGTH + 1 || wanted[UUID_LENGTH] != '.' ||
            !is_left(folder_fd, name))
                return;
        memcpy(uuid, wanted, UUID_LENGTH);
        uuid[UUID_LENGTH] = '\0';
        wanted += UUID_LENGTH + 1;
        if (strv_contains(uuids, uuid)) {
                if (renameat2(folder_fd, name, folder_fd, wanted, RENAME_NOREPLACE) < 0)
                        log_error("The file %s of a VM could not be named %s: %s", name, wanted,
                                  strerror(errno));
        } else if (unlinkat(folder_fd, name, 0) >= 0)
                log_write(LOG_INFO, &(LogSubject){ .uuid = uuid, .id = LOG_ID_CREATION_CLEANED },
                          "Removed %s, left by a creation that was cut short", name);
}

void storage_clean_up(char *const *uuids) {
        _cleanup_free_ char *folder = NULL;
        DIR *directory;

        if (storage_folder(&folder) < 0)
                return;
        directory = opendir(folder);
        if (!directory)
                return;
        for (const struct dirent *entry; (entry = readdir(directory));)
                finish(dirfd(directory), entry->d_name, uuids);
        closedir(directory);
}
