/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A table is kept as a list of cells until it is printed, because a column is as wide as its widest
 * cell. Widths are those on the screen: names that other tools gave may have wide characters.
 *
 * A table whose lines wrap cannot be read: on a terminal the columns on the right that it has no
 * room for are left out, and the last of those that remain is cut; to a pipe or a file everything
 * goes as it is. The line of titles is always there, so that a column can be found by its title;
 * who wants names only has options for that.
 *
 * Nothing that comes from outside reaches the terminal with control characters in it: the names of
 * VMs that other tools made, and what libvirt says, could otherwise move the cursor. */

#include "output.h"

#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <wchar.h>
#include <wctype.h>

#include "utf8.h"

#define TABLE_COLUMNS_MAX 8
#define COLUMN_GAP 2
#define LABEL_WIDTH 10

typedef struct Cell {
        char *text;
        Style style;
} Cell;

struct Table {
        const char *const *titles;
        size_t n_columns;
        Cell *cells;
        size_t n_cells;
};

static bool use_colour;
static size_t terminal_width; /* 0: no terminal */

static const char *const style_sequences[] = {
        [STYLE_PLAIN] = "",        [STYLE_BOLD] = "\x1b[1m",  [STYLE_DIM] = "\x1b[2m",
        [STYLE_GOOD] = "\x1b[32m", [STYLE_BUSY] = "\x1b[33m", [STYLE_BAD] = "\x1b[31m",
};

static size_t find_terminal_width(void) {
        struct winsize size;

        if (!isatty(STDOUT_FILENO))
                return 0;
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) >= 0 && size.ws_col > 0)
                return size.ws_col;
        return 80;
}

void output_init(void) {
        const char *terminal = getenv("TERM");

        setlocale(LC_CTYPE, "");
        terminal_width = find_terminal_width();
        use_colour = terminal_width > 0 && isempty(getenv("NO_COLOR")) && !isempty(terminal) &&
                     !streq(terminal, "dumb");
}

/* The character that a text begins with, or WEOF where there is none, and how many bytes it has.
 * Nearly all texts are ASCII, which every encoding has as it is; that need not be converted. */
static size_t read_character(const char *text, mbstate_t *state, wint_t *ret) {
        wchar_t c;
        size_t n;

        if (*text >= ' ' && *text <= '~') {
                *ret = (wint_t) *text;
                return 1;
        }
        n = mbrtowc(&c, text, MB_CUR_MAX, state);
        if (n == (size_t) -1 || n == (size_t) -2) {
                *state = (mbstate_t){};
                *ret = WEOF;
                return 1;
        }
        *ret = (wint_t) c;
        return n;
}

/* The same of UTF-8, whatever the locale. */
static size_t read_utf8(const char *text, wint_t *ret) {
        uint32_t c = 0;
        size_t n = utf8_character(text, &c);

        *ret = n > 0 ? (wint_t) c : WEOF;
        return n > 0 ? n : 1;
}

/* The C locale knows of those in ASCII alone. */
static bool is_control(wint_t c) {
        return (c >= 0x7f && c < 0xa0) || iswcntrl(c);
}

/* Replaces what would do something else to the terminal than to show a character. */
static void make_printable(char *text) {
        mbstate_t state = {};
        size_t n;
        wint_t c;

        for (char *s = text; *s; s += n) {
                n = read_character(s, &state, &c);
                if (c == WEOF && MB_CUR_MAX == 1)
                        n = read_utf8(s, &c); /* which the terminal may know all the same */
                if (c == WEOF)
                        *s = '?';
                else if (is_control(c))
                        memset(s, '?', n);
        }
}

char *printable(const char *text) {
        char *copy = strdup(text);

        if (copy)
                make_printable(copy);
        return copy;
}

/* The columns of the screen that the first characters of a text take, and the bytes of as many of
 * them as fit. */
