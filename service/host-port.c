/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Two ways of asking the kernel about a port, each for what it knows best.
 *
 * Can it be bound? Only bind(2) knows: it weighs privileges, addresses, interfaces and sockets that
 * are bound but not listening, which no table shows. So we bind, as passt(1) will, and close. We
 * don't listen: bind(2) refuses a port that somebody listens on even with SO_REUSEADDR, and without
 * listen(2) nobody can connect to us by mistake, and a copy of our socket in a child that is about
 * to call execve(2) is in nobody's way. UDP has no such distinction: there SO_REUSEADDR would let
 * us share the port of anyone who set it too, passt included, so it stays off, unless nobody hears
 * the port at large: sockets connected to one peer each, as passt keeps them for minutes after a
 * forward is gone, are in nobody's way. Every address of
 * both families is one dual-stack IPv6 socket, which collides with IPv4 sockets as well; on a host
 * without IPv6 it is an IPv4 socket.
 *
 * Who has it? The socket tables of NETLINK_SOCK_DIAG, sock_diag(7), say address, user and inode of
 * each socket; /proc/PID/fd leads from an inode to a process, if we may look there. passt makes
 * itself undumpable, so that its own user may not, hence the answers of less and less precision.
 *
 * Deliberately absent: any guard against a port that is taken between the question and its use.
 * Whoever uses the port asks host_port_listening() afterwards. */

#include "host-port.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/socket.h>

#include "util.h"

DEFINE_CLEANUP(DIR *, closedir);
#define _cleanup_closedir_ _cleanup_(closedirp)

/* Above this a range stands for "all ports": passt forwards what it can get of it and leaves out
 * the rest, and to bind thousands of ports only to know would be rude. */
#define PROBE_MAX 4096

/* How often we ask the kernel for a free port before we believe that every one is reserved. */
#define PICK_ATTEMPTS 1000

/* Binding */

static socklen_t socket_address(const Forward *f, int family, uint16_t port,
                                struct sockaddr_storage *ret) {
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };

        if (family == AF_INET6) {
                if (f->family == AF_INET6)
                        in6.sin6_addr = f->address.in6;
                memcpy(ret, &in6, sizeof(in6));
                return sizeof(in6);
        }

        if (f->family == AF_INET)
                in.sin_addr = f->address.in;
        memcpy(ret, &in, sizeof(in));
        return sizeof(in);
}

static int set_options(int fd, const Forward *f, int family, bool share) {
        int yes = 1, v6only = f->family == AF_INET6;

        if (share && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0)
                return -errno;

        if (family == AF_INET6 &&
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) < 0)
                return -errno;

        if (!isempty(f->interface) && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, f->interface,
                                                 (socklen_t) strlen(f->interface)) < 0)
                return -errno;

        return 0;
}

static int bind_port(const Forward *f, int family, uint16_t port, bool share, int *ret_fd) {
        _cleanup_close_ int fd = -EBADF;
        struct sockaddr_storage address;
        socklen_t size;
        int r;

        fd = socket(family, (f->protocol == FORWARD_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC,
                    0);
        if (fd < 0)
                return -errno;

        r = set_options(fd, f, family, share);
        if (r < 0)
                return r;

        size = socket_address(f, family, port, &address);
        if (bind(fd, (struct sockaddr *) &address, size) < 0)
                return -errno;

        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* As bind_port() in the family of the forward, which may be both. */
static int bind_port_any(const Forward *f, uint16_t port, bool share, int *ret_fd) {
        int r;

        if (f->family != AF_UNSPEC)
                return bind_port(f, f->family, port, share, ret_fd);

        r = bind_port(f, AF_INET6, port, share, ret_fd);
        if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)
                r = bind_port(f, AF_INET, port, share, ret_fd);
        return r;
}

static int is_heard(const Forward *f, uint16_t port);

/* Binds the port for a moment. *ret_bound is the same port or, for port 0, the kernel's choice. */
static int try_port(const Forward *f, uint16_t port, uint16_t *ret_bound) {
        /* Two workers that try one UDP port at a time would find nobody there but each other. */
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        struct sockaddr_storage address;
        socklen_t size = sizeof(address);
        int fd, r;

        pthread_mutex_lock(&lock);
        r = bind_port_any(f, port, f->protocol == FORWARD_TCP, &fd);
        if (r == -EADDRINUSE && f->protocol == FORWARD_UDP && is_heard(f, port) == 0)
                r = bind_port_any(f, port, true, &fd);
        if (r == 0) {
                if (getsockname(fd, (struct sockaddr *) &address, &size) < 0)
                        r = -errno;
                close(fd);
        }
        pthread_mutex_unlock(&lock);
        if (r < 0)
                return r;

        *ret_bound =
                ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) &address)->sin6_port
                                                    : ((struct sockaddr_in *) &address)->sin_port);
        return 0;
}

