/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Disk images made and inspected with the real qemu-img, in a folder of their own. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "disk.h"
#include "error.h"
#include "process.h"
#include "test.h"
#include "util.h"

#define _cleanup_error_ _cleanup_(sd_bus_error_free)

#define CHECK_ERROR(expression, error_name)                                                        \
        do {                                                                                       \
                CHECK((expression) < 0);                                                           \
                CHECK_STR(error.name, error_name);                                                 \
        } while (0)

#define CHECK_MENTIONS(text, part)                                                                 \
        do {                                                                                       \
                const char *_t = (text);                                                           \
                if (!_t || !strstr(_t, part))                                                      \
                        printf("# in \"%s\"\n", _t ?: "(null)");                                   \
                CHECK(_t != NULL && strstr(_t, part) != NULL);                                     \
        } while (0)

static char root[64];

/* The path of a file in the test's folder. One of eight buffers in turn. */
static const char *in_root(const char *name) {
        static char buffers[8][256];
        static unsigned next;
        char *buffer = buffers[next++ % ELEMENTSOF(buffers)];

        snprintf(buffer, sizeof(buffers[0]), "%s/%s", root, name);
        return buffer;
}

static void write_file(const char *path, const void *data, size_t n) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        if (write(fd, data, n) != (ssize_t) n)
                abort();
}

static void write_zeros(const char *path, off_t size) {
        write_file(path, "", 0);
        if (truncate(path, size) < 0)
                abort();
}

/* Runs qemu-img with the arguments, up to NULL. */
static int qemu_img(const char *argument, ...) {
        const char *argv[16] = { "qemu-img", argument };
        va_list list;

        va_start(list, argument);
        for (size_t i = 2; i < ELEMENTSOF(argv) - 1 && argv[i - 1]; i++)
                argv[i] = va_arg(list, const char *);
        va_end(list);
        return process_run(argv, NULL, NULL);
}

static bool exists(const char *path) {
        struct stat st;

        return lstat(path, &st) >= 0;
}

TEST(where_images_are) {
        _cleanup_free_ char *folder = NULL, *path = NULL, *home = NULL, *ignored = NULL;
        _cleanup_free_ char *none = NULL;

        CHECK_INT(disk_folder(&folder), 0);
        CHECK_STR(folder, in_root("data/libvirt/images"));
        CHECK_INT(disk_path_for("web", &path), 0);
        CHECK_STR(path, in_root("data/libvirt/images/web.qcow2"));
        CHECK_INT(disk_path_for("../web", &none), -EINVAL);
        CHECK_INT(disk_path_for("", &none), -EINVAL);

        unsetenv("XDG_DATA_HOME");
        setenv("HOME", "/home/somebody", 1);
        CHECK_INT(disk_folder(&home), 0);
        setenv("XDG_DATA_HOME", "relative", 1);
        CHECK_INT(disk_folder(&ignored), 0);
        setenv("XDG_DATA_HOME", in_root("data"), 1);
        CHECK_STR(home, "/home/somebody/.local/share/libvirt/images");
        CHECK_STR(ignored, home);
}

TEST(creates_what_it_can_inspect) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = NULL, *format = NULL, *info = NULL;
        struct stat st;

        CHECK_INT(disk_path_for("web", &path), 0);
        CHECK_INT(disk_create(path, (1 << 20) + 1, &error), 0);
        CHECK(!sd_bus_error_is_set(&error));
        CHECK_INT(stat(path, &st), 0);
        CHECK_INT(st.st_mode & 07777, 0600);
        CHECK_INT(stat(in_root("data/libvirt/images"), &st), 0);
        CHECK_INT(st.st_mode & 07777, 0711);
        CHECK_INT(stat(in_root("data/libvirt"), &st), 0);
        CHECK_INT(st.st_mode & 07777, 0700);

        CHECK_INT(disk_inspect(path, &format, &error), 0);
        CHECK_STR(format, "qcow2");
        CHECK_INT(process_run((const char *const[]){ "qemu-img", "info", path, NULL }, &info, NULL),
                  0);
        CHECK_MENTIONS(info, "(1049088 bytes)"); /* 1 MiB and a sector */
}

TEST(overwrites_nothing) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *path = in_root("precious");
        struct stat st;

        write_file(path, "precious", 8);
        CHECK_ERROR(disk_create(path, 1 << 20, &error), USERVM_ERROR_IMAGE_UNUSABLE);
        CHECK_MENTIONS(error.message, path);
        CHECK_INT(stat(path, &st), 0);
        CHECK_INT(st.st_size, 8);
}

