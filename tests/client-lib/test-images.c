/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From an image to a VM by way of libuservm, against the real uservmd and the real qemu-img: disks,
 * what guests are set up with, changes of what a VM is made of, and jobs. libvirt's test driver
 * takes every disk for one of about a terabyte. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "pump.h"

#define KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9J5ZEsUPOjdjzVzwTSJkGDjyCMPuLV1zCmSfb1dHpC me"
#define CANCELLED "org.uservm1.Error.Cancelled"
#define IMAGES "home/.local/share/libvirt/images"
#define TIB (1ULL << 40)

/* A file of the test's. One of eight buffers in turn. */
static const char *in_folder(const PrivateBus *bus, const char *name) {
        static char buffers[8][256];
        static unsigned next;
        char *buffer = buffers[next++ % ELEMENTSOF(buffers)];

        (void) snprintf(buffer, sizeof(buffers[0]), "%s/%s", bus->folder, name);
        return buffer;
}

static const char *make_image(const PrivateBus *bus, const char *name, off_t size) {
        const char *path = in_folder(bus, name);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0 || ftruncate(fd, size) < 0)
                abort();
        return path;
}

static bool contains(const uservm_deletion *d, const char *file) {
        return strv_contains((char *const *) d->removed, file);
}

static bool left(const uservm_deletion *d, const char *file) {
        return strv_contains((char *const *) d->left, file);
}

/* ---- Disks ---- */

TEST(makes_disks_of_images) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_settings_freep) uservm_settings *s = NULL;
        _cleanup_(uservm_disks_freep) uservm_disk **disks = NULL;
        _cleanup_(uservm_deletion_unrefp) uservm_deletion *d = NULL;
        _cleanup_(uservm_disk_unrefp) uservm_disk *kept = NULL;
        uservm_disk_settings *more;
        const char *image, *mine;
        size_t n;

        private_bus_start(&bus, true);
        image = make_image(&bus, "debian.raw", 8 << 20);
        mine = make_image(&bus, "data.raw", 1 << 20);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_settings_new("new", &s), 0);
        CHECK_INT(uservm_settings_set_image(s, image), 0);
        CHECK_INT(uservm_settings_set_disk_size_text(s, "16M"), 0);
        CHECK_INT(uservm_settings_add_disk(s, &more), 0);
        CHECK_INT(uservm_disk_settings_set_disk(more, mine), 0);
        CHECK_INT(uservm_settings_add_disk(s, &more), 0);
        CHECK_INT(uservm_disk_settings_set_size_text(more, "much"), 0);
        CHECK_INT(uservm_disk_settings_set_size(more, 3 << 20), 0);
        CHECK_INT(uservm_settings_add_disk(s, &more), 0);
        CHECK_INT(uservm_disk_settings_set_image(more, image), 0);
        CHECK_INT(uservm_disk_settings_set_copy(more, true), 0);
        CHECK_INT(uservm_settings_set_start(s, false), 0);
        CHECK_INT(uservm_create(u, s, NULL), 0);

        CHECK_INT(uservm_list_disks(u, "new", &disks, &n), 0);
        CHECK_INT(n, 4);
        CHECK(!disks[4]);
        CHECK_STR(disks[0]->target, "vda");
        CHECK_STR(disks[0]->device, "disk");
        CHECK_STR(disks[0]->path, in_folder(&bus, IMAGES "/new.qcow2"));
        CHECK_STR(disks[0]->format, "qcow2");
        CHECK(disks[0]->created);
        CHECK(disks[0]->size > TIB / 2);
        CHECK(disks[0]->allocation > 0);
        CHECK_STR(disks[1]->path, mine);
        CHECK_STR(disks[1]->format, "raw");
        CHECK(!disks[1]->created && disks[2]->created && disks[3]->created);
        kept = uservm_disk_ref(disks[1]);
        uservm_disks_free(disks);
        disks = NULL;
        CHECK_STR(kept->target, "vdb");

        CHECK_FAILS(uservm_delete(u, "nobody", 0, &d), ENOENT, "org.uservm1.Error.NoSuchVM");
        CHECK(!d);
        CHECK_INT(uservm_delete(u, "new", 0, &d), 0);
        CHECK(contains(d, in_folder(&bus, IMAGES "/new.qcow2")));
        CHECK(contains(d, in_folder(&bus, IMAGES "/new.disk3.qcow2")));
        CHECK(contains(d, in_folder(&bus, IMAGES "/new.disk4.qcow2")));
        CHECK(left(d, mine) && left(d, image));
        CHECK(!d->removed[3] && !d->left[2]);

        /* without a first one the next is it */
        CHECK_INT(uservm_settings_set_image(s, in_folder(&bus, "none")), 0);
        CHECK_FAILS(uservm_create(u, s, NULL), ENOENT, "org.uservm1.Error.ImageNotFound");
        CHECK_INT(uservm_list_disks(u, "web", &disks, &n), 0);
        CHECK(n == 0 && disks && !disks[0]);
}

