/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The forwards of a passt that runs. pesto(1) changes its table, one transaction a call: it reads
 * the table, edits it and hands it back whole. passt then closes every socket it listens on and
 * binds the new table from its first rule to its last.
 *
 * Three things about that are not as they seem, and are dealt with here, so that no caller needs to
 * know of them:
 *
 * - pesto ends when it has handed the table over, before passt has bound anything. Control clients
 *   are served one after the other, so one more that says nothing is let go when the change is done
 *   (wait_until_applied()). That costs a few microseconds; asking pesto again would cost as much as
 *   the change.
 *
 * - A bind that fails is told to passt's log and nobody else, and binding stops there: that rule
 *   and all after it are deaf until it is taken out. New rules go to the end of the table, so if a
 *   new one listens, all do. If it doesn't, it is taken out again, and only then we look for the
 *   reason.
 *
 * - Nothing shows whose a listening socket is: passt is undumpable, and its user may well have a
 *   server of their own on that port. Hence the look at the ports before the change: what was free
 *   then and is listened on now is passt's.
 *
 * A rule of the table has no exclusions: passt makes several rules of a forward that has some, and
 * of "all ports", which spare the ephemeral ones. passt_table_take() puts them together again.
 *
 * Deliberately absent: a way to change several forwards at a time (pesto could; but what failed
 * would be harder to tell), and the time in which passt listens on nothing. That is passt's own,
 * a millisecond or more, with many sockets: a connection attempted just then is refused, those that
 * are established notice nothing. */

#include "passt.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "error.h"
#include "host-port.h"
#include "process.h"
#include "util.h"

/* How long passt may take to answer. It takes milliseconds, unless it is stopped or broken. */
#define PATIENCE_SEC 5

/* The table as text */

/* Reads "80" or "80-82" and moves on behind it. */
static int parse_ports(const char **p, PortRange *ret) {
        unsigned long ports[2];
        char *end;

        for (size_t i = 0; i < ELEMENTSOF(ports); i++) {
                if (!isdigit((unsigned char) **p))
                        return -EBADMSG;
                ports[i] = strtoul(*p, &end, 10);
                if (ports[i] < 1 || ports[i] > UINT16_MAX)
                        return -EBADMSG;
                *p = end;
                if (i == 0 && *end != '-') {
                        ports[1] = ports[0];
                        break;
                }
                if (i == 0)
                        (*p)++;
        }

        if (ports[1] < ports[0])
                return -EBADMSG;
        *ret = (PortRange){ (uint16_t) ports[0], (uint16_t) ports[1] };
        return 0;
}

/* "[127.0.0.1]%lo:9080", "[*]:9080-9082" */
static int parse_host_side(const char **p, Forward *f) {
        char address[INET6_ADDRSTRLEN];
        size_t n;

        if (**p != '[')
                return -EBADMSG;
        n = strcspn(++*p, "]");
        if (n == 0 || n >= sizeof(address) || (*p)[n] != ']')
                return -EBADMSG;
        memcpy(address, *p, n);
        address[n] = '\0';
        if (forward_set_address(f, address) < 0)
                return -EBADMSG;
        *p += n + 1;

        if (**p == '%') {
                n = strcspn(++*p, ": ");
                if (n == 0 || n >= sizeof(f->interface))
                        return -EBADMSG;
                memcpy(f->interface, *p, n);
                *p += n;
        }

        if (**p != ':')
                return -EBADMSG;
        ++*p;
        return parse_ports(p, &f->host);
}

/* "80", "80-82"; or "192.0.2.3:80", to an address of the guest, which no rule of ours has. */
static int parse_guest_side(const char **p, Forward *f) {
        size_t n = strcspn(*p, " ");
        const char *colon = memrchr(*p, ':', n);

        if (colon)
                *p = colon + 1;
        return parse_ports(p, &f->guest);
}

/* "TCP [127.0.0.1]:9080  =>  80 ", and then, in brackets, what passt has to remark. */
static int parse_rule(const char *p, Forward *ret) {
        Forward f = {};
        const char *rest;
        int r;

        if ((rest = startswith(p, "TCP ")))
                f.protocol = FORWARD_TCP;
        else if ((rest = startswith(p, "UDP ")))
                f.protocol = FORWARD_UDP;
        else
                return -EBADMSG;

        r = parse_host_side(&rest, &f);
        if (r < 0)
                return r;
        rest = startswith(rest, "  =>  ");
        if (!rest)
                return -EBADMSG;
        r = parse_guest_side(&rest, &f);
        if (r < 0)
                return r;

        rest += strspn(rest, " ");
        if ((*rest && *rest != '(') || f.guest.end - f.guest.start != f.host.end - f.host.start)
                return -EBADMSG;
        *ret = f;
        return 0;
}

