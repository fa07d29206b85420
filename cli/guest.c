/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A watch of libuservm tells of every change of the VM, so nothing asks for its state. Whether a
 * server answers nobody tells; guest-probe.c tries. One probe gives up on an attempt after two
 * seconds and more, so that a guest that has just come up is found soon, whatever passt's next
 * attempt at it is; then another begins beside it that has more patience, for servers that take
 * their time to answer. Not before: sshd refuses clients that connect often and do not log in, see
 * PerSourcePenalties in sshd_config(5).
 *
 * If uservmd ends meanwhile, it is started again once, by asking it for something. */

#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include "output.h"
#include "session.h"
#include "util.h"

#define N_PROBES 2
#define PATIENCE_SHORT_USEC (2 * USEC_PER_SEC)
#define PATIENCE_LONG_USEC (30 * USEC_PER_SEC)

typedef struct GuestWait {
        uservm *u;
        const char *name;
        char *quoted;       /* the name, for commands that are offered */
        uservm_state state; /* one of these is waited for */
        bool ready;
        uint16_t port;
        uservm_vm *vm; /* as it is now, NULL if it is not known */
        bool synced, changed;
        bool asked;   /* for the service to come back */
        Task service; /* and what came of it */
        Probe probes[N_PROBES];
        bool has_endpoint;
        Endpoint endpoint;
} GuestWait;

static bool excluded(const uservm_forward *f, unsigned host_port) {
        for (size_t i = 0; i < f->n_exclude; i++)
                if (host_port >= f->exclude[i].first && host_port <= f->exclude[i].last)
                        return true;
        return false;
}

/* Where a socket of this machine connects to, to get to one that listens on this address. */
static bool endpoint_set(const char *address, uint16_t port, Endpoint *ret) {
        Endpoint e = {};

        if (streq(address, "*") || streq(address, "0.0.0.0"))
                address = "127.0.0.1";
        else if (streq(address, "::"))
                address = "::1";
        if (inet_pton(AF_INET, address, &e.ipv4.sin_addr) == 1) {
                e.ipv4.sin_family = AF_INET;
                e.ipv4.sin_port = htons(port);
        } else if (inet_pton(AF_INET6, address, &e.ipv6.sin6_addr) == 1) {
                e.ipv6.sin6_family = AF_INET6;
                e.ipv6.sin6_port = htons(port);
        } else {
                return false;
        }
        *ret = e;
        return true;
}

/* From here one gets to the loopback interface only. */
static bool reachable(const uservm_forward *f) {
        return !f->interface || streq(f->interface, "lo");
}

bool endpoint_find(const uservm_vm *vm, uint16_t guest_port, Endpoint *ret_endpoint,
                   const uservm_forward **ret_other) {
        const uservm_forward *other = NULL;

        for (size_t i = 0; i < vm->n_forwards; i++) {
                const uservm_forward *f = vm->forwards[i];
                unsigned host_port = f->host_port + (unsigned) (guest_port - f->guest_port);

                if (!streq(f->protocol, "tcp") || guest_port < f->guest_port ||
                    guest_port > f->guest_port_end || excluded(f, host_port) || !reachable(f))
                        continue;
                if (f->state != USERVM_FORWARD_ACTIVE && f->state != USERVM_FORWARD_REMOVING)
                        other = f;
                else if (endpoint_set(f->address, (uint16_t) host_port, ret_endpoint))
                        return true;
        }
        *ret_other = other;
        return false;
}

uint16_t endpoint_format(const Endpoint *endpoint, char ret_address[static ENDPOINT_TEXT_MAX]) {
        bool ipv4 = endpoint->any.sa_family == AF_INET;

        inet_ntop(endpoint->any.sa_family,
                  ipv4 ? (const void *) &endpoint->ipv4.sin_addr
                       : (const void *) &endpoint->ipv6.sin6_addr,
                  ret_address, ENDPOINT_TEXT_MAX);
        return ntohs(ipv4 ? endpoint->ipv4.sin_port : endpoint->ipv6.sin6_port);
}

static socklen_t endpoint_length(const Endpoint *e) {
        return e->any.sa_family == AF_INET ? sizeof(e->ipv4) : sizeof(e->ipv6);
}

/* What is not set of one is zero. */
static bool endpoint_equal(const Endpoint *a, const Endpoint *b) {
        /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison) */
        return memcmp(a, b, sizeof(Endpoint)) == 0;
}

