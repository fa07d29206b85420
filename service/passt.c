/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The life of one passt: the files it is reached by, its start, its identity and its end. What it
 * forwards while it lives is in passt-forward.c.
 *
 * passt goes to the background by itself, once every socket that it was told of is bound, and its
 * first process exits 0 then and 1 with a reason otherwise. So a start needs no waiting and no
 * guessing: process_run() returns with either. From then on nothing ties it to this process: it
 * lives on when uservmd ends, and the next uservmd finds it by its PID file.
 *
 * A PID file tells of the past: its process may have ended, and the number may be another's now. So
 * a process is passt for us only if it is our user's and has our socket among its arguments, and it
 * is held by a pidfd from before it is asked until after. Nor is there always something in it:
 * passt writes it last, goes on without it if the file system is full, and may be on its way when
 * uservmd is killed. Such a one is of no use, but it has the ports: to end it, it is looked for
 * among all processes.
 *
 * passt cannot remove its files when it ends: it has locked itself out of the file system by then.
 * They are removed here, at the end of a VM or before the next start.
 *
 * Deliberately absent: watching over the process and starting it anew (the caller has its pidfd),
 * the socket for passt-repair(1) (it serves migration to another host alone), and a look at passt's
 * version: what it can do is in its own --help. */

#include "passt.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "error.h"
#include "host-port.h"
#include "process.h"
#include "runtime.h"
#include "util.h"

/* libvirt's folder for the passts it starts itself, below XDG_RUNTIME_DIR. */
#define RUN_DIRECTORY "libvirt/qemu/run/passt"

#define UUID_DIGITS 32
#define MAC_DIGITS 12

/* How long passt has to end by itself; after SIGKILL, the kernel to end it. */
#define STOP_MSEC 1000
#define KILL_MSEC 5000

/* Paths */

/* Copies n hexadecimal digits in lower case and leaves out the separators between them. */
static int copy_digits(const char *s, char separator, size_t n, char *ret) {
        size_t i = 0;

        for (; *s; s++) {
                if (*s == separator)
                        continue;
                if (!isxdigit((unsigned char) *s) || i == n)
                        return -EINVAL;
                ret[i++] = (char) tolower((unsigned char) *s);
        }
        ret[i] = '\0';
        return i == n ? 0 : -EINVAL;
}

static int make_path(const char *uuid, const char *mac, const char *suffix, char **ret) {
        char *path;

        if (asprintf(&path, "%s/" RUN_DIRECTORY "/uservm-%s-%s%s", runtime_folder(), uuid, mac,
                     suffix) < 0)
                return -ENOMEM;
        *ret = path;
        return 0;
}

int passt_paths(const char *uuid, const char *mac, PasstPaths *ret) {
        _cleanup_(passt_paths_done) PasstPaths paths = {};
        char uuid_digits[UUID_DIGITS + 1], mac_digits[MAC_DIGITS + 1];
        int r;

        if (!runtime_folder())
                return -ENXIO;

        /* Without punctuation they fit in a UNIX socket's path for every user number. */
        r = copy_digits(uuid, '-', UUID_DIGITS, uuid_digits);
        if (r < 0)
                return r;
        r = copy_digits(mac, ':', MAC_DIGITS, mac_digits);
        if (r < 0)
                return r;

        r = make_path(uuid_digits, mac_digits, ".sock", &paths.socket);
        if (r == 0)
                r = make_path(uuid_digits, mac_digits, ".ctl", &paths.control);
        if (r == 0)
                r = make_path(uuid_digits, mac_digits, ".pid", &paths.pid_file);
        if (r < 0)
                return r;
        if (strlen(paths.socket) >= sizeof(((struct sockaddr_un *) 0)->sun_path))
                return -ENAMETOOLONG;

        *ret = paths;
        paths = (PasstPaths){};
        return 0;
}

void passt_paths_done(PasstPaths *paths) {
        free(paths->socket);
        free(paths->control);
        free(paths->pid_file);
        *paths = (PasstPaths){};
}

int passt_owns_socket(const char *socket) {
        _cleanup_(passt_paths_done) PasstPaths paths = {};
        const char *name = strrchr(socket, '/');
        char uuid[UUID_DIGITS + 1], mac[MAC_DIGITS + 1];
        int r;

        if (!name || sscanf(name, "/uservm-%32[0-9a-f]-%12[0-9a-f].sock", uuid, mac) != 2)
                return 0;

        /* It is ours if it is what we would make of them. */
        r = passt_paths(uuid, mac, &paths);
        if (r == -ENOMEM)
                return r;
        return r >= 0 && streq(paths.socket, socket);
}

