/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A forward is a <portForward> rule of the stored definition. Adding one stores it and makes it
 * take effect; removing one makes it end and takes it out of the definition. What fails half-way is
 * taken back.
 *
 * In managed networking it takes effect at once, in passt's table, and no connection notices.
 *
 * In native networking libvirt has no way to change the rules of a passt that runs: it accepts
 * virDomainUpdateDeviceFlags(3) and does nothing. What works is to take the NIC out and put it in
 * again, at the same place and with the same MAC address (nic-plug.h). That costs every connection
 * of the guest, so it is done only for a caller that asked for it; else the change is pending.
 *
 * What uservmd had stored and not yet made live when it was killed, it makes live when it finds the
 * VM again (vm_network_reconcile()). */

#include "vm-forward.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <pthread.h>

#include "connection.h"
#include "error.h"
#include "log.h"
#include "manager.h"
#include "nic-plug.h"
#include "nic-store.h"
#include "operation.h"
#include "port-check.h"
#include "vm-bus.h"

typedef struct ForwardChange {
        Connection *connection;
        Forward forward;
        ForwardOptions options;
        ForwardList own; /* the VM's forwards before the change */
        bool store;      /* change the stored definition */
        bool live;       /* change passt's table, if the NIC has a passt of ours */
        bool replug;     /* re-plug the NIC if it has not */
        bool single;     /* the VM has one NIC, so there is no question which */
        bool active;     /* of one to be removed: it listens, and is to */
} ForwardChange;

static void forward_change_free(void *data) {
        ForwardChange *c = data;

        if (!c)
                return;
        forward_done(&c->forward);
        forward_list_done(&c->own);
        free(c);
}

/* Storing */

static const DomainNic *find_nic_with(const DomainInfo *info, const Forward *f) {
        for (size_t i = 0; i < info->n_nics; i++)
                if (forward_list_find_host_side(&info->nics[i].forwards, f))
                        return &info->nics[i];
        return NULL;
}

static void take_back(const Operation *o, virDomainPtr domain, const char *old_xml,
                      const char *new_xml) {
        const ForwardChange *c = o->data;

        if (nic_store(c->connection, domain, new_xml, old_xml, NULL) < 0)
                log_write(LOG_ERR, OPERATION_SUBJECT(o),
                          "VM '%s': could not take back a change of its forwards", o->name);
}

/* Re-plugs the NIC that has the forward in `nic_source`, with the rules it has in stored_xml. One
 * that is managed is spared: what is not live there need not be interrupted for. */
static int replug(const Operation *o, virDomainPtr domain, const char *nic_source,
                  const char *stored_xml, sd_bus_error *error) {
        const ForwardChange *c = o->data;
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        const DomainNic *nic;
        int r;

        r = domain_info_parse(nic_source, &info);
        if (r < 0)
                return r;
        nic = find_nic_with(info, &c->forward);
        if (!nic)
                return -ENODEV;
        if (vm_network_find_nic(o->vm->network, nic->mac))
                return 0;
        return nic_plug_again(c->connection, domain, nic->mac, stored_xml, error);
}

static int read_stored(virDomainPtr domain, const char *name, char **ret, sd_bus_error *error) {
        *ret = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
        if (!*ret)
                return error_from_libvirt(error, "read the definition of VM '%s'", name);
        return 0;
}

/* What both directions need to be allowed */

/* Why the network of a running VM is native, as a sentence. */
static const char *native_reason(const VM *vm) {
        const Host *host = vm->manager->host;

        return host && !isempty(host->native_reason) ? host->native_reason
                                                     : "Another tool started the VM, or its NIC "
                                                       "cannot be managed; stop it and start "
                                                       "it with uservm.";
}

