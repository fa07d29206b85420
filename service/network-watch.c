/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The kernel tells through a pidfd when a passt ends. Most often that is because its VM ended, and
 * libvirt's event of that is on its way; so there is a wait before anything is done about it, still
 * within the second after which QEMU tries to reach passt again.
 *
 * A passt that ends within half a minute of its start has not got over what ended it: then there is
 * a second wait, four times the last one, up to 30 seconds, and the forwards show as failed
 * meanwhile. */

#include "network-watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>
#include <time.h>

#include "error.h"
#include "log.h"
#include "manager.h"
#include "operation.h"
#include "vm-bus.h"

/* libvirt looks every 0.2 s whether a QEMU that it ends has ended (virProcessKillPainfully()). */
#define FIRST_WAIT_USEC 400000ULL
#define SECOND_WAIT_USEC 1200000ULL
#define LONGEST_WAIT_USEC (30 * 1000000ULL)
#define STABLE_USEC (30 * 1000000ULL)

typedef struct PasstWatch {
        pid_t pid;
        sd_event_source *exit;
} PasstWatch;

struct NetworkWatch {
        VM *vm;
        PasstWatch *passts;
        size_t n;
        sd_event_source *revival; /* a timer, while one is due */
        bool reviving;            /* the operation waits for its turn */
        uint64_t wait_usec;       /* after the first wait; 0: not at all */
        uint64_t revived_usec;    /* when it was tried last, CLOCK_MONOTONIC; 0: never */
        char *error;
};

NetworkWatch *network_watch_free(NetworkWatch *w) {
        if (!w)
                return NULL;
        for (size_t i = 0; i < w->n; i++)
                sd_event_source_disable_unref(w->passts[i].exit);
        free(w->passts);
        sd_event_source_disable_unref(w->revival);
        free(w->error);
        free(w);
        return NULL;
}

const char *network_watch_error(const NetworkWatch *w) {
        return w && w->error ? w->error : "";
}

static void set_error(NetworkWatch *w, const char *error) {
        if (streq(network_watch_error(w), error ?: ""))
                return;
        free(w->error);
        w->error = error ? strdup(error) : NULL;
        vm_bus_changed(w->vm, (const char *[]){ "NetworkError", NULL });
}

/* Reviving */

static int revive_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        _cleanup_free_ char *stored_xml = NULL;
        int state, r;

        if (virDomainGetState(domain, &state, NULL, 0) < 0)
                return error_from_libvirt(error, "ask whether VM '%s' runs", o->name);
        if (state == VIR_DOMAIN_SHUTOFF || state == VIR_DOMAIN_SHUTDOWN || !o->vm->network)
                return 0;
        stored_xml = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE);
        if (!stored_xml)
                return error_from_libvirt(error, "read the definition of VM '%s'", o->name);
        r = vm_network_revive(o->vm->network, stored_xml, error);
        if (r > 0)
                log_write(LOG_INFO,
                          &(LogSubject){
                                  .vm = o->name,
                                  .uuid = o->vm->uuid,
                                  .id = LOG_ID_PASST_REVIVED,
                          },
                          "VM '%s': passt has been started anew", o->name);
        return r;
}

static void log_ended(const VM *vm, const char *text) {
        log_write(LOG_WARNING,
                  &(LogSubject){ .vm = vm->name, .uuid = vm->uuid, .id = LOG_ID_PASST_ENDED },
                  "VM '%s': %s", vm->name, text);
}

/* By now it is known if it was the VM that ended, or is ending. */
static bool is_wanted(const VM *vm) {
        return vm->watch && vm_is_active(vm) && vm_state(vm) != VM_STOPPING;
}

static int revive_prepare(Operation *o, sd_bus_error *error) {
        static const char ended[] = "passt has ended unexpectedly; it is being started anew";
        NetworkWatch *w = o->vm->watch;

        if (w)
                w->reviving = false;
        if (is_wanted(o->vm) && isempty(network_watch_error(w))) {
                log_ended(o->vm, ended);
                set_error(w, ended);
        }
        return 0;
}

static const OperationType revive_type = {
        .name = "RevivePasst",
        .verb = "start passt anew for",
        .prepare = revive_prepare,
        .run = revive_run,
        .transition = VM_STATE_NONE,
};

static int on_revival(sd_event_source *source, uint64_t usec, void *userdata) {
        NetworkWatch *w = userdata;

        w->revival = sd_event_source_unref(w->revival);
        w->reviving = true;
        if (sd_event_now(w->vm->manager->event, CLOCK_MONOTONIC, &w->revived_usec) < 0)
                w->revived_usec = usec;
        if (operation_submit(w->vm, &revive_type, NULL, NULL) < 0)
                w->reviving = false;
        return 0;
}

static bool set_timer(NetworkWatch *w, uint64_t usec, sd_event_time_handler_t handler) {
        int r;

        r = sd_event_add_time_relative(w->vm->manager->event, &w->revival, CLOCK_MONOTONIC, usec,
                                       1000, handler, w);
        if (r < 0)
                log_write(LOG_ERR, &(LogSubject){ .vm = w->vm->name, .uuid = w->vm->uuid },
                          "VM '%s': could not set a timer: %s", w->vm->name, strerror(-r));
        return r >= 0;
}

