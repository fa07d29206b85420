/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* dbus-daemon is a child of the test and writes its address to a pipe. uservmd is a child of
 * dbus-daemon and has its environment; it ends with the bus. A descriptor of it (pidfd) tells when
 * that has happened, so that nothing writes to the folder that is being deleted. */

#include "private-bus.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>

#include "util.h"

static const char config[] =
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\""
        " \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">"
        "<busconfig><type>session</type><listen>unix:dir=%s</listen>"
        "<servicedir>%s/services</servicedir><policy context=\"default\">"
        "<allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/>"
        "<allow own=\"*\"/></policy></busconfig>\n";

static const char node[] =
        "<node>"
        "<domain type='test'><name>web</name><uuid>" WEB_UUID "</uuid>"
        "<memory unit='KiB'>1048576</memory><vcpu>3</vcpu><os><type>hvm</type></os><devices>"
        "<interface type='user'><mac address='52:54:00:00:00:01'/></interface></devices>"
        "<test:runstate xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>5</test:runstate>"
        "</domain>"
        "<domain type='test'><name>db</name><uuid>" DB_UUID "</uuid>"
        "<memory unit='KiB'>524288</memory><vcpu>1</vcpu><os><type>hvm</type></os>"
        "<test:runstate xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>5</test:runstate>"
        "</domain></node>\n";

static void check(bool good, const char *what) {
        if (good)
                return;
        printf("Bail out! %s: %s\n", what, strerror(errno));
        exit(1);
}

static void write_file(const PrivateBus *bus, const char *name, mode_t mode, const char *format,
                       ...) _printf_(4, 5);
static void write_file(const PrivateBus *bus, const char *name, mode_t mode, const char *format,
                       ...) {
        char path[256];
        va_list arguments;
        FILE *file;

        (void) snprintf(path, sizeof(path), "%s/%s", bus->folder, name);
        file = fopen(path, "we");
        check(file, path);
        va_start(arguments, format);
        vfprintf(file, format, arguments);
        va_end(arguments);
        check(fclose(file) == 0 && chmod(path, mode) == 0, path);
}

static void make_folder(PrivateBus *bus, bool service) {
        static const char *const folders[] = { "home", "run", "bin", "services" };
        char path[256];

        strcpy(bus->folder, "/tmp/uservm-lib-XXXXXX");
        check(mkdtemp(bus->folder), "mkdtemp");
        for (size_t i = 0; i < ELEMENTSOF(folders); i++) {
                (void) snprintf(path, sizeof(path), "%s/%s", bus->folder, folders[i]);
                check(mkdir(path, 0700) == 0, path);
        }
        write_file(bus, "session.conf", 0600, config, bus->folder, bus->folder);
        write_file(bus, "node.xml", 0600, "%s", node);
        write_file(bus, "kernel", 0600, "a kernel, to libvirt's test driver\n");
        write_file(bus, "bin/passt", 0700, "#!/bin/sh\necho 'passt 0.0~test'\n");
        write_file(bus, "services/org.freedesktop.systemd1.service", 0600,
                   "[D-BUS Service]\nName=org.freedesktop.systemd1\nExec=/bin/false\n");
        if (service)
                write_file(bus, "services/org.uservm1.service", 0600,
                           "[D-BUS Service]\nName=org.uservm1\n"
                           "Exec=%s --connect test://%s/node.xml\n",
                           getenv("USERVMD"), bus->folder);
}

static void exec_bus(const PrivateBus *bus, int address_fd) {
        char home[256], run[256], path[4096], file[256], fd[64];

        (void) snprintf(home, sizeof(home), "%s/home", bus->folder);
        (void) snprintf(run, sizeof(run), "%s/run", bus->folder);
        (void) snprintf(path, sizeof(path), "%s/bin:%s", bus->folder, getenv("PATH"));
        (void) snprintf(file, sizeof(file), "--config-file=%s/session.conf", bus->folder);
        (void) snprintf(fd, sizeof(fd), "--print-address=%d", address_fd);
        setenv("HOME", home, true);
        setenv("XDG_RUNTIME_DIR", run, true);
        setenv("PATH", path, true);
        unsetenv("XDG_DATA_HOME");
        execlp("dbus-daemon", "dbus-daemon", "--nofork", file, fd, NULL);
        _exit(127);
}

void private_bus_start(PrivateBus *bus, bool service) {
        int fds[2];
        ssize_t n;

        make_folder(bus, service);
        check(pipe(fds) == 0, "pipe");
        fflush(stdout);
        bus->pid = fork();
        check(bus->pid >= 0, "fork");
        if (bus->pid == 0) {
                close(fds[0]);
                exec_bus(bus, fds[1]);
        }
        close(fds[1]);
        n = read(fds[0], bus->address, sizeof(bus->address) - 1);
        check(n > 1, "the address of dbus-daemon");
        bus->address[n - 1] = 0;
        close(fds[0]);
}

/* Of the service; -1 if it does not run or the bus has gone. */
static int service_pid(const PrivateBus *bus, pid_t *ret) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *b = NULL;
        _cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
        int r;

        r = sd_bus_new(&b);
        if (r >= 0)
                r = sd_bus_set_address(b, bus->address);
        if (r >= 0)
                r = sd_bus_set_bus_client(b, true);
        if (r >= 0)
                r = sd_bus_start(b);
        if (r >= 0)
                r = sd_bus_get_name_creds(b, "org.uservm1", SD_BUS_CREDS_PID, &creds);
        return r < 0 ? r : sd_bus_creds_get_pid(creds, ret);
}

pid_t private_bus_service(const PrivateBus *bus) {
        pid_t pid = -1;

        errno = -service_pid(bus, &pid);
        check(pid > 0, "uservmd does not run");
        return pid;
}

void private_bus_kill_service(const PrivateBus *bus) {
        pid_t pid = private_bus_service(bus);

        kill(pid, SIGKILL);
        for (int i = 0; service_pid(bus, &pid) >= 0; i++) {
                errno = ETIMEDOUT;
                check(i < 10000, "uservmd did not end");
                usleep(2000);
        }
}

static void wait_end(int pidfd, const char *what) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };

        check(poll(&p, 1, 20000) == 1, what);
        close(pidfd);
}

void private_bus_stop(PrivateBus *bus) {
        char command[128];
        int pidfd = -1;
        pid_t pid;

        if (bus->pid > 0 && service_pid(bus, &pid) >= 0)
                pidfd = syscall(SYS_pidfd_open, pid, 0);
        if (bus->pid > 0) {
                kill(bus->pid, SIGTERM);
                waitpid(bus->pid, NULL, 0);
        }
        if (pidfd >= 0)
                wait_end(pidfd, "uservmd runs on without a bus");
        (void) snprintf(command, sizeof(command), "rm -rf %s", bus->folder);
        check(system(command) == 0, command);
}
