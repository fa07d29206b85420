/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Does to the files what libvirt does: a status is written beside and moved into its place. What is
 * told is collected as text, "web;" for a domain, "web stored;" for its definition alone. */

#include "domain-files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>

#include "test-files.h"

#define RUN "run/libvirt/qemu/run"
#define SAVE "config/libvirt/qemu/save"
#define STORED "config/libvirt/qemu"
#define LIVE_XML "<domain type=\"qemu\" id=\"1\"><name>web</name></domain>"

static char told[64]; /* the beginning */
static unsigned n_any;

static void tell(const char *name, bool live, void *userdata) {
        size_t n = strlen(told);

        if (name)
                snprintf(told + n, sizeof(told) - n, "%s%s;", name, live ? "" : " stored");
        else
                n_any++;
}

static void make_folders(const char *path) {
        char copy[64];

        snprintf(copy, sizeof(copy), "%s", path);
        for (char *p = copy; (p = strchr(p, '/')); *p++ = '/') {
                *p = '\0';
                mkdir(in_root(copy), 0700);
        }
        mkdir(in_root(copy), 0700);
}

static void write_status(const char *file) {
        char new[64];

        snprintf(new, sizeof(new), "%s.new", file);
        write_file(in_root(new), "", 0);
        if (rename(in_root(new), in_root(file)) < 0)
                abort();
}

/* Handles all there is to handle. */
static const char *what_is_told(sd_event *event) {
        told[0] = '\0';
        while (sd_event_run(event, 0) > 0)
                ;
        return told;
}

static int watch(sd_event **ret_event, DomainFiles **ret) {
        if (sd_event_new(ret_event) < 0)
                return -ENOMEM;
        return domain_files_new(*ret_event, tell, NULL, ret);
}

TEST(folders_that_are_not_there_are_not_watched) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(domain_files_freep) DomainFiles *files = NULL;

        setenv("XDG_RUNTIME_DIR", in_root("run"), 1);
        setenv("XDG_CONFIG_HOME", in_root("config"), 1);
        CHECK_INT(watch(&event, &files), 0);
        make_folders(RUN);
        make_folders(SAVE);
        write_status(RUN "/web.xml");
        CHECK_STR(what_is_told(event), "");
}

TEST(a_status_that_is_written_is_told) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(domain_files_freep) DomainFiles *files = NULL;

        CHECK_INT(watch(&event, &files), 0);
        write_status(RUN "/web.xml");
        CHECK_STR(what_is_told(event), "web;");
        write_status(RUN "/web.xml");
        write_status(RUN "/an other.xml.xml");
        CHECK_STR(what_is_told(event), "web;an other.xml;");
        CHECK_INT(n_any, 0);
}

TEST(a_definition_that_is_stored_is_told) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(domain_files_freep) DomainFiles *files = NULL;

        CHECK_INT(watch(&event, &files), 0);
        write_status(STORED "/web.xml");
        write_status(RUN "/web.xml");
        CHECK_STR(what_is_told(event), "web stored;web;");
        CHECK_INT(unlink(in_root(STORED "/web.xml")), 0);
        CHECK_STR(what_is_told(event), "");
}

TEST(a_save_that_was_cut_short) {
        CHECK(!domain_files_is_save_incomplete("web"));
        write_file(in_root(SAVE "/web.save"), "LibvirtQemudPart and more", 25);
        write_file(in_root(SAVE "/whole.save"), "LibvirtQemudSave and more", 25);
        write_file(in_root(SAVE "/short.save"), "Libvirt", 7);
        CHECK(domain_files_is_save_incomplete("web"));
        CHECK(!domain_files_is_save_incomplete("whole"));
        CHECK(domain_files_is_save_incomplete("short"));
}

TEST(a_status_that_goes_is_told) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(domain_files_freep) DomainFiles *files = NULL;

        write_status(RUN "/web.xml");
        CHECK_INT(watch(&event, &files), 0);
        CHECK_STR(what_is_told(event), "");
        CHECK_INT(unlink(in_root(RUN "/web.xml")), 0);
        CHECK_STR(what_is_told(event), "web;");
}

TEST(a_saved_state_that_goes_is_told) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(domain_files_freep) DomainFiles *files = NULL;

        CHECK_INT(watch(&event, &files), 0);
        write_file(in_root(SAVE "/web.save"), "", 0);
        CHECK_STR(what_is_told(event), "");
        CHECK_INT(unlink(in_root(SAVE "/web.save")), 0);
        CHECK_STR(what_is_told(event), "web;");
}

TEST(without_the_variable_it_is_below_home) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(domain_files_freep) DomainFiles *files = NULL;
        int r;

        make_folders(".config/libvirt/qemu/save");
        setenv("HOME", root, 1);
        unsetenv("XDG_CONFIG_HOME");
        r = watch(&event, &files);
        setenv("XDG_CONFIG_HOME", in_root("config"), 1);
        CHECK_INT(r, 0);
        write_file(in_root(".config/libvirt/qemu/save/web.save"), "", 0);
        CHECK_INT(unlink(in_root(".config/libvirt/qemu/save/web.save")), 0);
        CHECK_STR(what_is_told(event), "web;");
}

TEST(other_files_are_not) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(domain_files_freep) DomainFiles *files = NULL;
        const char *const names[] = {
                RUN "/web.pid",  RUN "/.xml",     RUN "/driver.pid", RUN "/xml",
                SAVE "/web.xml", SAVE "/web.tmp", RUN "/web.save",
        };

        CHECK_INT(watch(&event, &files), 0);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                write_status(names[i]);
                CHECK_INT(unlink(in_root(names[i])), 0);
        }
        CHECK_STR(what_is_told(event), "");
}