/* Start */

typedef struct Arguments {
        char **items; /* NULL-terminated, with room for all there will be */
        size_t n;
} Arguments;

static int add_argument(Arguments *arguments, const char *argument) {
        char *copy = strdup(argument);

        if (!copy)
                return -ENOMEM;
        arguments->items[arguments->n++] = copy;
        return 0;
}

/* Nothing is added for a value that is NULL. */
static int add_option(Arguments *arguments, const char *option, const char *value) {
        int r;

        if (!value)
                return 0;
        r = add_argument(arguments, option);
        return r < 0 ? r : add_argument(arguments, value);
}

static int add_files(Arguments *arguments, const PasstPaths *paths) {
        int r;

        r = add_option(arguments, "--socket", paths->socket);
        if (r == 0)
                r = add_option(arguments, "--conf-path", paths->control);
        if (r == 0)
                r = add_option(arguments, "--pid", paths->pid_file);
        if (r == 0)
                r = add_option(arguments, "--repair-path", "none");
        return r;
}

static int add_guest_network(Arguments *arguments, const PasstConfig *config) {
        char mtu[16];
        int r;

        snprintf(mtu, sizeof(mtu), "%u", config->mtu);

        r = add_option(arguments, "--hostname", config->hostname);
        if (r == 0)
                r = add_option(arguments, "--mtu", config->mtu > 0 ? mtu : NULL);
        if (r == 0)
                r = add_option(arguments, "--interface", config->interface);
        for (char *const *a = config->addresses; r == 0 && a && *a; a++)
                r = add_option(arguments, "--address", *a);
        return r;
}

/* What passt writes to the system's log from the background is for warnings only, unless somebody
 * asked for a log of its own. */
static int add_log(Arguments *arguments, const PasstConfig *config) {
        return config->log_file ? add_option(arguments, "--log-file", config->log_file)
                                : add_argument(arguments, "--quiet");
}

static int add_forwards(Arguments *arguments, const ForwardList *forwards) {
        for (size_t i = 0; i < forwards->n; i++) {
                const Forward *f = &forwards->items[i];
                _cleanup_free_ char *rule = NULL;
                int r;

                r = forward_format_passt(f, &rule);
                if (r == 0)
                        r = add_option(arguments,
                                       f->protocol == FORWARD_TCP ? "--tcp-ports" : "--udp-ports",
                                       rule);
                if (r < 0)
                        return r;
        }
        return 0;
}

static size_t count_strings(char *const *strings) {
        size_t n = 0;

        while (strings && strings[n])
                n++;
        return n;
}

int passt_arguments(const PasstPaths *paths, const PasstConfig *config, char ***ret) {
        _cleanup_(strv_freep) char **items = NULL;
        Arguments arguments = {};
        int r;

        /* 19 and the NULL, and an option and its value for each address and each forward */
        items = new0(char *, 20 + 2 * (count_strings(config->addresses) + config->forwards->n));
        if (!items)
                return -ENOMEM;
        arguments.items = items;

        r = add_argument(&arguments, "passt");
        if (r == 0)
                r = add_argument(&arguments, "--vhost-user");
        if (r == 0)
                r = add_argument(&arguments, "--one-off");
        if (r == 0)
                r = add_files(&arguments, paths);
        if (r == 0)
                r = add_log(&arguments, config);
        if (r == 0)
                r = add_guest_network(&arguments, config);
        if (r == 0)
                r = add_forwards(&arguments, config->forwards);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(items);
        return 0;
}

/* Two passts may bind one UDP port, each with SO_REUSEADDR, and neither is told. For TCP, passt's
 * own bind fails. */
static int check_udp_ports(const ForwardList *forwards, sd_bus_error *error) {
        for (size_t i = 0; i < forwards->n; i++) {
                uint16_t port;
                int r;

                if (forwards->items[i].protocol != FORWARD_UDP)
                        continue;
                r = host_port_probe(&forwards->items[i], NULL, &port);
                if (r < 0)
                        return sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED,
                                                 "Could not start passt: UDP port %u: %s", port,
                                                 strerror(-r));
        }
        return 0;
}

static int run_passt(const PasstPaths *paths, const PasstConfig *config, sd_bus_error *error) {
        _cleanup_(strv_freep) char **arguments = NULL;
        _cleanup_free_ char *output = NULL, *line = NULL;
        int r;

        r = passt_arguments(paths, config, &arguments);
        if (r < 0)
                return r;

        r = process_run((const char *const *) arguments, NULL, &output);
        if (r < 0)
                return error_from_passt_run(error, -r, "passt");
        if (r == 0)
                return 0;

        if (r > 128)
                return sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED,
                                         "Could not start passt: it was ended by signal %d",
                                         r - 128);
        line = error_passt_line(output);
        if (!line)
                return -ENOMEM;
        return sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED, "Could not start passt: %s",
                                 isempty(line) ? "it gave no reason" : line);
}

