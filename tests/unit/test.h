/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A unit test prints one TAP line a test function. A failed CHECK says what it saw and fails the
 * function it stands in, which goes no further.
 *
 *     TEST(parses_a_range) {
 *             CHECK_INT(parse("1-2", &r), 0);
 *     }
 *
 *     TEST_MAIN(parses_a_range)
 */

#include <stdio.h>
#include <string.h>

static int test_failed;

#define TEST(name) static void name(void)

#define CHECK(expression)                                                                          \
        do {                                                                                       \
                if (!(expression)) {                                                               \
                        printf("# %s:%d: not true: %s\n", __FILE__, __LINE__, #expression);        \
                        test_failed = 1;                                                           \
                        return;                                                                    \
                }                                                                                  \
        } while (0)

#define CHECK_INT(expression, expected)                                                            \
        do {                                                                                       \
                long long _a = (long long) (expression), _b = (long long) (expected);              \
                if (_a != _b) {                                                                    \
                        printf("# %s:%d: %s is %lld, expected %lld\n", __FILE__, __LINE__,         \
                               #expression, _a, _b);                                               \
                        test_failed = 1;                                                           \
                        return;                                                                    \
                }                                                                                  \
        } while (0)

#define CHECK_STR(expression, expected)                                                            \
        do {                                                                                       \
                const char *_a = (expression), *_b = (expected);                                   \
                if (!_a || strcmp(_a, _b) != 0) {                                                  \
                        printf("# %s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__,     \
                               #expression, _a ? _a : "(null)", _b);                               \
                        test_failed = 1;                                                           \
                        return;                                                                    \
                }                                                                                  \
        } while (0)

/* Runs the functions in order; names is their names as TEST_MAIN() got them: "one, two". */
static int test_run(const char *names, void (*const functions[])(void), size_t n) {
        int failures = 0;

        printf("1..%zu\n", n);
        for (size_t i = 0; i < n; i++) {
                size_t length;

                names += strspn(names, ", ");
                length = strcspn(names, ", ");
                test_failed = 0;
                functions[i]();
                printf("%s %zu - %.*s\n", test_failed ? "not ok" : "ok", i + 1, (int) length,
                       names);
                fflush(stdout);
                names += length;
                failures += test_failed;
        }
        return failures > 0;
}

/* main() of a test program: the functions defined with TEST(), in the order they shall run. */
#define TEST_MAIN(...)                                                                             \
        int main(void) {                                                                           \
                static void (*const functions[])(void) = { __VA_ARGS__ };                          \
                                                                                                   \
                return test_run(#__VA_ARGS__, functions, sizeof(functions) / sizeof(*functions));  \
        }
