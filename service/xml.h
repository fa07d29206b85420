/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The part of libxml2 that the domain modules need, in this project's manner: text in and out,
 * negative errno, cleanup by attribute. Element and attribute names are those without a namespace,
 * as libvirt's are. */

#include <libxml/tree.h>
#include <stdbool.h>
#include <stdint.h>

#include "util.h"

static inline void xml_doc_free(xmlDoc *doc) {
        xmlFreeDoc(doc);
}
DEFINE_CLEANUP(xmlDoc *, xml_doc_free);

static inline void xml_node_free(xmlNode *node) {
        xmlFreeNode(node);
}
DEFINE_CLEANUP(xmlNode *, xml_node_free);

static inline void xml_string_free(xmlChar *s) {
        xmlFree(s);
}
DEFINE_CLEANUP(xmlChar *, xml_string_free);

#define _cleanup_xml_doc_ _cleanup_(xml_doc_freep)
#define _cleanup_xml_node_ _cleanup_(xml_node_freep)
#define _cleanup_xml_string_ _cleanup_(xml_string_freep)

/* Parses a document whose root element has this name. Nothing is fetched or expanded: a document
 * with a DTD is refused, and so is one of more than 16 MiB. Returns 0; -EBADMSG; -ENOMEM. */
int xml_parse(const char *xml, const char *root, xmlDoc **ret);

/* The text of an element and all in it, in UTF-8, without an XML declaration, as it was laid out or
 * (indent) laid out anew where it has no layout. Returns 0 or -ENOMEM. */
int xml_print(xmlNode *node, bool indent, char **ret);

/* The node itself if it is an element of this name (NULL: any), else the next sibling that is. */
xmlNode *xml_element_from(xmlNode *node, const char *name);

/* The first child element of this name; NULL if there is none or parent is NULL. */
xmlNode *xml_child(xmlNode *parent, const char *name);

#define XML_FOREACH_CHILD(node, parent, name)                                                      \
        for (xmlNode *node = xml_child(parent, name); node;                                        \
             node = xml_element_from((node)->next, name))

/* An attribute's value, to be freed with _cleanup_xml_string_, or NULL. */
xmlChar *xml_attribute(xmlNode *node, const char *name);
bool xml_attribute_is(xmlNode *node, const char *name, const char *value);

int xml_set_attribute(xmlNode *node, const char *name, const char *value); /* 0 or -ENOMEM */

/* A copy of an element's text, or of a string of libxml2, in malloc(3)'s memory.
 * Returns 0; -EBADMSG if there is none; -ENOMEM. */
int xml_text(xmlNode *node, char **ret);
int xml_copy_string(const xmlChar *s, char **ret);

/* Reads a decimal number of at most max, white space around it allowed. Returns 0 or -EBADMSG. */
int xml_parse_number(const char *s, uint64_t max, uint64_t *ret);