/* The VM that is meant, once it is found, is followed by its UUID, as it may get another name. */
static bool is_meant(const GuestWait *w, const uservm_vm *vm) {
        if (w->vm)
                return streq(vm->uuid, w->vm->uuid);
        return streq(vm->name, w->name) || streq(vm->uuid, w->name);
}

static void on_change(uservm_watch *watch, const uservm_change *change, void *userdata) {
        GuestWait *w = userdata;

        switch (change->event) {
        case USERVM_EVENT_VM_ADDED:
        case USERVM_EVENT_VM_CHANGED:
                if (!is_meant(w, change->vm))
                        return;
                uservm_vm_unref(w->vm);
                w->vm = uservm_vm_ref(change->vm);
                break;
        case USERVM_EVENT_VM_REMOVED:
                if (!is_meant(w, change->vm))
                        return;
                w->vm = uservm_vm_unref(w->vm);
                break;
        case USERVM_EVENT_SYNCED:
                w->synced = true;
                break;
        case USERVM_EVENT_SERVICE_GONE:
                if (!w->asked) {
                        w->asked = true;
                        if (uservm_get_host_async(w->u, task_finished, &w->service, NULL) < 0)
                                w->asked = false;
                }
                return;
        default:
                return;
        }
        w->changed = true;
}

/* There is no forward to the port, or one that does not work now. */
static void complain_no_endpoint(const GuestWait *w, const uservm_forward *other) {
        const char *state;

        if (!other) {
                complain("no port forward of '%s' leads to its TCP port %u; add one: "
                         "uservm forward add %s 0:%u",
                         w->name, w->port, w->quoted, w->port);
                return;
        }
        state = uservm_forward_state_to_string(other->state);
        if (other->error)
                complain("the forward %s of '%s' is %s: %s", other->spec, w->name, state,
                         other->error);
        else if (other->state == USERVM_FORWARD_PENDING)
                complain("the forward %s of '%s' is pending: it takes effect when the VM is "
                         "started next",
                         other->spec, w->name);
        else
                complain("the forward %s of '%s' is %s", other->spec, w->name, state);
}

/* The journal has it by its name, also if it was given by its UUID. */
static void complain_crashed(const GuestWait *w) {
        _cleanup_free_ char *quoted = shell_quote(w->vm->name);

        complain("'%s' has crashed; of what: journalctl --user USERVM_VM=%s; start it again: "
                 "uservm start %s",
                 w->name, quoted ?: w->vm->name, w->quoted);
}

/* Looks at the VM as it is now, which may make the wait end with *ret_exit. */
static bool over(GuestWait *w, Exit *ret_exit) {
        const uservm_forward *other;
        Endpoint endpoint;

        if (!w->vm) {
                complain("there is no VM '%s'; see uservm list", w->name);
                *ret_exit = EXIT_NOT_FOUND;
                return true;
        }
        if (w->state != USERVM_STATE_UNKNOWN) {
                *ret_exit = EXIT_OK;
                return w->vm->state == w->state;
        }
        if (w->ready && w->vm->ready) {
                *ret_exit = EXIT_OK;
                return true;
        }
        *ret_exit = EXIT_FAILED;
        switch (w->vm->state) {
        case USERVM_STATE_STARTING:
                return false;
        case USERVM_STATE_RUNNING:
        case USERVM_STATE_PAUSED:
                break;
        case USERVM_STATE_CRASHED:
                complain_crashed(w);
                return true;
        default:
                complain("'%s' does not run; start it: uservm start %s", w->name, w->quoted);
                return true;
        }
        if (w->ready)
                return false;
        if (endpoint_find(w->vm, w->port, &endpoint, &other)) {
                if (!w->has_endpoint || !endpoint_equal(&endpoint, &w->endpoint))
                        for (size_t i = 0; i < N_PROBES; i++)
                                probe_reset(&w->probes[i]);
                w->endpoint = endpoint;
                w->has_endpoint = true;
                return false;
        }
        complain_no_endpoint(w, other);
        return true;
}

/* Lets the probes go on. Returns whether one has its answer. */
static bool probes_run(GuestWait *w, const struct pollfd fds[]) {
        for (size_t i = 0; i < N_PROBES; i++) {
                probe_run(&w->probes[i], &w->endpoint.any, endpoint_length(&w->endpoint),
                          fds[i].fd == w->probes[i].fd ? fds[i].revents : 0);
                if (w->probes[i].phase == PROBE_ANSWERED)
                        return true;
        }
        return false;
}

