/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A command says in a table which options and words it takes; this reads them from the command
 * line, and says in one line what is wrong with it. The help comes from the same tables. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit statuses, see uservm(1). */
typedef enum Exit {
        EXIT_OK = 0,
        EXIT_FAILED = 1,
        EXIT_USAGE = 2,
        EXIT_NOT_FOUND = 3,
        EXIT_TIMEOUT = 4,
} Exit;

#define OPTION_JSON                                                                                \
        { "json", 0, NULL, "print JSON, see uservm(1)" }

typedef struct Option {
        const char *name;
        char letter;       /* 0: none */
        const char *value; /* what it is called in the help; NULL: the option has no value */
        const char *help;
} Option;

typedef struct Arguments Arguments;

typedef struct Command {
        const char *name;  /* "list", or with its group "forward add" */
        const char *words; /* what the help shows of them: "VM SPEC..." */
        unsigned words_min, words_max;
        /* After this many words all others belong to another program, as they are; 0: never. */
        unsigned words_own;
        const Option *options; /* up to one without a name; may be NULL */
        const char *summary;
        int (*run)(const Arguments *arguments); /* returns an Exit */
} Command;

#define WORDS_ANY UINT_MAX

/* All commands, up to one without a name. In main.c. */
extern const Command commands[];

struct Arguments {
        const Command *command;
        struct GivenOption {
                const Option *option;
                char *value;
        } * given;
        size_t n_given;
        char **words; /* ends with NULL */
        size_t n_words;
        bool help; /* --help was among them; nothing else was looked at */
};

/* Reads what follows the command's name. Returns EXIT_OK, or has complained and returns another. */
Exit arguments_parse(const Command *command, int argc, char *argv[], Arguments *ret_arguments);
void arguments_done(Arguments *arguments);

bool option_given(const Arguments *arguments, const char *name);

/* The last value of an option; NULL if it is not there. */
const char *option_value(const Arguments *arguments, const char *name);

/* The value as a whole number from min to max; *ret_number stays as it is if the option is not
 * there. Returns EXIT_OK, or complains and returns EXIT_USAGE. */
Exit option_number(const Arguments *arguments, const char *name, uint64_t min, uint64_t max,
                   uint64_t *ret_number);

/* As complain(), with the command in front and how it is used behind. Returns EXIT_USAGE. */
Exit usage_error(const Command *command, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

/* How a command is used, in one line: "uservm show [OPTION...] VM". */
void print_usage(const Command *command);
void print_command_help(const Command *command);
