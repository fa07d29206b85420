/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A managed VM runs from an XML that differs from the stored one in three things, and in nothing
 * else that libvirt reads:
 *
 *  - A NIC with passt behind it becomes type 'vhostuser', the client of a socket on which a passt
 *    of ours listens. What libvirt would have told its own passt (<backend>, <portForward>, <ip>,
 *    <mtu>, <source dev>) leaves the XML, and is read out by domain_live_nics() for ours. It has to
 *    leave: libvirt refuses forwards and addresses on a NIC whose backend it does not run, and for
 *    an MTU it looks for a host interface to set it on, of which there is none ("Cannot set
 *    interface MTU on '(null)'", libvirt 11.3). The guest has the MTU from passt, by DHCP and NDP.
 *  - All memory of the guest is mapped shared, because a vhost-user process reads and writes the
 *    packets right there. libvirt takes the access mode from the memory device, else from the NUMA
 *    cell, else from <memoryBacking>; so the first two are changed where they say otherwise.
 *  - The source of the memory is memfd unless a file is asked for. Anonymous memory, asked for or
 *    by default, has no file descriptor to share; and what libvirt makes of shared memory without a
 *    source is a file in the home directory.
 *
 * One thing is refused: an NVDIMM is a file of the user's, and with private access what the guest
 * writes is not written to it. Sharing it would write, so such a VM cannot be managed.
 *
 * Not done here: taking the layout of the XML along. Only libvirt reads it. */

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <strings.h>

#include "domain-forward.h"
#include "domain-live.h"
#include "xml.h"

/* What both a label of a host name (RFC 1035) and Linux (HOST_NAME_MAX) hold. */
#define HOSTNAME_LENGTH_MAX 63

/* The models that have a vhost-user backend in libvirt. */
static bool has_virtio_model(xmlNode *nic) {
        static const char *const models[] = {
                "virtio",
                "virtio-transitional",
                "virtio-non-transitional",
        };

        for (size_t i = 0; i < ELEMENTSOF(models); i++)
                if (xml_attribute_is(xml_child(nic, "model"), "type", models[i]))
                        return true;
        return false;
}

/* passt does not offer VIRTIO_F_ACCESS_PLATFORM, without which QEMU refuses iommu='on'. */
static bool can_be_vhost_user(xmlNode *nic) {
        return domain_nic_is_user(nic) && domain_nic_is_passt(nic) && has_virtio_model(nic) &&
               !xml_attribute_is(xml_child(nic, "driver"), "iommu", "on");
}

static bool same_mac(xmlNode *a, xmlNode *b) {
        _cleanup_xml_string_ xmlChar *mac_a = xml_attribute(xml_child(a, "mac"), "address");
        _cleanup_xml_string_ xmlChar *mac_b = xml_attribute(xml_child(b, "mac"), "address");

        return mac_a && mac_b && strcasecmp((const char *) mac_a, (const char *) mac_b) == 0;
}

/* libvirt permits NICs with the same MAC, but a passt goes by it, so only the first can have one.
 * Types alone are looked at, so that the answer is the same once the first is derived. */
static bool is_repeated(xmlNode *nic) {
        XML_FOREACH_CHILD (earlier, nic->parent, "interface") {
                if (earlier == nic)
                        break;
                if ((xml_attribute_is(earlier, "type", "user") ||
                     xml_attribute_is(earlier, "type", "vhostuser")) &&
                    same_mac(earlier, nic))
                        return true;
        }
        return false;
}

static xmlNode *managed_nic_from(xmlNode *nic) {
        nic = xml_element_from(nic, "interface");
        while (nic && (!can_be_vhost_user(nic) || is_repeated(nic)))
                nic = xml_element_from(nic->next, "interface");
        return nic;
}

static xmlNode *first_managed_nic(xmlNode *domain) {
        return managed_nic_from(xml_child(xml_child(domain, "devices"), "interface"));
}

/* ---- what passt is to be started with ---- */

int domain_live_hostname(const char *name, char **ret) {
        char hostname[HOSTNAME_LENGTH_MAX + 1] = "";
        size_t n = 0;

        for (const char *c = name; *c && n < HOSTNAME_LENGTH_MAX; c++) {
                bool alphanumeric = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                                    (*c >= '0' && *c <= '9');

                if (alphanumeric)
                        hostname[n++] = *c;
                else if (n > 0 && hostname[n - 1] != '-' && hostname[n - 1] != '.')
                        hostname[n++] = *c == '.' ? '.' : '-';
        }
        if (n > 0 && (hostname[n - 1] == '-' || hostname[n - 1] == '.'))
                n--;
        hostname[n] = '\0';

        /* Without any, passt would give the guest the name of the host. */
        *ret = strdup(n > 0 ? hostname : "guest");
        return *ret ? 0 : -ENOMEM;
}

static int read_mtu(xmlNode *nic, unsigned *ret) {
        _cleanup_xml_string_ xmlChar *size = xml_attribute(xml_child(nic, "mtu"), "size");
        uint64_t mtu = 0;
        int r;

        if (size) {
                r = xml_parse_number((const char *) size, UINT_MAX, &mtu);
                if (r < 0)
                        return r;
        }

        *ret = (unsigned) mtu;
        return 0;
}

static int read_address(xmlNode *ip, char **ret) {
        _cleanup_xml_string_ xmlChar *address = xml_attribute(ip, "address");
        _cleanup_xml_string_ xmlChar *prefix = xml_attribute(ip, "prefix");

        if (!address || !prefix)
                return xml_copy_string(address, ret);
        return asprintf(ret, "%s/%s", (char *) address, (char *) prefix) < 0 ? -ENOMEM : 0;
}

static int read_addresses(xmlNode *nic, char ***ret) {
        _cleanup_(strv_freep) char **addresses = NULL;
        size_t n = 0;
        int r;

        XML_FOREACH_CHILD (ip, nic, "ip")
                n++;
        addresses = new0(char *, n + 1);
        if (!addresses)
                return -ENOMEM;

        n = 0;
        XML_FOREACH_CHILD (ip, nic, "ip") {
                r = read_address(ip, &addresses[n]);
                if (r < 0) {
                        addresses[n] = NULL;
                        return r;
                }
                n++;
        }

        *ret = TAKE_PTR(addresses);
        return 0;
}

/* An attribute that may be missing: then *ret is NULL. */
static int read_optional(xmlNode *node, const char *name, char **ret) {
        _cleanup_xml_string_ xmlChar *value = xml_attribute(node, name);

        *ret = NULL;
        return value ? xml_copy_string(value, ret) : 0;
}

static int read_nic(xmlNode *node, const char *name, LiveNic *nic) {
        int r;

        r = domain_nic_read_mac(node, &nic->mac);
        if (r < 0)
                return r;
        r = domain_live_hostname(name, &nic->hostname);
        if (r < 0)
                return r;
        r = read_mtu(node, &nic->mtu);
        if (r < 0)
                return r;
        r = read_addresses(node, &nic->addresses);
        if (r < 0)
                return r;
        r = read_optional(xml_child(node, "source"), "dev", &nic->interface);
        if (r < 0)
                return r;
        r = read_optional(xml_child(node, "backend"), "logFile", &nic->log_file);
        if (r < 0)
                return r;
        return domain_nic_read_forwards(node, &nic->forwards);
}

int domain_live_nics(const char *stored_xml, LiveNics *ret) {
        _cleanup_(domain_live_nics_done) LiveNics nics = {};
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        _cleanup_free_ char *name = NULL;
        xmlNode *domain;
        size_t n = 0;
        int r;

        r = xml_parse(stored_xml, "domain", &doc);
        if (r < 0)
                return r;
        domain = xmlDocGetRootElement(doc);
        r = xml_text(xml_child(domain, "name"), &name);
        if (r < 0)
                return r;

        for (xmlNode *nic = first_managed_nic(domain); nic; nic = managed_nic_from(nic->next))
                n++;
        nics.items = new0(LiveNic, n);
        if (!nics.items && n > 0)
                return -ENOMEM;

        for (xmlNode *nic = first_managed_nic(domain); nic; nic = managed_nic_from(nic->next)) {
                r = read_nic(nic, name, &nics.items[nics.n++]);
                if (r < 0)
                        return r;
        }

        *ret = nics;
        nics = (LiveNics){};
        return 0;
}

void domain_live_nics_done(LiveNics *nics) {
        for (size_t i = 0; i < nics->n; i++) {
                LiveNic *nic = &nics->items[i];

                free(nic->mac);
                free(nic->hostname);
                strv_free(nic->addresses);
                free(nic->interface);
                free(nic->log_file);
                forward_list_done(&nic->forwards);
        }
        free(nics->items);
        *nics = (LiveNics){};
}

/* ---- deriving: the NICs ---- */

static void remove_children(xmlNode *parent, const char *name) {
        xmlNode *node;

        while ((node = xml_child(parent, name))) {
                xmlUnlinkNode(node);
                xmlFreeNode(node);
        }
}

static int add_child(xmlNode *parent, const char *name, xmlNode **ret) {
        xmlNode *node = xmlNewChild(parent, NULL, (const xmlChar *) name, NULL);

        if (!node)
                return -ENOMEM;
        *ret = node;
        return 0;
}

static int add_socket_source(xmlNode *nic, const char *socket) {
        xmlNode *source, *reconnect;
        int r;

        r = add_child(nic, "source", &source);
        if (r < 0)
                return r;
        r = xml_set_attribute(source, "type", "unix");
        if (r < 0)
                return r;
        r = xml_set_attribute(source, "path", socket);
        if (r < 0)
                return r;
        r = xml_set_attribute(source, "mode", "client");
        if (r < 0)
                return r;

        r = add_child(source, "reconnect", &reconnect);
        if (r < 0)
                return r;
        r = xml_set_attribute(reconnect, "enabled", "yes");
        if (r < 0)
                return r;
        return xml_set_attribute(reconnect, "timeout", "1");
}

/* A NIC's MTU is told to the guest by virtio itself, before DHCP. For one thing that is how a
 * stored <mtu> takes effect, which libvirt refuses for a vhost-user NIC. For another, passt ends
 * when one turn of it fills 1024 of the guest's buffers (its assertion in tcp_vu_sock_recv(), passt
 * 2026-07-28), as a bulk transfer into the guest does as long as a buffer is an Ethernet frame of
 * 1500 bytes; with buffers for 64 KiB it does not come to that, and is faster. */
#define QEMU_NAMESPACE "http://libvirt.org/schemas/domain/qemu/1.0"
#define DEFAULT_MTU 65520U /* passt's own default */

/* The alias by which the NIC can be named elsewhere: the user's own, or one of ours. */
static int ensure_alias(xmlNode *nic, const char *mac, char **ret) {
        xmlNode *alias = xml_child(nic, "alias");
        _cleanup_free_ char *name = NULL;
        int r;

        if (alias) {
                _cleanup_xml_string_ xmlChar *own = xml_attribute(alias, "name");

                if (own && startswith((const char *) own, "ua-"))
                        return xml_copy_string(own, ret);
                remove_children(nic, "alias");
        }
        if (asprintf(&name, "ua-uservm-%s", mac) < 0) {
                name = NULL;
                return -ENOMEM;
        }
        for (char *s = name; *s; s++)
                if (*s == ':')
                        *s = '-';
        r = add_child(nic, "alias", &alias);
        if (r < 0)
                return r;
        r = xml_set_attribute(alias, "name", name);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(name);
        return 0;
}

static xmlNode *find_qemu_child(xmlNode *parent, const char *name) {
        for (xmlNode *node = parent->children; node; node = node->next)
                if (node->type == XML_ELEMENT_NODE && node->ns &&
                    streq((const char *) node->ns->href, QEMU_NAMESPACE) &&
                    streq((const char *) node->name, name))
                        return node;
        return NULL;
}

/* Adds an element in the namespace of its parent. */
static int add_qemu_child(xmlNode *parent, const char *name, xmlNode **ret) {
        *ret = xmlNewChild(parent, parent->ns, (const xmlChar *) name, NULL);
        return *ret ? 0 : -ENOMEM;
}

/* <qemu:override>, where libvirt takes properties of QEMU's devices that it does not know. If need
 * be it declares its namespace itself: the domain may have the prefix for something else. */
static int ensure_override(xmlNode *domain, xmlNode **ret) {
        xmlNs *ns;

        *ret = find_qemu_child(domain, "override");
        if (*ret)
                return 0;
        *ret = xmlNewChild(domain, NULL, (const xmlChar *) "override", NULL);
        if (!*ret)
                return -ENOMEM;
        ns = xmlSearchNsByHref(domain->doc, domain, (const xmlChar *) QEMU_NAMESPACE)
                     ?: xmlNewNs(*ret, (const xmlChar *) QEMU_NAMESPACE, (const xmlChar *) "qemu");
        if (!ns)
                return -ENOMEM;
        xmlSetNs(*ret, ns);
        return 0;
}

static int set_property(xmlNode *property, unsigned mtu) {
        char value[16];
        int r;

        snprintf(value, sizeof(value), "%u", mtu);
        r = xml_set_attribute(property, "name", "host_mtu");
        if (r == 0)
                r = xml_set_attribute(property, "type", "unsigned");
        return r < 0 ? r : xml_set_attribute(property, "value", value);
}

/* A user who overrides properties of this NIC already is left alone. */
static int set_host_mtu(xmlNode *domain, const char *alias, unsigned mtu) {
        xmlNode *override, *device, *frontend = NULL, *property = NULL;
        int r;

        r = ensure_override(domain, &override);
        if (r < 0)
                return r;
        for (device = override->children; device; device = device->next)
                if (device->type == XML_ELEMENT_NODE && xml_attribute_is(device, "alias", alias))
                        return 0;
        r = add_qemu_child(override, "device", &device);
        if (r == 0)
                r = xml_set_attribute(device, "alias", alias);
        if (r == 0)
                r = add_qemu_child(device, "frontend", &frontend);
        if (r == 0)
                r = add_qemu_child(frontend, "property", &property);
        return r < 0 ? r : set_property(property, mtu);
}

static int derive_nic(xmlNode *nic, char *(*socket_for)(const char *mac, void *userdata),
                      void *userdata) {
        _cleanup_free_ char *mac = NULL, *socket = NULL, *alias = NULL;
        unsigned mtu;
        int r;

        r = domain_nic_read_mac(nic, &mac);
        if (r < 0)
                return r;
        socket = socket_for(mac, userdata);
        if (!socket)
                return -ENOMEM;

        r = read_mtu(nic, &mtu);
        if (r < 0)
                return r;
        r = ensure_alias(nic, mac, &alias);
        if (r < 0)
                return r;
        r = set_host_mtu(xmlDocGetRootElement(nic->doc), alias, mtu > 0 ? mtu : DEFAULT_MTU);
        if (r < 0)
                return r;

        r = xml_set_attribute(nic, "type", "vhostuser");
        if (r < 0)
                return r;
        remove_children(nic, "source");
        remove_children(nic, "backend");
        remove_children(nic, "portForward");
        remove_children(nic, "ip");
        remove_children(nic, "mtu");
        return add_socket_source(nic, socket);
}

/* ---- deriving: the memory ---- */

static xmlNode *first_cell(xmlNode *domain) {
        return xml_child(xml_child(xml_child(domain, "cpu"), "numa"), "cell");
}

static xmlNode *find_cell(xmlNode *domain, const char *id) {
        xmlNode *cell = first_cell(domain);

        while (cell && !xml_attribute_is(cell, "id", id))
                cell = xml_element_from(cell->next, "cell");
        return cell;
}

/* Whether libvirt would map a memory device shared as it is stored. */
static int is_shared(xmlNode *domain, xmlNode *memory) {
        xmlNode *node = xml_child(xml_child(memory, "target"), "node");
        _cleanup_xml_string_ xmlChar *access = xml_attribute(memory, "access");
        _cleanup_free_ char *id = NULL;
        int r;

        if (!access && node) {
                r = xml_text(node, &id);
                if (r < 0)
                        return r;
                access = xml_attribute(find_cell(domain, id), "memAccess");
        }
        if (!access)
                access = xml_attribute(xml_child(xml_child(domain, "memoryBacking"), "access"),
                                       "mode");
        return access && streq((const char *) access, "shared");
}

/* Changes an access mode that is asked for; without one, that of <memoryBacking> holds. */
static int share_if_set(xmlNode *node, const char *attribute) {
        _cleanup_xml_string_ xmlChar *access = xml_attribute(node, attribute);

        return access ? xml_set_attribute(node, attribute, "shared") : 0;
}

static int share_devices(xmlNode *domain) {
        int r;

        XML_FOREACH_CHILD (memory, xml_child(domain, "devices"), "memory") {
                if (xml_child(xml_child(memory, "source"), "path")) {
                        r = is_shared(domain, memory);
                        if (r < 0)
                                return r;
                        if (r == 0)
                                return -EOPNOTSUPP;
                }
                r = share_if_set(memory, "access");
                if (r < 0)
                        return r;
        }
        return 0;
}

static int share_cells(xmlNode *domain) {
        int r;

        for (xmlNode *cell = first_cell(domain); cell;
             cell = xml_element_from(cell->next, "cell")) {
                r = share_if_set(cell, "memAccess");
                if (r < 0)
                        return r;
        }
        return 0;
}

static int ensure_child(xmlNode *parent, const char *name, xmlNode **ret) {
        xmlNode *child = xml_child(parent, name);

        if (!child)
                return add_child(parent, name, ret);
        *ret = child;
        return 0;
}

static int share_source(xmlNode *backing) {
        _cleanup_xml_string_ xmlChar *type = NULL;
        xmlNode *source;
        int r;

        r = ensure_child(backing, "source", &source);
        if (r < 0)
                return r;
        type = xml_attribute(source, "type");
        if (type && !streq((const char *) type, "anonymous"))
                return 0;
        return xml_set_attribute(source, "type", "memfd");
}

static int share_backing(xmlNode *domain) {
        xmlNode *backing, *access;
        int r;

        r = ensure_child(domain, "memoryBacking", &backing);
        if (r < 0)
                return r;
        r = share_source(backing);
        if (r < 0)
                return r;
        r = ensure_child(backing, "access", &access);
        if (r < 0)
                return r;
        return xml_set_attribute(access, "mode", "shared");
}

/* The devices first: what they inherit is to be read as it is stored. */
static int share_memory(xmlNode *domain) {
        int r;

        r = share_devices(domain);
        if (r < 0)
                return r;
        r = share_cells(domain);
        if (r < 0)
                return r;
        return share_backing(domain);
}

int domain_live_derive(const char *stored_xml, char *(*socket_for)(const char *mac, void *userdata),
                       void *userdata, char **ret_xml) {
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        xmlNode *domain, *nic;
        int r;

        r = xml_parse(stored_xml, "domain", &doc);
        if (r < 0)
                return r;
        domain = xmlDocGetRootElement(doc);

        nic = first_managed_nic(domain);
        if (!nic)
                return -ENODEV;
        r = share_memory(domain);
        if (r < 0)
                return r;
        for (; nic; nic = managed_nic_from(nic->next)) {
                r = derive_nic(nic, socket_for, userdata);
                if (r < 0)
                        return r;
        }
        return xml_print(domain, /* indent= */ false, ret_xml);
}

/* ---- reading a live XML ---- */

/* The socket that a NIC connects to; NULL if it is none that does. */
static int read_socket(xmlNode *nic, char **ret) {
        xmlNode *source = xml_child(nic, "source");

        *ret = NULL;
        if (!xml_attribute_is(nic, "type", "vhostuser") ||
            !xml_attribute_is(source, "mode", "client"))
                return 0;
        return read_optional(source, "path", ret);
}

int domain_live_sockets(const char *live_xml, char ***ret_macs, char ***ret_sockets) {
        _cleanup_(strv_freep) char **macs = NULL, **sockets = NULL;
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        xmlNode *devices;
        size_t n = 0;
        int r;

        r = xml_parse(live_xml, "domain", &doc);
        if (r < 0)
                return r;
        devices = xml_child(xmlDocGetRootElement(doc), "devices");

        XML_FOREACH_CHILD (nic, devices, "interface")
                n++;
        macs = new0(char *, n + 1);
        sockets = new0(char *, n + 1);
        if (!macs || !sockets)
                return -ENOMEM;

        n = 0;
        XML_FOREACH_CHILD (nic, devices, "interface") {
                r = read_socket(nic, &sockets[n]);
                if (r < 0)
                        return r;
                if (!sockets[n])
                        continue;
                r = domain_nic_read_mac(nic, &macs[n]);
                if (r < 0)
                        return r;
                n++;
        }

        *ret_macs = TAKE_PTR(macs);
        *ret_sockets = TAKE_PTR(sockets);
        return 0;
}
