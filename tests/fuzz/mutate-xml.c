/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Has libFuzzer change XML as a tree. Changes of single bytes are nearly always refused by the
 * parser, and then nothing of ours has been tried. What comes before the first '<' is changed as
 * bytes, and so is, now and then, all of it. */

#include <libxml/parser.h>

#include "fuzz.h"
#include "xml.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

#define NODES_MAX 1000
#define VALUE_MAX 256

/* What means something to the service, and values at the edge of that. */
static const char *const names[] = {
        "access",   "address",   "alias",         "arch",    "backend",     "cell",
        "cpu",      "current",   "dev",           "devices", "domain",      "driver",
        "end",      "exclude",   "guest",         "host",    "id",          "iommu",
        "ip",       "interface", "logFile",       "mac",     "machine",     "memAccess",
        "memory",   "mode",      "model",         "mtu",     "name",        "node",
        "numa",     "os_type",   "path",          "prefix",  "portForward", "proto",
        "range",    "reconnect", "size",          "source",  "start",       "storage",
        "target",   "to",        "type",          "unit",    "uuid",        "vcpu",
        "metadata", "vm",        "memoryBacking",
};
static const char *const values[] = {
        "user",
        "vhostuser",
        "passt",
        "virtio",
        "on",
        "tcp",
        "udp",
        "yes",
        "client",
        "KiB",
        "b",
        "e",
        "shared",
        "private",
        "anonymous",
        "memfd",
        "ua-net0",
        "hvm",
        "kvm",
        "q35",
        "x86_64",
        "::1",
        "::",
        "*",
        "0.0.0.0",
        "127.0.0.1",
        "lo",
        "fe80::1%lo",
        "0",
        "1",
        "80",
        " 80 ",
        "8080",
        "65535",
        "65536",
        "-1",
        "4294967296",
        "",
        "&",
        "<",
        "\xc3\xa9",
        "\n",
        "52:54:00:00:00:01",
        "urn:org.uservm1",
        "18446744073709551615",
};

typedef struct Random {
        unsigned state;
} Random;

/* POSIX's own example of a generator is good enough to choose between some dozens. */
static size_t choose(Random *random, size_t n) {
        random->state = random->state * 1103515245U + 12345U;
        return n > 0 ? (random->state >> 16) % n : 0;
}

static const xmlChar *choose_name(Random *random) {
        return (const xmlChar *) names[choose(random, ELEMENTSOF(names))];
}

static size_t collect(xmlNode *node, xmlNode **nodes, size_t n) {
        for (; node; node = node->next) {
                if (node->type != XML_ELEMENT_NODE || n == NODES_MAX)
                        continue;
                nodes[n++] = node;
                n = collect(node->children, nodes, n);
        }
        return n;
}

/* A word, or a value changed by libFuzzer as bytes, less those that are of no use in XML. */
static void new_value(Random *random, const char *old, char value[static VALUE_MAX]) {
        size_t n = old ? strnlen(old, VALUE_MAX - 1) : 0;

        if (n == 0 || choose(random, 2) == 0) {
                strcpy(value, values[choose(random, ELEMENTSOF(values))]);
                return;
        }
        memcpy(value, old, n);
        n = LLVMFuzzerMutate((uint8_t *) value, n, VALUE_MAX - 1);
        value[n] = '\0';
        for (char *s = value; *s; s++)
                if ((unsigned char) *s < ' ' || (unsigned char) *s > '~')
                        *s = '~';
}

static xmlAttr *choose_attribute(Random *random, xmlNode *node) {
        size_t n = 0;
        xmlAttr *a;

        for (a = node->properties; a; a = a->next)
                n++;
        n = choose(random, n);
        for (a = node->properties; a && n > 0; a = a->next)
                n--;
        return a;
}

static void change_attribute(Random *random, xmlNode *node) {
        xmlAttr *a = choose_attribute(random, node);
        _cleanup_xml_string_ xmlChar *old = NULL;
        char value[VALUE_MAX];

        if (!a || choose(random, 8) == 0) {
                new_value(random, NULL, value);
                xmlSetProp(node, choose_name(random), (const xmlChar *) value);
                return;
        }
        if (choose(random, 6) == 0) {
                xmlRemoveProp(a);
                return;
        }
        old = xmlNodeListGetString(node->doc, a->children, 1);
        new_value(random, (const char *) old, value);
        xmlSetNsProp(node, a->ns, a->name, (const xmlChar *) value);
}

