/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What passt and other programs print when something went wrong, on its way into an error. */

#include "error.h"
#include "fuzz.h"
#include "message.h"
#include "utf8.h"

/* The line is one of the text, and not an empty one if there is another. */
static void check_line(const char *text) {
        _cleanup_free_ char *line = error_passt_line(text);
        bool found = false;

        INVARIANT(line && message_can_carry(line));
        while (*text) {
                size_t n = strcspn(text, "\n");
                _cleanup_free_ char *copy = strndup(text, n);

                INVARIANT(copy && (n == 0 || *line));
                utf8_make_valid(copy);
                found = found || streq(copy, line);
                text += n + (text[n] == '\n');
        }
        INVARIANT(found || !*line);
}

/* A message stays as it is, except for what D-Bus cannot carry. */
static void check_message(const char *text) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

        sd_bus_error_set(&error, SD_BUS_ERROR_FAILED, text);
        error_make_utf8(&error);
        INVARIANT(error.message && message_can_carry(error.message));
        INVARIANT(streq(error.name, SD_BUS_ERROR_FAILED));
        INVARIANT(strlen(error.message) == strlen(text));
        INVARIANT(streq(error.message, text) == message_can_carry(text));
}

/* So can it what is made fit to be shown. */
static void check_copy(const char *text) {
        _cleanup_free_ char *copy = utf8_copy_printable(text, 16);

        INVARIANT(copy && strlen(copy) == strnlen(text, 16) && message_can_carry(copy));
        for (const char *c = copy; *c; c++)
                INVARIANT((unsigned char) *c >= ' ' && *c != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        FuzzInput input = fuzz_input(data, size);
        _cleanup_free_ char *text = fuzz_rest(&input);

        check_line(text);
        check_message(text);
        check_copy(text);
        return 0;
}
