/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How the list of VMs stays true: when a connection to libvirt opens, all domains are listed, and
 * every one of them, and every one known from before, is read anew. From then on each of libvirt's
 * events, and each change of its files (domain-files.h), has its domain read anew. There is no
 * other way in, so a lost connection needs no care but a new one.
 *
 * If libvirt cannot be reached, it is tried again after 1, 2, 4 … 32 seconds; calls that need it
 * try at once, and tell their caller why it failed. */

#include "manager.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "backlog.h"
#include "client.h"
#include "error.h"
#include "guest-watch.h"
#include "idle.h"
#include "job.h"
#include "log.h"
#include "manager-bus.h"
#include "memory.h"
#include "operation.h"
#include "passt.h"
#include "runtime.h"
#include "storage.h"
#include "utf8.h"

/* Starting a VM takes libvirt about a second, most of it waiting, and copying an image may take
 * minutes; this many at a time. The memory of each, idle ones too, is some 100 KB. */
#define WORKERS_MAX 8
#define RETRY_MAX_SEC 32
/* How often all is read again when a VM could not be read: after 1, 2, 4 … seconds. What was
 * lacking may be there again; but a definition that uservm does not understand stays what it is. */
#define READ_ATTEMPTS 5
#define READ_FORGET_USEC (60 * 1000000ULL)
/* How long nothing has to happen before memory is given back. */
#define TRIM_USEC (2 * 1000000ULL)

/* The list */

VM *manager_find_uuid(Manager *m, const char *uuid) {
        for (size_t i = 0; i < m->n_vms; i++)
                if (streq(m->vms[i]->uuid, uuid))
                        return m->vms[i];
        return NULL;
}

VM *manager_find_name(Manager *m, const char *name) {
        for (size_t i = 0; i < m->n_vms; i++)
                if (!m->vms[i]->gone && streq_ptr(m->vms[i]->name, name))
                        return m->vms[i];
        return NULL;
}

int manager_find(Manager *m, const char *name_or_uuid, VM **ret, sd_bus_error *error) {
        VM *vm = manager_find_name(m, name_or_uuid) ?: manager_find_uuid(m, name_or_uuid);

        if ((!vm || !vm->snapshot) && m->failure)
                return sd_bus_error_set(error, USERVM_ERROR_LIBVIRT_FAILED, m->failure);
        if (!vm || !vm->snapshot)
                return sd_bus_error_setf(error, USERVM_ERROR_NO_SUCH_VM,
                                         "There is no VM '%.*s'; see the list of VMs",
                                         utf8_prefix(name_or_uuid, QUOTED_MAX), name_or_uuid);
        *ret = vm;
        return 0;
}

int manager_add(Manager *m, VM *vm) {
        VM **vms = reallocarray(m->vms, m->n_vms + 1, sizeof(VM *));

        if (!vms)
                return -ENOMEM;
        m->vms = vms;
        m->vms[m->n_vms++] = vm_ref(vm);
        return 0;
}

static void manager_remove(Manager *m, VM *vm) {
        for (size_t i = 0; i < m->n_vms; i++)
                if (m->vms[i] == vm) {
                        m->n_vms--;
                        memmove(&m->vms[i], &m->vms[i + 1], (m->n_vms - i) * sizeof(VM *));
                        vm_unref(vm);
                        return;
                }
}

/* Forwards of all VMs */

bool manager_find_conflict(Manager *m, const VM *except, const Forward *f, bool active_only,
                           VM **ret_vm, const Forward **ret_forward) {
        for (size_t i = 0; i < m->n_vms; i++) {
                VM *vm = m->vms[i];
                const Forward *found = NULL;

                if (vm == except)
                        continue;
                if (vm->snapshot && (!active_only || vm_is_active(vm)))
                        found = forward_list_find_conflict(vm_forwards(vm), f);
                if (!found)
                        found = forward_list_find_conflict(&vm->reserved, f);
                if (found) {
                        *ret_vm = vm;
                        *ret_forward = found;
                        return true;
                }
        }
        return false;
}

int manager_all_forwards(Manager *m, ForwardList *ret) {
        _cleanup_forward_list_ ForwardList all = {};

        for (size_t i = 0; i < m->n_vms; i++) {
                int r = forward_list_extend(&all, &m->vms[i]->reserved);

                if (r >= 0 && m->vms[i]->snapshot)
                        r = forward_list_extend(&all, vm_forwards(m->vms[i]));
                if (r < 0)
                        return r;
        }
        *ret = all;
        all = (ForwardList){};
        return 0;
}

