/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* echo-server PORT: sends back what it gets, over TCP and UDP, IPv4 and IPv6 (RFC 862).
 *
 * The guest has its own because busybox has no TCP server that takes hundreds of connections at
 * once, and tests of forwards need one that is not the first thing to give way. A thread per
 * connection keeps it obvious: a client that does not read holds up nobody else. */

#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int bound_socket(int type, uint16_t port) {
        const struct sockaddr_in6 address = {
                .sin6_family = AF_INET6,
                .sin6_port = htons(port),
                .sin6_addr = IN6ADDR_ANY_INIT,
        };
        int fd, yes = 1, no = 0;

        fd = socket(AF_INET6, type, 0);
        if (fd < 0)
                err(1, "socket");

        (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
        (void) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));

        if (bind(fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
                err(1, "bind");

        return fd;
}

static void *serve_connection(void *argument) {
        int fd = (int) (intptr_t) argument;
        char buffer[16384];
        ssize_t n;

        while ((n = read(fd, buffer, sizeof(buffer))) > 0)
                for (ssize_t sent = 0, m; sent < n; sent += m) {
                        m = write(fd, buffer + sent, n - sent);
                        if (m < 0)
                                goto finish;
                }

finish:
        close(fd);
        return NULL;
}

static _Noreturn void *serve_udp(void *argument) {
        int fd = (int) (intptr_t) argument;
        static char buffer[65536];

        for (;;) {
                struct sockaddr_in6 peer;
                socklen_t size = sizeof(peer);
                ssize_t n;

                n = recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *) &peer, &size);
                if (n >= 0)
                        (void) sendto(fd, buffer, n, 0, (struct sockaddr *) &peer, size);
        }
}

static void start(void *(*function)(void *), int fd) {
        pthread_attr_t attributes;
        pthread_t thread;

        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attributes, 64 * 1024);
        if (pthread_create(&thread, &attributes, function, (void *) (intptr_t) fd) != 0)
                close(fd);
        pthread_attr_destroy(&attributes);
}

int main(int argc, char *argv[]) {
        const struct rlimit files = { 4096, 4096 };
        uint16_t port;
        int fd;

        if (argc != 2)
                errx(2, "usage: echo-server PORT");
        port = (uint16_t) atoi(argv[1]);

        signal(SIGPIPE, SIG_IGN);
        (void) setrlimit(RLIMIT_NOFILE, &files);

        start(serve_udp, bound_socket(SOCK_DGRAM, port));

        fd = bound_socket(SOCK_STREAM, port);
        if (listen(fd, 1024) < 0)
                err(1, "listen");

        for (;;) {
                int connection = accept(fd, NULL, NULL);

                if (connection >= 0)
                        start(serve_connection, connection);
        }
}
