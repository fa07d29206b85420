/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* All VMs of the user's libvirt session, kept current by libvirt's events, and the things there is
 * one of: the bus, the workers, the connection to libvirt, what the host can do. Belongs to the
 * main thread. */

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "connection.h"
#include "domain-files.h"
#include "host.h"
#include "vm.h"
#include "worker.h"

struct Manager {
        sd_event *event;
        sd_bus *bus;
        WorkerPool *workers;
        Connection *connection;
        DomainFiles *files;

        VM **vms; /* those not on the bus yet included */
        size_t n_vms;
        unsigned n_calls; /* operations of all VMs that somebody waits for */
        struct Job *jobs;
        unsigned n_jobs_begun;
        Host *host; /* NULL until it has been asked */

        bool connected;     /* to libvirt */
        unsigned n_unasked; /* domains whose passts are being looked after without it */
        bool listing;       /* libvirt is being asked for all domains */
        bool stale;         /* it has to be asked (again) */
        bool listed;        /* it has been, or could not be reached */
        bool host_asked;    /* likewise for what the host can do */
        bool host_missed;   /* that could not be asked for, and is to be */
        char *failure;      /* why libvirt cannot be reached at present, or NULL */
        bool serving;       /* the name on the bus has been asked for */
        bool stopping;
        bool released;      /* nothing more comes in by the name, which has been given up */
        unsigned retry_sec; /* until the next attempt to reach libvirt */
        unsigned n_unread;  /* how often all was to be read again because a VM could not be read */
        uint64_t unread_usec; /* when that was last, CLOCK_MONOTONIC */
        sd_event_source *retry;
        sd_event_source *trim; /* timers, for when there is nothing to do */
        sd_event_source *idle;
        sd_event_source *backlog; /* while the bus is only written to */
        uint64_t idle_usec;       /* until it leaves by itself; 0: never */
        sd_bus_track *clients;    /* those who have called, and are on the bus */
};

/* Connects to the session bus and, in the background, to libvirt at uri. The name org.uservm1 is
 * taken when all VMs are known, or it is known that libvirt cannot be reached. It is left again
 * after so many seconds with nothing to do, see idle.h; 0: never. */
int manager_new(sd_event *event, const char *uri, unsigned idle_sec, Manager **ret);
Manager *manager_free(Manager *m);
DEFINE_CLEANUP(Manager *, manager_free);

/* Gives up the name on the bus, answers what has come in by it, lets running operations end, but
 * for copies, which it cancels, then exits the event loop. */
void manager_stop(Manager *m);

/* The VM of this name or, if there is none, of this UUID. NoSuchVM if there is neither, or
 * LibvirtFailed if that cannot be told. */
int manager_find(Manager *m, const char *name_or_uuid, VM **ret, sd_bus_error *error);
VM *manager_find_uuid(Manager *m, const char *uuid); /* those not on the bus included; or NULL */
VM *manager_find_name(Manager *m, const char *name); /* likewise */

/* Adds a VM (one more reference), which is not on the bus before its first snapshot. */
int manager_add(Manager *m, VM *vm);

/* Finds a forward of any VM but `except` (may be NULL) that would listen on the same port: stored,
 * live, or about to be added. Only running VMs' if active_only. *ret_vm and *ret_forward are set
 * when it returns true. */
bool manager_find_conflict(Manager *m, const VM *except, const Forward *f, bool active_only,
                           VM **ret_vm, const Forward **ret_forward);

/* Copies every forward that any VM has or is about to have. */
int manager_all_forwards(Manager *m, ForwardList *ret);

/* Whether this host has all that managed networking needs. */
bool manager_can_manage(const Manager *m);

/* To be called when a VM could not be read: has all of them read again in a moment, unless that has
 * been of no use. */
void manager_read_later(Manager *m);

/* To be called when a VM has nothing more to do: if libvirt does not know it, it is forgotten. */
void manager_vm_idle(Manager *m, VM *vm);
