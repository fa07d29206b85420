/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Building a domain of hostile values. Lines: memory, vcpus, flags and the number of disks; name,
 * UUID, type, architecture; CD-ROM, seed, two credentials, kernel, initrd, command line, each empty
 * if there is none; of each disk, its path and what it is based on; then the specs of forwards. */

#include "domain-build.h"

#include <errno.h>

#include "domain-xml.h"
#include "fuzz.h"
#include "xml.h"

enum {
        NAME,
        UUID,
        TYPE,
        ARCH,
        CDROM,
        SEED,
        CREDENTIALS,
        KERNEL = CREDENTIALS + 2,
        INITRD,
        CMDLINE,
        DISKS, /* two for each */
        N_TEXTS = DISKS + 2 * (DISKS_MAX + 1),
};

enum { Q35 = 1, UEFI = 2, CREATED = 4, PASST = 8 };

typedef struct Values {
        uint64_t memory;
        unsigned vcpus, flags;
        size_t n_disks, n_texts;
        char *texts[N_TEXTS];
        ForwardList forwards;
} Values;

static void values_done(Values *v) {
        for (size_t i = 0; i < v->n_texts; i++)
                free(v->texts[i]);
        forward_list_done(&v->forwards);
}

static void read_values(FuzzInput *input, Values *v) {
        _cleanup_free_ char *numbers = fuzz_line(input);
        char *end;

        v->memory = strtoull(numbers, &end, 10);
        v->vcpus = (unsigned) strtoul(end, &end, 10);
        v->flags = (unsigned) strtoul(end, &end, 10);
        v->n_disks = strtoul(end, &end, 10) % (DISKS_MAX + 2);
        while (v->n_texts < DISKS + 2 * v->n_disks)
                v->texts[v->n_texts++] = fuzz_line(input);
        while (input->left > 0) {
                _cleanup_free_ char *spec = fuzz_line(input), *reason = NULL;
                _cleanup_forward_ Forward f = {};

                if (forward_parse(spec, &f, &reason) == 0)
                        INVARIANT(forward_list_append(&v->forwards, &f) == 0);
        }
}

/* A text, NULL if it is empty, or (harmless) another one in its place. */
static const char *optional(const char *text, bool harmless) {
        return *text && harmless ? "x" : *text ? text : NULL;
}

/* Builds the domain, or (harmless) one that is to have the same elements. */
static int build(const Values *v, bool harmless, char **ret) {
        char *credentials[3] = {};
        DomainBuildDisk disks[DISKS_MAX + 1];
        const DomainBuild b = {
                .name = harmless ? "x" : v->texts[NAME],
                .uuid = harmless ? "x" : v->texts[UUID],
                .type = v->texts[TYPE],
                .arch = v->texts[ARCH],
                .q35 = v->flags & Q35,
                .memory = v->memory,
                .vcpus = v->vcpus,
                .uefi = v->flags & UEFI,
                .disks = disks,
                .n_disks = v->n_disks,
                .cdrom = optional(v->texts[CDROM], harmless),
                .seed = optional(v->texts[SEED], harmless),
                .credentials = credentials,
                .kernel = optional(v->texts[KERNEL], harmless),
                .initrd = optional(v->texts[INITRD], harmless),
                .cmdline = optional(v->texts[CMDLINE], harmless),
                .passt = v->flags & PASST,
                .forwards = &v->forwards,
        };

        for (size_t i = 0; i < 2; i++)
                credentials[i] = (char *) optional(v->texts[CREDENTIALS + i], harmless);
        for (size_t i = 0; i < v->n_disks; i++)
                disks[i] = (DomainBuildDisk){
                        .path = harmless ? "x" : v->texts[DISKS + 2 * i],
                        .format = "qcow2",
                        .base = optional(v->texts[DISKS + 2 * i + 1], harmless),
                        .created = v->flags & CREATED,
                };
        return domain_build(&b, ret);
}

static void check_refused(const Values *v, int r) {
        bool plain = true, zero = false, twice = false;

        for (size_t i = 0; i < v->n_texts; i++)
                for (const char *s = v->texts[i]; *s; s++)
                        plain = plain && *s >= ' ' && *s <= '~';
        for (size_t i = 0; i < v->forwards.n; i++) {
                const Forward *f = &v->forwards.items[i];

                zero = zero || f->host.start == 0;
                twice = twice || forward_list_find_host_side(&v->forwards, f) != f;
        }
        if (r == -EEXIST)
                INVARIANT(twice);
        else
                INVARIANT(r == -EINVAL && (!plain || zero || v->n_disks > DISKS_MAX ||
                                           (v->forwards.n > 0 && !(v->flags & PASST))));
}

static bool same_name(const xmlChar *a, const xmlChar *b) {
        return streq((const char *) a, (const char *) b);
}

/* The same elements with the same attributes, whatever is in them. */
static void check_same_shape(xmlNode *a, xmlNode *b) {
        xmlAttr *p = a->properties, *q = b->properties;

        INVARIANT(same_name(a->name, b->name));
        for (; p && q; p = p->next, q = q->next)
                INVARIANT(same_name(p->name, q->name));
        INVARIANT(!p && !q);

        a = xmlFirstElementChild(a);
        b = xmlFirstElementChild(b);
        for (; a && b; a = xmlNextElementSibling(a), b = xmlNextElementSibling(b))
                check_same_shape(a, b);
        INVARIANT(!a && !b);
}

