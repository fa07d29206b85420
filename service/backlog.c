/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* sd-bus reads a message whenever there is one, and queues what cannot be written. To have it write
 * only, it is taken off the event loop; a source of our own calls sd_bus_process(3) when there is
 * room to write, which writes first, and reads nothing if that has come to something. The bus then
 * makes those wait who send to us, within its own limits. */

#include "backlog.h"

#include <errno.h>
#include <sys/epoll.h>

#include "log.h"

#define QUEUED_MAX 128 /* messages */

static bool is_long(sd_bus *bus, uint64_t max) {
        uint64_t n;

        return sd_bus_get_n_queued_write(bus, &n) >= 0 && n > max;
}

static int attach(Manager *m) {
        m->backlog = sd_event_source_disable_unref(m->backlog);
        return sd_bus_attach_event(m->bus, m->event, SD_EVENT_PRIORITY_NORMAL);
}

static int on_writable(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Manager *m = userdata;
        int r;

        r = sd_bus_process(m->bus, NULL);
        if (r >= 0 && !is_long(m->bus, 0))
                r = attach(m);
        if (r < 0) { /* as sd_bus_set_exit_on_disconnect() would have it */
                log_error("Cannot write to the session bus: %s", strerror(-r));
                return sd_event_exit(m->event, EXIT_FAILURE);
        }
        return 0;
}

static int filter_backlog(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Manager *m = userdata;
        int r;

        if (m->backlog || !is_long(m->bus, QUEUED_MAX))
                return 0;
        r = sd_bus_detach_event(m->bus);
        if (r < 0)
                return r;
        r = sd_event_add_io(m->event, &m->backlog, sd_bus_get_fd(m->bus), EPOLLOUT, on_writable, m);
        return r < 0 ? attach(m) : 0;
}

int backlog_register(Manager *m) {
        return sd_bus_add_filter(m->bus, NULL, filter_backlog, m);
}
