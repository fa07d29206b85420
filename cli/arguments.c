/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The words and options of a command may stand in any order, and "--" ends the options; what is
 * special is a command that passes words on to another program (words_own): its options end where
 * that program's words begin, as with ssh(1) and sudo(8).
 *
 * getopt_long() does the reading, in the mode that stops at every word, but its messages are of no
 * help here: they name neither the command nor what it takes. */

#include "arguments.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#include "output.h"

#define OPTIONS_MAX 32

/* What getopt_long() returns for the long option of this index, and for --help. */
#define OPTION_BASE 256
#define OPTION_HELP (OPTION_BASE + OPTIONS_MAX)

typedef struct GetoptTables {
        struct option longs[OPTIONS_MAX + 2];
        char shorts[3 + 2 * OPTIONS_MAX + 1];
} GetoptTables;

static void fill_tables(const Command *command, GetoptTables *ret) {
        char *shorts = ret->shorts;
        size_t n = 0;

        *ret = (GetoptTables){};
        shorts = stpcpy(shorts, "+:h");
        for (const Option *o = command->options; o && o->name; o++, n++) {
                ret->longs[n] = (struct option){
                        .name = o->name,
                        .has_arg = o->value ? required_argument : no_argument,
                        .val = OPTION_BASE + (int) n,
                };
                if (o->letter) {
                        *shorts++ = o->letter;
                        if (o->value)
                                *shorts++ = ':';
                }
        }
        ret->longs[n] = (struct option){ .name = "help", .val = OPTION_HELP };
}

static const Option *find_option(const Command *command, int c) {
        if (c >= OPTION_BASE)
                return command->options + (c - OPTION_BASE);
        for (const Option *o = command->options; o && o->name; o++)
                if (o->letter == c)
                        return o;
        return NULL;
}

Exit usage_error(const Command *command, const char *format, ...) {
        _cleanup_free_ char *message = NULL;
        va_list list;
        int r;

        va_start(list, format);
        r = vasprintf(&message, format, list);
        va_end(list);
        if (r >= 0)
                complain("%s: %s; usage: uservm %s%s%s%s", command->name, message, command->name,
                         command->options ? " [OPTION...]" : "", isempty(command->words) ? "" : " ",
                         command->words);
        return EXIT_USAGE;
}

/* What getopt_long() had no name for: c is ':' for a missing value, else '?'. */
static Exit complain_option(const Command *command, int c, char *argv[]) {
        const char *word = argv[optind - 1];

        if (c == ':')
                return usage_error(command, "the option '%s' needs a value", word);
        if (optopt >= OPTION_BASE)
                return usage_error(command, "the option '%s' takes no value", word);
        if (optopt == 0)
                return usage_error(command, "there is no option '%s', or it is ambiguous", word);
        return usage_error(command, "there is no option '-%c'", optopt);
}

/* Returns EXIT_OK and sets *ret_more when there may be more options behind the word that follows.
 */
static Exit parse_options(Arguments *arguments, const GetoptTables *tables, int argc, char *argv[],
                          bool *ret_more) {
        int c, start;

        for (;;) {
                start = optind;
                c = getopt_long(argc, argv, tables->shorts, tables->longs, NULL);
                if (c < 0)
                        break;
                if (c == 'h' || c == OPTION_HELP) {
                        arguments->help = true;
                        *ret_more = false;
                        return EXIT_OK;
                }
                if (c == '?' || c == ':')
                        return complain_option(arguments->command, c, argv);
                arguments->given[arguments->n_given++] = (struct GivenOption){
                        .option = find_option(arguments->command, c),
                        .value = optarg,
                };
        }
        *ret_more = !(optind > start && streq(argv[optind - 1], "--"));
        return EXIT_OK;
}

