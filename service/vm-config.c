/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is stored is changed first, and is what the caller asked for. The running VM is changed
 * after that if it can be; if it cannot, that is no error, as it is so after the next start. What
 * it has is shown beside what is stored. */

#include "vm-config.h"

#include <errno.h>
#include <inttypes.h>
#include <libvirt/virterror.h>
#include <string.h>

#include "autostart.h"
#include "disk.h"
#include "error.h"
#include "log.h"
#include "manager.h"
#include "operation.h"
#include "utf8.h"

#define SECTOR_SIZE 512

static int need_stored(Operation *o, sd_bus_error *error) {
        if (o->vm->snapshot->persistent)
                return 0;
        return sd_bus_error_setf(error, USERVM_ERROR_NOT_SUPPORTED,
                                 "VM '%s' has no stored definition that could be changed; define "
                                 "it first (virsh define)",
                                 o->name);
}

/* Name */

typedef struct Renaming {
        char *name;
        bool autostart;
} Renaming;

static void renaming_free(void *data) {
        Renaming *r = data;

        if (r)
                free(r->name);
        free(r);
}

static int rename_prepare(Operation *o, sd_bus_error *error) {
        Renaming *renaming = o->data;
        const VM *other = manager_find_name(o->vm->manager, renaming->name);
        int r;

        r = need_stored(o, error);
        if (r < 0)
                return r;
        if (other && other != o->vm)
                return sd_bus_error_setf(error, USERVM_ERROR_VM_EXISTS,
                                         "There is a VM '%s' already; choose another name",
                                         renaming->name);
        if (vm_is_active(o->vm) || vm_state(o->vm) == VM_SAVED)
                return sd_bus_error_setf(error, USERVM_ERROR_BUSY,
                                         vm_is_active(o->vm)
                                                 ? "VM '%s' is running; shut it down first"
                                                 : "VM '%s' is saved; start it and shut it down "
                                                   "first",
                                         o->name);
        renaming->autostart = o->vm->snapshot->autostart;
        return 0;
}

/* If libvirt's daemon dies over it, the next one knows whether it is done. */
static int rename_domain(const Operation *o, virDomainPtr domain, sd_bus_error *error) {
        const Renaming *renaming = o->data;
        _cleanup_domain_ virDomainPtr again = NULL;
        int r;

        if (virDomainRename(domain, renaming->name, 0) >= 0)
                return 0;
        r = error_from_libvirt(error, "rename VM '%s'", o->name);
        if (connection_find_again(o->vm->manager->connection, domain, &again, NULL) <= 0 ||
            !streq_ptr(virDomainGetName(again), renaming->name))
                return r;
        sd_bus_error_free(error);
        return 0;
}

/* The unit's name has the VM's in it, so another one is enabled; first, so that what is cut short
 * does not leave the VM without. */
static int rename_with_unit(const Operation *o, virDomainPtr domain, sd_bus_error *error) {
        const Renaming *renaming = o->data;
        int r;

        r = autostart_set(renaming->name, true, error);
        if (r < 0)
                return r;
        r = rename_domain(o, domain, error);
        if (r >= 0) {
                r = autostart_set(o->name, false, error);
                if (r >= 0)
                        return 0;
                if (virDomainRename(domain, o->name, 0) < 0)
                        log_write(LOG_ERR, OPERATION_SUBJECT(o),
                                  "VM '%s' could not be given its name '%s' back", renaming->name,
                                  o->name);
        }
        (void) autostart_set(renaming->name, false, NULL);
        return r;
}

static int rename_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        const Renaming *renaming = o->data;
        int r;

        if (streq(renaming->name, o->name))
                return 0;
        if (renaming->autostart)
                return rename_with_unit(o, domain, error);
        if (autostart_enabled(renaming->name)) { /* of one that another tool has removed */
                r = autostart_set(renaming->name, false, error);
                if (r < 0)
                        return r;
        }
        return rename_domain(o, domain, error);
}

static const OperationType rename_type = {
        .name = "Rename",
        .verb = "rename",
        .prepare = rename_prepare,
        .run = rename_run,
        .free_data = renaming_free,
        .transition = VM_STATE_NONE,
};

int vm_rename(VM *vm, const char *name, sd_bus_message *message) {
        Renaming *r = new0(Renaming, 1);

        if (!r)
                return -ENOMEM;
        r->name = strdup(name);
        if (!r->name) {
                free(r);
                return -ENOMEM;
        }
        return operation_submit(vm, &rename_type, r, message);
}

/* Memory and CPUs */

/* How something that o->data has is stored in a definition, how what the VM has had is stored
 * again, and how it is made live. */
