/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "fuzz.h"

static char *take(FuzzInput *input, size_t n) {
        char *text = strndup(input->next, n);

        INVARIANT(text);
        input->next += n;
        input->left -= n;
        return text;
}

char *fuzz_line(FuzzInput *input) {
        const char *end = input->left > 0 ? memchr(input->next, '\n', input->left) : NULL;
        char *line = take(input, end ? (size_t) (end - input->next) : input->left), *escape = line;

        if (end) {
                input->next++;
                input->left--;
        }
        while ((escape = strstr(escape, "\\n"))) {
                *escape++ = '\n';
                memmove(escape, escape + 1, strlen(escape));
        }
        return line;
}

char *fuzz_rest(FuzzInput *input) {
        return take(input, input->left);
}