/* The folder keeps others out, and so do the sockets. */
static int restrict_sockets(const PasstPaths *paths) {
        if (chmod(paths->socket, 0600) < 0 || chmod(paths->control, 0600) < 0)
                return -errno;
        return 0;
}

static int start(const PasstPaths *paths, const PasstConfig *config, pid_t *ret_pid,
                 sd_bus_error *error) {
        _cleanup_close_ int pidfd = -EBADF;
        int r;

        r = check_udp_ports(config->forwards, error);
        if (r < 0)
                return r;
        r = run_passt(paths, config, error);
        if (r < 0)
                return r;
        r = restrict_sockets(paths);
        if (r < 0)
                return error_from_errno(error, -r, "protect the sockets of passt");

        r = passt_find(paths, &pidfd, ret_pid);
        if (r < 0)
                return sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED,
                                         "Could not start passt: it ended right after its start");
        return 0;
}

int passt_start(const PasstPaths *paths, const PasstConfig *config, pid_t *ret_pid,
                sd_bus_error *error) {
        int r;

        r = runtime_make_folder(RUN_DIRECTORY, error);
        if (r < 0)
                return r;

        passt_stop(paths, -EBADF);
        r = start(paths, config, ret_pid, error);
        if (r < 0)
                passt_stop(paths, -EBADF);
        return r;
}

/* Find and stop */

static int read_pid(const char *path, pid_t *ret) {
        _cleanup_close_ int fd = -EBADF;
        char text[16] = "";
        long pid;

        fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
                return -ESRCH;

        pid = strtol(text, NULL, 10);
        if (pid <= 1 || pid > INT32_MAX)
                return -ESRCH;
        *ret = (pid_t) pid;
        return 0;
}

/* Whether the process with this number is this user's and was started as the passt of this socket:
 * "passt" first, the socket among its first arguments. */
static bool is_passt_of(pid_t pid, const char *socket) {
        _cleanup_close_ int proc_fd = -EBADF, fd = -EBADF;
        char path[32], arguments[4096];
        struct stat st;
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%d", (int) pid);
        proc_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (proc_fd < 0 || fstat(proc_fd, &st) < 0 || st.st_uid != geteuid())
                return false;

        fd = openat(proc_fd, "cmdline", O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return false;
        n = read(fd, arguments, sizeof(arguments));
        if (n < (ssize_t) sizeof("passt") || memcmp(arguments, "passt", sizeof("passt")) != 0)
                return false;

        /* With both NULs: the whole argument. */
        for (const char *p = arguments; (p = memchr(p, '\0', (size_t) (arguments + n - p))); p++)
                if ((size_t) (arguments + n - p - 1) > strlen(socket) && streq(p + 1, socket))
                        return true;
        return false;
}

/* Waits for the end of the process. Whether it has ended. */
static bool wait_for_end(int pidfd, int msec) {
        struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };
        int r;

        do
                r = poll(&poll_fd, 1, msec);
        while (r < 0 && errno == EINTR);
        return r > 0;
}

int passt_find(const PasstPaths *paths, int *ret_pidfd, pid_t *ret_pid) {
        _cleanup_close_ int pidfd = -EBADF;
        pid_t pid;
        int r;

        r = read_pid(paths->pid_file, &pid);
        if (r < 0)
                return r;
        pidfd = pidfd_open(pid, 0);
        if (pidfd < 0)
                return -ESRCH;

        /* If it has not ended by now, it was its number all the time. */
        if (!is_passt_of(pid, paths->socket) || wait_for_end(pidfd, 0))
                return -ESRCH;

        *ret_pidfd = TAKE_FD(pidfd);
        *ret_pid = pid;
        return 0;
}

static void end(int pidfd) {
        pidfd_send_signal(pidfd, SIGTERM, NULL, 0);
        if (wait_for_end(pidfd, STOP_MSEC))
                return;
        pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
        wait_for_end(pidfd, KILL_MSEC);
}

/* Ends every passt of this socket, and any that is about to be one: there may be two processes of
 * one that has not gone to the background yet. */
