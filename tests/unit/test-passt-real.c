/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* passt.h with the passt and pesto that are installed; skipped where they can't do what we need.
 * No VM is connected: passt listens all the same. Files are in a folder of our own below /tmp,
 * where passt's AppArmor profile lets it make some; ports are such as are free now. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "error.h"
#include "host-port.h"
#include "passt.h"
#include "process.h"
#include "test.h"
#include "util.h"

#define UUID "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"

static PasstPaths paths, other_paths;
static char directory[] = "/tmp/uservm-passt-XXXXXX";

#define _cleanup_error_ _cleanup_(sd_bus_error_free)

/* Says what went wrong, for a result that is not the expected one. */
#define CHECK_RESULT(expression, expected, error)                                                  \
        do {                                                                                       \
                int _r = (expression);                                                             \
                if (_r != (expected))                                                              \
                        printf("# %s\n", (error).message ?: strerror(-_r));                        \
                CHECK_INT(_r, expected);                                                           \
        } while (0)

#define CHECK_ERROR(error, expected_name, part)                                                    \
        do {                                                                                       \
                CHECK_STR((error).name, expected_name);                                            \
                if (!strstr((error).message, part))                                                \
                        printf("# message: %s\n", (error).message);                                \
                CHECK(strstr((error).message, part));                                              \
        } while (0)

/* Ports and forwards */

/* The first of n consecutive ports that are free for every address and both protocols. */
static uint16_t free_ports(uint16_t n) {
        static uint16_t next = 20000;

        for (;;) {
                Forward f = { .host = { next, (uint16_t) (next + n - 1) } };
                uint16_t port = next, busy;

                next = (uint16_t) (next + n);
                f.guest = f.host;
                if (host_port_probe(&f, NULL, &busy) < 0)
                        continue;
                f.protocol = FORWARD_UDP;
                if (host_port_probe(&f, NULL, &busy) == 0)
                        return port;
        }
}

/* A forward of host ports from start to end at an address, to guest ports 1000 above. */
static Forward make_forward(const char *address, ForwardProtocol protocol, uint16_t start,
                            uint16_t end) {
        Forward f = { .protocol = protocol, .host = { start, end } };

        f.guest = (PortRange){ (uint16_t) (start + 1000), (uint16_t) (end + 1000) };
        forward_set_address(&f, address);
        return f;
}

static Forward tcp(uint16_t port) {
        return make_forward("127.0.0.1", FORWARD_TCP, port, port);
}

static bool has_ipv6(void) {
        const Forward f = make_forward("::1", FORWARD_TCP, 50000, 50000);
        uint16_t port;

        return host_port_probe(&f, NULL, &port) != -EADDRNOTAVAIL;
}

static int listening(const Forward *f) {
        _cleanup_(host_listeners_done) HostListeners seen = {};
        uint16_t port;

        return host_port_listening(&seen, f, &port);
}

/* A server of this very user's on 127.0.0.1, as are most that are in the way. */
static int occupy(uint16_t port, ForwardProtocol protocol) {
        struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_port = htons(port),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd, yes = 1;

        fd = socket(AF_INET, (protocol == FORWARD_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC,
                    0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
        if (bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 ||
            (protocol == FORWARD_TCP && listen(fd, 1) < 0)) {
                close(fd);
                return -errno;
        }
        return fd;
}

/* Whether passt's table is these forwards and no more. */
static bool table_is(const Forward *forwards, size_t n) {
        _cleanup_forward_list_ ForwardList table = {};
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        if (passt_list_forwards(&paths, &table, &error) < 0)
                return false;
        for (size_t i = 0; i < n; i++)
                if (!passt_table_take(&table, &forwards[i]))
                        return false;
        return table.n == 0;
}

/* Processes */

static int start(const Forward *forwards, size_t n, pid_t *ret_pid, sd_bus_error *error) {
        const ForwardList list = { .items = (Forward *) forwards, .n = n };
        const PasstConfig config = { .hostname = "test", .mtu = 1500, .forwards = &list };

        return passt_start(&paths, &config, ret_pid, error);
}

static int start_empty(pid_t *ret_pid) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = start(NULL, 0, ret_pid, &error);
        if (r < 0)
                printf("# %s\n", error.message);
        return r;
}

static bool exists(const char *path) {
        struct stat st;

        return lstat(path, &st) == 0;
}

static bool nothing_is_left(void) {
        return !exists(paths.socket) && !exists(paths.control) && !exists(paths.pid_file);
}

/* Whether the process is there; one that has ended and was not waited for is not. */
static bool is_running(pid_t pid) {
        _cleanup_close_ int pidfd = pidfd_open(pid, 0);
        struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };

        return pidfd >= 0 && poll(&poll_fd, 1, 0) == 0;
}

