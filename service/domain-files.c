/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libvirt writes the status of an active domain to a file as soon as its QEMU process is there,
 * long before it tells that the domain has started, and again with every change of it. That is how
 * uservmd learns that another tool restores a VM with managed networking, whose QEMU waits for a
 * passt of ours (vm-network.c); without it, it would wait for ever, and the event as well. The file
 * goes with the process, also that of a start that fails, of which there is no event either.
 *
 * Only the names are looked at. What the files say is libvirt's own business; whoever wants to know
 * asks libvirt. */

#include "domain-files.h"

#include <errno.h>
#include <stdio.h>
#include <sys/inotify.h>

enum { RUNNING, SAVED, N_FOLDERS };

/* Where the session driver has them: below the variable, or what stands in for it below HOME.
 * libvirt puts a file in its place with a rename. */
static const struct {
        const char *variable, *fallback, *path, *suffix;
        uint32_t events;
} folders[N_FOLDERS] = {
        [RUNNING] = { "XDG_RUNTIME_DIR", NULL, "libvirt/qemu/run", ".xml",
                      IN_MOVED_TO | IN_DELETE },
        [SAVED] = { "XDG_CONFIG_HOME", ".config", "libvirt/qemu/save", ".save", IN_DELETE },
};

struct DomainFiles {
        domain_file_func_t func;
        void *userdata;
        sd_event_source *sources[N_FOLDERS];
};

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
        const char *suffix = folders[source == d->sources[SAVED] ? SAVED : RUNNING].suffix;
        _cleanup_free_ char *name = NULL;
        size_t n;

        /* More at a time than the kernel keeps. */
        if (event->mask & IN_Q_OVERFLOW) {
                d->func(NULL, d->userdata);
                return 0;
        }
        n = event->len > 0 ? strlen(event->name) : 0;
        if (n <= strlen(suffix) || !streq(event->name + n - strlen(suffix), suffix))
                return 0;
        name = strndup(event->name, n - strlen(suffix));
        d->func(name, d->userdata);
        return 0;
}

static int folder_path(size_t i, char **ret) {
        const char *base = getenv(folders[i].variable), *home = getenv("HOME");
        int r;

        if (!isempty(base))
                r = asprintf(ret, "%s/%s", base, folders[i].path);
        else if (folders[i].fallback && home)
                r = asprintf(ret, "%s/%s/%s", home, folders[i].fallback, folders[i].path);
        else
                return -ENOENT;
        return r < 0 ? -ENOMEM : 0;
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
