/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A guest is ready when its agent is connected, of which libvirt tells, or when a server behind the
 * VM's first TCP forward answers, of which nobody tells: that is tried (guest-probe.h), from when
 * the VM runs until it is so or ten minutes have gone by. After that nothing is left of the
 * attempts, so an idle daemon does not wake up. One probe gives up on an attempt after two
 * seconds and more, so that a guest that has just come up is found soon; then another begins beside
 * it, which has the patience for a server that takes its time.
 *
 * What the agent says is asked for once it is connected, on a worker and with a limit of time,
 * since the guest may say nothing. It may say anything, too: what D-Bus could not carry would have
 * every list of VMs fail, so that is not passed on as it is. Often the agent is there before the
 * guest has its addresses, and nobody tells of them, so it is asked again after 1, 2, 4 … 256
 * seconds. */

#include "guest-watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <time.h>

#include "error.h"
#include "guest-probe.h"
#include "log.h"
#include "manager.h"
#include "utf8.h"
#include "vm-bus.h"

#define PROBE_FOR_USEC (600 * 1000000ULL)
#define AGENT_TIMEOUT_SEC 5
#define ASK_AGAIN_FIRST_USEC (1 * 1000000ULL)
#define ASK_AGAIN_LAST_USEC (256 * 1000000ULL)
#define ADDRESSES_MAX 64
#define FACT_MAX 255 /* bytes of a host name, or of anything else that the guest says */

enum { N_PROBES = 2 };
static const uint64_t patience_usec[N_PROBES] = { 2 * 1000000ULL, 30 * 1000000ULL };
static const uint64_t delay_usec[N_PROBES] = { 0, 2 * 1000000ULL };

typedef union Endpoint {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
} Endpoint;

/* One of the probes, on the event loop. */
typedef struct Attempt {
        struct GuestWatch *watch;
        Probe probe;
        sd_event_source *io, *timer;
} Attempt;

struct GuestWatch {
        VM *vm;
        bool agent;    /* is connected */
        bool answered; /* the port */
        bool probing;
        uint64_t begin_usec; /* of the probing, CLOCK_MONOTONIC */
        Endpoint endpoint;
        Attempt attempts[N_PROBES];
        GuestFacts facts;
        sd_event_source *ask_again;
        uint64_t ask_again_usec; /* the time to wait then */
};

static void guest_facts_done(GuestFacts *f) {
        free(f->hostname);
        free(f->os);
        strv_free(f->addresses);
        *f = (GuestFacts){};
}

bool guest_watch_ready(const GuestWatch *w) {
        return w && (w->agent || w->answered);
}

const GuestFacts *guest_watch_facts(const GuestWatch *w) {
        static const GuestFacts none;

        return w ? &w->facts : &none;
}

/* Probing */

static void stop_probing(GuestWatch *w) {
        for (size_t i = 0; i < N_PROBES; i++) {
                Attempt *a = &w->attempts[i];

                a->io = sd_event_source_disable_unref(a->io);
                a->timer = sd_event_source_disable_unref(a->timer);
                probe_reset(&a->probe);
        }
        w->probing = false;
}

static void set_answered(GuestWatch *w, bool answered) {
        bool before = guest_watch_ready(w);

        w->answered = answered;
        if (guest_watch_ready(w) != before)
                vm_bus_changed(w->vm, (const char *[]){ "Ready", NULL });
}

static void run_attempt(Attempt *a, short revents);

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        run_attempt(userdata, (short) revents); /* EPOLLIN is POLLIN, and so on */
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        run_attempt(userdata, 0);
        return 0;
}

/* Waits for what the probe waits for. */
static int arm(Attempt *a) {
        sd_event *event = a->watch->vm->manager->event;
        struct pollfd p = probe_pollfd(&a->probe);
        int r;

        if (p.fd >= 0) {
                r = sd_event_add_io(event, &a->io, p.fd, (uint32_t) p.events, on_io, a);
                if (r < 0)
                        return r;
        }
        return sd_event_add_time(event, &a->timer, CLOCK_MONOTONIC, a->probe.until, 0, on_timer, a);
}

