/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How libvirt writes forwards down: a <portForward> is a rule with one protocol, address and host
 * interface, and any number of <range> elements, some of which are exclusions. uservm's forwards
 * are flat, so a rule is read as one forward a range, and each carries the exclusions that touch
 * it. A rule that forwards by no range forwards every port but its exclusions.
 *
 * An addition is a rule of its own; rules that other tools wrote are never merged, split or
 * reordered, and only a removal that names one of their ranges touches them. New elements take the
 * indentation of the sibling they are put after. Where exactly they stand does not matter to
 * libvirt: the content of <interface> is unordered, and libvirt prints it in its own order.
 *
 * Not done here: whether a port is free or the forwards conflict. Only the same host side twice is
 * refused, because a removal could not tell the two apart. */

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#include "domain-forward.h"
#include "domain-xml.h"
#include "utf8.h"
#include "xml.h"

/* A port in an attribute; missing: fallback. */
static int attribute_port(xmlNode *node, const char *name, uint16_t fallback, uint16_t *ret) {
        _cleanup_xml_string_ xmlChar *s = xml_attribute(node, name);
        uint64_t n = fallback;
        int r;

        if (s) {
                r = xml_parse_number((const char *) s, UINT16_MAX, &n);
                if (r < 0)
                        return r;
        }
        if (n == 0)
                return -EBADMSG;

        *ret = (uint16_t) n;
        return 0;
}

int domain_nic_read_mac(xmlNode *nic, char **ret) {
        _cleanup_xml_string_ xmlChar *mac = xml_attribute(xml_child(nic, "mac"), "address");
        int r;

        r = xml_copy_string(mac, ret);
        if (r < 0)
                return r;
        for (char *c = *ret; *c; c++)
                *c = (char) tolower((unsigned char) *c);
        return 0;
}

bool domain_nic_is_passt(xmlNode *nic) {
        return xml_attribute_is(xml_child(nic, "backend"), "type", "passt");
}

bool domain_nic_is_user(xmlNode *nic) {
        return xml_attribute_is(nic, "type", "user") ||
               (xml_attribute_is(nic, "type", "vhostuser") && domain_nic_is_passt(nic));
}

static bool is_exclusion(xmlNode *range) {
        return xml_attribute_is(range, "exclude", "yes");
}

static xmlNode *forwarding_range_from(xmlNode *range) {
        range = xml_element_from(range, "range");
        while (range && is_exclusion(range))
                range = xml_element_from(range->next, "range");
        return range;
}

static int read_protocol(xmlNode *rule, Forward *f) {
        if (xml_attribute_is(rule, "proto", "tcp"))
                f->protocol = FORWARD_TCP;
        else if (xml_attribute_is(rule, "proto", "udp"))
                f->protocol = FORWARD_UDP;
        else
                return -EBADMSG;
        return 0;
}

/* libvirt takes and hands on a zone behind the address, and passt reads that as the interface. */
static int read_address(xmlNode *rule, Forward *f) {
        _cleanup_xml_string_ xmlChar *address = xml_attribute(rule, "address");
        _cleanup_xml_string_ xmlChar *dev = xml_attribute(rule, "dev");
        char *zone = address ? strchr((char *) address, '%') : NULL;
        const char *interface = (const char *) dev;

        if (zone) {
                *zone++ = '\0';
                if (!interface)
                        interface = zone;
        }
        if (interface) {
                if (strlen(interface) >= sizeof(f->interface))
                        return -EBADMSG;
                strcpy(f->interface, interface);
                utf8_make_valid(f->interface);
        }
        return forward_set_address(f, (const char *) address) < 0 ? -EBADMSG : 0;
}

static int read_range(xmlNode *range, PortRange *ret) {
        int r;

        r = attribute_port(range, "start", 0, &ret->start);
        if (r < 0)
                return r;
        r = attribute_port(range, "end", ret->start, &ret->end);
        if (r < 0)
                return r;
        return ret->end < ret->start ? -EBADMSG : 0;
}

