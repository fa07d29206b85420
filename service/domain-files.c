/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libvirt writes the status of an active domain to a file as soon as its QEMU process is there,
 * long before it tells that the domain has started, and again with every change of it. That is how
 * uservmd learns that another tool restores a VM with managed networking, whose QEMU waits for a
 * passt of ours (vm-network.c); without it, it would wait for ever, and the event as well. The file
 * goes with the process, also that of a start that fails, of which there is no event either. Nor is
 * there one of all that is stored: snapshots of a domain that is off, its memory, its virtual CPUs.
 *
 * What the files say is libvirt's own business, and whoever wants to know asks libvirt, with one
 * exception. While a domain goes back to a snapshot, a question for its XML waits until QEMU
 * answers libvirt (a job of libvirt's, 30 seconds at most), which QEMU does not before it has its
 * passt. So what that passt is to be like is read from the files. They have the XML that libvirt
 * would give; the one of the status is in an element <domstatus>. */

#include "domain-files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "log.h"
#include "xml.h"

#define FILE_SIZE_MAX (16L * 1024 * 1024) /* that of a domain is some 10 KiB */

enum { RUNNING, SAVED, STORED, N_FOLDERS };

/* Where the session driver has them: below the variable, or what stands in for it below HOME.
 * libvirt puts a file in its place with a rename. */
static const struct {
        const char *variable, *fallback, *path, *suffix;
        uint32_t events;
} folders[N_FOLDERS] = {
        [RUNNING] = { "XDG_RUNTIME_DIR", NULL, DOMAIN_FILES_RUNNING, ".xml",
                      IN_MOVED_TO | IN_DELETE },
        [SAVED] = { "XDG_CONFIG_HOME", ".config", "libvirt/qemu/save", ".save", IN_DELETE },
        [STORED] = { "XDG_CONFIG_HOME", ".config", "libvirt/qemu", ".xml", IN_MOVED_TO },
};

struct DomainFiles {
        domain_file_func_t func;
        void *userdata;
        sd_event_source *sources[N_FOLDERS];
};

static int path_below(const char *variable, const char *fallback, const char *path, char **ret) {
        const char *base = getenv(variable), *home = getenv("HOME");
        int r;

        if (!isempty(base))
                r = asprintf(ret, "%s/%s", base, path);
        else if (fallback && home)
                r = asprintf(ret, "%s/%s/%s", home, fallback, path);
        else
                return -ENOENT;
        return r < 0 ? -ENOMEM : 0;
}

static int folder_path(size_t i, char **ret) {
        return path_below(folders[i].variable, folders[i].fallback, folders[i].path, ret);
}

int domain_files_log_path(const char *name, char **ret) {
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "libvirt/qemu/log/%s.log", name) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        return path_below("XDG_CACHE_HOME", ".cache", path, ret);
}

/* *ret_name is NULL if there is no memory for it. */
static bool is_of_domain(const char *file, size_t folder, char **ret_name) {
        const char *suffix = folders[folder].suffix;
        size_t n = strlen(file);

        if (n <= strlen(suffix) || !streq(file + n - strlen(suffix), suffix))
                return false;
        *ret_name = strndup(file, n - strlen(suffix));
        return true;
}

/* Watching */

DomainFiles *domain_files_free(DomainFiles *d) {
        if (!d)
                return NULL;
        for (size_t i = 0; i < N_FOLDERS; i++)
                sd_event_source_disable_unref(d->sources[i]);
        free(d);
        return NULL;
}

static int on_file(sd_event_source *source, const struct inotify_event *event, void *userdata) {
        DomainFiles *d = userdata;
        _cleanup_free_ char *name = NULL;
        size_t folder = 0;

        /* More at a time than the kernel keeps. */
        if (event->mask & IN_Q_OVERFLOW) {
                d->func(NULL, true, d->userdata);
                return 0;
        }
        while (d->sources[folder] != source)
                folder++;
        if (event->len > 0 && is_of_domain(event->name, folder, &name))
                d->func(name, folder != STORED, d->userdata);
        return 0;
}

static int watch_folder(DomainFiles *d, sd_event *event, size_t i) {
        _cleanup_free_ char *path = NULL;
        int r;

        r = folder_path(i, &path);
        if (r < 0)
                return r;
        return sd_event_add_inotify(event, &d->sources[i], path, folders[i].events | IN_ONLYDIR,
                                    on_file, d);
}

int domain_files_new(sd_event *event, domain_file_func_t func, void *userdata, DomainFiles **ret) {
        _cleanup_(domain_files_freep) DomainFiles *d = new0(DomainFiles, 1);

        if (!d)
                return -ENOMEM;
        d->func = func;
        d->userdata = userdata;
        for (size_t i = 0; i < N_FOLDERS; i++) {
                int r = watch_folder(d, event, i);

                if (r < 0 && r != -ENOENT)
                        return r;
        }
        *ret = TAKE_PTR(d);
        return 0;
}

