/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libuservm against the real uservmd, on buses of its own. What uservmd does is tested elsewhere;
 * here it is what arrives in C, when things go wrong in particular. Images, guest set-up and jobs
 * are in test-images.c. */

#include "uservm.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "private-bus.h"
#include "pump.h"
#include "unit/test.h"
#include "util.h"

static uservm_state state_of(uservm *u, const char *name) {
        _cleanup_(uservm_vm_unrefp) uservm_vm *vm = NULL;

        return uservm_get_vm(u, name, &vm) < 0 ? USERVM_STATE_UNKNOWN : vm->state;
}

static bool has_feature(uservm *u, const char *feature) {
        _cleanup_(uservm_host_unrefp) uservm_host *host = NULL;

        return uservm_get_host(u, &host) >= 0 && strv_contains((char **) host->features, feature);
}

/* ---- Waiting ---- */

TEST(reads_the_host_and_the_VMs) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_host_unrefp) uservm_host *host = NULL;
        _cleanup_(uservm_vms_freep) uservm_vm **vms = NULL;
        _cleanup_(uservm_vm_unrefp) uservm_vm *vm = NULL;
        _cleanup_(uservm_forwards_freep) uservm_forward **forwards = NULL;
        size_t n;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_get_host(u, &host), 0);
        CHECK(!isempty(host->version) && !isempty(host->libvirt_version));
        CHECK_STR(host->passt_version, "0.0~test");
        CHECK(!isempty(host->native_reason));

        CHECK_INT(uservm_list_vms(u, &vms, &n), 0);
        CHECK_INT(n, 2);
        CHECK_STR(vms[0]->name, "db");
        CHECK_STR(vms[1]->name, "web");
        CHECK(!vms[2]);
        CHECK_STR(vms[1]->uuid, WEB_UUID);
        CHECK_INT(vms[1]->state, USERVM_STATE_SHUTOFF);
        CHECK_INT(vms[1]->vcpus, 3);
        CHECK_INT(vms[1]->memory, 1 << 30);
        CHECK_INT(vms[1]->network, USERVM_NETWORK_NATIVE);
        CHECK_INT(vms[0]->network, USERVM_NETWORK_NONE);
        CHECK(!vms[1]->autostart && vms[1]->n_forwards == 0 && !vms[1]->forwards[0]);

        CHECK_INT(uservm_get_vm(u, DB_UUID, &vm), 0);
        CHECK_STR(vm->name, "db");
        CHECK_INT(uservm_list_forwards(u, NULL, &forwards, NULL), 0);
        CHECK(forwards && !forwards[0]);
        CHECK(!uservm_error_name(u) && !uservm_error_message(u));
}

TEST(takes_a_VM_through_its_states) {
        static const struct {
                int (*act)(uservm *u, const char *vm, uint64_t flags);
                uservm_state after;
        } steps[] = {
                { uservm_start, USERVM_STATE_RUNNING },  { uservm_reset, USERVM_STATE_RUNNING },
                { uservm_reboot, USERVM_STATE_RUNNING }, { uservm_pause, USERVM_STATE_PAUSED },
                { uservm_resume, USERVM_STATE_RUNNING }, { uservm_save, USERVM_STATE_SAVED },
                { uservm_start, USERVM_STATE_RUNNING },  { uservm_shutdown, USERVM_STATE_SHUTOFF },
                { uservm_start, USERVM_STATE_RUNNING },  { uservm_power_off, USERVM_STATE_SHUTOFF },
        };
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                CHECK_INT(steps[i].act(u, "web", 0), 0);
                CHECK_STR(uservm_state_to_string(state_of(u, WEB_UUID)),
                          uservm_state_to_string(steps[i].after));
        }
        CHECK_INT(uservm_start(u, "web", 0), 0);
        CHECK_INT(uservm_delete(u, "web", USERVM_DELETE_KEEP_STORAGE, NULL), -EBUSY);
        CHECK_INT(uservm_delete(u, "web", USERVM_DELETE_FORCE, NULL), 0);
        CHECK_INT(state_of(u, "web"), USERVM_STATE_UNKNOWN);
}

TEST(says_what_went_wrong) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        uservm_vm *vm = NULL;
        uservm_forward *forward = NULL;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_FAILS(uservm_start(u, "nobody", 0), ENOENT, "org.uservm1.Error.NoSuchVM");
        CHECK(strstr(uservm_error_message(u), "nobody"));
        CHECK_FAILS(uservm_reset(u, "nobody", 0), ENOENT, "org.uservm1.Error.NoSuchVM");
        CHECK_FAILS(uservm_get_vm(u, "nobody", &vm), ENOENT, "org.uservm1.Error.NoSuchVM");
        CHECK_FAILS(uservm_get_vm(u, "", &vm), ENOENT, "org.uservm1.Error.NoSuchVM");
        CHECK_FAILS(uservm_shutdown(u, "web", 0), EHOSTDOWN, "org.uservm1.Error.NotRunning");
        CHECK_FAILS(uservm_set_autostart(u, "web", true), EOPNOTSUPP,
                    "org.uservm1.Error.NotSupported");
        CHECK_FAILS(uservm_add_forward(u, "web", "eighty", 0, &forward), EINVAL,
                    "org.uservm1.Error.InvalidForward");
        CHECK_FAILS(uservm_remove_forward(u, "web", "80", 0), ENOENT,
                    "org.uservm1.Error.NoSuchForward");
        CHECK_FAILS(uservm_add_forward(u, "db", "8080:80", 0, NULL), ENONET,
                    "org.uservm1.Error.NoUserNetwork");
        CHECK_INT(uservm_start(u, "db", 0), 0);
        CHECK(!uservm_error_name(u));
        CHECK_FAILS(uservm_start(u, "db", 0), EALREADY, "org.uservm1.Error.AlreadyRunning");

        /* what the library refuses by itself */
        CHECK_FAILS(uservm_start(u, NULL, 0), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_start(u, "web\xff", 0), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_start(u, "web", 1), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_delete(u, "web", 1 << 2, NULL), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_add_forward(u, "web", NULL, 0, NULL), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_add_forward(u, "web", "80\xff", 0, NULL), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_list_forwards(u, "", NULL, NULL), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_create(u, NULL, NULL), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_watch_start(u, NULL, NULL, NULL), EINVAL, INVALID_ARGS);
        CHECK_INT(uservm_start(NULL, "web", 0), -EINVAL);
        CHECK_INT(uservm_start_async(NULL, "web", 0, NULL, NULL, NULL), -EINVAL);
        CHECK(!vm && !forward);
}

