/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The host's ports, with real sockets. Every port used is one that the kernel chose a moment ago.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "host-port.h"
#include "test.h"

/* Binds a socket as somebody else's program would, listening if it is TCP. *ret_port is its port.
 */
static int occupy_full(const char *address, int type, uint16_t port, bool v6only, bool reuse,
                       uint16_t *ret_port) {
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
        bool is_ipv6 = strchr(address, ':');
        struct sockaddr *sa = is_ipv6 ? (struct sockaddr *) &in6 : (struct sockaddr *) &in;
        socklen_t size = is_ipv6 ? sizeof(in6) : sizeof(in);
        int yes = reuse, only = v6only, fd;

        inet_pton(is_ipv6 ? AF_INET6 : AF_INET, address,
                  is_ipv6 ? (void *) &in6.sin6_addr : (void *) &in.sin_addr);
        fd = socket(sa->sa_family, type | SOCK_CLOEXEC, 0);
        if (is_ipv6)
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
        if (bind(fd, sa, size) < 0 || (type == SOCK_STREAM && listen(fd, 5) < 0) ||
            getsockname(fd, sa, &size) < 0) {
                close(fd);
                return -1;
        }
        *ret_port = ntohs(is_ipv6 ? in6.sin6_port : in.sin_port);
        return fd;
}

static int occupy(const char *address, int type, uint16_t *ret_port) {
        return occupy_full(address, type, 0, false, true, ret_port);
}

/* A forward without exclusions, so that it needs no cleanup. */
static Forward make(const char *address, ForwardProtocol protocol, unsigned start, unsigned end) {
        Forward f = {
                .protocol = protocol,
                .host = { (uint16_t) start, (uint16_t) end },
                .guest = { 80, (uint16_t) (80 + end - start) },
        };

        if (forward_set_address(&f, address) < 0)
                abort();
        return f;
}

static int probe(const char *address, ForwardProtocol protocol, uint16_t port) {
        Forward f = make(address, protocol, port, port);
        uint16_t failed = 0;
        int r;

        r = host_port_probe(&f, NULL, &failed);
        if (r < 0 && failed != port)
                return -EBADMSG;
        return r;
}

/* With a look of its own. */
static int look_for(const Forward *f, uint16_t *ret_port) {
        HostListeners seen = {};
        int r;

        r = host_port_listening(&seen, f, ret_port);
        host_listeners_done(&seen);
        return r;
}

static int listening(const char *address, ForwardProtocol protocol, uint16_t port) {
        Forward f = make(address, protocol, port, port);
        uint16_t missing = 0;
        int r;

        r = look_for(&f, &missing);
        if (r == 0 && missing != port)
                return -EBADMSG;
        return r;
}

static char *owner(const char *address, ForwardProtocol protocol, uint16_t port) {
        Forward f = make(address, protocol, port, port);
        char *s = NULL;

        return host_port_describe_owner(&f, port, &s) < 0 ? NULL : s;
}

static bool have_ipv6(void) {
        uint16_t port;
        _cleanup_close_ int fd = occupy("::1", SOCK_STREAM, &port);

        return fd >= 0;
}

TEST(a_free_port_is_free) {
        uint16_t port;
        int fd = occupy("127.0.0.1", SOCK_STREAM, &port);

        close(fd);
        CHECK_INT(probe("127.0.0.1", FORWARD_TCP, port), 0);
        CHECK_INT(probe("*", FORWARD_TCP, port), 0);
        CHECK_INT(probe("127.0.0.1", FORWARD_UDP, port), 0);
        CHECK_INT(listening("127.0.0.1", FORWARD_TCP, port), 0);
}

TEST(a_busy_tcp_port) {
        uint16_t port;
        _cleanup_close_ int fd = occupy("127.0.0.1", SOCK_STREAM, &port);

        CHECK_INT(probe("127.0.0.1", FORWARD_TCP, port), -EADDRINUSE);
        CHECK_INT(probe("127.0.0.2", FORWARD_TCP, port), 0);
        CHECK_INT(probe("0.0.0.0", FORWARD_TCP, port), -EADDRINUSE);
        CHECK_INT(probe("*", FORWARD_TCP, port), -EADDRINUSE);
        CHECK_INT(probe("127.0.0.1", FORWARD_UDP, port), 0);
        CHECK_INT(listening("127.0.0.1", FORWARD_TCP, port), 1);
        CHECK_INT(listening("127.0.0.2", FORWARD_TCP, port), 0);
        CHECK_INT(listening("0.0.0.0", FORWARD_TCP, port), 0);
        CHECK_INT(listening("*", FORWARD_TCP, port), 0);
        CHECK_INT(listening("127.0.0.1", FORWARD_UDP, port), 0);
}