static void end_unregistered(const char *socket) {
        DIR *proc = opendir("/proc");

        if (!proc)
                return;
        for (struct dirent *entry; (entry = readdir(proc));) {
                _cleanup_close_ int pidfd = -EBADF;
                pid_t pid = (pid_t) strtol(entry->d_name, NULL, 10);

                if (pid <= 1 || !is_passt_of(pid, socket))
                        continue;
                pidfd = pidfd_open(pid, 0);
                if (pidfd >= 0 && is_passt_of(pid, socket))
                        end(pidfd);
        }
        closedir(proc);
}

void passt_stop(const PasstPaths *paths, int known_pidfd) {
        _cleanup_close_ int pidfd = -EBADF;
        pid_t pid;

        if (known_pidfd >= 0)
                end(known_pidfd);
        if (passt_find(paths, &pidfd, &pid) == 0)
                end(pidfd);
        else if (read_pid(paths->pid_file, &pid) < 0 && access(paths->socket, F_OK) >= 0)
                end_unregistered(paths->socket);

        unlink(paths->socket);
        unlink(paths->control);
        unlink(paths->pid_file);
}

/* What the name of a socket tells, as passt_paths() takes it. It is passt's first file. */
static bool parse_socket_name(const char *name, char uuid[static UUID_DIGITS + 5],
                              char mac[static MAC_DIGITS + 1]) {
        char digits[UUID_DIGITS + 1];
        int n = 0;

        if (sscanf(name, "uservm-%32[0-9a-f]-%12[0-9a-f].sock%n", digits, mac, &n) != 2 || n == 0 ||
            name[n] != '\0' || strlen(digits) != UUID_DIGITS || strlen(mac) != MAC_DIGITS)
                return false;
        sprintf(uuid, "%.8s-%.4s-%.4s-%.4s-%.12s", digits, digits + 8, digits + 12, digits + 16,
                digits + 20);
        return true;
}

/* Of this domain, or of all that are not among these. */
static void stop_all(const char *of, char *const *but_of) {
        const char *runtime = runtime_folder();
        _cleanup_free_ char *path = NULL;
        DIR *directory;

        if (!runtime || asprintf(&path, "%s/" RUN_DIRECTORY, runtime) < 0)
                return;
        directory = opendir(path);
        if (!directory)
                return;
        for (struct dirent *entry; (entry = readdir(directory));) {
                _cleanup_(passt_paths_done) PasstPaths paths = {};
                char uuid[UUID_DIGITS + 5], mac[MAC_DIGITS + 1];

                if (parse_socket_name(entry->d_name, uuid, mac) &&
                    (of ? streq(uuid, of) : !strv_contains(but_of, uuid)) &&
                    passt_paths(uuid, mac, &paths) >= 0)
                        passt_stop(&paths, -EBADF);
        }
        closedir(directory);
}

void passt_stop_all_of(const char *uuid) {
        stop_all(uuid, NULL);
}

void passt_clean_up(char *const *uuids) {
        stop_all(NULL, uuids);
}

/* Features */

/* What a program says of its own options: to either stream, depending on its age. */
static int read_help(const char *program, char **ret) {
        const char *const arguments[] = { program, "--help", NULL };
        _cleanup_free_ char *output = NULL, *error = NULL;
        int r;

        r = process_run(arguments, &output, &error);
        if (r < 0)
                return r;
        return asprintf(ret, "%s%s", output, error) < 0 ? -ENOMEM : 0;
}

/* What is missing, or NULL. */
static const char *find_missing(const char *passt, bool has_pesto, bool vhost_user, bool control) {
        if (!passt)
                return "passt is not installed.";
        if (!vhost_user)
                return "The installed passt is too old: it has no vhost-user mode.";
        if (!control)
                return "The installed passt is too old: it has no control socket.";
        if (!has_pesto)
                return "pesto, the control client of passt, is not installed.";
        return NULL;
}

int passt_features(bool *ret_vhost_user, bool *ret_control, char **ret_reason) {
        _cleanup_free_ char *passt = NULL, *pesto = NULL, *reason = NULL;
        bool vhost_user, control;
        const char *missing;
        int r;

        r = read_help("passt", &passt);
        if (r < 0 && r != -ENOENT && r != -EACCES)
                return r;
        r = read_help("pesto", &pesto);
        if (r < 0 && r != -ENOENT && r != -EACCES)
                return r;

        vhost_user = passt && strstr(passt, "--vhost-user");
        control = passt && strstr(passt, "--conf-path");
        missing = find_missing(passt, pesto, vhost_user, control);
        if (missing) {
                reason = strdup(missing);
                if (!reason)
                        return -ENOMEM;
        }

        *ret_vhost_user = vhost_user;
        *ret_control = control && pesto;
        *ret_reason = TAKE_PTR(reason);
        return 0;
}