int passt_parse_table(const char *text, ForwardList *ret) {
        _cleanup_forward_list_ ForwardList list = {};
        _cleanup_free_ char *copy = strdup(text);
        bool found = false, in_table = false;
        char *next = copy, *line;

        if (!copy)
                return -ENOMEM;

        /* A title, then a table for each side of passt: its name, indented by 2, and its rules,
         * indented by 4. HOST is what is bound on the host; pasta(1) has others. */
        while ((line = strsep(&next, "\n"))) {
                const char *rule = startswith(line, "    ");
                Forward f;
                int r;

                if (!rule) {
                        in_table = streq(line, "  HOST");
                        found = found || in_table;
                        continue;
                }
                if (!in_table)
                        continue;

                r = parse_rule(rule, &f);
                if (r < 0)
                        return r;
                r = forward_list_append(&list, &f);
                if (r < 0)
                        return r;
        }
        if (!found)
                return -EBADMSG;

        *ret = list;
        list = (ForwardList){};
        return 0;
}

static bool is_any_address(const Forward *f) {
        return f->family == AF_INET ? f->address.in.s_addr == INADDR_ANY
                                    : IN6_IS_ADDR_UNSPECIFIED(&f->address.in6);
}

/* Whether a rule listens on ports of this forward alone, and hands them to where it would. */
static bool is_part_of(const Forward *rule, const Forward *f) {
        Forward rest = *f;

        /* passt listens on the one family's every address if the other is not to be had. */
        if (f->family == AF_UNSPEC && rule->family != AF_UNSPEC) {
                if (!is_any_address(rule))
                        return false;
                rest.family = rule->family;
                rest.address = rule->address;
        }

        rest.host = rule->host;
        if (!forward_same_host_side(rule, &rest) ||
            rule->guest.start - rule->host.start != f->guest.start - f->host.start)
                return false;

        for (unsigned port = rule->host.start; port <= rule->host.end; port++)
                if (!forward_has_port(f, (uint16_t) port))
                        return false;
        return true;
}

static unsigned count_ports(const Forward *f) {
        unsigned n = 0;

        for (unsigned port = f->host.start; port <= f->host.end; port++)
                n += forward_has_port(f, (uint16_t) port);
        return n;
}

bool passt_table_take(ForwardList *table, const Forward *f) {
        bool all = f->host.start == 1 && f->host.end == UINT16_MAX;
        unsigned n = 0;

        /* Rules never overlap, so numbers of ports can be compared. */
        for (size_t i = 0; i < table->n; i++)
                if (is_part_of(&table->items[i], f))
                        n += count_ports(&table->items[i]);
        if (n == 0 || (n < count_ports(f) && !all))
                return false;

        for (size_t i = table->n; i-- > 0;)
                if (is_part_of(&table->items[i], f))
                        forward_list_remove(table, i);
        return true;
}

/* Control */

/* A descriptor that can be read once passt has had time enough. */
static int open_patience(void) {
        const struct itimerspec patience = { .it_value.tv_sec = PATIENCE_SEC };
        _cleanup_close_ int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

        if (fd < 0 || timerfd_settime(fd, 0, &patience, NULL) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* Reads to the end of the stream, which has to come in time however much comes before. */
static int drain(int fd) {
        _cleanup_close_ int patience = open_patience();
        char buffer[4096];
        ssize_t n;

        if (patience < 0)
                return patience;
        do {
                struct pollfd fds[] = {
                        { .fd = fd, .events = POLLIN },
                        { .fd = patience, .events = POLLIN },
                };

                n = poll(fds, ELEMENTSOF(fds), -1);
                if (n >= 0 && fds[1].revents != 0)
                        return -ETIMEDOUT;
                if (n >= 0)
                        n = recv(fd, buffer, sizeof(buffer), 0);
        } while (n > 0 || (n < 0 && errno == EINTR));
        return n < 0 ? -errno : 0;
}

/* Waits until passt is done with every control client before us: its greeting comes when it turns
 * to us, and the end of the stream when it finds that we want nothing. */
static int wait_until_applied(const char *control) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct timeval patience = { .tv_sec = PATIENCE_SEC };
        _cleanup_close_ int fd = -EBADF;

        if (strlen(control) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, control, strlen(control));

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0 ||
            shutdown(fd, SHUT_WR) < 0)
                return errno == EAGAIN ? -ETIMEDOUT : -errno;
        return drain(fd);
}

static int refuse_silence(int r, sd_bus_error *error) {
        return sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED,
                                 "passt does not answer on its control socket: %s", strerror(-r));
}

/* Runs pesto with these arguments. What it prints is in *ret_output, or what it complained about,
 * if it was told to do what it could not, in *ret_complaint, which is NULL else. pesto waits for
 * ever for a passt that doesn't answer: that is found out first, so that the table is as it was
 * then, and pesto is killed for one that stops answering later: -ETIMEDOUT. */
