/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Waits for what a VM does: that it reaches a state, that its guest is up, or that a server in
 * there answers. */

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uservm.h>

#include "arguments.h"
#include "guest-probe.h"

/* How a guest port is reached from here. */
typedef union Endpoint {
        struct sockaddr any;
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
} Endpoint;

/* Finds an active TCP forward to a guest port that is not bound to an interface other than lo.
 * Returns false if there is none; then *ret_other is one that is not active, or NULL. */
bool endpoint_find(const uservm_vm *vm, uint16_t guest_port, Endpoint *ret_endpoint,
                   const uservm_forward **ret_other);

/* As text: the address without brackets, and the port. */
#define ENDPOINT_TEXT_MAX INET6_ADDRSTRLEN
uint16_t endpoint_format(const Endpoint *endpoint, char ret_address[static ENDPOINT_TEXT_MAX]);

/* Both wait until a time of CLOCK_MONOTONIC, or for ever if it is UINT64_MAX. vm is a name or a
 * UUID. They return EXIT_OK, or complain. */

/* Until the VM is in the state. */
Exit guest_wait_state(uservm *u, const char *vm, uservm_state state, uint64_t end_usec);

/* Until its guest is ready, as the service tells. Fails if the VM does not run or stops. */
Exit guest_wait_ready(uservm *u, const char *vm, uint64_t end_usec);

/* Until a server on the TCP port of the guest answers. Fails if the VM does not run or stops, and
 * if no forward leads to the port. ret_endpoint may be NULL. */
Exit guest_wait_answer(uservm *u, const char *vm, uint16_t port, ProbeKind kind, uint64_t end_usec,
                       Endpoint *ret_endpoint);
