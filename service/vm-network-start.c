/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The stored definition stays plain libvirt; what is started is the live XML derived from it, in
 * which passt NICs are vhost-user NICs connected to passts of ours (domain-live.h). Those have to
 * listen before QEMU starts.
 *
 * QEMU does not come up before it is connected to its passts, and libvirt waits for QEMU: for ever,
 * if a passt ends before that. So a thread has an eye on them until the domain is started: it
 * starts them anew, and if that is of no use, ends the start. */

#include "vm-network.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "connection.h"
#include "domain-live.h"
#include "error.h"
#include "log.h"

typedef struct Guard {
        VMNetwork *network;
        virDomainPtr domain;
        const char *stored_xml;
        struct pollfd *fds; /* the first one is readable when the start is over; of each passt */
        bool gave_up;
        pthread_t thread;
} Guard;

#define GUARD_ATTEMPTS 3
/* When it is QEMU that has ended, its passts end too, and the start is over in a moment. */
#define GUARD_WAIT_MSEC 300

static bool guard_wait(Guard *g, size_t n, int msec) {
        int r;

        do
                r = poll(g->fds, n, msec);
        while (r < 0 && errno == EINTR);
        return r < 0 || g->fds[0].revents != 0;
}

static void guard_log(const Guard *g, const char *what, const char *why) {
        const char *name = virDomainGetName(g->domain);
        char uuid[VIR_UUID_STRING_BUFLEN] = "";

        (void) virDomainGetUUIDString(g->domain, uuid);
        log_write(LOG_WARNING, &(LogSubject){ .vm = name, .uuid = uuid }, "VM '%s': %s%s%s", name,
                  what, why ? ": " : "", why ?: "");
}

static bool guard_revive(Guard *g) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        guard_log(g, "passt has ended during the start; it is started anew", NULL);
        r = vm_network_revive(g->network, g->stored_xml, &error);
        if (r < 0)
                guard_log(g, "passt could not be started anew", error.message ?: strerror(-r));
        return r >= 0;
}

/* Until libvirt has come far enough there is nothing for it to end. */
static void guard_give_up(Guard *g) {
        g->gave_up = true;
        guard_log(g, "the start is given up", NULL);
        while (virDomainDestroy(g->domain) < 0 && !guard_wait(g, 1, GUARD_WAIT_MSEC))
                ;
        (void) guard_wait(g, 1, -1);
}

static void *guard_main(void *userdata) {
        Guard *g = userdata;

        for (unsigned attempt = 1;; attempt++) {
                for (size_t i = 0; i < g->network->n; i++)
                        g->fds[i + 1] = (struct pollfd){ .fd = g->network->nics[i].pidfd,
                                                         .events = POLLIN };
                if (guard_wait(g, g->network->n + 1, -1) || guard_wait(g, 1, GUARD_WAIT_MSEC))
                        return NULL;
                if (attempt <= GUARD_ATTEMPTS && guard_revive(g))
                        continue;
                guard_give_up(g);
                return NULL;
        }
}

/* Without a thread it goes well most of the time. */
static Guard *guard_begin(VMNetwork *n, virDomainPtr domain, const char *stored_xml) {
        Guard *g = new0(Guard, 1);

        if (!g)
                return NULL;
        *g = (Guard){ .network = n, .domain = domain, .stored_xml = stored_xml };
        g->fds = new0(struct pollfd, n->n + 1);
        if (g->fds) {
                g->fds[0] = (struct pollfd){ .fd = eventfd(0, EFD_CLOEXEC), .events = POLLIN };
                if (g->fds[0].fd >= 0 && pthread_create(&g->thread, NULL, guard_main, g) == 0)
                        return g;
                closep(&g->fds[0].fd);
        }
        free(g->fds);
        free(g);
        return NULL;
}

/* r is what came of the start; returns what is to be made of it. */
static int guard_end(Guard *g, int r, sd_bus_error *error) {
        if (!g)
                return r;
        (void) eventfd_write(g->fds[0].fd, 1);
        pthread_join(g->thread, NULL);
        if (r < 0 && g->gave_up) {
                sd_bus_error_free(error);
                r = sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED,
                                      "Could not start VM '%s': its passt goes on ending",
                                      virDomainGetName(g->domain));
        }
        closep(&g->fds[0].fd);
        free(g->fds);
        free(g);
        return r;
}

/* Starting the domain */

static char *socket_for(const char *mac, void *userdata) {
        const char *uuid = userdata;
        PasstPaths paths;
        char *socket;

        if (passt_paths(uuid, mac, &paths) < 0)
                return NULL;
        socket = TAKE_PTR(paths.socket);
        passt_paths_done(&paths);
        return socket;
}

/* Another tool may have undefined it since its definition was read: then there is nothing left to
 * start, and what has come up goes with its end. */
static int check_defined(virDomainPtr domain, const char *name, sd_bus_error *error) {
        if (virDomainIsPersistent(domain) != 0)
                return 0;
        (void) virDomainDestroy(domain);
        return sd_bus_error_setf(error, USERVM_ERROR_NO_SUCH_VM,
                                 "VM '%s' has been deleted while it was started", name);
}

