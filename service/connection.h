/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The connection to libvirt's session driver: opened when it is first needed, opened again after
 * libvirt's daemon died or left, and the place where its events come in. */

#include <libvirt/libvirt.h>
#include <systemd/sd-bus.h>

#include "util.h"
#include "worker.h"

typedef struct Connection Connection;

/* What libvirt tells of. */
typedef enum DomainChange {
        DOMAIN_STORED,   /* the stored definition */
        DOMAIN_LIVE,     /* at least something of the live VM */
        DOMAIN_REBOOTED, /* the guest starts anew */
} DomainChange;

/* All are called on the main thread. */
typedef struct ConnectionHandler {
        void (*opened)(void *userdata); /* first connection, or a new one: all may have changed */
        void (*closed)(void *userdata); /* libvirt's daemon is gone */
        void (*domain_changed)(const char *uuid, DomainChange what, void *userdata);
        void *userdata;
} ConnectionHandler;

/* uri is libvirt's, "qemu:///session". Nothing is opened yet. */
int connection_new(const char *uri, WorkerPool *pool, const ConnectionHandler *handler,
                   Connection **ret);
Connection *connection_free(Connection *c);
DEFINE_CLEANUP(Connection *, connection_free);

/* A reference to the open connection, to be given back with virConnectClose(3); opens one if there
 * is none. Blocks: on a worker only. LibvirtFailed when libvirt cannot be reached. */
int connection_acquire(Connection *c, virConnectPtr *ret, sd_bus_error *error);

/* The same for a call that may take long, so that others need not wait for it. libvirt's daemon
 * serves five calls of a connection at a time (max_client_requests), and reads nothing from it as
 * long as there are so many, not even that the client is alive: after half a minute it drops the
 * connection. So this is another connection, without events, where libvirt has a daemon. */
int connection_open_another(Connection *c, virConnectPtr *ret, sd_bus_error *error);

static inline void vir_connect_closep(virConnectPtr *conn) {
        if (*conn)
                virConnectClose(*conn);
}

static inline void vir_domain_freep(virDomainPtr *domain) {
        if (*domain)
                virDomainFree(*domain);
}

#define _cleanup_connect_ _cleanup_(vir_connect_closep)
#define _cleanup_domain_ _cleanup_(vir_domain_freep)

/* virDomainDefineXML(3). If libvirt's daemon dies over it, nobody knows whether it is stored: then
 * it is stored by the next one, once more or after all. `what` is what is being attempted, for the
 * error. -ENOTCONN: there is no next one, so it is not known. */
int connection_define(Connection *c, virConnectPtr conn, const char *xml, const char *what,
                      virDomainPtr *ret, sd_bus_error *error);

/* After a call has failed: if that was because libvirt's daemon died, nobody knows whether it had
 * done it. Then the domain is looked up on a new connection. Returns 1: *ret is the domain there;
 * 0: it was not that, the connection is as it was; -ENOENT: there is no such domain any more, with
 * no error set; or LibvirtFailed as connection_acquire(). Beware: libvirt's last error is gone. */
int connection_find_again(Connection *c, virDomainPtr domain, virDomainPtr *ret,
                          sd_bus_error *error);

/* Waits until a device of this domain has been removed from the live VM, as the guest agrees to it
 * (VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, virDomainDetachDeviceFlags(3)), but no longer than
 * timeout_usec. `gone` asks libvirt whether it has; it is called once at first and then after each
 * such event. Blocks: on a worker only. Returns 1: gone, 0: time ran out, or gone's error. */
int connection_wait_removed(Connection *c, uint64_t timeout_usec, int (*gone)(void *userdata),
                            void *userdata);