/* A process that is not passt. */
static pid_t run_sleep(const char *const argv[]) {
        pid_t pid = fork();

        if (pid == 0) {
                execvp("sleep", (char *const *) argv);
                _exit(1);
        }
        return pid;
}

static void end(pid_t pid) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
}

static int write_pid_file(pid_t pid) {
        FILE *file = fopen(paths.pid_file, "we");

        if (!file)
                return -errno;
        fprintf(file, "%d\n", (int) pid);
        return fclose(file) == 0 ? 0 : -errno;
}

/* Start and stop */

TEST(features_are_there) {
        _cleanup_free_ char *reason = NULL;
        bool vhost_user, control;

        CHECK_INT(passt_features(&vhost_user, &control, &reason), 0);
        CHECK(vhost_user);
        CHECK(control);
        CHECK(!reason);
}

TEST(without_the_programs_there_are_no_features) {
        _cleanup_free_ char *path = strdup(getenv("PATH")), *reason = NULL;
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        bool vhost_user, control;
        pid_t pid;
        int r;

        setenv("PATH", directory, 1);
        r = passt_features(&vhost_user, &control, &reason);
        CHECK_INT(start(NULL, 0, &pid, &error), -ENOENT);
        setenv("PATH", path, 1);
        CHECK_INT(r, 0);
        CHECK(!vhost_user);
        CHECK(!control);
        CHECK_STR(reason, "passt is not installed.");
        CHECK(nothing_is_left());
}

TEST(starts_with_every_forward_and_stops) {
        uint16_t p = free_ports(20);
        Forward forwards[] = {
                make_forward("127.0.0.1", FORWARD_TCP, p, p),
                make_forward("127.0.0.1", FORWARD_UDP, p, p),
                make_forward(has_ipv6() ? "::1" : "127.0.0.1", FORWARD_TCP, (uint16_t) (p + 6),
                             (uint16_t) (p + 9)),
                make_forward("*", FORWARD_TCP, (uint16_t) (p + 4), (uint16_t) (p + 4)),
                make_forward("0.0.0.0", FORWARD_UDP, (uint16_t) (p + 5), (uint16_t) (p + 5)),
                make_forward("127.0.0.1", FORWARD_TCP, (uint16_t) (p + 10), (uint16_t) (p + 19)),
        };
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        struct stat st;
        pid_t pid;

        strcpy(forwards[4].interface, "lo");
        forwards[5].exclude = (PortRange[]){ { (uint16_t) (p + 12), (uint16_t) (p + 14) } };
        forwards[5].n_exclude = 1;

        CHECK_RESULT(start(forwards, ELEMENTSOF(forwards), &pid, &error), 0, error);
        CHECK(is_running(pid));
        for (size_t i = 0; i < ELEMENTSOF(forwards); i++)
                CHECK_INT(listening(&forwards[i]), 1);
        CHECK(table_is(forwards, ELEMENTSOF(forwards)));

        CHECK_INT(stat(paths.socket, &st), 0);
        CHECK_INT(st.st_mode & 0777, 0600);
        CHECK_INT(stat(paths.control, &st), 0);
        CHECK_INT(st.st_mode & 0777, 0600);
        *strrchr(paths.socket, '/') = '\0';
        CHECK_INT(stat(paths.socket, &st), 0);
        paths.socket[strlen(paths.socket)] = '/';
        CHECK_INT(st.st_mode & 0777, 0700);

        passt_stop(&paths, -EBADF);
        CHECK(!is_running(pid));
        CHECK(nothing_is_left());
        for (size_t i = 0; i < ELEMENTSOF(forwards); i++)
                CHECK_INT(listening(&forwards[i]), 0);
}

