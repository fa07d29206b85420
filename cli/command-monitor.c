/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* uservm monitor: first how things are, then every change as it comes, a line each, and for ever.
 * The output is flushed line by line, and ends when nobody reads it any more.
 *
 * A VM that is given is followed by its UUID, as it may get another name; one that is made with its
 * name when it is gone takes its place. Jobs go by the name that their VM has now.
 *
 * If the service ends, so do the changes; whoever starts it again makes them go on. The monitor
 * does not, because it may have been stopped on purpose. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "commands.h"
#include "describe.h"
#include "output.h"
#include "session.h"

typedef struct Monitor {
        uservm *u;
        uservm_vm **vms; /* those that are meant, as they are now */
        size_t n_vms;    /* 0: all */
        bool json;
        bool synced;
        int r; /* why it ends */
        Exit status;
} Monitor;

static void monitor_done(Monitor *m) {
        for (size_t i = 0; i < m->n_vms; i++)
                uservm_vm_unref(m->vms[i]);
        free(m->vms);
        uservm_close(m->u);
}

static bool is_meant(const Monitor *m, const uservm_change *change) {
        const uservm_vm *vm = change->vm;
        const uservm_job *job = change->job;

        if (m->n_vms == 0 || (!vm && !job))
                return true;
        for (size_t i = 0; i < m->n_vms; i++)
                if (job ? streq(job->vm, m->vms[i]->name) : streq(vm->uuid, m->vms[i]->uuid))
                        return true;
        return false;
}

static void note_vm(Monitor *m, uservm_event event, const uservm_vm *vm) {
        for (size_t i = 0; i < m->n_vms; i++)
                if (streq(m->vms[i]->uuid, vm->uuid) ||
                    (event == USERVM_EVENT_VM_ADDED && streq(m->vms[i]->name, vm->name))) {
                        uservm_vm_unref(m->vms[i]);
                        m->vms[i] = uservm_vm_ref(vm);
                }
}

/* ---- for programs ---- */

static const char *event_name(uservm_event event) {
        switch (event) {
        case USERVM_EVENT_VM_ADDED:
                return "vm-added";
        case USERVM_EVENT_VM_CHANGED:
                return "vm-changed";
        case USERVM_EVENT_VM_REMOVED:
                return "vm-removed";
        case USERVM_EVENT_SYNCED:
                return "synced";
        case USERVM_EVENT_SERVICE_GONE:
                return "service-gone";
        case USERVM_EVENT_HOST_CHANGED:
                return "host-changed";
        case USERVM_EVENT_JOB_ADDED:
                return "job-added";
        case USERVM_EVENT_JOB_CHANGED:
                return "job-changed";
        case USERVM_EVENT_JOB_REMOVED:
                return "job-removed";
        }
        return NULL;
}

/* The names of the VM's members that have changed. */
static json_object *changed_to_json(uint64_t changed) {
        static const struct {
                uservm_changed flag;
                const char *name;
        } names[] = {
                { USERVM_CHANGED_NAME, "name" },
                { USERVM_CHANGED_STATE, "state" },
                { USERVM_CHANGED_VCPUS, "vcpus" },
                { USERVM_CHANGED_MEMORY, "memory" },
                { USERVM_CHANGED_NETWORK, "network" },
                { USERVM_CHANGED_NETWORK_ERROR, "network-error" },
                { USERVM_CHANGED_AUTOSTART, "autostart" },
                { USERVM_CHANGED_FORWARDS, "forwards" },
                { USERVM_CHANGED_LIVE_VCPUS, "live-vcpus" },
                { USERVM_CHANGED_LIVE_MEMORY, "live-memory" },
                { USERVM_CHANGED_READY, "ready" },
                { USERVM_CHANGED_GUEST_HOSTNAME, "guest-hostname" },
                { USERVM_CHANGED_GUEST_OS, "guest-os" },
                { USERVM_CHANGED_GUEST_ADDRESSES, "guest-addresses" },
                { USERVM_CHANGED_LAST_ERROR, "last-error" },
        };
        const char *set[ELEMENTSOF(names) + 1] = {};
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (changed & names[i].flag)
                        set[n++] = names[i].name;
        return strings_to_json(set);
}

static int print_event_json(const uservm_change *change) {
        _cleanup_json_ json_object *object = json_object_new_object();
        int r;

        if (!object)
                return -ENOMEM;
        r = json_set(object, "event", json_object_new_string(event_name(change->event)));
        if (r >= 0 && change->vm)
                r = json_set(object, "vm", vm_to_json(change->vm));
        if (r >= 0 && change->event == USERVM_EVENT_VM_CHANGED)
                r = json_set(object, "changed", changed_to_json(change->changed));
        if (r >= 0 && change->job)
                r = json_set(object, "job", job_to_json(change->job));
        return r < 0 ? r : json_print_line(object);
}