TEST(deletes_VMs_without_files) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_deletion_unrefp) uservm_deletion *d = NULL, *kept = NULL;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_delete(u, "web", 0, &d), 0);
        kept = uservm_deletion_ref(d);
        d = uservm_deletion_unref(d);
        CHECK(!*kept->removed && !*kept->left);
}

/* ---- Guest set-up ---- */

/* Whether the file has the text in it. */
static bool file_has(const char *path, const char *text) {
        static char buffer[1 << 20];
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = read(fd, buffer, sizeof(buffer));

        return n > 0 && memmem(buffer, (size_t) n, text, strlen(text));
}

TEST(sets_up_guests) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_settings_freep) uservm_settings *s = NULL, *own = NULL, *wrong = NULL;
        const char *image, *seed;

        private_bus_start(&bus, true);
        image = make_image(&bus, "debian.raw", 1 << 20);
        seed = in_folder(&bus, IMAGES "/new.seed.iso");
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_settings_new("new", &s), 0);
        CHECK_INT(uservm_settings_set_image(s, image), 0);
        CHECK_INT(uservm_settings_set_hostname(s, "buoy"), 0);
        CHECK_INT(uservm_settings_set_user(s, "ali"), 0);
        CHECK_INT(uservm_settings_add_ssh_key(s, KEY), 0);
        CHECK_INT(uservm_settings_add_ssh_key(s, KEY "-too"), 0);
        CHECK_INT(uservm_settings_set_password(s, "forget it"), 0);
        CHECK_INT(uservm_settings_set_password(s, "open sesame"), 0);
        CHECK_INT(uservm_settings_set_guest_setup(s, "cloud-init"), 0);
        CHECK_INT(uservm_create(u, s, NULL), 0);
        CHECK(file_has(seed, "buoy") && file_has(seed, "ali") && file_has(seed, " me-too"));
        CHECK(file_has(seed, "$6$") && !file_has(seed, "open sesame"));

        CHECK_INT(uservm_settings_new("own", &own), 0);
        CHECK_INT(uservm_settings_set_image(own, image), 0);
        CHECK_INT(uservm_settings_set_user_data(own, "#!/bin/sh\n: \"it's\"\t{}\n"), 0);
        CHECK_INT(uservm_create(u, own, NULL), 0);
        CHECK(file_has(in_folder(&bus, IMAGES "/own.seed.iso"), "#!/bin/sh\n: \"it's\"\t{}\n"));

        CHECK_INT(uservm_settings_new("wrong", &wrong), 0);
        CHECK_INT(uservm_settings_set_image(wrong, image), 0);
        CHECK_INT(uservm_settings_set_guest_setup(wrong, "magic"), 0);
        CHECK_FAILS(uservm_create(u, wrong, NULL), EINVAL, INVALID_ARGS);
        CHECK(strstr(uservm_error_message(u), "guest-setup"));
}

/* What is looked for is the end of a secret: free() itself overwrites the beginning of what is
 * freed. It must not be found where it is written down to be looked for, so there it is masked. */
#define MASK 0x5a
#define SECRET_LENGTH 64
#define END_LENGTH 16

static bool region_has(int memory, uint64_t from, uint64_t to, const char end[END_LENGTH]) {
        static char buffer[64 << 10];
        ssize_t n;

        for (; from < to; from += sizeof(buffer) - END_LENGTH) {
                n = pread(memory, buffer, sizeof(buffer), (off_t) from);
                for (ssize_t i = 0; i + END_LENGTH <= n; i++) {
                        int k = 0;

                        while (k < END_LENGTH && (buffer[i + k] ^ MASK) == end[k])
                                k++;
                        if (k == END_LENGTH)
                                return true;
                }
                explicit_bzero(buffer, sizeof(buffer));
        }
        return false;
}

