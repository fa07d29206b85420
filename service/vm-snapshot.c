/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The states of the forwards come from a comparison: what the stored definition says, what is live,
 * and whether the kernel has a listening socket for it. What is live is, in managed networking,
 * what our passts have in their tables; in native networking, what the live XML says: libvirt fails
 * the start of a VM whose ports passt cannot bind and ignores later changes, so these are the rules
 * of the start or of the last re-plug of the NIC. */

#include "vm-snapshot.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>

#include "autostart.h"
#include "connection.h"
#include "domain-files.h"
#include "error.h"
#include "host-port.h"
#include "log.h"
#include "passt.h"

const char *vm_state_to_string(VMState state) {
        static const char *const names[] = {
                [VM_SHUTOFF] = "shutoff", [VM_STARTING] = "starting", [VM_RUNNING] = "running",
                [VM_PAUSED] = "paused",   [VM_SAVED] = "saved",       [VM_STOPPING] = "stopping",
                [VM_CRASHED] = "crashed",
        };

        return names[state];
}

static VMState state_from_libvirt(int state, int reason, bool saved) {
        switch (state) {
        case VIR_DOMAIN_PAUSED:
                return reason == VIR_DOMAIN_PAUSED_STARTING_UP ? VM_STARTING
                       : reason == VIR_DOMAIN_PAUSED_CRASHED   ? VM_CRASHED
                                                               : VM_PAUSED;
        case VIR_DOMAIN_PMSUSPENDED:
                return VM_PAUSED;
        case VIR_DOMAIN_SHUTDOWN:
                return VM_STOPPING;
        case VIR_DOMAIN_SHUTOFF:
                return saved                                  ? VM_SAVED
                       : reason == VIR_DOMAIN_SHUTOFF_CRASHED ? VM_CRASHED
                                                              : VM_SHUTOFF;
        case VIR_DOMAIN_CRASHED:
                return VM_CRASHED;
        default:
                return VM_RUNNING;
        }
}

/* Why a domain is paused; not one that is until somebody resumes it. */
static bool is_passing(int reason) {
        return reason == VIR_DOMAIN_PAUSED_MIGRATION || reason == VIR_DOMAIN_PAUSED_SAVE ||
               reason == VIR_DOMAIN_PAUSED_DUMP || reason == VIR_DOMAIN_PAUSED_SNAPSHOT ||
               reason == VIR_DOMAIN_PAUSED_STARTING_UP;
}

static int append_forwards_of(ForwardList *list, const DomainInfo *info) {
        for (size_t i = 0; i < info->n_nics; i++) {
                int r = forward_list_extend(list, &info->nics[i].forwards);

                if (r < 0)
                        return r;
        }
        return 0;
}

static const Forward *find_equal(const ForwardList *list, const Forward *f) {
        for (size_t i = 0; i < list->n; i++)
                if (forward_equal(&list->items[i], f))
                        return &list->items[i];
        return NULL;
}

static int set_failed(Forward *f, const char *known, uint16_t port) {
        f->state = FORWARD_FAILED;
        free(f->error);
        if (known)
                f->error = strdup(known);
        else if (asprintf(&f->error, "nothing of this VM listens on host port %u", port) < 0)
                f->error = NULL;
        return f->error ? 0 : -ENOMEM;
}

/* What is live ought to listen; does it? live->error, if there is one, says why not. */
static int verify_listening(HostListeners *seen, Forward *f, const Forward *live) {
        uint16_t port;
        int r;

        if (live->state == FORWARD_FAILED)
                return set_failed(f, live->error, 0);
        r = host_port_listening(seen, f, &port);
        if (r < 0)
                return r;
        if (r == 0)
                return set_failed(f, NULL, port);
        f->state = FORWARD_ACTIVE;
        return 0;
}

