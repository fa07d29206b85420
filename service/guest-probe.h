/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Finds out whether a server in the guest answers behind a host port that passt forwards. To
 * connect is no proof of that: passt accepts a connection before it knows whether the guest does.
 * Both the service and the command are built with this. */

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

typedef enum ProbeKind {
        PROBE_ANY, /* any TCP server */
        PROBE_SSH, /* one that begins with "SSH-" */
} ProbeKind;

typedef enum ProbePhase {
        PROBE_IDLE,    /* the next attempt is at .until */
        PROBE_REACTS,  /* is there a reaction to a connection that is closed halfway? */
        PROBE_REMAINS, /* does one that is left alone remain? */
        PROBE_ANSWERED,
} ProbePhase;

/* One attempt after the other. */
typedef struct Probe {
        ProbeKind kind;
        uint64_t patience_usec; /* how long the first attempt may take */
        uint64_t delay_usec;    /* before that */
        ProbePhase phase;
        int fd;
        bool connected;
        uint64_t until;        /* CLOCK_MONOTONIC: the phase ends then by itself */
        uint64_t attempt_usec; /* how long an attempt may take now */
        uint64_t pause_usec;
        char banner[4];
        size_t n_banner;
} Probe;

#define PROBE_INIT(k, patience, delay)                                                             \
        {                                                                                          \
                .kind = (k), .patience_usec = (patience), .delay_usec = (delay), .fd = -1,         \
                .attempt_usec = (patience)                                                         \
        }

/* Begins, or begins anew. */
void probe_reset(Probe *probe);

/* What to poll for; fd is -1 if there is nothing. */
struct pollfd probe_pollfd(const Probe *probe);

/* Goes on; revents is what poll(2) said. Call it whenever that says something, and at .until. */
void probe_run(Probe *probe, const struct sockaddr *address, socklen_t length, short revents);
