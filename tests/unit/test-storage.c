/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* New files of VMs: hidden until they are complete, and nothing that was there before is touched.
 */

#include <errno.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "storage.h"
#include "test-files.h"

#define UUID_A "00000000-0000-4000-8000-00000000000a"
#define UUID_B "00000000-0000-4000-8000-00000000000b"

static char *in_storage(const char *name) {
        _cleanup_free_ char *folder = NULL;
        char *path = NULL;

        if (storage_folder(&folder) < 0 || asprintf(&path, "%s/%s", folder, name) < 0)
                abort();
        return path;
}

static bool stored(const char *name) {
        _cleanup_free_ char *path = in_storage(name);

        return exists(path);
}

TEST(where_it_is) {
        _cleanup_free_ char *folder = NULL, *home = NULL, *ignored = NULL;

        CHECK_INT(storage_folder(&folder), 0);
        CHECK_STR(folder, in_root("data/libvirt/images"));

        unsetenv("XDG_DATA_HOME");
        setenv("HOME", "/home/somebody", 1);
        CHECK_INT(storage_folder(&home), 0);
        setenv("XDG_DATA_HOME", "relative", 1);
        CHECK_INT(storage_folder(&ignored), 0);
        setenv("XDG_DATA_HOME", in_root("data"), 1);
        CHECK_STR(home, "/home/somebody/.local/share/libvirt/images");
        CHECK_STR(ignored, home);
}

TEST(free_space_before_there_is_a_folder) {
        uint64_t space = 0;

        CHECK(!exists(in_root("data")));
        CHECK_INT(storage_free_space(&space), 0);
        CHECK(space > 0);
        CHECK(!exists(in_root("data")));
}

TEST(hidden_until_committed) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_storage_ Storage s = { .uuid = UUID_A };
        const NewFile *file;
        struct stat st;

        CHECK_INT(storage_add(&s, "web.qcow2", &file, &error), 0);
        CHECK(!stored("web.qcow2"));
        CHECK_INT(stat(file->temporary, &st), 0);
        CHECK_INT(st.st_mode & 07777, 0600);
        CHECK_INT(stat(in_root("data/libvirt/images"), &st), 0);
        CHECK_INT(st.st_mode & 07777, 0711);
        CHECK_INT(stat(in_root("data/libvirt"), &st), 0);
        CHECK_INT(st.st_mode & 07777, 0700);

        CHECK_INT(storage_add(&s, "web.seed.iso", &file, &error), 0);
        CHECK_INT(storage_commit(&s, &error), 0);
        CHECK(stored("web.qcow2") && stored("web.seed.iso"));
        CHECK(!stored(".uservm-" UUID_A ".web.qcow2"));
}

TEST(a_folder_that_everybody_can_write_to_is_refused) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_storage_ Storage s = { .uuid = UUID_A }, sticky = { .uuid = UUID_A };
        _cleanup_free_ char *folder = in_storage("");
        const NewFile *file;

        CHECK_INT(chmod(folder, 0777), 0);
        CHECK_ERROR(storage_add(&s, "a", &file, &error), USERVM_ERROR_IMAGE_UNUSABLE);
        CHECK_MENTIONS(error.message, "chmod o-w");
        CHECK_INT(chmod(folder, 01777), 0);
        CHECK_INT(storage_add(&sticky, "a", &file, NULL), 0);
        CHECK_INT(chmod(folder, 0711), 0);
}

TEST(what_is_not_committed_goes) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        Storage s = { .uuid = UUID_B };
        const NewFile *file;

        CHECK_INT(storage_add(&s, "db.qcow2", &file, &error), 0);
        storage_done(&s);
        CHECK(!stored(".uservm-" UUID_B ".db.qcow2") && !stored("db.qcow2"));
}

TEST(what_is_undone_goes) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        Storage s = { .uuid = UUID_B };
        const NewFile *file;

        CHECK_INT(storage_add(&s, "db.qcow2", &file, &error), 0);
        CHECK_INT(storage_commit(&s, &error), 0);
        CHECK(stored("db.qcow2"));
        storage_undo(&s);
        CHECK(!stored("db.qcow2"));
}

