/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whoever needs the connection asks for it on a worker, and the first one who finds none opens it,
 * under a mutex, while the others wait. So there is one way to connect, at start and after
 * libvirt's daemon went away, and an operation that comes in at a bad moment waits for the new
 * connection instead of failing.
 *
 * The close callback and the events may come on any thread that happens to read libvirt's socket;
 * they are posted to the main thread before anybody hears of them. */

#include "connection.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <time.h>

#include "domain-files.h"
#include "error.h"

enum { N_DOMAIN_EVENTS = 6 };

#define ATTEMPTS 3
#define PAUSE_NSEC (100 * 1000000L)

struct Connection {
        char *uri;
        WorkerPool *pool;
        ConnectionHandler handler;

        pthread_mutex_t mutex;
        virConnectPtr conn; /* or NULL */
        int event_ids[N_DOMAIN_EVENTS];

        pthread_mutex_t removed_mutex;
        pthread_cond_t removed;
        unsigned n_removed; /* device removals seen so far */
};

/* A domain event on its way to the main thread. */
typedef struct Change {
        Connection *connection;
        char uuid[VIR_UUID_STRING_BUFLEN];
        DomainChange what;
} Change;

static void report_opened(void *userdata) {
        Connection *c = userdata;

        c->handler.opened(c->handler.userdata);
}

static void report_closed(void *userdata) {
        Connection *c = userdata;

        c->handler.closed(c->handler.userdata);
}

static void report_change(void *userdata) {
        Change *change = userdata;
        Connection *c = change->connection;

        c->handler.domain_changed(change->uuid, change->what, c->handler.userdata);
        free(change);
}

static void domain_changed(Connection *c, virDomainPtr domain, DomainChange what) {
        Change *change = c->pool ? new0(Change, 1) : NULL;

        if (!change)
                return;
        change->connection = c;
        change->what = what;
        if (virDomainGetUUIDString(domain, change->uuid) < 0 ||
            worker_post(c->pool, report_change, change) < 0)
                free(change);
}

static int on_lifecycle(virConnectPtr conn, virDomainPtr domain, int event, int detail,
                        void *userdata) {
        domain_changed(userdata, domain,
                       event == VIR_DOMAIN_EVENT_DEFINED || event == VIR_DOMAIN_EVENT_UNDEFINED
                               ? DOMAIN_STORED
                               : DOMAIN_LIVE);
        return 0;
}

static void on_device_added(virConnectPtr conn, virDomainPtr domain, const char *alias,
                            void *userdata) {
        domain_changed(userdata, domain, DOMAIN_LIVE);
}

static void on_device_removed(virConnectPtr conn, virDomainPtr domain, const char *alias,
                              void *userdata) {
        Connection *c = userdata;

        pthread_mutex_lock(&c->removed_mutex);
        c->n_removed++;
        pthread_cond_broadcast(&c->removed);
        pthread_mutex_unlock(&c->removed_mutex);
        domain_changed(c, domain, DOMAIN_LIVE);
}

static void on_agent(virConnectPtr conn, virDomainPtr domain, int state, int reason,
                     void *userdata) {
        domain_changed(userdata, domain, DOMAIN_LIVE);
}

static void on_balloon(virConnectPtr conn, virDomainPtr domain, unsigned long long actual,
                       void *userdata) {
        domain_changed(userdata, domain, DOMAIN_LIVE);
}

static void on_reboot(virConnectPtr conn, virDomainPtr domain, void *userdata) {
        domain_changed(userdata, domain, DOMAIN_REBOOTED);
}

static void on_closed(virConnectPtr conn, int reason, void *userdata) {
        Connection *c = userdata;

        if (c->pool)
                (void) worker_post(c->pool, report_closed, c);
}

static const struct {
        int id;
        virConnectDomainEventGenericCallback callback;
} domain_events[N_DOMAIN_EVENTS] = {
        { VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle) },
        { VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, VIR_DOMAIN_EVENT_CALLBACK(on_device_added) },
        { VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_device_removed) },
        { VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_agent) },
        { VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_balloon) },
        { VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_CALLBACK(on_reboot) },
};

/* Each registration holds a reference to the connection, which would outlive us otherwise. */
static void close_connection(Connection *c) {
        for (size_t i = 0; i < N_DOMAIN_EVENTS; i++)
                if (c->event_ids[i] >= 0)
                        (void) virConnectDomainEventDeregisterAny(c->conn, c->event_ids[i]);
        (void) virConnectUnregisterCloseCallback(c->conn, on_closed);
        virConnectClose(c->conn);
        c->conn = NULL;
}

static int register_events(Connection *c, sd_bus_error *error) {
        /* libvirt's test driver has no daemon that could go away, and no close callback. */
        if (virConnectRegisterCloseCallback(c->conn, on_closed, c, NULL) < 0 &&
            virGetLastErrorCode() != VIR_ERR_NO_SUPPORT)
                return error_from_libvirt(error, "watch the connection to libvirt");

        for (size_t i = 0; i < N_DOMAIN_EVENTS; i++) {
                c->event_ids[i] = virConnectDomainEventRegisterAny(
                        c->conn, NULL, domain_events[i].id, domain_events[i].callback, c, NULL);
                if (c->event_ids[i] < 0)
                        return error_from_libvirt(error, "listen to libvirt's events");
        }
        return 0;
}

