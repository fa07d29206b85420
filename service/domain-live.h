/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The live XML of a VM in managed networking, derived from the stored one: each NIC with passt
 * becomes a vhost-user NIC connected to a passt of ours, and the guest's memory is shared with it.
 * Everything else stays as it is. Text in, text out, no I/O. */

#include <stdbool.h>
#include <stddef.h>

#include "forward.h"

/* A NIC of the stored definition that can be managed, and what its passt has to be started with. */
typedef struct LiveNic {
        char *mac;        /* lower case */
        char *hostname;   /* of the guest: domain_live_hostname() of the VM's name */
        unsigned mtu;     /* <mtu size=…/>, 0 if there is none */
        char **addresses; /* <ip address= prefix=/>: "192.0.2.3/24", NULL-terminated */
        char *interface;  /* <source dev=…/>, or NULL */
        char *log_file;   /* <backend logFile=…/>, or NULL */
        ForwardList forwards;
} LiveNic;

typedef struct LiveNics {
        LiveNic *items;
        size_t n;
} LiveNics;

/* Makes the name of a VM one that a guest can take as its host name: letters and digits, with
 * single dots and dashes between them; "guest" if nothing is left. Returns 0 or -ENOMEM. */
int domain_live_hostname(const char *name, char **ret);

/* The NICs of the stored XML that become managed: type 'user' or 'vhostuser' with passt as backend,
 * of a virtio model (vhost-user has no other), without <driver iommu='on'/> (passt cannot), and
 * each MAC once. Other NICs stay in the live XML as they are, on libvirt's own passt if they have
 * it. Returns 0; -EBADMSG; -ENOMEM. */
int domain_live_nics(const char *stored_xml, LiveNics *ret);
void domain_live_nics_done(LiveNics *nics);

/* Derives the live XML. socket_for returns the socket path for a NIC's MAC, in lower case (a string
 * to free; NULL: out of memory); it is asked for the NICs of domain_live_nics(), in that order.
 *
 * What only passt would read goes: <source>, <backend>, <portForward>, <ip> and <mtu>. MAC, PCI
 * address, model, driver, link state, boot order, bandwidth, alias and all else stay. Reconnect
 * after 1 second, so that a passt that is started anew is found again. All memory becomes shared:
 * <memoryBacking>, and NUMA cells and memory devices that ask for private access; it comes from
 * memfd unless from a file.
 *
 * Returns 0; -ENODEV: there is no such NIC; -EOPNOTSUPP: an NVDIMM has private access, and shared
 * access would write to its file; -EBADMSG; -ENOMEM. */
int domain_live_derive(const char *stored_xml, char *(*socket_for)(const char *mac, void *userdata),
                       void *userdata, char **ret_xml);

/* The vhost-user NICs of a live (or saved) XML: MAC, in lower case, and socket path of each whose
 * mode is client. Both arrays are NULL-terminated and of one length.
 * Returns 0; -EBADMSG; -ENOMEM. */
int domain_live_sockets(const char *live_xml, char ***ret_macs, char ***ret_sockets);
