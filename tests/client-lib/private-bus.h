/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A bus of a test's own, in a folder of its own, on which uservmd is started when somebody calls
 * it, with libvirt's test driver. That keeps its domains in the process: each uservmd begins with
 * "db" and "web", shut off. $USERVMD is the program. */

#include <stdbool.h>
#include <sys/types.h>

typedef struct PrivateBus {
        char folder[64];
        char address[256];
        pid_t pid;
} PrivateBus;

#define WEB_UUID "00000000-0000-4000-8000-000000000001"
#define DB_UUID "00000000-0000-4000-8000-000000000002"

/* Both end the program if they cannot do it. With service false nothing can be started. */
void private_bus_start(PrivateBus *bus, bool service);
void private_bus_stop(PrivateBus *bus);

/* The PID of uservmd, which has to run. */
pid_t private_bus_service(const PrivateBus *bus);

/* Ends uservmd and waits until its name on the bus is free. */
void private_bus_kill_service(const PrivateBus *bus);