static int open_once(Connection *c, sd_bus_error *error) {
        int r;

        for (size_t i = 0; i < N_DOMAIN_EVENTS; i++)
                c->event_ids[i] = -1;
        if (startswith(c->uri, "qemu:"))
                domain_files_forget_unborn();
        c->conn = virConnectOpen(c->uri);
        if (!c->conn)
                return error_from_libvirt(error, "connect to libvirt (%s)", c->uri);

        r = register_events(c, error);
        if (r < 0)
                close_connection(c);
        return r;
}

/* A daemon that is just dying takes connections and drops them; a moment later there is another. */
static int open_connection(Connection *c, sd_bus_error *error) {
        const struct timespec pause = { .tv_nsec = PAUSE_NSEC };
        int r;

        for (unsigned attempt = 1;; attempt++) {
                r = open_once(c, error);
                if (r >= 0 || attempt == ATTEMPTS)
                        return r;
                sd_bus_error_free(error);
                (void) nanosleep(&pause, NULL);
        }
}

static int acquire_locked(Connection *c, virConnectPtr *ret, sd_bus_error *error) {
        int r;

        if (c->conn && virConnectIsAlive(c->conn) != 1)
                close_connection(c);
        if (!c->conn) {
                r = open_connection(c, error);
                if (r < 0)
                        return r;
                (void) worker_post(c->pool, report_opened, c);
        }
        virConnectRef(c->conn);
        *ret = c->conn;
        return 0;
}

int connection_acquire(Connection *c, virConnectPtr *ret, sd_bus_error *error) {
        int r;

        pthread_mutex_lock(&c->mutex);
        r = acquire_locked(c, ret, error);
        pthread_mutex_unlock(&c->mutex);
        return r;
}

int connection_open_another(Connection *c, virConnectPtr *ret, sd_bus_error *error) {
        int r;

        r = connection_acquire(c, ret, error);
        if (r >= 0 && startswith(c->uri, "qemu:")) {
                virConnectPtr another = virConnectOpen(c->uri);

                if (another) {
                        virConnectClose(*ret);
                        *ret = another;
                }
        }
        return r;
}

static int define(virConnectPtr conn, const char *xml, const char *what, virDomainPtr *ret,
                  sd_bus_error *error) {
        *ret = virDomainDefineXML(conn, xml);
        return *ret ? 0 : error_from_libvirt(error, "%s", what);
}

int connection_define(Connection *c, virConnectPtr conn, const char *xml, const char *what,
                      virDomainPtr *ret, sd_bus_error *error) {
        _cleanup_connect_ virConnectPtr again = NULL;
        int r;

        r = define(conn, xml, what, ret, error);
        if (r >= 0 || virConnectIsAlive(conn) != 0)
                return r;
        if (connection_acquire(c, &again, NULL) < 0)
                return -ENOTCONN;
        sd_bus_error_free(error);
        r = define(again, xml, what, ret, error);
        return r < 0 && virConnectIsAlive(again) == 0 ? -ENOTCONN : r;
}

int connection_find_again(Connection *c, virDomainPtr domain, virDomainPtr *ret,
                          sd_bus_error *error) {
        _cleanup_connect_ virConnectPtr conn = NULL;
        unsigned char uuid[VIR_UUID_BUFLEN];
        int r;

        if (virConnectIsAlive(virDomainGetConnect(domain)) != 0)
                return 0;
        r = connection_acquire(c, &conn, error);
        if (r < 0)
                return r;
        if (virDomainGetUUID(domain, uuid) < 0)
                return error_from_libvirt(error, "look up a VM");
        *ret = virDomainLookupByUUID(conn, uuid);
        if (*ret)
                return 1;
        return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN
                       ? -ENOENT
                       : error_from_libvirt(error, "look up a VM");
}

int connection_wait_removed(Connection *c, uint64_t timeout_usec, int (*gone)(void *userdata),
                            void *userdata) {
        struct timespec deadline;
        unsigned seen;
        int r;

        clock_gettime(CLOCK_MONOTONIC, &deadline);
        deadline.tv_sec += timeout_usec / 1000000;

        for (;;) {
                pthread_mutex_lock(&c->removed_mutex);
                seen = c->n_removed;
                pthread_mutex_unlock(&c->removed_mutex);

                r = gone(userdata);
                if (r != 0)
                        return r;

                pthread_mutex_lock(&c->removed_mutex);
                while (r == 0 && c->n_removed == seen)
                        r = pthread_cond_timedwait(&c->removed, &c->removed_mutex, &deadline);
                pthread_mutex_unlock(&c->removed_mutex);
                if (r != 0)
                        return gone(userdata);
        }
}

int connection_new(const char *uri, WorkerPool *pool, const ConnectionHandler *handler,
                   Connection **ret) {
        _cleanup_(connection_freep) Connection *c = new0(Connection, 1);
        pthread_condattr_t monotonic;

        if (!c)
                return -ENOMEM;
        c->pool = pool;
        c->handler = *handler;
        pthread_mutex_init(&c->mutex, NULL);
        pthread_mutex_init(&c->removed_mutex, NULL);
        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        pthread_cond_init(&c->removed, &monotonic);
        pthread_condattr_destroy(&monotonic);

        c->uri = strdup(uri);
        if (!c->uri)
                return -ENOMEM;
        *ret = TAKE_PTR(c);
        return 0;
}

Connection *connection_free(Connection *c) {
        if (!c)
                return NULL;
        c->pool = NULL; /* it has gone, and to close may bring the last events */
        if (c->conn)
                close_connection(c);
        pthread_cond_destroy(&c->removed);
        pthread_mutex_destroy(&c->removed_mutex);
        pthread_mutex_destroy(&c->mutex);
        free(c->uri);
        free(c);
        return NULL;
}