/* The forward reduced to one host port. Borrows, so it needs no cleanup. */
static Forward single_port(const Forward *f, uint16_t port) {
        Forward single = *f;

        single.host = (PortRange){ port, port };
        single.exclude = NULL;
        single.n_exclude = 0;
        return single;
}

int host_port_probe(const Forward *f, const ForwardList *except, uint16_t *ret_port) {
        if (f->host.start == 0 || f->host.end - f->host.start >= PROBE_MAX)
                return 0;

        for (unsigned port = f->host.start; port <= f->host.end; port++) {
                Forward single = single_port(f, (uint16_t) port);
                uint16_t bound;
                int r;

                if (!forward_has_port(f, (uint16_t) port))
                        continue;
                if (except && forward_list_find_conflict(except, &single))
                        continue;

                r = try_port(f, (uint16_t) port, &bound);
                if (r < 0) {
                        *ret_port = (uint16_t) port;
                        return r;
                }
        }
        return 0;
}

int host_port_pick(const Forward *f, const ForwardList *reserved, uint16_t *ret_port) {
        uint16_t lowest = host_port_lowest_unprivileged();

        for (unsigned i = 0; i < PICK_ATTEMPTS; i++) {
                Forward single;
                uint16_t port;
                int r;

                r = try_port(f, 0, &port);
                if (r < 0)
                        return r;

                single = single_port(f, port);
                if (port < lowest || forward_list_find_conflict(reserved, &single))
                        continue;

                *ret_port = port;
                return 0;
        }
        return -EADDRINUSE;
}

uint16_t host_port_lowest_unprivileged(void) {
        _cleanup_close_ int fd = -EBADF;
        char text[16] = "";
        long port;

        fd = open("/proc/sys/net/ipv4/ip_unprivileged_port_start", O_RDONLY | O_CLOEXEC);
        if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
                return IPPORT_RESERVED;

        port = strtol(text, NULL, 10);
        if (port < 0 || port > UINT16_MAX)
                return IPPORT_RESERVED;
        return port == 0 ? 1 : (uint16_t) port; /* 0: none is privileged, and 1 is the first */
}

/* The kernel's socket tables */

typedef struct HostSocket {
        ForwardProtocol protocol;
        int family; /* AF_INET also for an IPv6 socket bound to a mapped IPv4 address */
        union {
                struct in_addr in;
                struct in6_addr in6;
        } address;
        bool dual_stack; /* AF_INET6, on every address, IPv4 too */
        uint16_t port;
        uint32_t interface; /* index, 0: any */
        uid_t uid;
        uint32_t inode;
} Socket;

/* Called for each socket; anything but 0 ends the dump and is returned by it. */
typedef int (*SocketFunction)(const Socket *s, void *userdata);

static bool is_wildcard(const Socket *s) {
        return s->family == AF_INET ? s->address.in.s_addr == INADDR_ANY
                                    : IN6_IS_ADDR_UNSPECIFIED(&s->address.in6);
}

/* The kernel's INET_DIAG_SKV6ONLY attribute behind the message; it is there for IPv6 sockets. */
static bool is_v6only(const struct nlmsghdr *header) {
        const char *p =
                (const char *) NLMSG_DATA(header) + NLMSG_ALIGN(sizeof(struct inet_diag_msg));
        const char *end = (const char *) header + header->nlmsg_len;

        while (end - p >= (ssize_t) sizeof(struct nlattr)) {
                const struct nlattr *attribute = (const struct nlattr *) p;

                if (attribute->nla_len < NLA_HDRLEN || attribute->nla_len > end - p)
                        break;
                if (attribute->nla_type == INET_DIAG_SKV6ONLY && attribute->nla_len > NLA_HDRLEN)
                        return p[NLA_HDRLEN] != 0;
                p += NLA_ALIGN(attribute->nla_len);
        }
        return false;
}