/* The descriptor that was waited for may be closed by this, so it must not be waited for then. */
static void run_attempt(Attempt *a, short revents) {
        GuestWatch *w = a->watch;
        uint64_t now;

        a->io = sd_event_source_disable_unref(a->io);
        a->timer = sd_event_source_disable_unref(a->timer);
        probe_run(&a->probe, &w->endpoint.any,
                  w->endpoint.any.sa_family == AF_INET ? sizeof(w->endpoint.in)
                                                       : sizeof(w->endpoint.in6),
                  revents);
        if (a->probe.phase == PROBE_ANSWERED) {
                stop_probing(w);
                set_answered(w, true);
                return;
        }
        if (sd_event_now(w->vm->manager->event, CLOCK_MONOTONIC, &now) < 0 ||
            now > w->begin_usec + PROBE_FOR_USEC || arm(a) < 0)
                stop_probing(w);
}

/* Where a socket of this machine connects to, to get to the forward. */
static Endpoint endpoint_of(const Forward *f) {
        const struct in6_addr any = IN6ADDR_ANY_INIT, loopback = IN6ADDR_LOOPBACK_INIT;
        Endpoint e = {};

        if (f->family == AF_INET6) {
                e.in6.sin6_family = AF_INET6;
                e.in6.sin6_port = htons(f->host.start);
                e.in6.sin6_addr =
                        memcmp(&f->address.in6, &any, sizeof(any)) == 0 ? loopback : f->address.in6;
                return e;
        }
        e.in.sin_family = AF_INET;
        e.in.sin_port = htons(f->host.start);
        e.in.sin_addr.s_addr = f->family == AF_INET && f->address.in.s_addr != INADDR_ANY
                                       ? f->address.in.s_addr
                                       : htonl(INADDR_LOOPBACK);
        return e;
}

static bool find_endpoint(const VM *vm, Endpoint *ret) {
        const ForwardList *forwards = vm_forwards(vm);

        for (size_t i = 0; i < forwards->n; i++) {
                const Forward *f = &forwards->items[i];

                if (f->protocol != FORWARD_TCP || f->state != FORWARD_ACTIVE || *f->interface ||
                    !forward_has_port(f, f->host.start))
                        continue;
                *ret = endpoint_of(f);
                return true;
        }
        return false;
}

static void start_probing(GuestWatch *w, const Endpoint *endpoint) {
        stop_probing(w);
        w->endpoint = *endpoint;
        w->probing = true;
        for (size_t i = 0; i < N_PROBES && w->probing; i++)
                run_attempt(&w->attempts[i], 0);
}

/* Begins, goes on, or ends, as is right now. */
static void update_probing(GuestWatch *w) {
        Endpoint endpoint;

        if (guest_watch_ready(w) || vm_state(w->vm) != VM_RUNNING ||
            !find_endpoint(w->vm, &endpoint)) {
                stop_probing(w);
                return;
        }
        /* What is not set of one is zero. NOLINTNEXTLINE(bugprone-suspicious-memory-comparison) */
        if (!w->probing || memcmp(&endpoint, &w->endpoint, sizeof(endpoint)) != 0)
                start_probing(w, &endpoint);
}

static void restart_clock(GuestWatch *w) {
        if (sd_event_now(w->vm->manager->event, CLOCK_MONOTONIC, &w->begin_usec) < 0)
                w->begin_usec = 0;
}

/* Asking the agent */

typedef struct Asking {
        Manager *manager;
        char uuid[VIR_UUID_STRING_BUFLEN];
        GuestFacts facts;
} Asking;

static int copy_parameter(virTypedParameterPtr params, int n, const char *name, char **ret) {
        const char *value;

        if (virTypedParamsGetString(params, n, name, &value) <= 0)
                return 0;
        *ret = utf8_copy_printable(value, FACT_MAX);
        return *ret ? 0 : -ENOMEM;
}