/* Looks through all that this process can write to, but for what the sanitizers reserve. */
static bool memory_has(const char end[END_LENGTH]) {
        _cleanup_close_ int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
        FILE *maps = fopen("/proc/self/maps", "re");
        char line[4096], mode[8];
        unsigned long long from, to;
        bool found = false;

        while (memory >= 0 && maps && !found && fgets(line, sizeof(line), maps))
                if (sscanf(line, "%llx-%llx %7s", &from, &to, mode) == 3 && mode[0] == 'r' &&
                    mode[1] == 'w' && to - from < (256 << 20))
                        found = region_has(memory, from, to, end);
        if (maps)
                fclose(maps);
        return found;
}

/* A text that nobody else has written down, on a page of its own. */
static char *make_secret(char ret_end[END_LENGTH]) {
        char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        for (int i = 0; i < SECRET_LENGTH; i++)
                page[i] = (char) ('a' + (i * 7 + getpid()) % 26);
        for (int i = 0; i < END_LENGTH; i++)
                ret_end[i] = page[SECRET_LENGTH - END_LENGTH + i] ^ MASK;
        return page;
}

/* The address sanitizer would overwrite what is freed. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
        return "max_free_fill_size=0";
}

typedef struct Created {
        int n, result;
        char error_name[128];
} Created;

static void on_created(uservm_call *call, int result, void *userdata) {
        const char *name = uservm_error_name(uservm_call_get_handle(call));
        Created *c = userdata;

        c->n++;
        c->result = result;
        (void) snprintf(c->error_name, sizeof(c->error_name), "%s", name ? name : "");
}

TEST(erases_secrets) {
        static int (*const setters[])(uservm_settings * s,
                                      const char *secret) = { uservm_settings_set_password,
                                                              uservm_settings_set_user_data };
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        const char *image;

        private_bus_start(&bus, true);
        image = make_image(&bus, "debian.raw", 1 << 20);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        for (size_t i = 0; i < ELEMENTSOF(setters) * 2; i++) {
                _cleanup_(uservm_settings_freep) uservm_settings *s = NULL;
                char end[END_LENGTH], *secret = make_secret(end);
                bool wait = i % 2 == 0;
                Created created = {};

                CHECK(memory_has(end));
                CHECK_INT(uservm_settings_new(i < 2 ? "one" : "two", &s), 0);
                CHECK_INT(uservm_settings_set_image(s, image), 0);
                CHECK_INT(setters[i / 2](s, secret), 0);
                munmap(secret, 4096);
                for (int k = 0; k < 10; k++) { /* for a message that grows */
                        uservm_disk_settings *d;

                        CHECK_INT(uservm_settings_add_disk(s, &d), 0);
                        CHECK_INT(uservm_disk_settings_set_size(d, 1 << 20), 0);
                }
                CHECK(memory_has(end));
                if (wait)
                        CHECK_INT(uservm_create(u, s, NULL), 0);
                else
                        CHECK_INT(uservm_create_async(u, s, on_created, &created, NULL), 0);
                s = uservm_settings_free(s);
                CHECK(wait || PUMP(u, created.n));
                CHECK(!memory_has(end));
        }
}

/* ---- What a VM is made of ---- */

