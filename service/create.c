/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Creating is an operation on a VM that is in the manager's list, with its name and its host ports,
 * but not on the bus yet: so two callers cannot be given the same name or port, and the VM appears
 * when it is complete. Everything that can be checked is checked before anything is made; what was
 * made is taken back, last thing first, when a later step fails. */

#include "create.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <systemd/sd-id128.h>

#include "autostart.h"
#include "disk-check.h"
#include "disk.h"
#include "domain-build.h"
#include "domain-xml.h"
#include "error.h"
#include "host.h"
#include "log.h"
#include "operation.h"
#include "port-check.h"
#include "seed-image.h"
#include "storage.h"

typedef struct Creation {
        Settings *settings;
        bool managed; /* start with managed networking */
        DiskUsers users;

        /* What has been found and made, on the worker. */
        Storage storage;
        DomainBuildDisk disks[DISKS_MAX];
        ImageInfo *images[DISKS_MAX]; /* of those that exist */
        char *seed;
        char **credentials;
} Creation;

static void creation_free(void *data) {
        Creation *c = data;

        if (!c)
                return;
        settings_free(c->settings);
        disk_users_done(&c->users);
        storage_done(&c->storage);
        for (size_t i = 0; i < DISKS_MAX; i++)
                image_info_free(c->images[i]);
        free(c->credentials);
        free(c);
}

static int add_disk_users_to_be(const VM *vm, DiskUsers *ret) {
        const Creation *c = vm->operations->data;
        int r = 0;

        for (size_t i = 0; i < c->settings->n_disks && r >= 0; i++) {
                const DiskSettings *d = &c->settings->disks[i];

                if (d->disk)
                        r = disk_users_add(ret, vm->name, d->disk, true, false);
                else if (d->image)
                        r = disk_users_add(ret, vm->name, d->image, false, true);
        }
        return r;
}

/* The files that other VMs have, those being created too, to be compared with those that are
 * wanted. */
static int copy_disk_users(const VM *vm, DiskUsers *ret) {
        const Manager *m = vm->manager;
        int r = 0;

        for (size_t i = 0; i < m->n_vms && r >= 0; i++) {
                const VM *other = m->vms[i];

                if (other->snapshot)
                        r = disk_users_add_domain(ret, other->snapshot->stored);
                else if (other != vm && other->operations && other->operations->type->creates)
                        r = add_disk_users_to_be(other, ret);
        }
        return r;
}

/* libvirt calls the file with the UEFI variables by the VM's name, and leaves it so when the VM is
 * renamed. */
static int check_nvram(const Operation *o, sd_bus_error *error) {
        const Creation *c = o->data;
        const Manager *m = o->vm->manager;
        _cleanup_free_ char *name = NULL;

        if (!streq(c->settings->firmware, "uefi"))
                return 0;
        if (asprintf(&name, "/%s_VARS.", c->settings->name) < 0) {
                name = NULL;
                return -ENOMEM;
        }
        for (size_t i = 0; i < m->n_vms; i++) {
                const VMSnapshot *s = m->vms[i]->snapshot;
                const char *file = s && s->stored->nvram ? strrchr(s->stored->nvram, '/') : NULL;

                if (file && startswith(file, name))
                        return sd_bus_error_setf(error, USERVM_ERROR_IMAGE_UNUSABLE,
                                                 "VM '%s' has its UEFI variables in '%s', which "
                                                 "libvirt would give to the new VM, too; choose "
                                                 "another name for that",
                                                 m->vms[i]->name, s->stored->nvram);
        }
        return 0;
}

