/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The child is spawned with its standard output and standard error on two pipes, which are read
 * together with poll(2): a child that fills one while we wait on the other would never end. A pidfd
 * is polled beside them, so that the child's end is the end, and not the end of whatever it left in
 * the background with the pipes still open; what the child wrote before it ended is in the pipes by
 * then and is still read.
 *
 * Several workers may be here at once. The pipes are born close-on-exec and the child closes all
 * but its first three descriptors, so that no child holds another's pipe open. Each child is waited
 * for by its own pid; SIGCHLD and its handler are not touched. Should the thread that waits end, as
 * it does when this process is killed, the kernel kills the child too (PR_SET_PDEATHSIG), which
 * posix_spawn(3) could not ask for: nobody would want what it makes any more. Like that, the child
 * borrows this process's memory until it becomes the program (CLONE_VFORK): to copy it, or what
 * fork(2) copies of it, takes as long as passt takes to change its forwards.
 *
 * Deliberately absent: a timeout, input for the child, a shell, and a say in its environment. */

#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "util.h"

/* What is kept of each stream. More than this is of no use to anyone who reads it. */
#define OUTPUT_MAX (1UL << 20)

/* For a child that looks for its program in $PATH. */
#define CHILD_STACK_SIZE (32UL << 10)

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
static int read_until_exit(int pidfd, Stream *output, Stream *error, const ProcessWatch *watch) {
        for (;;) {
                struct pollfd fds[] = {
                        { .fd = pidfd, .events = POLLIN },
                        { .fd = output->fd, .events = POLLIN },
                        { .fd = error->fd, .events = POLLIN },
                        { .fd = watch ? watch->cancel_fd : -EBADF, .events = POLLIN },
                };
                int r;

                if (poll(fds, ELEMENTSOF(fds), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }

                if (fds[3].revents != 0)
                        return -ECANCELED;

                r = stream_read(output);
                if (r < 0)
                        return r;
                if (watch && watch->on_output && fds[1].revents != 0)
                        watch->on_output(output->text, watch->userdata);
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

/* In the child: what this process has set up for itself must not go on in another program. Signals
 * that are ignored or blocked here stay so across execve(2). */
static int reset_signals(void) {
        sigset_t none;

        for (int i = 1; i < NSIG; i++)
                (void) signal(i, SIG_DFL);
        sigemptyset(&none);
        return sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child: standard input from /dev/null, the others on the pipes, and nothing else. */
static int set_descriptors(int output_fd, int error_fd) {
        int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        return null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 ||
                               dup2(output_fd, STDOUT_FILENO) < 0 ||
                               dup2(error_fd, STDERR_FILENO) < 0
                       ? -1
                       : close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
}

/* In the child. */
static int set_limit(int resource, uint64_t value) {
        const struct rlimit limit = { value, value };

        return value == 0 ? 0 : setrlimit(resource, &limit);
}

static int set_limits(const ProcessLimits *limits) {
        if (!limits)
                return 0;
        if (set_limit(RLIMIT_AS, limits->memory) < 0 || set_limit(RLIMIT_CPU, limits->cpu_sec) < 0)
                return -1;
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* What becomes a program. */
typedef struct Child {
        const char *const *argv;
        char **environment;
        const ProcessLimits *limits;
        int output_fd, error_fd, failure_fd;
        pid_t parent;
} Child;

/* In the child, where other threads may hold any lock, in memory that is the parent's: system calls
 * only. */
static int become(void *userdata) {
        const Child *c = userdata;
        int failure;

        if (prctl(PR_SET_PDEATHSIG, SIGKILL) >= 0 && getppid() == c->parent &&
            reset_signals() >= 0 && set_descriptors(c->output_fd, c->error_fd) >= 0 &&
            set_limits(c->limits) >= 0)
                execvpe(c->argv[0], (char *const *) c->argv, c->environment);
        failure = errno;
        (void) !write(c->failure_fd, &failure, sizeof(failure));
        _exit(127);
}

/* Why the child could not become the program: 0 if it did, which closes the pipe. */
static int read_failure(int fd) {
        int failure;
        ssize_t n;

        do
                n = read(fd, &failure, sizeof(failure));
        while (n < 0 && errno == EINTR);
        return n == sizeof(failure) ? -failure : 0;
}

static int spawn(const char *const argv[], const ProcessLimits *limits, int output_fd, int error_fd,
                 pid_t *ret_pid) {
        _cleanup_free_ char *stack = malloc(CHILD_STACK_SIZE);
        _cleanup_free_ char **environment = environment_in_c_locale();
        int failure[2], pid, r;

        if (!stack || !environment)
                return -ENOMEM;
        if (pipe2(failure, O_CLOEXEC) < 0)
                return -errno;

        pid = clone(
                become, stack + CHILD_STACK_SIZE, CLONE_VM | CLONE_VFORK | SIGCHLD,
                &(Child){ argv, environment, limits, output_fd, error_fd, failure[1], getpid() });
        r = pid < 0 ? -errno : 0;
        close(failure[1]);
        if (r >= 0)
                r = read_failure(failure[0]);
        close(failure[0]);
        if (r < 0 && pid > 0)
                (void) waitpid(pid, NULL, 0);
        if (r >= 0)
                *ret_pid = pid;
        return r;
}

/* Reads what the child writes and waits for its end. A child that cannot be read is killed, for it
 * must be waited for in any case. */
static int attend(pid_t pid, Stream *output, Stream *error, const ProcessWatch *watch) {
        _cleanup_close_ int pidfd = -EBADF;
        int status, r;

        pidfd = pidfd_open(pid, 0);
        r = pidfd < 0 ? -errno : read_until_exit(pidfd, output, error, watch);
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
        return process_run_watched(argv, NULL, NULL, ret_output, ret_error);
}

int process_run_watched(const char *const argv[], const ProcessWatch *watch,
                        const ProcessLimits *limits, char **ret_output, char **ret_error) {
        _cleanup_stream_ Stream output = { .fd = -EBADF }, error = { .fd = -EBADF };
        _cleanup_close_ int output_fd = -EBADF, error_fd = -EBADF;
        pid_t pid = 0;
        int r, status;

        r = stream_open(&output, &output_fd);
        if (r < 0)
                return r;
        r = stream_open(&error, &error_fd);
        if (r < 0)
                return r;

        r = spawn(argv, limits, output_fd, error_fd, &pid);
        if (r < 0)
                return r;

        /* Ours would keep the pipes from ever ending. */
        close(TAKE_FD(output_fd));
        close(TAKE_FD(error_fd));

        status = attend(pid, &output, &error, watch);
        if (status < 0)
                return status;

        if (ret_output)
                *ret_output = TAKE_PTR(output.text);
        if (ret_error)
                *ret_error = TAKE_PTR(error.text);
        return status;
}
