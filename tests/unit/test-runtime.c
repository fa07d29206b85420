/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The runtime folder: nothing is made where somebody else could put something in its place, and one
 * process at a time has the lock. */

#include <errno.h>
#include <poll.h>
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

        unsetenv("XDG_RUNTIME_DIR");
        CHECK(runtime_folder() == NULL);
        CHECK_INT(runtime_lock(&error), 0);
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

        CHECK_INT(symlink(in_root("run"), in_root("elsewhere")), 0);
        setenv("XDG_RUNTIME_DIR", in_root("elsewhere"), 1);
        CHECK_ERROR(runtime_make_folder("a", &error), SD_BUS_ERROR_ACCESS_DENIED);
        CHECK_ERROR(runtime_lock(&at_lock), SD_BUS_ERROR_ACCESS_DENIED);
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

/* The lock, which is a process's: each has it in a child. */

typedef struct Child {
        pid_t pid;
        int fd; /* says how far it is, a byte each time */
} Child;

static void run_child(int fd, bool leaves) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        if (runtime_lock(&error) < 0)
                _exit(1);
        (void) !write(fd, "x", 1);
        if (leaves) {
                runtime_leave();
                (void) !write(fd, "x", 1);
        }
        pause();
        _exit(0);
}

static Child start_child(bool leaves) {
        int fds[2];
        Child child;

        if (pipe(fds) < 0)
                abort();
        child = (Child){ fork(), fds[0] };
        if (child.pid == 0)
                run_child(fds[1], leaves);
        close(fds[1]);
        return child;
}

/* It has done the next thing. */
static bool wait_child(Child child) {
        char byte;

        return read(child.fd, &byte, 1) == 1;
}

static void kill_child(Child child) {
        kill(child.pid, SIGKILL);
        waitpid(child.pid, NULL, 0);
        close(child.fd);
}

TEST(one_at_a_time_has_the_lock) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        Child first, second;
        char text[32];

        use_folder("run", 0700);
        first = start_child(false);
        CHECK(wait_child(first));
        CHECK_INT(runtime_lock(&error), -EBUSY);
        snprintf(text, sizeof(text), "(process %d)", (int) first.pid);
        CHECK_MENTIONS(error.message, text);
        CHECK_MENTIONS(error.message, in_root("run"));
        kill_child(first);

        second = start_child(false);
        CHECK(wait_child(second));
        kill_child(second);
        CHECK_INT(mode_of(in_root("run/uservmd.lock")), S_IFREG | 0600);
}

TEST(one_that_leaves_is_waited_for) {
        Child first, second;
        struct pollfd p;

        first = start_child(true);
        CHECK(wait_child(first) && wait_child(first));
        second = start_child(false);
        p = (struct pollfd){ .fd = second.fd, .events = POLLIN };
        CHECK_INT(poll(&p, 1, 100), 0); /* had it been refused, it would have ended */
        kill_child(first);
        CHECK(wait_child(second));
        kill_child(second);
}

TEST(the_lock_file_is_no_link) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        CHECK_INT(unlink(in_root("run/uservmd.lock")), 0);
        CHECK_INT(symlink(in_root("victim"), in_root("run/uservmd.lock")), 0);
        CHECK(runtime_lock(&error) < 0);
        CHECK(!exists(in_root("victim")));
}

TEST_MAIN(begins_in_a_folder_of_its_own, there_may_be_none, what_is_made_is_private,
          the_last_one_is_made_private, one_that_others_can_get_into_is_refused,
          modes_below_it_do_not_matter, links_are_not_followed,
          neither_is_that_of_the_runtime_folder_itself, files_are_no_folders,
          that_of_another_user_is_refused, one_at_a_time_has_the_lock,
          one_that_leaves_is_waited_for, the_lock_file_is_no_link, leaves_nothing_behind)
