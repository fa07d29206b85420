/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* uservmd(8): options, the event loop, and the end. */

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <libxml/parser.h>
#include <signal.h>
#include <stdio.h>
#include <systemd/sd-event.h>

#include "config.h"
#include "libvirt-event.h"
#include "log.h"
#include "manager.h"
#include "runtime.h"
#include "util.h"

#define IDLE_SEC 120

static void help(void) {
        printf("uservmd [OPTION]\n"
               "\n"
               "The per-user service for rootless virtual machines, org.uservm1 on the session "
               "bus.\n"
               "D-Bus starts it when it is needed.\n"
               "\n"
               "  -c, --connect=URI        libvirt to drive (default: qemu:///session)\n"
               "      --idle-exit=SECONDS  leave when there was nothing to do for so long\n"
               "                           (default: 120; 0: never)\n"
               "  -h, --help               show this help\n"
               "      --version            show the version\n"
               "\n"
               "See uservmd(8).\n");
}

typedef struct Arguments {
        const char *uri;
        unsigned idle_sec;
} Arguments;

static int parse_seconds(const char *text, unsigned *ret) {
        unsigned long seconds;
        char *end;

        errno = 0;
        seconds = strtoul(text, &end, 10);
        if (!isdigit((unsigned char) *text) || *end || errno != 0 || seconds > UINT32_MAX) {
                fprintf(stderr, "uservmd: --idle-exit takes a number of seconds, and not '%s'\n",
                        text);
                return -EINVAL;
        }
        *ret = (unsigned) seconds;
        return 0;
}

/* Returns 1 to go on, 0 to exit well, or a negative errno. */
static int parse_arguments(int argc, char *argv[], Arguments *ret) {
        static const struct option options[] = {
                { "connect", required_argument, NULL, 'c' },
                { "idle-exit", required_argument, NULL, 'I' },
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, 'V' },
                {},
        };
        int c;

        while ((c = getopt_long(argc, argv, "c:h", options, NULL)) >= 0)
                switch (c) {
                case 'c':
                        ret->uri = optarg;
                        break;
                case 'I':
                        if (parse_seconds(optarg, &ret->idle_sec) < 0)
                                return -EINVAL;
                        break;
                case 'h':
                        help();
                        return 0;
                case 'V':
                        puts(PACKAGE_STRING);
                        return 0;
                default:
                        return -EINVAL;
                }
        if (optind < argc) {
                fprintf(stderr, "uservmd takes no arguments; see uservmd --help\n");
                return -EINVAL;
        }
        return 1;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        manager_stop(userdata);
        return 0;
}

/* Errors reach whoever asked, with the context they have here; libvirt need not print them too. */
static void ignore_libvirt_error(void *userdata, virErrorPtr error) {
}

static int run(const Arguments *arguments) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(manager_freep) Manager *m = NULL;
        sigset_t signals;
        int r;

        /* Before it looks at anything: what another one is just making looks like what one that has
         * been killed left behind. */
        r = runtime_lock(&error);
        if (r < 0) {
                log_error("%s", error.message ?: strerror(-r));
                return r;
        }

        /* Blocked before the first thread starts, so that it is the event loop that gets them. */
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        signal(SIGPIPE, SIG_IGN);

        r = sd_event_default(&event);
        if (r < 0)
                return r;
        xmlInitParser();
        r = libvirt_event_register(event);
        if (r < 0)
                return r;
        if (virInitialize() < 0)
                return -EIO;
        virSetErrorFunc(NULL, ignore_libvirt_error);

        r = manager_new(event, arguments->uri, arguments->idle_sec, &m);
        if (r < 0)
                return r;
        r = sd_event_add_signal(event, NULL, SIGTERM, on_signal, m);
        if (r < 0)
                return r;
        r = sd_event_add_signal(event, NULL, SIGINT, on_signal, m);
        if (r < 0)
                return r;
        r = sd_event_loop(event);
        if (r > 0 && !m->stopping) {
                /* Not a good end: systemd is to start the next one, for the VMs run on. */
                log_error("The session bus has gone away");
                return -ECONNRESET;
        }
        return r < 0 ? r : 0;
}

int main(int argc, char *argv[]) {
        Arguments arguments = { .uri = "qemu:///session", .idle_sec = IDLE_SEC };
        int r;

        r = parse_arguments(argc, argv, &arguments);
        if (r <= 0)
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;

        if (geteuid() == 0) {
                log_error(
                        "uservmd does not run as root: its VMs are those of an ordinary user, and "
                        "would have root's rights. Run it as the user who owns the VMs, from "
                        "their session (systemctl --user start uservmd).");
                return EXIT_FAILURE;
        }

        r = run(&arguments);
        if (r < 0)
                log_error("uservmd ends: %s", strerror(-r));
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
