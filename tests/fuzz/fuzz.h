/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A fuzz target takes any bytes, hands them to a part of the service, and ends the process by
 * INVARIANT() if something is not as it must always be. The same file is built in two ways: for
 * libFuzzer, which thinks up inputs (`./dev fuzz`), and with main.c, which runs those that are kept
 * in corpus/ (`make check`).
 *
 * Inputs are text, so that one can read and write them: lines, each a value of its own, of which
 * the last may be all the rest. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "util.h"

/* The target itself: each fuzz-NAME.c has one. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INVARIANT(expression)                                                                      \
        do {                                                                                       \
                if (!(expression)) {                                                               \
                        fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #expression); \
                        abort();                                                                   \
                }                                                                                  \
        } while (0)

typedef struct FuzzInput {
        const char *next;
        size_t left;
} FuzzInput;

static inline FuzzInput fuzz_input(const uint8_t *data, size_t size) {
        return (FuzzInput){ (const char *) data, size };
}

/* Takes the next line, or all the rest: strings in memory of their own and no longer than that, so
 * that the address sanitizer sees who reads on. A line is empty when there are no more. In a line,
 * "\n" is a newline. */
char *fuzz_line(FuzzInput *input);
char *fuzz_rest(FuzzInput *input);
