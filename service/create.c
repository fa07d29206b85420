/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Creating is an operation on a VM that is in the manager's list, with its name and its host ports,
 * but not on the bus yet: so two callers cannot be given the same name or port, and the VM appears
 * when it is complete. Everything that can be checked is checked before anything is made; what was
 * made is taken back, last thing first, when a later step fails. */

#include "create.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <systemd/sd-id128.h>

#include "autostart.h"
#include "disk.h"
#include "domain-build.h"
#include "domain-xml.h"
#include "error.h"
#include "host.h"
#include "log.h"
#include "operation.h"
#include "port-check.h"

typedef struct Creation {
        Settings *settings;
        char *disk; /* path of the VM's disk, or NULL */
        char *disk_format;
        bool managed; /* start with managed networking */
} Creation;

static void creation_free(void *data) {
        Creation *c = data;

        if (!c)
                return;
        settings_free(c->settings);
        free(c->disk);
        free(c->disk_format);
        free(c);
}

static int create_prepare(Operation *o, sd_bus_error *error) {
        Creation *c = o->data;
        ForwardList *forwards = &c->settings->forwards;
        int r;

        c->managed = manager_can_manage(o->vm->manager);

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

static int check_files(Creation *c, sd_bus_error *error) {
        const Settings *s = c->settings;
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
        if (!s->disk)
                return 0;
        r = disk_inspect(s->disk, &c->disk_format, error);
        if (r < 0)
                return r;
        c->disk = strdup(s->disk);
        return c->disk ? 0 : -ENOMEM;
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

static int make_disk(Creation *c, sd_bus_error *error) {
        int r;

        r = disk_path_for(c->settings->name, &c->disk);
        if (r < 0)
                return r;
        c->disk_format = strdup("qcow2");
        if (!c->disk_format)
                return -ENOMEM;
        return disk_create(c->disk, c->settings->disk_size, error);
}

static int build_xml(Operation *o, const HostGuest *guest, char **ret) {
        const Creation *c = o->data;
        const Settings *s = c->settings;

        return domain_build(&(DomainBuild){ .name = s->name,
                                            .uuid = o->vm->uuid,
                                            .type = guest->type,
                                            .arch = guest->arch,
                                            .q35 = guest->q35,
                                            .memory = s->memory,
                                            .vcpus = s->vcpus,
                                            .uefi = streq(s->firmware, "uefi"),
                                            .disk = c->disk,
                                            .disk_format = c->disk_format,
                                            .disk_is_storage = s->disk_size > 0,
                                            .cdrom = s->cdrom,
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
        }
        if (s->start)
                r = vm_network_start_domain(conn, domain, c->managed, &o->vm->network, error);
        if (r < 0 && s->autostart)
                (void) autostart_set(s->name, false, NULL);
        return r;
}

static int define_and_start(Operation *o, virConnectPtr conn, const char *xml,
                            sd_bus_error *error) {
        const Settings *s = ((Creation *) o->data)->settings;
        _cleanup_domain_ virDomainPtr domain = NULL;
        int r;

        domain = virDomainDefineXML(conn, xml);
        if (!domain)
                return error_from_libvirt(error, "create VM '%s'", s->name);
        r = enable_and_start(o, conn, domain, error);
        if (r < 0 &&
            virDomainUndefineFlags(domain,
                                   streq(s->firmware, "uefi") ? VIR_DOMAIN_UNDEFINE_NVRAM : 0) < 0)
                log_error("VM '%s' could not be taken back after its creation failed", s->name);
        return r;
}

static int make_vm(Operation *o, virConnectPtr conn, const HostGuest *guest, sd_bus_error *error) {
        Creation *c = o->data;
        bool new_disk = c->settings->disk_size > 0;
        _cleanup_free_ char *xml = NULL;
        int r;

        if (new_disk) {
                r = make_disk(c, error);
                if (r < 0)
                        return r;
        }
        r = build_xml(o, guest, &xml);
        if (r >= 0)
                r = define_and_start(o, conn, xml, error);
        if (r < 0 && new_disk)
                (void) disk_remove(c->disk, NULL);
        return r;
}

static int create_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        Creation *c = o->data;
        HostGuest guest = {};
        int r;

        r = check_files(c, error);
        if (r < 0)
                return r;
        r = host_guest_read(conn, c->settings->accelerator, &guest, error);
        if (r < 0)
                return r;
        r = check_forwards(c->settings, &guest, error);
        if (r >= 0)
                r = make_vm(o, conn, &guest, error);
        host_guest_done(&guest);
        return r;
}

static int create_reply(Operation *o, sd_bus_message *reply) {
        return sd_bus_message_append(reply, "o", o->vm->path);
}

static const OperationType create_type = {
        .verb = "create",
        .prepare = create_prepare,
        .run = create_run,
        .reply = create_reply,
        .free_data = creation_free,
        .transition = VM_STATE_NONE,
        .creates = true,
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
        return operation_submit(vm, &create_type, c, message);
}
