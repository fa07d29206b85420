/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The process of uservm@NAME.service: it stands for the VM of that name, so that systemd can start
 * and stop the VM as it does a service, and in the right order at login and logout.
 *
 * It has uservmd start the VM (one that runs already is fine), tells systemd that the unit is up,
 * and waits. Whenever the VM may have changed, it reads the VM's state; when the VM has stopped, by
 * whatever cause, or was deleted, the process ends well, and with it the unit: the unit is active
 * exactly while the VM runs. On SIGTERM the guest is asked to shut down. A guest that does not in
 * time (it may ignore the ACPI power button, hang or be paused) has its VM powered off.
 *
 * uservmd may be restarted meanwhile. Its successor announces itself by taking the name on the bus;
 * what happened in between is read then. Nothing is done to bring it back sooner: whoever stopped
 * it meant it. To stop the VM is a call like any other, for which D-Bus starts it again.
 *
 * Not done here: a second attempt at anything. What uservmd refuses is printed, and is the end.
 * When the session bus has gone away, an exit status of its own has systemd start this process
 * anew: the VM runs on, and somebody has to be there to shut it down at logout. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sysexits.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <time.h>

#include "log.h"
#include "util.h"

#define BUS_NAME "org.uservm1"
#define MANAGER_PATH "/org/uservm1"
#define MANAGER_INTERFACE "org.uservm1.Manager"
#define VM_INTERFACE "org.uservm1.VM"
#define ERROR(name) "org.uservm1.Error." name

/* Most guests are down in less. TimeoutStopSec= of the unit leaves time for powering off. */
#define SHUTDOWN_TIMEOUT_USEC (60 * 1000000ULL)

typedef struct Unit {
        sd_event *event;
        sd_bus *bus;
        const char *name;
        char *path;    /* the VM's object, once it is known */
        bool starting; /* StartVM has not been answered: a state of "shutoff" is not the end */
        bool stopping; /* systemd has asked for the end */
        bool powering_off;
} Unit;

/* What cannot go on ends the process: systemd and the journal say so, and why. */

static int check(Unit *u, int r) {
        return r < 0 ? sd_event_exit(u->event, r) : 0;
}

static int fail(Unit *u, const sd_bus_error *error) {
        log_error("%s", error->message ?: error->name);
        return sd_event_exit(u->event, EXIT_FAILURE);
}

static int call(Unit *u, const char *method, sd_bus_message_handler_t on_reply) {
        return sd_bus_call_method_async(u->bus, NULL, BUS_NAME, MANAGER_PATH, MANAGER_INTERFACE,
                                        method, on_reply, u, "s", u->name);
}

/* The VM's state */

static int on_state(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        Unit *u = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(m);
        const char *state;
        int r;

        if (sd_bus_error_has_name(error, SD_BUS_ERROR_UNKNOWN_OBJECT)) /* the VM was deleted */
                return sd_event_exit(u->event, EXIT_SUCCESS);
        if (error) /* uservmd has just gone; its successor is asked again */
                return 0;
        r = sd_bus_message_read(m, "v", "s", &state);
        if (r < 0)
                return check(u, r);

        (void) sd_notifyf(false, "STATUS=The VM is %s", state);
        if (!u->starting &&
            (streq(state, "shutoff") || streq(state, "saved") || streq(state, "crashed")))
                return sd_event_exit(u->event, EXIT_SUCCESS);
        return 0;
}

static int read_state(Unit *u) {
        return sd_bus_call_method_async(u->bus, NULL, BUS_NAME, u->path,
                                        "org.freedesktop.DBus.Properties", "Get", on_state, u, "ss",
                                        VM_INTERFACE, "State");
}

static int on_vm_changed(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        return check(userdata, read_state(userdata));
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        Unit *u = userdata;
        const char *new_owner;
        int r;

        r = sd_bus_message_read(m, "sss", NULL, NULL, &new_owner);
        if (r < 0)
                return check(u, r);
        return isempty(new_owner) || !u->path ? 0 : check(u, read_state(u));
}

/* All of the VM's own signals, and those that tell of any VM's deletion. */
static int watch_vm(Unit *u) {
        int r;

        r = sd_bus_match_signal_async(u->bus, NULL, BUS_NAME, u->path, NULL, NULL, on_vm_changed,
                                      NULL, u);
        if (r < 0)
                return r;
        return sd_bus_match_signal_async(u->bus, NULL, BUS_NAME, MANAGER_PATH,
                                         "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved",
                                         on_vm_changed, NULL, u);
}