static void report_wait(NetworkWatch *w) {
        _cleanup_free_ char *error = NULL;

        if (asprintf(&error, "passt goes on ending; it is started anew in %.1f s",
                     (double) w->wait_usec / 1000000) < 0)
                error = NULL;
        log_ended(w->vm, error ?: "passt goes on ending");
        set_error(w, error);
        (void) vm_refresh(w->vm, false); /* its forwards are failed until then */
}

/* The first wait is over. Not the first time, there is another one, and it is told of. */
static int on_first_wait(sd_event_source *source, uint64_t usec, void *userdata) {
        NetworkWatch *w = userdata;

        if (w->wait_usec == 0)
                return on_revival(source, usec, w);
        w->revival = sd_event_source_unref(w->revival);
        if (is_wanted(w->vm) && set_timer(w, w->wait_usec, on_revival))
                report_wait(w);
        return 0;
}

/* After the first one. */
static uint64_t next_wait(const NetworkWatch *w, uint64_t now) {
        if (w->revived_usec == 0 || now > w->revived_usec + STABLE_USEC)
                return 0;
        if (w->wait_usec == 0)
                return SECOND_WAIT_USEC;
        return w->wait_usec * 4 < LONGEST_WAIT_USEC ? w->wait_usec * 4 : LONGEST_WAIT_USEC;
}

static void revive_later(NetworkWatch *w) {
        uint64_t now;

        /* A VM that is being powered off or saved, or has shut down, takes its passt along; it is
         * looked at again when that is over. */
        if (w->revival || w->reviving || vm_state(w->vm) == VM_STOPPING ||
            sd_event_now(w->vm->manager->event, CLOCK_MONOTONIC, &now) < 0)
                return;
        w->wait_usec = next_wait(w, now);
        (void) set_timer(w, FIRST_WAIT_USEC, on_first_wait);
}

/* Watching */

static int on_exit_of_passt(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        NetworkWatch *w = userdata;

        sd_event_source_set_enabled(source, SD_EVENT_OFF);
        revive_later(w);
        return 0;
}

static const PasstWatch *find_watch(const NetworkWatch *w, pid_t pid) {
        for (size_t i = 0; i < w->n; i++)
                if (w->passts[i].pid == pid)
                        return &w->passts[i];
        return NULL;
}

/* It was told of the end of this one, and nothing came of that yet. */
static bool has_ended(const PasstWatch *passt) {
        int enabled;

        return sd_event_source_get_enabled(passt->exit, &enabled) >= 0 && enabled == SD_EVENT_OFF;
}

static int watch_passt(NetworkWatch *w, const NetworkNic *nic) {
        _cleanup_close_ int fd = -EBADF;
        PasstWatch *passts;
        int r;

        passts = reallocarray(w->passts, w->n + 1, sizeof(PasstWatch));
        if (!passts)
                return -ENOMEM;
        w->passts = passts;
        w->passts[w->n] = (PasstWatch){ .pid = nic->pid };
        fd = fcntl(nic->pidfd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return -errno;
        r = sd_event_add_io(w->vm->manager->event, &w->passts[w->n].exit, fd, EPOLLIN,
                            on_exit_of_passt, w);
        if (r < 0)
                return r;
        r = sd_event_source_set_io_fd_own(w->passts[w->n].exit, true);
        if (r < 0)
                return r;
        TAKE_FD(fd);
        w->n++;
        return 0;
}

/* Those whose process is no longer one of the network's. */
static void forget_old(NetworkWatch *w, const VMNetwork *network) {
        size_t n = 0;

        for (size_t i = 0; i < w->n; i++) {
                bool current = false;

                for (size_t j = 0; j < network->n; j++)
                        current = current || (network->nics[j].pidfd >= 0 &&
                                              network->nics[j].pid == w->passts[i].pid);
                if (current)
                        w->passts[n++] = w->passts[i];
                else
                        sd_event_source_disable_unref(w->passts[i].exit);
        }
        w->n = n;
}

static int watch_all(NetworkWatch *w, const VMNetwork *network) {
        forget_old(w, network);
        for (size_t i = 0; i < network->n; i++) {
                const NetworkNic *nic = &network->nics[i];
                const PasstWatch *passt = nic->pidfd < 0 ? NULL : find_watch(w, nic->pid);
                int r = 0;

                if (nic->pidfd < 0 || (passt && has_ended(passt)))
                        revive_later(w);
                else if (!passt)
                        r = watch_passt(w, nic);
                if (r < 0)
                        return r;
        }
        if (!w->revival && !w->reviving)
                set_error(w, NULL);
        return 0;
}

static void forget_all(VM *vm) {
        bool had_error = !isempty(network_watch_error(vm->watch));

        vm->watch = network_watch_free(vm->watch);
        if (had_error && vm->snapshot)
                vm_bus_changed(vm, (const char *[]){ "NetworkError", NULL });
}

/* A VM that could not be read may have a network all the same. What is to be done about a passt
 * that ends depends on its state, so the next reading will do for that. */
void network_watch_update(VM *vm) {
        int r;

        if (!vm->network || !vm->snapshot) {
                forget_all(vm);
                return;
        }
        if (!vm->watch) {
                vm->watch = new0(NetworkWatch, 1);
                if (!vm->watch)
                        return;
                vm->watch->vm = vm;
        }
        r = watch_all(vm->watch, vm->network);
        if (r < 0)
                log_write(LOG_ERR, &(LogSubject){ .vm = vm->name, .uuid = vm->uuid },
                          "VM '%s': cannot watch over passt: %s", vm->name, strerror(-r));
}