static size_t fitting(const char *text, size_t width_max, size_t *ret_width) {
        mbstate_t state = {};
        size_t bytes = 0, width = 0, n;
        wint_t c;
        int w;

        while (text[bytes]) {
                n = read_character(text + bytes, &state, &c);
                w = c == WEOF ? 1 : wcwidth((wchar_t) c);
                if (w > 0 && width + (size_t) w > width_max)
                        break;
                width += w > 0 ? (size_t) w : 0;
                bytes += n;
        }
        *ret_width = width;
        return bytes;
}

size_t text_width(const char *text) {
        size_t width;

        fitting(text, SIZE_MAX, &width);
        return width;
}

void complain(const char *format, ...) {
        _cleanup_free_ char *message = NULL;
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = vasprintf(&message, format, arguments);
        va_end(arguments);
        if (r < 0)
                return;
        make_printable(message);
        fflush(stdout); /* in the order in which it was said */
        fprintf(stderr, "uservm: %s\n", message);
}

static void print_styled(Style style, const char *text, size_t bytes) {
        bool coloured = use_colour && style != STYLE_PLAIN && bytes > 0;

        printf("%s%.*s%s", coloured ? style_sequences[style] : "", (int) bytes, text,
               coloured ? "\x1b[0m" : "");
}

int table_new(const char *const titles[], Table **ret_table) {
        Table *table = new0(Table, 1);

        if (!table)
                return -ENOMEM;
        table->titles = titles;
        while (titles[table->n_columns])
                table->n_columns++;
        *ret_table = table;
        return 0;
}

void table_free(Table *table) {
        for (size_t i = 0; i < table->n_cells; i++)
                free(table->cells[i].text);
        free(table->cells);
        free(table);
}

int table_add(Table *table, Style style, const char *text) {
        Cell *cells;

        cells = reallocarray(table->cells, table->n_cells + 1, sizeof(Cell));
        if (!cells)
                return -ENOMEM;
        table->cells = cells;
        cells[table->n_cells] = (Cell){ .text = printable(text), .style = style };
        if (!cells[table->n_cells].text)
                return -ENOMEM;
        table->n_cells++;
        return 0;
}

static void print_padding(size_t width) {
        printf("%*s", (int) width, "");
}

/* The last column of a row: as much as fits between here and the edge of the terminal. */
static void print_last(Style style, const char *text, size_t from) {
        size_t room, width, bytes;

        if (terminal_width == 0 || from + text_width(text) <= terminal_width) {
                print_styled(style, text, strlen(text));
                return;
        }
        if (terminal_width < from + 3)
                return;
        room = terminal_width - from - 3;
        bytes = fitting(text, room, &width);
        print_styled(style, text, bytes);
        print_styled(style, "...", 3);
}

/* How many columns there is room for; the last needs room for its title only. */
static size_t count_columns(const Table *table, const size_t widths[]) {
        size_t from = 0, i = 0;

        do
                from += widths[i++] + COLUMN_GAP;
        while (i < table->n_columns &&
               (terminal_width == 0 || from + text_width(table->titles[i]) <= terminal_width));
        return i;
}

static void print_row(size_t n_columns, const size_t widths[], const Cell row[]) {
        size_t from = 0, last = n_columns - 1;

        /* no spaces at the end of a line */
        while (last > 0 && isempty(row[last].text))
                last--;
        for (size_t i = 0; i < last; i++) {
                print_styled(row[i].style, row[i].text, strlen(row[i].text));
                print_padding(widths[i] - text_width(row[i].text) + COLUMN_GAP);
                from += widths[i] + COLUMN_GAP;
        }
        print_last(row[last].style, row[last].text, from);
        putchar('\n');
}