static int create_prepare(Operation *o, sd_bus_error *error) {
        Creation *c = o->data;
        ForwardList *forwards = &c->settings->forwards;
        int r;

        c->managed = manager_can_manage(o->vm->manager);
        c->storage.uuid = o->vm->uuid;
        r = check_nvram(o, error);
        if (r >= 0)
                r = copy_disk_users(o->vm, &c->users);
        if (r >= 0 && settings_need_copy(c->settings))
                r = job_new(o->vm->manager, JOB_COPY, o->vm->name, &o->job);
        if (r < 0)
                return r;

        for (size_t i = 0; i < forwards->n; i++) {
                r = port_choose(o->vm->manager, &forwards->items[i], error);
                if (r < 0)
                        return r;
                r = port_check_other_vms(o->vm->manager, o->vm, &forwards->items[i], false, error);
                if (r < 0)
                        return r;
                r = forward_list_append(&o->vm->reserved, &forwards->items[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int check_files(const Settings *s, sd_bus_error *error) {
        const struct {
                const char *key, *path;
        } files[] = {
                { "cdrom", s->cdrom },
                { "kernel", s->kernel },
                { "initrd", s->initrd },
        };
        int r;

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                if (!files[i].path)
                        continue;
                r = disk_check_readable(files[i].key, files[i].path, error);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Looks at the images that exist. Each is then a user itself, of those after it. */
static int check_images(Creation *c, sd_bus_error *error) {
        const Settings *s = c->settings;
        int r;

        for (size_t i = 0; i < s->n_disks; i++) {
                const DiskSettings *d = &s->disks[i];
                const char *path = d->disk ?: d->image;
                DiskUse use = d->disk ? DISK_IN_PLACE : DISK_AS_BASE;

                if (!path)
                        continue;
                r = disk_inspect(path, use, &c->users, &c->images[i], error);
                if (r < 0)
                        return r;
                r = disk_check_users(path, use, &c->users, error);
                if (r < 0)
                        return r;
                r = disk_users_add(&c->users, s->name, path, use == DISK_IN_PLACE,
                                   use == DISK_AS_BASE);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int check_forwards(const Settings *s, const HostGuest *guest, sd_bus_error *error) {
        int r;

        if (s->forwards.n > 0 && !guest->passt)
                return sd_bus_error_set(error, USERVM_ERROR_NOT_SUPPORTED,
                                        "Port forwards need libvirt 9.1 or later and passt; see "
                                        "LibvirtVersion and PasstVersion");
        for (size_t i = 0; i < s->forwards.n; i++) {
                r = port_check_host(&s->forwards.items[i], NULL, error);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Making files */

static void report_copy(double done, uint64_t bytes, void *userdata) {
        job_report(userdata, done, (uint64_t) (done * (double) bytes));
}

static int fill_disk(Operation *o, size_t i, const NewFile *file, sd_bus_error *error) {
        const Creation *c = o->data;
        const DiskSettings *d = &c->settings->disks[i];
        const ImageInfo *image = c->images[i];
        uint64_t size = image && image->virtual_size > d->size ? image->virtual_size : d->size;
        DiskProgress progress = { .report = report_copy, .userdata = o->job };

        if (!image)
                return disk_create(file->temporary, file->path, size, error);
        if (!d->copy)
                return disk_create_overlay(file->temporary, file->path, d->image, image->format,
                                           size, error);
        progress.cancel_fd = job_cancel_fd(o->job);
        return disk_copy(file->temporary, file->path, d->image, image->format, size, &progress,
                         error);
}

static int make_disk(Operation *o, size_t i, sd_bus_error *error) {
        Creation *c = o->data;
        const DiskSettings *d = &c->settings->disks[i];
        _cleanup_free_ char *name = NULL;
        const NewFile *file;
        int r;

        if (d->disk) {
                c->disks[i] = (DomainBuildDisk){ .path = d->disk,
                                                 .format = c->images[i]->format,
                                                 .block = disk_is_block_device(d->disk) };
                return 0;
        }
        if (i == 0 ? asprintf(&name, "%s.qcow2", o->name) < 0
                   : asprintf(&name, "%s.disk%zu.qcow2", o->name, i + 1) < 0)
                return -ENOMEM;
        r = storage_add(&c->storage, name, &file, error);
        if (r < 0)
                return r;
        c->disks[i] = (DomainBuildDisk){
                .path = file->path,
                .format = "qcow2",
                .base = d->image && !d->copy ? d->image : NULL,
                .created = true,
        };
        return fill_disk(o, i, file, error);
}

static int write_seed(const GuestSetup *setup, const NewFile *file) {
        _cleanup_free_ char *user_data = NULL, *meta_data = NULL;
        int r;

        r = guest_setup_user_data(setup, &user_data);
        if (r >= 0)
                r = guest_setup_meta_data(setup, &meta_data);
        if (r >= 0)
                r = seed_image_write(file->fd, user_data, meta_data);
        if (user_data)
                explicit_bzero(user_data, strlen(user_data));
        return r;
}

static int make_seed(Operation *o, sd_bus_error *error) {
        Creation *c = o->data;
        _cleanup_free_ char *name = NULL;
        const NewFile *file;
        int r;

        if (asprintf(&name, "%s.seed.iso", o->name) < 0)
                return -ENOMEM;
        r = storage_add(&c->storage, name, &file, error);
        if (r < 0)
                return r;
        c->seed = file->path;
        r = write_seed(&c->settings->setup, file);
        return r < 0 ? error_from_errno(error, -r, "write '%s'", file->path) : 0;
}

static int make_credential(Operation *o, size_t i, const char *text, sd_bus_error *error) {
        Creation *c = o->data;
        _cleanup_free_ char *name = NULL;
        const NewFile *file;
        size_t n = strlen(text);
        ssize_t written;
        int r;

        if (asprintf(&name, "%s.credential%zu", o->name, i + 1) < 0)
                return -ENOMEM;
        r = storage_add(&c->storage, name, &file, error);
        if (r < 0)
                return r;
        c->credentials[i] = file->path;
        written = write(file->fd, text, n);
        if (written < 0 || (size_t) written < n)
                return error_from_errno(error, written < 0 ? errno : ENOSPC, "write '%s'",
                                        file->path);
        return 0;
}

static int make_credentials(Operation *o, sd_bus_error *error) {
        Creation *c = o->data;
        _cleanup_(strv_freep) char **texts = NULL;
        size_t n = 0;
        int r;

        r = guest_setup_credentials(&c->settings->setup, &texts);
        if (r == -E2BIG)
                return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                        "ssh-keys: are more than credentials can hold; give fewer, "
                                        "or use the guest-setup 'cloud-init'");
        if (r < 0)
                return r;
        while (texts[n])
                n++;
        c->credentials = new0(char *, n + 1);
        if (!c->credentials)
                return -ENOMEM;
        for (size_t i = 0; i < n && r >= 0; i++)
                r = make_credential(o, i, texts[i], error);
        for (size_t i = 0; i < n; i++)
                explicit_bzero(texts[i], strlen(texts[i]));
        return r;
}

static int make_files(Operation *o, sd_bus_error *error) {
        Creation *c = o->data;
        const Settings *s = c->settings;
        int r;

        if (s->guest_setup) {
                r = streq(s->guest_setup, "credentials") ? make_credentials(o, error)
                                                         : make_seed(o, error);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < s->n_disks; i++) {
                r = make_disk(o, i, error);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Making the VM */

/* Where QEMU emulates several, they find one another's changes of the memory map too late now and
 * then while a guest boots, and QEMU ends in an assertion, of iotlb_to_section() or what that gave
 * (QEMU issue 1921; of 190 boots with two on a busy machine, 3 did, with QEMU 10.0). */
static unsigned default_vcpus(const HostGuest *guest) {
        return streq(guest->type, "qemu") ? 1 : 2;
}

static int build_xml(Operation *o, const HostGuest *guest, char **ret) {
        const Creation *c = o->data;
        const Settings *s = c->settings;

        return domain_build(
                &(DomainBuild){ .name = s->name,
                                .uuid = o->vm->uuid,
                                .type = guest->type,
                                .arch = guest->arch,
                                .q35 = guest->q35,
                                .memory = s->memory,
                                .vcpus = s->vcpus ?: default_vcpus(guest),
                                .uefi = streq(s->firmware, "uefi"),
                                .disks = c->disks,
                                .n_disks = s->n_disks,
                                .cdrom = s->cdrom,
                                .cdrom_block = s->cdrom && disk_is_block_device(s->cdrom),
                                .seed = c->seed,
                                .credentials = c->credentials,
                                .kernel = s->kernel,
                                .initrd = s->initrd,
                                .cmdline = s->cmdline,
                                .passt = guest->passt,
                                .forwards = &s->forwards },
                ret);
}

static int enable_and_start(Operation *o, virConnectPtr conn, virDomainPtr domain,
                            sd_bus_error *error) {
        const Creation *c = o->data;
        const Settings *s = c->settings;
        int r = 0;

        if (s->autostart) {
                r = autostart_set(s->name, true, error);
                if (r < 0)
                        return r;
        } else if (autostart_enabled(s->name)) { /* of one that another tool has removed */
                r = autostart_set(s->name, false, error);
                if (r < 0)
                        return r;
        }
        if (s->start)
                r = vm_network_start_domain(conn, domain, c->managed, &o->vm->network, error);
        if (r < 0 && s->autostart)
                (void) autostart_set(s->name, false, NULL);
        return r;
}

/* It may have been started, by a libvirt whose daemon died over it. Whether it is gone. */
static bool undefine(Operation *o, virDomainPtr domain) {
        const Settings *s = ((Creation *) o->data)->settings;
        const unsigned flags = streq(s->firmware, "uefi") ? VIR_DOMAIN_UNDEFINE_NVRAM : 0;
        _cleanup_domain_ virDomainPtr again = NULL;
        int r;

        r = connection_find_again(o->vm->manager->connection, domain, &again, NULL);
        if (r == -ENOENT)
                return true;
        if (r < 0)
                return false;
        if (again)
                domain = again;
        if (virDomainIsActive(domain) > 0 && virDomainDestroy(domain) < 0)
                return false;
        return virDomainUndefineFlags(domain, flags) >= 0;
}

/* What cannot be taken back stays whole, with its files. */
static void take_back(Operation *o, virDomainPtr domain, sd_bus_error *error) {
        Creation *c = o->data;
        _cleanup_(sd_bus_error_free) sd_bus_error reason = SD_BUS_ERROR_NULL;

        if (undefine(o, domain)) {
                storage_undo(&c->storage);
                return;
        }
        sd_bus_error_move(&reason, error);
        (void) sd_bus_error_setf(error, reason.name,
                                 "%s; the VM could not be taken back, and is there all the same",
                                 reason.message);
}

/* The files get their names when the VM is defined, see storage.c. They are left to whoever lists
 * libvirt's domains next if it is not known whether it is. */
static int define_and_start(Operation *o, virConnectPtr conn, const char *xml,
                            sd_bus_error *error) {
        Creation *c = o->data;
        _cleanup_domain_ virDomainPtr domain = NULL;
        _cleanup_free_ char *what = NULL;
        int r;

        if (asprintf(&what, "create VM '%s'", c->settings->name) < 0) {
                what = NULL;
                return -ENOMEM;
        }
        r = connection_define(o->vm->manager->connection, conn, xml, what, &domain, error);
        if (r == -ENOTCONN)
                storage_leave(&c->storage);
        if (r < 0)
                return r;
        r = storage_commit(&c->storage, error);
        if (r >= 0)
                r = enable_and_start(o, virDomainGetConnect(domain), domain, error);
        if (r < 0)
                take_back(o, domain, error);
        return r;
}

static int make_vm(Operation *o, virConnectPtr conn, const HostGuest *guest, sd_bus_error *error) {
        _cleanup_free_ char *xml = NULL;
        int r;

        r = make_files(o, error);
        if (r < 0)
                return r;
        r = build_xml(o, guest, &xml);
        return r < 0 ? r : define_and_start(o, conn, xml, error);
}

static int create_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        Creation *c = o->data;
        HostGuest guest = {};
        int r;

        r = check_files(c->settings, error);
        if (r < 0)
                return r;
        r = check_images(c, error);
        if (r < 0)
                return r;
        r = host_guest_read(conn, c->settings->accelerator, &guest, error);
        if (r < 0)
                return r;
        r = check_forwards(c->settings, &guest, error);
        if (r >= 0)
                r = make_vm(o, conn, &guest, error);
        storage_done(&c->storage);
        host_guest_done(&guest);
        return r;
}

static int create_reply(Operation *o, sd_bus_message *reply) {
        return sd_bus_message_append(reply, "o", o->vm->path);
}

static const OperationType create_type = {
        .name = "CreateVM",
        .verb = "create",
        .prepare = create_prepare,
        .run = create_run,
        .reply = create_reply,
        .free_data = creation_free,
        .transition = VM_STATE_NONE,
        .creates = true,
        .takes_long = true,
};

static int new_uuid(char uuid[static SD_ID128_UUID_STRING_MAX]) {
        sd_id128_t id;
        int r;

        r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        sd_id128_to_uuid_string(id, uuid);
        return 0;
}

int create_vm(Manager *m, Settings *settings, sd_bus_message *message, sd_bus_error *error) {
        _cleanup_(settings_freep) Settings *s = settings;
        _cleanup_(vm_unrefp) VM *vm = NULL;
        char uuid[SD_ID128_UUID_STRING_MAX];
        Creation *c;
        int r;

        if (manager_find_name(m, s->name))
                return sd_bus_error_setf(
                        error, USERVM_ERROR_VM_EXISTS,
                        "There is a VM '%s' already; choose another name, or delete "
                        "that one",
                        s->name);
        c = new0(Creation, 1);
        if (!c)
                return -ENOMEM;
        r = new_uuid(uuid);
        if (r >= 0)
                r = vm_new(m, uuid, s->name, &vm);
        if (r >= 0)
                r = manager_add(m, vm);
        if (r < 0) {
                free(c);
                return r;
        }
        c->settings = TAKE_PTR(s);
        c->settings->setup.instance_id = strdup(uuid);
        return operation_submit(vm, &create_type, c, message);
}