static void change_text(Random *random, xmlNode *node) {
        _cleanup_xml_string_ xmlChar *old = NULL;
        char value[VALUE_MAX];

        if (node->children && (node->children->type != XML_TEXT_NODE || node->children->next)) {
                change_attribute(random, node);
                return;
        }
        old = xmlNodeGetContent(node);
        new_value(random, (const char *) old, value);
        xmlNodeSetContent(node, NULL);
        xmlNodeAddContent(node, (const xmlChar *) value);
}

/* Puts a copy of a node into another one or behind it: a copy brings the namespaces along that it
 * needs. */
static void place_copy(Random *random, xmlNode *node, xmlNode *where) {
        xmlNode *copy = xmlDocCopyNode(node, where->doc, 1);

        if (!copy)
                return;
        if (where == xmlDocGetRootElement(where->doc) || choose(random, 2) == 0)
                xmlAddChild(where, copy);
        else
                xmlAddNextSibling(where, copy);
}

static void remove_node(xmlNode *node) {
        if (node == xmlDocGetRootElement(node->doc))
                return;
        xmlUnlinkNode(node);
        xmlFreeNode(node);
}

static void change_tree(Random *random, xmlDoc *doc) {
        xmlNode *nodes[NODES_MAX], *node, *other;
        size_t n = collect(xmlDocGetRootElement(doc), nodes, 0);

        node = nodes[choose(random, n)];
        other = nodes[choose(random, n)];
        switch (choose(random, 12)) {
        case 0:
                place_copy(random, node, node);
                break;
        case 1:
                place_copy(random, node, other);
                break;
        case 2:
                place_copy(random, node, other);
                remove_node(node);
                break;
        case 3:
                remove_node(node);
                break;
        case 4:
                xmlNewChild(node, NULL, choose_name(random), NULL);
                break;
        case 5:
                xmlNodeAddContent(node, (const xmlChar *) "\n  ");
                break;
        case 6:
        case 7:
                change_text(random, node);
                break;
        default:
                change_attribute(random, node);
        }
}

static size_t mutate_prefix(uint8_t *data, size_t prefix, size_t size, size_t max_size) {
        uint8_t line[VALUE_MAX];
        size_t n = prefix > 0 ? prefix - 1 : 0; /* less the newline */

        if (n >= sizeof(line))
                return LLVMFuzzerMutate(data, size, max_size);
        memcpy(line, data, n);
        n = LLVMFuzzerMutate(line, n, sizeof(line) - 1);
        for (size_t i = 0; i < n; i++)
                if (line[i] == '<' || line[i] == '\n')
                        line[i] = ':';
        line[n++] = '\n';
        if (n + size - prefix > max_size)
                return size;
        memmove(data + n, data + prefix, size - prefix);
        memcpy(data, line, n);
        return n + size - prefix;
}

/* Returns the new size, 0 if the XML cannot be changed as a tree. */
static size_t mutate_xml(Random *random, uint8_t *data, size_t prefix, size_t size,
                         size_t max_size) {
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        _cleanup_free_ char *text = NULL;
        size_t n;

        doc = xmlReadMemory((const char *) data + prefix, (int) (size - prefix), NULL, NULL,
                            XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
        if (!doc)
                return 0;

        for (size_t i = choose(random, 3) + 1; i > 0; i--)
                change_tree(random, doc);
        if (xml_print(xmlDocGetRootElement(doc), /* indent= */ false, &text) < 0)
                return 0;
        n = strlen(text);
        if (prefix + n > max_size)
                return 0;
        memcpy(data + prefix, text, n);
        return prefix + n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
        const uint8_t *start = size > 0 ? memchr(data, '<', size) : NULL;
        Random random = { seed };
        size_t prefix, n;

        if (!start || choose(&random, 16) == 0)
                return LLVMFuzzerMutate(data, size, max_size);
        prefix = (size_t) (start - data);
        if (prefix > 0 && choose(&random, 6) == 0)
                return mutate_prefix(data, prefix, size, max_size);
        n = mutate_xml(&random, data, prefix, size, max_size);
        return n > 0 ? n : LLVMFuzzerMutate(data, size, max_size);
}
