/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What org.freedesktop.DBus.ObjectManager tells: VMs and jobs, each an object with an interface of
 * its own. Objects and interfaces that are not known are passed over. */

#include <errno.h>

#include "dictionary.h"
#include "internal.h"

void objects_done(Objects *o) {
        uservm_vms_free(o->vms);
        uservm_jobs_free(o->jobs);
        *o = (Objects){};
}

static int read_interface(sd_bus_message *m, const char *path, uservm_vm **vm, uservm_job **job) {
        const char *interface;
        int r;

        r = sd_bus_message_read_basic(m, 's', &interface);
        if (r < 0)
                return r;
        if (!*vm && streq(interface, VM_INTERFACE))
                return vm_read(m, path, NULL, vm);
        if (!*job && streq(interface, JOB_INTERFACE))
                return job_read(m, path, NULL, job);
        return sd_bus_message_skip(m, "a{sv}");
}

int interfaces_read(sd_bus_message *m, const char *path, uservm_vm **ret_vm, uservm_job **ret_job) {
        _cleanup_(uservm_vm_unrefp) uservm_vm *vm = NULL;
        _cleanup_(uservm_job_unrefp) uservm_job *job = NULL;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                r = read_interface(m, path, &vm, &job);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        r = sd_bus_message_exit_container(m);
        if (r < 0)
                return r;
        *ret_vm = TAKE_PTR(vm);
        *ret_job = TAKE_PTR(job);
        return 0;
}

/* Both take the reference over, whether there is memory or not. */

int objects_add_vm(Objects *o, uservm_vm *vm) {
        int r;

        r = list_append((void ***) &o->vms, &o->n_vms, vm);
        if (r < 0)
                uservm_vm_unref(vm);
        return r;
}

int objects_add_job(Objects *o, uservm_job *job) {
        int r;

        r = list_append((void ***) &o->jobs, &o->n_jobs, job);
        if (r < 0)
                uservm_job_unref(job);
        return r;
}

static int read_object(sd_bus_message *m, Objects *o) {
        const char *path;
        uservm_vm *vm;
        uservm_job *job;
        int r;

        r = sd_bus_message_read_basic(m, 'o', &path);
        if (r < 0)
                return r;
        r = interfaces_read(m, path, &vm, &job);
        if (r < 0)
                return r;
        if (vm)
                r = objects_add_vm(o, vm);
        if (job) {
                int q = objects_add_job(o, job);

                r = r < 0 ? r : q;
        }
        return r;
}

static int compare_names(const void *a, const void *b) {
        const uservm_vm *const *x = a, *const *y = b;

        return strcmp((*x)->name, (*y)->name);
}

static int compare_start_times(const void *a, const void *b) {
        const uservm_job *const *x = a, *const *y = b;

        return ((*x)->start_time > (*y)->start_time) - ((*x)->start_time < (*y)->start_time);
}

static int read_all(sd_bus_message *m, Objects *o) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}")) > 0) {
                r = read_object(m, o);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r;
}

int objects_read(sd_bus_message *m, Objects *ret) {
        _cleanup_(objects_done) Objects o = {
                .vms = new0(uservm_vm *, 1),
                .jobs = new0(uservm_job *, 1),
        };
        int r;

        if (!o.vms || !o.jobs)
                return -ENOMEM;
        r = read_all(m, &o);
        if (r < 0)
                return r;
        qsort(o.vms, o.n_vms, sizeof(*o.vms), compare_names);
        qsort(o.jobs, o.n_jobs, sizeof(*o.jobs), compare_start_times);
        *ret = o;
        o = (Objects){};
        return 0;
}