static int read_ports(xmlNode *range, Forward *f) {
        unsigned last;
        int r;

        if (!range) {
                f->host = f->guest = (PortRange){ 1, UINT16_MAX };
                return 0;
        }

        r = read_range(range, &f->host);
        if (r < 0)
                return r;
        r = attribute_port(range, "to", f->host.start, &f->guest.start);
        if (r < 0)
                return r;

        last = (unsigned) f->guest.start + f->host.end - f->host.start;
        if (last > UINT16_MAX)
                return -EBADMSG;
        f->guest.end = (uint16_t) last;
        return 0;
}

/* Collects the rule's exclusions, cut down to f->host. */
static int read_exclusions(xmlNode *rule, Forward *f) {
        XML_FOREACH_CHILD (range, rule, "range") {
                PortRange x, *exclude;

                if (!is_exclusion(range) || read_range(range, &x) < 0 || x.end < f->host.start ||
                    x.start > f->host.end)
                        continue;
                if (x.start < f->host.start)
                        x.start = f->host.start;
                if (x.end > f->host.end)
                        x.end = f->host.end;

                exclude = reallocarray(f->exclude, f->n_exclude + 1, sizeof(*exclude));
                if (!exclude)
                        return -ENOMEM;
                f->exclude = exclude;
                f->exclude[f->n_exclude++] = x;
        }
        return 0;
}

/* Reads what one <range> of a <portForward> does; range NULL: the rule has none, it is for all
 * ports. Returns 0; -EBADMSG: beyond this module; -ENOMEM. */
static int read_forward(xmlNode *rule, xmlNode *range, Forward *ret) {
        _cleanup_forward_ Forward f = { .persistent = true, .state = FORWARD_INACTIVE };
        int r;

        r = read_protocol(rule, &f);
        if (r < 0)
                return r;
        r = read_address(rule, &f);
        if (r < 0)
                return r;
        r = read_ports(range, &f);
        if (r < 0)
                return r;
        r = read_exclusions(rule, &f);
        if (r < 0)
                return r;

        *ret = f;
        f = (Forward){};
        return 0;
}

static int read_rule(xmlNode *rule, ForwardList *list) {
        xmlNode *range = forwarding_range_from(rule->children);
        int r;

        do {
                _cleanup_forward_ Forward f = {};

                r = read_forward(rule, range, &f);
                if (r >= 0)
                        r = forward_list_append(list, &f);
                if (r < 0 && r != -EBADMSG)
                        return r;
                if (range)
                        range = forwarding_range_from(range->next);
        } while (range);
        return 0;
}