typedef struct Kind {
        const char *what;
        int (*store)(const Operation *o, virDomainPtr domain);
        void (*take_back)(const Operation *o, virDomainPtr domain);
        void (*set_live)(const Operation *o, virDomainPtr domain);
} Kind;

/* When libvirt cannot write a definition, it has changed it in memory all the same, and lists that
 * until its daemon ends. So that is changed back. */
static int store_or_take_back(const Operation *o, const Kind *kind, virDomainPtr domain,
                              sd_bus_error *error) {
        int r;

        if (kind->store(o, domain) >= 0)
                return 0;
        r = error_from_libvirt(error, "change %s of VM '%s'", kind->what, o->name);
        kind->take_back(o, domain);
        return r;
}

/* If libvirt's daemon dies over it, the next one is told again. */
static int change(const Operation *o, const Kind *kind, virDomainPtr domain, sd_bus_error *error) {
        _cleanup_domain_ virDomainPtr again = NULL;
        int r;

        r = store_or_take_back(o, kind, domain, error);
        if (r < 0 && connection_find_again(o->vm->manager->connection, domain, &again, NULL) > 0) {
                sd_bus_error_free(error);
                domain = again;
                r = store_or_take_back(o, kind, domain, error);
        }
        if (r >= 0 && virDomainIsActive(domain) > 0)
                kind->set_live(o, domain);
        return r;
}

static int set_memory(virDomainPtr domain, uint64_t bytes, unsigned flags) {
        return virDomainSetMemoryFlags(domain, (unsigned long) (bytes / 1024 + (bytes % 1024 != 0)),
                                       flags);
}

/* The maximum cannot be less than what is present, nor the other way round. */
static int store_memory(const Operation *o, virDomainPtr domain) {
        const uint64_t *bytes = o->data;

        if (set_memory(domain, *bytes, VIR_DOMAIN_AFFECT_CONFIG | VIR_DOMAIN_MEM_MAXIMUM) < 0)
                return -1;
        return set_memory(domain, *bytes, VIR_DOMAIN_AFFECT_CONFIG);
}

static void take_back_memory(const Operation *o, virDomainPtr domain) {
        const DomainInfo *was = o->vm->snapshot->stored;

        (void) set_memory(domain, was->memory, VIR_DOMAIN_AFFECT_CONFIG | VIR_DOMAIN_MEM_MAXIMUM);
        (void) set_memory(domain, was->current_memory, VIR_DOMAIN_AFFECT_CONFIG);
}

static void set_live_memory(const Operation *o, virDomainPtr domain) {
        const uint64_t *bytes = o->data;
        unsigned long max = virDomainGetMaxMemory(domain);

        if (*bytes / 1024 <= max && set_memory(domain, *bytes, VIR_DOMAIN_AFFECT_LIVE) < 0)
                log_write(LOG_INFO, OPERATION_SUBJECT(o),
                          "VM '%s' has its new memory after the next start: %s", o->name,
                          virGetLastErrorMessage());
}

static int set_memory_run(Operation *o, virConnectPtr conn, virDomainPtr domain,
                          sd_bus_error *error) {
        static const Kind memory = { "the memory", store_memory, take_back_memory,
                                     set_live_memory };

        return change(o, &memory, domain, error);
}

static const OperationType set_memory_type = {
        .name = "SetMemory",
        .verb = "change the memory of",
        .prepare = need_stored,
        .run = set_memory_run,
        .free_data = free,
        .transition = VM_STATE_NONE,
};

int vm_set_memory(VM *vm, uint64_t bytes, sd_bus_message *message) {
        uint64_t *data = new0(uint64_t, 1);

        if (!data)
                return -ENOMEM;
        *data = bytes;
        return operation_submit(vm, &set_memory_type, data, message);
}

#define VCPUS_STORED VIR_DOMAIN_AFFECT_CONFIG
#define VCPUS_STORED_MAXIMUM (VIR_DOMAIN_AFFECT_CONFIG | VIR_DOMAIN_VCPU_MAXIMUM)

typedef struct VCPUs {
        unsigned n;
        int old_max;
} VCPUs;

static int store_vcpus(const Operation *o, virDomainPtr domain) {
        VCPUs *v = o->data;
        bool more;

        v->old_max = virDomainGetVcpusFlags(domain, VCPUS_STORED_MAXIMUM);
        if (v->old_max < 0)
                return -1;
        more = v->n > (unsigned) v->old_max;
        if (more && virDomainSetVcpusFlags(domain, v->n, VCPUS_STORED_MAXIMUM) < 0)
                return -1;
        if (virDomainSetVcpusFlags(domain, v->n, VCPUS_STORED) < 0)
                return -1;
        if (!more) /* a topology may not allow for it, which is no harm */
                (void) virDomainSetVcpusFlags(domain, v->n, VCPUS_STORED_MAXIMUM);
        return 0;
}