TEST(a_busy_udp_port) {
        uint16_t port;
        /* With SO_REUSEADDR, as passt: a probe that sets it too would see nobody. */
        _cleanup_close_ int fd = occupy("127.0.0.1", SOCK_DGRAM, &port);

        CHECK_INT(probe("127.0.0.1", FORWARD_UDP, port), -EADDRINUSE);
        CHECK_INT(probe("*", FORWARD_UDP, port), -EADDRINUSE);
        CHECK_INT(probe("127.0.0.2", FORWARD_UDP, port), 0);
        CHECK_INT(listening("127.0.0.1", FORWARD_UDP, port), 1);
        CHECK_INT(listening("*", FORWARD_UDP, port), 0);
}

TEST(a_connected_udp_socket_does_not_listen) {
        struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = htons(9) };
        _cleanup_free_ char *who = NULL;
        uint16_t port;
        _cleanup_close_ int fd = occupy("127.0.0.1", SOCK_DGRAM, &port);

        peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        CHECK_INT(connect(fd, (struct sockaddr *) &peer, sizeof(peer)), 0);
        CHECK_INT(listening("127.0.0.1", FORWARD_UDP, port), 0);
        /* It has the port, and is in nobody's way. */
        CHECK_INT(probe("127.0.0.1", FORWARD_UDP, port), 0);
        who = owner("127.0.0.1", FORWARD_UDP, port);
        CHECK(who && startswith(who, "process "));
}

TEST(an_ipv4_wildcard) {
        uint16_t port;
        _cleanup_close_ int fd = occupy("0.0.0.0", SOCK_STREAM, &port);

        CHECK_INT(probe("127.0.0.1", FORWARD_TCP, port), -EADDRINUSE);
        CHECK_INT(probe("*", FORWARD_TCP, port), -EADDRINUSE);
        CHECK_INT(listening("0.0.0.0", FORWARD_TCP, port), 1);
        CHECK_INT(listening("127.0.0.1", FORWARD_TCP, port), 0);
        /* All that passt does on a host without IPv6. */
        CHECK_INT(listening("*", FORWARD_TCP, port), 1);
}

TEST(an_ipv6_address) {
        uint16_t port;
        _cleanup_close_ int fd = occupy("::1", SOCK_STREAM, &port);

        if (!have_ipv6())
                return;
        CHECK_INT(probe("::1", FORWARD_TCP, port), -EADDRINUSE);
        CHECK_INT(probe("*", FORWARD_TCP, port), -EADDRINUSE);
        CHECK_INT(probe("127.0.0.1", FORWARD_TCP, port), 0);
        CHECK_INT(listening("::1", FORWARD_TCP, port), 1);
        CHECK_INT(listening("::", FORWARD_TCP, port), 0);
        CHECK_INT(listening("127.0.0.1", FORWARD_TCP, port), 0);
}

TEST(a_dual_stack_wildcard) {
        uint16_t port;
        _cleanup_close_ int fd = occupy("::", SOCK_STREAM, &port);
        _cleanup_free_ char *who = NULL;

        if (!have_ipv6())
                return;
        CHECK_INT(probe("127.0.0.1", FORWARD_TCP, port), -EADDRINUSE);
        CHECK_INT(probe("::1", FORWARD_TCP, port), -EADDRINUSE);
        CHECK_INT(probe("*", FORWARD_TCP, port), -EADDRINUSE);
        CHECK_INT(listening("*", FORWARD_TCP, port), 1);
        CHECK_INT(listening("0.0.0.0", FORWARD_TCP, port), 0);
        CHECK_INT(listening("127.0.0.1", FORWARD_TCP, port), 0);
        who = owner("127.0.0.1", FORWARD_TCP, port);
        CHECK(who && startswith(who, "process "));
}