TEST(overwrites_nothing) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_storage_ Storage s = { .uuid = UUID_B };
        _cleanup_free_ char *precious = in_storage("precious.qcow2");
        const NewFile *file;

        write_file(precious, "precious", 8);
        CHECK_ERROR(storage_add(&s, "precious.qcow2", &file, &error), USERVM_ERROR_IMAGE_UNUSABLE);
        CHECK_MENTIONS(error.message, precious);
        CHECK(!stored(".uservm-" UUID_B ".precious.qcow2"));
}

TEST(follows_no_dangling_link) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_storage_ Storage s = { .uuid = UUID_B };
        _cleanup_free_ char *dangling = in_storage("dangling.qcow2");
        const NewFile *file;

        CHECK_INT(symlink(in_root("target"), dangling), 0);
        CHECK_ERROR(storage_add(&s, "dangling.qcow2", &file, &error), USERVM_ERROR_IMAGE_UNUSABLE);
        CHECK(!exists(in_root("target")));
        CHECK_INT(unlink(dangling), 0);
}

/* Somebody takes one of the names meanwhile: then all are taken back. */
TEST(all_names_or_none) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *late = in_storage("late.iso");
        Storage s = { .uuid = UUID_B };
        const NewFile *file;

        CHECK_INT(storage_add(&s, "late.qcow2", &file, &error), 0);
        CHECK_INT(storage_add(&s, "late.iso", &file, &error), 0);
        write_file(late, "theirs", 6);
        CHECK_ERROR(storage_commit(&s, &error), USERVM_ERROR_IMAGE_UNUSABLE);
        CHECK(!stored("late.qcow2") && stored("late.iso"));
        storage_done(&s);
        CHECK(stored("late.iso"));
        CHECK(!stored(".uservm-" UUID_B ".late.qcow2"));
        CHECK_INT(unlink(late), 0);
}

TEST(folder_that_cannot_be) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_storage_ Storage s = { .uuid = UUID_A };
        const NewFile *file;

        write_file(in_root("file"), "", 0);
        setenv("XDG_DATA_HOME", in_root("file/sub"), 1);
        CHECK_INT(storage_add(&s, "web.qcow2", &file, &error), -ENOTDIR);
        setenv("XDG_DATA_HOME", in_root("data"), 1);
        CHECK_MENTIONS(error.message, "Not a directory");
}

/* A maker that is killed leaves files, of a VM that is defined (A) and of one that is not (B); one
 * that lives has its file locked. */
TEST(cleans_up_after_one_that_was_killed) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_storage_ Storage living = { .uuid = UUID_B };
        _cleanup_free_ char *mine = in_storage(".uservm-notes");
        char *const defined[] = { (char *) UUID_A, NULL };
        const NewFile *file;
        pid_t pid;

        pid = fork();
        if (pid == 0) {
                Storage a = { .uuid = UUID_A }, b = { .uuid = UUID_B };

                _exit(storage_add(&a, "defined.qcow2", &file, NULL) < 0 ||
                      storage_add(&b, "half.qcow2", &file, NULL) < 0);
        }
        CHECK_INT(waitpid(pid, NULL, 0), pid);
        CHECK(stored(".uservm-" UUID_A ".defined.qcow2") &&
              stored(".uservm-" UUID_B ".half.qcow2"));
        CHECK_INT(storage_add(&living, "living.qcow2", &file, &error), 0);
        write_file(mine, "", 0);

        storage_clean_up(defined);
        CHECK(stored("defined.qcow2") && !stored(".uservm-" UUID_A ".defined.qcow2"));
        CHECK(!stored("half.qcow2") && !stored(".uservm-" UUID_B ".half.qcow2"));
        CHECK(stored(".uservm-" UUID_B ".living.qcow2"));
        CHECK(exists(mine));
        CHECK_INT(storage_commit(&living, &error), 0);
}