static int check_persistence(Operation *o, sd_bus_error *error) {
        const ForwardChange *c = o->data;

        if (c->options.persistent) {
                if (o->vm->snapshot->persistent)
                        return 0;
                return sd_bus_error_setf(error, USERVM_ERROR_NOT_SUPPORTED,
                                         "VM '%s' has no stored definition that could be changed; "
                                         "define it first (virsh define)",
                                         o->name);
        }
        if (!vm_is_active(o->vm))
                return sd_bus_error_setf(error, USERVM_ERROR_NOT_RUNNING,
                                         "VM '%s' is not running, so nothing can be for this run "
                                         "only; start it first, or have the change stored",
                                         o->name);
        if (o->vm->snapshot->managed)
                return 0;
        return sd_bus_error_setf(error, USERVM_ERROR_NOT_SUPPORTED,
                                 "The network of VM '%s' is 'native', where no forward can be for "
                                 "this run only. %s",
                                 o->name, native_reason(o->vm));
}

static int prepare_change(Operation *o, sd_bus_error *error) {
        ForwardChange *c = o->data;
        const VMSnapshot *s = o->vm->snapshot;
        int r;

        if (s->stored->n_nics == 0)
                return sd_bus_error_setf(error, USERVM_ERROR_NO_USER_NETWORK,
                                         "VM '%s' has no NIC with user-mode networking, which port "
                                         "forwards need; add one of type 'user'",
                                         o->name);
        r = check_persistence(o, error);
        if (r < 0)
                return r;

        c->connection = o->vm->manager->connection;
        c->store = c->options.persistent;
        c->live = s->managed;
        c->replug = c->options.disruptive && s->active;
        if (c->replug && !s->managed && vm_state(o->vm) == VM_PAUSED)
                return sd_bus_error_setf(error, USERVM_ERROR_BUSY,
                                         "VM '%s' is paused, so its guest cannot let go of its "
                                         "NIC; resume it first, or leave 'disruptive' out",
                                         o->name);
        c->single = s->stored->n_nics == 1;
        return forward_list_copy(&s->forwards, &c->own);
}

/* Add */

/* A passt that goes on running may have taken it all the same. */
static int add_to_passt(Operation *o, NetworkNic *nic, sd_bus_error *error) {
        const ForwardChange *c = o->data;
        int r;

        r = vm_network_add_forward(nic, &c->forward, error);
        if (r == -ETIMEDOUT && vm_network_nic_is_alive(nic))
                o->vm->network->in_doubt = true;
        return r;
}

/* The VM has a forward that overlaps. If it is the same one, half of what is wanted may be done
 * already: live for this run only, or stored and not live. Returns whether that is so. */
static bool complete_existing(ForwardChange *c, const Forward *own) {
        if (!c->live || !forward_equal(own, &c->forward))
                return false;
        if (own->state == FORWARD_ACTIVE) {
                c->live = false;
                return !own->persistent && c->store;
        }
        c->store = c->store && !own->persistent;
        return true;
}

