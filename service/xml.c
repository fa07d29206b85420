/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The domain XML comes from libvirt, but through files that people edit, so it is parsed as input
 * of a stranger: no network, no DTD, and with that no entities beyond XML's own five.
 *
 * Not done here: validation. libvirt does it, with better words. */

#include <ctype.h>
#include <errno.h>
#include <libxml/parser.h>

#include "xml.h"

/* Far more than libvirt's own messages may hold (4 MiB a string), far less than hurts. */
#define XML_SIZE_MAX (16UL << 20)

static inline void xml_ctxt_free(xmlParserCtxt *ctxt) {
        xmlFreeParserCtxt(ctxt);
}
DEFINE_CLEANUP(xmlParserCtxt *, xml_ctxt_free);

static inline void xml_buffer_free(xmlBuffer *buffer) {
        xmlBufferFree(buffer);
}
DEFINE_CLEANUP(xmlBuffer *, xml_buffer_free);

int xml_parse(const char *xml, const char *root, xmlDoc **ret) {
        const int options = XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING;
        _cleanup_(xml_ctxt_freep) xmlParserCtxt *ctxt = NULL;
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        size_t size = strnlen(xml, XML_SIZE_MAX + 1);
        xmlNode *node;

        if (size > XML_SIZE_MAX)
                return -EBADMSG;

        ctxt = xmlNewParserCtxt();
        if (!ctxt)
                return -ENOMEM;
        doc = xmlCtxtReadMemory(ctxt, xml, (int) size, NULL, NULL, options);
        if (!doc)
                return ctxt->errNo == XML_ERR_NO_MEMORY ? -ENOMEM : -EBADMSG;

        node = xmlDocGetRootElement(doc);
        if (doc->intSubset || !node || node->ns || !streq((const char *) node->name, root))
                return -EBADMSG;

        *ret = TAKE_PTR(doc);
        return 0;
}

int xml_print(xmlNode *node, bool indent, char **ret) {
        _cleanup_(xml_buffer_freep) xmlBuffer *buffer = xmlBufferCreate();
        char *text;

        /* Without an encoding libxml2 would write every non-ASCII character as a reference. The
         * tree is UTF-8 in any case, and so is what comes out here. */
        if (!node->doc->encoding)
                node->doc->encoding = xmlStrdup((const xmlChar *) "UTF-8");

        if (!buffer || xmlNodeDump(buffer, node->doc, node, 0, indent) < 0)
                return -ENOMEM;
        text = strdup((const char *) xmlBufferContent(buffer));
        if (!text)
                return -ENOMEM;

        *ret = text;
        return 0;
}

static bool is_element(const xmlNode *node, const char *name) {
        return node->type == XML_ELEMENT_NODE && !node->ns &&
               (!name || streq((const char *) node->name, name));
}

xmlNode *xml_element_from(xmlNode *node, const char *name) {
        while (node && !is_element(node, name))
                node = node->next;
        return node;
}

xmlNode *xml_child(xmlNode *parent, const char *name) {
        return parent ? xml_element_from(parent->children, name) : NULL;
}

xmlChar *xml_attribute(xmlNode *node, const char *name) {
        return node ? xmlGetNoNsProp(node, (const xmlChar *) name) : NULL;
}

bool xml_attribute_is(xmlNode *node, const char *name, const char *value) {
        _cleanup_xml_string_ xmlChar *v = xml_attribute(node, name);

        return v && streq((const char *) v, value);
}

int xml_set_attribute(xmlNode *node, const char *name, const char *value) {
        if (!xmlSetProp(node, (const xmlChar *) name, (const xmlChar *) value))
                return -ENOMEM;
        return 0;
}

int xml_copy_string(const xmlChar *s, char **ret) {
        char *copy;

        if (!s)
                return -EBADMSG;
        copy = strdup((const char *) s);
        if (!copy)
                return -ENOMEM;
        *ret = copy;
        return 0;
}

int xml_text(xmlNode *node, char **ret) {
        _cleanup_xml_string_ xmlChar *text = node ? xmlNodeGetContent(node) : NULL;

        return xml_copy_string(text, ret);
}

int xml_parse_number(const char *s, uint64_t max, uint64_t *ret) {
        unsigned long long n;
        char *end;

        s += strspn(s, " \t\r\n");
        if (!isdigit((unsigned char) *s))
                return -EBADMSG;
        errno = 0;
        n = strtoull(s, &end, 10);
        if (errno || end[strspn(end, " \t\r\n")] || n > max)
                return -EBADMSG;

        *ret = n;
        return 0;
}
