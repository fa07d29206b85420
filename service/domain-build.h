/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The domain XML of a new VM, from the settings of CreateVM: a plain libvirt domain, q35 and virtio
 * throughout, that every other tool can read and start. Text out, no I/O. */

#include <stdbool.h>
#include <stdint.h>

#include "forward.h"

/* How many disks a VM can be given. */
#define DISKS_MAX 16

typedef struct DomainBuildDisk {
        const char *path;   /* absolute */
        const char *format; /* "qcow2" or "raw": never probed by QEMU */
        const char *base;   /* the image that it is on top of, or NULL */
        bool created;       /* uservm made it: noted in <metadata> */
        bool block;         /* it is a block device */
} DomainBuildDisk;

typedef struct DomainBuild {
        const char *name;
        const char *uuid;
        const char *type; /* "kvm", "qemu", or "test" */
        const char *arch; /* "x86_64" */
        bool q35;         /* machine type q35, else libvirt's default */
        uint64_t memory;  /* bytes; rounded up to KiB */
        unsigned vcpus;
        bool uefi;                    /* <os firmware='efi'>: libvirt selects the image */
        const DomainBuildDisk *disks; /* the first one is booted */
        size_t n_disks;
        const char *cdrom; /* absolute path of an ISO image or device, or NULL; boots before the
                            * first disk only while that is empty: disk first, cdrom second */
        bool cdrom_block;  /* it is a block device */
        const char *seed;  /* of cloud-init, or NULL; uservm made it */
        char *const *credentials; /* files with strings for SMBIOS, or NULL; uservm made them */
        const char *kernel;       /* direct boot, or NULL */
        const char *initrd;
        const char *cmdline;
        bool passt;                  /* NIC with passt; false: QEMU's own user networking */
        const ForwardList *forwards; /* needs passt if not empty */
} DomainBuild;

/* Returns 0; -EINVAL: forwards without passt, a forward with host port 0, or a value with a control
 * character or a byte that is not UTF-8, which XML cannot carry; -EEXIST: two forwards with one
 * host side; -ENOMEM. */
int domain_build(const DomainBuild *b, char **ret_xml);