int table_print(const Table *table) {
        Cell titles[TABLE_COLUMNS_MAX] = {};
        size_t widths[TABLE_COLUMNS_MAX] = {}, n_columns;

        for (size_t i = 0; i < table->n_columns; i++) {
                titles[i] = (Cell){ .text = (char *) table->titles[i], .style = STYLE_BOLD };
                widths[i] = text_width(table->titles[i]);
        }
        for (size_t i = 0; i < table->n_cells; i++) {
                size_t width = text_width(table->cells[i].text);

                if (width > widths[i % table->n_columns])
                        widths[i % table->n_columns] = width;
        }
        n_columns = count_columns(table, widths);
        print_row(n_columns, widths, titles);
        for (size_t i = 0; i < table->n_cells; i += table->n_columns)
                print_row(n_columns, widths, table->cells + i);
        return output_flush();
}

void print_text(Style style, const char *text) {
        _cleanup_free_ char *copy = printable(text);

        if (copy)
                print_styled(style, copy, strlen(copy));
}

void print_value(const char *label, Style style, const char *value) {
        printf("%*s%c ", LABEL_WIDTH, label, *label ? ':' : ' ');
        print_text(style, value);
        putchar('\n');
}

/* json-c escapes no control characters but those before the space. They are in strings only. */
static void print_escaped(const char *text) {
        wint_t c;

        for (size_t n; *text; text += n) {
                n = read_utf8(text, &c);
                if (c >= 0x7f && c < 0xa0)
                        printf("\\u%04x", (unsigned) c);
                else
                        fwrite(text, 1, n, stdout);
        }
        putchar('\n');
}

static int json_print_with(json_object *value, int flags) {
        const char *text;

        text = json_object_to_json_string_ext(value, flags | JSON_C_TO_STRING_NOSLASHESCAPE);
        if (!text)
                return -ENOMEM;
        print_escaped(text);
        return output_flush();
}

int json_print(json_object *value) {
        return json_print_with(value, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED);
}

int json_print_line(json_object *value) {
        return json_print_with(value, JSON_C_TO_STRING_PLAIN);
}

int json_set(json_object *object, const char *key, json_object *value) {
        if (!value)
                return -ENOMEM;
        if (json_object_object_add(object, key, value) < 0) {
                json_object_put(value);
                return -ENOMEM;
        }
        return 0;
}

int json_append(json_object *array, json_object *value) {
        if (!value)
                return -ENOMEM;
        if (json_object_array_add(array, value) < 0) {
                json_object_put(value);
                return -ENOMEM;
        }
        return 0;
}

int output_flush(void) {
        errno = 0;
        if (fflush(stdout) == EOF || ferror(stdout))
                return errno > 0 ? -errno : -EIO;
        return 0;
}

Style state_style(const char *state) {
        static const struct {
                const char *state;
                Style style;
        } styles[] = {
                { "running", STYLE_GOOD }, { "active", STYLE_GOOD },   { "starting", STYLE_BUSY },
                { "paused", STYLE_BUSY },  { "stopping", STYLE_BUSY }, { "pending", STYLE_BUSY },
                { "saved", STYLE_BUSY },   { "removing", STYLE_BUSY }, { "crashed", STYLE_BAD },
                { "failed", STYLE_BAD },   { "shutoff", STYLE_DIM },   { "inactive", STYLE_DIM },
        };

        for (size_t i = 0; i < ELEMENTSOF(styles); i++)
                if (streq(styles[i].state, state))
                        return styles[i].style;
        return STYLE_PLAIN;
}

const char *format_size(uint64_t bytes, char buffer[static SIZE_TEXT_MAX]) {
        static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
        double value = (double) bytes;
        size_t unit = 0;

        /* what would be shown as 1024.0 is one of the next unit */
        while (value >= 1023.95 && unit + 1 < ELEMENTSOF(units)) {
                value /= 1024;
                unit++;
        }
        /* a whole number without a fraction, all others with one digit of it */
        if (value == (double) (uint64_t) value)
                snprintf(buffer, SIZE_TEXT_MAX, "%.0f %s", value, units[unit]);
        else
                snprintf(buffer, SIZE_TEXT_MAX, "%.1f %s", value, units[unit]);
        return buffer;
}
