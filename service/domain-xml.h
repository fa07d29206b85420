/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* libvirt domain XML, read and edited with libxml2: text in, text out, no I/O. The format is
 * libvirt's (https://libvirt.org/formatdomain.html); whatever this module does not know about is
 * carried over untouched. Building the XML of a new VM is domain-build's job. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "forward.h"

/* The namespace of what uservm notes in <metadata>:
 * <uservm:vm uuid=…><uservm:storage path=… base=… setup="yes"/></…>. */
#define DOMAIN_XML_NAMESPACE "urn:org.uservm1"

/* The channel of QEMU's guest agent. */
#define DOMAIN_XML_AGENT "org.qemu.guest_agent.0"

/* A NIC with user-mode networking: type 'user', or type 'vhostuser' with libvirt's own passt
 * backend. Other NICs are not listed. */
typedef struct DomainNic {
        char *mac;            /* lower case, as libvirt prints it */
        bool passt;           /* <backend type='passt'/>; false: QEMU's own user networking */
        ForwardList forwards; /* its <portForward> elements, one entry a <range> that is not an
                               * exclusion; exclusions of the same rule that fall into the range are
                               * its .exclude. A rule without such a range forwards all ports:
                               * 1-65535. What libvirt may know and this module does not
                               * (another protocol) is not listed. */
} DomainNic;

/* A <disk>. */
typedef struct DomainDisk {
        char *target; /* "vda" */
        char *device; /* "disk", "cdrom", ... */
        char *path;   /* of a file or block device; NULL: another kind, or an empty drive */
        char *format; /* "qcow2", "raw", ...; NULL if it is not said */
        bool read_only;
} DomainDisk;

/* A file that uservm created (metadata). */
typedef struct DomainStorage {
        char *path;
        char *base;    /* the image that it is on top of, or NULL */
        bool is_setup; /* no disk of the user's, but what the guest is set up with */
        bool is_own;   /* for this VM; false: for one that this is a clone of, as tools that clone
                        * a VM carry the metadata over */
} DomainStorage;

typedef struct DomainInfo {
        char *name;              /* as D-Bus can carry it, see utf8.h */
        char uuid[37];           /* lower case with dashes */
        uint64_t memory;         /* <memory>, in bytes */
        uint64_t current_memory; /* <currentMemory>; of a live XML, less the balloon */
        unsigned vcpus; /* <vcpu>: the 'current' attribute if there is one, else the maximum */
        bool agent;     /* of a live XML: QEMU's guest agent is connected */
        char *nvram;    /* the file with the UEFI variables, or NULL */
        DomainNic *nics;
        size_t n_nics;
        DomainDisk *disks;
        size_t n_disks;
        DomainStorage *storage;
        size_t n_storage;
} DomainInfo;

/* Reads what uservm needs to know of a domain. Returns 0; -EBADMSG: not a domain that libvirt would
 * write; -ENOMEM. */
int domain_info_parse(const char *xml, DomainInfo **ret);
DomainInfo *domain_info_free(DomainInfo *info);
DEFINE_CLEANUP(DomainInfo *, domain_info_free);

/* Whether uservm created this file for the domain itself. */
bool domain_info_created(const DomainInfo *info, const char *path);

/* Adds a <portForward> to the first passt NIC, or, if there is none, to the first NIC of type
 * 'user', which is turned to passt by this (<backend type='passt'/>). Host port 0 is not allowed
 * here. Returns 0; -EINVAL: host port 0; -ENODEV: no user-mode NIC; -EEXIST: a rule has the same
 * host side; -EBADMSG; -ENOMEM. */
int domain_xml_add_forward(const char *xml, const Forward *f, char **ret_xml);

/* Takes out the <range> with this host side, on whichever NIC, and its <portForward> when no range
 * that forwards something is left in it (exclusions alone would mean "all other ports"). If no rule
 * has the interface of f, the only one on another interface is meant, as a spec cannot name it.
 * Returns 0; -ENOENT: no such rule; -ENOTUNIQ: several rules differ only in their interface;
 * -EBADMSG; -ENOMEM. */
int domain_xml_remove_forward(const char *xml, const Forward *f, char **ret_xml);

/* The device XML of the NIC that is another one in xml than in old_xml, where nothing else is.
 * Returns 0; -ENOENT: there is none; -EBADMSG; -ENOMEM. */
int domain_xml_changed_nic(const char *old_xml, const char *xml, char **ret_nic);

/* The device XML for re-plugging the NIC with this MAC: *ret_detach is its element as it is in the
 * live XML; *ret_attach the same NIC (MAC, PCI address, model, MTU, link, boot order …) without
 * what libvirt assigns anew (<target>, <alias>), with the backend and the <portForward> elements of
 * the stored XML. Returns 0; -ENODEV: not in both; -EBADMSG; -ENOMEM. */
int domain_xml_replug(const char *live_xml, const char *stored_xml, const char *mac,
                      char **ret_detach, char **ret_attach);

/* Host capabilities (virConnectGetCapabilities(3)): the virtualization types offered for hvm guests
 * of the host's own architecture ("kvm", "qemu", or "test" with libvirt's test driver), and
 * whether the machine type q35 is. *ret_arch is that architecture.
 * If no hvm guest has the host's architecture, the first hvm guest is taken.
 * Returns 0; -EBADMSG; -ENOMEM; -ENODEV: no hvm guest at all. */
int capabilities_parse(const char *xml, char **ret_arch, char ***ret_types, bool *ret_q35);