TEST(an_ipv6_only_wildcard) {
        uint16_t port, same;
        _cleanup_close_ int fd = occupy_full("::", SOCK_STREAM, 0, true, true, &port);
        _cleanup_close_ int other = -EBADF;
        _cleanup_free_ char *who = NULL;

        if (!have_ipv6())
                return;
        CHECK_INT(probe("127.0.0.1", FORWARD_TCP, port), 0);
        CHECK_INT(probe("0.0.0.0", FORWARD_TCP, port), 0);
        CHECK_INT(probe("::1", FORWARD_TCP, port), -EADDRINUSE);
        CHECK_INT(probe("*", FORWARD_TCP, port), -EADDRINUSE);
        CHECK_INT(listening("::", FORWARD_TCP, port), 1);
        CHECK_INT(listening("0.0.0.0", FORWARD_TCP, port), 0);
        who = owner("127.0.0.1", FORWARD_TCP, port);
        CHECK_STR(who, "another process");

        other = occupy_full("0.0.0.0", SOCK_STREAM, port, false, true, &same);
        CHECK(other >= 0);
        CHECK_INT(listening("0.0.0.0", FORWARD_TCP, port), 1);
        CHECK_INT(listening("*", FORWARD_TCP, port), 1);
}

TEST(a_mapped_ipv4_address) {
        uint16_t port;
        /* How Java listens on 127.0.0.1. */
        _cleanup_close_ int fd = occupy("::ffff:127.0.0.1", SOCK_STREAM, &port);
        _cleanup_free_ char *who = NULL;

        if (!have_ipv6())
                return;
        CHECK_INT(probe("127.0.0.1", FORWARD_TCP, port), -EADDRINUSE);
        CHECK_INT(probe("::1", FORWARD_TCP, port), 0);
        who = owner("127.0.0.1", FORWARD_TCP, port);
        CHECK(who && startswith(who, "process "));
}

TEST(bound_without_listening) {
        struct sockaddr_in sa = { .sin_family = AF_INET };
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        _cleanup_free_ char *who = NULL;
        socklen_t size = sizeof(sa);

        sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        CHECK_INT(bind(fd, (struct sockaddr *) &sa, size), 0);
        CHECK_INT(getsockname(fd, (struct sockaddr *) &sa, &size), 0);

        CHECK_INT(probe("127.0.0.1", FORWARD_TCP, ntohs(sa.sin_port)), -EADDRINUSE);
        CHECK_INT(listening("127.0.0.1", FORWARD_TCP, ntohs(sa.sin_port)), 0);
        /* No table shows it. */
        who = owner("127.0.0.1", FORWARD_TCP, ntohs(sa.sin_port));
        CHECK_STR(who, "another process");
}

TEST(time_wait_is_no_obstacle) {
        struct sockaddr_in sa = { .sin_family = AF_INET };
        uint16_t port;
        int server, client, accepted;
        char c;

        server = occupy("127.0.0.1", SOCK_STREAM, &port);
        client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sa.sin_port = htons(port);
        sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        CHECK_INT(connect(client, (struct sockaddr *) &sa, sizeof(sa)), 0);
        accepted = accept(server, NULL, NULL);
        /* Who closes first, waits. */
        close(accepted);
        CHECK_INT(read(client, &c, 1), 0);
        close(client);
        close(server);

        /* Without SO_REUSEADDR the wait is indeed in the way. */
        CHECK_INT(occupy_full("127.0.0.1", SOCK_STREAM, port, false, false, &port), -1);
        CHECK_INT(probe("127.0.0.1", FORWARD_TCP, port), 0);
        CHECK_INT(probe("*", FORWARD_TCP, port), 0);
}

/* Whether this process may bind any port (CAP_NET_BIND_SERVICE), as root may. */
static bool have_privilege(void) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[2] = {};

        syscall(SYS_capget, &header, data);
        return data[0].effective & (1U << CAP_NET_BIND_SERVICE);
}

TEST(privileged_ports) {
        uint16_t lowest = host_port_lowest_unprivileged();
        uint16_t port = lowest;

        CHECK(lowest >= 1);
        if (lowest == 1)
                return;
        /* The highest that is not in use by a real service of this host. */
        do
                port--;
        while (port > 1 && probe("127.0.0.1", FORWARD_TCP, port) == -EADDRINUSE);

        CHECK_INT(probe("127.0.0.1", FORWARD_TCP, port), have_privilege() ? 0 : -EACCES);
        CHECK_INT(probe("127.0.0.1", FORWARD_UDP, port), have_privilege() ? 0 : -EACCES);
        CHECK_INT(probe("*", FORWARD_TCP, port), have_privilege() ? 0 : -EACCES);
}