/* ---- for people ---- */

static void begin_line(const char *vm) {
        char text[32] = "";
        struct tm tm;
        time_t now = time(NULL);

        if (localtime_r(&now, &tm))
                strftime(text, sizeof(text), "%H:%M:%S", &tm);
        print_text(STYLE_DIM, text);
        putchar(' ');
        print_text(STYLE_BOLD, vm);
        printf(": ");
}

static void print_line(const char *vm, Style style, const char *what, const char *detail) {
        begin_line(vm);
        print_text(STYLE_PLAIN, what);
        print_text(style, detail);
        putchar('\n');
}

static const uservm_forward *find_forward(const uservm_vm *vm, const char *spec) {
        for (size_t i = 0; i < vm->n_forwards; i++)
                if (streq(vm->forwards[i]->spec, spec))
                        return vm->forwards[i];
        return NULL;
}

static bool forward_differs(const uservm_forward *a, const uservm_forward *b) {
        return a->state != b->state || a->persistent != b->persistent ||
               !streq_ptr(a->error, b->error);
}

static void print_forward(const char *vm, const uservm_forward *f) {
        const char *state = uservm_forward_state_to_string(f->state), *note = forward_note(f);

        begin_line(vm);
        printf("forward ");
        print_text(STYLE_PLAIN, f->spec);
        putchar(' ');
        print_text(state_style(state), state);
        if (*note) {
                printf(" (");
                print_text(STYLE_PLAIN, note);
                putchar(')');
        }
        putchar('\n');
}

/* The forwards of a VM that differ from those it had before, if there were any. */
static void print_forwards(const uservm_vm *vm, const uservm_vm *before) {
        for (size_t i = 0; before && i < before->n_forwards; i++)
                if (!find_forward(vm, before->forwards[i]->spec))
                        print_line(vm->name, STYLE_PLAIN,
                                   "forward removed: ", before->forwards[i]->spec);
        for (size_t i = 0; i < vm->n_forwards; i++) {
                const uservm_forward *f = vm->forwards[i], *old = NULL;

                if (before)
                        old = find_forward(before, f->spec);
                if (!old || forward_differs(f, old))
                        print_forward(vm->name, f);
        }
}

static void print_state(const uservm_vm *vm, const char *what) {
        const char *state = uservm_state_to_string(vm->state);

        print_line(vm->name, state_style(state), what, state);
}

/* What the guest has, or tells of itself. That it is gone is told by the state. */
static void print_guest_changed(const uservm_change *change) {
        const uservm_vm *vm = change->vm;
        char text[SIZE_TEXT_MAX];

        if ((change->changed & USERVM_CHANGED_LIVE_VCPUS) && vm->live_vcpus > 0) {
                snprintf(text, sizeof(text), "%" PRIu32, vm->live_vcpus);
                print_line(vm->name, STYLE_PLAIN, "vCPUs now ", text);
        }
        if ((change->changed & USERVM_CHANGED_LIVE_MEMORY) && vm->live_memory > 0)
                print_line(vm->name, STYLE_PLAIN, "memory now ",
                           format_size(vm->live_memory, text));
        if ((change->changed & USERVM_CHANGED_GUEST_HOSTNAME) && *vm->guest_hostname)
                print_line(vm->name, STYLE_PLAIN, "guest host name ", vm->guest_hostname);
        if ((change->changed & USERVM_CHANGED_LAST_ERROR) && *vm->last_error)
                print_line(vm->name, STYLE_BAD, "failure: ", vm->last_error);
        if ((change->changed & USERVM_CHANGED_GUEST_OS) && *vm->guest_os)
                print_line(vm->name, STYLE_PLAIN, "guest OS ", vm->guest_os);
        for (const char *const *a = vm->guest_addresses;
             (change->changed & USERVM_CHANGED_GUEST_ADDRESSES) && *a; a++)
                print_line(vm->name, STYLE_PLAIN, "guest address ", *a);
        if (change->changed & USERVM_CHANGED_READY)
                print_line(vm->name, vm->ready ? STYLE_GOOD : STYLE_PLAIN, "",
                           vm->ready ? "ready" : "not ready");
}