TEST(a_start_that_fails_leaves_nothing) {
        uint16_t p = free_ports(4);
        const Forward forwards[] = { tcp(p), make_forward("127.0.0.1", FORWARD_TCP,
                                                          (uint16_t) (p + 1), (uint16_t) (p + 3)) };
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_close_ int fd = occupy((uint16_t) (p + 2), FORWARD_TCP);
        char expected[128];
        pid_t pid;

        CHECK(fd >= 0);
        CHECK(start(forwards, 2, &pid, &error) < 0);
        snprintf(expected, sizeof(expected),
                 "Could not start passt: Listen failed for HOST TCP port 127.0.0.1/%u: "
                 "Address already in use",
                 p + 2);
        CHECK_STR(error.name, USERVM_ERROR_PASST_FAILED);
        CHECK_STR(error.message, expected);
        CHECK_INT(listening(&forwards[0]), 0);
        CHECK_INT(listening(&forwards[1]), 0);
        CHECK(nothing_is_left());
}

TEST(a_start_does_not_share_an_udp_port) {
        uint16_t p = free_ports(1);
        const Forward f = make_forward("127.0.0.1", FORWARD_UDP, p, p);
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_close_ int fd = occupy(p, FORWARD_UDP);
        pid_t pid;

        CHECK(fd >= 0);
        CHECK(start(&f, 1, &pid, &error) < 0);
        CHECK_ERROR(error, USERVM_ERROR_PASST_FAILED, "Address already in use");
        CHECK(nothing_is_left());
}

TEST(a_start_takes_no_nonsense) {
        const PasstConfig config = { .addresses = (char *[]){ (char[]){ "nonsense" }, NULL },
                                     .forwards = &(ForwardList){} };
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        pid_t pid;

        CHECK(passt_start(&paths, &config, &pid, &error) < 0);
        CHECK_ERROR(error, USERVM_ERROR_PASST_FAILED, "nvalid");
        CHECK(nothing_is_left());
}

TEST(leftovers_are_replaced) {
        pid_t pid, found;
        _cleanup_close_ int pidfd = -EBADF;

        CHECK_INT(start_empty(&pid), 0);
        kill(pid, SIGKILL);
        while (is_running(pid))
                usleep(1000);
        CHECK(exists(paths.socket) && exists(paths.control) && exists(paths.pid_file));
        CHECK_INT(passt_find(&paths, &pidfd, &found), -ESRCH);

        CHECK_INT(start_empty(&pid), 0);
        CHECK_INT(passt_find(&paths, &pidfd, &found), 0);
        CHECK_INT(found, pid);
}

TEST(a_process_in_the_way_is_ended) {
        pid_t first, second;

        CHECK_INT(start_empty(&first), 0);
        CHECK_INT(start_empty(&second), 0);
        CHECK(first != second);
        CHECK(!is_running(first));
        CHECK(is_running(second));
}

TEST(a_known_process_is_ended_without_files) {
        struct rlimit before, none;
        _cleanup_close_ int pidfd = -EBADF;
        pid_t pid;

        CHECK_INT(start_empty(&pid), 0);
        CHECK_INT(passt_find(&paths, &pidfd, &pid), 0);
        CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
        none = (struct rlimit){ .rlim_cur = (rlim_t) pidfd, .rlim_max = before.rlim_max };
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
        passt_stop(&paths, pidfd);
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
        CHECK(!is_running(pid));
        CHECK(nothing_is_left());
}

TEST(a_process_that_hangs_is_ended) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        const Forward f = tcp(free_ports(1));
        pid_t pid;

        CHECK_INT(start_empty(&pid), 0);
        kill(pid, SIGSTOP);
        CHECK(passt_add_forward(&paths, &f, &error) < 0);
        CHECK_ERROR(error, USERVM_ERROR_PASST_FAILED, "does not answer");
        passt_stop(&paths, -EBADF);
        CHECK(!is_running(pid));
        CHECK(nothing_is_left());
}

TEST(a_link_in_the_way_is_refused) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        char libvirt[64], moved[64];
        pid_t pid;
        int r;

        snprintf(libvirt, sizeof(libvirt), "%s/libvirt", directory);
        snprintf(moved, sizeof(moved), "%s/moved", directory);
        CHECK_INT(rename(libvirt, moved), 0);
        CHECK_INT(symlink(moved, libvirt), 0);
        r = start(NULL, 0, &pid, &error);
        unlink(libvirt);
        rename(moved, libvirt);
        CHECK(r < 0);
        CHECK_ERROR(error, SD_BUS_ERROR_ACCESS_DENIED, "is a link");
}