static int add_stored(VMSnapshot *s, const ForwardList *live, HostListeners *seen) {
        int r;

        r = append_forwards_of(&s->forwards, s->stored);
        if (r < 0)
                return r;
        for (size_t i = 0; i < s->forwards.n; i++) {
                Forward *f = &s->forwards.items[i];
                const Forward *now = find_equal(live, f);

                f->persistent = s->persistent;
                f->state = s->active ? FORWARD_PENDING : FORWARD_INACTIVE;
                if (now) {
                        r = verify_listening(seen, f, now);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

/* Live, and not stored: in managed networking added for this run only; in native networking removed
 * since the start. */
static int add_only_live(VMSnapshot *s, const ForwardList *live, bool managed,
                         HostListeners *seen) {
        for (size_t i = 0; i < live->n; i++) {
                Forward *f;
                int r;

                if (find_equal(&s->forwards, &live->items[i]))
                        continue;
                r = forward_list_append(&s->forwards, &live->items[i]);
                if (r < 0)
                        return r;
                f = &s->forwards.items[s->forwards.n - 1];
                f->persistent = false;
                f->state = FORWARD_REMOVING;
                if (managed) {
                        r = verify_listening(seen, f, &live->items[i]);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static int read_forwards(VMSnapshot *s, const DomainInfo *live_info, VMNetwork *network) {
        _cleanup_forward_list_ ForwardList native = {}, managed = {}, live = {};
        _cleanup_(host_listeners_done) HostListeners seen = {};
        int r = 0;

        if (network && !s->halted)
                vm_network_listen_again(network, s->stored->uuid, &seen);
        if (live_info)
                r = append_forwards_of(&native, live_info);
        for (size_t i = 0; network && i < network->n && r >= 0; i++)
                r = forward_list_extend(&managed, &network->nics[i].forwards);
        if (r >= 0)
                r = forward_list_extend(&live, &native);
        if (r >= 0)
                r = forward_list_extend(&live, &managed);
        if (r >= 0)
                r = add_stored(s, &live, &seen);
        if (r >= 0)
                r = add_only_live(s, &native, false, &seen);
        if (r >= 0)
                r = add_only_live(s, &managed, true, &seen);
        return r;
}

static int read_definition(virDomainPtr domain, unsigned flags, char **ret_xml, DomainInfo **ret,
                           sd_bus_error *error) {
        int r;

        *ret_xml = virDomainGetXMLDesc(domain, flags);
        if (!*ret_xml)
                return error_from_libvirt(error, "read the definition of a VM");
        r = domain_info_parse(*ret_xml, ret);
        if (r < 0)
                return error_from_errno(error, -r, "understand the definition of VM '%s'",
                                        virDomainGetName(domain));
        return 0;
}

/* A VM that runs has no saved state. What there is of one is the rest of a save over which
 * libvirt's daemon has died, or of a restore; after the VM's end it would be taken for what it is
 * to go on from. One that is being restored is not at that point yet. One that is off cannot go on
 * from a state that was not written to its end, when a logout or a loss of power cut the save
 * short. */
static bool is_rest_of_save(virDomainPtr domain, int state, int reason) {
        return state == VIR_DOMAIN_RUNNING ||
               (state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_USER) ||
               (state == VIR_DOMAIN_SHUTOFF &&
                domain_files_is_save_incomplete(virDomainGetName(domain)));
}

/* Returns whether the VM has a saved state that it can go on from. */
static int check_save(virDomainPtr domain, int state, int reason) {
        int saved = virDomainHasManagedSaveImage(domain, 0);

        if (saved <= 0 || !is_rest_of_save(domain, state, reason))
                return saved;
        if (virDomainManagedSaveRemove(domain, 0) >= 0)
                log_write(LOG_NOTICE, &(LogSubject){ .vm = virDomainGetName(domain) },
                          "VM '%s': removed what a save that was cut short has left",
                          virDomainGetName(domain));
        return 0;
}

/* Looking a domain up tells whether it is active: only then it has an ID. It may have ended
 * since. */
static int read_state(virDomainPtr domain, VMSnapshot *s, bool known, sd_bus_error *error) {
        int state, reason, persistent, saved = 0;

        persistent = virDomainIsPersistent(domain);
        if (persistent < 0 || virDomainGetState(domain, &state, &reason, 0) < 0)
                return error_from_libvirt(error, "read the state of a VM");
        s->active = virDomainGetID(domain) != (unsigned) -1 && state != VIR_DOMAIN_SHUTOFF;
        if (!s->active || !known)
                saved = check_save(domain, state, reason);
        if (saved < 0)
                return error_from_libvirt(error, "read the state of a VM");

        s->persistent = persistent;
        s->state = state_from_libvirt(state, reason, saved);
        s->halted = state == VIR_DOMAIN_PAUSED && is_passing(reason);
        return 0;
}

/* The live definition is for what is not known from the networks: NICs that are not managed, and
 * what changed behind our back. */
static int read_live(virDomainPtr domain, VMSnapshot *s, const char *stored_xml,
                     VMNetwork **network, DomainInfo **ret_live, sd_bus_error *error) {
        _cleanup_free_ char *live_xml = NULL;
        int r;

        r = read_definition(domain, 0, &live_xml, ret_live, error);
        if (r < 0)
                return r;
        r = vm_network_reconcile(network, virDomainGetID(domain), s->stored->uuid, live_xml,
                                 stored_xml);
        if (r < 0)
                return error_from_errno(error, -r, "find the passt of VM '%s'", s->stored->name);
        return 0;
}

/* Of a VM that does not run; and what an earlier uservmd has left, which is in no network. */
static void end_network(VMNetwork **network, const char *uuid) {
        *network = vm_network_stop(*network);
        passt_stop_all_of(uuid);
}

static int read_definitions(virDomainPtr domain, VMSnapshot *s, VMNetwork **network, bool known,
                            DomainInfo **ret_live, sd_bus_error *error) {
        _cleanup_free_ char *stored_xml = NULL;
        int r;

        r = read_definition(domain, VIR_DOMAIN_XML_INACTIVE, &stored_xml, &s->stored, error);
        if (r < 0)
                return r;
        if (!s->active)
                end_network(network, s->stored->uuid);
        else if (!known || !*network || (*network)->in_doubt || (*network)->n < s->stored->n_nics ||
                 !vm_network_is_of_run(*network, virDomainGetID(domain))) {
                r = read_live(domain, s, stored_xml, network, ret_live, error);
                if (r < 0)
                        return r;
        }
        s->managed = *network;
        return 0;
}

/* QEMU may be waiting for us. If the files do not tell, what libvirt says in the end will. */
static void serve_start(virDomainPtr domain, const char *uuid, VMNetwork **network) {
        unsigned id = virDomainGetID(domain);

        if (!*network || !vm_network_is_of_run(*network, id))
                (void) vm_network_serve_start(network, id, uuid, virDomainGetName(domain));
}

static int snapshot_read_domain(virDomainPtr domain, const char *uuid, VMSnapshot *s,
                                VMNetwork **network, bool known, sd_bus_error *error) {
        _cleanup_(domain_info_freep) DomainInfo *live = NULL;
        int r;

        r = read_state(domain, s, known, error);
        if (r < 0)
                return r;
        if (s->state == VM_STARTING)
                serve_start(domain, uuid, network);
        r = read_definitions(domain, s, network, known, &live, error);
        if (r < 0)
                return r;
        if (live) {
                s->agent = live->agent;
                s->live_memory = live->current_memory;
                s->live_vcpus = live->vcpus;
        }
        s->live_read = live || !s->active;
        s->autostart = autostart_enabled(s->stored->name);
        r = read_forwards(s, live, *network);
        if (r < 0)
                return error_from_errno(error, -r, "find out which ports of VM '%s' are listening",
                                        s->stored->name);
        return 0;
}

int vm_snapshot_read(virConnectPtr conn, const char *uuid, VMNetwork **network, bool known,
                     VMSnapshot **ret, sd_bus_error *error) {
        _cleanup_(vm_snapshot_freep) VMSnapshot *s = new0(VMSnapshot, 1);
        _cleanup_domain_ virDomainPtr domain = NULL;
        int r;

        if (!s)
                return -ENOMEM;
        domain = virDomainLookupByUUIDString(conn, uuid);
        if (!domain && virGetLastErrorCode() != VIR_ERR_NO_DOMAIN)
                return error_from_libvirt(error, "look up a VM");

        r = domain ? snapshot_read_domain(domain, uuid, s, network, known, error) : -ENOENT;
        /* It may have been undefined while it was being read. */
        if (r < 0 && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN) {
                sd_bus_error_free(error);
                end_network(network, uuid);
                return -ENOENT;
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

VMSnapshot *vm_snapshot_free(VMSnapshot *s) {
        if (!s)
                return NULL;
        domain_info_free(s->stored);
        forward_list_done(&s->forwards);
        free(s);
        return NULL;
}