TEST(creates_VMs) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_settings_freep) uservm_settings *s = NULL;
        _cleanup_(uservm_vm_unrefp) uservm_vm *vm = NULL;
        char kernel[128];

        private_bus_start(&bus, true);
        (void) snprintf(kernel, sizeof(kernel), "%s/kernel", bus.folder);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_settings_new(NULL, &s), -EINVAL);
        CHECK_INT(uservm_settings_new("new", &s), 0);
        CHECK_INT(uservm_settings_set_kernel(s, NULL, NULL, NULL), -EINVAL);
        CHECK_INT(uservm_settings_set_kernel(s, "/nowhere", "/nowhere", "quiet"), 0);
        CHECK_INT(uservm_settings_set_memory(s, 1), 0);
        CHECK_INT(uservm_settings_set_vcpus(s, 1), 0);
        CHECK_INT(uservm_settings_set_accelerator(s, "tcg"), 0);
        CHECK_INT(uservm_settings_set_firmware(s, "bios"), 0);
        CHECK_INT(uservm_settings_set_start(s, false), 0);
        CHECK_INT(uservm_settings_set_autostart(s, false), 0);
        CHECK_FAILS(uservm_create(u, s, &vm), EINVAL, INVALID_ARGS);
        CHECK(strstr(uservm_error_message(u), "memory"));
        CHECK_INT(uservm_settings_set_memory_text(s, "64M"), 0);
        CHECK_FAILS(uservm_create(u, s, &vm), ENOENT, "org.uservm1.Error.ImageNotFound");
        CHECK_INT(uservm_settings_set_kernel(s, kernel, NULL, NULL), 0);
        CHECK_INT(uservm_create(u, s, &vm), 0);
        CHECK_STR(vm->name, "new");
        CHECK_INT(vm->memory, 64 << 20);
        CHECK_INT(vm->vcpus, 1);
        CHECK_FAILS(uservm_create(u, s, NULL), EEXIST, "org.uservm1.Error.VMExists");
        CHECK_INT(uservm_delete(u, vm->uuid, 0, NULL), 0);
        CHECK_INT(uservm_create(u, s, NULL), 0);
}

TEST(refuses_settings_that_exclude_each_other) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_settings_freep) uservm_settings *s = NULL;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_settings_new("new", &s), 0);
        CHECK_INT(uservm_settings_set_disk(s, "/nowhere"), 0);
        CHECK_INT(uservm_settings_set_disk_size(s, 1 << 20), 0);
        CHECK_INT(uservm_settings_set_disk_size_text(s, "1G"), 0);
        CHECK_INT(uservm_settings_set_cdrom(s, "/nowhere"), 0);
        CHECK_INT(uservm_settings_add_forward(s, "8080:80"), 0);
        CHECK_INT(uservm_settings_add_forward(s, "8022:22"), 0);
        CHECK_FAILS(uservm_create(u, s, NULL), EINVAL, INVALID_ARGS);
        CHECK(strstr(uservm_error_message(u), "disk-size"));
}

TEST(changes_forwards) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_vm_unrefp) uservm_vm *vm = NULL;
        _cleanup_(uservm_forwards_freep) uservm_forward **of_vm = NULL, **of_all = NULL;
        _cleanup_(uservm_forward_unrefp) uservm_forward *added = NULL, *kept = NULL;
        size_t n;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        if (!has_feature(u, "passt")) {
                printf("# this libvirt has no passt\n");
                return;
        }
        CHECK_INT(uservm_add_forward(u, "web", "0-1:5000-5001/udp", 0, &added), -EINVAL);
        CHECK_INT(uservm_add_forward(u, "web", "0:22", 0, &added), 0);
        CHECK(added->host_port > 0 && added->host_port == added->host_port_end);
        CHECK_INT(added->guest_port, 22);
        CHECK_STR(added->protocol, "tcp");
        CHECK_STR(added->address, "127.0.0.1");
        CHECK_INT(added->state, USERVM_FORWARD_INACTIVE);
        CHECK(added->persistent && !added->interface && !added->error && !added->vm);
        CHECK_FAILS(uservm_add_forward(u, "web", added->spec, 0, NULL), EEXIST,
                    "org.uservm1.Error.ForwardExists");
        CHECK_FAILS(uservm_add_forward(u, "web", "9000:90", USERVM_FORWARD_THIS_RUN, NULL),
                    EHOSTDOWN, "org.uservm1.Error.NotRunning");

        CHECK_INT(uservm_list_forwards(u, "web", &of_vm, &n), 0);
        CHECK_INT(n, 1);
        CHECK(!of_vm[0]->vm);
        CHECK_INT(uservm_list_forwards(u, NULL, &of_all, &n), 0);
        CHECK_INT(n, 1);
        CHECK_STR(of_all[0]->vm, "web");
        CHECK_STR(of_all[0]->spec, added->spec);
        CHECK_INT(uservm_get_vm(u, "web", &vm), 0);
        CHECK_INT(vm->n_forwards, 1);
        kept = uservm_forward_ref(vm->forwards[0]);
        vm = uservm_vm_unref(vm);
        CHECK_STR(kept->spec, added->spec);
        CHECK_INT(uservm_remove_forward(u, "web", kept->spec, USERVM_FORWARD_DISRUPTIVE), 0);
}

/* ---- Calling back ---- */

typedef struct Outcome {
        int n, result;
        char error_name[128], text[128];
        size_t n_items;
        uservm_call *cancel;
        bool close;
} Outcome;

