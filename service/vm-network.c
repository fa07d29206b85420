/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The passts of a VM that is started with managed networking (vm-network-start.c). They end by
 * themselves when QEMU goes (--one-off), except after a save, when passt takes itself for migrated
 * away, so a VM that has stopped has its passts ended all the same.
 *
 * Nothing is written down: which passt belongs to which VM follows from the paths in the live XML,
 * and which forwards it has from passt itself. So there is nothing that could be lost when uservmd
 * ends, or wrong when it comes back. */

#include "vm-network.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>

#include "domain-files.h"
#include "domain-live.h"
#include "error.h"
#include "log.h"
#include "port-check.h"

static void network_nic_done(NetworkNic *nic) {
        free(nic->mac);
        passt_paths_done(&nic->paths);
        closep(&nic->pidfd);
        forward_list_done(&nic->forwards);
}

VMNetwork *vm_network_free(VMNetwork *n) {
        if (!n)
                return NULL;
        for (size_t i = 0; i < n->n; i++)
                network_nic_done(&n->nics[i]);
        free(n->nics);
        free(n);
        return NULL;
}

VMNetwork *vm_network_stop(VMNetwork *n) {
        for (size_t i = 0; n && i < n->n; i++)
                passt_stop(&n->nics[i].paths, n->nics[i].pidfd);
        return vm_network_free(n);
}

static int add_nic(VMNetwork *n, const char *uuid, const char *mac) {
        NetworkNic *nics = reallocarray(n->nics, n->n + 1, sizeof(NetworkNic)), *nic;
        int r;

        if (!nics)
                return -ENOMEM;
        n->nics = nics;
        nic = &nics[n->n];
        *nic = (NetworkNic){ .pidfd = -EBADF };
        r = passt_paths(uuid, mac, &nic->paths);
        if (r < 0)
                return r;
        nic->mac = strdup(mac);
        if (!nic->mac) {
                passt_paths_done(&nic->paths);
                return -ENOMEM;
        }
        n->n++;
        return 0;
}

NetworkNic *vm_network_find_nic(VMNetwork *n, const char *mac) {
        for (size_t i = 0; n && i < n->n; i++)
                if (streq(n->nics[i].mac, mac))
                        return &n->nics[i];
        return NULL;
}

NetworkNic *vm_network_find_forward(VMNetwork *n, const Forward *f) {
        for (size_t i = 0; n && i < n->n; i++)
                if (forward_list_find_host_side(&n->nics[i].forwards, f))
                        return &n->nics[i];
        return NULL;
}

/* Starting passt */

static int start_passt(NetworkNic *nic, const LiveNic *live, const ForwardList *forwards,
                       sd_bus_error *error) {
        const PasstConfig config = {
                .hostname = live->hostname,
                .mtu = live->mtu,
                .addresses = live->addresses,
                .interface = live->interface,
                .log_file = live->log_file,
                .forwards = forwards,
        };
        int r;

        r = passt_start(&nic->paths, &config, &nic->pid, error);
        if (r < 0)
                return r;
        r = passt_find(&nic->paths, &nic->pidfd, &nic->pid);
        if (r == -ESRCH)
                return sd_bus_error_set(error, USERVM_ERROR_PASST_FAILED,
                                        "passt ended right after its start");
        return r;
}

static const LiveNic *find_live_nic(const LiveNics *live, const char *mac) {
        for (size_t i = 0; i < live->n; i++)
                if (streq(live->items[i].mac, mac))
                        return &live->items[i];
        return NULL;
}

static int start_nic(VMNetwork *n, const char *uuid, const LiveNic *live, sd_bus_error *error) {
        NetworkNic *nic;
        int r;

        r = add_nic(n, uuid, live->mac);
        if (r < 0)
                return error_from_errno(error, -r, "prepare the sockets of passt");
        nic = &n->nics[n->n - 1];
        r = start_passt(nic, live, &live->forwards, error);
        if (r < 0)
                return r;
        return forward_list_copy(&live->forwards, &nic->forwards);
}

int vm_network_start_passts(const char *uuid, const LiveNics *live, char *const *macs,
                            VMNetwork **ret, sd_bus_error *error) {
        VMNetwork *n = new0(VMNetwork, 1);
        int r;

        if (!n)
                return -ENOMEM;
        for (size_t i = 0; macs ? macs[i] != NULL : i < live->n; i++) {
                /* One that is no longer in the stored definition is still waited for. */
                const LiveNic unknown = { .mac = macs ? macs[i] : NULL };

                r = start_nic(n, uuid,
                              macs ? find_live_nic(live, macs[i]) ?: &unknown : &live->items[i],
                              error);
                if (r < 0) {
                        vm_network_stop(n);
                        return r;
                }
        }
        *ret = n;
        return 0;
}