TEST(withdraws_its_own_only) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = in_storage("gone.qcow2");
        Storage s = { .uuid = UUID_A };

        write_file(in_root("mine"), "", 0);
        CHECK_INT(storage_withdraw(&s, path, &error), 0);
        CHECK_INT(storage_withdraw(&s, in_root("mine"), &error), 0);
        CHECK_INT(storage_withdraw(&s, in_root("data/libvirt/images/../../../mine"), &error), 0);
        CHECK(exists(in_root("mine")));

        CHECK_INT(symlink(in_root("mine"), path), 0);
        CHECK_INT(storage_withdraw(&s, path, &error), 0);
        CHECK(exists(path) && exists(in_root("mine")));
        CHECK_INT(unlink(path), 0);

        CHECK_INT(mkdir(path, 0700), 0);
        CHECK_INT(storage_withdraw(&s, path, &error), 0);
        CHECK(exists(path));
        CHECK_INT(rmdir(path), 0);
        CHECK_INT(storage_withdraw(&s, "relative", &error), 0);
        CHECK_INT(storage_withdraw(&s, in_root("data/libvirt/images/"), &error), 0);
        CHECK_INT(storage_withdraw(&s, in_root("no/such/folder/x"), &error), 0);
        CHECK(!sd_bus_error_is_set(&error));
        storage_done(&s);
}

/* It goes, or is there again; the same folder by another way is still the same. */
TEST(what_is_withdrawn_is_hidden) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = in_storage("back.qcow2");
        Storage s = { .uuid = UUID_A };

        write_file(path, "back", 4);
        CHECK_INT(symlink(in_root("data/libvirt/images"), in_root("images")), 0);
        CHECK_INT(storage_withdraw(&s, in_root("images/back.qcow2"), &error), 1);
        CHECK(!exists(path) && stored(".uservm-" UUID_A ".back.qcow2"));
        storage_restore(&s);
        CHECK(exists(path) && !stored(".uservm-" UUID_A ".back.qcow2"));

        s = (Storage){ .uuid = UUID_A };
        CHECK_INT(storage_withdraw(&s, path, &error), 1);
        storage_done(&s);
        CHECK(!exists(path) && !stored(".uservm-" UUID_A ".back.qcow2"));
}

/* Somebody has taken its name: neither file goes. */
TEST(what_cannot_be_restored_stays) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = in_storage("back.qcow2");
        _cleanup_free_ char *hidden = in_storage(".uservm-" UUID_A ".back.qcow2");
        Storage s = { .uuid = UUID_A };

        write_file(path, "ours", 4);
        CHECK_INT(storage_withdraw(&s, path, &error), 1);
        write_file(path, "theirs", 6);
        storage_restore(&s);
        CHECK(exists(path) && exists(hidden));
        CHECK_INT(unlink(path), 0);
        CHECK_INT(unlink(hidden), 0);
}

static void *add_in_thread(void *arg) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_storage_ Storage s = { .uuid = arg };
        const NewFile *file;

        return storage_add(&s, "contested.qcow2", &file, &error) == 0 &&
                               storage_commit(&s, &error) == 0
                       ? arg
                       : NULL;
}

TEST(one_of_many_at_once_gets_the_name) {
        static char uuids[8][40];
        pthread_t threads[ELEMENTSOF(uuids)];
        size_t made = 0;

        for (size_t i = 0; i < ELEMENTSOF(threads); i++) {
                snprintf(uuids[i], sizeof(uuids[i]), "00000000-0000-4000-8000-%012zu", i);
                pthread_create(&threads[i], NULL, add_in_thread, uuids[i]);
        }
        for (size_t i = 0; i < ELEMENTSOF(threads); i++) {
                void *result;

                pthread_join(threads[i], &result);
                made += result != NULL;
        }
        CHECK_INT(made, 1);
        CHECK(stored("contested.qcow2"));
}

TEST_MAIN(begins_in_a_folder_of_its_own, where_it_is, free_space_before_there_is_a_folder,
          hidden_until_committed, a_folder_that_everybody_can_write_to_is_refused,
          what_is_not_committed_goes, what_is_undone_goes, overwrites_nothing,
          follows_no_dangling_link, all_names_or_none, folder_that_cannot_be,
          cleans_up_after_one_that_was_killed, withdraws_its_own_only, what_is_withdrawn_is_hidden,
          what_cannot_be_restored_stays, one_of_many_at_once_gets_the_name, leaves_nothing_behind)
