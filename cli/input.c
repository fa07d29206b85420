/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A password is never on the command line, where all users of this machine can read it
 * (/proc/PID/cmdline). It passes through one buffer on the stack, without stdio's, and is erased
 * there. While the terminal does not show what is typed, signals wait: the terminal has to be put
 * right before this program ends by one of them. */

#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <termios.h>

#include "interrupt.h"
#include "output.h"

#define KEYS_MAX (64U << 10)
#define USER_DATA_MAX (1U << 20) /* see CreateVM */
#define PASSWORD_MAX 1024

static Exit complain_unreadable(const char *path, int error) {
        complain("cannot read '%s': %s%s", path, strerror(error),
                 *path == '~' ? "; the shell does not replace a '~' behind '=', use $HOME" : "");
        return EXIT_FAILED;
}

Exit input_failed(int r) {
        if (r >= 0)
                return EXIT_OK;
        complain("cannot prepare the settings: %s", strerror(-r));
        return EXIT_FAILED;
}

/* Reads up to the end or, with *n bytes, until the buffer is full. */
static int read_all(int fd, char *buffer, size_t *n) {
        size_t done = 0;
        ssize_t k;

        while (done < *n) {
                k = read(fd, buffer + done, *n - done);
                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                if (k == 0)
                        break;
                done += (size_t) k;
        }
        *n = done;
        return 0;
}

/* Reads a file of text of at most max bytes. */
static Exit read_text(const char *path, size_t max, char **ret) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        _cleanup_free_ char *text = NULL;
        size_t n = max + 1;
        int r;

        if (fd < 0)
                return complain_unreadable(path, errno);
        text = malloc(n + 1);
        if (!text)
                return input_failed(-ENOMEM);
        r = read_all(fd, text, &n);
        if (r < 0)
                return complain_unreadable(path, -r);
        if (n > max) {
                complain("'%s' is larger than %zu KiB; is it the right file?", path, max >> 10);
                return EXIT_FAILED;
        }
        text[n] = '\0';
        if (strlen(text) < n) {
                complain("'%s' is not a file of text; is it the right one?", path);
                return EXIT_FAILED;
        }
        *ret = TAKE_PTR(text);
        return EXIT_OK;
}

/* SSH keys */

/* A key as it stands in a line of authorized_keys: its base64 begins with a length of three zero
 * bytes and more (RFC 4253, 6.6), so with "AAAA". One that is damaged is told by its type. */
static bool is_key(const char *value) {
        return strstr(value, " AAAA") ||
               (strchr(value, ' ') && (startswith(value, "ssh-") || startswith(value, "ecdsa-") ||
                                       startswith(value, "sk-")));
}

static Exit complain_private_key(const char *path) {
        _cleanup_free_ char *public = NULL, *quoted = shell_quote(path), *quoted_public = NULL;

        if (asprintf(&public, "%s.pub", path) < 0)
                return input_failed(-ENOMEM);
        quoted_public = shell_quote(public);
        if (!quoted || !quoted_public)
                return input_failed(-ENOMEM);
        if (access(public, R_OK) >= 0)
                complain("'%s' is a private key, which nobody else is to see; give the public one, "
                         "'%s'",
                         path, public);
        else
                complain("'%s' is a private key, which nobody else is to see; make the public one "
                         "with ssh-keygen -y -f %s >%s, and give that",
                         path, quoted, quoted_public);
        return EXIT_FAILED;
}

static bool is_private_key(const char *text) {
        return strstr(text, "PRIVATE KEY-----") || startswith(text, "PuTTY-User-Key-File");
}

/* One key a line; empty lines and comments are left out, see sshd(8). */
static int add_keys(char *text, uservm_settings *s, size_t *ret_n) {
        size_t n = 0;
        int r;

        for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
                size_t length = strlen(line);

                if (length > 0 && line[length - 1] == '\r')
                        line[length - 1] = '\0';
                line += strspn(line, " \t");
                if (*line == '\0' || *line == '#')
                        continue;
                r = uservm_settings_add_ssh_key(s, line);
                if (r < 0)
                        return r;
                n++;
        }
        *ret_n = n;
        return 0;
}

Exit input_ssh_keys(const char *value, uservm_settings *s) {
        _cleanup_free_ char *text = NULL;
        size_t n = 0;
        Exit e;
        int r;

        if (is_key(value))
                return input_failed(uservm_settings_add_ssh_key(s, value));
        e = read_text(value, KEYS_MAX, &text);
        if (e != EXIT_OK)
                return e;
        if (is_private_key(text))
                return complain_private_key(value);
        r = add_keys(text, s, &n);
        if (r >= 0 && n == 0) {
                complain("there is no SSH key in '%s'", value);
                return EXIT_FAILED;
        }
        return input_failed(r);
}

