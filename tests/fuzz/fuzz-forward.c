/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Port forward specs. Lines: one spec, and another. */

#include <ctype.h>
#include <errno.h>

#include "forward.h"
#include "fuzz.h"

static void check_reason(int r, const char *reason) {
        if (r == 0) {
                INVARIANT(!reason);
                return;
        }
        INVARIANT(r == -EINVAL);
        INVARIANT(reason && *reason);
        for (const char *s = reason; *s; s++)
                INVARIANT(isascii(*s) && isprint((unsigned char) *s));
}

static void check_value(const Forward *f) {
        INVARIANT(f->persistent && f->state == FORWARD_INACTIVE && !f->error);
        INVARIANT(f->host.start <= f->host.end && f->guest.start <= f->guest.end);
        INVARIANT(f->guest.start > 0);
        INVARIANT(f->host.start > 0 || f->host.end == 0);
        INVARIANT(f->host.end - f->host.start == f->guest.end - f->guest.start);
        INVARIANT(forward_equal(f, f));
        INVARIANT(forward_conflicts(f, f) == (f->host.start > 0));
        INVARIANT(forward_has_port(f, f->host.start) == (f->host.start > 0));
        INVARIANT(forward_has_port(f, f->host.end) == (f->host.start > 0));
        INVARIANT(!forward_has_port(f, (uint16_t) (f->host.end + 1)));
}

/* What parses is written to a spec that means the same, and that is written as it is. */
static void check_round_trip(const Forward *f) {
        _cleanup_free_ char *spec = NULL, *again = NULL, *passt = NULL, *reason = NULL;
        _cleanup_forward_ Forward copy = {};
        int r;

        INVARIANT(forward_format(f, &spec) == 0);
        r = forward_parse(spec, &copy, &reason);
        INVARIANT(r == 0);
        INVARIANT(forward_equal(f, &copy));
        INVARIANT(forward_format(&copy, &again) == 0);
        INVARIANT(streq(spec, again));

        INVARIANT(forward_format_passt(f, &passt) == 0);
        INVARIANT(*passt && !strpbrk(passt, " \t\n"));
}

/* Returns whether it is a forward. */
static bool check_spec(const char *spec, Forward *ret) {
        _cleanup_free_ char *reason = NULL, *host_side_reason = NULL;
        _cleanup_forward_ Forward host_side = {};
        int r, host_side_r;

        r = forward_parse(spec, ret, &reason);
        check_reason(r, reason);
        host_side_r = forward_parse_host_side(spec, &host_side, &host_side_reason);
        check_reason(host_side_r, host_side_reason);
        INVARIANT((host_side_r == 0) == (r == 0 && ret->host.start > 0));
        if (r < 0)
                return false;

        check_value(ret);
        check_round_trip(ret);
        INVARIANT(host_side_r < 0 || forward_same_host_side(ret, &host_side));
        return true;
}

static void check_pair(const Forward *a, const Forward *b) {
        bool conflict = forward_conflicts(a, b), same = forward_same_host_side(a, b);

        INVARIANT(conflict == forward_conflicts(b, a));
        INVARIANT(same == forward_same_host_side(b, a));
        INVARIANT(forward_equal(a, b) == forward_equal(b, a));
        INVARIANT(same || !forward_equal(a, b));
        INVARIANT(conflict || !same || a->host.start == 0);
        INVARIANT(!conflict || a->protocol == b->protocol);
        INVARIANT(!conflict || (a->host.start <= b->host.end && b->host.start <= a->host.end));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        FuzzInput input = fuzz_input(data, size);
        _cleanup_free_ char *spec_a = fuzz_line(&input), *spec_b = fuzz_line(&input);
        _cleanup_forward_ Forward a = {}, b = {};
        bool is_a = check_spec(spec_a, &a), is_b = check_spec(spec_b, &b);

        if (is_a && is_b)
                check_pair(&a, &b);
        return 0;
}
