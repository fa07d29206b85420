/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The sockets in here are as good as the network of a VM: whoever could put a folder or a link of
 * theirs on the way to them could have QEMU connect to a passt of theirs. So each folder is opened
 * from the one before it, without following links, and looked at once it is open. Nobody else can
 * get into the runtime folder (0700, as the XDG Base Directory Specification has it), so what is
 * below it is what the user's own programs made, whatever modes libvirt gives its folders.
 *
 * The lock is of the kind that belongs to the process (fcntl_locking(2)): children do not inherit
 * it, and the kernel says who has it. It is of two bytes, taken together. One who leaves gives up
 * the second one first, so that a successor knows that it is worth waiting for the first. The file
 * stays when it is free: to remove it would be a race with who has just opened it. */

#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "error.h"
#include "util.h"

#define LOCK_FILE "uservmd.lock"

const char *runtime_folder(void) {
        const char *path = getenv("XDG_RUNTIME_DIR");

        return path && *path == '/' ? path : NULL;
}

static int check_owner(int fd, const char *name, sd_bus_error *error) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return error_from_errno(error, errno, "look at '%s'", name);
        if (st.st_uid != geteuid())
                return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED,
                                         "XDG_RUNTIME_DIR=%s: the folder '%s' belongs to another "
                                         "user (%u), who could take over what is made in it; use "
                                         "one of your own",
                                         runtime_folder(), name, st.st_uid);
        return 0;
}

static int open_folder(int parent, const char *name, int *ret_fd, sd_bus_error *error) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
                return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED,
                                         "XDG_RUNTIME_DIR=%s: '%s' is a link or a file and no "
                                         "folder; remove it",
                                         runtime_folder(), name);
        if (fd < 0)
                return error_from_errno(error, errno, "open the folder '%s'", name);
        r = check_owner(fd, name, error);
        if (r < 0)
                return r;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int open_runtime_folder(int *ret_fd, sd_bus_error *error) {
        const char *path = runtime_folder();
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        int r;

        if (!path)
                return error_from_errno(error, ENXIO, "find the runtime folder: XDG_RUNTIME_DIR");
        r = open_folder(AT_FDCWD, path, &fd, error);
        if (r < 0)
                return r;
        if (fstat(fd, &st) < 0)
                return error_from_errno(error, errno, "look at '%s'", path);
        if (st.st_mode & (S_IRWXG | S_IRWXO))
                return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED,
                                         "XDG_RUNTIME_DIR=%s is open to others (mode %04o); make "
                                         "it your own: chmod 0700",
                                         path, st.st_mode & 07777);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int runtime_make_folder(const char *below, sd_bus_error *error) {
        _cleanup_free_ char *path = strdup(below);
        _cleanup_close_ int fd = -EBADF;
        char *next = path, *name;
        int r;

        if (!path)
                return -ENOMEM;
        r = open_runtime_folder(&fd, error);
        if (r < 0)
                return r;
        while ((name = strsep(&next, "/"))) {
                int child;

                if (mkdirat(fd, name, 0700) < 0 && errno != EEXIST)
                        return error_from_errno(error, errno, "make the folder '%s' in %s", name,
                                                runtime_folder());
                r = open_folder(fd, name, &child, error);
                if (r < 0)
                        return r;
                close(fd);
                fd = child;
        }
        /* It may have been there before us, more open than what is in it should be. */
        if (fchmod(fd, 0700) < 0)
                return error_from_errno(error, errno, "restrict the folder '%s'", below);
        return 0;
}

static int lock_fd = -EBADF; /* -EBADF: there is nothing to lock, or it has not been */

enum {
        ALIVE = 0,
        STAYING = 1,
};

static int refuse_second(pid_t pid, sd_bus_error *error) {
        char holder[32] = "";

        if (pid > 0) /* 0: in a PID namespace of its own */
                snprintf(holder, sizeof(holder), " (process %d)", (int) pid);
        (void) sd_bus_error_setf(error, SD_BUS_ERROR_FAILED,
                                 "Another uservmd%s works in XDG_RUNTIME_DIR=%s, and there can be "
                                 "one only: end that one, or give this one a runtime folder of its "
                                 "own",
                                 holder, runtime_folder());
        return -EBUSY;
}

static int lock_file(int fd, sd_bus_error *error) {
        struct flock both = { .l_type = F_WRLCK, .l_start = ALIVE, .l_len = 2 };
        struct flock staying = { .l_type = F_WRLCK, .l_start = STAYING, .l_len = 1 };
        int r;

        if (fcntl(fd, F_SETLK, &both) >= 0)
                return 0;
        if (errno != EACCES && errno != EAGAIN)
                return -errno;
        if (fcntl(fd, F_GETLK, &staying) < 0)
                return -errno;
        if (staying.l_type != F_UNLCK)
                return refuse_second(staying.l_pid, error);
        do
                r = fcntl(fd, F_SETLKW, &both);
        while (r < 0 && errno == EINTR);
        return r < 0 ? -errno : 0;
}

int runtime_lock(sd_bus_error *error) {
        _cleanup_close_ int folder_fd = -EBADF, fd = -EBADF;
        const char *path = runtime_folder();
        int r;

        if (!path)
                return 0;
        r = open_runtime_folder(&folder_fd, error);
        if (r < 0)
                return r;
        fd = openat(folder_fd, LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        r = fd < 0 ? -errno : lock_file(fd, error);
        if (r >= 0)
                lock_fd = TAKE_FD(fd);
        else if (!sd_bus_error_is_set(error))
                r = error_from_errno(error, -r, "lock %s/" LOCK_FILE, path);
        return r;
}

void runtime_leave(void) {
        struct flock staying = { .l_type = F_UNLCK, .l_start = STAYING, .l_len = 1 };

        if (lock_fd >= 0)
                (void) fcntl(lock_fd, F_SETLK, &staying);
}