int domain_nic_read_forwards(xmlNode *nic, ForwardList *list) {
        int r;

        XML_FOREACH_CHILD (rule, nic, "portForward") {
                r = read_rule(rule, list);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Puts node behind an element, on a line of its own if the element stands on one. Takes node over
 * in any case. */
static int insert_after(xmlNode *element, xmlNode *node) {
        xmlNode *space = element->prev;

        xmlAddNextSibling(element, node);
        if (space && xmlIsBlankNode(space)) {
                space = xmlCopyNode(space, 0);
                if (!space)
                        return -ENOMEM;
                xmlAddNextSibling(element, space);
        }
        return 0;
}

static int append_text(xmlNode *parent, const char *text) {
        xmlNode *node = xmlNewDocText(parent->doc, (const xmlChar *) text);

        if (!node)
                return -ENOMEM;
        xmlAddChild(parent, node);
        return 0;
}

static int set_port(xmlNode *node, const char *name, uint16_t port) {
        char text[sizeof("65535")];

        snprintf(text, sizeof(text), "%u", port);
        return xml_set_attribute(node, name, text);
}

/* Appends a <range> in libvirt's shortest form; to 0: an exclusion. */
static int append_range(xmlNode *rule, const char *indent, PortRange host, uint16_t to) {
        xmlNode *range;
        int r = 0;

        if (indent) {
                r = append_text(rule, indent);
                if (r >= 0)
                        r = append_text(rule, "  ");
                if (r < 0)
                        return r;
        }

        range = xmlNewChild(rule, NULL, (const xmlChar *) "range", NULL);
        if (!range)
                return -ENOMEM;
        r = set_port(range, "start", host.start);
        if (r >= 0 && host.end != host.start)
                r = set_port(range, "end", host.end);
        if (r >= 0 && to == 0)
                r = xml_set_attribute(range, "exclude", "yes");
        else if (r >= 0 && to != host.start)
                r = set_port(range, "to", to);
        return r;
}

static int set_rule_attributes(xmlNode *rule, const Forward *f) {
        char address[INET6_ADDRSTRLEN];
        int r;

        r = xml_set_attribute(rule, "proto", forward_protocol_to_string(f->protocol));
        if (r >= 0 && f->family != AF_UNSPEC)
                r = xml_set_attribute(rule, "address",
                                      forward_address_to_string(f, address, sizeof(address)));
        if (r >= 0 && *f->interface)
                r = xml_set_attribute(rule, "dev", f->interface);
        return r;
}

/* Makes the <portForward> of a forward. indent: the white space in front of it, or NULL. */
static int new_rule(xmlDoc *doc, const Forward *f, const char *indent, xmlNode **ret) {
        _cleanup_xml_node_ xmlNode *rule = NULL;
        bool all = f->host.start == 1 && f->host.end == UINT16_MAX && f->guest.start == 1;
        int r;

        rule = xmlNewDocNode(doc, NULL, (const xmlChar *) "portForward", NULL);
        if (!rule)
                return -ENOMEM;
        r = set_rule_attributes(rule, f);
        if (r < 0)
                return r;

        if (!all) {
                r = append_range(rule, indent, f->host, f->guest.start);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < f->n_exclude; i++) {
                r = append_range(rule, indent, f->exclude[i], 0);
                if (r < 0)
                        return r;
        }
        if (indent && rule->children) {
                r = append_text(rule, indent);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(rule);
        return 0;
}

/* Finds the NIC that gets a new forward, unless one of the domain's has this host side already. */
static int choose_nic(xmlNode *domain, const Forward *f, xmlNode **ret) {
        xmlNode *first_user = NULL, *first_passt = NULL;
        int r;

        XML_FOREACH_CHILD (nic, xml_child(domain, "devices"), "interface") {
                _cleanup_forward_list_ ForwardList list = {};

                if (!domain_nic_is_user(nic))
                        continue;
                r = domain_nic_read_forwards(nic, &list);
                if (r < 0)
                        return r;
                if (forward_list_find_host_side(&list, f))
                        return -EEXIST;
                if (!first_user)
                        first_user = nic;
                if (!first_passt && domain_nic_is_passt(nic))
                        first_passt = nic;
        }

        if (!first_user)
                return -ENODEV;
        *ret = first_passt ? first_passt : first_user;
        return 0;
}

static xmlNode *last_child(xmlNode *parent, const char *name) {
        xmlNode *last = NULL;

        XML_FOREACH_CHILD (node, parent, name)
                last = node;
        return last;
}

static int ensure_passt(xmlNode *nic) {
        xmlNode *backend = xml_child(nic, "backend"), *last = last_child(nic, NULL);
        int r;

        if (!backend) {
                backend = xmlNewDocNode(nic->doc, NULL, (const xmlChar *) "backend", NULL);
                if (!backend)
                        return -ENOMEM;
                if (!last)
                        xmlAddChild(nic, backend);
                else {
                        r = insert_after(last, backend);
                        if (r < 0)
                                return r;
                }
        }
        return xml_set_attribute(backend, "type", "passt");
}

static int add_rule(xmlNode *nic, const Forward *f) {
        _cleanup_xml_string_ xmlChar *indent = NULL;
        xmlNode *rule = NULL, *after;
        int r;

        after = last_child(nic, "portForward");
        if (!after)
                after = xml_child(nic, "backend");
        if (after->prev && xmlIsBlankNode(after->prev)) {
                indent = xmlNodeGetContent(after->prev);
                if (!indent)
                        return -ENOMEM;
        }

        r = new_rule(nic->doc, f, (const char *) indent, &rule);
        if (r < 0)
                return r;
        return insert_after(after, rule);
}

int domain_xml_add_forward(const char *xml, const Forward *f, char **ret_xml) {
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        xmlNode *nic;
        int r;

        if (f->host.start == 0)
                return -EINVAL;

        r = xml_parse(xml, "domain", &doc);
        if (r < 0)
                return r;
        r = choose_nic(xmlDocGetRootElement(doc), f, &nic);
        if (r < 0)
                return r;
        r = ensure_passt(nic);
        if (r < 0)
                return r;
        r = add_rule(nic, f);
        if (r < 0)
                return r;
        return xml_print(xmlDocGetRootElement(doc), /* indent= */ false, ret_xml);
}

/* What a removal has found so far. */
typedef struct Match {
        xmlNode *rule;
        xmlNode *range; /* NULL: the whole rule */
        bool exact;     /* the interface is the same, too */
        size_t n_other; /* how many match but for the interface */
} Match;

static void match_forward(Match *m, const Forward *wanted, const Forward *f, xmlNode *rule,
                          xmlNode *range) {
        Forward other = *wanted;

        if (m->exact)
                return;

        m->exact = forward_same_host_side(wanted, f);
        if (!m->exact) {
                memcpy(other.interface, f->interface, sizeof(other.interface));
                if (*wanted->interface || !forward_same_host_side(&other, f))
                        return;
                m->n_other++;
        }
        m->rule = rule;
        m->range = range;
}

static int match_rule(Match *m, const Forward *wanted, xmlNode *rule) {
        xmlNode *range = forwarding_range_from(rule->children);
        int r;

        do {
                _cleanup_forward_ Forward f = {};

                r = read_forward(rule, range, &f);
                if (r >= 0)
                        match_forward(m, wanted, &f, rule, range);
                else if (r != -EBADMSG)
                        return r;
                if (range)
                        range = forwarding_range_from(range->next);
        } while (range);
        return 0;
}

static int match_domain(xmlNode *domain, const Forward *wanted, Match *m) {
        int r;

        XML_FOREACH_CHILD (nic, xml_child(domain, "devices"), "interface") {
                if (!domain_nic_is_user(nic))
                        continue;
                XML_FOREACH_CHILD (rule, nic, "portForward") {
                        r = match_rule(m, wanted, rule);
                        if (r < 0)
                                return r;
                }
        }

        if (!m->rule)
                return -ENOENT;
        return !m->exact && m->n_other > 1 ? -ENOTUNIQ : 0;
}

/* Takes an element out, together with its line. */
static void remove_element(xmlNode *element) {
        xmlNode *space = element->prev;

        if (space && xmlIsBlankNode(space)) {
                xmlUnlinkNode(space);
                xmlFreeNode(space);
        }
        xmlUnlinkNode(element);
        xmlFreeNode(element);
}

int domain_xml_remove_forward(const char *xml, const Forward *f, char **ret_xml) {
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        Match m = {};
        int r;

        r = xml_parse(xml, "domain", &doc);
        if (r < 0)
                return r;
        r = match_domain(xmlDocGetRootElement(doc), f, &m);
        if (r < 0)
                return r;

        if (m.range)
                remove_element(m.range);
        if (!forwarding_range_from(m.rule->children))
                remove_element(m.rule);
        return xml_print(xmlDocGetRootElement(doc), /* indent= */ false, ret_xml);
}