/* Find */

TEST(is_found_by_another_process) {
        int status;
        pid_t pid, child;

        CHECK_INT(start_empty(&pid), 0);
        child = fork();
        if (child == 0) {
                pid_t found = 0;
                int pidfd, r = passt_find(&paths, &pidfd, &found);

                _exit(r == 0 && found == pid ? 0 : 1);
        }
        CHECK_INT(waitpid(child, &status, 0), child);
        CHECK_INT(status, 0);
}

TEST(another_process_with_the_number_is_not_found) {
        const char *const impostors[][4] = {
                { "sleep", "60", NULL },
                { "passt", "60", NULL },
        };
        int pidfd;
        pid_t pid;

        passt_stop(&paths, -EBADF);
        for (size_t i = 0; i < ELEMENTSOF(impostors); i++) {
                pid_t impostor = run_sleep(impostors[i]);

                CHECK_INT(write_pid_file(impostor), 0);
                usleep(20000);
                CHECK_INT(passt_find(&paths, &pidfd, &pid), -ESRCH);
                passt_stop(&paths, -EBADF);
                CHECK(is_running(impostor));
                CHECK(nothing_is_left());
                end(impostor);
        }
}

TEST(the_passt_of_another_vm_is_not_found) {
        int pidfd;
        pid_t pid, found;

        CHECK_INT(start_empty(&pid), 0);
        CHECK_INT(rename(paths.pid_file, other_paths.pid_file), 0);
        CHECK_INT(passt_find(&other_paths, &pidfd, &found), -ESRCH);
        passt_stop(&other_paths, -EBADF);
        CHECK(is_running(pid));
        CHECK_INT(write_pid_file(pid), 0);
}

TEST(a_damaged_pid_file_finds_nothing) {
        static const char *const contents[] = { "", "\n", "x", "0", "1", "-1", "99999999999" };
        int pidfd;
        pid_t pid;

        passt_stop(&paths, -EBADF);
        for (size_t i = 0; i < ELEMENTSOF(contents); i++) {
                FILE *file = fopen(paths.pid_file, "we");

                CHECK(file);
                fputs(contents[i], file);
                fclose(file);
                CHECK_INT(passt_find(&paths, &pidfd, &pid), -ESRCH);
        }
        passt_stop(&paths, -EBADF);
        CHECK(nothing_is_left());
}

/* Add and remove */

static void add_and_remove(const Forward *f) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        CHECK_RESULT(passt_add_forward(&paths, f, &error), 0, error);
        CHECK_INT(listening(f), 1);
        CHECK(table_is(f, 1));
        CHECK_RESULT(passt_remove_forward(&paths, f, &error), 1, error);
        CHECK_INT(listening(f), 0);
        CHECK(table_is(NULL, 0));
}

TEST(adds_and_removes_every_kind) {
        static const char *const addresses[] = { "127.0.0.1", "::1", "*", "0.0.0.0", "::" };
        uint16_t p = free_ports(10);
        pid_t pid;

        CHECK_INT(start_empty(&pid), 0);
        for (size_t i = 0; i < 4 * ELEMENTSOF(addresses); i++) {
                Forward f = make_forward(addresses[i / 4], i % 2 ? FORWARD_UDP : FORWARD_TCP, p,
                                         (uint16_t) (i % 4 < 2 ? p : p + 9));

                if (streq(addresses[i / 4], "::1") && !has_ipv6())
                        continue;
                add_and_remove(&f);
                if (test_failed)
                        return;
        }
}

TEST(adds_with_exclusions_and_on_an_interface) {
        uint16_t p = free_ports(10);
        Forward f = make_forward("127.0.0.1", FORWARD_TCP, p, (uint16_t) (p + 9));
        pid_t pid;

        CHECK_INT(start_empty(&pid), 0);
        f.exclude = (PortRange[]){ { p, p }, { (uint16_t) (p + 4), (uint16_t) (p + 6) } };
        f.n_exclude = 2;
        add_and_remove(&f);
        if (test_failed)
                return;
        strcpy(f.interface, "lo");
        add_and_remove(&f);
}