bool manager_can_manage(const Manager *m) {
        return m->host && m->host->managed;
}

/* Serving: when all VMs are known, and not before, the name is taken on the bus. */

static void serve_when_ready(Manager *m) {
        int r;

        if (m->serving || !m->listed || !m->host_asked || m->stopping)
                return;
        for (size_t i = 0; i < m->n_vms; i++)
                if (!m->vms[i]->snapshot)
                        return;
        m->serving = true;
        r = sd_bus_request_name(m->bus, USERVM_BUS_NAME, 0);
        if (r < 0) {
                log_error("Could not take the name %s on the session bus: %s", USERVM_BUS_NAME,
                          r == -EEXIST ? "another uservmd has it" : strerror(-r));
                sd_event_exit(m->event, r);
        }
}

static int on_trim(sd_event_source *source, uint64_t usec, void *userdata) {
        memory_trim();
        return 0;
}

/* Once, a while after the last operation has ended: no timer runs while there is nothing to do. */
static void trim_later(Manager *m) {
        if (!m->trim)
                (void) sd_event_add_time_relative(m->event, &m->trim, CLOCK_MONOTONIC, TRIM_USEC, 0,
                                                  on_trim, m);
        else if (sd_event_source_set_time_relative(m->trim, TRIM_USEC) >= 0)
                (void) sd_event_source_set_enabled(m->trim, SD_EVENT_ONESHOT);
}

void manager_vm_idle(Manager *m, VM *vm) {
        if (!vm->snapshot)
                manager_remove(m, vm);
        serve_when_ready(m);
        trim_later(m);
        idle_later(m);
}

static int refresh_uuid(Manager *m, const char *uuid, bool live) {
        _cleanup_(vm_unrefp) VM *vm = NULL;
        VM *known = manager_find_uuid(m, uuid);
        int r;

        if (known)
                return vm_refresh(known, live);
        r = vm_new(m, uuid, NULL, &vm);
        if (r < 0)
                return r;
        r = manager_add(m, vm);
        if (r < 0)
                return r;
        return vm_refresh(vm, live);
}

/* Jobs: to connect, to list, to look at the host */

typedef struct Inquiry {
        Manager *manager;
        sd_bus_error error;
        int result;
        char **uuids; /* NULL-terminated */
        Host *host;
        bool serving; /* the manager, when this was asked */
} Inquiry;

static void inquiry_free(Inquiry *q) {
        sd_bus_error_free(&q->error);
        strv_free(q->uuids);
        host_free(q->host);
        free(q);
}

static void retry_later(Manager *m);
static void host_run(void *userdata);
static void host_done(void *userdata);

static void inquire(Manager *m, worker_func_t run, worker_func_t done) {
        Inquiry *q = new0(Inquiry, 1);

        if (q)
                *q = (Inquiry){ .manager = m, .serving = m->serving };
        if (!q || worker_submit(m->workers, run, done, q) < 0) {
                log_error("Out of memory or threads; libvirt is asked again later");
                free(q);
                m->listing = false;
                m->stale = true;
                m->host_missed = m->host_missed || run == host_run;
                retry_later(m);
        } else if (run == host_run)
                m->host_missed = false;
}

static void connect_run(void *userdata) {
        Inquiry *q = userdata;
        _cleanup_connect_ virConnectPtr conn = NULL;

        q->result = connection_acquire(q->manager->connection, &conn, &q->error);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata);

static void retry_in(Manager *m, unsigned seconds) {
        int r;

        m->retry = sd_event_source_disable_unref(m->retry);
        r = sd_event_add_time_relative(m->event, &m->retry, CLOCK_MONOTONIC, seconds * 1000000ULL,
                                       0, on_retry, m);
        if (r < 0)
                log_error("Could not set a timer: %s", strerror(-r));
}

static void retry_later(Manager *m) {
        m->retry_sec = m->retry_sec == 0              ? 1
                       : m->retry_sec < RETRY_MAX_SEC ? 2 * m->retry_sec
                                                      : RETRY_MAX_SEC;
        retry_in(m, m->retry_sec);
}

