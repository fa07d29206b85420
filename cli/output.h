/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the command prints: tables and labelled values for people, JSON for programs, and one line
 * on standard error for what went wrong. Colours only where they are seen, see output_init(). */

#include <json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util.h"

typedef enum Style {
        STYLE_PLAIN,
        STYLE_BOLD,
        STYLE_DIM,
        STYLE_GOOD,
        STYLE_BUSY,
        STYLE_BAD,
} Style;

DEFINE_CLEANUP(json_object *, json_object_put);
#define _cleanup_json_ _cleanup_(json_object_putp)

/* Looks at the terminal and the environment (NO_COLOR, TERM, the locale) once, at the start. */
void output_init(void);

/* "uservm: " and the message in one line on standard error; control characters become "?". */
void complain(const char *format, ...) _printf_(1, 2);

/* A table. Its text is copied, and shown without control characters. */
typedef struct Table Table;

/* The titles are the columns: as many as there are before the NULL. */
int table_new(const char *const titles[], Table **ret_table);
void table_free(Table *table);
DEFINE_CLEANUP(Table *, table_free);

/* Adds the next cell, from left to right, row after row. */
int table_add(Table *table, Style style, const char *text);

/* Prints it. On a terminal that is too narrow columns are left out and cut off, elsewhere nothing
 * is. Returns a negative errno if it could not be written. */
int table_print(const Table *table);

/* Prints a line of a "show": the label to the right of a column of labels, then the value. A label
 * of "" goes on with the value of the line before. */
void print_value(const char *label, Style style, const char *value);

/* The columns of the screen that a text takes. */
size_t text_width(const char *text);

/* A copy without control characters, to be freed; NULL if there is no memory. */
char *printable(const char *text);

/* Prints text in a style, without control characters. */
void print_text(Style style, const char *text);

/* Prints a JSON value in several lines; json_print_line() in a single one. */
int json_print(json_object *value);
int json_print_line(json_object *value);

/* Sets a member; takes the value, and fails with -ENOMEM if it is NULL. */
int json_set(json_object *object, const char *key, json_object *value);

/* The same for an element at the end of an array. */
int json_append(json_object *array, json_object *value);

/* Flushes standard output; a negative errno says why what was printed has not been written. */
int output_flush(void);

/* How a state of a VM or a forward is shown. */
Style state_style(const char *state);

/* Bytes as people write them: "512 MiB", "1.5 GiB". */
#define SIZE_TEXT_MAX 32
const char *format_size(uint64_t bytes, char buffer[static SIZE_TEXT_MAX]);