TEST(a_long_range_listens_when_add_returns) {
        uint16_t p = free_ports(2000);
        Forward f = make_forward("127.0.0.1", FORWARD_TCP, p, (uint16_t) (p + 1999));
        pid_t pid;

        CHECK_INT(start_empty(&pid), 0);
        add_and_remove(&f);
}

/* passt keeps a socket for every peer of a UDP forward, and for minutes after it was removed. */
TEST(an_udp_forward_comes_back_while_its_peers_are_remembered) {
        uint16_t p = free_ports(1);
        const Forward f = make_forward("127.0.0.1", FORWARD_UDP, p, p);
        struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_port = htons(p),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        pid_t pid;

        CHECK_RESULT(start(&f, 1, &pid, &error), 0, error);
        CHECK_INT(sendto(fd, "x", 1, 0, (struct sockaddr *) &address, sizeof(address)), 1);
        usleep(20000);
        CHECK_RESULT(passt_remove_forward(&paths, &f, &error), 1, error);
        CHECK_INT(listening(&f), 0);
        CHECK_RESULT(passt_add_forward(&paths, &f, &error), 0, error);
        CHECK_INT(listening(&f), 1);
}

/* A refused forward is nowhere, and the next one is added as if nothing had been. */
static void refused(const Forward *f, const char *name, const char *part) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL, later = SD_BUS_ERROR_NULL;
        const Forward old = tcp(free_ports(1)), next = tcp(free_ports(1));
        pid_t pid;

        CHECK_RESULT(start(&old, 1, &pid, &error), 0, error);
        CHECK(passt_add_forward(&paths, f, &error) < 0);
        CHECK_ERROR(error, name, part);
        CHECK(table_is(&old, 1));
        CHECK_INT(listening(&old), 1);
        CHECK_RESULT(passt_add_forward(&paths, &next, &later), 0, later);
        CHECK(table_is((const Forward[]){ old, next }, 2));
        CHECK_INT(listening(&next), 1);
}

TEST(a_busy_port_is_refused_with_its_owner) {
        uint16_t p = free_ports(1);
        const Forward busy[] = {
                make_forward("127.0.0.1", FORWARD_TCP, p, p),
                make_forward("*", FORWARD_TCP, p, p),
                make_forward("127.0.0.1", FORWARD_UDP, p, p),
                make_forward("0.0.0.0", FORWARD_UDP, p, p),
        };
        _cleanup_close_ int tcp_fd = occupy(p, FORWARD_TCP), udp_fd = occupy(p, FORWARD_UDP);
        char owner[64];

        CHECK(tcp_fd >= 0 && udp_fd >= 0);
        snprintf(owner, sizeof(owner), "process %d (", (int) getpid());
        for (size_t i = 0; i < ELEMENTSOF(busy) && !test_failed; i++)
                refused(&busy[i], USERVM_ERROR_PASST_FAILED, owner);
}

TEST(a_range_is_added_whole_or_not_at_all) {
        uint16_t p = free_ports(5);
        const Forward f = make_forward("127.0.0.1", FORWARD_TCP, p, (uint16_t) (p + 4));

        for (unsigned busy = p; busy <= p + 4u && !test_failed; busy++) {
                _cleanup_close_ int fd = occupy((uint16_t) busy, FORWARD_TCP);
                char port[32];

                snprintf(port, sizeof(port), "host port %u: ", busy);
                refused(&f, USERVM_ERROR_PASST_FAILED, port);
                for (unsigned i = p; i <= p + 4u && !test_failed; i++) {
                        const Forward one = tcp((uint16_t) i);

                        CHECK_INT(listening(&one), i == busy);
                }
        }
}

TEST(a_privileged_port_is_refused) {
        uint16_t lowest = host_port_lowest_unprivileged();
        const Forward f = tcp((uint16_t) (lowest - 1));

        if (lowest > 1)
                refused(&f, USERVM_ERROR_PASST_FAILED, "Permission denied");
}

TEST(an_address_or_interface_that_is_not_there_is_refused) {
        uint16_t p = free_ports(1);
        Forward address = make_forward("192.0.2.77", FORWARD_TCP, p, p), interface = tcp(p);

        refused(&address, USERVM_ERROR_PASST_FAILED, "Cannot assign requested address");
        if (test_failed)
                return;
        strcpy(interface.interface, "nope");
        refused(&interface, USERVM_ERROR_PASST_FAILED, "No such device");
}

