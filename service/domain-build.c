/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The domain XML of a new VM, built as a tree so that no value can leave its field, whatever is in
 * it. What is chosen here is what a desktop user expects of a VM today: virtio for everything that
 * has a virtio variant, a CPU that has all the host (or TCG) can do, a serial console, the channel
 * of the guest agent, and a display on a socket of the user's own that virt-viewer and virt-manager
 * attach to. Everything else (addresses, controllers, MAC, emulator) is left to libvirt, which
 * knows the host and fills it in when the domain is defined.
 *
 * Elements are added one after the other without a check each: the first that fails (for memory)
 * is remembered, everything after it does nothing, and the end reports it.
 *
 * Not done here: a look at the files or at what the host can do; the caller has done that. */

#include <errno.h>
#include <libxml/chvalid.h>
#include <libxml/parserInternals.h>
#include <stdarg.h>
#include <stdio.h>

#include "domain-build.h"
#include "domain-xml.h"
#include "utf8.h"
#include "xml.h"

typedef struct Builder {
        const DomainBuild *b;
        bool failed;
} Builder;

/* Appends an element with text (or NULL) and attributes (name, value, …, NULL; an attribute whose
 * value is NULL ends the list). Returns it, or NULL once the builder has failed. */
__attribute__((sentinel)) static xmlNode *add(Builder *x, xmlNode *parent, const char *name,
                                              const char *text, ...) {
        const char *attribute, *value;
        xmlNode *node = NULL;
        va_list ap;

        if (!x->failed)
                node = xmlNewTextChild(parent, NULL, (const xmlChar *) name,
                                       (const xmlChar *) text);
        if (!node) {
                x->failed = true;
                return NULL;
        }

        va_start(ap, text);
        while ((attribute = va_arg(ap, const char *)) && (value = va_arg(ap, const char *)))
                if (xml_set_attribute(node, attribute, value) < 0)
                        x->failed = true;
        va_end(ap);
        return node;
}

static void add_number(Builder *x, xmlNode *parent, const char *name, uint64_t number,
                       const char *unit) {
        char text[sizeof("18446744073709551615")];

        snprintf(text, sizeof(text), "%llu", (unsigned long long) number);
        add(x, parent, name, text, "unit", unit, NULL);
}

static bool is_x86(const DomainBuild *b) {
        return streq(b->arch, "x86_64") || streq(b->arch, "i686");
}

/* Notes a file of ours; returns without a word when something has failed before. */
static void add_storage(Builder *x, xmlNode *vm, xmlNs *ns, const char *path, const char *base,
                        bool is_setup) {
        xmlNode *storage = add(x, vm, "storage", NULL, "path", path, NULL);

        if (!storage)
                return;
        xmlSetNs(storage, ns);
        if ((base && xml_set_attribute(storage, "base", base) < 0) ||
            (is_setup && xml_set_attribute(storage, "setup", "yes") < 0))
                x->failed = true;
}

static bool has_storage(const DomainBuild *b) {
        bool has = b->seed || (b->credentials && *b->credentials);

        for (size_t i = 0; i < b->n_disks; i++)
                has = has || b->disks[i].created;
        return has;
}

/* Which files are ours to delete, in a namespace of its own, where libvirt keeps it for us. */
static void add_metadata(Builder *x, xmlNode *domain) {
        const DomainBuild *b = x->b;
        xmlNode *vm;
        xmlNs *ns;

        if (!has_storage(b))
                return;

        vm = add(x, add(x, domain, "metadata", NULL, NULL), "vm", NULL, "uuid", b->uuid, NULL);
        if (!vm)
                return;
        ns = xmlNewNs(vm, (const xmlChar *) DOMAIN_XML_NAMESPACE, (const xmlChar *) "uservm");
        if (!ns) {
                x->failed = true;
                return;
        }
        xmlSetNs(vm, ns);
        for (size_t i = 0; i < b->n_disks; i++)
                if (b->disks[i].created)
                        add_storage(x, vm, ns, b->disks[i].path, b->disks[i].base, false);
        if (b->seed)
                add_storage(x, vm, ns, b->seed, NULL, true);
        for (char *const *file = b->credentials; file && *file; file++)
                add_storage(x, vm, ns, *file, NULL, true);
}

/* Without Secure Boot, which lets a guest boot only what Microsoft has signed. libvirt might choose
 * an image with it when it has the choice. */
static void add_os(Builder *x, xmlNode *domain) {
        const DomainBuild *b = x->b;
        xmlNode *os, *type, *firmware;

        os = add(x, domain, "os", NULL, "firmware", b->uefi ? "efi" : NULL, NULL);
        type = add(x, os, "type", "hvm", "arch", b->arch, "machine", b->q35 ? "q35" : NULL, NULL);
        if (b->uefi) {
                firmware = add(x, os, "firmware", NULL, NULL);
                add(x, firmware, "feature", NULL, "enabled", "no", "name", "secure-boot", NULL);
        }
        if (!type || !b->kernel)
                return;

        add(x, os, "kernel", b->kernel, NULL);
        if (b->initrd)
                add(x, os, "initrd", b->initrd, NULL);
        if (b->cmdline)
                add(x, os, "cmdline", b->cmdline, NULL);
}

