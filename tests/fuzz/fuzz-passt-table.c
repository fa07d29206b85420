/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* passt's table of forwards, as pesto prints it. */

#include <errno.h>

#include "fuzz.h"
#include "passt.h"

static void check_value(const Forward *f) {
        INVARIANT(f->host.start > 0 && f->host.start <= f->host.end);
        INVARIANT(f->guest.start > 0);
        INVARIANT(f->host.end - f->host.start == f->guest.end - f->guest.start);
        INVARIANT(f->n_exclude == 0 && !f->exclude);
}

/* The table of this forward alone. */
static char *print(const Forward *f) {
        char address[INET6_ADDRSTRLEN], *text;

        INVARIANT(asprintf(&text, "Title\n  HOST\n    %s [%s]%s%s:%u-%u  =>  %u-%u \n",
                           f->protocol == FORWARD_TCP ? "TCP" : "UDP",
                           forward_address_to_string(f, address, sizeof(address)),
                           *f->interface ? "%" : "", f->interface, f->host.start, f->host.end,
                           f->guest.start, f->guest.end) > 0);
        return text;
}

static void check_round_trip(const Forward *f) {
        _cleanup_free_ char *text = print(f);
        _cleanup_forward_list_ ForwardList list = {};

        INVARIANT(passt_parse_table(text, &list) == 0);
        INVARIANT(list.n == 1 && forward_equal(&list.items[0], f));
}

/* What is taken was there, and is there no more; and when all have been, nothing is left. */
static void check_take(const ForwardList *table) {
        _cleanup_forward_list_ ForwardList left = {};

        INVARIANT(forward_list_copy(table, &left) == 0);
        for (size_t i = 0; i < table->n; i++) {
                size_t before = left.n;
                bool taken = passt_table_take(&left, &table->items[i]);

                INVARIANT(taken == (left.n < before));
                INVARIANT(!passt_table_take(&left, &table->items[i]));
        }
        INVARIANT(left.n == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        FuzzInput input = fuzz_input(data, size);
        _cleanup_free_ char *text = fuzz_rest(&input);
        _cleanup_forward_list_ ForwardList table = {};
        int r;

        r = passt_parse_table(text, &table);
        INVARIANT(r == 0 || r == -EBADMSG);
        for (size_t i = 0; i < table.n; i++) {
                check_value(&table.items[i]);
                check_round_trip(&table.items[i]);
        }
        check_take(&table);
        return 0;
}