static void ask_for_domains(Manager *m);

static void set_failure(Manager *m, const Inquiry *q) {
        const char *failure = q->error.message ?: strerror(-q->result);

        log_warning("%s", failure);
        free(m->failure);
        m->failure = strdup(failure);
        if (m->failure)
                utf8_make_valid(m->failure);
        m->stale = true;
        m->listed = m->host_asked = true; /* callers hear the reason rather than wait */
        retry_later(m);
        serve_when_ready(m);
}

static void connect_done(void *userdata) {
        Inquiry *q = userdata;
        Manager *m = q->manager;

        if (q->result < 0 && !m->stopping)
                set_failure(m, q);
        else {
                if (m->host_missed)
                        inquire(m, host_run, host_done);
                if (m->stale)
                        ask_for_domains(m);
        }
        inquiry_free(q);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Manager *m = userdata;

        m->retry = sd_event_source_unref(m->retry);
        inquire(m, connect_run, connect_done);
        return 0;
}

void manager_read_later(Manager *m) {
        uint64_t now;

        if (m->retry || m->stopping || sd_event_now(m->event, CLOCK_MONOTONIC, &now) < 0)
                return;
        if (now > m->unread_usec + READ_FORGET_USEC)
                m->n_unread = 0;
        m->unread_usec = now;
        if (m->n_unread == READ_ATTEMPTS)
                return;
        m->stale = true;
        retry_in(m, 1U << m->n_unread++);
}

static int list_domains(virConnectPtr conn, char ***ret, sd_bus_error *error) {
        virDomainPtr *domains = NULL;
        _cleanup_(strv_freep) char **uuids = NULL;
        int n;

        n = virConnectListAllDomains(conn, &domains, 0);
        if (n < 0)
                return error_from_libvirt(error, "list libvirt's domains");
        uuids = new0(char *, n + 1);
        for (int i = 0; i < n; i++) {
                char uuid[VIR_UUID_STRING_BUFLEN];

                if (uuids && virDomainGetUUIDString(domains[i], uuid) >= 0)
                        uuids[i] = strdup(uuid);
                virDomainFree(domains[i]);
        }
        free(domains);
        *ret = TAKE_PTR(uuids);
        return *ret ? 0 : -ENOMEM;
}

/* What an earlier uservmd, killed at a bad moment, may have left of VMs that are gone goes before
 * this one makes any. (Of those that are there and do not run, it goes when they are read.) */
static void list_run(void *userdata) {
        Inquiry *q = userdata;
        _cleanup_connect_ virConnectPtr conn = NULL;

        q->result = connection_acquire(q->manager->connection, &conn, &q->error);
        if (q->result >= 0)
                q->result = list_domains(conn, &q->uuids, &q->error);
        if (q->result < 0)
                return;
        if (!q->serving)
                passt_clean_up(q->uuids);
        storage_clean_up(q->uuids);
}

static void refresh_all(Manager *m, char **uuids) {
        for (size_t i = 0; i < m->n_vms; i++)
                (void) vm_refresh(m->vms[i], true);
        for (char **uuid = uuids; *uuid; uuid++)
                if (refresh_uuid(m, *uuid, true) < 0)
                        log_error("Out of memory");
}

static void list_done(void *userdata) {
        Inquiry *q = userdata;
        Manager *m = q->manager;

        m->listing = false;
        if (q->result < 0)
                set_failure(m, q);
        else {
                m->listed = true;
                free(m->failure);
                m->failure = NULL;
                refresh_all(m, q->uuids);
                serve_when_ready(m);
                idle_later(m);
                if (m->stale)
                        ask_for_domains(m);
        }
        inquiry_free(q);
}

static void ask_for_domains(Manager *m) {
        m->stale = true;
        if (m->listing || m->n_unasked > 0)
                return;
        m->listing = true;
        m->stale = false;
        inquire(m, list_run, list_done);
}

static void host_run(void *userdata) {
        Inquiry *q = userdata;
        _cleanup_connect_ virConnectPtr conn = NULL;

        q->result = connection_acquire(q->manager->connection, &conn, &q->error);
        if (q->result >= 0)
                q->result = host_read(conn, &q->host, &q->error);
}