int vm_network_read_macs(const char *xml, char ***ret) {
        _cleanup_(strv_freep) char **macs = NULL, **sockets = NULL;
        size_t n = 0;
        int r;

        r = domain_live_sockets(xml, &macs, &sockets);
        if (r < 0)
                return r;
        for (size_t i = 0; macs[i]; i++) {
                char *mac = TAKE_PTR(macs[i]);

                if (passt_owns_socket(sockets[i]) > 0)
                        macs[n++] = mac;
                else
                        free(mac);
        }
        *ret = TAKE_PTR(macs);
        return 0;
}

/* Reviving */

static int mark_failed(Forward *f, const sd_bus_error *error) {
        f->state = FORWARD_FAILED;
        free(f->error);
        f->error = strdup(error->message ?: "the host port cannot be bound");
        return f->error ? 0 : -ENOMEM;
}

/* Leaves out of `wanted` what cannot be bound, and notes why. */
static int split_forwards(ForwardList *all, ForwardList *wanted) {
        for (size_t i = 0; i < all->n; i++) {
                _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
                Forward *f = &all->items[i];
                int r;

                free(f->error);
                f->error = NULL;
                f->state = FORWARD_ACTIVE;
                if (port_check_host(f, NULL, &error) < 0) {
                        r = mark_failed(f, &error);
                        if (r < 0)
                                return r;
                        continue;
                }
                r = forward_list_append(wanted, f);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int revive_nic(NetworkNic *nic, const LiveNic *live, sd_bus_error *error) {
        _cleanup_forward_list_ ForwardList wanted = {};
        int r;

        closep(&nic->pidfd);
        nic->pidfd = -EBADF;
        r = split_forwards(&nic->forwards, &wanted);
        if (r < 0)
                return r;
        return start_passt(nic, live, &wanted, error);
}

bool vm_network_nic_is_alive(NetworkNic *nic) {
        struct pollfd p = { .fd = nic->pidfd, .events = POLLIN };

        return nic->pidfd >= 0 && poll(&p, 1, 0) == 0;
}

int vm_network_revive(VMNetwork *n, const char *stored_xml, sd_bus_error *error) {
        LiveNics live = {};
        int r, revived = 0;

        r = domain_live_nics(stored_xml, &live);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n->n && r >= 0; i++) {
                /* One that is no longer in the stored definition is still the running VM's. */
                const LiveNic unknown = { .mac = n->nics[i].mac };
                const LiveNic *found = find_live_nic(&live, n->nics[i].mac) ?: &unknown;

                if (vm_network_nic_is_alive(&n->nics[i]))
                        continue;
                r = revive_nic(&n->nics[i], found, error);
                revived++;
        }
        domain_live_nics_done(&live);
        return r < 0 ? r : revived;
}

/* Finding */

static int add_missing(NetworkNic *nic, const Forward *f) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        if (vm_network_add_forward(nic, f, &error) >= 0)
                return 0;
        r = forward_list_append(&nic->forwards, f);
        if (r < 0)
                return r;
        return mark_failed(&nic->forwards.items[nic->forwards.n - 1], &error);
}

/* What passt has in its table, in the user's terms: a stored forward with exclusions is several
 * rules there. What is stored and not live was being added when uservmd ended, or was not known to
 * be stored. What is left in the end is for this run only, or was for the last one. */