static void read_socket(const struct nlmsghdr *header, Socket *ret) {
        const struct inet_diag_msg *m = NLMSG_DATA(header);
        Socket s = {
                .family = m->idiag_family,
                .port = ntohs(m->id.idiag_sport),
                .interface = m->id.idiag_if,
                .uid = m->idiag_uid,
                .inode = m->idiag_inode,
        };

        memcpy(&s.address, m->id.idiag_src, sizeof(s.address));
        if (s.family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&s.address.in6)) {
                s.family = AF_INET;
                memcpy(&s.address.in, &m->id.idiag_src[3], sizeof(s.address.in));
        }
        s.dual_stack = s.family == AF_INET6 && is_wildcard(&s) && !is_v6only(header);

        *ret = s;
}

static int request_dump(int fd, int family, ForwardProtocol protocol, uint32_t states) {
        struct {
                struct nlmsghdr header;
                struct inet_diag_req_v2 request;
        } message = {
                .header.nlmsg_len = sizeof(message),
                .header.nlmsg_type = SOCK_DIAG_BY_FAMILY,
                .header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                .request.sdiag_family = (uint8_t) family,
                .request.sdiag_protocol = protocol == FORWARD_TCP ? IPPROTO_TCP : IPPROTO_UDP,
                .request.idiag_states = states,
        };

        return send(fd, &message, sizeof(message), 0) < 0 ? -errno : 0;
}

/* What a dump ends with: nothing, or the errno that ended it early. */
static int read_done(const struct nlmsghdr *header) {
        int r = 0;

        if (header->nlmsg_len >= NLMSG_LENGTH(sizeof(r)))
                memcpy(&r, NLMSG_DATA(header), sizeof(r));
        return r < 0 ? r : 0;
}

/* Calls the function for each socket of one datagram. Returns as SocketFunction. */
static int read_datagram(const void *data, size_t size, SocketFunction function, void *userdata,
                         bool *ret_done) {
        for (const struct nlmsghdr *h = data; NLMSG_OK(h, size); h = NLMSG_NEXT(h, size)) {
                Socket s;
                int r;

                if (h->nlmsg_type == NLMSG_DONE) {
                        *ret_done = true;
                        return read_done(h);
                }
                if (h->nlmsg_type == NLMSG_ERROR)
                        return ((const struct nlmsgerr *) NLMSG_DATA(h))->error;
                if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
                    h->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
                        continue;

                read_socket(h, &s);
                r = function(&s, userdata);
                if (r != 0)
                        return r;
        }
        *ret_done = false;
        return 0;
}

static int dump_family(int family, ForwardProtocol protocol, uint32_t states,
                       SocketFunction function, void *userdata) {
        _cleanup_close_ int fd = -EBADF;
        bool done = false;
        int r;

        fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
        if (fd < 0)
                return -errno;

        r = request_dump(fd, family, protocol, states);
        while (r == 0 && !done) {
                /* The kernel fills no more than this into one datagram. */
                _Alignas(struct nlmsghdr) char buffer[32 * 1024];
                ssize_t n;

                n = recv(fd, buffer, sizeof(buffer), 0);
                if (n >= 0)
                        r = read_datagram(buffer, (size_t) n, function, userdata, &done);
                else if (errno != EINTR)
                        r = -errno;
        }
        return r;
}

/* Both families in any case: an IPv6 socket may be one for IPv4. */
static int dump_sockets(ForwardProtocol protocol, uint32_t states, SocketFunction function,
                        void *userdata) {
        int r;

        r = dump_family(AF_INET, protocol, states, function, userdata);
        return r != 0 ? r : dump_family(AF_INET6, protocol, states, function, userdata);
}

/* What listens */

enum {
        IPV4 = 1 << 0,
        IPV6 = 1 << 1,
        BOTH = IPV4 | IPV6,
};

/* Which families of a port are listened on, at the forward's own address. */
typedef struct Listeners {
        uint8_t mine;
        uint8_t others;
} Listeners;

static bool is_at_address(const Socket *s, const Forward *f) {
        if (f->family == AF_UNSPEC)
                return is_wildcard(s);
        if (s->family != f->family)
                return false;
        return s->family == AF_INET ? s->address.in.s_addr == f->address.in.s_addr
                                    : IN6_ARE_ADDR_EQUAL(&s->address.in6, &f->address.in6);
}