TEST(follows_no_dangling_link) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        CHECK_INT(symlink(in_root("target"), in_root("dangling")), 0);
        CHECK_ERROR(disk_create(in_root("dangling"), 1 << 20, &error), USERVM_ERROR_IMAGE_UNUSABLE);
        CHECK(!exists(in_root("target")));
}

TEST(larger_than_the_free_space) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        CHECK_INT(disk_create(in_root("large"), 1ULL << 42, &error), 0);
        CHECK(exists(in_root("large")));
}

TEST(sizes_that_cannot_be) {
        static const uint64_t sizes[] = { UINT64_MAX, (uint64_t) INT64_MAX + 1, INT64_MAX,
                                          INT64_MAX - 1024, 1ULL << 62 };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

                CHECK_ERROR(disk_create(in_root("huge"), sizes[i], &error),
                            USERVM_ERROR_IMAGE_UNUSABLE);
                CHECK_MENTIONS(error.message, in_root("huge"));
                CHECK(!exists(in_root("huge")));
        }
}

TEST(size_zero) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        CHECK_ERROR(disk_create(in_root("zero"), 0, &error), SD_BUS_ERROR_INVALID_ARGS);
        CHECK(!exists(in_root("zero")));
}

TEST(folder_that_cannot_be) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        write_file(in_root("file"), "", 0);
        CHECK_INT(disk_create(in_root("file/sub/disk"), 1 << 20, &error), -ENOTDIR);
        CHECK_MENTIONS(error.message, "Not a directory");
}

TEST(odd_names) {
        static const char *const names[] = { "-o",        "nbd:x", "a,b=c",      "json:{}",
                                             "two words", "%s%n",  "\xc3\xa4'\"" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
                _cleanup_free_ char *format = NULL;

                CHECK_INT(disk_create(in_root(names[i]), 1 << 20, &error), 0);
                CHECK_INT(disk_inspect(in_root(names[i]), &format, &error), 0);
                CHECK_STR(format, "qcow2");
        }
}

TEST(without_qemu_img) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = strdup(getenv("PATH")), *format = NULL;
        int r;

        setenv("PATH", root, 1);
        r = disk_create(in_root("no-tool"), 1 << 20, &error);
        setenv("PATH", path, 1);
        CHECK_ERROR(r, USERVM_ERROR_NOT_SUPPORTED);
        CHECK_MENTIONS(error.message, "qemu-utils");
        CHECK(!exists(in_root("no-tool")));
        CHECK(!format);
}

/* Inspects what must be refused and checks that the message has both parts. */
static void refused(const char *path, const char *name, const char *part) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        char *format = NULL;

        CHECK_ERROR(disk_inspect(path, &format, &error), name);
        CHECK(!format);
        CHECK_MENTIONS(error.message, path);
        CHECK_MENTIONS(error.message, part);
}

TEST(raw_image) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *format = NULL;

        write_zeros(in_root("raw"), 4096);
        CHECK_INT(disk_inspect(in_root("raw"), &format, &error), 0);
        CHECK_STR(format, "raw");
}

TEST(what_is_no_image) {
        write_file(in_root("text"), "hello", 5);
        refused(in_root("text"), USERVM_ERROR_IMAGE_UNUSABLE, "5 bytes");
        write_file(in_root("empty"), "", 0);
        refused(in_root("empty"), USERVM_ERROR_IMAGE_UNUSABLE, "empty");
        refused(root, USERVM_ERROR_IMAGE_UNUSABLE, "folder");
        refused("/dev/null", USERVM_ERROR_IMAGE_UNUSABLE, "not a regular file");
        CHECK_INT(mkfifo(in_root("fifo"), 0600), 0);
        refused(in_root("fifo"), USERVM_ERROR_IMAGE_UNUSABLE, "not a regular file");
        refused(in_root("nothing"), USERVM_ERROR_IMAGE_NOT_FOUND, "no disk");
        refused(in_root("text/x"), USERVM_ERROR_IMAGE_NOT_FOUND, "no disk");
        refused("relative", SD_BUS_ERROR_INVALID_ARGS, "absolute");
        refused("", SD_BUS_ERROR_INVALID_ARGS, "absolute");
}

