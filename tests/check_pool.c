/* SPDX-License-Identifier: BSD-2-Clause */

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/chunkmap.h"
#include "engine/pool.h"
#include "engine/pool_mount.h"

#define STATE_A "00000000-0000-4000-8000-00000000000a"
#define STATE_B "00000000-0000-4000-8000-00000000000b"

static char dir[32];
static char path[64]; /* of the pool */
static char error[2048];

static void setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/check_pool.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/pool", dir);
}

static void teardown(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static struct pool *open_pool(void)
{
	struct pool *pool = NULL;
	int r = pool_open("tank", path, STATE_A, &pool, error, sizeof(error));

	ck_assert_msg(r == 0, "%s", error);
	return pool;
}

static int open_fails(const char *state_id)
{
	struct pool *pool;
	int r = pool_open("tank", path, state_id, &pool, error, sizeof(error));

	ck_assert_int_lt(r, 0);
	ck_assert_ptr_nonnull(strstr(error, "pool tank"));
	ck_assert_ptr_nonnull(strstr(error, path));
	return r;
}

static bool stat_of(struct pool *pool, const char *file, struct stat *st)
{
	return fstatat(pool_dirfd(pool), file, st, 0) == 0;
}

static void touch(struct pool *pool, const char *file)
{
	close(openat(pool_dirfd(pool), file, O_WRONLY | O_CREAT, 0600));
}

START_TEST(opening_makes_the_directory_and_tells_names)
{
	struct pool *pool = open_pool();
	uint64_t total, free_bytes;
	struct stat st;

	ck_assert_str_eq(pool_name(pool), "tank");
	ck_assert_str_eq(pool_path(pool), path);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	ck_assert_int_eq(pool_space(pool, &total, &free_bytes), 0);
	ck_assert_uint_gt(total, 0);
	ck_assert_uint_le(free_bytes, total);
	ck_assert(!stat_of(pool, "lunfs.probe", &st));
	pool_close(pool);
	pool_close(NULL);
}
END_TEST

START_TEST(a_missing_parent_is_refused)
{
	snprintf(path, sizeof(path), "%s/no/pool", dir);
	ck_assert_int_eq(open_fails(STATE_A), -ENOENT);
}
END_TEST

START_TEST(a_file_is_no_pool)
{
	close(open(path, O_WRONLY | O_CREAT, 0600));
	ck_assert_int_eq(open_fails(STATE_A), -ENOTDIR);
}
END_TEST

START_TEST(another_daemon_is_refused_while_it_is_open)
{
	struct pool *pool = open_pool();
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct pool *second;

		_exit(pool_open("tank", path, STATE_A, &second, error, sizeof(error)) ==
					      -EBUSY &&
				      strstr(error, "in use") ?
			      0 :
			      1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	pool_close(pool);
	pool_close(open_pool());
}
END_TEST

START_TEST(another_state_store_is_refused)
{
	pool_close(open_pool());
	ck_assert_int_eq(open_fails(STATE_B), -EBUSY);
	ck_assert_ptr_nonnull(strstr(error, STATE_A));
	ck_assert_ptr_nonnull(strstr(error, STATE_B));
	pool_close(open_pool());
}
END_TEST

START_TEST(an_owner_file_that_is_still_empty_is_taken)
{
	char file[128], text[64] = "";
	int fd;

	mkdir(path, 0700);
	snprintf(file, sizeof(file), "%s/lunfs.pool", path);
	close(open(file, O_WRONLY | O_CREAT, 0600));
	pool_close(open_pool());
	fd = open(file, O_RDONLY);
	ck_assert_int_eq(read(fd, text, sizeof(text) - 1), 37);
	ck_assert_str_eq(text, STATE_A "\n");
	close(fd);
}
END_TEST

START_TEST(an_image_is_sparse_and_has_its_map)
{
	struct chunkmap_params params = { .id = 12,
					  .generation = 5,
					  .size = (UINT64_C(1) << 30) + 512,
					  .chunk_size = POOL_CHUNK_SIZE };
	struct pool *pool = open_pool();
	struct chunkmap *map;
	struct stat st;

	ck_assert_int_eq(pool_create_image(pool, 12, params.size, 5, false), 0);
	ck_assert_int_eq(pool_sync(pool), 0);
	ck_assert(stat_of(pool, "e12.raw", &st));
	ck_assert_int_eq(st.st_size, params.size);
	ck_assert_int_lt(st.st_blocks, 64);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(chunkmap_open(pool_dirfd(pool), "e12.5.map", &params, &map), 0);
	chunkmap_close(map);
	pool_close(pool);
}
END_TEST

START_TEST(reserve_allocates_the_space)
{
	struct pool *pool = open_pool();
	struct stat st;
	int r = pool_create_image(pool, 1, 1 << 20, 1, true);

	if (r == -EOPNOTSUPP) {
		puts("skipped: the file system of /tmp has no fallocate()");
	} else {
		ck_assert_int_eq(r, 0);
		ck_assert(stat_of(pool, "e1.raw", &st));
		ck_assert_int_ge(st.st_blocks * 512, 1 << 20);
	}
	pool_close(pool);
}
END_TEST

START_TEST(what_cannot_be_reserved_leaves_nothing)
{
	struct pool *pool = open_pool();
	struct stat st;

	ck_assert_int_lt(pool_create_image(pool, 1, UINT64_C(1) << 62, 1, true), 0);
	ck_assert(!stat_of(pool, "e1.raw", &st));
	ck_assert(!stat_of(pool, "e1.map", &st));
	ck_assert_int_eq(pool_create_image(pool, 1, UINT64_MAX, 1, false), -EFBIG);
	pool_close(pool);
}
END_TEST

START_TEST(files_left_by_a_crash_are_replaced)
{
	struct pool *pool = open_pool();
	struct stat st;
	int fd;

	fd = openat(pool_dirfd(pool), "e3.raw", O_WRONLY | O_CREAT, 0600);
	ck_assert_int_eq(write(fd, "old", 3), 3);
	close(fd);
	touch(pool, "e3.map");
	ck_assert_int_eq(pool_create_image(pool, 3, 4096, 1, false), 0);
	ck_assert(stat_of(pool, "e3.raw", &st));
	ck_assert_int_eq(st.st_size, 4096);
	ck_assert_int_eq(st.st_blocks, 0);
	pool_close(pool);
}
END_TEST

START_TEST(images_open_and_go)
{
	struct pool *pool = open_pool();
	struct stat st;
	int fd;

	ck_assert_int_eq(pool_open_image(pool, 4, O_RDWR), -ENOENT);
	ck_assert_int_eq(pool_create_image(pool, 4, 8192, 1, false), 0);
	fd = pool_open_image(pool, 4, O_RDWR);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(fd);
	if (pool_has_direct_io(pool)) {
		fd = pool_open_image(pool, 4, O_RDWR | O_DIRECT);
		ck_assert_int_ge(fd, 0);
		close(fd);
	}
	ck_assert_int_eq(pool_remove_map(pool, 4, 1), 0);
	ck_assert_int_eq(pool_remove_map(pool, 4, 1), 0);
	ck_assert(!stat_of(pool, "e4.map", &st));
	ck_assert_int_eq(pool_remove_image(pool, 4, 1), 0);
	ck_assert_int_eq(pool_remove_image(pool, 4, 1), 0);
	ck_assert(!stat_of(pool, "e4.raw", &st));
	pool_close(pool);
}
END_TEST

/* Also for an owner who is not root, whom the mode binds. */
static void published_image_is_writable_for_lunfs(void)
{
	struct pool *pool = open_pool();
	struct stat st;
	int fd;

	ck_assert_int_eq(pool_create_image(pool, 4, 8192, 1, false), 0);
	ck_assert_int_eq(pool_publish_image(pool, 4, geteuid(), getegid()), 0);
	fd = pool_open_image(pool, 4, O_RDWR);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, "x", 1, 0), 1);
	close(fd);
	ck_assert(stat_of(pool, "e4.raw", &st));
	ck_assert_uint_eq(st.st_mode & 0777, 0440);
	pool_close(pool);
}