static void on_done(uservm_call *call, int result, void *userdata) {
        uservm *u = uservm_call_get_handle(call);
        Outcome *o = userdata;
        const uservm_vm *vm = uservm_call_get_vm(call);
        const uservm_forward *forward = uservm_call_get_forward(call);
        const uservm_host *host = uservm_call_get_host(call);
        uservm_vm *const *vms = uservm_call_get_vms(call, &o->n_items);
        const char *name = uservm_error_name(u);

        if (!vms)
                (void) uservm_call_get_forwards(call, &o->n_items);
        o->n++;
        o->result = result;
        (void) snprintf(o->error_name, sizeof(o->error_name), "%s", name ? name : "");
        (void) snprintf(o->text, sizeof(o->text), "%s",
                        vm        ? vm->name
                        : forward ? forward->spec
                        : host    ? host->version
                                  : "");
        uservm_call_cancel(o->cancel);
        uservm_call_cancel(call); /* does nothing */
        if (o->close)
                uservm_close(u);
}

TEST(calls_back_with_results) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        Outcome host = {}, vms = {}, vm = {}, forwards = {}, none = {}, refused = {};

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_get_host_async(u, on_done, &host, NULL), 0);
        CHECK_INT(uservm_list_vms_async(u, on_done, &vms, NULL), 0);
        CHECK_INT(uservm_get_vm_async(u, "web", on_done, &vm, NULL), 0);
        CHECK_INT(uservm_list_forwards_async(u, NULL, on_done, &forwards, NULL), 0);
        CHECK_INT(uservm_get_vm_async(u, "nobody", on_done, &none, NULL), 0);
        CHECK_INT(uservm_set_autostart_async(u, "web", true, on_done, &refused, NULL), 0);
        CHECK_INT(vm.n, 0);
        CHECK(PUMP(u, host.n && vms.n && vm.n && forwards.n && none.n && refused.n));
        CHECK(host.result == 0 && *host.text);
        CHECK(vms.result == 0 && vms.n_items == 2);
        CHECK_STR(vm.text, "web");
        CHECK(forwards.result == 0 && forwards.n_items == 0);
        CHECK_INT(none.result, -ENOENT);
        CHECK_STR(none.error_name, "org.uservm1.Error.NoSuchVM");
        CHECK_INT(refused.result, -EOPNOTSUPP);
}

TEST(calls_back_when_things_are_made) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_settings_freep) uservm_settings *s = NULL;
        Outcome vm = {}, forward = {}, removed = {};
        char kernel[128];

        private_bus_start(&bus, true);
        (void) snprintf(kernel, sizeof(kernel), "%s/kernel", bus.folder);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_settings_new("new", &s), 0);
        CHECK_INT(uservm_settings_set_kernel(s, kernel, NULL, NULL), 0);
        CHECK_INT(uservm_settings_set_start(s, false), 0);
        CHECK_INT(uservm_create_async(u, s, on_done, &vm, NULL), 0);
        CHECK(PUMP(u, vm.n));
        CHECK_INT(vm.result, 0);
        CHECK_STR(vm.text, "new");
        if (!has_feature(u, "passt"))
                return;
        CHECK_INT(uservm_add_forward_async(u, "web", "8080:80", 0, on_done, &forward, NULL), 0);
        CHECK_INT(uservm_remove_forward_async(u, "web", "8080", 0, on_done, &removed, NULL), 0);
        CHECK(PUMP(u, removed.n));
        CHECK_STR(forward.text, "127.0.0.1:8080:80/tcp");
        CHECK_INT(removed.result, 0);
}

TEST(keeps_the_order_of_asynchronous_calls) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        Outcome o[9] = {};

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_start_async(u, "web", 0, on_done, &o[0], NULL), 0);
        CHECK_INT(uservm_pause_async(u, "web", 0, on_done, &o[1], NULL), 0);
        CHECK_INT(uservm_resume_async(u, "web", 0, on_done, &o[2], NULL), 0);
        CHECK_INT(uservm_reset_async(u, "web", 0, on_done, &o[3], NULL), 0);
        CHECK_INT(uservm_reboot_async(u, "web", 0, on_done, &o[4], NULL), 0);
        CHECK_INT(uservm_save_async(u, "web", 0, on_done, &o[5], NULL), 0);
        CHECK_INT(uservm_start_async(u, "web", 0, NULL, NULL, NULL), 0);
        CHECK_INT(uservm_power_off_async(u, "web", 0, on_done, &o[6], NULL), 0);
        CHECK_INT(uservm_shutdown_async(u, "web", 0, on_done, &o[7], NULL), 0);
        CHECK_INT(uservm_delete_async(u, "web", 0, on_done, &o[8], NULL), 0);
        CHECK(PUMP(u, o[8].n));
        for (size_t i = 0; i < ELEMENTSOF(o); i++) {
                CHECK_INT(o[i].n, 1);
                CHECK_INT(o[i].result, i == 7 ? -EHOSTDOWN : 0);
        }
}

TEST(forgets_calls_that_are_cancelled) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        Outcome cancelled = {}, first = {}, second = {}, last = {};
        uservm_call *call;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_start_async(u, "web", 0, on_done, &cancelled, &call), 0);
        CHECK(!uservm_call_cancel(call));
        CHECK(!uservm_call_cancel(NULL));
        /* one from the callback of another */
        CHECK_INT(uservm_get_vm_async(u, "web", on_done, &first, NULL), 0);
        CHECK_INT(uservm_get_vm_async(u, "web", on_done, &second, &first.cancel), 0);
        CHECK_INT(uservm_get_vm_async(u, "web", on_done, &last, NULL), 0);
        CHECK(PUMP(u, last.n));
        CHECK(first.n == 1 && cancelled.n == 0 && second.n == 0);
        /* the rest is cancelled with the handle */
        CHECK_INT(uservm_start_async(u, "web", 0, on_done, &cancelled, NULL), 0);
        u = uservm_close(u);
        CHECK_INT(cancelled.n, 0);
}

TEST(is_closed_in_a_callback) {
        _cleanup_bus_ PrivateBus bus = {};
        Outcome closing = { .close = true }, other = {};
        uservm *u;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_list_vms_async(u, on_done, &closing, NULL), 0);
        CHECK_INT(uservm_list_vms_async(u, on_done, &other, NULL), 0);
        while (!closing.n) {
                if (uservm_process(u) == 0 && !closing.n)
                        CHECK(uservm_wait(u, 20 * 1000 * 1000) >= 0);
        }
        CHECK_INT(other.n, 0);
}

