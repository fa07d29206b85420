/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The first call of each client has the bus asked whose it is, and its name watched until it is
 * gone; a bus never gives a unique name to a second one. Both are calls that the main thread waits
 * for: the next message must not be handled before it is known whose this one is, and the bus
 * answers them itself, from memory.
 *
 * Who has left by the time their call is looked at, cannot be told any more, and is not served. */

#include "client.h"

#include <errno.h>
#include <sys/socket.h>

#include "idle.h"
#include "log.h"

/* libsystemd would know it no sooner than the bus has said hello. */
int client_check_bus(sd_bus *bus) {
        struct ucred owner;
        socklen_t size = sizeof(owner);
        int fd = sd_bus_get_fd(bus), r;

        r = fd < 0 ? fd : getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &owner, &size) < 0 ? -errno : 0;
        if (r < 0) {
                log_error("Cannot tell whose the session bus is: %s; it has to be a UNIX socket of "
                          "this machine",
                          strerror(-r));
                return r;
        }
        if (owner.uid == geteuid())
                return 0;
        log_error("The session bus belongs to another user (%u), who could do with your VMs as "
                  "they like; is DBUS_SESSION_BUS_ADDRESS that of your own session?",
                  owner.uid);
        return -EPERM;
}

static int check_caller(sd_bus *bus, const char *name, sd_bus_error *error) {
        _cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
        uid_t uid;
        int r;

        r = sd_bus_get_name_creds(bus, name, SD_BUS_CREDS_EUID, &creds);
        if (r >= 0)
                r = sd_bus_creds_get_euid(creds, &uid);
        if (r < 0) {
                log_warning("A call was not served: the bus does not say whose it is: %s",
                            strerror(-r));
                return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED,
                                         "The bus does not say who is calling: %s", strerror(-r));
        }
        if (uid == geteuid())
                return 0;
        log_warning("A call by another user (%u) was refused", uid);
        return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED,
                                 "Only the user whose VMs these are (%u) can call, and you are "
                                 "another one (%u)",
                                 geteuid(), uid);
}

static int filter_caller(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Manager *manager = userdata;
        const char *sender = sd_bus_message_get_sender(m);
        int r;

        if (sd_bus_message_is_method_call(m, NULL, NULL) <= 0 ||
            (sender && sd_bus_track_contains(manager->clients, sender)))
                return 0;
        if (!sender)
                return -EACCES;
        r = check_caller(manager->bus, sender, error);
        if (r < 0)
                return r;
        r = sd_bus_track_add_name(manager->clients, sender);
        return r < 0 ? r : 0;
}

static int on_last_gone(sd_bus_track *track, void *userdata) {
        idle_later(userdata);
        return 1;
}

int client_register(Manager *m) {
        int r;

        r = sd_bus_track_new(m->bus, &m->clients, on_last_gone, m);
        return r < 0 ? r : sd_bus_add_filter(m->bus, NULL, filter_caller, m);
}

bool client_is_any(const Manager *m) {
        return sd_bus_track_count(m->clients) > 0;
}