static int run_pesto(const PasstPaths *paths, const char *const arguments[], char **ret_output,
                     char **ret_complaint, sd_bus_error *error) {
        _cleanup_free_ char *output = NULL, *complaint = NULL;
        _cleanup_close_ int patience = -EBADF;
        int r;

        r = wait_until_applied(paths->control);
        if (r < 0)
                return refuse_silence(r, error);
        patience = open_patience();
        if (patience < 0)
                return patience;
        r = process_run_watched(arguments, &(ProcessWatch){ .cancel_fd = patience }, NULL, &output,
                                &complaint);
        if (r == -ECANCELED) {
                (void) refuse_silence(-ETIMEDOUT, error);
                return -ETIMEDOUT;
        }
        if (r < 0)
                return error_from_passt_run(error, -r, "pesto");

        *ret_complaint = r > 0 ? TAKE_PTR(complaint) : NULL;
        *ret_output = TAKE_PTR(output);
        return 0;
}

/* What pesto complained about, as an error. */
static int refuse(const char *what, const char *complaint, sd_bus_error *error) {
        _cleanup_free_ char *line = error_passt_line(complaint);

        if (!line)
                return -ENOMEM;
        return sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED, "Could not %s: %s", what,
                                 isempty(line) ? "passt gave no reason" : line);
}

/* Has pesto change the table, and returns when that is done; -ETIMEDOUT: or may be done later. */
static int apply(const PasstPaths *paths, const char *const arguments[], char **ret_complaint,
                 sd_bus_error *error) {
        _cleanup_free_ char *output = NULL, *complaint = NULL;
        int r;

        r = run_pesto(paths, arguments, &output, &complaint, error);
        if (r < 0)
                return r;
        if (!complaint) {
                r = wait_until_applied(paths->control);
                if (r < 0) {
                        (void) refuse_silence(r, error);
                        return -ETIMEDOUT;
                }
        }

        *ret_complaint = TAKE_PTR(complaint);
        return 0;
}

static const char *protocol_option(const Forward *f) {
        return f->protocol == FORWARD_TCP ? "--tcp-ports" : "--udp-ports";
}

/* Has passt add (-A) or delete (-D) a forward. */
static int change(const PasstPaths *paths, const char *how, const Forward *f, char **ret_complaint,
                  sd_bus_error *error) {
        _cleanup_free_ char *rule = NULL;
        int r;

        r = forward_format_passt(f, &rule);
        if (r < 0)
                return r;

        const char *const arguments[] = { "pesto",        how, protocol_option(f), rule,
                                          paths->control, NULL };
        return apply(paths, arguments, ret_complaint, error);
}

int passt_list_forwards(const PasstPaths *paths, ForwardList *ret, sd_bus_error *error) {
        const char *const arguments[] = { "pesto", paths->control, NULL };
        _cleanup_free_ char *output = NULL, *complaint = NULL;
        int r;

        r = run_pesto(paths, arguments, &output, &complaint, error);
        if (r < 0)
                return r;
        if (complaint)
                return refuse("read the forwards of passt", complaint, error);

        r = passt_parse_table(output, ret);
        if (r == -EBADMSG)
                return sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED,
                                         "Could not read the forwards of passt: its pesto prints "
                                         "them in a way unknown to uservm");
        return r;
}

int passt_set_forwards(const PasstPaths *paths, const ForwardList *forwards, sd_bus_error *error) {
        _cleanup_free_ char *complaint = NULL;
        _cleanup_(strv_freep) char **rules = NULL;
        _cleanup_free_ const char **arguments = NULL;
        size_t n = 0;
        int r;

        rules = new0(char *, forwards->n + 1);
        arguments = new0(const char *, 2 * forwards->n + 5);
        if (!rules || !arguments)
                return -ENOMEM;
        arguments[n++] = "pesto";
        arguments[n++] = "--clear";
        arguments[n++] = "HOST";
        for (size_t i = 0; i < forwards->n; i++) {
                r = forward_format_passt(&forwards->items[i], &rules[i]);
                if (r < 0)
                        return r;
                arguments[n++] = protocol_option(&forwards->items[i]);
                arguments[n++] = rules[i];
        }
        arguments[n] = paths->control;

        r = apply(paths, arguments, &complaint, error);
        if (r < 0 || !complaint)
                return r;
        return refuse("hand passt its forwards", complaint, error);
}