/* One address of one interface, if there is one of these numbers. */
static int read_address(virTypedParameterPtr params, int n, unsigned interface, unsigned address,
                        char **ret) {
        char name[64];

        snprintf(name, sizeof(name), "if.%u.addr.%u.addr", interface, address);
        return copy_parameter(params, n, name, ret);
}

static int read_addresses(virTypedParameterPtr params, int n, char ***ret) {
        _cleanup_(strv_freep) char **addresses = new0(char *, ADDRESSES_MAX + 1);
        unsigned interfaces = 0, found = 0;

        if (!addresses)
                return -ENOMEM;
        (void) virTypedParamsGetUInt(params, n, "if.count", &interfaces);
        for (unsigned i = 0; i < interfaces && i < ADDRESSES_MAX; i++) {
                char name[64];
                unsigned count = 0;
                const char *interface;

                snprintf(name, sizeof(name), "if.%u.name", i);
                if (virTypedParamsGetString(params, n, name, &interface) > 0 &&
                    streq(interface, "lo"))
                        continue;
                snprintf(name, sizeof(name), "if.%u.addr.count", i);
                (void) virTypedParamsGetUInt(params, n, name, &count);
                for (unsigned j = 0; j < count && found < ADDRESSES_MAX; j++) {
                        int r = read_address(params, n, i, j, &addresses[found]);

                        if (r < 0)
                                return r;
                        found += addresses[found] != NULL;
                }
        }
        *ret = TAKE_PTR(addresses);
        return 0;
}

static void ask_domain(virDomainPtr domain, GuestFacts *facts) {
        const unsigned wanted = VIR_DOMAIN_GUEST_INFO_OS | VIR_DOMAIN_GUEST_INFO_HOSTNAME |
                                VIR_DOMAIN_GUEST_INFO_INTERFACES;
        virTypedParameterPtr params = NULL;
        int n = 0;

        (void) virDomainAgentSetResponseTimeout(domain, AGENT_TIMEOUT_SEC, 0);
        if (virDomainGetGuestInfo(domain, wanted, &params, &n, 0) < 0) {
                log_write(LOG_INFO, &(LogSubject){ .vm = virDomainGetName(domain) },
                          "The guest agent does not say what it is asked: %s",
                          virGetLastErrorMessage());
                return;
        }
        if (copy_parameter(params, n, "hostname", &facts->hostname) < 0 ||
            copy_parameter(params, n, "os.pretty-name", &facts->os) < 0 ||
            read_addresses(params, n, &facts->addresses) < 0)
                guest_facts_done(facts);
        virTypedParamsFree(params, n);
}

static void ask_run(void *userdata) {
        Asking *asking = userdata;
        _cleanup_connect_ virConnectPtr conn = NULL;
        _cleanup_domain_ virDomainPtr domain = NULL;

        if (connection_acquire(asking->manager->connection, &conn, NULL) < 0)
                return;
        domain = virDomainLookupByUUIDString(conn, asking->uuid);
        if (domain)
                ask_domain(domain, &asking->facts);
}

static void announce_facts(VM *vm) {
        vm_bus_changed(vm, (const char *[]){ "GuestHostname", "GuestOS", "GuestAddresses", NULL });
}

static void ask_agent(VM *vm);

static int on_ask_again(sd_event_source *source, uint64_t usec, void *userdata) {
        GuestWatch *w = userdata;

        w->ask_again = sd_event_source_disable_unref(w->ask_again);
        ask_agent(w->vm);
        return 0;
}

static void ask_again(GuestWatch *w) {
        w->ask_again = sd_event_source_disable_unref(w->ask_again);
        if (w->ask_again_usec > ASK_AGAIN_LAST_USEC)
                return;
        (void) sd_event_add_time_relative(w->vm->manager->event, &w->ask_again, CLOCK_MONOTONIC,
                                          w->ask_again_usec, 0, on_ask_again, w);
        w->ask_again_usec *= 2;
}