/* ---- Watching ---- */

typedef struct Seen {
        int added, changed, removed, synced, gone, host;
        uint64_t what;
        char name[64], error_name[128];
        uservm_state before, after;
        uservm *u;
        int stop_after; /* events */
        bool close;
} Seen;

static void on_change(uservm_watch *w, const uservm_change *change, void *userdata) {
        Seen *s = userdata;
        const char *error;

        switch (change->event) {
        case USERVM_EVENT_VM_ADDED:
                s->added++;
                break;
        case USERVM_EVENT_VM_CHANGED:
                s->changed++;
                s->what |= change->changed;
                s->before = change->before->state;
                break;
        case USERVM_EVENT_VM_REMOVED:
                s->removed++;
                break;
        case USERVM_EVENT_SYNCED:
                s->synced++;
                break;
        case USERVM_EVENT_SERVICE_GONE:
                s->gone++;
                error = uservm_error_name(s->u);
                (void) snprintf(s->error_name, sizeof(s->error_name), "%s", error ? error : "");
                break;
        case USERVM_EVENT_HOST_CHANGED:
                s->host++;
                break;
        case USERVM_EVENT_JOB_ADDED:
        case USERVM_EVENT_JOB_CHANGED:
        case USERVM_EVENT_JOB_REMOVED:
                break;
        }
        if (change->vm) {
                s->after = change->vm->state;
                (void) snprintf(s->name, sizeof(s->name), "%s", change->vm->name);
        }
        if (s->stop_after && --s->stop_after == 0) {
                uservm_watch_stop(w);
                if (s->close)
                        uservm_close(s->u);
        }
}

TEST(watches_VMs_come_change_and_go) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL, *other = NULL;
        _cleanup_(uservm_settings_freep) uservm_settings *settings = NULL;
        Seen s = {};
        uservm_watch *w;
        char kernel[128];

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_open(bus.address, &other), 0);
        s.u = u;
        CHECK_INT(uservm_watch_start(u, on_change, &s, &w), 0);
        CHECK(PUMP(u, s.synced));
        CHECK(s.added == 2 && s.changed == 0 && s.removed == 0 && s.gone == 0 && s.host == 0);

        CHECK_INT(uservm_start(other, "web", 0), 0);
        CHECK(PUMP(u, s.changed && s.after == USERVM_STATE_RUNNING));
        CHECK_STR(s.name, "web");
        CHECK(s.what & USERVM_CHANGED_STATE);
        CHECK_INT(s.before, USERVM_STATE_STARTING);
        s.what = 0;
        CHECK_INT(uservm_power_off(u, "web", 0), 0); /* signals wait, and are not lost */
        CHECK(PUMP(u, s.after == USERVM_STATE_SHUTOFF));

        if (has_feature(u, "passt")) {
                s.what = 0;
                CHECK_INT(uservm_add_forward(other, "web", "8080:80", 0, NULL), 0);
                CHECK(PUMP(u, s.what & USERVM_CHANGED_FORWARDS));
                CHECK(!(s.what & USERVM_CHANGED_STATE));
        }

        (void) snprintf(kernel, sizeof(kernel), "%s/kernel", bus.folder);
        CHECK_INT(uservm_settings_new("new", &settings), 0);
        CHECK_INT(uservm_settings_set_kernel(settings, kernel, NULL, NULL), 0);
        CHECK_INT(uservm_settings_set_start(settings, false), 0);
        CHECK_INT(uservm_create(other, settings, NULL), 0);
        CHECK(PUMP(u, s.added == 3));
        CHECK_STR(s.name, "new");
        CHECK_INT(uservm_delete(other, "db", 0, NULL), 0);
        CHECK(PUMP(u, s.removed));
        CHECK_STR(s.name, "db");

        uservm_watch_stop(w);
        s = (Seen){};
        CHECK_INT(uservm_start(u, "web", 0), 0);
        while (uservm_process(u) > 0)
                ;
        CHECK_INT(s.changed, 0);
}

TEST(stops_and_closes_in_the_callback_of_a_watch) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        Seen stopping = { .stop_after = 1 }, all = {};
        Seen closing = { .stop_after = 2, .close = true };

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        stopping.u = all.u = u;
        CHECK_INT(uservm_watch_start(u, on_change, &stopping, NULL), 0);
        CHECK_INT(uservm_watch_start(u, on_change, &all, NULL), 0);
        CHECK(PUMP(u, all.synced));
        CHECK(stopping.added == 1 && stopping.synced == 0 && all.added == 2);

        CHECK_INT(uservm_open(bus.address, &closing.u), 0);
        CHECK_INT(uservm_watch_start(closing.u, on_change, &closing, NULL), 0);
        while (closing.added < 2)
                if (uservm_process(closing.u) == 0)
                        CHECK(uservm_wait(closing.u, 20 * 1000 * 1000) >= 0);
        CHECK_INT(closing.synced, 0);
}

TEST(survives_a_restart_of_the_service) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        Outcome in_flight = {};
        Seen s = {};

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        s.u = u;
        CHECK_INT(uservm_watch_start(u, on_change, &s, NULL), 0);
        CHECK_INT(uservm_start(u, "web", 0), 0);
        CHECK_INT(uservm_delete(u, "db", 0, NULL), 0);
        CHECK(PUMP(u, s.synced && s.after != USERVM_STATE_STARTING));

        /* it ends with a call in flight */
        kill(private_bus_service(&bus), SIGSTOP);
        CHECK_INT(uservm_pause_async(u, "web", 0, on_done, &in_flight, NULL), 0);
        private_bus_kill_service(&bus);
        CHECK(PUMP(u, s.gone && in_flight.n));
        CHECK_INT(in_flight.result, -ETIMEDOUT);
        CHECK_STR(in_flight.error_name, NO_REPLY);
        CHECK_STR(s.error_name, "org.freedesktop.DBus.Error.ServiceUnknown");
        CHECK_INT(s.gone, 1);
        for (int i = 0; i < 4; i++) { /* the watch does not bring it back */
                (void) uservm_wait(u, 50 * 1000);
                while (uservm_process(u) > 0)
                        ;
        }
        CHECK(s.synced == 1 && s.host == 0);

        /* the next call starts it, with the test driver's domains as they first were */
        s.added = s.changed = s.removed = 0;
        CHECK_INT(state_of(u, "web"), USERVM_STATE_SHUTOFF);
        CHECK(PUMP(u, s.synced == 2));
        CHECK(s.added == 1 && s.changed == 1 && s.removed == 0 && s.gone == 1 && s.host == 1);
        CHECK(s.before == USERVM_STATE_RUNNING);
        CHECK_INT(uservm_start(u, "web", 0), 0);
        CHECK(PUMP(u, s.after == USERVM_STATE_RUNNING));
}

