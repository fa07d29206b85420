/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "job-bus.h"

#include <errno.h>

#define JOB_INTERFACE "org.uservm1.Job"

static int method_cancel(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        job_cancel(userdata);
        return sd_bus_reply_method_return(m, NULL);
}

static int get_operation(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", job_operation(userdata));
}

static int get_vm(sd_bus *bus, const char *path, const char *interface, const char *property,
                  sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", job_vm_name(userdata));
}

static int get_progress(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "d", job_progress(userdata));
}

static int get_rate(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "t", job_rate(userdata));
}

static int get_start_time(sd_bus *bus, const char *path, const char *interface,
                          const char *property, sd_bus_message *reply, void *userdata,
                          sd_bus_error *error) {
        return sd_bus_message_append(reply, "t", job_start_time(userdata));
}

static const sd_bus_vtable job_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Operation", "s", get_operation, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("VM", "s", get_vm, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Progress", "d", get_progress, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Rate", "t", get_rate, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("StartTime", "t", get_start_time, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_METHOD("Cancel", "", "", method_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static int find_job(sd_bus *bus, const char *path, const char *interface, void *userdata,
                    void **ret_found, sd_bus_error *error) {
        *ret_found = job_find(userdata, path);
        return *ret_found ? 1 : 0;
}

static int enumerate_jobs(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes,
                          sd_bus_error *error) {
        _cleanup_(strv_freep) char **nodes = NULL;
        size_t n = 0;

        for (Job *job = job_next(userdata, NULL); job; job = job_next(userdata, job))
                n++;
        nodes = new0(char *, n + 1);
        if (!nodes)
                return -ENOMEM;
        n = 0;
        for (Job *job = job_next(userdata, NULL); job; job = job_next(userdata, job)) {
                nodes[n] = strdup(job_path(job));
                if (!nodes[n++])
                        return -ENOMEM;
        }
        *ret_nodes = TAKE_PTR(nodes);
        return 0;
}

int job_bus_register(Manager *m) {
        int r;

        r = sd_bus_add_fallback_vtable(m->bus, NULL, JOB_PATH_PREFIX, JOB_INTERFACE, job_vtable,
                                       find_job, m);
        if (r < 0)
                return r;
        return sd_bus_add_node_enumerator(m->bus, NULL, JOB_PATH_PREFIX, enumerate_jobs, m);
}

/* A signal that cannot be sent is lost with the bus that it was for. */

void job_bus_appeared(Manager *m, Job *job) {
        (void) sd_bus_emit_object_added(m->bus, job_path(job));
}

void job_bus_vanished(Manager *m, Job *job) {
        (void) sd_bus_emit_object_removed(m->bus, job_path(job));
}

void job_bus_changed(Manager *m, Job *job) {
        (void) sd_bus_emit_properties_changed(m->bus, job_path(job), JOB_INTERFACE, "Progress",
                                              "Rate", NULL);
}
