/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A passt of our own: one process a NIC, connected to QEMU over vhost-user, and controlled through
 * its control socket with pesto(1). Start it, change and list its forwards, find it again, end it.
 * Blocks (a change some 5 ms, a passt that does not answer 5 s, one that ceases to during a change
 * 10 s): on a worker only, and one call at a time for one passt. Watching over the process with its
 * pidfd is the caller's. Behaviour is that of passt(1) and pesto(1) unless said otherwise. */

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "forward.h"

/* The files of one NIC's passt, all in $XDG_RUNTIME_DIR/libvirt/qemu/run/passt, where passt's
 * AppArmor and SELinux policies allow it to make files: uservm-UUID-MAC.sock (for QEMU), .ctl (for
 * pesto) and .pid, with the digits of UUID and MAC alone. */
typedef struct PasstPaths {
        char *socket;
        char *control;
        char *pid_file;
} PasstPaths;

/* Of the NIC with this MAC of the domain with this UUID, in upper or lower case. Returns 0;
 * -EINVAL: not a UUID or MAC; -ENXIO: XDG_RUNTIME_DIR is not set; -ENAMETOOLONG: it is too long for
 * a UNIX socket; -ENOMEM. */
int passt_paths(const char *uuid, const char *mac, PasstPaths *ret);
void passt_paths_done(PasstPaths *paths);

/* Whether a socket path (of a vhost-user NIC) is that of a passt of ours. Returns 1, 0, or -ENOMEM.
 */
int passt_owns_socket(const char *socket);

/* What passt is to be started with; strings are NULL where the default of passt is wanted. */
typedef struct PasstConfig {
        const char *hostname;   /* told to the guest by DHCP */
        unsigned mtu;           /* bytes; 0: passt's default */
        char *const *addresses; /* -a, "192.0.2.3" or "192.0.2.3/24", IPv4 and IPv6; or NULL */
        const char *interface;  /* -i, host interface whose addresses and routes the guest gets */
        const char *log_file;
        const ForwardList *forwards;
} PasstConfig;

/* Its command line, program name first, for strv_free(). Pure. Returns 0 or -ENOMEM. */
int passt_arguments(const PasstPaths *paths, const PasstConfig *config, char ***ret);

/* Starts one and returns when its sockets and all its forwards listen: all of them or, on failure,
 * none, and no process or file is left. Leftovers at the paths are replaced; a process that still
 * holds them is ended first. *ret_pid is the process in the background. PasstFailed with passt's
 * own first useful line (error.h). */
int passt_start(const PasstPaths *paths, const PasstConfig *config, pid_t *ret_pid,
                sd_bus_error *error);

/* The process that the files belong to, verified to be that passt and not a later process with its
 * number: a pidfd (pidfd_open(2)) that the caller closes, or -ESRCH. */
int passt_find(const PasstPaths *paths, int *ret_pidfd, pid_t *ret_pid);

/* Ends the process (SIGTERM, then SIGKILL after a second) if it is there, waits for its end, and
 * removes the files. known_pidfd is that of the process, if there is one: then it is found even if
 * there can be no more open files. */
void passt_stop(const PasstPaths *paths, int known_pidfd);

/* Adds a forward, verified to listen on every port of it (host_port_listening()), or takes it out
 * again: passt reports success when a bind fails, and a rule that failed blocks all later ones.
 * -ETIMEDOUT, with error set: passt may add it all the same, later.
 * PasstFailed with the reason: who has the port, or which older forward blocks; ForwardExists on a
 * duplicate; NotSupported when passt's table is full (255 rules).
 * Each change makes passt bind all its forwards anew, see passt-forward.c: what is established goes
 * on, a connection attempted within that millisecond may be refused. */
int passt_add_forward(const PasstPaths *paths, const Forward *f, sd_bus_error *error);

/* Removes one; it does not listen any more when this returns. Returns 1, or 0 if passt had no such
 * rule, or a negative errno with an error set. Connections that are established live on; for UDP
 * that keeps the port in use for the minutes until passt forgets them. */
int passt_remove_forward(const PasstPaths *paths, const Forward *f, sd_bus_error *error);

/* Gives passt a table that has these forwards and no others; with an empty one it listens on
 * nothing. What it cannot bind, and with it all that comes after, is silent and nobody is told. */
int passt_set_forwards(const PasstPaths *paths, const ForwardList *forwards, sd_bus_error *error);

/* What is in passt's table, whether it listens or not: .state and .persistent say nothing. A
 * forward with exclusions, or of all ports, is several rules there; see passt_table_take(). */
int passt_list_forwards(const PasstPaths *paths, ForwardList *ret, sd_bus_error *error);

/* Parses the table that pesto prints when it is given no rule. Pure. Returns 0; -EBADMSG; -ENOMEM.
 */
int passt_parse_table(const char *text, ForwardList *ret);

/* Whether a forward is in a table, in as many rules as passt made of it. If so, removes them: what
 * is left in the end is what nobody asked for. Pure. */
bool passt_table_take(ForwardList *table, const Forward *f);

/* What the installed programs can do, from their own --help: vhost-user, a control socket and
 * pesto. *ret_reason is NULL if all is there, else what is missing, as a sentence. 0 or negative.
 */
int passt_features(bool *ret_vhost_user, bool *ret_control, char **ret_reason);

/* Ends the passts, and removes the files, of a domain that does not run. */
void passt_stop_all_of(const char *uuid);

/* The same of the domains that are not there any more: of all but these (NULL-terminated). */
void passt_clean_up(char *const *uuids);
