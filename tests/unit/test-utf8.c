/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Unit tests of service/utf8.c. That what it lets through is what sd-bus takes is checked by
 * tests/fuzz/fuzz-passt-words.c. */

#include "test.h"
#include "utf8.h"
#include "util.h"

static int last;

/* The length; the character is in last. */
static size_t read_one(const char *s) {
        uint32_t c = 0;
        size_t length = utf8_character(s, &c);

        last = (int) c;
        return length;
}

TEST(reads_characters_of_every_length) {
        CHECK_INT(read_one(""), 1);
        CHECK_INT(last, 0);
        CHECK_INT(read_one("\x7f"), 1);
        CHECK_INT(last, 0x7f);
        CHECK_INT(read_one("\xc2\x80"), 2);
        CHECK_INT(last, 0x80);
        CHECK_INT(read_one("\xe2\x82\xac"), 3);
        CHECK_INT(last, 0x20ac);
        CHECK_INT(read_one("\xf0\x90\x80\x80"), 4);
        CHECK_INT(last, 0x10000);
        CHECK_INT(read_one("\xf4\x8f\xbf\xbd"), 4);
        CHECK_INT(last, 0x10fffd);
}

TEST(refuses_what_is_none) {
        static const char *const texts[] = {
                "\x80",             /* a continuation */
                "\xbf\xbf",         /* two of them */
                "\xc3",             /* cut short */
                "\xe2\x82",         /* likewise */
                "\xc3\x28",         /* no continuation */
                "\xc0\x80",         /* longer than need be */
                "\xe0\x9f\xbf",     /* likewise */
                "\xf0\x8f\xbf\xbf", /* likewise */
                "\xed\xa0\x80",     /* half of a pair */
                "\xef\xbf\xbe",     /* a noncharacter */
                "\xef\xb7\x90",     /* likewise */
                "\xf4\x90\x80\x80", /* beyond Unicode */
                "\xf8\x88\x80\x80\x80",
        };

        for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
                printf("# text %zu\n", i);
                CHECK_INT(read_one(texts[i]), 0);
        }
}

TEST(replaces_bytes_that_belong_to_none) {
        char text[] = "caf\xe9 \xbf\xbf caf\xc3\xa9 \xc0\x80\xe2\x82";

        utf8_make_valid(text);
        CHECK_STR(text, "caf? ?? caf\xc3\xa9 ????");
}

TEST(copies_what_can_be_shown) {
        _cleanup_free_ char *copy =
                utf8_copy_printable("a\x1b[2J\n\xc2\x9b\xef\xb7\x90 caf\xc3\xa9", 99);
        _cleanup_free_ char *cut = utf8_copy_printable("caf\xc3\xa9", 4);

        CHECK_STR(copy, "a?[2J?????? caf\xc3\xa9");
        CHECK_STR(cut, "caf?");
}

TEST_MAIN(reads_characters_of_every_length, refuses_what_is_none,
          replaces_bytes_that_belong_to_none, copies_what_can_be_shown)