TEST(a_duplicate_is_refused) {
        uint16_t p = free_ports(4);
        const Forward old =
                make_forward("127.0.0.1", FORWARD_TCP, (uint16_t) (p + 1), (uint16_t) (p + 2));
        const Forward duplicates[] = {
                old,
                tcp((uint16_t) (p + 1)),
                make_forward("127.0.0.1", FORWARD_TCP, p, (uint16_t) (p + 3)),
                make_forward("*", FORWARD_TCP, (uint16_t) (p + 2), (uint16_t) (p + 2)),
                make_forward("0.0.0.0", FORWARD_TCP, (uint16_t) (p + 2), (uint16_t) (p + 2)),
        };
        const Forward next = make_forward("127.0.0.1", FORWARD_UDP, p, (uint16_t) (p + 3));
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        pid_t pid;

        CHECK_RESULT(start(&old, 1, &pid, &error), 0, error);
        for (size_t i = 0; i < ELEMENTSOF(duplicates); i++) {
                _cleanup_error_ sd_bus_error duplicate = SD_BUS_ERROR_NULL;

                CHECK(passt_add_forward(&paths, &duplicates[i], &duplicate) < 0);
                CHECK_ERROR(duplicate, USERVM_ERROR_FORWARD_EXISTS, "already");
        }
        CHECK_INT(listening(&old), 1);
        CHECK_RESULT(passt_add_forward(&paths, &next, &error), 0, error);
        CHECK(table_is((const Forward[]){ old, next }, 2));
}

TEST(a_full_table_is_said_to_be_full) {
        uint16_t p = free_ports(256);
        Forward forwards[255], last = tcp((uint16_t) (p + 255));
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL, full = SD_BUS_ERROR_NULL;
        pid_t pid;

        for (unsigned i = 0; i < 255; i++)
                forwards[i] = tcp((uint16_t) (p + i));
        CHECK_RESULT(start(forwards, 255, &pid, &error), 0, error);
        CHECK(passt_add_forward(&paths, &last, &full) < 0);
        CHECK_ERROR(full, USERVM_ERROR_NOT_SUPPORTED, "255");
        for (unsigned i = 0; i < 255; i++)
                CHECK_INT(listening(&forwards[i]), 1);

        CHECK_RESULT(passt_remove_forward(&paths, &forwards[7], &error), 1, error);
        CHECK_RESULT(passt_add_forward(&paths, &last, &error), 0, error);
        CHECK_INT(listening(&last), 1);
}

TEST(an_older_forward_that_blocks_is_named) {
        uint16_t p = free_ports(2);
        const Forward deaf = make_forward("*", FORWARD_TCP, p, p), f = tcp((uint16_t) (p + 1));
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL, later = SD_BUS_ERROR_NULL;
        _cleanup_close_ int fd = occupy(p, FORWARD_TCP);
        char rule[16], part[32];
        pid_t pid;

        CHECK_INT(start_empty(&pid), 0);
        snprintf(rule, sizeof(rule), "%u:%u", p, p + 1000);
        CHECK_INT(
                process_run((const char *const[]){ "pesto", "-A", "-t", rule, paths.control, NULL },
                            NULL, NULL),
                0);
        CHECK(passt_add_forward(&paths, &f, &error) < 0);
        snprintf(part, sizeof(part), "*:%u:%u/tcp", p, p + 1000);
        CHECK_ERROR(error, USERVM_ERROR_PASST_FAILED, part);
        CHECK(table_is(&deaf, 1));

        CHECK_RESULT(passt_remove_forward(&paths, &deaf, &later), 1, later);
        CHECK_RESULT(passt_add_forward(&paths, &f, &later), 0, later);
        CHECK_INT(listening(&f), 1);
}