static pid_t killer(const PrivateBus *bus) {
        pid_t service = private_bus_service(bus), pid;

        fflush(stdout);
        pid = fork();
        if (pid == 0) {
                usleep(1000 * 1000);
                kill(service, SIGKILL);
                _exit(0);
        }
        return pid;
}

TEST(waiting_ends_when_the_service_does) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        pid_t pid;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(state_of(u, "web"), USERVM_STATE_SHUTOFF);
        kill(private_bus_service(&bus), SIGSTOP);
        pid = killer(&bus);
        CHECK_FAILS(uservm_start(u, "web", 0), ETIMEDOUT, NO_REPLY);
        waitpid(pid, NULL, 0);
        CHECK_INT(uservm_start(u, "web", 0), 0);
}

TEST(reading_does_not_wait_for_ever) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *first = NULL, *u = NULL;
        Outcome o = {};
        uservm_vm *vm;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &first), 0);
        CHECK_INT(state_of(first, "web"), USERVM_STATE_SHUTOFF); /* has it started */
        setenv("SYSTEMD_BUS_TIMEOUT", "1s", true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(state_of(u, "web"), USERVM_STATE_SHUTOFF);
        unsetenv("SYSTEMD_BUS_TIMEOUT");
        kill(private_bus_service(&bus), SIGSTOP);
        CHECK_FAILS(uservm_get_vm(u, "web", &vm), ETIMEDOUT, NO_REPLY);
        CHECK_STR(uservm_error_message(u), "Method call timed out");
        CHECK_FAILS(uservm_reset(u, "web", 0), ETIMEDOUT, NO_REPLY); /* it looks for the VM */
        CHECK_INT(uservm_get_vm_async(u, "web", on_done, &o, NULL), 0);
        CHECK(PUMP(u, o.n));
        CHECK_INT(o.result, -ETIMEDOUT);
        CHECK_STR(o.error_name, NO_REPLY);
        kill(private_bus_service(&bus), SIGCONT);
        CHECK_INT(state_of(u, "web"), USERVM_STATE_SHUTOFF);
}

/* ---- Another service, which sends what uservmd does not ---- */

static int read_names(sd_bus *b, char ***ret) {
        _cleanup_(strv_freep) char **names = NULL, **activatable = NULL;
        int r;

        r = sd_bus_list_names(b, &names, &activatable);
        if (r >= 0)
                *ret = TAKE_PTR(names);
        return r;
}

static int open_raw(const PrivateBus *bus, sd_bus **ret) {
        if (sd_bus_new(ret) < 0 || sd_bus_set_address(*ret, bus->address) < 0 ||
            sd_bus_set_bus_client(*ret, true) < 0)
                return -EIO;
        return sd_bus_start(*ret);
}

/* Everybody who listens gets a signal by name, as if the web server had crashed. */
static int spoof(sd_bus *b, const char *path) {
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        r = read_names(b, &names);
        for (char **name = names; r >= 0 && *name; name++) {
                _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

                r = sd_bus_message_new_signal(b, &m, path, "org.freedesktop.DBus.Properties",
                                              "PropertiesChanged");
                if (r >= 0)
                        r = sd_bus_message_append(m, "sa{sv}as", "org.uservm1.VM", 1, "State", "s",
                                                  "crashed", 0);
                if (r >= 0)
                        r = sd_bus_send_to(b, m, *name, NULL);
        }
        return r < 0 ? r : sd_bus_flush(b);
}

TEST(does_not_believe_others) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *b = NULL;
        _cleanup_free_ char *path = NULL;
        Seen s = {};

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        s.u = u;
        CHECK_INT(uservm_watch_start(u, on_change, &s, NULL), 0);
        CHECK(PUMP(u, s.synced));
        CHECK(open_raw(&bus, &b) >= 0);
        CHECK(sd_bus_path_encode("/org/uservm1/vm", WEB_UUID, &path) >= 0);
        CHECK(spoof(b, path) >= 0);
        CHECK_INT(uservm_start(u, "web", 0), 0);
        CHECK(PUMP(u, s.after == USERVM_STATE_RUNNING));
        CHECK_INT(s.changed, 2); /* starting, running */
}

/* What it replies to everything, but for the path of a VM when it is asked for one. */
typedef int (*Reply)(sd_bus_message *m);

typedef struct Impostor {
        Reply reply;
        bool knows_vms;
} Impostor;

static int append_path(sd_bus_message *m) {
        return sd_bus_message_append(m, "o", "/org/uservm1/vm/x");
}

static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const Impostor *impostor = userdata;
        uint8_t type;
        int r;

        if (sd_bus_message_get_type(m, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL)
                return 0;
        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = impostor->knows_vms && sd_bus_message_is_method_call(m, NULL, "GetVM") > 0
                            ? append_path(reply)
                            : impostor->reply(reply);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);
        return r < 0 ? r : 1;
}

static int become_service(const PrivateBus *bus, Impostor *impostor, sd_bus **ret) {
        int r;

        r = open_raw(bus, ret);
        if (r >= 0)
                r = sd_bus_request_name(*ret, "org.uservm1", 0);
        return r < 0 ? r : sd_bus_add_filter(*ret, NULL, on_call, impostor);
}