/* Start */

static int on_started(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        Unit *u = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(m);

        if (error && !sd_bus_error_has_name(error, ERROR("AlreadyRunning")))
                return fail(u, error);
        u->starting = false;
        (void) sd_notify(false, "READY=1");
        return check(u, read_state(u));
}

static int on_found(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        Unit *u = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(m);
        const char *path;
        int r;

        if (error)
                return fail(u, error);
        r = sd_bus_message_read(m, "o", &path);
        if (r < 0)
                return check(u, r);
        u->path = strdup(path);
        if (!u->path)
                return check(u, -ENOMEM);
        r = watch_vm(u);
        if (r < 0)
                return check(u, r);
        if (u->stopping) /* before it began */
                return check(u, read_state(u));
        u->starting = true;
        return check(u, call(u, "StartVM", on_started));
}

/* Stop */

static int power_off(Unit *u, const char *reason);

/* That the guest was asked, or the VM powered off, is not the end yet: the VM's state tells. */
static int on_stop_reply(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        Unit *u = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(m);

        if (!error)
                return 0;
        if (sd_bus_error_has_name(error, ERROR("NotRunning")) ||
            sd_bus_error_has_name(error, ERROR("NoSuchVM")))
                return sd_event_exit(u->event, EXIT_SUCCESS);
        return u->powering_off ? fail(u, error) : power_off(u, error->message ?: error->name);
}

static int power_off(Unit *u, const char *reason) {
        if (u->powering_off)
                return 0;
        u->powering_off = true;
        log_warning("VM %s: %s; powering it off", u->name, reason);
        return check(u, call(u, "PowerOffVM", on_stop_reply));
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
        return power_off(userdata, "the guest has not shut down in time");
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Unit *u = userdata;
        int r;

        if (u->stopping)
                return 0;
        u->stopping = true;
        (void) sd_notify(false, "STOPPING=1\nSTATUS=The guest is asked to shut down");
        r = sd_event_add_time_relative(u->event, NULL, CLOCK_MONOTONIC, SHUTDOWN_TIMEOUT_USEC, 0,
                                       on_timeout, u);
        if (r < 0)
                return check(u, r);
        return check(u, call(u, "ShutdownVM", on_stop_reply));
}

static int open_bus(Unit *u) {
        int r;

        r = sd_bus_open_user(&u->bus);
        if (r < 0)
                return r;
        r = sd_bus_set_exit_on_disconnect(u->bus, true);
        if (r < 0)
                return r;
        /* In the end it is still open, unless it was lost. */
        r = sd_bus_set_close_on_exit(u->bus, false);
        if (r < 0)
                return r;
        /* How long a start may take, systemd knows. */
        r = sd_bus_set_method_call_timeout(u->bus, UINT64_MAX);
        if (r < 0)
                return r;
        r = sd_bus_attach_event(u->bus, u->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        return sd_bus_add_match_async(u->bus, NULL,
                                      "type='signal',sender='org.freedesktop.DBus',"
                                      "member='NameOwnerChanged',arg0='" BUS_NAME "'",
                                      on_owner_changed, NULL, u);
}

static int run(Unit *u) {
        sigset_t signals;
        int r;

        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigprocmask(SIG_BLOCK, &signals, NULL);

        r = sd_event_default(&u->event);
        if (r < 0)
                return r;
        r = sd_event_add_signal(u->event, NULL, SIGTERM, on_signal, u);
        if (r < 0)
                return r;
        r = open_bus(u);
        if (r < 0)
                return r;
        r = call(u, "GetVM", on_found);
        if (r < 0)
                return r;
        return sd_event_loop(u->event);
}

int main(int argc, char *argv[]) {
        Unit u = {};
        int r, exit_status = EXIT_SUCCESS;

        if (argc != 2) {
                fprintf(stderr, "usage: uservm-unit VM; see uservm@.service(8)\n");
                return EXIT_FAILURE;
        }
        u.name = argv[1];

        r = run(&u);
        if (r < 0)
                log_error("VM %s: %s", u.name, strerror(-r));
        if (r != 0)
                exit_status = u.bus && sd_bus_is_open(u.bus) <= 0 ? EX_TEMPFAIL : EXIT_FAILURE;
        sd_bus_flush_close_unref(u.bus);
        sd_event_unref(u.event);
        free(u.path);
        return exit_status;
}
