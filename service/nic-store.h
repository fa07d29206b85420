/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Stores a change of one NIC of a domain. */

#include <libvirt/libvirt.h>
#include <systemd/sd-bus.h>

#include "connection.h"

/* from_xml is the stored definition as it was read, to_xml the same with one NIC changed. Only that
 * NIC is stored: what another tool has changed in between stays, and a domain that it has undefined
 * stays away. Blocks: on a worker only. NoSuchVM, or what libvirt says. */
int nic_store(Connection *connection, virDomainPtr domain, const char *from_xml, const char *to_xml,
              sd_bus_error *error);
