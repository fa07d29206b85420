/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The child is spawned with its standard output and standard error on two pipes, which are read
 * together with poll(2): a child that fills one while we wait on the other would never end. A pidfd
 * is polled beside them, so that the child's end is the end, and not the end of whatever it left in
 * the background with the pipes still open; what the child wrote before it ended is in the pipes by
 * then and is still read.
 *
 * Several workers may be here at once. The pipes are born close-on-exec and the child closes all
 * but its first three descriptors, so that no child holds another's pipe open. Each child is waited
 * for by its own pid; SIGCHLD and its handler are not touched.
 *
 * Deliberately absent: a timeout, input for the child, a shell, and a say in its environment. */

#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "util.h"

/* What is kept of each stream. More than this is of no use to anyone who reads it. */
#define OUTPUT_MAX (1024 * 1024)

/* One stream of the child: the end of the pipe we read, and what came out of it. */
typedef struct Stream {
        int fd; /* negative once it has ended: poll(2) skips it then */
        char *text;
        size_t size;
} Stream;

static void stream_done(Stream *s) {
        closep(&s->fd);
        free(s->text);
}

#define _cleanup_stream_ _cleanup_(stream_done)

/* Makes a pipe: its reading end becomes the stream's and does not block, the other the caller's. */
static int stream_open(Stream *s, int *ret_write_fd) {
        int fds[2];

        s->text = new0(char, 1);
        if (!s->text)
                return -ENOMEM;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;

        s->fd = fds[0];
        *ret_write_fd = fds[1];

        /* Only our end: the child has every right to expect that its writes block. */
        if (fcntl(s->fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        return 0;
}

static int stream_append(Stream *s, const char *data, size_t n) {
        char *text;

        if (n > OUTPUT_MAX - s->size)
                n = OUTPUT_MAX - s->size;
        if (n == 0)
                return 0;

        text = realloc(s->text, s->size + n + 1);
        if (!text)
                return -ENOMEM;

        memcpy(text + s->size, data, n);
        s->text = text;
        s->size += n;
        s->text[s->size] = '\0';
        return 0;
}

/* Reads what is there now. Closes the stream at its end. */
static int stream_read(Stream *s) {
        char buffer[PIPE_BUF * 4];

        while (s->fd >= 0) {
                ssize_t n = read(s->fd, buffer, sizeof(buffer));
                int r;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                if (n == 0) {
                        close(TAKE_FD(s->fd));
                        return 0;
                }

                r = stream_append(s, buffer, (size_t) n);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Reads both streams until the child has ended. */
static int read_until_exit(int pidfd, Stream *output, Stream *error) {
        for (;;) {
                struct pollfd fds[] = {
                        { .fd = pidfd, .events = POLLIN },
                        { .fd = output->fd, .events = POLLIN },
                        { .fd = error->fd, .events = POLLIN },
                };
                int r;

                if (poll(fds, ELEMENTSOF(fds), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }

                r = stream_read(output);
                if (r < 0)
                        return r;
                r = stream_read(error);
                if (r < 0)
                        return r;

                /* Polled before the reading, so nothing that the child wrote can be missed. */
                if (fds[0].revents != 0)
                        return 0;
        }
}

/* This process's environment with LC_ALL=C: what the child prints is parsed and quoted. Only the
 * array is new, the strings are the environment's own. */
static char **environment_in_c_locale(void) {
        static char locale[] = "LC_ALL=C";
        size_t n = 0, m = 0;
        char **copy;

        while (environ && environ[n])
                n++;

        copy = new0(char *, n + 2);
        if (!copy)
                return NULL;

        for (size_t i = 0; i < n; i++)
                if (!startswith(environ[i], "LC_ALL="))
                        copy[m++] = environ[i];
        copy[m] = locale;
        return copy;
}

static int prepare_descriptors(posix_spawn_file_actions_t *actions, int output_fd, int error_fd) {
        int r;

        r = posix_spawn_file_actions_adddup2(actions, output_fd, STDOUT_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(actions, error_fd, STDERR_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY,
                                                     0);
        if (r == 0)
                r = posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
        return -r;
}

/* The daemon blocks and ignores signals for reasons of its own, which both survive execve(2). */
static int prepare_signals(posix_spawnattr_t *attributes) {
        sigset_t all, none;
        int r;

        sigfillset(&all);
        sigemptyset(&none);

        r = posix_spawnattr_setsigdefault(attributes, &all);
        if (r == 0)
                r = posix_spawnattr_setsigmask(attributes, &none);
        if (r == 0)
                r = posix_spawnattr_setflags(attributes,
                                             POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
        return -r;
}

static int spawn(const char *const argv[], int output_fd, int error_fd, pid_t *ret_pid) {
        _cleanup_(posix_spawn_file_actions_destroy) posix_spawn_file_actions_t actions;
        _cleanup_(posix_spawnattr_destroy) posix_spawnattr_t attributes;
        _cleanup_free_ char **environment = NULL;
        int r;

        /* With glibc neither of the two can fail. */
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);

        environment = environment_in_c_locale();
        if (!environment)
                return -ENOMEM;

        r = prepare_descriptors(&actions, output_fd, error_fd);
        if (r < 0)
                return r;
        r = prepare_signals(&attributes);
        if (r < 0)
                return r;

        return -posix_spawnp(ret_pid, argv[0], &actions, &attributes, (char *const *) argv,
                             environment);
}

/* Reads what the child writes and waits for its end. A child that cannot be read is killed, for it
 * must be waited for in any case. */
static int attend(pid_t pid, Stream *output, Stream *error) {
        _cleanup_close_ int pidfd = -EBADF;
        int status, r;

        pidfd = pidfd_open(pid, 0);
        r = pidfd < 0 ? -errno : read_until_exit(pidfd, output, error);
        if (r < 0)
                kill(pid, SIGKILL);

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;

        if (r < 0)
                return r;
        return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int process_run(const char *const argv[], char **ret_output, char **ret_error) {
        _cleanup_stream_ Stream output = { .fd = -EBADF }, error = { .fd = -EBADF };
        _cleanup_close_ int output_fd = -EBADF, error_fd = -EBADF;
        pid_t pid;
        int r, status;

        r = stream_open(&output, &output_fd);
        if (r < 0)
                return r;
        r = stream_open(&error, &error_fd);
        if (r < 0)
                return r;

        r = spawn(argv, output_fd, error_fd, &pid);
        if (r < 0)
                return r;

        /* Ours would keep the pipes from ever ending. */
        close(TAKE_FD(output_fd));
        close(TAKE_FD(error_fd));

        status = attend(pid, &output, &error);
        if (status < 0)
                return status;

        if (ret_output)
                *ret_output = TAKE_PTR(output.text);
        if (ret_error)
                *ret_error = TAKE_PTR(error.text);
        return status;
}