/* The APIC is of x86, and without ACPI its guests neither find their PCI interrupts nor shut down
 * when asked to; elsewhere ACPI comes with UEFI only. */
static void add_features(Builder *x, xmlNode *domain) {
        xmlNode *features;

        if (!is_x86(x->b) && !x->b->uefi)
                return;
        features = add(x, domain, "features", NULL, NULL);
        add(x, features, "acpi", NULL, NULL);
        if (is_x86(x->b))
                add(x, features, "apic", NULL, NULL);
}

static void add_cpu(Builder *x, xmlNode *domain) {
        if (streq(x->b->type, "kvm"))
                add(x, domain, "cpu", NULL, "mode", "host-passthrough", NULL);
        else if (streq(x->b->type, "qemu"))
                add(x, domain, "cpu", NULL, "mode", "maximum", NULL);
}

static void add_machine(Builder *x, xmlNode *domain) {
        const DomainBuild *b = x->b;

        add(x, domain, "name", b->name, NULL);
        add(x, domain, "uuid", b->uuid, NULL);
        add_metadata(x, domain);
        add_number(x, domain, "memory", b->memory / 1024 + (b->memory % 1024 != 0), "KiB");
        add_number(x, domain, "vcpu", b->vcpus, NULL);
        add_os(x, domain);
        add_features(x, domain);
        add_cpu(x, domain);
        add(x, domain, "clock", NULL, "offset", "utc", NULL);
        add(x, domain, "on_poweroff", "destroy", NULL);
        add(x, domain, "on_reboot", "restart", NULL);
        add(x, domain, "on_crash", "destroy", NULL);
}

/* A kernel given directly is booted whatever the devices say. */
static void add_boot_order(Builder *x, xmlNode *device, const char *order) {
        if (!x->b->kernel)
                add(x, device, "boot", NULL, "order", order, NULL);
}

/* "vda", "vdb", ... */
#define TARGET_MAX sizeof("vda")
_Static_assert(DISKS_MAX < 26, "a letter for each disk, and one for the seed");

/* QEMU has a driver for each, which refuses the other. */
static xmlNode *add_source(Builder *x, xmlNode *devices, const char *device, const char *path,
                           bool block) {
        xmlNode *disk = add(x, devices, "disk", NULL, "type", block ? "block" : "file", "device",
                            device, NULL);

        add(x, disk, "source", NULL, block ? "dev" : "file", path, NULL);
        return disk;
}

static void add_disk(Builder *x, xmlNode *devices, size_t i, const DomainBuildDisk *d,
                     bool read_only) {
        const char target[TARGET_MAX] = { 'v', 'd', (char) ('a' + i), '\0' };
        xmlNode *disk;

        disk = add_source(x, devices, "disk", d->path, d->block);
        add(x, disk, "driver", NULL, "name", "qemu", "type", d->format, "discard",
            read_only ? NULL : "unmap", NULL);
        add(x, disk, "target", NULL, "dev", target, "bus", "virtio", NULL);
        if (read_only)
                add(x, disk, "readonly", NULL, NULL);
        if (i == 0 && !read_only)
                add_boot_order(x, disk, "1");
}

/* The seed is a disk and no CD-ROM: a kernel that has the root disk's driver can read it, while
 * those of cloud images may have none for SATA. */
static void add_disks(Builder *x, xmlNode *devices) {
        const DomainBuild *b = x->b;
        xmlNode *disk;

        for (size_t i = 0; i < b->n_disks; i++)
                add_disk(x, devices, i, &b->disks[i], false);
        if (b->seed)
                add_disk(x, devices, b->n_disks,
                         &(DomainBuildDisk){ .path = b->seed, .format = "raw" }, true);
        if (b->cdrom) {
                disk = add_source(x, devices, "cdrom", b->cdrom, b->cdrom_block);
                add(x, disk, "driver", NULL, "name", "qemu", "type", "raw", NULL);
                add(x, disk, "target", NULL, "dev", "sda", "bus", "sata", NULL);
                add(x, disk, "readonly", NULL, NULL);
                add_boot_order(x, disk, "2");
        }
}

/* A file each, so that what is in it shows in no list of processes. In an option of QEMU a comma is
 * written twice. libvirt has an element for such strings, and would put them on the command line.
 */
