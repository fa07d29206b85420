/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Times calls of libuservm, and in turn the same calls by sd-bus without it, whose replies are not
 * even read. Each has a connection of its own, which is open before. Which of them is first
 * changes, because that one finds the caches as the call before has left them. Prints a line for
 * each call: what it is, and its microseconds.
 *
 *     library TIMES VM */

#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <uservm.h>

static double now_usec(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int library_forwards(uservm *u, const char *vm) {
        uservm_forward **forwards;

        if (uservm_list_forwards(u, vm, &forwards, NULL) < 0)
                return -1;
        uservm_forwards_free(forwards);
        return 0;
}

static int library_vms(uservm *u, const char *vm) {
        uservm_vm **vms;

        if (uservm_list_vms(u, &vms, NULL) < 0)
                return -1;
        uservm_vms_free(vms);
        return 0;
}

static int raw_forwards(sd_bus *bus, const char *vm) {
        sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_call_method(bus, "org.uservm1", "/org/uservm1", "org.uservm1.Manager",
                               "ListForwards", NULL, &reply, "s", vm);
        sd_bus_message_unref(reply);
        return r;
}

static int raw_vms(sd_bus *bus, const char *vm) {
        sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_call_method(bus, "org.uservm1", "/org/uservm1",
                               "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL,
                               &reply, NULL);
        sd_bus_message_unref(reply);
        return r;
}

typedef int (*Library)(uservm *u, const char *vm);
typedef int (*Raw)(sd_bus *bus, const char *vm);

static void print(const char *who, const char *what, int r, double begin) {
        double usec = now_usec() - begin;

        if (r < 0) {
                fprintf(stderr, "%s-%s failed\n", who, what);
                exit(1);
        }
        printf("%s-%s %.1f\n", who, what, usec);
}

static void measure(const char *what, uservm *u, Library library, sd_bus *bus, Raw raw,
                    const char *vm, int times) {
        for (int i = 0; i < 2 * times; i++) {
                double begin = now_usec();

                if (i % 4 == 0 || i % 4 == 3)
                        print("library", what, library(u, vm), begin);
                else
                        print("raw", what, raw(bus, vm), begin);
        }
}

int main(int argc, char *argv[]) {
        sd_bus *bus;
        uservm *u;

        if (argc != 3 || uservm_open(NULL, &u) < 0 || sd_bus_open_user(&bus) < 0 ||
            library_vms(u, NULL) < 0 || raw_vms(bus, NULL) < 0)
                return 1;
        measure("forwards", u, library_forwards, bus, raw_forwards, argv[2], atoi(argv[1]));
        measure("vms", u, library_vms, bus, raw_vms, NULL, atoi(argv[1]));
        sd_bus_flush_close_unref(bus);
        uservm_close(u);
        return 0;
}