/* As PUMP(), for the service too. */
#define PUMP_BOTH(u, b, condition)                                                                 \
        ({                                                                                         \
                for (int _i = 0; _i < 2000 && !(condition); _i++) {                                \
                        while (sd_bus_process(b, NULL) > 0)                                        \
                                ;                                                                  \
                        while (uservm_process(u) > 0)                                              \
                                ;                                                                  \
                        (void) uservm_wait(u, 1000);                                               \
                }                                                                                  \
                (condition);                                                                       \
        })

static int append_nothing(sd_bus_message *m) {
        return 0;
}

static int append_string(sd_bus_message *m) {
        return sd_bus_message_append(m, "s", "/no/path");
}

static int append_nameless_vm(sd_bus_message *m) {
        return sd_bus_message_append(m, "a{oa{sa{sv}}}", 1, "/x", 1, "org.uservm1.VM", 1, "UUID",
                                     "s", WEB_UUID);
}

static int append_numbered_vm(sd_bus_message *m) {
        return sd_bus_message_append(m, "a{oa{sa{sv}}}", 1, "/x", 1, "org.uservm1.VM", 1, "Name",
                                     "u", 1);
}

static int append_wrong_forwards(sd_bus_message *m) {
        return sd_bus_message_append(m, "a{oa{sa{sv}}}", 1, "/x", 1, "org.uservm1.VM", 1,
                                     "Forwards", "aa{sv}", 2, 1, "spec", "s", "80:80/tcp", 1,
                                     "spec", "b", 1);
}

static int append_wrong_exclude(sd_bus_message *m) {
        return sd_bus_message_append(m, "aa{sv}", 1, 1, "exclude", "a(uu)", 1, 80, 90);
}

static int append_wrong_features(sd_bus_message *m) {
        return sd_bus_message_append(m, "a{sv}", 1, "Features", "s", "kvm");
}

static int append_nameless_job(sd_bus_message *m) {
        return sd_bus_message_append(m, "a{oa{sa{sv}}}", 1, "/x", 1, "org.uservm1.Job", 2,
                                     "Operation", "s", "copy", "Progress", "d", 0.5);
}

static int append_wrong_progress(sd_bus_message *m) {
        return sd_bus_message_append(m, "a{oa{sa{sv}}}", 1, "/x", 1, "org.uservm1.Job", 1,
                                     "Progress", "s", "half");
}

static int append_wrong_disks(sd_bus_message *m) {
        return sd_bus_message_append(m, "aa{sv}", 2, 2, "target", "s", "vda", "device", "s", "disk",
                                     1, "target", "s", "vdb");
}

static int append_wrong_deletion(sd_bus_message *m) {
        return sd_bus_message_append(m, "a{sv}", 2, "removed", "as", 1, "/x", "left", "s", "/y");
}

TEST(refuses_replies_that_are_not_uservmds) {
        static const Reply replies[] = {
                append_nothing,        append_string,         append_path,
                append_nameless_vm,    append_numbered_vm,    append_wrong_forwards,
                append_wrong_exclude,  append_wrong_features, append_nameless_job,
                append_wrong_progress, append_wrong_disks,    append_wrong_deletion,
        };
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *b = NULL;
        Impostor impostor;

        private_bus_start(&bus, false);
        CHECK(become_service(&bus, &impostor, &b) >= 0);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        for (size_t i = 0; i < 2 * ELEMENTSOF(replies); i++) {
                Outcome host = {}, vms = {}, vm = {}, forwards = {}, forward = {};
                Outcome jobs = {}, disks = {}, deletion = {};
                Seen s = { .u = u };
                uservm_watch *w;

                impostor = (Impostor){ replies[i / 2], i % 2 };
                CHECK_INT(uservm_get_host_async(u, on_done, &host, NULL), 0);
                CHECK_INT(uservm_list_vms_async(u, on_done, &vms, NULL), 0);
                CHECK_INT(uservm_get_vm_async(u, "web", on_done, &vm, NULL), 0);
                CHECK_INT(uservm_list_forwards_async(u, "", on_done, &forwards, NULL), -EINVAL);
                CHECK_INT(uservm_list_forwards_async(u, NULL, on_done, &forwards, NULL), 0);
                CHECK_INT(uservm_add_forward_async(u, "web", "1", 0, on_done, &forward, NULL), 0);
                CHECK_INT(uservm_list_jobs_async(u, on_done, &jobs, NULL), 0);
                CHECK_INT(uservm_list_disks_async(u, "web", on_done, &disks, NULL), 0);
                CHECK_INT(uservm_delete_async(u, "web", 0, on_done, &deletion, NULL), 0);
                CHECK_INT(uservm_watch_start(u, on_change, &s, &w), 0);
                CHECK(PUMP_BOTH(u, b,
                                host.n && vms.n && vm.n && forwards.n && forward.n && s.gone));
                CHECK(PUMP_BOTH(u, b, jobs.n && disks.n && deletion.n));
                CHECK_INT(host.result, -EBADMSG);
                CHECK_INT(vms.result, -EBADMSG);
                CHECK_INT(vm.result, -EBADMSG);
                CHECK_INT(forwards.result, -EBADMSG);
                CHECK_INT(forward.result, -EBADMSG);
                CHECK_INT(jobs.result, -EBADMSG);
                CHECK_INT(disks.result, -EBADMSG);
                CHECK_INT(deletion.result, -EBADMSG);
                CHECK(s.added == 0 && s.synced == 0);
                uservm_watch_stop(w);
        }
}

static int append_later_forward(sd_bus_message *m) {
        return sd_bus_message_append(
                m, "aa{sv}", 1, 14, "spec", "s", "[::1]%lo:8000-8009:80-89/sctp", "protocol", "s",
                "sctp", "address", "s", "::1", "interface", "s", "lo", "host-port", "q", 8000,
                "host-port-end", "q", 8009, "guest-port", "q", 80, "guest-port-end", "q", 89,
                "exclude", "a(qq)", 2, 8001, 8002, 8004, 8004, "persistent", "b", 1, "state", "s",
                "asleep", "error", "s", "because", "vm", "s", "web", "later", "a(sv)", 1, "x", "u",
                7);
}