TEST(changes_what_VMs_are_made_of) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_settings_freep) uservm_settings *s = NULL;
        _cleanup_(uservm_vm_unrefp) uservm_vm *off = NULL, *on = NULL, *db = NULL;
        _cleanup_free_ char *message = NULL;

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_settings_new("new", &s), 0);
        CHECK_INT(uservm_settings_set_disk_size(s, 1 << 20), 0);
        CHECK_INT(uservm_settings_set_start(s, false), 0);
        CHECK_INT(uservm_create(u, s, NULL), 0);

        CHECK_INT(uservm_rename(u, "new", "site"), 0);
        CHECK_INT(uservm_set_memory(u, "site", 512 << 20), 0);
        CHECK_INT(uservm_set_vcpus(u, "site", 5), 0);
        CHECK_INT(uservm_get_vm(u, "site", &off), 0);
        CHECK(off->memory == 512 << 20 && off->vcpus == 5);
        CHECK(off->live_memory == 0 && off->live_vcpus == 0 && !off->ready);
        CHECK(!*off->guest_hostname && !*off->guest_os && !*off->guest_addresses);
        CHECK(!*off->last_error_operation && !*off->last_error && !off->last_error_time);

        CHECK_INT(uservm_start(u, "site", 0), 0);
        CHECK_INT(uservm_set_memory(u, "site", 1 << 30), 0);
        CHECK_INT(uservm_get_vm(u, "site", &on), 0);
        CHECK(on->memory == 1 << 30 && on->live_memory == 512 << 20);
        CHECK(on->vcpus == 5 && on->live_vcpus == 5);

        CHECK_FAILS(uservm_rename(u, "site", "other"), EBUSY, "org.uservm1.Error.Busy");
        CHECK_FAILS(uservm_rename(u, "db", "web"), EEXIST, "org.uservm1.Error.VMExists");
        message = strdup(uservm_error_message(u));
        CHECK_INT(uservm_get_vm(u, "db", &db), 0);
        CHECK_STR(db->last_error_operation, "Rename");
        CHECK_STR(db->last_error, message);
        CHECK(db->last_error_time > 1700000000000000);
        CHECK_FAILS(uservm_rename(u, "db", "a/b"), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_set_memory(u, "db", 1), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_set_vcpus(u, "db", 256), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_set_vcpus(u, "nobody", 1), ENOENT, "org.uservm1.Error.NoSuchVM");
        CHECK_FAILS(uservm_resize_disk(u, "site", "vdx", 2 << 20), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_resize_disk(u, "site", "vda", 2 << 20), EINVAL, INVALID_ARGS);
        CHECK(strstr(uservm_error_message(u), "smaller"));
        CHECK_INT(uservm_power_off(u, "site", 0), 0);
        CHECK_INT(uservm_resize_disk(u, "site", "vda", 2 * TIB), 0);

        /* what the library refuses by itself */
        CHECK_FAILS(uservm_rename(u, NULL, "other"), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_rename(u, "web", NULL), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_rename(u, "web", "\xff"), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_set_memory(u, NULL, 1), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_resize_disk(u, "web", NULL, 1), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_list_disks(u, NULL, NULL, NULL), EINVAL, INVALID_ARGS);
        CHECK_FAILS(uservm_cancel_job(u, NULL), EINVAL, INVALID_ARGS);
        CHECK_INT(uservm_rename(NULL, "web", NULL), -EINVAL);
        CHECK_INT(uservm_resize_disk(NULL, "web", NULL, 1), -EINVAL);
        CHECK_INT(uservm_list_jobs(NULL, NULL, NULL), -EINVAL);
        CHECK_INT(uservm_settings_add_disk(s, NULL), -EINVAL);
        CHECK_INT(uservm_settings_set_image(NULL, "/"), -EINVAL);
        CHECK_INT(uservm_settings_set_password(s, NULL), -EINVAL);
        CHECK_INT(uservm_disk_settings_set_size(NULL, 1), -EINVAL);
}

typedef struct Results {
        int n;
        size_t n_disks;
        char removed[256];
} Results;

static void on_result(uservm_call *call, int result, void *userdata) {
        const uservm_deletion *d = uservm_call_get_deletion(call);
        Results *r = userdata;
        size_t n;

        r->n += result == 0;
        if (uservm_call_get_disks(call, &n))
                r->n_disks = n;
        if (d && *d->removed)
                (void) snprintf(r->removed, sizeof(r->removed), "%s", *d->removed);
}

TEST(changes_in_the_order_of_the_calls) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_settings_freep) uservm_settings *s = NULL;
        Results r = {};

        private_bus_start(&bus, true);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_settings_new("new", &s), 0);
        CHECK_INT(uservm_settings_set_disk_size(s, 1 << 20), 0);
        CHECK_INT(uservm_settings_set_start(s, false), 0);
        CHECK_INT(uservm_create(u, s, NULL), 0);
        CHECK_INT(uservm_set_memory_async(u, "new", 512 << 20, on_result, &r, NULL), 0);
        CHECK_INT(uservm_set_vcpus_async(u, "new", 1, on_result, &r, NULL), 0);
        CHECK_INT(uservm_list_disks_async(u, "new", on_result, &r, NULL), 0);
        CHECK_INT(uservm_resize_disk_async(u, "new", "vda", 2 * TIB, on_result, &r, NULL), 0);
        CHECK_INT(uservm_rename_async(u, "new", "site", on_result, &r, NULL), 0);
        CHECK_INT(uservm_delete_async(u, "new", 0, on_result, &r, NULL), 0);
        CHECK(PUMP(u, *r.removed));
        CHECK_INT(r.n, 6);
        CHECK_INT(r.n_disks, 1);
        CHECK_STR(r.removed, in_folder(&bus, IMAGES "/new.qcow2"));
}