static Exit check_words(const Arguments *arguments) {
        const Command *command = arguments->command;

        if (arguments->n_words < command->words_min)
                return usage_error(command, "an argument is missing");
        if (arguments->n_words > command->words_max)
                return usage_error(command, "'%s' is too much",
                                   arguments->words[command->words_max]);
        for (size_t i = 0; i < arguments->n_words; i++)
                if (isempty(arguments->words[i]) &&
                    (command->words_own == 0 || i < command->words_own))
                        return usage_error(command, "an argument is empty");
        return EXIT_OK;
}

Exit arguments_parse(const Command *command, int argc, char *argv[], Arguments *ret_arguments) {
        Arguments *a = ret_arguments;
        GetoptTables tables;
        bool more = true;
        Exit e;

        /* none can be more than there are words, or, as in "-abc", letters */
        size_t n = 1;

        for (int i = 0; i < argc; i++)
                n += strlen(argv[i]) + 1;
        *a = (Arguments){
                .command = command,
                .given = new0(struct GivenOption, n),
                .words = new0(char *, (size_t) argc + 1),
        };
        if (!a->given || !a->words) {
                complain("out of memory");
                return EXIT_FAILED;
        }

        fill_tables(command, &tables);
        opterr = 0;
        optind = 1;
        for (;;) {
                if (more) {
                        e = parse_options(a, &tables, argc, argv, &more);
                        if (e != EXIT_OK || a->help)
                                return e;
                }
                if (optind >= argc)
                        break;
                a->words[a->n_words++] = argv[optind++];
                if (command->words_own > 0 && a->n_words > command->words_own)
                        more = false;
        }
        return check_words(a);
}

void arguments_done(Arguments *arguments) {
        free(arguments->given);
        free(arguments->words);
}

bool option_given(const Arguments *arguments, const char *name) {
        for (size_t i = 0; i < arguments->n_given; i++)
                if (streq(arguments->given[i].option->name, name))
                        return true;
        return false;
}

const char *option_value(const Arguments *arguments, const char *name) {
        for (size_t i = arguments->n_given; i > 0; i--)
                if (streq(arguments->given[i - 1].option->name, name))
                        return arguments->given[i - 1].value;
        return NULL;
}

Exit option_number(const Arguments *arguments, const char *name, uint64_t min, uint64_t max,
                   uint64_t *ret_number) {
        const char *text = option_value(arguments, name);
        unsigned long long number;
        char *end;

        if (!text)
                return EXIT_OK;
        errno = 0;
        number = strtoull(text, &end, 10);
        if (text[0] < '0' || text[0] > '9' || *end || errno > 0 || number < min || number > max)
                return usage_error(arguments->command,
                                   "--%s takes a whole number from %ju to %ju, not '%s'", name,
                                   (uintmax_t) min, (uintmax_t) max, text);
        *ret_number = number;
        return EXIT_OK;
}

void print_usage(const Command *command) {
        printf("uservm %s%s%s%s\n", command->name, command->options ? " [OPTION...]" : "",
               isempty(command->words) ? "" : " ", command->words);
}

static const Option option_help = { "help", 'h', NULL, "show this help" };

/* An option as it is written, behind its letter: "--memory=SIZE". */
static int option_width(const Option *o) {
        return (int) (strlen("--") + strlen(o->name) + (o->value ? 1 + strlen(o->value) : 0));
}

static void print_option(const Option *o, int width) {
        printf(o->letter ? "  -%c, " : "      ", o->letter);
        printf("--%s%s%s", o->name, o->value ? "=" : "", o->value ? o->value : "");
        printf("%*s  %s\n", width - option_width(o), "", o->help);
}

void print_command_help(const Command *command) {
        int width = option_width(&option_help);

        for (const Option *o = command->options; o && o->name; o++)
                if (option_width(o) > width)
                        width = option_width(o);
        print_usage(command);
        printf("\n%s\n\n", command->summary);
        for (const Option *o = command->options; o && o->name; o++)
                print_option(o, width);
        print_option(&option_help, width);
        printf("\nSee uservm(1).\n");
}