int passt_remove_forward(const PasstPaths *paths, const Forward *f, sd_bus_error *error) {
        _cleanup_free_ char *complaint = NULL;
        int r;

        r = change(paths, "--delete", f, &complaint, error);
        if (r < 0)
                return r;
        if (!complaint)
                return 1;

        /* Not there; or its host ports are, with others or for other guest ports. */
        if (strstr(complaint, "Couldn't find") || strstr(complaint, "doesn't match"))
                return 0;
        return refuse("remove the forward", complaint, error);
}

/* Add */

static int refuse_duplicate(const char *spec, sd_bus_error *error) {
        return sd_bus_error_setf(error, USERVM_ERROR_FORWARD_EXISTS,
                                 "%s: this VM already has a forward with such a host port; remove "
                                 "that one first",
                                 spec);
}

/* Why passt could not listen on a port, from the errno of the same attempt of ours. */
static int refuse_port(const Forward *f, const char *spec, uint16_t port, int errnum,
                       sd_bus_error *error) {
        _cleanup_free_ char *owner = NULL;

        if (errnum != EADDRINUSE)
                return sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED,
                                         "%s: passt cannot listen on host port %u: %s", spec, port,
                                         strerror(errnum));

        if (host_port_describe_owner(f, port, &owner) < 0)
                return -ENOMEM;
        return sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED,
                                 "%s: passt cannot listen on host port %u: %s has it", spec, port,
                                 owner);
}

/* Whether passt can listen on every port, before it is told to. */
static int check_ports(const PasstPaths *paths, const Forward *f, const char *spec,
                       sd_bus_error *error) {
        _cleanup_forward_list_ ForwardList table = {};
        uint16_t port;
        int r, q;

        r = host_port_probe(f, NULL, &port);
        if (r == 0)
                return 0;

        /* In use by itself? */
        q = passt_list_forwards(paths, &table, error);
        if (q < 0)
                return q;
        if (forward_list_find_conflict(&table, f))
                return refuse_duplicate(spec, error);
        return refuse_port(f, spec, port, -r, error);
}

/* What pesto did not even pass on to passt. */
static int refuse_rule(const char *spec, const char *complaint, sd_bus_error *error) {
        _cleanup_free_ char *what = NULL;

        if (strstr(complaint, "configuration conflict"))
                return refuse_duplicate(spec, error);
        if (strstr(complaint, "Too many rules") || strstr(complaint, "too many listening sockets"))
                return sd_bus_error_setf(error, USERVM_ERROR_NOT_SUPPORTED,
                                         "%s: passt's table of forwards is full (it takes 255 "
                                         "rules); remove one first, or use a range of ports",
                                         spec);

        if (asprintf(&what, "add %s", spec) < 0) {
                what = NULL;
                return -ENOMEM;
        }
        return refuse(what, complaint, error);
}

/* A forward that passes the checks and does not listen, and is taken out by now: either somebody
 * was quicker than passt, or an older forward is deaf, and blocks all that come after it. */
static int explain_silence(const PasstPaths *paths, const Forward *f, const char *spec,
                           uint16_t silent, sd_bus_error *error) {
        _cleanup_forward_list_ ForwardList table = {};
        _cleanup_(host_listeners_done) HostListeners seen = {};
        uint16_t port;
        int r;

        r = host_port_probe(f, NULL, &port);
        if (r < 0)
                return refuse_port(f, spec, port, -r, error);

        r = passt_list_forwards(paths, &table, error);
        if (r < 0)
                return r;
        for (size_t i = 0; i < table.n; i++) {
                _cleanup_free_ char *blocker = NULL;

                if (host_port_listening(&seen, &table.items[i], &port) != 0)
                        continue;
                if (forward_format(&table.items[i], &blocker) < 0)
                        return -ENOMEM;
                return sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED,
                                         "%s: passt cannot listen on host port %u of the forward "
                                         "%s any more, and on nothing that is added after it; "
                                         "remove that one first",
                                         spec, port, blocker);
        }
        return sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED,
                                 "%s: passt did not listen on host port %u", spec, silent);
}

int passt_add_forward(const PasstPaths *paths, const Forward *f, sd_bus_error *error) {
        _cleanup_(host_listeners_done) HostListeners seen = {};
        _cleanup_free_ char *spec = NULL, *complaint = NULL;
        uint16_t port;
        int r, q;

        r = forward_format(f, &spec);
        if (r < 0)
                return r;
        r = check_ports(paths, f, spec, error);
        if (r < 0)
                return r;

        r = change(paths, "--add", f, &complaint, error);
        if (r < 0)
                return r;
        if (complaint)
                return refuse_rule(spec, complaint, error);

        r = host_port_listening(&seen, f, &port);
        if (r > 0)
                return 0;

        q = passt_remove_forward(paths, f, error);
        if (q < 0)
                return -ETIMEDOUT;
        if (r < 0)
                return error_from_errno(error, -r, "see whether %s listens", spec);
        return explain_silence(paths, f, spec, port, error);
}