/* The kernel merges only events that are the same as the one before. */
TEST(too_many_at_a_time_are_of_any) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(domain_files_freep) DomainFiles *files = NULL;
        FILE *file = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
        unsigned max = 0;

        CHECK(file);
        CHECK_INT(fscanf(file, "%u", &max), 1);
        fclose(file);
        CHECK_INT(watch(&event, &files), 0);
        for (unsigned i = 0; i < max; i++)
                write_status(i % 2 ? RUN "/one.xml" : RUN "/two.xml");
        CHECK_INT(unlink(in_root(RUN "/one.xml")), 0);

        CHECK(startswith(what_is_told(event), "two;one;"));
        CHECK(n_any > 0);
        for (unsigned i = 0; i < 3; i++)
                write_status(RUN "/web.xml");
        CHECK_STR(what_is_told(event), "web;");
}

static void write_text(const char *file, const char *text) {
        write_file(in_root(file), text, strlen(text));
}

TEST(definitions_are_read) {
        _cleanup_free_ char *live = NULL, *stored = NULL;

        write_text(RUN "/web.xml", "<!-- libvirt's -->\n<domstatus state='paused' pid='1'>\n"
                                   "  <taint flag='a'/>\n  " LIVE_XML "\n</domstatus>\n");
        write_text(STORED "/web.xml", "<domain/>");
        CHECK_INT(domain_files_read("web", &live, &stored), 0);
        CHECK_STR(live, LIVE_XML);
        CHECK_STR(stored, "<domain/>");
}

TEST(one_that_is_not_persistent_has_only_the_live_one) {
        _cleanup_free_ char *live = NULL, *stored = NULL;

        CHECK_INT(unlink(in_root(STORED "/web.xml")), 0);
        CHECK_INT(domain_files_read("web", &live, &stored), 0);
        CHECK_STR(live, LIVE_XML);
        CHECK_STR(stored, LIVE_XML);
}

TEST(what_is_not_as_expected_is_refused) {
        const char *const bad[] = { "", "<domain/>", "<domstatus>", "<domstatus/>",
                                    "<domstatus><other/></domstatus>" };
        char *live, *stored;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                write_text(RUN "/web.xml", bad[i]);
                CHECK_INT(domain_files_read("web", &live, &stored), -EBADMSG);
        }
        CHECK_INT(unlink(in_root(RUN "/web.xml")), 0);
        CHECK_INT(domain_files_read("web", &live, &stored), -ENOENT);
        write_zeros(in_root(RUN "/web.xml"), 1 << 30);
        CHECK_INT(domain_files_read("web", &live, &stored), -EFBIG);
}

#define UNBORN "<domstatus state='paused' reason='starting up' pid='0'><domain/></domstatus>"

/* libvirt's driver, in a process of its own, since a process does not see its own locks. */
static pid_t hold_lock(int *ret_pipe) {
        int fds[2];
        pid_t pid;
        char byte;

        if (pipe2(fds, O_CLOEXEC) < 0)
                abort();
        pid = fork();
        if (pid == 0) {
                struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
                int fd = open(in_root(RUN "/driver.pid"), O_RDWR | O_CLOEXEC);

                if (fcntl(fd, F_SETLK, &lock) < 0 || write(fds[1], "", 1) != 1)
                        _exit(1);
                pause();
                _exit(0);
        }
        if (read(fds[0], &byte, 1) != 1)
                abort();
        close(fds[1]);
        *ret_pipe = fds[0];
        return pid;
}

TEST(a_start_that_is_under_way_is_left_alone) {
        _cleanup_close_ int fd = -EBADF;
        pid_t driver;

        write_text(RUN "/driver.pid", "");
        write_text(RUN "/web.xml", UNBORN);
        driver = hold_lock(&fd);
        domain_files_forget_unborn();
        CHECK(exists(in_root(RUN "/web.xml")));
        CHECK_INT(kill(driver, SIGKILL), 0);
        CHECK_INT(waitpid(driver, NULL, 0), driver);
}

TEST(a_start_that_was_cut_short_is_forgotten) {
        write_text(RUN "/runs.xml", "<domstatus pid='1'><domain/></domstatus>");
        write_text(RUN "/no pid.xml", "<domstatus><domain/></domstatus>");
        write_text(RUN "/0.txt", UNBORN);
        domain_files_forget_unborn();
        CHECK(!exists(in_root(RUN "/web.xml")));
        CHECK(exists(in_root(RUN "/runs.xml")));
        CHECK(exists(in_root(RUN "/no pid.xml")));
        CHECK(exists(in_root(RUN "/0.txt")));

        write_text(RUN "/web.xml", UNBORN);
        CHECK_INT(unlink(in_root(RUN "/driver.pid")), 0);
        domain_files_forget_unborn();
        CHECK(!exists(in_root(RUN "/web.xml")));
}

TEST_MAIN(begins_in_a_folder_of_its_own, folders_that_are_not_there_are_not_watched,
          a_status_that_is_written_is_told, a_definition_that_is_stored_is_told,
          a_save_that_was_cut_short, a_status_that_goes_is_told, a_saved_state_that_goes_is_told,
          without_the_variable_it_is_below_home, other_files_are_not, too_many_at_a_time_are_of_any,
          definitions_are_read, one_that_is_not_persistent_has_only_the_live_one,
          what_is_not_as_expected_is_refused, a_start_that_is_under_way_is_left_alone,
          a_start_that_was_cut_short_is_forgotten, leaves_nothing_behind)