static void note_listener(const Socket *s, const Forward *f, uint32_t interface, Listeners *ports) {
        Listeners *listeners;
        uint8_t families = s->family == AF_INET ? IPV4 : s->dual_stack ? BOTH : IPV6;

        if (s->port < f->host.start || s->port > f->host.end || s->interface != interface ||
            !is_at_address(s, f))
                return;

        listeners = &ports[s->port - f->host.start];
        if (s->uid == geteuid())
                listeners->mine |= families;
        else
                listeners->others |= families;
}

/* passt does without a family that the host does without, so one is enough for "every address" if
 * the other is not somebody else's. */
static bool is_listened_on(const Forward *f, const Listeners *listeners) {
        if (f->family == AF_UNSPEC)
                return listeners->mine == BOTH || (listeners->mine != 0 && listeners->others == 0);
        return listeners->mine != 0;
}

typedef struct Collection {
        HostListeners *seen;
        ForwardProtocol protocol;
        size_t n_allocated;
} Collection;

static int collect_socket(const Socket *s, void *userdata) {
        Collection *c = userdata;

        if (c->seen->n >= c->n_allocated) {
                size_t n = 2 * c->seen->n + 64;
                Socket *sockets = reallocarray(c->seen->sockets, n, sizeof(Socket));

                if (!sockets)
                        return -ENOMEM;
                c->seen->sockets = sockets;
                c->n_allocated = n;
        }
        c->seen->sockets[c->seen->n] = *s;
        c->seen->sockets[c->seen->n++].protocol = c->protocol;
        return 0;
}

static int look(HostListeners *seen, ForwardProtocol protocol) {
        Collection c = { .seen = seen, .protocol = protocol, .n_allocated = seen->n };
        bool *done = protocol == FORWARD_TCP ? &seen->tcp_seen : &seen->udp_seen;
        int r;

        if (*done)
                return 0;
        /* A connected UDP socket hears its peer alone, so it does not count. */
        r = dump_sockets(protocol, 1U << (protocol == FORWARD_TCP ? TCP_LISTEN : TCP_CLOSE),
                         collect_socket, &c);
        *done = r >= 0;
        return r;
}

void host_listeners_done(HostListeners *seen) {
        free(seen->sockets);
        *seen = (HostListeners){};
}

int host_port_listening(HostListeners *seen, const Forward *f, uint16_t *ret_port) {
        _cleanup_free_ Listeners *ports = NULL;
        bool all = f->host.start == 1 && f->host.end == UINT16_MAX;
        uint32_t interface = 0;
        int r;

        *ret_port = f->host.start;
        if (!isempty(f->interface)) {
                interface = if_nametoindex(f->interface);
                if (interface == 0)
                        return 0; /* gone, and every socket bound to it deaf */
        }

        r = look(seen, f->protocol);
        if (r < 0)
                return r;
        ports = new0(Listeners, f->host.end - f->host.start + 1);
        if (!ports)
                return -ENOMEM;
        for (size_t i = 0; i < seen->n; i++)
                if (seen->sockets[i].protocol == f->protocol)
                        note_listener(&seen->sockets[i], f, interface, ports);

        for (unsigned port = f->host.start; port <= f->host.end; port++) {
                if (!forward_has_port(f, (uint16_t) port))
                        continue;
                if (is_listened_on(f, &ports[port - f->host.start]) == all) {
                        *ret_port = (uint16_t) port;
                        return all;
                }
        }
        return !all;
}

/* Who has it */

typedef struct OwnerSearch {
        const Forward *forward;
        uint32_t interface;
        uint16_t port;
        Socket found;
} OwnerSearch;

/* Whether the socket is in the way of the forward, its port apart. */
static bool is_in_the_way(const Socket *s, const Forward *f) {
        if (f->family == AF_UNSPEC || s->dual_stack)
                return true;
        if (s->family != f->family)
                return false;
        if (is_wildcard(s) || is_at_address(s, f))
                return true;
        return f->family == AF_INET ? f->address.in.s_addr == INADDR_ANY
                                    : IN6_IS_ADDR_UNSPECIFIED(&f->address.in6);
}

