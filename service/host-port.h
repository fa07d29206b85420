/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The host's side of a forward: which ports are free, who has the others, what listens. Asks the
 * kernel (bind(2), sock_diag(7), /proc) and keeps nothing. These calls do not wait for anybody, but
 * finding an owner reads all of /proc: call it on a worker. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "forward.h"

/* Tries whether every host port of the forward could be bound now, by binding each for a moment
 * (TCP with SO_REUSEADDR as passt does, so that TIME-WAIT is no obstacle; AF_UNSPEC as one
 * dual-stack IPv6 socket, or an IPv4 one on a host without IPv6). Ports in `except` (may be NULL)
 * are not tried: those the VM itself already listens on. Nor is any of a range of more than 4096.
 * Returns 0; -EADDRINUSE, -EACCES (privileged port), -EADDRNOTAVAIL (address not on this host),
 * -ENODEV (no such interface) or another negative errno of socket(2) and bind(2), with the first
 * port that failed in *ret_port. */
int host_port_probe(const Forward *f, const ForwardList *except, uint16_t *ret_port);

/* Picks a port that is free for this protocol and address now, and is neither privileged nor
 * conflicting with a forward in `reserved`. Returns 0 or a negative errno. */
int host_port_pick(const Forward *f, const ForwardList *reserved, uint16_t *ret_port);

/* The sockets that listen, as they are seen once: {} is none seen yet. */
typedef struct HostListeners {
        struct HostSocket *sockets;
        size_t n;
        bool tcp_seen, udp_seen;
} HostListeners;

void host_listeners_done(HostListeners *seen);

/* Whether every host port of the forward is being listened on (TCP: LISTEN; UDP: bound, not
 * connected), by a socket of this user on exactly this address and interface (for AF_UNSPEC a
 * dual-stack IPv6 wildcard, a wildcard of each family, or of one if nobody else has the other's).
 * For the rule "all ports" (1-65535) it is enough that any port is. Returns 1 or 0, or a negative
 * errno of NETLINK_SOCK_DIAG. *ret_port: the first that is not.
 * The kernel is asked for the sockets of a protocol once for each `seen`, so that many forwards can
 * be checked with one look. */
int host_port_listening(HostListeners *seen, const Forward *f, uint16_t *ret_port);

/* A sentence part that names who has the port: "process 1234 (nginx)"; if we may not look into it
 * "a process of user 33 (www-data)" or, as with passt itself, "another process of yours"; "another
 * process" if nothing can be told.
 * Returns 0 or -ENOMEM. */
int host_port_describe_owner(const Forward *f, uint16_t port, char **ret);

/* The lowest port that this process may bind without privileges
 * (/proc/sys/net/ipv4/ip_unprivileged_port_start); 1024 if that cannot be read. */
uint16_t host_port_lowest_unprivileged(void);