static void take_back_vcpus(const Operation *o, virDomainPtr domain) {
        const VCPUs *v = o->data;

        if (v->old_max < 0)
                return;
        (void) virDomainSetVcpusFlags(domain, (unsigned) v->old_max, VCPUS_STORED_MAXIMUM);
        (void) virDomainSetVcpusFlags(domain, o->vm->snapshot->stored->vcpus, VCPUS_STORED);
}

static void set_live_vcpus(const Operation *o, virDomainPtr domain) {
        const VCPUs *v = o->data;
        int max = virDomainGetVcpusFlags(domain, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_VCPU_MAXIMUM);

        if (max >= 0 && v->n <= (unsigned) max &&
            virDomainSetVcpusFlags(domain, v->n, VIR_DOMAIN_AFFECT_LIVE) < 0)
                log_write(LOG_INFO, OPERATION_SUBJECT(o),
                          "VM '%s' has its new virtual CPUs after the next start: %s", o->name,
                          virGetLastErrorMessage());
}

static int set_vcpus_run(Operation *o, virConnectPtr conn, virDomainPtr domain,
                         sd_bus_error *error) {
        static const Kind vcpus = { "the virtual CPUs", store_vcpus, take_back_vcpus,
                                    set_live_vcpus };

        return change(o, &vcpus, domain, error);
}

static const OperationType set_vcpus_type = {
        .name = "SetVCPUs",
        .verb = "change the virtual CPUs of",
        .prepare = need_stored,
        .run = set_vcpus_run,
        .free_data = free,
        .transition = VM_STATE_NONE,
};

int vm_set_vcpus(VM *vm, unsigned vcpus, sd_bus_message *message) {
        VCPUs *data = new0(VCPUs, 1);

        if (!data)
                return -ENOMEM;
        data->n = vcpus;
        return operation_submit(vm, &set_vcpus_type, data, message);
}

/* Disks */

static int read_stored(const Operation *o, virDomainPtr domain, DomainInfo **ret,
                       sd_bus_error *error) {
        _cleanup_free_ char *xml = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE);
        int r;

        if (!xml)
                return error_from_libvirt(error, "read the definition of VM '%s'", o->name);
        r = domain_info_parse(xml, ret);
        if (r < 0)
                return error_from_errno(error, -r, "understand the definition of VM '%s'", o->name);
        return 0;
}

static const DomainDisk *find_disk(const DomainInfo *info, const char *target) {
        for (size_t i = 0; i < info->n_disks; i++)
                if (streq_ptr(info->disks[i].target, target))
                        return &info->disks[i];
        return NULL;
}

typedef struct Resizing {
        char *target;
        uint64_t size;
} Resizing;

static void resizing_free(void *data) {
        Resizing *r = data;

        if (r)
                free(r->target);
        free(r);
}

static int resize_prepare(Operation *o, sd_bus_error *error) {
        Resizing *resizing = o->data;
        const DomainInfo *info = o->vm->snapshot->stored;
        const DomainDisk *disk;

        /* Rounded up to whole sectors it would be 0. */
        if (resizing->size > INT64_MAX - SECTOR_SIZE)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                         "size: no disk can have %" PRIu64 " bytes",
                                         resizing->size);
        disk = find_disk(info, resizing->target);
        if (!disk)
                return sd_bus_error_setf(
                        error, SD_BUS_ERROR_INVALID_ARGS,
                        "target: VM '%s' has no disk '%.*s'; ListDisks lists those "
                        "it has",
                        o->name, utf8_prefix(resizing->target, QUOTED_MAX), resizing->target);
        if (!disk->path || disk->read_only)
                return sd_bus_error_setf(error, USERVM_ERROR_NOT_SUPPORTED,
                                         "The disk '%s' of VM '%s' is no file that could grow",
                                         resizing->target, o->name);
        return 0;
}

/* Another tool may have made a snapshot: libvirt knows which file it is now. */
static int resize_file(const Operation *o, virDomainPtr domain, sd_bus_error *error) {
        const Resizing *resizing = o->data;
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        const DomainDisk *disk;
        int r;

        r = read_stored(o, domain, &info, error);
        if (r < 0)
                return r;
        disk = find_disk(info, resizing->target);
        if (!disk || !disk->path)
                return error_from_errno(error, ENOENT, "find the disk '%s' of VM '%s'",
                                        resizing->target, o->name);
        return disk_resize(disk->path, disk->format ?: "raw", resizing->size, error);
}