static int adopt_forwards(NetworkNic *nic, const ForwardList *stored, bool new_run,
                          sd_bus_error *error) {
        _cleanup_forward_list_ ForwardList table = {};
        int r;

        r = passt_list_forwards(&nic->paths, &table, error);
        if (r < 0)
                return r;
        for (size_t i = 0; i < stored->n; i++) {
                if (passt_table_take(&table, &stored->items[i]))
                        r = forward_list_append(&nic->forwards, &stored->items[i]);
                else
                        r = add_missing(nic, &stored->items[i]);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < table.n; i++) {
                r = new_run ? passt_remove_forward(&nic->paths, &table.items[i], error)
                            : forward_list_append(&nic->forwards, &table.items[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* A VM is not to be missing because its passt does not answer, or cannot be asked just now. */
static int set_unknown(NetworkNic *nic, const ForwardList *stored, const char *reason) {
        int r;

        forward_list_done(&nic->forwards);
        r = forward_list_copy(stored, &nic->forwards);
        for (size_t i = 0; i < nic->forwards.n && r >= 0; i++) {
                nic->forwards.items[i].state = FORWARD_FAILED;
                nic->forwards.items[i].error = strdup(reason ?: "passt does not answer");
                if (!nic->forwards.items[i].error)
                        r = -ENOMEM;
        }
        return r;
}

/* It has what is stored. If it cannot be started now, network-watch.c goes on trying. */
static int replace_nic(NetworkNic *nic, const char *uuid, const LiveNic *live) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const LogSubject subject = { .uuid = uuid };
        int r;

        log_write(LOG_INFO, &subject, "NIC %s has no passt; starting one", nic->mac);
        r = forward_list_copy(&live->forwards, &nic->forwards);
        if (r < 0)
                return r;
        if (revive_nic(nic, live, &error) < 0)
                log_write(LOG_WARNING, &subject, "%s",
                          error.message ?: "passt could not be started");
        return 0;
}

static int adopt_nic(VMNetwork *n, const char *uuid, const char *mac, const LiveNics *stored,
                     bool new_run) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const LiveNic unknown = {}, *live = find_live_nic(stored, mac) ?: &unknown;
        NetworkNic *nic;
        int r;

        r = add_nic(n, uuid, mac);
        if (r < 0)
                return r;
        nic = &n->nics[n->n - 1];
        r = passt_find(&nic->paths, &nic->pidfd, &nic->pid);
        if (r == -ESRCH)
                return replace_nic(nic, uuid, live);
        if (r < 0)
                return r;
        r = adopt_forwards(nic, &live->forwards, new_run, &error);
        if (r < 0) {
                log_write(LOG_WARNING, &(LogSubject){ .uuid = uuid }, "%s",
                          error.message ?: strerror(-r));
                n->in_doubt = true;
                n->provisional = new_run;
                return set_unknown(nic, &live->forwards, error.message);
        }
        return 0;
}

static void remove_unplugged(VMNetwork *n, char **macs) {
        size_t kept = 0;

        for (size_t i = 0; i < n->n; i++)
                if (strv_contains(macs, n->nics[i].mac))
                        n->nics[kept++] = n->nics[i];
                else {
                        passt_stop(&n->nics[i].paths, n->nics[i].pidfd);
                        network_nic_done(&n->nics[i]);
                }
        n->n = kept;
}

static int reconcile(VMNetwork *n, const char *uuid, char **macs, const LiveNics *stored,
                     bool new_run) {
        remove_unplugged(n, macs);
        for (char **mac = macs; *mac; mac++) {
                int r;

                if (vm_network_find_nic(n, *mac))
                        continue;
                r = adopt_nic(n, uuid, *mac, stored, new_run);
                if (r < 0)
                        return r;
        }
        return 0;
}

bool vm_network_is_of_run(VMNetwork *n, unsigned domain_id) {
        if (n->domain_id == 0)
                n->domain_id = domain_id;
        return n->domain_id == domain_id;
}

int vm_network_reconcile(VMNetwork **network, unsigned domain_id, const char *uuid,
                         const char *live_xml, const char *stored_xml) {
        bool new_run =
                *network && (!vm_network_is_of_run(*network, domain_id) || (*network)->provisional);
        _cleanup_(strv_freep) char **macs = NULL;
        LiveNics stored = {};
        int r;

        r = vm_network_read_macs(live_xml, &macs);
        if (r < 0)
                return r;
        if (!macs[0]) {
                *network = vm_network_stop(*network);
                return 0;
        }
        if (new_run || (*network && (*network)->in_doubt)) {
                remove_unplugged(*network, macs);
                *network = vm_network_free(*network); /* what is left is found again */
        }
        if (!*network) {
                *network = new0(VMNetwork, 1);
                if (!*network)
                        return -ENOMEM;
                (*network)->domain_id = domain_id;
        }
        r = domain_live_nics(stored_xml, &stored);
        if (r < 0)
                return r;
        r = reconcile(*network, uuid, macs, &stored, new_run);
        domain_live_nics_done(&stored);
        return r;
}

int vm_network_serve_start(VMNetwork **network, unsigned domain_id, const char *uuid,
                           const char *name) {
        _cleanup_free_ char *live_xml = NULL, *stored_xml = NULL;
        int r;

        r = domain_files_read(name, &live_xml, &stored_xml);
        if (r < 0)
                return r;
        r = vm_network_reconcile(network, domain_id, uuid, live_xml, stored_xml);
        if (r >= 0 && *network)
                (*network)->provisional = true;
        return r;
}

static int serve_missing(VMNetwork *n, const char *uuid, char **macs, const LiveNics *stored) {
        for (char **mac = macs; *mac; mac++) {
                const LiveNic unknown = {}, *live = find_live_nic(stored, *mac) ?: &unknown;
                NetworkNic *nic;
                int r;

                r = add_nic(n, uuid, *mac);
                if (r < 0)
                        return r;
                nic = &n->nics[n->n - 1];
                if (passt_find(&nic->paths, &nic->pidfd, &nic->pid) == -ESRCH)
                        r = replace_nic(nic, uuid, live);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* libvirt writes a file several times, and so there are several who look after the same domain. */
static int serve_missing_locked(const char *uuid, char **macs, const LiveNics *stored) {
        static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        VMNetwork *n = new0(VMNetwork, 1);
        int r;

        if (!n)
                return -ENOMEM;
        pthread_mutex_lock(&mutex);
        r = serve_missing(n, uuid, macs, stored);
        pthread_mutex_unlock(&mutex);
        vm_network_free(n);
        return r;
}

int vm_network_serve_unasked(const char *name) {
        _cleanup_free_ char *live_xml = NULL, *stored_xml = NULL;
        _cleanup_(domain_info_freep) DomainInfo *live = NULL;
        _cleanup_(strv_freep) char **macs = NULL;
        LiveNics stored = {};
        int r;

        r = domain_files_read(name, &live_xml, &stored_xml);
        if (r < 0)
                return r;
        r = domain_info_parse(live_xml, &live);
        if (r >= 0)
                r = vm_network_read_macs(live_xml, &macs);
        if (r < 0 || !macs[0])
                return r;
        r = domain_live_nics(stored_xml, &stored);
        if (r < 0)
                return r;
        r = serve_missing_locked(live->uuid, macs, &stored);
        domain_live_nics_done(&stored);
        return r;
}

/* Listening */

/* A port that is listened on may have been taken by another process of the user's. */
static bool is_deaf(const NetworkNic *nic, HostListeners *seen) {
        for (size_t i = 0; i < nic->forwards.n; i++) {
                const Forward *f = &nic->forwards.items[i];
                uint16_t port;

                if (f->state != FORWARD_FAILED && host_port_listening(seen, f, &port) == 0)
                        return true;
        }
        return false;
}

/* When passt has let go of all its ports it can be told which others have. What cannot be bound is
 * left out: it would block the rest. */
static int listen_again(NetworkNic *nic, sd_bus_error *error) {
        _cleanup_forward_list_ ForwardList wanted = {};
        const ForwardList none = {};
        int r;

        r = passt_set_forwards(&nic->paths, &none, error);
        if (r < 0)
                return r;
        r = split_forwards(&nic->forwards, &wanted);
        if (r < 0)
                return r;
        return passt_set_forwards(&nic->paths, &wanted, error);
}

void vm_network_listen_again(VMNetwork *n, const char *uuid, HostListeners *seen) {
        const LogSubject subject = { .uuid = uuid };

        for (size_t i = 0; i < n->n; i++) {
                _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
                NetworkNic *nic = &n->nics[i];

                if (!vm_network_nic_is_alive(nic) || !is_deaf(nic, seen))
                        continue;
                log_write(LOG_INFO, &subject,
                          "passt of NIC %s listens no more; having it listen again", nic->mac);
                if (listen_again(nic, &error) < 0)
                        log_write(LOG_WARNING, &subject, "%s",
                                  error.message ?: "passt could not be told to listen");
                host_listeners_done(seen);
        }
}

/* Changing */

int vm_network_add_forward(NetworkNic *nic, const Forward *f, sd_bus_error *error) {
        Forward *failed = forward_list_find_host_side(&nic->forwards, f);
        int r;

        r = passt_add_forward(&nic->paths, f, error);
        if (r < 0)
                return r;
        /* It may be one that could not be bound again when passt was revived. */
        if (failed)
                forward_list_remove(&nic->forwards, failed - nic->forwards.items);
        r = forward_list_append(&nic->forwards, f);
        if (r < 0)
                (void) passt_remove_forward(&nic->paths, f, NULL);
        return r;
}

int vm_network_remove_forward(NetworkNic *nic, const Forward *f, sd_bus_error *error) {
        Forward *found = forward_list_find_host_side(&nic->forwards, f);
        int r;

        if (!found)
                return -ENOENT;
        /* A passt that has ended will be started without it. */
        r = vm_network_nic_is_alive(nic) ? passt_remove_forward(&nic->paths, found, error) : 0;
        if (r < 0)
                return r;
        forward_list_remove(&nic->forwards, found - nic->forwards.items);
        return 0;
}