/* User data */

Exit input_user_data(const char *path, uservm_settings *s) {
        _cleanup_free_ char *text = NULL;
        Exit e;

        e = read_text(path, USER_DATA_MAX, &text);
        if (e != EXIT_OK)
                return e;
        e = input_failed(uservm_settings_set_user_data(s, text));
        explicit_bzero(text, strlen(text));
        return e;
}

/* The password */

/* Waits until there is something to read, or for a signal: -EINTR. */
static int wait_readable(int fd, const Interrupt *interrupt) {
        struct pollfd fds[] = {
                { .fd = fd, .events = POLLIN },
                { .fd = interrupt->fd, .events = POLLIN },
        };

        while (poll(fds, ELEMENTSOF(fds), -1) < 0)
                if (errno != EINTR)
                        return -errno;
        return fds[1].revents != 0 ? -EINTR : 0;
}

/* Reads a line without its end, byte by byte, as what comes after it is for others. Returns
 * -ENOBUFS if it is too long, -EILSEQ if it has a NUL in it. */
static int read_line(int fd, const Interrupt *interrupt, char line[static PASSWORD_MAX]) {
        ssize_t k;
        int r;

        for (size_t n = 0; n < PASSWORD_MAX; n++) {
                r = wait_readable(fd, interrupt);
                if (r < 0)
                        return r;
                k = read(fd, line + n, 1);
                if (k < 0)
                        return -errno;
                if (k == 0 || line[n] == '\n') {
                        line[n] = '\0';
                        return 0;
                }
                if (line[n] == '\0')
                        return -EILSEQ;
        }
        return -ENOBUFS;
}

/* Asks once on a terminal that does not show the answer. */
static int ask(int fd, const char *prompt, const Interrupt *interrupt,
               char line[static PASSWORD_MAX]) {
        fputs(prompt, stderr);
        fflush(stderr);
        return read_line(fd, interrupt, line);
}

static int ask_twice(int fd, const Interrupt *interrupt, char line[static PASSWORD_MAX]) {
        char again[PASSWORD_MAX];
        int r;

        r = ask(fd, "Password for the guest: ", interrupt, line);
        if (r < 0)
                return r;
        r = ask(fd, "\nOnce more: ", interrupt, again);
        if (r >= 0 && !streq(line, again))
                r = -EKEYREJECTED;
        explicit_bzero(again, sizeof(again));
        return r;
}

static int read_from_terminal(int fd, char line[static PASSWORD_MAX]) {
        struct termios before, silent;
        Interrupt interrupt;
        int r;

        if (tcgetattr(fd, &before) < 0)
                return -errno;
        r = interrupt_begin(&interrupt);
        if (r < 0)
                return r;
        silent = before;
        silent.c_lflag &= ~(tcflag_t) ECHO;
        r = tcsetattr(fd, TCSAFLUSH, &silent) < 0 ? -errno : ask_twice(fd, &interrupt, line);
        (void) tcsetattr(fd, TCSAFLUSH, &before);
        fputc('\n', stderr);
        if (r < 0)
                explicit_bzero(line, PASSWORD_MAX);
        interrupt_end(&interrupt);
        return r;
}

static int read_password(const char *path, char line[static PASSWORD_MAX]) {
        static const Interrupt none = { .fd = -EBADF };
        _cleanup_close_ int opened = -EBADF;
        int fd = STDIN_FILENO;

        if (!streq(path, "-")) {
                opened = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
                if (opened < 0)
                        return -errno;
                fd = opened;
        }
        return isatty(fd) ? read_from_terminal(fd, line) : read_line(fd, &none, line);
}

Exit input_password(const char *path, uservm_settings *s) {
        char line[PASSWORD_MAX] = {};
        Exit e = EXIT_FAILED;
        int r;

        r = read_password(path, line);
        if (r == -ENOBUFS)
                complain("the first line of '%s' is too long for a password", path);
        else if (r == -EILSEQ)
                complain("'%s' is not a file of text; is it the right one?", path);
        else if (r == -EKEYREJECTED)
                complain("the two passwords differ");
        else if (r < 0)
                e = complain_unreadable(path, -r);
        else if (isempty(line))
                complain("there is no password in the first line of '%s'", path);
        else
                e = input_failed(uservm_settings_set_password(s, line));
        explicit_bzero(line, sizeof(line));
        return e;
}
