/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A port forward: a range of host ports whose connections passt hands to a range of guest ports.
 * This module knows what a forward is (parse, format, compare, find conflicts); it opens no socket
 * and reads no file. */

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "util.h"

typedef enum ForwardProtocol {
        FORWARD_TCP,
        FORWARD_UDP,
} ForwardProtocol;

typedef enum ForwardState {
        FORWARD_ACTIVE,   /* the host port listens now, for this VM */
        FORWARD_INACTIVE, /* stored, the VM is not running */
        FORWARD_PENDING,  /* stored, takes effect at the next start */
        FORWARD_REMOVING, /* no longer stored, listens until the next start */
        FORWARD_FAILED,   /* should listen and does not; .error says why */
} ForwardState;

/* Ports, both ends included. */
typedef struct PortRange {
        uint16_t start;
        uint16_t end;
} PortRange;

typedef struct Forward {
        ForwardProtocol protocol;
        int family; /* AF_INET, AF_INET6, or AF_UNSPEC: every address of both */
        union {
                struct in_addr in;
                struct in6_addr in6;
        } address;                   /* all zero for AF_UNSPEC */
        char interface[IF_NAMESIZE]; /* host interface it is bound to, or "" */
        PortRange host;              /* host.start 0 (then host.end is 0 too): pick a free port */
        PortRange guest;             /* as long as host */
        PortRange *exclude;          /* host ports within the range that are not forwarded */
        size_t n_exclude;

        bool persistent; /* part of the stored definition */
        ForwardState state;
        char *error; /* why it is FORWARD_FAILED, or NULL */
} Forward;

/* As many as the passt of one NIC takes (MAX_FWD_RULES in its fwd_rule.h). */
#define FORWARDS_MAX 255

/* A growing array of forwards; {} is an empty one. */
typedef struct ForwardList {
        Forward *items;
        size_t n;
} ForwardList;

/* Parses "[ADDRESS:]HOSTPORT[-END][:GUESTPORT[-END]][/tcp|/udp]", the notation of podman and
 * virt-install. IPv6 addresses stand in brackets; "*:" is every address; without ADDRESS it is
 * 127.0.0.1. GUESTPORT defaults to HOSTPORT; HOSTPORT 0 (a free port) needs a GUESTPORT and takes
 * no range. persistent is set, state is FORWARD_INACTIVE.
 * Returns 0; -EINVAL with a sentence for the user in *ret_reason (a static string or one to free:
 * always to free) that says what is wrong and what is expected; -ENOMEM. */
int forward_parse(const char *spec, Forward *ret, char **ret_reason);

/* Parses only what identifies a forward, its host side: as forward_parse(), but a guest side may be
 * missing or differ, and HOSTPORT 0 is an error. */
int forward_parse_host_side(const char *spec, Forward *ret, char **ret_reason);

/* The canonical spec, with address, both port ranges and protocol: "127.0.0.1:8080:80/tcp",
 * "*:5000-5002:6000-6002/udp", "[::1]:8080:80/tcp". Returns 0 or -ENOMEM. */
int forward_format(const Forward *f, char **ret);

/* passt's own notation of the same, for its -t and -u options and for pesto (passt(1)):
 * "127.0.0.1%lo/8080-8081:80-81,~8081"; address and '/' are left out for AF_UNSPEC without an
 * interface. All ports (1-65535 to the same) are "all", or the exclusions alone: then passt skips
 * what it cannot bind instead of failing. Returns 0 or -ENOMEM. */
int forward_format_passt(const Forward *f, char **ret);

/* The address alone as text, "*" for AF_UNSPEC, no brackets. Returns a static-duration copy inside
 * buf (at least INET6_ADDRSTRLEN bytes). */
const char *forward_address_to_string(const Forward *f, char *buf, size_t size);

/* Parses an address as libvirt and passt write it; NULL, "" and "*" are AF_UNSPEC. IPv4 in the
 * form of IPv6 ("::ffff:127.0.0.1") becomes AF_INET, as it is to passt.
 * Returns 0 or -EINVAL. */
int forward_set_address(Forward *f, const char *address);

/* Same protocol, address, interface and host ports: the two are one forward to the user. */
bool forward_same_host_side(const Forward *a, const Forward *b);

/* The same forward in every respect but persistent, state and error. */
bool forward_equal(const Forward *a, const Forward *b);

/* Whether both would listen on one port of one address (exclusions considered; an address of "any"
 * overlaps every one of its family; AF_UNSPEC overlaps both families; interfaces are not told
 * apart, as Linux lets only one of a wildcard and a bound socket win). */
bool forward_conflicts(const Forward *a, const Forward *b);

/* Whether the forward listens on this host port (within the range and not excluded). */
bool forward_has_port(const Forward *f, uint16_t port);

const char *forward_protocol_to_string(ForwardProtocol p); /* "tcp", "udp" */
const char *forward_state_to_string(ForwardState s);       /* "active", ... */

int forward_copy(const Forward *f, Forward *ret);
void forward_done(Forward *f);

int forward_list_append(ForwardList *list, const Forward *f);        /* copies; 0 or -ENOMEM */
int forward_list_extend(ForwardList *list, const ForwardList *more); /* likewise, all of them */
int forward_list_copy(const ForwardList *list, ForwardList *ret);
void forward_list_remove(ForwardList *list, size_t i);
Forward *forward_list_find_host_side(const ForwardList *list, const Forward *f); /* or NULL */
Forward *forward_list_find_conflict(const ForwardList *list, const Forward *f);  /* or NULL */
void forward_list_done(ForwardList *list);

#define _cleanup_forward_ _cleanup_(forward_done)
#define _cleanup_forward_list_ _cleanup_(forward_list_done)