static void on_later_forward(uservm_call *call, int result, void *userdata) {
        size_t n;
        uservm_forward *const *list = uservm_call_get_forwards(call, &n);

        if (result == 0 && n == 1)
                *(uservm_forward **) userdata = uservm_forward_ref(list[0]);
}

TEST(reads_all_of_a_forward_and_passes_over_what_is_new) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *b = NULL;
        _cleanup_(uservm_forward_unrefp) uservm_forward *f = NULL;
        Impostor impostor = { .reply = append_later_forward };

        private_bus_start(&bus, false);
        CHECK(become_service(&bus, &impostor, &b) >= 0);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_list_forwards_async(u, NULL, on_later_forward, &f, NULL), 0);
        CHECK(PUMP_BOTH(u, b, f));
        CHECK_STR(f->spec, "[::1]%lo:8000-8009:80-89/sctp");
        CHECK_STR(f->protocol, "sctp");
        CHECK_STR(f->address, "::1");
        CHECK_STR(f->interface, "lo");
        CHECK(f->host_port == 8000 && f->host_port_end == 8009);
        CHECK(f->guest_port == 80 && f->guest_port_end == 89);
        CHECK_INT(f->n_exclude, 2);
        CHECK(f->exclude[0].first == 8001 && f->exclude[0].last == 8002);
        CHECK(f->exclude[1].first == 8004 && f->exclude[1].last == 8004);
        CHECK_INT(f->state, USERVM_FORWARD_UNKNOWN);
        CHECK_STR(uservm_forward_state_to_string(f->state), "unknown");
        CHECK_STR(f->error, "because");
        CHECK_STR(f->vm, "web");
        CHECK(f->persistent);
}

/* ---- Buses ---- */

TEST(says_that_there_is_no_bus) {
        uservm *u = NULL;

        CHECK(uservm_open("unix:path=/nowhere/bus", &u) == -ENOENT);
        CHECK(uservm_open("not an address", &u) < 0);
        CHECK(uservm_open("", &u) < 0);
        CHECK_INT(uservm_open("unix:path=/nowhere/bus", NULL), -EINVAL);
        CHECK(!u);
        CHECK(!uservm_close(NULL));
}

TEST(says_that_there_is_no_service) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        uservm_vm *vm;
        Seen s = {};

        private_bus_start(&bus, false);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_FAILS(uservm_get_vm(u, "web", &vm), EHOSTUNREACH,
                    "org.freedesktop.DBus.Error.ServiceUnknown");
        s.u = u;
        CHECK_INT(uservm_watch_start(u, on_change, &s, NULL), 0);
        CHECK(PUMP(u, s.gone));
        CHECK_STR(s.error_name, "org.freedesktop.DBus.Error.ServiceUnknown");
}

TEST(notices_that_the_bus_has_gone) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        Outcome o = {};
        Seen s = {};
        uservm_vm *vm;
        int r;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        s.u = u;
        CHECK_INT(uservm_watch_start(u, on_change, &s, NULL), 0);
        CHECK(PUMP(u, s.synced));
        kill(private_bus_service(&bus), SIGSTOP);
        CHECK_INT(uservm_start_async(u, "web", 0, on_done, &o, NULL), 0);
        kill(private_bus_service(&bus), SIGCONT);
        kill(bus.pid, SIGKILL);
        CHECK(PUMP(u, s.gone));
        CHECK_INT(s.gone, 1);
        CHECK(o.n == 1);
        while ((r = uservm_process(u)) > 0)
                ;
        CHECK(r == -ENOTCONN || r == -ECONNRESET);
        r = uservm_get_vm(u, "web", &vm);
        CHECK(r == -ENOTCONN || r == -ECONNRESET);
        CHECK(uservm_error_name(u) && uservm_error_message(u));
        CHECK(uservm_start_async(u, "web", 0, on_done, &o, NULL) < 0);
        CHECK(uservm_watch_start(u, on_change, &s, NULL) < 0);
        CHECK_INT(o.n, 1);
}

/* ---- Loops ---- */

TEST(runs_in_sd_event) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        Outcome o = {};
        Seen s = {};

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK(sd_event_new(&event) >= 0);
        CHECK_INT(uservm_attach_event(u, event, 0), 0);
        CHECK_INT(uservm_attach_event(u, event, 0), -EBUSY);
        s.u = u;
        CHECK_INT(uservm_watch_start(u, on_change, &s, NULL), 0);
        CHECK_INT(uservm_start_async(u, "web", 0, on_done, &o, NULL), 0);
        for (int i = 0; i < 1000 && !(o.n && s.synced); i++)
                CHECK(sd_event_run(event, 1000 * 1000) >= 0);
        CHECK(o.n == 1 && o.result == 0 && s.synced == 1);
        CHECK(sd_event_exit(event, 0) >= 0 && sd_event_loop(event) == 0);
        CHECK_INT(state_of(u, "web"), USERVM_STATE_RUNNING);
        CHECK_INT(uservm_detach_event(u), 0);
        CHECK_INT(uservm_detach_event(u), 0);
}

TEST(runs_in_any_loop) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        Outcome o = {};

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_start_async(u, "web", 0, on_done, &o, NULL), 0);
        for (int i = 0; i < 1000 && !o.n; i++) {
                struct pollfd p = { .fd = uservm_get_fd(u), .events = uservm_get_events(u) };
                uint64_t until;

                CHECK(p.fd >= 0 && p.events >= 0);
                CHECK_INT(uservm_get_timeout(u, &until), 0);
                CHECK(poll(&p, 1, until == 0 ? 0 : 1000) >= 0);
                while (uservm_process(u) > 0)
                        ;
        }
        CHECK(o.n == 1 && o.result == 0);
}

static void on_alarm(int number) {
}

TEST(waits_until_there_is_a_signal) {
        static const struct itimerval again_and_again = { .it_value = { .tv_usec = 200 * 1000 },
                                                          .it_interval = { .tv_usec =
                                                                                   200 * 1000 } },
                                      never = {};
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(state_of(u, "web"), USERVM_STATE_SHUTOFF);
        while (uservm_process(u) > 0)
                ;
        CHECK_INT(uservm_wait(u, 1000), 0);
        signal(SIGALRM, on_alarm);
        setitimer(ITIMER_REAL, &again_and_again, NULL);
        CHECK(uservm_wait(u, UINT64_MAX) > 0);
        CHECK_INT(uservm_process(u), 0);
        setitimer(ITIMER_REAL, &never, NULL);
        signal(SIGALRM, SIG_DFL);
}