static int create_live(virConnectPtr conn, const char *name, const char *live_xml,
                       sd_bus_error *error) {
        _cleanup_domain_ virDomainPtr started = virDomainCreateXML(conn, live_xml, 0);

        if (!started)
                return error_from_libvirt(error, "start VM '%s'", name);
        return check_defined(started, name, error);
}

static int read_saved_macs(virDomainPtr domain, char ***ret, sd_bus_error *error) {
        const char *name = virDomainGetName(domain);
        _cleanup_free_ char *xml = NULL;
        int r;

        xml = virDomainManagedSaveGetXMLDesc(domain, 0);
        if (!xml && virGetLastErrorCode() == VIR_ERR_NO_SUPPORT) {
                *ret = new0(char *, 1); /* a driver without networks that we could manage */
                return *ret ? 0 : -ENOMEM;
        }
        if (!xml && virGetLastErrorCode() == VIR_ERR_OPERATION_INVALID)
                return -ENODATA; /* the file is gone, and libvirt has not noticed */
        if (!xml)
                return error_from_libvirt(error, "read how VM '%s' was saved", name);
        r = vm_network_read_macs(xml, ret);
        if (r < 0)
                return error_from_errno(error, -r, "understand how VM '%s' was saved", name);
        return 0;
}

/* From its saved image, whose XML is the live one that it was saved with: passts have to be there
 * again at the same paths. -ENODATA: there is none. */
static int resume_saved(virDomainPtr domain, const char *uuid, const char *stored_xml,
                        const LiveNics *live, VMNetwork **ret, sd_bus_error *error) {
        const char *name = virDomainGetName(domain);
        _cleanup_(strv_freep) char **macs = NULL;
        Guard *guard = NULL;
        VMNetwork *n = NULL;
        int r;

        r = read_saved_macs(domain, &macs, error);
        if (r < 0)
                return r;
        if (macs[0]) {
                r = vm_network_start_passts(uuid, live, macs, &n, error);
                if (r < 0)
                        return r;
                guard = guard_begin(n, domain, stored_xml);
        }
        r = virDomainCreate(domain) < 0
                    ? error_from_libvirt(error, "resume VM '%s' from its saved state", name)
                    : 0;
        r = guard_end(guard, r, error);
        if (r < 0) {
                vm_network_stop(n);
                return r;
        }
        *ret = n;
        return 0;
}

static int start_native(virDomainPtr domain, sd_bus_error *error) {
        const char *name = virDomainGetName(domain);
        if (virDomainCreate(domain) < 0)
                return error_from_libvirt(error, "start VM '%s'", name);
        return 0;
}

static int start_managed(virConnectPtr conn, virDomainPtr domain, char *uuid,
                         const char *stored_xml, const LiveNics *live, VMNetwork **ret,
                         sd_bus_error *error) {
        const char *name = virDomainGetName(domain);
        _cleanup_(passt_paths_done) PasstPaths paths = {};
        _cleanup_free_ char *live_xml = NULL;
        VMNetwork *n;
        Guard *guard;
        int r;

        r = passt_paths(uuid, live->items[0].mac, &paths);
        if (r < 0)
                return error_from_errno(error, -r,
                                        "find a place for the sockets of passt below "
                                        "XDG_RUNTIME_DIR");
        r = domain_live_derive(stored_xml, socket_for, uuid, &live_xml);
        if (r == -EOPNOTSUPP) {
                log_write(LOG_WARNING, &(LogSubject){ .vm = name, .uuid = uuid },
                          "VM '%s' has memory that cannot be shared with passt; its network is "
                          "native",
                          name);
                return start_native(domain, error);
        }
        if (r < 0)
                return error_from_errno(error, -r, "derive the live definition of VM '%s'", name);

        r = vm_network_start_passts(uuid, live, NULL, &n, error);
        if (r < 0)
                return r;
        guard = guard_begin(n, domain, stored_xml);
        r = guard_end(guard, create_live(conn, name, live_xml, error), error);
        if (r < 0) {
                vm_network_stop(n);
                return r;
        }
        *ret = n;
        return 0;
}

int vm_network_start_domain(virConnectPtr conn, virDomainPtr domain, bool managed, VMNetwork **ret,
                            sd_bus_error *error) {
        const char *name = virDomainGetName(domain);
        char uuid[VIR_UUID_STRING_BUFLEN];
        _cleanup_free_ char *stored_xml = NULL;
        LiveNics live = {};
        int r, saved;

        *ret = NULL;
        saved = virDomainHasManagedSaveImage(domain, 0);
        if (!managed && saved == 0)
                return start_native(domain, error);

        stored_xml = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
        if (saved < 0 || !stored_xml || virDomainGetUUIDString(domain, uuid) < 0)
                return error_from_libvirt(error, "read the definition of VM '%s'", name);
        r = domain_live_nics(stored_xml, &live);
        if (r < 0)
                return error_from_errno(error, -r, "understand the definition of VM '%s'", name);

        r = saved > 0 ? resume_saved(domain, uuid, stored_xml, &live, ret, error) : -ENODATA;
        if (r == -ENODATA)
                r = managed && live.n > 0
                            ? start_managed(conn, domain, uuid, stored_xml, &live, ret, error)
                            : start_native(domain, error);
        domain_live_nics_done(&live);
        return r;
}
