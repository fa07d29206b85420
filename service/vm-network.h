/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The managed networking of one running VM: a passt of ours for each of its passt NICs. Belongs to
 * the operation that runs on the VM, and is used on its worker: operations on one VM never run side
 * by side, so there is no lock. The main thread reads it between operations only. */

#include <libvirt/libvirt.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "domain-live.h"
#include "forward.h"
#include "host-port.h"
#include "passt.h"

typedef struct NetworkNic {
        char *mac;
        PasstPaths paths;
        pid_t pid;
        int pidfd;            /* of the passt; negative: there is none, it has died */
        ForwardList forwards; /* passt's table; of one that has died, what it is to have again. One
                               * that could not be bound again is FORWARD_FAILED and says why. */
} NetworkNic;

typedef struct VMNetwork {
        NetworkNic *nics;
        size_t n;
        unsigned domain_id; /* libvirt's for this run of the domain; 0: not known yet */
        bool provisional;   /* what is stored was not known for sure */
        bool in_doubt;      /* the forwards are to be found out anew, as after a start of uservmd;
                             * that is tried again by itself */
} VMNetwork;

VMNetwork *vm_network_free(VMNetwork *n); /* the passts live on */
DEFINE_CLEANUP(VMNetwork *, vm_network_free);

/* Starts a domain that is defined and inactive: with managed networking if `managed` and it has a
 * NIC for it (*ret is set then, else NULL), else as it is stored. A domain with a managed save
 * image is resumed from it, with the networking it was saved with. All forwards listen, or the
 * start fails and leaves no process. */
int vm_network_start_domain(virConnectPtr conn, virDomainPtr domain, bool managed, VMNetwork **ret,
                            sd_bus_error *error);

/* Starts a passt, with its forwards, for each NIC or, if macs is not NULL, for those in it: all or
 * none. PasstFailed. */
int vm_network_start_passts(const char *uuid, const LiveNics *live, char *const *macs,
                            VMNetwork **ret, sd_bus_error *error);

/* The MACs of the NICs in a live or saved XML that are connected to a passt of ours. */
int vm_network_read_macs(const char *xml, char ***ret);

/* Whether the passts are those of this run of the domain, by its ID (virDomainGetID(3)). */
bool vm_network_is_of_run(VMNetwork *n, unsigned domain_id);

/* Brings what is known of a running domain's passts (*network, NULL: nothing yet) in line with its
 * live XML: those of a NIC that was unplugged are ended, those not known yet, of an earlier
 * uservmd, or in doubt are found again with the forwards they have now. One that is not there is
 * started, with what stored_xml says; QEMU waits for it if another tool has just started the
 * domain. If it was started since *network was known, its forwards are those that are stored and no
 * others. *network is NULL if no NIC is ours. Returns 0 or a negative errno. */
int vm_network_reconcile(VMNetwork **network, unsigned domain_id, const char *uuid,
                         const char *live_xml, const char *stored_xml);

/* The same, if libvirt's files tell of passts that QEMU is waiting for, for a domain that is just
 * being started; before anything is asked of libvirt that it may not answer until then. */
int vm_network_serve_start(VMNetwork **network, unsigned domain_id, const char *uuid,
                           const char *name);

/* Starts only what is not there, for a domain of which libvirt cannot be asked: what its daemon
 * starts when it comes up itself (such as VMs that it has saved at the end of the last session), it
 * starts before it answers anybody, and it does not go on until QEMU has its passts. They are found
 * again when the domain is read. */
int vm_network_serve_unasked(const char *name);

/* Has those passts listen again that do not on all that they should, which is on nothing after a
 * snapshot with memory. A forward whose port was taken meanwhile is marked FORWARD_FAILED. `seen`
 * is what listens; it is emptied if that has changed. Not while the guest stands still for a
 * moment: passt 2026-07-28 ends of what comes in then, when the guest goes on. */
void vm_network_listen_again(VMNetwork *n, const char *uuid, HostListeners *seen);

/* Starts anew what has died, with the forwards it had; one whose port was taken meanwhile is marked
 * FORWARD_FAILED and left out. Returns how many, or PasstFailed if one does not start. */
int vm_network_revive(VMNetwork *n, const char *stored_xml, sd_bus_error *error);

/* Ends all passts of a VM that does not run any more, and frees. Returns NULL. */
VMNetwork *vm_network_stop(VMNetwork *n);

/* The NIC with this MAC, with this forward (by its host side), or NULL. */
NetworkNic *vm_network_find_nic(VMNetwork *n, const char *mac);
NetworkNic *vm_network_find_forward(VMNetwork *n, const Forward *f);

/* Whether its passt runs. */
bool vm_network_nic_is_alive(NetworkNic *nic);

/* Adds a forward to a NIC, or removes it, live; nothing is stored. Errors are those of passt.h. */
int vm_network_add_forward(NetworkNic *nic, const Forward *f, sd_bus_error *error);
int vm_network_remove_forward(NetworkNic *nic, const Forward *f, sd_bus_error *error);