TEST(addresses_and_interfaces_that_are_not_here) {
        Forward f = make("127.0.0.1", FORWARD_TCP, 49999, 49999);
        uint16_t port = 0;

        CHECK_INT(probe("203.0.113.1", FORWARD_TCP, 49999), -EADDRNOTAVAIL);
        if (have_ipv6())
                CHECK_INT(probe("2001:db8::1", FORWARD_UDP, 49999), -EADDRNOTAVAIL);

        strcpy(f.interface, "nosuchif0");
        CHECK_INT(host_port_probe(&f, NULL, &port), -ENODEV);
        CHECK_INT(port, 49999);
        CHECK_INT(look_for(&f, &port), 0);
}

TEST(an_interface_is_part_of_the_forward) {
        uint16_t port;
        int fd = occupy("127.0.0.1", SOCK_STREAM, &port);
        Forward f = make("127.0.0.1", FORWARD_TCP, port, port);

        strcpy(f.interface, "lo");
        CHECK_INT(host_port_probe(&f, NULL, &port), -EADDRINUSE);
        CHECK_INT(look_for(&f, &port), 0);
        close(fd);
        CHECK_INT(host_port_probe(&f, NULL, &port), 0);

        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2), 0);
        CHECK_INT(bind(fd,
                       (struct sockaddr *) &(struct sockaddr_in){ .sin_family = AF_INET,
                                                                  .sin_port = htons(port),
                                                                  .sin_addr.s_addr =
                                                                          htonl(INADDR_LOOPBACK) },
                       sizeof(struct sockaddr_in)),
                  0);
        CHECK_INT(listen(fd, 5), 0);
        CHECK_INT(look_for(&f, &port), 1);
        CHECK_INT(listening("127.0.0.1", FORWARD_TCP, port), 0);
        close(fd);
}

/* The first of n ports in a row that are free. */
static uint16_t free_range(unsigned n) {
        for (unsigned port = 20000; port < 60000; port += n) {
                Forward f = make("127.0.0.1", FORWARD_TCP, port, port + n - 1);
                uint16_t failed;

                if (host_port_probe(&f, NULL, &failed) == 0)
                        return (uint16_t) port;
        }
        return 0;
}

TEST(a_range_with_one_busy_port) {
        uint16_t start = free_range(5), port = 0;
        _cleanup_close_ int fd = -EBADF;
        Forward f = make("127.0.0.1", FORWARD_TCP, start, start + 4U);
        Forward busy, excluding;
        PortRange exclude;

        CHECK(start > 0);
        fd = occupy_full("127.0.0.1", SOCK_STREAM, (uint16_t) (start + 2), false, true, &port);
        CHECK(fd >= 0);
        CHECK_INT(host_port_probe(&f, NULL, &port), -EADDRINUSE);
        CHECK_INT(port, start + 2);
        CHECK_INT(look_for(&f, &port), 0);
        CHECK_INT(port, start);

        /* What the VM listens on itself is no obstacle, in the same protocol. */
        busy = make("127.0.0.1", FORWARD_TCP, start + 2U, start + 2U);
        CHECK_INT(host_port_probe(&f, &(ForwardList){ &busy, 1 }, &port), 0);
        busy.protocol = FORWARD_UDP;
        CHECK_INT(host_port_probe(&f, &(ForwardList){ &busy, 1 }, &port), -EADDRINUSE);

        /* Nor what is excluded. */
        excluding = f;
        exclude = (PortRange){ (uint16_t) (start + 1), (uint16_t) (start + 2) };
        excluding.exclude = &exclude;
        excluding.n_exclude = 1;
        CHECK_INT(host_port_probe(&excluding, NULL, &port), 0);
}

TEST(a_range_that_listens) {
        uint16_t start = free_range(3), port;
        int fds[3];
        Forward f = make("127.0.0.1", FORWARD_TCP, start, start + 2U);

        for (unsigned i = 0; i < 3; i++)
                fds[i] = occupy_full("127.0.0.1", SOCK_STREAM, (uint16_t) (start + i), false, true,
                                     &port);
        CHECK_INT(look_for(&f, &port), 1);
        close(fds[2]);
        CHECK_INT(look_for(&f, &port), 0);
        CHECK_INT(port, start + 2);
        f.host.end--;
        CHECK_INT(look_for(&f, &port), 1);
        close(fds[0]);
        close(fds[1]);
}

