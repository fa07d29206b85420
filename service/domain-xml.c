/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reading libvirt's XML, and re-plugging a NIC; what is done with <portForward> is in
 * domain-forward.c.
 *
 * A re-plug takes the NIC out of the running VM and puts it back in the same place: same MAC, PCI
 * address and model, so that the guest takes it for the same card. So what is attached is the live
 * element, less the names that libvirt gave it for this run, and only the backend and the forwards
 * come from the stored definition.
 *
 * Not done here: an opinion on what a domain looks like. What is missing or odd but of no use to
 * uservm is no error. */

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <strings.h>

#include "domain-forward.h"
#include "domain-xml.h"
#include "utf8.h"
#include "xml.h"

static int read_nic(xmlNode *node, DomainNic *nic) {
        int r;

        r = domain_nic_read_mac(node, &nic->mac);
        if (r < 0)
                return r;
        nic->passt = domain_nic_is_passt(node);
        return domain_nic_read_forwards(node, &nic->forwards);
}

static int read_nics(xmlNode *domain, DomainInfo *info) {
        xmlNode *devices = xml_child(domain, "devices");
        size_t n = 0;
        int r;

        XML_FOREACH_CHILD (node, devices, "interface")
                n += domain_nic_is_user(node);
        info->nics = new0(DomainNic, n);
        if (!info->nics && n > 0)
                return -ENOMEM;

        XML_FOREACH_CHILD (node, devices, "interface") {
                if (!domain_nic_is_user(node))
                        continue;
                r = read_nic(node, &info->nics[info->n_nics++]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_uuid(xmlNode *domain, char ret[static 37]) {
        _cleanup_free_ char *text = NULL;
        int r;

        r = xml_text(xml_child(domain, "uuid"), &text);
        if (r < 0)
                return r;
        if (strlen(text) != 36)
                return -EBADMSG;

        for (size_t i = 0; i <= 36; i++) {
                bool dash = i == 8 || i == 13 || i == 18 || i == 23;

                if (i < 36 && (dash ? text[i] != '-' : !isxdigit((unsigned char) text[i])))
                        return -EBADMSG;
                ret[i] = (char) tolower((unsigned char) text[i]);
        }
        return 0;
}

/* The factor of a memory unit: "b" and "bytes", a letter alone or with "iB" for powers of 1024, a
 * letter with "B" for powers of 1000, in any case; none is KiB. */
static int memory_unit(const char *unit, uint64_t *ret) {
        const char *letters = "kmgtpe", *letter;
        uint64_t base, factor = 1;

        if (!unit)
                unit = "KiB";
        if (strcasecmp(unit, "b") != 0 && strcasecmp(unit, "byte") != 0 &&
            strcasecmp(unit, "bytes") != 0) {
                letter = *unit ? strchr(letters, tolower((unsigned char) *unit)) : NULL;
                if (!letter)
                        return -EBADMSG;
                if (!unit[1] || strcasecmp(unit + 1, "iB") == 0)
                        base = 1024;
                else if (strcasecmp(unit + 1, "B") == 0)
                        base = 1000;
                else
                        return -EBADMSG;
                for (const char *l = letters; l <= letter; l++)
                        factor *= base;
        }

        *ret = factor;
        return 0;
}

static int read_memory(xmlNode *node, uint64_t *ret) {
        _cleanup_xml_string_ xmlChar *unit = xml_attribute(node, "unit");
        _cleanup_free_ char *text = NULL;
        uint64_t factor, n;
        int r;

        r = xml_text(node, &text);
        if (r < 0)
                return r;
        r = memory_unit((const char *) unit, &factor);
        if (r < 0)
                return r;
        r = xml_parse_number(text, UINT64_MAX / factor, &n);
        if (r < 0)
                return r;

        *ret = n * factor;
        return 0;
}

/* libvirt always prints <vcpu>, but takes XML without as one CPU. */
static int read_vcpus(xmlNode *domain, unsigned *ret) {
        xmlNode *node = xml_child(domain, "vcpu");
        _cleanup_xml_string_ xmlChar *current = xml_attribute(node, "current");
        _cleanup_free_ char *text = NULL;
        uint64_t n = 1;
        int r;

        if (node) {
                r = xml_text(node, &text);
                if (r < 0)
                        return r;
                r = xml_parse_number(current ? (const char *) current : text, UINT_MAX, &n);
                if (r < 0)
                        return r;
        }

        *ret = (unsigned) n;
        return 0;
}

static xmlNode *our_element_from(xmlNode *node, const char *name) {
        for (; node; node = node->next)
                if (node->type == XML_ELEMENT_NODE && node->ns &&
                    streq_ptr((const char *) node->ns->href, DOMAIN_XML_NAMESPACE) &&
                    streq((const char *) node->name, name))
                        return node;
        return NULL;
}

static int copy_attribute(xmlNode *node, const char *name, char **ret) {
        _cleanup_xml_string_ xmlChar *value = xml_attribute(node, name);

        return value ? xml_copy_string(value, ret) : 0;
}

static int read_storage(xmlNode *domain, DomainInfo *info) {
        xmlNode *metadata = xml_child(domain, "metadata"), *vm = NULL, *node;
        bool is_own;
        int r;

        if (metadata)
                vm = our_element_from(metadata->children, "vm");
        is_own = vm && xml_attribute_is(vm, "uuid", info->uuid);

        for (node = vm ? vm->children : NULL; (node = our_element_from(node, "storage"));
             node = node->next) {
                _cleanup_xml_string_ xmlChar *path = xml_attribute(node, "path");
                DomainStorage *longer, *storage;

                if (!path)
                        continue;
                longer = reallocarray(info->storage, info->n_storage + 1, sizeof(DomainStorage));
                if (!longer)
                        return -ENOMEM;
                info->storage = longer;
                storage = &longer[info->n_storage++];
                *storage = (DomainStorage){ .is_setup = xml_attribute_is(node, "setup", "yes"),
                                            .is_own = is_own };
                r = xml_copy_string(path, &storage->path);
                if (r >= 0)
                        r = copy_attribute(node, "base", &storage->base);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_disk(xmlNode *node, DomainDisk *disk) {
        xmlNode *source = xml_child(node, "source");
        int r;

        disk->read_only = xml_child(node, "readonly") != NULL;
        r = copy_attribute(node, "device", &disk->device);
        if (r >= 0)
                r = copy_attribute(xml_child(node, "target"), "dev", &disk->target);
        if (r >= 0)
                r = copy_attribute(xml_child(node, "driver"), "type", &disk->format);
        if (r >= 0 && source)
                r = copy_attribute(source, xml_attribute_is(node, "type", "block") ? "dev" : "file",
                                   &disk->path);
        return r;
}

static int read_disks(xmlNode *domain, DomainInfo *info) {
        XML_FOREACH_CHILD (node, xml_child(domain, "devices"), "disk") {
                DomainDisk *longer;
                int r;

                longer = reallocarray(info->disks, info->n_disks + 1, sizeof(DomainDisk));
                if (!longer)
                        return -ENOMEM;
                info->disks = longer;
                longer[info->n_disks] = (DomainDisk){};
                r = read_disk(node, &longer[info->n_disks++]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool agent_is_connected(xmlNode *domain) {
        XML_FOREACH_CHILD (node, xml_child(domain, "devices"), "channel") {
                xmlNode *target = xml_child(node, "target");

                if (xml_attribute_is(target, "name", DOMAIN_XML_AGENT) &&
                    xml_attribute_is(target, "state", "connected"))
                        return true;
        }
        return false;
}

int domain_info_parse(const char *xml, DomainInfo **ret) {
        _cleanup_(domain_info_freep) DomainInfo *info = new0(DomainInfo, 1);
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        xmlNode *domain;
        int r;

        if (!info)
                return -ENOMEM;
        r = xml_parse(xml, "domain", &doc);
        if (r < 0)
                return r;
        domain = xmlDocGetRootElement(doc);

        r = xml_text(xml_child(domain, "name"), &info->name);
        if (r < 0)
                return r;
        utf8_make_valid(info->name);
        r = read_uuid(domain, info->uuid);
        if (r < 0)
                return r;
        r = read_memory(xml_child(domain, "memory"), &info->memory);
        if (r < 0)
                return r;
        info->current_memory = info->memory;
        if (xml_child(domain, "currentMemory")) {
                r = read_memory(xml_child(domain, "currentMemory"), &info->current_memory);
                if (r < 0)
                        return r;
        }
        r = read_vcpus(domain, &info->vcpus);
        if (r < 0)
                return r;
        r = read_nics(domain, info);
        if (r < 0)
                return r;
        r = read_disks(domain, info);
        if (r < 0)
                return r;
        r = read_storage(domain, info);
        if (r < 0)
                return r;
        if (xml_child(xml_child(domain, "os"), "nvram")) {
                r = xml_text(xml_child(xml_child(domain, "os"), "nvram"), &info->nvram);
                if (r < 0)
                        return r;
        }
        info->agent = agent_is_connected(domain);

        *ret = TAKE_PTR(info);
        return 0;
}

bool domain_info_created(const DomainInfo *info, const char *path) {
        for (size_t i = 0; path && i < info->n_storage; i++)
                if (info->storage[i].is_own && streq(info->storage[i].path, path))
                        return true;
        return false;
}

DomainInfo *domain_info_free(DomainInfo *info) {
        if (!info)
                return NULL;

        for (size_t i = 0; i < info->n_nics; i++) {
                free(info->nics[i].mac);
                forward_list_done(&info->nics[i].forwards);
        }
        free(info->nics);
        for (size_t i = 0; i < info->n_disks; i++) {
                free(info->disks[i].target);
                free(info->disks[i].device);
                free(info->disks[i].path);
                free(info->disks[i].format);
        }
        free(info->disks);
        for (size_t i = 0; i < info->n_storage; i++) {
                free(info->storage[i].path);
                free(info->storage[i].base);
        }
        free(info->nvram);
        free(info->storage);
        free(info->name);
        free(info);
        return NULL;
}

/* ---- re-plugging a NIC ---- */

static xmlNode *find_user_nic(xmlDoc *doc, const char *mac) {
        XML_FOREACH_CHILD (nic, xml_child(xmlDocGetRootElement(doc), "devices"), "interface") {
                _cleanup_xml_string_ xmlChar *address = NULL;

                address = xml_attribute(xml_child(nic, "mac"), "address");
                if (address && strcasecmp((const char *) address, mac) == 0 &&
                    domain_nic_is_user(nic))
                        return nic;
        }
        return NULL;
}

static void remove_children(xmlNode *parent, const char *name) {
        xmlNode *node;

        while ((node = xml_child(parent, name))) {
                xmlUnlinkNode(node);
                xmlFreeNode(node);
        }
}

static int copy_children(xmlNode *from, const char *name, xmlNode *to) {
        XML_FOREACH_CHILD (node, from, name) {
                xmlNode *copy = xmlDocCopyNode(node, to->doc, 1);

                if (!copy)
                        return -ENOMEM;
                xmlAddChild(to, copy);
        }
        return 0;
}

int domain_xml_changed_nic(const char *old_xml, const char *xml, char **ret_nic) {
        _cleanup_xml_doc_ xmlDoc *old_doc = NULL, *doc = NULL;
        xmlNode *old;
        int r;

        r = xml_parse(old_xml, "domain", &old_doc);
        if (r < 0)
                return r;
        r = xml_parse(xml, "domain", &doc);
        if (r < 0)
                return r;
        old = xml_child(xml_child(xmlDocGetRootElement(old_doc), "devices"), "interface");
        XML_FOREACH_CHILD (nic, xml_child(xmlDocGetRootElement(doc), "devices"), "interface") {
                _cleanup_free_ char *was = NULL, *is = NULL;

                r = old ? xml_print(old, /* indent= */ false, &was) : -ENOENT;
                if (r >= 0)
                        r = xml_print(nic, /* indent= */ false, &is);
                if (r < 0)
                        return r;
                if (!streq(was, is)) {
                        *ret_nic = TAKE_PTR(is);
                        return 0;
                }
                old = xml_element_from(old->next, "interface");
        }
        return -ENOENT;
}

int domain_xml_replug(const char *live_xml, const char *stored_xml, const char *mac,
                      char **ret_detach, char **ret_attach) {
        _cleanup_xml_doc_ xmlDoc *live_doc = NULL, *stored_doc = NULL;
        _cleanup_free_ char *detach = NULL, *attach = NULL;
        xmlNode *live, *stored;
        int r;

        r = xml_parse(live_xml, "domain", &live_doc);
        if (r < 0)
                return r;
        r = xml_parse(stored_xml, "domain", &stored_doc);
        if (r < 0)
                return r;
        live = find_user_nic(live_doc, mac);
        stored = find_user_nic(stored_doc, mac);
        if (!live || !stored)
                return -ENODEV;

        r = xml_print(live, /* indent= */ false, &detach);
        if (r < 0)
                return r;

        remove_children(live, "target");
        remove_children(live, "alias");
        remove_children(live, "backend");
        remove_children(live, "portForward");
        r = copy_children(stored, "backend", live);
        if (r < 0)
                return r;
        r = copy_children(stored, "portForward", live);
        if (r < 0)
                return r;
        r = xml_print(live, /* indent= */ false, &attach);
        if (r < 0)
                return r;

        *ret_detach = TAKE_PTR(detach);
        *ret_attach = TAKE_PTR(attach);
        return 0;
}

/* ---- host capabilities ---- */

static bool text_is(xmlNode *node, const char *text) {
        _cleanup_xml_string_ xmlChar *content = node ? xmlNodeGetContent(node) : NULL;

        return content && streq((const char *) content, text);
}

/* The <arch> of the hvm guest with the host's architecture, else of the first hvm guest. */
static xmlNode *choose_guest_arch(xmlNode *capabilities) {
        xmlNode *host = xml_child(xml_child(xml_child(capabilities, "host"), "cpu"), "arch");
        xmlNode *first = NULL;

        XML_FOREACH_CHILD (guest, capabilities, "guest") {
                xmlNode *arch = xml_child(guest, "arch");
                _cleanup_xml_string_ xmlChar *name = xml_attribute(arch, "name");

                if (!name || !text_is(xml_child(guest, "os_type"), "hvm"))
                        continue;
                if (text_is(host, (const char *) name))
                        return arch;
                if (!first)
                        first = arch;
        }
        return first;
}

static int read_types(xmlNode *arch, char ***ret) {
        _cleanup_(strv_freep) char **types = NULL;
        size_t n = 0;
        int r;

        XML_FOREACH_CHILD (node, arch, "domain")
                n++;
        types = new0(char *, n + 1);
        if (!types)
                return -ENOMEM;

        n = 0;
        XML_FOREACH_CHILD (node, arch, "domain") {
                _cleanup_xml_string_ xmlChar *type = xml_attribute(node, "type");

                r = xml_copy_string(type, &types[n++]);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(types);
        return 0;
}

static bool has_q35(xmlNode *arch) {
        XML_FOREACH_CHILD (machine, arch, "machine")
                if (text_is(machine, "q35"))
                        return true;
        return false;
}

int capabilities_parse(const char *xml, char **ret_arch, char ***ret_types, bool *ret_q35) {
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        _cleanup_xml_string_ xmlChar *name = NULL;
        _cleanup_(strv_freep) char **types = NULL;
        xmlNode *arch;
        int r;

        r = xml_parse(xml, "capabilities", &doc);
        if (r < 0)
                return r;
        arch = choose_guest_arch(xmlDocGetRootElement(doc));
        if (!arch)
                return -ENODEV;

        r = read_types(arch, &types);
        if (r < 0)
                return r;
        name = xml_attribute(arch, "name");
        r = xml_copy_string(name, ret_arch);
        if (r < 0)
                return r;

        *ret_types = TAKE_PTR(types);
        *ret_q35 = has_q35(arch);
        return 0;
}