/* As after a snapshot with memory; there it is passt itself that closes its sockets. */
TEST(a_table_is_replaced) {
        uint16_t p = free_ports(5);
        Forward old[] = { tcp(p), tcp((uint16_t) (p + 1)) };
        Forward new[] = { old[1], make_forward("*", FORWARD_UDP, p, p),
                          make_forward("127.0.0.1", FORWARD_TCP, (uint16_t) (p + 2),
                                       (uint16_t) (p + 4)) };
        const ForwardList all = { .items = new, .n = ELEMENTSOF(new) }, none = {};
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        pid_t pid;

        CHECK_RESULT(start(old, ELEMENTSOF(old), &pid, &error), 0, error);
        CHECK_RESULT(passt_set_forwards(&paths, &none, &error), 0, error);
        CHECK_INT(listening(&old[0]), 0);
        CHECK_INT(listening(&old[1]), 0);
        CHECK(table_is(NULL, 0));

        for (unsigned i = 0; i < 2; i++) {
                CHECK_RESULT(passt_set_forwards(&paths, &all, &error), 0, error);
                for (size_t j = 0; j < ELEMENTSOF(new); j++)
                        CHECK_INT(listening(&new[j]), 1);
                CHECK_INT(listening(&old[0]), 0);
                CHECK(table_is(new, ELEMENTSOF(new)));
        }
        CHECK(is_running(pid));
}

TEST(a_full_table_is_replaced) {
        uint16_t p = free_ports(255);
        Forward forwards[255];
        const ForwardList all = { .items = forwards, .n = ELEMENTSOF(forwards) };
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        pid_t pid;

        for (unsigned i = 0; i < 255; i++)
                forwards[i] = tcp((uint16_t) (p + i));
        CHECK_INT(start_empty(&pid), 0);
        CHECK_RESULT(passt_set_forwards(&paths, &all, &error), 0, error);
        CHECK(table_is(forwards, ELEMENTSOF(forwards)));
        CHECK_INT(listening(&forwards[254]), 1);
}

TEST(what_is_not_there_cannot_be_removed) {
        uint16_t p = free_ports(3);
        const Forward old = make_forward("127.0.0.1", FORWARD_TCP, p, (uint16_t) (p + 1));
        const Forward absent[] = {
                tcp((uint16_t) (p + 2)),
                tcp(p),
                make_forward("127.0.0.1", FORWARD_UDP, p, (uint16_t) (p + 1)),
                make_forward("*", FORWARD_TCP, p, (uint16_t) (p + 1)),
        };
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        pid_t pid;

        CHECK_RESULT(start(&old, 1, &pid, &error), 0, error);
        for (size_t i = 0; i < ELEMENTSOF(absent); i++) {
                CHECK_INT(passt_remove_forward(&paths, &absent[i], &error), 0);
                CHECK(!sd_bus_error_is_set(&error));
        }
        CHECK(table_is(&old, 1));
        CHECK_INT(listening(&old), 1);
}

TEST(without_pesto_nothing_is_removed) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL, removal = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = strdup(getenv("PATH"));
        const Forward f = tcp(free_ports(1));
        pid_t pid;

        CHECK_RESULT(start(&f, 1, &pid, &error), 0, error);
        setenv("PATH", "/nonexistent", 1);
        CHECK(passt_remove_forward(&paths, &f, &removal) < 0);
        CHECK_ERROR(removal, USERVM_ERROR_PASST_FAILED, "pesto is not installed");
        setenv("PATH", path, 1);
        CHECK(table_is(&f, 1));
        CHECK_INT(listening(&f), 1);
}

TEST(a_passt_that_is_gone_is_said_to_be) {
        _cleanup_error_ sd_bus_error add = SD_BUS_ERROR_NULL, list = SD_BUS_ERROR_NULL,
                                     removal = SD_BUS_ERROR_NULL;
        const Forward f = tcp(free_ports(1));
        ForwardList table;
        pid_t pid;

        CHECK_INT(start_empty(&pid), 0);
        kill(pid, SIGKILL);
        while (is_running(pid))
                usleep(1000);
        CHECK(passt_add_forward(&paths, &f, &add) < 0);
        CHECK_ERROR(add, USERVM_ERROR_PASST_FAILED, "does not answer");
        CHECK(passt_list_forwards(&paths, &table, &list) < 0);
        CHECK_ERROR(list, USERVM_ERROR_PASST_FAILED, "does not answer");
        CHECK(passt_remove_forward(&paths, &f, &removal) < 0);
        CHECK_ERROR(removal, USERVM_ERROR_PASST_FAILED, "does not answer");
}

/* Costs */

/* passt's table of file descriptors grows by doubling, so this tells of a leak only once it is
 * large; its /proc/PID/fd is not for us to read. */
