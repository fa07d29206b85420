/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Takes a NIC out of a running VM and puts it in again, with the port forwards of the stored
 * definition: the only way to change those of libvirt's own passt. Every connection of the guest is
 * lost. */

#include <libvirt/libvirt.h>
#include <systemd/sd-bus.h>

#include "connection.h"

/* The NIC with this MAC; it keeps MAC, place and everything else of the live definition. Blocks for
 * as long as the guest takes, at most some 15 seconds: on a worker only. Busy when the guest does
 * not let go of the NIC; on every failure the VM has the NIC that it had, if at all possible. */
int nic_plug_again(Connection *connection, virDomainPtr domain, const char *mac,
                   const char *stored_xml, sd_bus_error *error);