/* ---- Threads ---- */

static void *use_a_handle(void *userdata) {
        const PrivateBus *bus = userdata;
        _cleanup_(uservm_closep) uservm *u = NULL;
        intptr_t failures = 0;
        Seen s = {};

        if (uservm_open(bus->address, &u) < 0)
                return (void *) 1;
        s.u = u;
        failures += uservm_watch_start(u, on_change, &s, NULL) < 0;
        for (int i = 0; i < 50; i++) {
                _cleanup_(uservm_vms_freep) uservm_vm **vms = NULL;
                Outcome o = {};

                failures += uservm_list_vms(u, &vms, NULL) < 0;
                failures += uservm_reset(u, "nobody", 0) != -ENOENT;
                failures += !streq_ptr(uservm_error_name(u), "org.uservm1.Error.NoSuchVM");
                failures += uservm_get_vm_async(u, "web", on_done, &o, NULL) < 0;
                failures += !PUMP(u, o.n) || o.result != 0;
        }
        failures += !PUMP(u, s.synced) || s.added != 2 || s.gone != 0;
        return (void *) failures;
}

TEST(serves_threads_that_have_handles_of_their_own) {
        _cleanup_bus_ PrivateBus bus = {};
        pthread_t threads[8];
        void *failures;

        private_bus_start(&bus, true);
        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                CHECK_INT(pthread_create(&threads[i], NULL, use_a_handle, &bus), 0);
        for (size_t i = 0; i < ELEMENTSOF(threads); i++) {
                CHECK_INT(pthread_join(threads[i], &failures), 0);
                CHECK(!failures);
        }
}

static void *count_references(void *userdata) {
        for (int i = 0; i < 10000; i++)
                uservm_vm_unref(uservm_vm_ref(userdata));
        return NULL;
}

TEST(shares_VMs_between_threads) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_vm_unrefp) uservm_vm *vm = NULL;
        pthread_t threads[4];

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_get_vm(u, "web", &vm), 0);
        u = uservm_close(u); /* VMs outlive their handle */
        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                CHECK_INT(pthread_create(&threads[i], NULL, count_references, vm), 0);
        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                CHECK_INT(pthread_join(threads[i], NULL), 0);
        CHECK_STR(vm->name, "web");
}

TEST(refuses_to_work_after_a_fork) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        int status;
        pid_t pid;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(state_of(u, "web"), USERVM_STATE_SHUTOFF);
        fflush(stdout);
        pid = fork();
        if (pid == 0)
                _exit(uservm_start(u, "web", 0) == -ECHILD && uservm_process(u) == -ECHILD ? 0 : 1);
        CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
        CHECK_INT(WEXITSTATUS(status), 0);
}

/* ---- Examples ---- */

/* Runs a program on the bus; its exit status. */
static int run(const PrivateBus *bus, const char *program, const char *argument) {
        int status;
        pid_t pid;

        fflush(stdout);
        pid = fork();
        if (pid == 0) {
                setenv("DBUS_SESSION_BUS_ADDRESS", bus->address, true);
                dup2(STDERR_FILENO, STDOUT_FILENO);
                execl(program, program, argument, NULL);
                _exit(127);
        }
        return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(the_manuals_example_works) {
        _cleanup_bus_ PrivateBus bus = {};
        char kernel[128];

        private_bus_start(&bus, true);
        (void) snprintf(kernel, sizeof(kernel), "%s/kernel", bus.folder);
        CHECK_INT(run(&bus, "tests/client-lib/manual-example", kernel), 0);
        CHECK_INT(run(&bus, "tests/client-lib/manual-example", "/nowhere"), 1);
}

TEST(the_GLib_example_works) {
        _cleanup_bus_ PrivateBus bus = {};

        if (access("tests/client-lib/glib-example", X_OK) < 0) {
                printf("# there is no GLib to build it with\n");
                return;
        }
        private_bus_start(&bus, true);
        CHECK_INT(run(&bus, "tests/client-lib/glib-example", "web"), 0);
        CHECK_INT(run(&bus, "tests/client-lib/glib-example", "nobody"), 1);
}

#define TESTS                                                                                      \
        reads_the_host_and_the_VMs, takes_a_VM_through_its_states, says_what_went_wrong,           \
                creates_VMs, refuses_settings_that_exclude_each_other, changes_forwards,           \
                calls_back_with_results, calls_back_when_things_are_made,                          \
                keeps_the_order_of_asynchronous_calls, forgets_calls_that_are_cancelled,           \
                is_closed_in_a_callback, watches_VMs_come_change_and_go,                           \
                stops_and_closes_in_the_callback_of_a_watch, survives_a_restart_of_the_service,    \
                waiting_ends_when_the_service_does, reading_does_not_wait_for_ever,                \
                does_not_believe_others, refuses_replies_that_are_not_uservmds,                    \
                reads_all_of_a_forward_and_passes_over_what_is_new, says_that_there_is_no_bus,     \
                says_that_there_is_no_service, notices_that_the_bus_has_gone, runs_in_sd_event,    \
                runs_in_any_loop, waits_until_there_is_a_signal,                                   \
                serves_threads_that_have_handles_of_their_own, shares_VMs_between_threads,         \
                refuses_to_work_after_a_fork, the_manuals_example_works, the_GLib_example_works

static void (*const functions[])(void) = { TESTS };

#define STRING(...) #__VA_ARGS__
#define NAMES(...) STRING(__VA_ARGS__)

int main(void) {
        if (geteuid() == 0 || !getenv("USERVMD") || system("command -v dbus-daemon >&2") != 0) {
                printf("1..0 # SKIP this needs $USERVMD, dbus-daemon and another user than root\n");
                return 0;
        }
        return test_run(NAMES(TESTS), functions, ELEMENTSOF(functions));
}