/* ---- Jobs ---- */

/* What it says, qemu-img does; but a conversion waits for somebody to open this pipe for writing.
 */
static void slow_down_copies(const PrivateBus *bus) {
        static const char script[] =
                "#!/bin/sh\n"
                "[ \"$1\" != convert ] || { echo '    (40.00/100%)'; read _ <\"$HOME/gate\"; }\n"
                "PATH=${PATH#*:} exec qemu-img \"$@\"\n";
        _cleanup_close_ int fd =
                open(in_folder(bus, "bin/qemu-img"), O_WRONLY | O_CREAT | O_CLOEXEC, 0700);

        if (write(fd, script, strlen(script)) < 0 || mkfifo(in_folder(bus, "home/gate"), 0600) < 0)
                abort();
}

/* Fails if nobody comes to wait at it. */
static bool open_gate(const PrivateBus *bus) {
        int fd = -1;

        for (int i = 0; i < 1000 && fd < 0; i++) {
                fd = open(in_folder(bus, "home/gate"), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
                if (fd < 0)
                        usleep(10000);
        }
        return fd >= 0 && close(fd) == 0;
}

/* The jobs that a watch tells of. */
typedef struct Seen {
        int added, changed, removed, synced, gone, vms;
        uservm_job *job; /* as it is now */
} Seen;

static void seen_done(Seen *s) {
        uservm_job_unref(s->job);
}
#define _cleanup_seen_ _cleanup_(seen_done)

static void on_change(uservm_watch *w, const uservm_change *change, void *userdata) {
        Seen *s = userdata;

        switch (change->event) {
        case USERVM_EVENT_JOB_ADDED:
                s->added++;
                break;
        case USERVM_EVENT_JOB_CHANGED:
                s->changed++;
                break;
        case USERVM_EVENT_JOB_REMOVED:
                s->removed++;
                break;
        case USERVM_EVENT_SYNCED:
                s->synced++;
                break;
        case USERVM_EVENT_SERVICE_GONE:
                s->gone++;
                break;
        default:
                s->vms++;
                break;
        }
        if (change->job) {
                uservm_job_unref(s->job);
                s->job = uservm_job_ref(change->job);
        }
}

/* A copy that goes on until open_gate(). */
static int begin_copy(const PrivateBus *bus, uservm *u, Created *created) {
        _cleanup_(uservm_settings_freep) uservm_settings *s = NULL;
        const char *image = make_image(bus, "debian.raw", 8 << 20);

        if (uservm_settings_new("new", &s) < 0 || uservm_settings_set_image(s, image) < 0 ||
            uservm_settings_set_copy(s, true) < 0 || uservm_settings_set_start(s, false) < 0)
                return -ENOMEM;
        return uservm_create_async(u, s, on_created, created, NULL);
}

TEST(tells_how_far_a_copy_is) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL, *late = NULL;
        _cleanup_(uservm_jobs_freep) uservm_job **jobs = NULL, **none = NULL;
        _cleanup_seen_ Seen seen = {}, late_seen = {};
        Created created = {};
        size_t n;

        private_bus_start(&bus, true);
        slow_down_copies(&bus);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_list_jobs(u, &none, &n), 0);
        CHECK(n == 0 && none && !none[0]);
        CHECK_INT(uservm_watch_start(u, on_change, &seen, NULL), 0);
        CHECK(PUMP(u, seen.synced));
        CHECK_INT(begin_copy(&bus, u, &created), 0);
        CHECK(PUMP(u, seen.job && seen.job->progress == 0.4));
        CHECK(seen.added == 1 && seen.changed == 1 && seen.removed == 0);
        CHECK_STR(seen.job->operation, "copy");
        CHECK_STR(seen.job->vm, "new");
        CHECK(seen.job->start_time > 1700000000000000);

        CHECK_INT(uservm_list_jobs(u, &jobs, &n), 0);
        CHECK(n == 1 && !jobs[1]);
        CHECK_STR(jobs[0]->id, seen.job->id);
        CHECK_STR(jobs[0]->operation, "copy");
        CHECK(jobs[0]->progress == 0.4);

        /* for those who come later */
        CHECK_INT(uservm_open(bus.address, &late), 0);
        CHECK_INT(uservm_watch_start(late, on_change, &late_seen, NULL), 0);
        CHECK(PUMP(late, late_seen.synced));
        CHECK(late_seen.added == 1 && late_seen.vms == 2);

        CHECK_INT(created.n, 0);
        CHECK(open_gate(&bus));
        CHECK(PUMP(u, created.n));
        CHECK_INT(created.result, 0);
        CHECK_INT(seen.removed, 1);
        CHECK(PUMP(late, late_seen.removed));
}

