/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the tests of libuservm share: letting things happen, and errors. */

#include "private-bus.h"
#include "unit/test.h"
#include "uservm.h"
#include "util.h"

#define _cleanup_bus_ _cleanup_(private_bus_stop)

/* Runs what is to be done until the condition is true, for 20 seconds at most. */
#define PUMP(u, condition)                                                                         \
        ({                                                                                         \
                for (int _i = 0; _i < 400 && !(condition); _i++) {                                 \
                        int _r;                                                                    \
                        while ((_r = uservm_process(u)) > 0 && !(condition))                       \
                                ;                                                                  \
                        if (_r < 0 || (condition))                                                 \
                                break;                                                             \
                        (void) uservm_wait(u, 50 * 1000);                                          \
                }                                                                                  \
                (condition);                                                                       \
        })

#define CHECK_FAILS(expression, error, error_name)                                                 \
        do {                                                                                       \
                CHECK_INT(expression, -(error));                                                   \
                CHECK_STR(uservm_error_name(u), error_name);                                       \
                CHECK(!isempty(uservm_error_message(u)));                                          \
        } while (0)

#define INVALID_ARGS "org.freedesktop.DBus.Error.InvalidArgs"
#define NO_REPLY "org.freedesktop.DBus.Error.NoReply"