static void add_credentials(Builder *x, xmlNode *domain) {
        xmlNode *commandline;
        xmlNs *ns;

        if (!x->b->credentials || !*x->b->credentials || x->failed)
                return;
        ns = xmlNewNs(domain, (const xmlChar *) "http://libvirt.org/schemas/domain/qemu/1.0",
                      (const xmlChar *) "qemu");
        commandline = add(x, domain, "commandline", NULL, NULL);
        if (!ns || !commandline) {
                x->failed = true;
                return;
        }
        xmlSetNs(commandline, ns);
        for (char *const *file = x->b->credentials; *file; file++) {
                _cleanup_free_ char *option =
                        new0(char, sizeof("type=11,path=") + 2 * strlen(*file));
                char *t = option;

                if (!option) {
                        x->failed = true;
                        return;
                }
                t = stpcpy(t, "type=11,path=");
                for (const char *s = *file; *s; s++) {
                        *t++ = *s;
                        if (*s == ',')
                                *t++ = ',';
                }
                xmlSetNs(add(x, commandline, "arg", NULL, "value", "-smbios", NULL), ns);
                xmlSetNs(add(x, commandline, "arg", NULL, "value", option, NULL), ns);
        }
}

static void add_nic(Builder *x, xmlNode *devices) {
        xmlNode *nic;

        nic = add(x, devices, "interface", NULL, "type", "user", NULL);
        add(x, nic, "model", NULL, "type", "virtio", NULL);
        if (x->b->passt)
                add(x, nic, "backend", NULL, "type", "passt", NULL);
}

static void add_console(Builder *x, xmlNode *devices) {
        xmlNode *channel;

        add(x, devices, "serial", NULL, "type", "pty", NULL);
        add(x, devices, "console", NULL, "type", "pty", NULL);
        channel = add(x, devices, "channel", NULL, "type", "unix", NULL);
        add(x, channel, "target", NULL, "type", "virtio", "name", DOMAIN_XML_AGENT, NULL);
}

/* The tablet is what keeps the guest's pointer under the viewer's. */
static void add_display(Builder *x, xmlNode *devices) {
        xmlNode *graphics, *video;

        add(x, devices, "input", NULL, "type", "tablet", "bus", "virtio", NULL);
        graphics = add(x, devices, "graphics", NULL, "type", "vnc", NULL);
        add(x, graphics, "listen", NULL, "type", "socket", NULL);
        video = add(x, devices, "video", NULL, NULL);
        add(x, video, "model", NULL, "type", "virtio", NULL);
}

static void add_devices(Builder *x, xmlNode *domain) {
        xmlNode *devices, *rng;

        devices = add(x, domain, "devices", NULL, NULL);
        add_disks(x, devices);
        add_nic(x, devices);
        add_console(x, devices);
        add_display(x, devices);
        add(x, devices, "memballoon", NULL, "model", "virtio", NULL);
        rng = add(x, devices, "rng", NULL, "model", "virtio", NULL);
        add(x, rng, "backend", "/dev/urandom", "model", "random", NULL);
}

/* Whether XML can carry the value: it has no way to write most control characters. */
static bool is_xml_text(const char *s) {
        if (!s)
                return true;

        while (*s) {
                uint32_t c;
                size_t length = utf8_character(s, &c);

                if (length == 0 || !IS_CHAR(c))
                        return false;
                s += length;
        }
        return true;
}

static bool settings_are_valid(const DomainBuild *b) {
        const char *values[] = { b->name, b->uuid,   b->type,   b->arch,   b->cdrom,
                                 b->seed, b->kernel, b->initrd, b->cmdline };

        if (b->forwards && b->forwards->n > 0 && !b->passt)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(values); i++)
                if (!is_xml_text(values[i]))
                        return false;
        for (size_t i = 0; i < b->n_disks; i++)
                if (!is_xml_text(b->disks[i].path) || !is_xml_text(b->disks[i].base))
                        return false;
        for (char *const *file = b->credentials; file && *file; file++)
                if (!is_xml_text(*file))
                        return false;
        return b->n_disks <= DISKS_MAX;
}

static int build(const DomainBuild *b, char **ret_xml) {
        Builder x = { .b = b };
        _cleanup_xml_doc_ xmlDoc *doc = xmlNewDoc((const xmlChar *) "1.0");
        xmlNode *domain;
        int r;

        if (!doc)
                return -ENOMEM;
        domain = xmlNewDocNode(doc, NULL, (const xmlChar *) "domain", NULL);
        if (!domain)
                return -ENOMEM;
        xmlDocSetRootElement(doc, domain);
        r = xml_set_attribute(domain, "type", b->type);
        if (r < 0)
                return r;

        add_machine(&x, domain);
        add_devices(&x, domain);
        add_credentials(&x, domain);
        if (x.failed)
                return -ENOMEM;
        return xml_print(domain, /* indent= */ true, ret_xml);
}

int domain_build(const DomainBuild *b, char **ret_xml) {
        _cleanup_free_ char *xml = NULL;
        int r;

        if (!settings_are_valid(b))
                return -EINVAL;

        r = build(b, &xml);
        if (r < 0)
                return r;

        for (size_t i = 0; b->forwards && i < b->forwards->n; i++) {
                char *longer;

                r = domain_xml_add_forward(xml, &b->forwards->items[i], &longer);
                if (r < 0)
                        return r;
                free(xml);
                xml = longer;
        }

        *ret_xml = TAKE_PTR(xml);
        return 0;
}