TEST(cancels_a_copy) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_seen_ Seen seen = {};
        Created created = {}, cancelled = {};
        Results again = {};

        private_bus_start(&bus, true);
        slow_down_copies(&bus);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_watch_start(u, on_change, &seen, NULL), 0);
        CHECK_INT(begin_copy(&bus, u, &created), 0);
        CHECK(PUMP(u, seen.job));
        CHECK_INT(uservm_cancel_job_async(u, seen.job, on_created, &cancelled, NULL), 0);
        CHECK(PUMP(u, created.n && seen.removed));
        CHECK_INT(cancelled.result, 0);
        CHECK_INT(created.result, -ECANCELED);
        CHECK_STR(created.error_name, CANCELLED);
        CHECK(access(in_folder(&bus, IMAGES "/new.qcow2"), F_OK) < 0);

        /* one that is over */
        CHECK_INT(uservm_cancel_job(u, seen.job), 0);
        CHECK(!uservm_error_name(u));
        CHECK_INT(uservm_cancel_job_async(u, seen.job, on_result, &again, NULL), 0);
        CHECK(PUMP(u, again.n));
}

TEST(does_not_cancel_the_job_of_another_uservmd) {
        _cleanup_bus_ PrivateBus bus = {};
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_job_unrefp) uservm_job *old = NULL;
        _cleanup_seen_ Seen seen = {};
        Created first = {}, second = {};

        private_bus_start(&bus, true);
        slow_down_copies(&bus);
        CHECK_INT(uservm_open(bus.address, &u), 0);
        CHECK_INT(uservm_watch_start(u, on_change, &seen, NULL), 0);
        CHECK_INT(begin_copy(&bus, u, &first), 0);
        CHECK(PUMP(u, seen.job));
        old = uservm_job_ref(seen.job);
        private_bus_kill_service(&bus);
        CHECK(PUMP(u, seen.gone && first.n));
        CHECK_INT(seen.removed, 0); /* nothing is known */

        CHECK_INT(begin_copy(&bus, u, &second), 0);
        CHECK(PUMP(u, seen.synced == 2 && seen.added == 2));
        CHECK_INT(seen.removed, 1);
        CHECK_STR(seen.job->id, old->id);
        CHECK_INT(uservm_cancel_job(u, old), 0);
        CHECK(open_gate(&bus));
        CHECK(PUMP(u, second.n));
        CHECK_INT(second.result, 0);
}

#define TESTS                                                                                      \
        makes_disks_of_images, deletes_VMs_without_files, sets_up_guests, erases_secrets,          \
                changes_what_VMs_are_made_of, changes_in_the_order_of_the_calls,                   \
                tells_how_far_a_copy_is, cancels_a_copy,                                           \
                does_not_cancel_the_job_of_another_uservmd

static void (*const functions[])(void) = { TESTS };

#define STRING(...) #__VA_ARGS__
#define NAMES(...) STRING(__VA_ARGS__)

int main(void) {
        if (geteuid() == 0 || !getenv("USERVMD") ||
            system("command -v dbus-daemon >&2 && command -v qemu-img >&2") != 0) {
                printf("1..0 # SKIP this needs $USERVMD, dbus-daemon, qemu-img and another user "
                       "than root\n");
                return 0;
        }
        return test_run(NAMES(TESTS), functions, ELEMENTSOF(functions));
}