/* The VM's own forwards that have their ports now. */
static int copy_listening(const ForwardList *own, ForwardList *ret) {
        for (size_t i = 0; i < own->n; i++) {
                const Forward *f = &own->items[i];
                int r;

                if (f->state != FORWARD_ACTIVE && f->state != FORWARD_REMOVING)
                        continue;
                r = forward_list_append(ret, f);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int check_own(Operation *o, sd_bus_error *error) {
        ForwardChange *c = o->data;
        _cleanup_free_ char *wanted = NULL, *taken = NULL;

        for (size_t i = 0; i < c->own.n; i++) {
                const Forward *own = &c->own.items[i];

                if (own->state == FORWARD_REMOVING || !forward_conflicts(own, &c->forward) ||
                    complete_existing(c, own))
                        continue;
                if (forward_format(&c->forward, &wanted) < 0 || forward_format(own, &taken) < 0)
                        return -ENOMEM;
                return sd_bus_error_setf(
                        error, USERVM_ERROR_FORWARD_EXISTS,
                        "%s: VM '%s' has the forward %s already; remove that first", wanted,
                        o->name, taken);
        }
        return 0;
}

/* One too many is stored easily, but then the VM could not be started. Where one takes effect now,
 * passt says it. */
static int check_number(const Operation *o, sd_bus_error *error) {
        const ForwardChange *c = o->data;
        size_t stored = 0;

        for (size_t i = 0; i < c->own.n; i++)
                stored += c->own.items[i].persistent;
        if (c->live || !c->single || stored < FORWARDS_MAX)
                return 0;
        return sd_bus_error_setf(error, USERVM_ERROR_NOT_SUPPORTED,
                                 "VM '%s' has %d forwards, as many as passt takes; remove one "
                                 "first, or use a range of ports",
                                 o->name, FORWARDS_MAX);
}

static int add_prepare(Operation *o, sd_bus_error *error) {
        ForwardChange *c = o->data;
        int r;

        r = prepare_change(o, error);
        if (r < 0)
                return r;
        if (o->vm->manager->host && !strv_contains(o->vm->manager->host->features, "passt"))
                return sd_bus_error_setf(
                        error, USERVM_ERROR_NOT_SUPPORTED,
                        "Port forwards need passt, and a libvirt that can use it. %s",
                        o->vm->manager->host->native_reason);
        r = port_choose(o->vm->manager, &c->forward, error);
        if (r < 0)
                return r;
        r = check_own(o, error);
        if (r >= 0)
                r = check_number(o, error);
        if (r < 0)
                return r;
        r = port_check_other_vms(o->vm->manager, o->vm, &c->forward, false, error);
        if (r < 0)
                return r;
        return forward_list_append(&o->vm->reserved, &c->forward);
}

/* The passt of ours that the forward goes to: of the NIC that has it in the stored definition. */
static int find_managed_nic(Operation *o, const char *stored_xml, NetworkNic **ret) {
        const ForwardChange *c = o->data;
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        const DomainNic *nic;
        int r;

        *ret = NULL;
        if (!o->vm->network)
                return 0;
        if (c->single) {
                *ret = &o->vm->network->nics[0];
                return 0;
        }
        r = domain_info_parse(stored_xml, &info);
        if (r < 0)
                return r;
        nic = find_nic_with(info, &c->forward);
        *ret = nic ? vm_network_find_nic(o->vm->network, nic->mac) : NULL;
        return 0;
}

/* What is stored on a thread of its own while passt is told of the forward. */
typedef struct Storing {
        Connection *connection;
        virDomainPtr domain;
        const char *old_xml, *new_xml;
        sd_bus_error error;
        int result;
} Storing;

static void *storing_main(void *userdata) {
        Storing *s = userdata;

        s->result = nic_store(s->connection, s->domain, s->old_xml, s->new_xml, &s->error);
        return NULL;
}

/* Stores and makes live at the same time: neither needs the other, and each is most of what the
 * caller waits for. Where there can be no more threads, it takes longer. If one fails, the other is
 * taken back. */
static int store_and_add_live(Operation *o, virDomainPtr domain, NetworkNic *nic,
                              const char *old_xml, const char *new_xml, sd_bus_error *error) {
        const ForwardChange *c = o->data;
        Storing s = { c->connection, domain, old_xml, new_xml };
        pthread_t thread;
        bool threaded;
        int r;

        threaded = pthread_create(&thread, NULL, storing_main, &s) == 0;
        r = add_to_passt(o, nic, error);
        if (threaded)
                pthread_join(thread, NULL);
        else if (r >= 0)
                (void) storing_main(&s);

        if (r < 0 && threaded && s.result >= 0)
                take_back(o, domain, old_xml, new_xml);
        if (r >= 0 && s.result < 0) {
                (void) vm_network_remove_forward(nic, &c->forward, NULL);
                sd_bus_error_move(error, &s.error);
                r = s.result;
        }
        sd_bus_error_free(&s.error);
        return r;
}

static int store_and_replug(Operation *o, virDomainPtr domain, const char *old_xml,
                            const char *new_xml, sd_bus_error *error) {
        const ForwardChange *c = o->data;
        int r;

        r = nic_store(c->connection, domain, old_xml, new_xml, error);
        if (r < 0 || !c->replug)
                return r;
        r = replug(o, domain, new_xml, new_xml, error);
        if (r < 0)
                take_back(o, domain, old_xml, new_xml);
        return r;
}

static int add_stored(Operation *o, virDomainPtr domain, const char *old_xml, sd_bus_error *error) {
        const ForwardChange *c = o->data;
        _cleanup_free_ char *new_xml = NULL;
        NetworkNic *nic;
        int r;

        r = domain_xml_add_forward(old_xml, &c->forward, &new_xml);
        if (r < 0)
                return error_from_errno(error, -r, "add the forward to VM '%s'", o->name);
        r = find_managed_nic(o, new_xml, &nic);
        if (r < 0)
                return r;
        return nic && c->live ? store_and_add_live(o, domain, nic, old_xml, new_xml, error)
                              : store_and_replug(o, domain, old_xml, new_xml, error);
}

/* What is stored already. */
static int add_live(Operation *o, const char *stored_xml, sd_bus_error *error) {
        NetworkNic *nic;
        int r;

        r = find_managed_nic(o, stored_xml, &nic);
        if (r < 0)
                return r;
        return nic ? add_to_passt(o, nic, error) : 0;
}

static int add_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        const ForwardChange *c = o->data;
        _cleanup_forward_list_ ForwardList listening = {};
        _cleanup_free_ char *old_xml = NULL;
        int r;

        r = copy_listening(&c->own, &listening);
        if (r < 0)
                return r;
        r = port_check_host(&c->forward, &listening, error);
        if (r < 0)
                return r;
        if (!c->options.persistent && o->vm->network && o->vm->network->n > 0)
                return add_to_passt(o, &o->vm->network->nics[0], error);
        if (!c->options.persistent)
                return sd_bus_error_setf(error, USERVM_ERROR_NOT_SUPPORTED,
                                         "The network of VM '%s' is not managed any more, so no "
                                         "forward can be for this run only",
                                         o->name);
        r = read_stored(domain, o->name, &old_xml, error);
        if (r < 0)
                return r;
        return c->store ? add_stored(o, domain, old_xml, error) : add_live(o, old_xml, error);
}

/* The forward as it now is. One that is pending says why it is not active. */
static int add_reply(Operation *o, sd_bus_message *reply) {
        ForwardChange *c = o->data;
        const ForwardList *forwards = vm_forwards(o->vm);

        for (size_t i = 0; i < forwards->n; i++) {
                _cleanup_forward_ Forward f = {};
                int r;

                if (!forward_equal(&forwards->items[i], &c->forward))
                        continue;
                r = forward_copy(&forwards->items[i], &f);
                if (r < 0)
                        return r;
                if (f.state == FORWARD_PENDING) {
                        f.error = strdup(native_reason(o->vm));
                        if (!f.error)
                                return -ENOMEM;
                }
                return vm_bus_append_forward(reply, &f, NULL);
        }
        return vm_bus_append_forward(reply, &c->forward, NULL);
}

static const OperationType add_type = {
        .name = "AddPortForward",
        .verb = "add a forward to",
        .prepare = add_prepare,
        .run = add_run,
        .reply = add_reply,
        .free_data = forward_change_free,
        .transition = VM_STATE_NONE,
        .spares_live = true,
};

/* Remove */

/* The forward that is meant: the spec says nothing of host interfaces, so one that differs in that
 * only is meant if it is the only one. Returns 0, -ENOENT, or -ENOTUNIQ. */
static int find_meant(const ForwardList *own, const Forward *meant, const Forward **ret) {
        const Forward *found = forward_list_find_host_side(own, meant);
        size_t n = 0;

        for (size_t i = 0; i < own->n && !found; i++) {
                _cleanup_forward_ Forward candidate = {};

                if (forward_copy(meant, &candidate) < 0)
                        return -ENOMEM;
                memcpy(candidate.interface, own->items[i].interface, sizeof(candidate.interface));
                if (forward_same_host_side(&candidate, &own->items[i])) {
                        *ret = &own->items[i];
                        n++;
                }
        }
        if (found)
                *ret = found;
        return found || n == 1 ? 0 : n == 0 ? -ENOENT : -ENOTUNIQ;
}

static int remove_prepare(Operation *o, sd_bus_error *error) {
        ForwardChange *c = o->data;
        _cleanup_free_ char *spec = NULL;
        const Forward *found;
        int r;

        r = prepare_change(o, error);
        if (r < 0)
                return r;
        if (forward_format(&c->forward, &spec) < 0)
                return -ENOMEM;
        r = find_meant(&c->own, &c->forward, &found);
        if (r == -ENOENT)
                return sd_bus_error_setf(error, USERVM_ERROR_NO_SUCH_FORWARD,
                                         "VM '%s' has no forward %s; see the list of its forwards",
                                         o->name, spec);
        if (r == -ENOTUNIQ)
                return sd_bus_error_setf(
                        error, USERVM_ERROR_INVALID_FORWARD,
                        "%s: VM '%s' has several such forwards, which differ in "
                        "their host interface; remove the right one with virsh edit",
                        spec, o->name);
        if (r < 0)
                return r;
        memcpy(c->forward.interface, found->interface, sizeof(c->forward.interface));
        c->store = c->store && found->persistent;
        c->active = found->state == FORWARD_ACTIVE;
        return 0;
}

static int remove_stored(Operation *o, virDomainPtr domain, const char *old_xml,
                         const char *nic_source, sd_bus_error *error) {
        const ForwardChange *c = o->data;
        _cleanup_free_ char *new_xml = NULL;
        int r;

        r = domain_xml_remove_forward(old_xml, &c->forward, &new_xml);
        if (r < 0)
                return error_from_errno(error, -r, "remove the forward from VM '%s'", o->name);
        r = nic_store(c->connection, domain, old_xml, new_xml, error);
        if (r < 0 || !nic_source)
                return r;

        r = replug(o, domain, nic_source, new_xml, error);
        if (r < 0)
                take_back(o, domain, old_xml, new_xml);
        return r;
}

/* Through passt's table; its rule comes back when the definition cannot be changed. */
static int remove_live(Operation *o, virDomainPtr domain, NetworkNic *nic, const char *old_xml,
                       sd_bus_error *error) {
        const ForwardChange *c = o->data;
        _cleanup_forward_ Forward live = {};
        int r;

        r = forward_copy(forward_list_find_host_side(&nic->forwards, &c->forward), &live);
        if (r < 0)
                return r;
        r = vm_network_remove_forward(nic, &live, error);
        if (r < 0 || !c->store)
                return r;
        r = remove_stored(o, domain, old_xml, NULL, error);
        if (r < 0)
                (void) vm_network_add_forward(nic, &live, NULL);
        return r;
}

static int remove_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        const ForwardChange *c = o->data;
        NetworkNic *nic = vm_network_find_forward(o->vm->network, &c->forward);
        _cleanup_free_ char *old_xml = NULL, *live_xml = NULL;
        int r;

        r = read_stored(domain, o->name, &old_xml, error);
        if (r < 0)
                return r;
        if (nic)
                return remove_live(o, domain, nic, old_xml, error);
        if (c->store)
                return remove_stored(o, domain, old_xml, c->replug ? old_xml : NULL, error);
        if (c->active)
                return sd_bus_error_setf(error, USERVM_ERROR_NOT_SUPPORTED,
                                         "The forward is of a NIC of VM '%s' whose network is "
                                         "'native', where none can be removed for this run only",
                                         o->name);
        if (!c->replug)
                return 0; /* removed before; it listens until the next start */

        live_xml = virDomainGetXMLDesc(domain, 0);
        if (!live_xml)
                return error_from_libvirt(error, "read the live definition of VM '%s'", o->name);
        return replug(o, domain, live_xml, old_xml, error);
}

static const OperationType remove_type = {
        .name = "RemovePortForward",
        .verb = "remove a forward from",
        .prepare = remove_prepare,
        .run = remove_run,
        .free_data = forward_change_free,
        .transition = VM_STATE_NONE,
        .spares_live = true,
};

static int submit(VM *vm, const OperationType *type, Forward *f, const ForwardOptions *options,
                  sd_bus_message *message) {
        ForwardChange *c = new0(ForwardChange, 1);

        if (!c)
                return -ENOMEM;
        c->forward = *f;
        c->options = *options;
        *f = (Forward){};
        return operation_submit(vm, type, c, message);
}

int vm_add_forward(VM *vm, Forward *f, const ForwardOptions *options, sd_bus_message *message) {
        return submit(vm, &add_type, f, options, message);
}

int vm_remove_forward(VM *vm, Forward *f, const ForwardOptions *options, sd_bus_message *message) {
        return submit(vm, &remove_type, f, options, message);
}