/* When there is something to do at the latest. */
static uint64_t next_time(const GuestWait *w, uint64_t until) {
        if (w->has_endpoint)
                for (size_t i = 0; i < N_PROBES; i++)
                        if (w->probes[i].until < until)
                                until = w->probes[i].until;
        return until;
}

/* One turn of the loop. Returns true if the wait is over, with *ret_exit. */
static bool turn(GuestWait *w, uint64_t until, Exit *ret_exit) {
        struct pollfd fds[N_PROBES] = {};
        int r;

        for (size_t i = 0; w->has_endpoint && i < N_PROBES; i++)
                fds[i] = probe_pollfd(&w->probes[i]);
        r = session_iterate(w->u, fds, w->has_endpoint ? N_PROBES : 0, next_time(w, until));
        if (r < 0) {
                *ret_exit = session_failed(w->u, r);
                return true;
        }
        if (w->service.finished) {
                if (w->service.result < 0) {
                        *ret_exit = complain_error(w->service.result, w->service.error_name,
                                                   w->service.error_message);
                        return true;
                }
                task_done(&w->service);
                w->service = (Task){};
                w->asked = false;
        }
        if (w->synced && w->changed) {
                w->changed = false;
                if (over(w, ret_exit))
                        return true;
        }
        *ret_exit = EXIT_OK;
        return w->has_endpoint && probes_run(w, fds);
}

static void guest_wait_done(GuestWait *w) {
        for (size_t i = 0; i < N_PROBES; i++)
                probe_reset(&w->probes[i]);
        free(w->quoted);
        uservm_vm_unref(w->vm);
        task_done(&w->service);
}

static Exit complain_timeout(const GuestWait *w) {
        if (w->state != USERVM_STATE_UNKNOWN)
                complain("'%s' is not %s in time; it is %s", w->name,
                         uservm_state_to_string(w->state),
                         w->vm ? uservm_state_to_string(w->vm->state) : "not known yet");
        else if (w->ready)
                complain("'%s' is not ready in time; there is no answer from a guest agent, nor "
                         "from "
                         "the first TCP port that is forwarded to it",
                         w->name);
        else
                complain("no answer from TCP port %u of '%s' in time; does a server listen there, "
                         "and on more than the guest's own loopback?",
                         w->port, w->name);
        return EXIT_TIMEOUT;
}

static Exit guest_wait(GuestWait *w, uint64_t end_usec) {
        Progress progress = { .doing = "waiting for", .vm = w->name };
        _cleanup_(uservm_watch_stopp) uservm_watch *watch = NULL;
        uint64_t until;
        Exit e;
        int r;

        w->quoted = shell_quote(w->name);
        if (!w->quoted)
                return session_failed(w->u, -ENOMEM);
        r = uservm_watch_start(w->u, on_change, w, &watch);
        if (r < 0)
                return session_failed(w->u, r);
        do {
                if (now_usec() >= end_usec) {
                        progress_end(&progress);
                        return complain_timeout(w);
                }
                until = progress_show(&progress);
        } while (!turn(w, until < end_usec ? until : end_usec, &e));
        progress_end(&progress);
        return e;
}

Exit guest_wait_state(uservm *u, const char *vm, uservm_state state, uint64_t end_usec) {
        _cleanup_(guest_wait_done) GuestWait w = {
                .u = u,
                .name = vm,
                .state = state,
                .probes = { PROBE_INIT(PROBE_ANY, 0, 0), PROBE_INIT(PROBE_ANY, 0, 0) },
        };

        return guest_wait(&w, end_usec);
}

Exit guest_wait_ready(uservm *u, const char *vm, uint64_t end_usec) {
        _cleanup_(guest_wait_done) GuestWait w = {
                .u = u,
                .name = vm,
                .ready = true,
                .probes = { PROBE_INIT(PROBE_ANY, 0, 0), PROBE_INIT(PROBE_ANY, 0, 0) },
        };

        return guest_wait(&w, end_usec);
}

Exit guest_wait_answer(uservm *u, const char *vm, uint16_t port, ProbeKind kind, uint64_t end_usec,
                       Endpoint *ret_endpoint) {
        _cleanup_(guest_wait_done) GuestWait w = {
                .u = u,
                .name = vm,
                .port = port,
                .probes = { PROBE_INIT(kind, PATIENCE_SHORT_USEC, 0),
                            PROBE_INIT(kind, PATIENCE_LONG_USEC, PATIENCE_SHORT_USEC) },
        };
        Exit e;

        e = guest_wait(&w, end_usec);
        if (e == EXIT_OK && ret_endpoint)
                *ret_endpoint = w.endpoint;
        return e;
}