START_TEST(a_published_image_is_read_only_but_for_lunfs)
{
	int status;
	pid_t pid;

	if (geteuid() != 0) {
		published_image_is_writable_for_lunfs();
		return;
	}
	ck_assert_int_eq(chown(dir, 65534, 65534), 0);
	pid = fork();
	if (pid == 0) {
		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(1);
		published_image_is_writable_for_lunfs();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

static bool is_known(void *opaque, const struct pool_entry *file)
{
	(void)opaque;
	if (file->is_point)
		return file->id == 7;
	return (file->id == 10 || file->id == UINT64_MAX) && file->generation <= 3;
}

START_TEST(a_sweep_removes_what_no_row_names_and_nothing_else)
{
	static const char *const kept[] = { "e10.raw",
					    "e10.map",
					    "e10.3.map",
					    "e10.04.map",
					    "e10.5.raw",
					    "p7.raw",
					    "p7.map",
					    "p08.raw",
					    "e18446744073709551615.raw",
					    "e011.raw",
					    "e11.raw.bak",
					    "e0.raw",
					    "e-1.raw",
					    "x11.raw",
					    "e11",
					    "e99999999999999999999.raw" };
	static const char *const swept[] = { "e11.raw",  "e11.map",	"e1.raw",
					     "e100.map", "e10.4.map",	"e11.3.map",
					     "p10.raw",	 "p77.map" };
	struct pool *pool = open_pool();
	struct stat st;
	size_t i;

	for (i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		touch(pool, kept[i]);
	for (i = 0; i < sizeof(swept) / sizeof(swept[0]); i++)
		touch(pool, swept[i]);
	ck_assert_int_eq(pool_sweep(pool, is_known, NULL), 8);
	for (i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		ck_assert(stat_of(pool, kept[i], &st));
	for (i = 0; i < sizeof(swept) / sizeof(swept[0]); i++)
		ck_assert(!stat_of(pool, swept[i], &st));
	ck_assert(stat_of(pool, "lunfs.pool", &st));
	ck_assert_int_eq(pool_sweep(pool, is_known, NULL), 0);
	pool_close(pool);
}
END_TEST

/*
 * Own mounts.  In a made-up /proc and /sys, the mount of /proc (which is there
 * everywhere and is not that of /tmp) plays the LunFS mount.
 */

static int mount_id_of(const char *name)
{
	char fdinfo[64], line[128];
	int fd = open(name, O_PATH), id = -1;
	FILE *f;

	ck_assert_int_ge(fd, 0);
	snprintf(fdinfo, sizeof(fdinfo), "/proc/self/fdinfo/%d", fd);
	f = fopen(fdinfo, "r");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "mnt_id: %d", &id);
	fclose(f);
	close(fd);
	ck_assert_int_ge(id, 0);
	return id;
}

static void write_file(const char *folder, const char *name, const char *text)
{
	char command[512], file[256];
	FILE *f;

	snprintf(command, sizeof(command), "mkdir -p %s/%s", dir, folder);
	ck_assert_int_eq(system(command), 0);
	snprintf(file, sizeof(file), "%s/%s/%s", dir, folder, name);
	f = fopen(file, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

/* fstype and source of the mount of /proc; device of the mount of /tmp. */
static void make_mounts(const char *proc_mount, const char *tmp_device)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "1 0 0:1 / /dev/none rw - fuse.lunfs lunfs rw\n"
		 "%d 1 0:44 / /mnt/lun\\040fs rw,nosuid shared:3 master:1 - %s rw\n"
		 "%d 1 %s / /tmp rw - ext4 /dev/x rw\n",
		 mount_id_of("/proc/version"), proc_mount, mount_id_of(dir), tmp_device);
	write_file("proc/self", "mountinfo", text);
}

static int check_mounts(const char *name)
{
	error[0] = '\0';
	return pool_mount_check(dir, name, error, sizeof(error));
}

START_TEST(a_lunfs_mount_is_known_by_type_or_source)
{
	make_mounts("fuse.lunfs /etc/lunfs.conf", "8:1");
	ck_assert_int_eq(check_mounts("/proc/version"), 1);
	ck_assert_str_eq(error, "/proc/version lies on the LunFS mount /mnt/lun fs");
	ck_assert_int_eq(check_mounts("/proc/no/such/file"), 1);
	make_mounts("fuse lunfs", "8:1");
	ck_assert_int_eq(check_mounts("/proc/version"), 1);
	make_mounts("fuse.sshfs host:/dir", "8:1");
	ck_assert_int_eq(check_mounts("/proc/version"), 0);
	make_mounts("ext4 lunfs", "8:1");
	ck_assert_int_eq(check_mounts("/proc/version"), 0);
	make_mounts("tmpfs ", "8:1");
	ck_assert_int_eq(check_mounts("/proc/version"), 0);
	ck_assert_int_eq(check_mounts(dir), 0);
}
END_TEST

START_TEST(a_loop_device_over_a_lunfs_file_is_found)
{
	make_mounts("fuse.lunfs lunfs", "7:3");
	write_file("sys/dev/block/7:3/loop", "backing_file", "/proc/version (deleted)\n");
	ck_assert_int_eq(check_mounts(dir), 1);
	ck_assert_ptr_nonnull(strstr(error, " lies on /dev/x, a loop device over "
					    "/proc/version, which lies on the LunFS "
					    "mount /mnt/lun fs"));
	make_mounts("fuse.other lunfs", "7:3");
	ck_assert_int_eq(check_mounts(dir), 0);
}
END_TEST

START_TEST(a_partition_of_a_loop_device_is_found)
{
	char to[64], link[64];

	make_mounts("fuse.lunfs lunfs", "259:1");
	write_file("sys/devices/loop3/loop", "backing_file", "/proc/version\n");
	write_file("sys/devices/loop3/loop3p1", "partition", "1\n");
	write_file("sys/dev/block/x", "y", "");
	snprintf(to, sizeof(to), "%s/sys/devices/loop3/loop3p1", dir);
	snprintf(link, sizeof(link), "%s/sys/dev/block/259:1", dir);
	ck_assert_int_eq(symlink(to, link), 0);
	ck_assert_int_eq(check_mounts(dir), 1);
}
END_TEST

START_TEST(a_mapped_device_over_a_loop_device_is_found)
{
	make_mounts("fuse.lunfs lunfs", "253:0");
	write_file("sys/dev/block/253:0/slaves/sda", "dev", "8:0\n");
	ck_assert_int_eq(check_mounts(dir), 0);
	write_file("sys/dev/block/253:0/slaves/loop1/loop", "backing_file",
		   "/proc/version\n");
	ck_assert_int_eq(check_mounts(dir), 1);
}
END_TEST

START_TEST(loops_that_go_round_end)
{
	char text[64];

	make_mounts("fuse.lunfs lunfs", "7:3");
	snprintf(text, sizeof(text), "%s\n", dir);
	write_file("sys/dev/block/7:3/loop", "backing_file", text);
	ck_assert_int_eq(check_mounts(dir), -ELOOP);
}
END_TEST

START_TEST(an_ordinary_path_is_not_refused)
{
	ck_assert_int_eq(pool_refuse_own_mount("state_dir", dir, error, sizeof(error)),
			 0);
	ck_assert_int_eq(pool_refuse_own_mount("state_dir", path, error, sizeof(error)),
			 0);
	ck_assert_int_eq(pool_refuse_own_mount("element e", "/", error, sizeof(error)),
			 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool");
	TCase *tc = tcase_create("pool");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, opening_makes_the_directory_and_tells_names);
	tcase_add_test(tc, a_missing_parent_is_refused);
	tcase_add_test(tc, a_file_is_no_pool);
	tcase_add_test(tc, another_daemon_is_refused_while_it_is_open);
	tcase_add_test(tc, another_state_store_is_refused);
	tcase_add_test(tc, an_owner_file_that_is_still_empty_is_taken);
	tcase_add_test(tc, an_image_is_sparse_and_has_its_map);
	tcase_add_test(tc, reserve_allocates_the_space);
	tcase_add_test(tc, what_cannot_be_reserved_leaves_nothing);
	tcase_add_test(tc, files_left_by_a_crash_are_replaced);
	tcase_add_test(tc, images_open_and_go);
	tcase_add_test(tc, a_published_image_is_read_only_but_for_lunfs);
	tcase_add_test(tc, a_sweep_removes_what_no_row_names_and_nothing_else);
	tcase_add_test(tc, a_lunfs_mount_is_known_by_type_or_source);
	tcase_add_test(tc, a_loop_device_over_a_lunfs_file_is_found);
	tcase_add_test(tc, a_partition_of_a_loop_device_is_found);
	tcase_add_test(tc, a_mapped_device_over_a_loop_device_is_found);
	tcase_add_test(tc, loops_that_go_round_end);
	tcase_add_test(tc, an_ordinary_path_is_not_refused);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