static void host_done(void *userdata) {
        Inquiry *q = userdata;
        Manager *m = q->manager;

        if (q->result < 0)
                log_warning("%s", q->error.message ?: strerror(-q->result));
        else {
                host_free(m->host);
                m->host = TAKE_PTR(q->host);
                manager_bus_host_changed(m);
                for (size_t i = 0; i < m->n_vms; i++)
                        vm_host_changed(m->vms[i]);
        }
        m->host_asked = true;
        serve_when_ready(m);
        trim_later(m);
        idle_later(m);
        inquiry_free(q);
}

/* libvirt's side */

typedef struct Unasked {
        Manager *manager;
        char *name;
} Unasked;

static void unasked_run(void *userdata) {
        const Unasked *u = userdata;
        int r = vm_network_serve_unasked(u->name);

        if (r < 0 && r != -ENOENT)
                log_write(LOG_WARNING, &(LogSubject){ .vm = u->name },
                          "VM '%s': cannot tell whether it waits for its network: %s", u->name,
                          strerror(-r));
}

static void unasked_done(void *userdata) {
        Unasked *u = userdata;
        Manager *m = u->manager;

        free(u->name);
        free(u);
        if (--m->n_unasked == 0 && m->stale && m->connected && !m->stopping)
                ask_for_domains(m);
}

/* Until there is a connection. */
static void serve_unasked(const char *name, bool live, void *userdata) {
        Unasked *u = new0(Unasked, 1);

        if (u)
                *u = (Unasked){ .manager = userdata, .name = strdup(name) };
        if (u && u->name && worker_submit(u->manager->workers, unasked_run, unasked_done, u) >= 0) {
                u->manager->n_unasked++;
                return;
        }
        log_error("Out of memory");
        if (u)
                free(u->name);
        free(u);
}

/* One that is not known is new: virsh create starts a domain that has not been defined before. Of
 * one that is defined there is an event. */
static void on_domain_file(const char *name, bool live, void *userdata) {
        Manager *m = userdata;
        VM *vm = name ? manager_find_name(m, name) : NULL;

        if (m->stopping || (!live && (!vm || !m->connected)))
                return;
        if (!m->connected) {
                if (name)
                        serve_unasked(name, live, m);
                else
                        domain_files_each_active(serve_unasked, m);
                return;
        }
        if (vm)
                (void) vm_refresh(vm, live);
        else
                ask_for_domains(m);
}

static void watch_files(Manager *m) {
        int r;

        m->files = domain_files_free(m->files);
        r = domain_files_new(m->event, on_domain_file, m, &m->files);
        if (r < 0)
                log_warning("Could not watch libvirt's files; VMs that other tools restore may "
                            "wait for their network: %s",
                            strerror(-r));
}

/* The first folder that matters may not be there yet. */
static void watch_before_connection(Manager *m) {
        (void) runtime_make_folder(DOMAIN_FILES_RUNNING, NULL);
        watch_files(m);
        domain_files_each_active(serve_unasked, m);
}

static void on_opened(void *userdata) {
        Manager *m = userdata;

        if (m->stopping)
                return;
        m->connected = true;
        watch_files(m);
        m->retry_sec = 0;
        m->retry = sd_event_source_disable_unref(m->retry);
        ask_for_domains(m);
        inquire(m, host_run, host_done);
}

static void on_closed(void *userdata) {
        Manager *m = userdata;

        if (m->stopping)
                return;
        m->connected = false;
        log_warning("libvirt's session daemon has gone away; connecting again");
        inquire(m, connect_run, connect_done);
}

static void on_domain_changed(const char *uuid, DomainChange what, void *userdata) {
        Manager *m = userdata;
        VM *vm = manager_find_uuid(m, uuid);

        if (m->stopping)
                return;
        if (what == DOMAIN_REBOOTED && vm)
                guest_watch_rebooted(vm);
        if (refresh_uuid(m, uuid, what != DOMAIN_STORED) < 0)
                log_error("Out of memory");
}

/* systemd tells when units are enabled and disabled, by whomever. */

static int on_unit_files_changed(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Manager *m = userdata;

        for (size_t i = 0; i < m->n_vms; i++)
                (void) vm_refresh(m->vms[i], false);
        return 0;
}