static bool guest_facts_equal(const GuestFacts *a, const GuestFacts *b) {
        size_t i = 0;

        if (!streq_ptr(a->hostname, b->hostname) || !streq_ptr(a->os, b->os) || !a->addresses ||
            !b->addresses)
                return false;
        while (a->addresses[i] && streq_ptr(a->addresses[i], b->addresses[i]))
                i++;
        return !a->addresses[i] && !b->addresses[i];
}

/* Takes over what the agent has said, if it has said anything (there is a list of addresses then)
 * and that is new. */
static void take_facts(VM *vm, GuestFacts *facts) {
        if (!facts->addresses || guest_facts_equal(&vm->guest->facts, facts))
                return;
        guest_facts_done(&vm->guest->facts);
        vm->guest->facts = *facts;
        *facts = (GuestFacts){};
        announce_facts(vm);
}

static void ask_done(void *userdata) {
        Asking *asking = userdata;
        VM *vm = manager_find_uuid(asking->manager, asking->uuid);

        if (vm && vm->snapshot && vm->guest && vm->guest->agent) {
                take_facts(vm, &asking->facts);
                ask_again(vm->guest);
        }
        guest_facts_done(&asking->facts);
        free(asking);
}

static void ask_agent(VM *vm) {
        Asking *asking = new0(Asking, 1);

        if (!asking)
                return;
        asking->manager = vm->manager;
        memcpy(asking->uuid, vm->uuid, sizeof(asking->uuid));
        if (worker_submit(vm->manager->workers, ask_run, ask_done, asking) < 0)
                free(asking);
}

/* The watch */

GuestWatch *guest_watch_free(GuestWatch *w) {
        if (!w)
                return NULL;
        stop_probing(w);
        sd_event_source_disable_unref(w->ask_again);
        guest_facts_done(&w->facts);
        free(w);
        return NULL;
}

static GuestWatch *guest_watch_new(VM *vm) {
        GuestWatch *w = new0(GuestWatch, 1);

        if (!w)
                return NULL;
        w->vm = vm;
        for (size_t i = 0; i < N_PROBES; i++)
                w->attempts[i] = (Attempt){
                        .watch = w,
                        .probe = PROBE_INIT(PROBE_ANY, patience_usec[i], delay_usec[i]),
                };
        restart_clock(w);
        return w;
}

static void clear_facts(GuestWatch *w) {
        bool known = w->facts.hostname || w->facts.os || w->facts.addresses;

        guest_facts_done(&w->facts);
        if (known)
                announce_facts(w->vm);
}

static void set_agent(GuestWatch *w, bool agent) {
        bool before = guest_watch_ready(w);

        if (w->agent == agent)
                return;
        w->agent = agent;
        w->ask_again = sd_event_source_disable_unref(w->ask_again);
        w->ask_again_usec = ASK_AGAIN_FIRST_USEC;
        if (agent)
                ask_agent(w->vm);
        else {
                clear_facts(w);
                restart_clock(w);
        }
        if (guest_watch_ready(w) != before)
                vm_bus_changed(w->vm, (const char *[]){ "Ready", NULL });
}

/* The VM does not run any more, or is gone. */
static void forget(VM *vm) {
        GuestWatch *w = TAKE_PTR(vm->guest);
        bool was_ready = guest_watch_ready(w), had_facts = w && w->facts.hostname;

        guest_watch_free(w);
        if (vm->snapshot && was_ready)
                vm_bus_changed(vm, (const char *[]){ "Ready", NULL });
        if (vm->snapshot && had_facts)
                announce_facts(vm);
}

void guest_watch_update(VM *vm) {
        if (!vm->snapshot || !vm_is_active(vm)) {
                forget(vm);
                return;
        }
        if (!vm->guest)
                vm->guest = guest_watch_new(vm);
        if (!vm->guest)
                return;
        set_agent(vm->guest, vm->snapshot->agent);
        update_probing(vm->guest);
}

void guest_watch_rebooted(VM *vm) {
        GuestWatch *w = vm->guest;

        if (!w)
                return;
        restart_clock(w);
        set_answered(w, false);
        update_probing(w);
}
