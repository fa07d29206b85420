/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The wait begins anew with everything that ends, and what is going on is looked at once, when it
 * is over: if there is something, its end will begin another wait. So nothing has to tell that it
 * begins.
 *
 * When libvirt cannot be reached, it is not known what runs; then it stays, to watch over the
 * passts of the VMs that may. */

#include "idle.h"

#include <time.h>

#include "client.h"
#include "log.h"

static bool is_busy(const Manager *m) {
        if (m->failure || client_is_any(m))
                return true;
        for (size_t i = 0; i < m->n_vms; i++)
                if (m->vms[i]->operations || !m->vms[i]->snapshot || vm_is_active(m->vms[i]))
                        return true;
        return false;
}

static int on_idle(sd_event_source *source, uint64_t usec, void *userdata) {
        Manager *m = userdata;

        if (!m->serving || m->stopping || is_busy(m))
                return 0;
        /* What is not done to a VM, or only reads one, tells nobody of its end. */
        if (worker_pool_busy(m->workers) > 0) {
                idle_later(m);
                return 0;
        }
        log_info("There is nothing to do; leaving until the next call");
        manager_stop(m);
        return 0;
}

void idle_later(Manager *m) {
        if (m->idle_usec == 0)
                return;
        if (!m->idle)
                (void) sd_event_add_time_relative(m->event, &m->idle, CLOCK_MONOTONIC, m->idle_usec,
                                                  0, on_idle, m);
        else if (sd_event_source_set_time_relative(m->idle, m->idle_usec) >= 0)
                (void) sd_event_source_set_enabled(m->idle, SD_EVENT_ONESHOT);
}