TEST(formats_that_are_not_taken) {
        CHECK_INT(qemu_img("create", "-q", "-f", "vmdk", in_root("x.vmdk"), "1M", NULL), 0);
        refused(in_root("x.vmdk"), USERVM_ERROR_IMAGE_UNUSABLE, "vmdk; only qcow2 and raw");
        refused(in_root("x.vmdk"), USERVM_ERROR_IMAGE_UNUSABLE, "qemu-img convert -O qcow2");
        CHECK_INT(qemu_img("create", "-q", "-f", "vdi", in_root("x.vdi"), "1M", NULL), 0);
        refused(in_root("x.vdi"), USERVM_ERROR_IMAGE_UNUSABLE, "vdi");
}

TEST(encrypted_image) {
        _cleanup_close_ int fd = -EBADF;

        /* crypt_method, the last of four bytes from 32: AES. (Making a LUKS image means to measure
         * the machine's speed first, which fails on a busy one.) */
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", in_root("encrypted"), "1M", NULL), 0);
        fd = open(in_root("encrypted"), O_WRONLY | O_CLOEXEC);
        CHECK_INT(pwrite(fd, "\x01", 1, 32 + 3), 1);
        refused(in_root("encrypted"), USERVM_ERROR_IMAGE_UNUSABLE, "encrypted");
}

TEST(broken_qcow2) {
        char header[1024] = "QFI\xfb\0\0\0\x63"; /* version 99 */
        _cleanup_close_ int fd = -EBADF;

        write_file(in_root("future"), header, sizeof(header));
        refused(in_root("future"), USERVM_ERROR_IMAGE_UNUSABLE, "version");

        /* The second bit of incompatible_features, at byte 72: corrupt. */
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", in_root("corrupt"), "1M", NULL), 0);
        fd = open(in_root("corrupt"), O_WRONLY | O_CLOEXEC);
        CHECK_INT(pwrite(fd, "\x02", 1, 72 + 7), 1);
        refused(in_root("corrupt"), USERVM_ERROR_IMAGE_UNUSABLE, "qemu-img check");
}

TEST(backing_chain) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *format = NULL;

        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", in_root("base"), "1M", NULL), 0);
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2",
                           in_root("middle"), NULL),
                  0);
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", "-b", in_root("middle"), "-F", "qcow2",
                           in_root("top"), NULL),
                  0);
        CHECK_INT(disk_inspect(in_root("top"), &format, &error), 0);
        CHECK_STR(format, "qcow2");

        CHECK_INT(unlink(in_root("base")), 0);
        refused(in_root("middle"), USERVM_ERROR_IMAGE_UNUSABLE, in_root("base"));
        refused(in_root("top"), USERVM_ERROR_IMAGE_UNUSABLE, in_root("base"));
}

TEST(image_in_use) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *format = NULL;
        struct flock lock = {
                .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 200
        };
        _cleanup_close_ int fd = -EBADF;

        /* QEMU locks bytes 100 and up, of the file description. */
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", in_root("used"), "1M", NULL), 0);
        fd = open(in_root("used"), O_RDWR | O_CLOEXEC);
        CHECK_INT(fcntl(fd, F_OFD_SETLK, &lock), 0);
        CHECK(qemu_img("info", in_root("used"), NULL) > 0);
        CHECK_INT(disk_inspect(in_root("used"), &format, &error), 0);
}

TEST(permissions) {
        /* Root is refused nothing. */
        if (geteuid() == 0)
                return;

        write_zeros(in_root("locked"), 4096);
        CHECK_INT(chmod(in_root("locked"), 0), 0);
        refused(in_root("locked"), USERVM_ERROR_IMAGE_UNUSABLE, "permission to read");
        CHECK_INT(chmod(in_root("locked"), 0400), 0);
        refused(in_root("locked"), USERVM_ERROR_IMAGE_UNUSABLE, "permission to write");

        CHECK_INT(mkdir(in_root("closed"), 0700), 0);
        write_zeros(in_root("closed/raw"), 4096);
        CHECK_INT(chmod(in_root("closed"), 0), 0);
        refused(in_root("closed/raw"), USERVM_ERROR_IMAGE_UNUSABLE, "permission to search");
        CHECK_INT(chmod(in_root("closed"), 0700), 0);
}

