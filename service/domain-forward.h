/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The <portForward> elements of a domain's user-mode NICs, as nodes of libxml2's tree. The edits
 * built on them are domain_xml_add_forward() and domain_xml_remove_forward() in domain-xml.h. */

#include <libxml/tree.h>
#include <stdbool.h>

#include "forward.h"

/* Whether an <interface> is listed as a DomainNic, and whether passt is behind it. */
bool domain_nic_is_user(xmlNode *nic);
bool domain_nic_is_passt(xmlNode *nic);

/* Its MAC, in lower case. Returns 0; -EBADMSG if it has none; -ENOMEM. */
int domain_nic_read_mac(xmlNode *nic, char **ret);

/* Appends the forwards of all <portForward> of an <interface>, as DomainNic.forwards describes.
 * Returns 0 or -ENOMEM. */
int domain_nic_read_forwards(xmlNode *nic, ForwardList *list);
