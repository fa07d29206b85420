/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The runtime folder: nothing is made where somebody else could put something in its place, and one
 * process at a time has the lock. */

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "runtime.h"
#include "test-files.h"

static mode_t mode_of(const char *path) {
        struct stat st;

        return lstat(path, &st) < 0 ? 0 : st.st_mode;
}

static void use_folder(const char *name, mode_t mode) {
        (void) mkdir(in_root(name), 0700);
        if (chmod(in_root(name), mode) < 0 || setenv("XDG_RUNTIME_DIR", in_root(name), 1) < 0)
                abort();
}

TEST(there_may_be_none) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        int fd = 0;

        unsetenv("XDG_RUNTIME_DIR");
        CHECK(runtime_folder() == NULL);
        CHECK_INT(runtime_lock(&fd, &error), 0);
        CHECK_INT(fd, -EBADF);
        CHECK_ERROR(runtime_make_folder("a", &error), "org.freedesktop.DBus.Error.Failed");
        CHECK_MENTIONS(error.message, "XDG_RUNTIME_DIR");
        setenv("XDG_RUNTIME_DIR", "relative", 1);
        CHECK(runtime_folder() == NULL);
}

TEST(what_is_made_is_private) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        use_folder("run", 0700);
        umask(0);
        CHECK_INT(runtime_make_folder("a/b/c", &error), 0);
        umask(022);
        CHECK_INT(mode_of(in_root("run/a")), S_IFDIR | 0700);
        CHECK_INT(mode_of(in_root("run/a/b/c")), S_IFDIR | 0700);
        CHECK_INT(runtime_make_folder("a/b/c", &error), 0);
}

TEST(the_last_one_is_made_private) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        CHECK_INT(chmod(in_root("run/a/b/c"), 0755), 0);
        CHECK_INT(chmod(in_root("run/a/b"), 0755), 0);
        CHECK_INT(runtime_make_folder("a/b/c", &error), 0);
        CHECK_INT(mode_of(in_root("run/a/b/c")), S_IFDIR | 0700);
        CHECK_INT(mode_of(in_root("run/a/b")), S_IFDIR | 0755);
}

TEST(one_that_others_can_get_into_is_refused) {
        const mode_t modes[] = { 0770, 0702, 01777, 0755, 0701 };

        for (size_t j = 0; j < ELEMENTSOF(modes); j++) {
                _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

                CHECK_INT(chmod(in_root("run"), modes[j]), 0);
                CHECK_ERROR(runtime_make_folder("a/b/c", &error), SD_BUS_ERROR_ACCESS_DENIED);
                CHECK_MENTIONS(error.message, "chmod 0700");
                CHECK_INT(mode_of(in_root("run")), S_IFDIR | modes[j]);
                CHECK_INT(chmod(in_root("run"), 0700), 0);
        }
}

/* libvirt's are open to the user's group, where the umask is. */
TEST(modes_below_it_do_not_matter) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        CHECK_INT(chmod(in_root("run/a"), 0775), 0);
        CHECK_INT(runtime_make_folder("a/b/c", &error), 0);
        CHECK_INT(mode_of(in_root("run/a")), S_IFDIR | 0775);
}

TEST(links_are_not_followed) {
        const char *const names[] = { "run/link", "run/a/link", "run/a/b/link" };
        const char *const below[] = { "link", "a/link/c", "a/b/link" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

                CHECK_INT(symlink(in_root("run/a"), in_root(names[i])), 0);
                CHECK_ERROR(runtime_make_folder(below[i], &error), SD_BUS_ERROR_ACCESS_DENIED);
                CHECK_MENTIONS(error.message, "'link' is a link");
        }
        CHECK(!exists(in_root("run/a/c")));
}

TEST(neither_is_that_of_the_runtime_folder_itself) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL, at_lock = SD_BUS_ERROR_NULL;
        int fd;

        CHECK_INT(symlink(in_root("run"), in_root("elsewhere")), 0);
        setenv("XDG_RUNTIME_DIR", in_root("elsewhere"), 1);
        CHECK_ERROR(runtime_make_folder("a", &error), SD_BUS_ERROR_ACCESS_DENIED);
        CHECK_INT(runtime_lock(&fd, &at_lock), -EACCES);
        CHECK(!exists(in_root("run/uservmd.lock")));
}

TEST(files_are_no_folders) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        use_folder("run", 0700);
        write_file(in_root("run/file"), "", 0);
        CHECK_ERROR(runtime_make_folder("file/b", &error), SD_BUS_ERROR_ACCESS_DENIED);
}

TEST(that_of_another_user_is_refused) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        if (geteuid() == 0)
                return;
        setenv("XDG_RUNTIME_DIR", "/", 1);
        CHECK_ERROR(runtime_make_folder("etc", &error), SD_BUS_ERROR_ACCESS_DENIED);
        CHECK_MENTIONS(error.message, "another user (0)");
}

/* The lock */

/* A child that has the lock, and says so, until it is killed. */
static pid_t start_holder(void) {
        int ready[2];
        char byte = 0;
        pid_t pid;

        if (pipe(ready) < 0)
                abort();
        pid = fork();
        if (pid == 0) {
                int fd;

                if (runtime_lock(&fd, NULL) >= 0 && fd >= 0)
                        (void) !write(ready[1], "x", 1);
                pause();
                _exit(0);
        }
        close(ready[1]);
        if (read(ready[0], &byte, 1) != 1)
                abort();
        close(ready[0]);
        return pid;
}

TEST(one_at_a_time_has_the_lock) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        char text[32];
        pid_t holder;
        int fd;

        use_folder("run", 0700);
        holder = start_holder();
        CHECK_INT(runtime_lock(&fd, &error), -EBUSY);
        snprintf(text, sizeof(text), "process %d", (int) holder);
        CHECK_MENTIONS(error.message, text);
        CHECK_MENTIONS(error.message, in_root("run"));

        kill(holder, SIGKILL);
        waitpid(holder, NULL, 0);
        CHECK_INT(runtime_lock(&fd, NULL), 0);
        CHECK(fd >= 0);
        close(fd);
        CHECK_INT(mode_of(in_root("run/uservmd.lock")), S_IFREG | 0600);
}

TEST(the_lock_file_is_no_link) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        int fd;

        CHECK_INT(unlink(in_root("run/uservmd.lock")), 0);
        CHECK_INT(symlink(in_root("victim"), in_root("run/uservmd.lock")), 0);
        CHECK(runtime_lock(&fd, &error) < 0);
        CHECK(!exists(in_root("victim")));
}

TEST_MAIN(begins_in_a_folder_of_its_own, there_may_be_none, what_is_made_is_private,
          the_last_one_is_made_private, one_that_others_can_get_into_is_refused,
          modes_below_it_do_not_matter, links_are_not_followed,
          neither_is_that_of_the_runtime_folder_itself, files_are_no_folders,
          that_of_another_user_is_refused, one_at_a_time_has_the_lock, the_lock_file_is_no_link,
          leaves_nothing_behind)