TEST(readable_files) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL, missing = SD_BUS_ERROR_NULL;
        _cleanup_error_ sd_bus_error relative = SD_BUS_ERROR_NULL, folder = SD_BUS_ERROR_NULL;

        write_file(in_root("vmlinuz"), "kernel", 6);
        CHECK_INT(chmod(in_root("vmlinuz"), 0400), 0);
        CHECK_INT(disk_check_readable("kernel", in_root("vmlinuz"), &error), 0);
        CHECK_INT(disk_check_readable("cdrom", in_root("vmlinuz"), &error), 0);

        CHECK(disk_check_readable("initrd", in_root("nothing"), &missing) < 0);
        CHECK_STR(missing.name, USERVM_ERROR_IMAGE_NOT_FOUND);
        CHECK_MENTIONS(missing.message, "initrd");
        CHECK(disk_check_readable("cdrom", "a.iso", &relative) < 0);
        CHECK_STR(relative.name, SD_BUS_ERROR_INVALID_ARGS);
        CHECK_MENTIONS(relative.message, "cdrom");
        CHECK(disk_check_readable("kernel", root, &folder) < 0);
        CHECK_STR(folder.name, USERVM_ERROR_IMAGE_UNUSABLE);
}

TEST(removes_its_own_only) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = NULL;

        CHECK_INT(disk_path_for("gone", &path), 0);
        CHECK_INT(disk_create(path, 1 << 20, &error), 0);
        CHECK_INT(disk_remove(path, &error), 0);
        CHECK(!exists(path));
        CHECK_INT(disk_remove(path, &error), 0);

        write_file(in_root("mine"), "", 0);
        CHECK_INT(disk_remove(in_root("mine"), &error), 0);
        CHECK_INT(disk_remove(in_root("data/libvirt/images/../../../mine"), &error), 0);
        CHECK(exists(in_root("mine")));

        CHECK_INT(symlink(in_root("mine"), path), 0);
        CHECK_INT(disk_remove(path, &error), 0);
        CHECK(exists(path) && exists(in_root("mine")));
        CHECK_INT(unlink(path), 0);

        CHECK_INT(mkdir(path, 0700), 0);
        CHECK_INT(disk_remove(path, &error), 0);
        CHECK(exists(path));
        CHECK_INT(rmdir(path), 0);
        CHECK_INT(disk_remove("relative", &error), 0);
        CHECK_INT(disk_remove(in_root("data/libvirt/images/"), &error), 0);
        CHECK_INT(disk_remove(in_root("no/such/folder/x"), &error), 0);
        CHECK(!sd_bus_error_is_set(&error));

        /* The same folder by another way is still the same. */
        write_file(path, "", 0);
        CHECK_INT(symlink(in_root("data/libvirt/images"), in_root("images")), 0);
        CHECK_INT(disk_remove(in_root("images/gone.qcow2"), &error), 0);
        CHECK(!exists(path));
}

static void *create_in_thread(void *arg) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        return disk_create(arg, 1 << 20, &error) == 0 ? arg : NULL;
}

TEST(one_of_many_at_once_creates_it) {
        pthread_t threads[8];
        size_t made = 0;
        char *path = strdup(in_root("contested"));
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *format = NULL;

        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                pthread_create(&threads[i], NULL, create_in_thread, path);
        for (size_t i = 0; i < ELEMENTSOF(threads); i++) {
                void *result;

                pthread_join(threads[i], &result);
                made += result != NULL;
        }
        free(path);
        CHECK_INT(made, 1);
        CHECK_INT(disk_inspect(in_root("contested"), &format, &error), 0);
}

TEST(leaves_nothing_behind) {
        CHECK_INT(process_run((const char *const[]){ "rm", "-rf", root, NULL }, NULL, NULL), 0);
}

TEST(begins_in_a_folder_of_its_own) {
        snprintf(root, sizeof(root), "/tmp/uservm-test-disk-XXXXXX");
        CHECK(mkdtemp(root));
        setenv("XDG_DATA_HOME", in_root("data"), 1);
        umask(022);
}

TEST_MAIN(begins_in_a_folder_of_its_own, where_images_are, creates_what_it_can_inspect,
          overwrites_nothing, follows_no_dangling_link, larger_than_the_free_space,
          sizes_that_cannot_be, size_zero, folder_that_cannot_be, odd_names, without_qemu_img,
          raw_image, what_is_no_image, formats_that_are_not_taken, encrypted_image, broken_qcow2,
          backing_chain, image_in_use, permissions, readable_files, removes_its_own_only,
          one_of_many_at_once_creates_it, leaves_nothing_behind)