static int find_owner(const Socket *s, void *userdata) {
        OwnerSearch *search = userdata;

        if (s->port != search->port || !is_in_the_way(s, search->forward))
                return 0;
        if (s->interface != 0 && search->interface != 0 && s->interface != search->interface)
                return 0;

        search->found = *s;
        return 1;
}

/* Whether a UDP socket that is not connected is in the way of the port. 1, 0 or a negative errno.
 */
static int is_heard(const Forward *f, uint16_t port) {
        OwnerSearch search = { .forward = f, .port = port };

        return dump_sockets(FORWARD_UDP, 1U << TCP_CLOSE, find_owner, &search);
}

/* Whether one of the process's descriptors is what the link text says. False also if we may not
 * know. */
static bool process_has(int proc_fd, const char *pid, const char *link) {
        _cleanup_closedir_ DIR *directory = NULL;
        char path[NAME_MAX + sizeof("/fd")];
        struct dirent *entry;
        int fd;

        snprintf(path, sizeof(path), "%s/fd", pid);
        fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return false;
        directory = fdopendir(fd);
        if (!directory) {
                close(fd);
                return false;
        }

        while ((entry = readdir(directory))) {
                char target[64];
                ssize_t n = readlinkat(fd, entry->d_name, target, sizeof(target) - 1);

                if (n < 0)
                        continue;
                target[n] = '\0';
                if (streq(target, link))
                        return true;
        }
        return false;
}

/* The process's name, made fit for a message: a process may call itself anything. */
static void read_comm(int proc_fd, const char *pid, char *buf, size_t size) {
        _cleanup_close_ int fd = -EBADF;
        char path[NAME_MAX + sizeof("/comm")];
        ssize_t n = -1;

        snprintf(path, sizeof(path), "%s/comm", pid);
        fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
                n = read(fd, buf, size - 1);

        buf[n > 0 ? n : 0] = '\0';
        buf[strcspn(buf, "\n")] = '\0';
        for (char *c = buf; *c; c++)
                if (*c < ' ' || *c > '~')
                        *c = '?';
}

/* "process 1234 (nginx)". Returns 0 with *ret NULL if no process that we may look into has it. */
static int describe_process(uint32_t inode, char **ret) {
        _cleanup_closedir_ DIR *proc = NULL;
        struct dirent *entry;
        char link[32], comm[32];

        *ret = NULL;
        proc = opendir("/proc");
        if (!proc)
                return 0;

        snprintf(link, sizeof(link), "socket:[%u]", inode);
        while ((entry = readdir(proc))) {
                if (!isdigit((unsigned char) entry->d_name[0]))
                        continue;
                if (!process_has(dirfd(proc), entry->d_name, link))
                        continue;

                read_comm(dirfd(proc), entry->d_name, comm, sizeof(comm));
                if (asprintf(ret, "process %s (%s)", entry->d_name, comm) < 0) {
                        *ret = NULL;
                        return -ENOMEM;
                }
                return 0;
        }
        return 0;
}

/* "a process of user 33 (www-data)" */
static int describe_user(uid_t uid, char **ret) {
        struct passwd storage, *user = NULL;
        char buffer[4096];
        int n;

        if (uid == geteuid())
                n = asprintf(ret, "another process of yours");
        else if (getpwuid_r(uid, &storage, buffer, sizeof(buffer), &user) == 0 && user)
                n = asprintf(ret, "a process of user %u (%s)", uid, user->pw_name);
        else
                n = asprintf(ret, "a process of user %u", uid);
        return n < 0 ? -ENOMEM : 0;
}

int host_port_describe_owner(const Forward *f, uint16_t port, char **ret) {
        OwnerSearch search = { .forward = f, .port = port };
        uint32_t states = f->protocol == FORWARD_TCP ? 1U << TCP_LISTEN
                                                     : 1U << TCP_CLOSE | 1U << TCP_ESTABLISHED;
        int r;

        if (!isempty(f->interface))
                search.interface = if_nametoindex(f->interface);

        r = dump_sockets(f->protocol, states, find_owner, &search);
        if (r <= 0) {
                /* Not listening, gone by now, or the kernel does not say. */
                *ret = strdup("another process");
                return *ret ? 0 : -ENOMEM;
        }

        r = describe_process(search.found.inode, ret);
        if (r < 0 || *ret)
                return r;
        return describe_user(search.found.uid, ret);
}