static int resize_run(Operation *o, virConnectPtr conn, virDomainPtr domain, sd_bus_error *error) {
        const Resizing *resizing = o->data;
        virDomainBlockInfo now;
        int active = virDomainIsActive(domain);

        if (active < 0 || virDomainGetBlockInfo(domain, resizing->target, &now, 0) < 0)
                return error_from_libvirt(error, "look at the disk '%s' of VM '%s'",
                                          resizing->target, o->name);
        if (resizing->size <= now.capacity)
                return sd_bus_error_setf(
                        error, SD_BUS_ERROR_INVALID_ARGS,
                        "size: the disk '%s' has %llu bytes already, and cannot be "
                        "made smaller",
                        resizing->target, now.capacity);
        if (active == 0)
                return resize_file(o, domain, error);
        if (virDomainBlockResize(domain, resizing->target,
                                 (resizing->size + SECTOR_SIZE - 1) / SECTOR_SIZE * SECTOR_SIZE,
                                 VIR_DOMAIN_BLOCK_RESIZE_BYTES) < 0)
                return error_from_libvirt(error, "resize the disk '%s' of VM '%s'",
                                          resizing->target, o->name);
        return 0;
}

static const OperationType resize_type = {
        .name = "ResizeDisk",
        .verb = "resize a disk of",
        .prepare = resize_prepare,
        .run = resize_run,
        .free_data = resizing_free,
        .transition = VM_STATE_NONE,
};

int vm_resize_disk(VM *vm, const char *target, uint64_t size, sd_bus_message *message) {
        Resizing *r = new0(Resizing, 1);

        if (!r)
                return -ENOMEM;
        r->size = size;
        r->target = strdup(target);
        if (!r->target) {
                free(r);
                return -ENOMEM;
        }
        return operation_submit(vm, &resize_type, r, message);
}

/* Listing them */

typedef struct DiskList {
        DomainInfo *info;
        virDomainBlockInfo *sizes; /* capacity 0: not known */
} DiskList;

static void disk_list_free(void *data) {
        DiskList *list = data;

        if (list) {
                domain_info_free(list->info);
                free(list->sizes);
        }
        free(list);
}

static int list_disks_run(Operation *o, virConnectPtr conn, virDomainPtr domain,
                          sd_bus_error *error) {
        DiskList *list = o->data;
        int r;

        r = read_stored(o, domain, &list->info, error);
        if (r < 0)
                return r;
        list->sizes = new0(virDomainBlockInfo, list->info->n_disks + 1);
        if (!list->sizes)
                return -ENOMEM;
        for (size_t i = 0; i < list->info->n_disks; i++) {
                const DomainDisk *disk = &list->info->disks[i];

                if (disk->path && disk->target &&
                    virDomainGetBlockInfo(domain, disk->target, &list->sizes[i], 0) < 0)
                        list->sizes[i].capacity = 0;
        }
        return 0;
}

/* What others wrote into the definition. */
static int append_text(sd_bus_message *m, const char *key, const char *text) {
        _cleanup_free_ char *copy = strdup(text);

        if (!copy)
                return -ENOMEM;
        utf8_make_valid(copy);
        return sd_bus_message_append(m, "{sv}", key, "s", copy);
}

static int append_disk(sd_bus_message *m, const DomainInfo *info, const DomainDisk *disk,
                       const virDomainBlockInfo *size) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = append_text(m, "target", disk->target ?: "");
        if (r >= 0)
                r = append_text(m, "device", disk->device ?: "disk");
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "created", "b",
                                          domain_info_created(info, disk->path));
        if (r >= 0 && disk->path)
                r = append_text(m, "path", disk->path);
        if (r >= 0 && disk->format)
                r = append_text(m, "format", disk->format);
        if (r >= 0 && size->capacity > 0)
                r = sd_bus_message_append(m, "{sv}{sv}", "size", "t", (uint64_t) size->capacity,
                                          "allocation", "t", (uint64_t) size->allocation);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int list_disks_reply(Operation *o, sd_bus_message *reply) {
        const DiskList *list = o->data;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (size_t i = 0; i < list->info->n_disks && r >= 0; i++)
                r = append_disk(reply, list->info, &list->info->disks[i], &list->sizes[i]);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static const OperationType list_disks_type = {
        .name = "ListDisks",
        .verb = "list the disks of",
        .run = list_disks_run,
        .reply = list_disks_reply,
        .free_data = disk_list_free,
        .transition = VM_STATE_NONE,
        .only_reads = true,
};

int vm_list_disks(VM *vm, sd_bus_message *message) {
        DiskList *list = new0(DiskList, 1);

        if (!list)
                return -ENOMEM;
        return operation_submit(vm, &list_disks_type, list, message);
}