TEST(all_ports) {
        uint16_t port, free_port = 0;
        /* An address of its own, as nobody else uses it. */
        int fd = occupy("127.77.66.55", SOCK_STREAM, &port);
        Forward f = make("127.77.66.55", FORWARD_TCP, 1, 65535);

        CHECK_INT(host_port_probe(&f, NULL, &free_port), 0);
        CHECK_INT(look_for(&f, &free_port), 1);
        close(fd);
        CHECK_INT(look_for(&f, &free_port), 0);
}

TEST(a_port_to_be_picked_has_nothing_to_probe) {
        CHECK_INT(probe("127.0.0.1", FORWARD_TCP, 0), 0);
}

TEST(the_owner_is_this_process) {
        _cleanup_free_ char *tcp = NULL, *udp = NULL;
        uint16_t tcp_port, udp_port;
        _cleanup_close_ int tcp_fd = occupy("127.0.0.1", SOCK_STREAM, &tcp_port);
        _cleanup_close_ int udp_fd = occupy("0.0.0.0", SOCK_DGRAM, &udp_port);
        char expected[64], comm[32] = "";
        FILE *file = fopen("/proc/self/comm", "re");

        CHECK(file && fgets(comm, sizeof(comm), file));
        fclose(file);
        comm[strcspn(comm, "\n")] = '\0';
        snprintf(expected, sizeof(expected), "process %d (%s)", getpid(), comm);

        tcp = owner("*", FORWARD_TCP, tcp_port);
        CHECK_STR(tcp, expected);
        udp = owner("127.0.0.1", FORWARD_UDP, udp_port);
        CHECK_STR(udp, expected);
}

TEST(the_owner_of_a_free_port_cannot_be_told) {
        _cleanup_free_ char *who = NULL;
        uint16_t port;

        close(occupy("127.0.0.1", SOCK_STREAM, &port));
        who = owner("127.0.0.1", FORWARD_TCP, port);
        CHECK_STR(who, "another process");
}

TEST(the_owner_has_an_odd_name) {
        _cleanup_free_ char *who = NULL;
        char saved[32] = "", expected[64];
        uint16_t port;
        _cleanup_close_ int fd = occupy("127.0.0.1", SOCK_STREAM, &port);

        pthread_getname_np(pthread_self(), saved, sizeof(saved));
        pthread_setname_np(pthread_self(), "a\xff\x1b)b");
        who = owner("127.0.0.1", FORWARD_TCP, port);
        pthread_setname_np(pthread_self(), saved);
        /* In two parts, or it would be a trigraph. */
        snprintf(expected, sizeof(expected),
                 "process %d (a?"
                 "?)b)",
                 getpid());
        CHECK_STR(who, expected);
}

TEST(pick_is_free_and_not_reserved) {
        Forward f = make("127.0.0.1", FORWARD_TCP, 0, 0);
        Forward reserved[2];
        uint16_t port = 0, other = 0;

        CHECK_INT(host_port_pick(&f, &(ForwardList){}, &port), 0);
        CHECK(port >= host_port_lowest_unprivileged());
        CHECK_INT(probe("127.0.0.1", FORWARD_TCP, port), 0);

        /* Most of what the kernel may hand out is reserved now. */
        reserved[0] = make("*", FORWARD_TCP, 1, port - 1U);
        reserved[1] = make("127.0.0.1", FORWARD_UDP, port, port);
        for (unsigned i = 0; i < 20; i++) {
                CHECK_INT(host_port_pick(&f, &(ForwardList){ reserved, 2 }, &other), 0);
                CHECK(other >= port);
        }
}

TEST(pick_gives_up_when_all_is_reserved) {
        Forward f = make("*", FORWARD_UDP, 0, 0);
        Forward reserved = make("*", FORWARD_UDP, 1, 65535);
        uint16_t port;

        CHECK_INT(host_port_pick(&f, &(ForwardList){ &reserved, 1 }, &port), -EADDRINUSE);
}

TEST(pick_for_an_address_that_is_not_here) {
        Forward f = make("203.0.113.1", FORWARD_TCP, 0, 0);
        uint16_t port;

        CHECK_INT(host_port_pick(&f, &(ForwardList){}, &port), -EADDRNOTAVAIL);
}