static int watch_unit_files(Manager *m) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *subscribe = NULL;
        int r;

        r = sd_bus_match_signal_async(m->bus, NULL, "org.freedesktop.systemd1",
                                      "/org/freedesktop/systemd1",
                                      "org.freedesktop.systemd1.Manager", "UnitFilesChanged",
                                      on_unit_files_changed, NULL, m);
        if (r < 0)
                return r;
        /* systemd sends its signals to those who subscribed. Where there is no systemd on the bus,
         * there is nothing to hear either. */
        r = sd_bus_message_new_method_call(m->bus, &subscribe, "org.freedesktop.systemd1",
                                           "/org/freedesktop/systemd1",
                                           "org.freedesktop.systemd1.Manager", "Subscribe");
        if (r < 0)
                return r;
        r = sd_bus_message_set_auto_start(subscribe, false);
        if (r < 0)
                return r;
        return sd_bus_send(m->bus, subscribe, NULL);
}

/* Beginning and end */

static int open_bus(Manager *m) {
        int r;

        r = sd_bus_open_user_with_description(&m->bus, "session");
        if (r < 0) {
                log_error("Could not reach the session bus: %s; is DBUS_SESSION_BUS_ADDRESS or "
                          "XDG_RUNTIME_DIR set?",
                          strerror(-r));
                return r;
        }
        r = client_check_bus(m->bus);
        if (r < 0)
                return r;
        r = sd_bus_set_exit_on_disconnect(m->bus, true);
        if (r < 0)
                return r;
        r = sd_bus_attach_event(m->bus, m->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        r = manager_bus_register(m);
        if (r < 0)
                return r;
        r = backlog_register(m);
        if (r < 0)
                return r;
        r = client_register(m);
        if (r < 0)
                return r;
        return watch_unit_files(m);
}

int manager_new(sd_event *event, const char *uri, unsigned idle_sec, Manager **ret) {
        _cleanup_(manager_freep) Manager *m = new0(Manager, 1);
        ConnectionHandler handler = {
                .opened = on_opened,
                .closed = on_closed,
                .domain_changed = on_domain_changed,
        };
        int r;

        if (!m)
                return -ENOMEM;
        m->event = sd_event_ref(event);
        m->idle_usec = idle_sec * 1000000ULL;
        handler.userdata = m;
        r = worker_pool_new(event, WORKERS_MAX, &m->workers);
        if (r < 0)
                return r;
        r = connection_new(uri, m->workers, &handler, &m->connection);
        if (r < 0)
                return r;
        r = open_bus(m);
        if (r < 0)
                return r;

        if (startswith(uri, "qemu:"))
                watch_before_connection(m);
        inquire(m, connect_run, connect_done);
        *ret = TAKE_PTR(m);
        return 0;
}

static int exit_when_done(sd_event_source *source, void *userdata) {
        Manager *m = userdata;

        if (m->released && worker_pool_busy(m->workers) == 0)
                sd_event_exit(m->event, 0);
        return 0;
}

/* The bus keeps the order: what was sent to the name before it was free has been handled by now. */
static int on_released(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Manager *m = userdata;

        m->released = true;
        return 0;
}

void manager_stop(Manager *m) {
        if (m->stopping)
                return;
        m->stopping = true;
        runtime_leave();
        m->released = !m->serving ||
                      sd_bus_release_name_async(m->bus, NULL, USERVM_BUS_NAME, on_released, m) < 0;
        job_cancel_copies(m);
        /* Looked at now and after each turn of the loop, of which every job that ends causes one.
         */
        if (sd_event_add_post(m->event, NULL, exit_when_done, m) < 0)
                sd_event_exit(m->event, 0);
        (void) exit_when_done(NULL, m);
}

Manager *manager_free(Manager *m) {
        if (!m)
                return NULL;
        m->stopping = true;
        job_cancel_copies(m); /* the workers are waited for */
        worker_pool_free(m->workers);
        for (size_t i = 0; i < m->n_vms; i++)
                vm_unref(m->vms[i]);
        free(m->vms);
        connection_free(m->connection);
        domain_files_free(m->files);
        host_free(m->host);
        free(m->failure);
        sd_event_source_disable_unref(m->retry);
        sd_event_source_disable_unref(m->trim);
        sd_event_source_disable_unref(m->idle);
        sd_event_source_disable_unref(m->backlog);
        sd_bus_track_unref(m->clients);
        sd_bus_flush_close_unref(m->bus);
        sd_event_unref(m->event);
        free(m);
        return NULL;
}