/* Reading */

/* Returns a file descriptor or a negative errno. */
static int open_file(size_t folder, const char *name) {
        _cleanup_free_ char *directory = NULL, *path = NULL;
        int r;

        r = folder_path(folder, &directory);
        if (r < 0)
                return r;
        if (asprintf(&path, "%s/%s%s", directory, name, folders[folder].suffix) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        r = open(path, O_RDONLY | O_CLOEXEC);
        return r < 0 ? -errno : r;
}

static int read_file(size_t folder, const char *name, char **ret) {
        _cleanup_free_ char *text = NULL;
        _cleanup_close_ int fd = open_file(folder, name);
        struct stat st;

        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_size > FILE_SIZE_MAX)
                return -EFBIG;
        text = new0(char, st.st_size + 1);
        if (!text)
                return -ENOMEM;
        if (read(fd, text, st.st_size) != st.st_size)
                return -EBADMSG;
        *ret = TAKE_PTR(text);
        return 0;
}

static int read_status(const char *name, xmlDoc **ret) {
        _cleanup_free_ char *status = NULL;
        int r;

        r = read_file(RUNNING, name, &status);
        return r < 0 ? r : xml_parse(status, "domstatus", ret);
}

static int read_live(const char *name, char **ret) {
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        xmlNode *domain;
        int r;

        r = read_status(name, &doc);
        if (r < 0)
                return r;
        domain = xml_child(xmlDocGetRootElement(doc), "domain");
        return domain ? xml_print(domain, false, ret) : -EBADMSG;
}

int domain_files_read(const char *name, char **ret_live_xml, char **ret_stored_xml) {
        _cleanup_free_ char *live = NULL, *stored = NULL;
        int r;

        r = read_live(name, &live);
        if (r < 0)
                return r;
        r = read_file(STORED, name, &stored);
        if (r == -ENOENT) {
                stored = strdup(live);
                r = stored ? 0 : -ENOMEM;
        }
        if (r < 0)
                return r;
        *ret_live_xml = TAKE_PTR(live);
        *ret_stored_xml = TAKE_PTR(stored);
        return 0;
}

bool domain_files_is_save_incomplete(const char *name) {
        static const char mark[16] = "LibvirtQemudPart";
        _cleanup_close_ int fd = open_file(SAVED, name);
        char begin[sizeof(mark)];
        ssize_t n;

        if (fd < 0)
                return false;
        n = read(fd, begin, sizeof(begin));
        return n >= 0 && (n < (ssize_t) sizeof(begin) || memcmp(begin, mark, sizeof(mark)) == 0);
}

void domain_files_each_active(domain_file_func_t func, void *userdata) {
        _cleanup_free_ char *path = NULL;
        DIR *directory;

        if (folder_path(RUNNING, &path) < 0)
                return;
        directory = opendir(path);
        if (!directory)
                return;
        for (struct dirent *entry; (entry = readdir(directory));) {
                _cleanup_free_ char *name = NULL;

                if (is_of_domain(entry->d_name, RUNNING, &name) && name)
                        func(name, true, userdata);
        }
        closedir(directory);
}

/* Removing */

/* libvirt's QEMU driver holds a lock for as long as it runs (virPidFileAcquirePath()). */
static bool is_driver_running(const char *folder) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -EBADF;

        if (asprintf(&path, "%s/driver.pid", folder) < 0) {
                path = NULL;
                return true;
        }
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return errno != ENOENT;
        return fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

static bool is_unborn(const char *name) {
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        _cleanup_xml_string_ xmlChar *pid = NULL;

        if (read_status(name, &doc) < 0)
                return false;
        pid = xml_attribute(xmlDocGetRootElement(doc), "pid");
        return pid && streq((const char *) pid, "0");
}

static void forget_if_unborn(const char *name, bool live, void *userdata) {
        const char *folder = userdata;
        _cleanup_free_ char *path = NULL;

        if (!is_unborn(name))
                return;
        if (asprintf(&path, "%s/%s%s", folder, name, folders[RUNNING].suffix) < 0) {
                path = NULL;
                return;
        }
        if (unlink(path) >= 0)
                log_write(LOG_NOTICE, &(LogSubject){ .vm = name },
                          "libvirt's daemon has ended while it was about to start VM '%s'; it is "
                          "off",
                          name);
}

void domain_files_forget_unborn(void) {
        _cleanup_free_ char *path = NULL;

        if (folder_path(RUNNING, &path) >= 0 && !is_driver_running(path))
                domain_files_each_active(forget_if_unborn, path);
}