static int fd_table_size(pid_t pid) {
        char path[64], line[256];
        int size = -1;
        FILE *file;

        snprintf(path, sizeof(path), "/proc/%d/status", (int) pid);
        file = fopen(path, "re");
        while (file && fgets(line, sizeof(line), file))
                sscanf(line, "FDSize: %d", &size);
        if (file)
                fclose(file);
        return size;
}

#define CYCLES 100

TEST(many_changes_leave_nothing_behind) {
        uint16_t p = free_ports(2);
        const Forward old = tcp(p), f = tcp((uint16_t) (p + 1));
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        pid_t pid;
        int size;

        CHECK_RESULT(start(&old, 1, &pid, &error), 0, error);
        size = fd_table_size(pid);
        CHECK(size > 0);
        for (unsigned i = 0; i < CYCLES; i++) {
                CHECK_RESULT(passt_add_forward(&paths, &f, &error), 0, error);
                CHECK_INT(listening(&f), 1);
                CHECK_RESULT(passt_remove_forward(&paths, &f, &error), 1, error);
                CHECK_INT(listening(&f), 0);
        }
        CHECK_INT(listening(&old), 1);
        CHECK_INT(fd_table_size(pid), size);
}

#define STRING(...) #__VA_ARGS__
#define STRING_OF(...) STRING(__VA_ARGS__)

#define TESTS                                                                                      \
        features_are_there, without_the_programs_there_are_no_features,                            \
                starts_with_every_forward_and_stops, a_start_that_fails_leaves_nothing,            \
                a_start_does_not_share_an_udp_port, a_start_takes_no_nonsense,                     \
                leftovers_are_replaced, a_process_in_the_way_is_ended,                             \
                a_known_process_is_ended_without_files, a_process_that_hangs_is_ended,             \
                a_link_in_the_way_is_refused, is_found_by_another_process,                         \
                another_process_with_the_number_is_not_found,                                      \
                the_passt_of_another_vm_is_not_found, a_damaged_pid_file_finds_nothing,            \
                adds_and_removes_every_kind, adds_with_exclusions_and_on_an_interface,             \
                a_long_range_listens_when_add_returns,                                             \
                an_udp_forward_comes_back_while_its_peers_are_remembered,                          \
                a_busy_port_is_refused_with_its_owner, a_range_is_added_whole_or_not_at_all,       \
                a_privileged_port_is_refused,                                                      \
                an_address_or_interface_that_is_not_there_is_refused, a_duplicate_is_refused,      \
                a_full_table_is_said_to_be_full, an_older_forward_that_blocks_is_named,            \
                a_table_is_replaced, a_full_table_is_replaced,                                     \
                what_is_not_there_cannot_be_removed, without_pesto_nothing_is_removed,             \
                a_passt_that_is_gone_is_said_to_be, many_changes_leave_nothing_behind

static int run_tests(void) {
        static void (*const functions[])(void) = { TESTS };

        return test_run(STRING_OF(TESTS), functions, ELEMENTSOF(functions));
}

static bool has_user_namespaces(void) {
        pid_t pid = fork();
        int status = 1;

        if (pid == 0)
                _exit(unshare(CLONE_NEWUSER) < 0);
        return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* Why the tests make no sense here, or NULL. */
static const char *reason_to_skip(void) {
        static char *reason;
        bool vhost_user, control;

        if (geteuid() == 0)
                return "passt is not for root";
        if (!has_user_namespaces())
                return "there are no user namespaces here, which passt locks itself into";
        if (passt_features(&vhost_user, &control, &reason) < 0)
                return "passt cannot be run";
        return reason;
}

int main(void) {
        const char *reason = reason_to_skip();
        int r;

        if (reason) {
                printf("1..1\nok 1 # SKIP %s\n", reason);
                return 0;
        }

        if (!mkdtemp(directory) || setenv("XDG_RUNTIME_DIR", directory, 1) < 0 ||
            passt_paths(UUID, "52:54:00:00:00:01", &paths) < 0 ||
            passt_paths(UUID, "52:54:00:00:00:02", &other_paths) < 0) {
                perror(directory);
                return 1;
        }

        r = run_tests();

        passt_stop(&paths, -EBADF);
        passt_paths_done(&paths);
        passt_paths_done(&other_paths);
        process_run((const char *const[]){ "rm", "-r", directory, NULL }, NULL, NULL);
        return r;
}