static void print_changed(const uservm_change *change) {
        const uservm_vm *vm = change->vm;
        char text[SIZE_TEXT_MAX];

        if (change->changed & USERVM_CHANGED_NAME)
                print_line(vm->name, STYLE_BOLD, "renamed from ", change->before->name);
        if (change->changed & USERVM_CHANGED_STATE)
                print_state(vm, "");
        if (change->changed & USERVM_CHANGED_VCPUS) {
                snprintf(text, sizeof(text), "%" PRIu32, vm->vcpus);
                print_line(vm->name, STYLE_PLAIN, "vCPUs ", text);
        }
        if (change->changed & USERVM_CHANGED_MEMORY)
                print_line(vm->name, STYLE_PLAIN, "memory ", format_size(vm->memory, text));
        if (change->changed & USERVM_CHANGED_NETWORK)
                print_line(vm->name, STYLE_PLAIN, "network ",
                           uservm_network_to_string(vm->network));
        if (change->changed & USERVM_CHANGED_NETWORK_ERROR)
                print_line(vm->name, isempty(vm->network_error) ? STYLE_GOOD : STYLE_BAD,
                           "network: ",
                           isempty(vm->network_error) ? "works again" : vm->network_error);
        if (change->changed & USERVM_CHANGED_AUTOSTART)
                print_line(vm->name, STYLE_PLAIN, "autostart ", vm->autostart ? "on" : "off");
        if (change->changed & USERVM_CHANGED_FORWARDS)
                print_forwards(vm, change->before);
        print_guest_changed(change);
}

static int print_event(const Monitor *m, const uservm_change *change) {
        switch (change->event) {
        case USERVM_EVENT_VM_ADDED:
                print_state(change->vm, m->synced ? "new, " : "");
                print_forwards(change->vm, NULL);
                break;
        case USERVM_EVENT_VM_CHANGED:
                print_changed(change);
                break;
        case USERVM_EVENT_VM_REMOVED:
                print_line(change->vm->name, STYLE_PLAIN, "", "deleted");
                break;
        case USERVM_EVENT_SYNCED:
                if (m->synced)
                        print_line("uservmd", STYLE_GOOD, "", "is back");
                break;
        case USERVM_EVENT_SERVICE_GONE:
                print_line("uservmd", STYLE_BAD, "", "has ended");
                break;
        case USERVM_EVENT_HOST_CHANGED:
                print_line("uservmd", STYLE_PLAIN, "", "what the host can do may have changed");
                break;
        case USERVM_EVENT_JOB_ADDED:
                print_line(change->job->vm, STYLE_BUSY, "job begun: ", change->job->operation);
                break;
        case USERVM_EVENT_JOB_CHANGED:
                break;
        case USERVM_EVENT_JOB_REMOVED:
                print_line(change->job->vm, STYLE_PLAIN, "job ended: ", change->job->operation);
                break;
        }
        return output_flush();
}

/* ---- */

static void on_change(uservm_watch *watch, const uservm_change *change, void *userdata) {
        Monitor *m = userdata;

        if (change->vm)
                note_vm(m, change->event, change->vm);
        if (m->r < 0 || !event_name(change->event) || !is_meant(m, change))
                return;
        if (change->event == USERVM_EVENT_SERVICE_GONE && !m->synced) {
                m->r = -EHOSTUNREACH; /* it could not even be started */
                m->status = session_failed(m->u, m->r);
                return;
        }
        m->r = m->json ? print_event_json(change) : print_event(m, change);
        if (m->r < 0 && m->r != -EPIPE)
                complain("cannot write the output: %s", strerror(-m->r));
        if (m->r < 0)
                m->status = EXIT_FAILED;
        if (change->event == USERVM_EVENT_SYNCED)
                m->synced = true;
}

/* A name that is mistyped would be waited for in vain. */
static Exit find_vms(Monitor *m, const Arguments *arguments) {
        int r;

        m->vms = new0(uservm_vm *, arguments->n_words);
        if (!m->vms) {
                complain("out of memory");
                return EXIT_FAILED;
        }
        for (; m->n_vms < arguments->n_words; m->n_vms++) {
                r = uservm_get_vm(m->u, arguments->words[m->n_vms], &m->vms[m->n_vms]);
                if (r < 0)
                        return session_failed(m->u, r);
        }
        return EXIT_OK;
}

int command_monitor(const Arguments *arguments) {
        _cleanup_(monitor_done) Monitor m = { .json = option_given(arguments, "json") };
        Exit e;
        int r;

        e = session_open(&m.u);
        if (e == EXIT_OK && arguments->n_words > 0)
                e = find_vms(&m, arguments);
        if (e != EXIT_OK)
                return e;
        r = uservm_watch_start(m.u, on_change, &m, NULL);
        while (r >= 0 && m.r >= 0)
                r = session_iterate(m.u, NULL, 0, UINT64_MAX);
        return m.r < 0 ? m.status : session_failed(m.u, r);
}