static void *probe_in_thread(void *arg) {
        uint16_t port = *(uint16_t *) arg;
        size_t failures = 0;

        for (unsigned i = 0; i < 200; i++) {
                failures += probe("127.0.0.1", FORWARD_UDP, port) != 0;
                failures += probe("*", FORWARD_TCP, port) != 0;
        }
        return (void *) failures;
}

TEST(probes_do_not_meet_each_other) {
        pthread_t threads[8];
        size_t failures = 0;
        uint16_t port;

        close(occupy("127.0.0.1", SOCK_DGRAM, &port));
        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                CHECK_INT(pthread_create(&threads[i], NULL, probe_in_thread, &port), 0);
        for (size_t i = 0; i < ELEMENTSOF(threads); i++) {
                void *result;

                pthread_join(threads[i], &result);
                failures += (size_t) result;
        }
        CHECK_INT(failures, 0);
}

static int listen_as_another_user(pid_t *ret_pid, uint16_t *ret_port) {
        int fds[2];
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        pid = fork();
        if (pid == 0) {
                uint16_t port = 0;

                if (setresuid(65534, 65534, 65534) < 0 ||
                    occupy("127.0.0.1", SOCK_STREAM, &port) < 0 ||
                    write(fds[1], &port, sizeof(port)) < 0)
                        _exit(1);
                pause();
                _exit(0);
        }
        close(fds[1]);
        *ret_pid = pid;
        if (read(fds[0], ret_port, sizeof(*ret_port)) != sizeof(*ret_port))
                *ret_port = 0;
        close(fds[0]);
        return 0;
}

TEST(a_port_of_another_user_is_not_ours) {
        _cleanup_free_ char *who = NULL;
        uint16_t port;
        pid_t pid = 0;

        /* Only root can be two users. */
        if (geteuid() != 0)
                return;
        CHECK_INT(listen_as_another_user(&pid, &port), 0);
        if (port != 0) {
                CHECK_INT(probe("127.0.0.1", FORWARD_TCP, port), -EADDRINUSE);
                CHECK_INT(listening("127.0.0.1", FORWARD_TCP, port), 0);
                who = owner("127.0.0.1", FORWARD_TCP, port);
        }
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        CHECK(port != 0 && who);
        CHECK(startswith(who, "process ") || startswith(who, "a process of user 65534"));
}

TEST(a_process_that_may_not_be_looked_into) {
        _cleanup_free_ char *who = NULL;
        uint16_t port;
        _cleanup_close_ int fd = occupy("127.0.0.1", SOCK_STREAM, &port);
        int pipe_fds[2];
        char c;
        pid_t pid;

        /* passt makes itself undumpable; a child of ours can do the same. Root sees it anyhow. */
        CHECK_INT(pipe2(pipe_fds, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                c = (char) prctl(PR_SET_DUMPABLE, 0);
                if (write(pipe_fds[1], &c, 1) == 1)
                        pause();
                _exit(0);
        }
        CHECK_INT(read(pipe_fds[0], &c, 1), 1);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        close(TAKE_FD(fd));

        who = owner("127.0.0.1", FORWARD_TCP, port);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        CHECK(who);
        CHECK(startswith(who, "process ") || streq(who, "another process of yours"));
        CHECK(geteuid() == 0 || streq(who, "another process of yours"));
}

TEST_MAIN(a_free_port_is_free, a_busy_tcp_port, a_busy_udp_port,
          a_connected_udp_socket_does_not_listen, an_ipv4_wildcard, an_ipv6_address,
          a_dual_stack_wildcard, an_ipv6_only_wildcard, a_mapped_ipv4_address,
          bound_without_listening, time_wait_is_no_obstacle, privileged_ports,
          addresses_and_interfaces_that_are_not_here, an_interface_is_part_of_the_forward,
          a_range_with_one_busy_port, a_range_that_listens, all_ports,
          a_port_to_be_picked_has_nothing_to_probe, the_owner_is_this_process,
          the_owner_of_a_free_port_cannot_be_told, the_owner_has_an_odd_name,
          pick_is_free_and_not_reserved, pick_gives_up_when_all_is_reserved,
          pick_for_an_address_that_is_not_here, probes_do_not_meet_each_other,
          a_port_of_another_user_is_not_ours, a_process_that_may_not_be_looked_into)