static void check_text(xmlNode *node, const char *expected) {
        _cleanup_free_ char *text = NULL;

        INVARIANT(xml_text(node, &text) == 0 && streq(text, expected));
}

static void check_optional_text(xmlNode *parent, const char *name, const char *expected) {
        xmlNode *node = xml_child(parent, name);

        INVARIANT(!!node == !!*expected);
        if (node)
                check_text(node, expected);
}

static void check_disk(xmlNode **disk, const char *path, const char *format) {
        INVARIANT(xml_attribute_is(xml_child(*disk, "source"), "file", path));
        INVARIANT(xml_attribute_is(xml_child(*disk, "driver"), "type", format));
        *disk = xml_element_from((*disk)->next, "disk");
}

/* Every value is where it belongs, and is what it was. */
static void check_values(const Values *v, xmlNode *domain) {
        xmlNode *os = xml_child(domain, "os");
        xmlNode *disk = xml_child(xml_child(domain, "devices"), "disk");

        INVARIANT(xml_attribute_is(domain, "type", v->texts[TYPE]));
        check_text(xml_child(domain, "name"), v->texts[NAME]);
        check_text(xml_child(domain, "uuid"), v->texts[UUID]);
        INVARIANT(xml_attribute_is(xml_child(os, "type"), "arch", v->texts[ARCH]));
        check_optional_text(os, "kernel", v->texts[KERNEL]);
        if (*v->texts[KERNEL]) {
                check_optional_text(os, "initrd", v->texts[INITRD]);
                check_optional_text(os, "cmdline", v->texts[CMDLINE]);
        }
        for (size_t i = 0; i < v->n_disks; i++)
                check_disk(&disk, v->texts[DISKS + 2 * i], "qcow2");
        if (*v->texts[SEED])
                check_disk(&disk, v->texts[SEED], "raw");
        if (*v->texts[CDROM])
                check_disk(&disk, v->texts[CDROM], "raw");
        INVARIANT(!disk);
}

static void check_storage(const Values *v, const DomainInfo *info) {
        size_t n = 0;

        for (size_t i = 0; v->flags & CREATED && i < v->n_disks; i++, n++) {
                INVARIANT(n < info->n_storage && !info->storage[n].is_setup);
                INVARIANT(streq(info->storage[n].path, v->texts[DISKS + 2 * i]));
                INVARIANT(streq(info->storage[n].base ?: "", v->texts[DISKS + 2 * i + 1]));
        }
        for (size_t i = SEED; i < KERNEL; i++) {
                if (!*v->texts[i])
                        continue;
                if (i > CREDENTIALS && !*v->texts[CREDENTIALS])
                        break;
                INVARIANT(n < info->n_storage && info->storage[n].is_setup);
                INVARIANT(streq(info->storage[n++].path, v->texts[i]));
        }
        INVARIANT(info->n_storage == n);
}

/* What the rest of the service reads of it, when libvirt has added a MAC. */
static void check_info(const Values *v, xmlNode *domain) {
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        _cleanup_free_ char *xml = NULL;
        xmlNode *nic = xml_child(xml_child(domain, "devices"), "interface"), *mac;

        mac = xmlNewChild(nic, NULL, (const xmlChar *) "mac", NULL);
        INVARIANT(mac && xml_set_attribute(mac, "address", "52:54:00:00:00:01") == 0);
        INVARIANT(xml_print(domain, /* indent= */ false, &xml) == 0);
        if (domain_info_parse(xml, &info) < 0)
                return; /* the UUID is none, or there is more memory than can be written in bytes */

        INVARIANT(streq(info->name, v->texts[NAME]) && info->vcpus == v->vcpus);
        INVARIANT(info->memory >= v->memory && info->memory - v->memory < 1024);
        INVARIANT(info->n_nics == 1 && info->nics[0].passt == !!(v->flags & PASST));
        INVARIANT(info->nics[0].forwards.n == v->forwards.n);
        for (size_t i = 0; i < v->forwards.n; i++)
                INVARIANT(forward_equal(&info->nics[0].forwards.items[i], &v->forwards.items[i]));
        check_storage(v, info);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        FuzzInput input = fuzz_input(data, size);
        _cleanup_(values_done) Values v = {};
        _cleanup_xml_doc_ xmlDoc *doc = NULL, *harmless_doc = NULL;
        _cleanup_free_ char *xml = NULL, *harmless_xml = NULL;
        int r;

        read_values(&input, &v);
        r = build(&v, /* harmless= */ false, &xml);
        if (r < 0) {
                check_refused(&v, r);
                return 0;
        }

        INVARIANT(xml_parse(xml, "domain", &doc) == 0);
        INVARIANT(build(&v, /* harmless= */ true, &harmless_xml) == 0);
        INVARIANT(xml_parse(harmless_xml, "domain", &harmless_doc) == 0);
        check_same_shape(xmlDocGetRootElement(doc), xmlDocGetRootElement(harmless_doc));
        check_values(&v, xmlDocGetRootElement(doc));
        check_info(&v, xmlDocGetRootElement(doc));
        return 0;
}
