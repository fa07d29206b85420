/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* virDomainManagedSave(3) returns when all is written. How far it is, libvirt tells only if it is
 * asked (virDomainGetJobInfo(3)), and it can be ended by another call only (virDomainAbortJob(3)).
 * So a thread asks five times a second, for as long as the save lasts. To abort it before libvirt
 * has begun to write has no effect, so that is repeated. */

#include "save.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "error.h"

#define INTERVAL_MSEC 200
#define ABORT_MSEC 20

typedef struct Watcher {
        virDomainPtr domain;
        Job *job;
        int done_fd; /* readable when the save has ended */
} Watcher;

static void report(const Watcher *w) {
        virDomainJobInfo info;

        if (virDomainGetJobInfo(w->domain, &info) >= 0 && info.type != VIR_DOMAIN_JOB_NONE &&
            info.dataTotal > 0)
                job_report(w->job, (double) info.dataProcessed / (double) info.dataTotal,
                           info.dataProcessed);
}

static void *watcher_main(void *userdata) {
        const Watcher *w = userdata;
        struct pollfd fds[] = {
                { .fd = w->done_fd, .events = POLLIN },
                { .fd = job_cancel_fd(w->job), .events = POLLIN },
        };
        bool cancelled = false;

        for (;;) {
                if (poll(fds, ELEMENTSOF(fds), cancelled ? ABORT_MSEC : INTERVAL_MSEC) < 0 &&
                    errno != EINTR)
                        return NULL;
                if (fds[0].revents != 0)
                        return NULL;
                if (fds[1].revents != 0) {
                        cancelled = true;
                        fds[1].fd = -EBADF; /* it can be read ever after */
                }
                if (cancelled)
                        (void) virDomainAbortJob(w->domain);
                report(w);
        }
}

int save_domain(virDomainPtr domain, const char *name, Job *job, sd_bus_error *error) {
        _cleanup_close_ int done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        Watcher w = { domain, job, done_fd };
        pthread_t thread;
        int r;

        if (done_fd < 0)
                return -errno;
        r = pthread_create(&thread, NULL, watcher_main, &w);
        if (r != 0)
                return -r;
        r = 0;
        if (virDomainManagedSave(domain, 0) < 0) {
                r = error_from_libvirt(error, "save VM '%s'", name);
                if (job_is_cancelled(job)) {
                        sd_bus_error_free(error);
                        r = sd_bus_error_setf(error, USERVM_ERROR_CANCELLED,
                                              "Saving VM '%s' was cancelled; it runs on", name);
                }
        }
        (void) eventfd_write(done_fd, 1);
        pthread_join(thread, NULL);
        return r;
}
