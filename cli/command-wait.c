/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* uservm wait: first for the state, then until it is ready, then for the port, within one time
 * limit.
 */

#include "commands.h"
#include "guest.h"
#include "output.h"
#include "session.h"

#define TIMEOUT_MAX_SEC (365UL * 24 * 60 * 60)

const Option options_wait[] = {
        { "port", 'p', "PORT", "until a server on this TCP port of the guest answers" },
        { "ready", 'r', NULL, "until the guest is up" },
        { "state", 's', "STATE", "until the VM is running, shutoff, paused, ..." },
        { "timeout", 't', "SECONDS", "give up after this time (default: never)" },
        {},
};

static Exit parse_state(const Arguments *arguments, uservm_state *ret_state) {
        const char *text = option_value(arguments, "state");

        if (!text)
                return EXIT_OK;
        for (uservm_state s = USERVM_STATE_SHUTOFF; s <= USERVM_STATE_CRASHED; s++)
                if (streq(text, uservm_state_to_string(s))) {
                        *ret_state = s;
                        return EXIT_OK;
                }
        return usage_error(arguments->command,
                           "--state takes shutoff, starting, running, paused, saved, stopping or "
                           "crashed, not '%s'",
                           text);
}

int command_wait(const Arguments *arguments) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        uservm_state state = USERVM_STATE_UNKNOWN;
        bool ready = option_given(arguments, "ready");
        uint64_t port = 0, timeout = 0, end = UINT64_MAX;
        Exit e;

        e = option_number(arguments, "port", 1, UINT16_MAX, &port);
        if (e == EXIT_OK)
                e = option_number(arguments, "timeout", 1, TIMEOUT_MAX_SEC, &timeout);
        if (e == EXIT_OK)
                e = parse_state(arguments, &state);
        if (e == EXIT_OK && port == 0 && state == USERVM_STATE_UNKNOWN && !ready)
                e = usage_error(arguments->command,
                                "wait for what? Give it --ready, --port or --state");
        if (e == EXIT_OK)
                e = session_open(&u);
        if (e != EXIT_OK)
                return e;

        if (timeout > 0)
                end = now_usec() + timeout * USEC_PER_SEC;
        if (state != USERVM_STATE_UNKNOWN)
                e = guest_wait_state(u, arguments->words[0], state, end);
        if (e == EXIT_OK && ready)
                e = guest_wait_ready(u, arguments->words[0], end);
        if (e == EXIT_OK && port > 0)
                e = guest_wait_answer(u, arguments->words[0], (uint16_t) port, PROBE_ANY, end,
                                      NULL);
        return e;
}
