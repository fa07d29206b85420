/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Runs a fuzz target over inputs that are kept: seeds, and what fuzzing has found. A test program
 * like those of tests/unit/, with a line of TAP an input.
 *
 *     fuzz-NAME            all of $FUZZ_CORPUS/NAME
 *     fuzz-NAME FILE...    these */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "fuzz.h"

static int read_file(const char *path, uint8_t **ret, size_t *ret_size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        _cleanup_free_ uint8_t *data = NULL;
        struct stat st;
        size_t size = 0;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        /* Of exactly this size, so that the address sanitizer sees who reads on. */
        size = (size_t) st.st_size;
        data = malloc(size);
        if (!data)
                return -ENOMEM;
        if (read(fd, data, size) != st.st_size)
                return -EIO;

        *ret = TAKE_PTR(data);
        *ret_size = size;
        return 0;
}

/* The name first, because a finding ends the process. */
static int run_file(const char *path, size_t number) {
        _cleanup_free_ uint8_t *data = NULL;
        size_t size = 0;
        int r;

        printf("# %s\n", path);
        fflush(stdout);
        r = read_file(path, &data, &size);
        if (r < 0) {
                printf("not ok %zu - %s: %s\n", number, path, strerror(-r));
                return r;
        }
        LLVMFuzzerTestOneInput(data, size);
        printf("ok %zu - %s\n", number, basename(path));
        return 0;
}

static int run_files(char *const *paths, size_t n) {
        int result = EXIT_SUCCESS;

        printf("1..%zu\n", n);
        for (size_t i = 0; i < n; i++)
                if (run_file(paths[i], i + 1) < 0)
                        result = EXIT_FAILURE;
        return result;
}

static int is_visible(const struct dirent *entry) {
        return entry->d_name[0] != '.';
}

/* Takes names over. */
static int run_folder(const char *folder, struct dirent **names, size_t n) {
        char **paths = new0(char *, n + 1);
        int result = EXIT_FAILURE;

        if (paths) {
                for (size_t i = 0; i < n; i++)
                        INVARIANT(asprintf(&paths[i], "%s/%s", folder, names[i]->d_name) > 0);
                result = run_files(paths, n);
        }
        strv_free(paths);
        for (size_t i = 0; i < n; i++)
                free(names[i]);
        free(names);
        return result;
}

int main(int argc, char *argv[]) {
        const char *corpus = getenv("FUZZ_CORPUS");
        const char *name = startswith(basename(argv[0]), "fuzz-");
        _cleanup_free_ char *folder = NULL;
        struct dirent **names;
        int n;

        if (argc > 1)
                return run_files(argv + 1, (size_t) argc - 1);

        if (!corpus || !name || asprintf(&folder, "%s/%s", corpus, name) < 0)
                return EXIT_FAILURE;
        n = scandir(folder, &names, is_visible, alphasort);
        if (n <= 0) {
                printf("Bail out! There is nothing in %s\n", folder);
                return EXIT_FAILURE;
        }
        return run_folder(folder, names, (size_t) n);
}
