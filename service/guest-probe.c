/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* passt accepts a connection on the host, and then opens one to the guest. While the guest boots
 * nothing answers to that, and the connection on the host just stays there, for more than a minute;
 * passt tries again meanwhile, at intervals that grow. A guest that has no server on the port
 * answers with a reset, and passt closes the connection. (Measured; see also passt(1).)
 *
 * So neither that a connection is accepted nor that it stays open for a while tells that a server
 * is there. What does is an answer that has to come from the guest:
 *
 *  - Data.
 *  - The end. The probe closes its sending side, which passt tells the guest, and a server that has
 *    nothing more to read closes the connection in its turn. That is an orderly end, whereas a port
 *    without a server gives a reset.
 *
 * Old versions of passt make an orderly end of a reset, too. Therefore a second connection follows,
 * whose sending side stays open: a server keeps it for a while, passt closes it within milliseconds
 * if there is none. The guest is known to be up by then.
 *
 * A server of SSH sends its banner first, so for that only data counts, and no side is closed.
 *
 * An attempt that is given up is reset. After an orderly end passt would go on connecting to the
 * guest for some 20 seconds, and a server that comes up would see all of them at once; sshd takes
 * that for an attack, and refuses to talk to us (PerSourcePenalties in sshd_config(5)). For the
 * same reason, with a server that is slow to answer in mind, each attempt may take longer than the
 * last.
 *
 * A server that neither sends anything nor cares for the end of its input is not found. Nothing is
 * ever sent to it: what it made of that would be its own affair. */

#include "guest-probe.h"

#include <errno.h>
#include <netinet/in.h>
#include <time.h>

#include "util.h"

#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)

#define PAUSE_FIRST_USEC (100 * USEC_PER_MSEC)
#define PAUSE_MAX_USEC (1 * USEC_PER_SEC)

/* By then passt has tried again at intervals of 1 s, and then of 2 and 4 s. */
#define ATTEMPT_MAX_USEC (10 * USEC_PER_SEC)

/* How long a connection has to stay open in the guest's network, which is this machine. */
#define REMAINS_USEC (250 * USEC_PER_MSEC)

static uint64_t now_usec(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * USEC_PER_SEC + (uint64_t) t.tv_nsec / 1000;
}

static void disconnect(Probe *probe) {
        if (probe->fd >= 0)
                close(probe->fd);
        probe->fd = -1;
        probe->connected = false;
        probe->n_banner = 0;
}

/* The same with a reset. */
static void abandon(Probe *probe) {
        const struct linger at_once = { .l_onoff = 1 };

        if (probe->fd >= 0)
                (void) setsockopt(probe->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        disconnect(probe);
}

void probe_reset(Probe *probe) {
        abandon(probe);
        probe->phase = PROBE_IDLE;
        probe->until = probe->delay_usec > 0 ? now_usec() + probe->delay_usec : 0;
        probe->pause_usec = 0;
        probe->attempt_usec = probe->patience_usec;
}

/* Nobody there: once more after a pause, which grows. */
static void fail(Probe *probe) {
        abandon(probe);
        probe->pause_usec = probe->pause_usec == 0 ? PAUSE_FIRST_USEC : probe->pause_usec * 3 / 2;
        if (probe->pause_usec > PAUSE_MAX_USEC)
                probe->pause_usec = PAUSE_MAX_USEC;
        probe->phase = PROBE_IDLE;
        probe->until = now_usec() + probe->pause_usec;
}

static void succeed(Probe *probe) {
        disconnect(probe);
        probe->phase = PROBE_ANSWERED;
        probe->until = UINT64_MAX;
}

struct pollfd probe_pollfd(const Probe *probe) {
        return (struct pollfd){
                .fd = probe->fd,
                .events = probe->connected ? POLLIN : POLLOUT,
        };
}

static void begin(Probe *probe, ProbePhase phase, const struct sockaddr *address,
                  socklen_t length) {
        abandon(probe);
        probe->phase = phase;
        probe->until = now_usec() + probe->attempt_usec;
        probe->fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (probe->fd < 0 || (connect(probe->fd, address, length) < 0 && errno != EINPROGRESS))
                fail(probe);
}

static void on_connected(Probe *probe) {
        int error = 0;
        socklen_t n = sizeof(error);

        if (getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 || error != 0) {
                fail(probe);
                return;
        }
        probe->connected = true;
        if (probe->kind == PROBE_SSH)
                return;
        if (probe->phase == PROBE_REACTS)
                shutdown(probe->fd, SHUT_WR);
        else
                probe->until = now_usec() + REMAINS_USEC;
}

/* The connection has something to read, or has ended. */
static void on_readable(Probe *probe, const struct sockaddr *address, socklen_t length) {
        ssize_t n;

        n = recv(probe->fd, probe->banner + probe->n_banner,
                 sizeof(probe->banner) - probe->n_banner, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n < 0) {
                fail(probe);
                return;
        }
        if (n == 0) {
                if (probe->kind == PROBE_ANY && probe->phase == PROBE_REACTS)
                        begin(probe, PROBE_REMAINS, address, length);
                else
                        fail(probe);
                return;
        }
        probe->n_banner += (size_t) n;
        if (probe->kind == PROBE_ANY)
                succeed(probe);
        else if (probe->n_banner == sizeof(probe->banner)) {
                if (memcmp(probe->banner, "SSH-", 4) == 0)
                        succeed(probe);
                else
                        fail(probe);
        }
}

static void be_more_patient(Probe *probe) {
        uint64_t longer = probe->attempt_usec * 3 / 2;

        if (longer <= ATTEMPT_MAX_USEC)
                probe->attempt_usec = longer;
}

static void on_time(Probe *probe, const struct sockaddr *address, socklen_t length) {
        if (probe->phase == PROBE_REMAINS && probe->connected) {
                succeed(probe);
                return;
        }
        if (probe->phase == PROBE_REACTS)
                be_more_patient(probe);
        begin(probe, PROBE_REACTS, address, length);
}

void probe_run(Probe *probe, const struct sockaddr *address, socklen_t length, short revents) {
        if (probe->phase == PROBE_ANSWERED)
                return;
        if (probe->fd >= 0 && revents != 0) {
                if (probe->connected)
                        on_readable(probe, address, length);
                else
                        on_connected(probe);
        } else if (now_usec() >= probe->until) {
                on_time(probe, address, length);
        }
}
