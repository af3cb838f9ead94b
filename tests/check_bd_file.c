/* SPDX-License-Identifier: BSD-2-Clause */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/loop.h"
#include "engine/workers.h"
#include "tests/bd.h"

#define MIB (UINT64_C(1) << 20)

static char dir[32];
static char path[64];
static char error[512];
static struct owner owner;
static struct workers *workers;
static struct loop *loop;

static void setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/check_bd_file.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/image", dir);
	ck_assert_int_eq(workers_new("w", 4, &workers), 0);
	loop = NULL;
	owner_init(&owner);
}

static void teardown(void)
{
	if (owner.bd)
		owner_close(&owner);
	workers_free(workers);
	loop_free(loop);
	unlink(path);
	rmdir(path);
	rmdir(dir);
}

static void make_file(uint64_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	close(fd);
}

static void open_device(bool read_only)
{
	struct bd_params p = { .workers = workers, .read_only = read_only };
	char url[128];

	if (loop) {
		p.loops = &loop;
		p.n_loops = 1;
	}
	snprintf(url, sizeof(url), "file://%s", path);
	ck_assert_int_eq(owner_open(&owner, p, url, error, sizeof(error)), 0);
}

static void open_ready(uint64_t size)
{
	make_file(size);
	open_device(false);
	ck_assert(owner_wait_state(&owner, BD_READY));
}

START_TEST(a_file_says_what_it_is)
{
	struct bd_status status;
	struct bd_info info;
	struct stat st;
	char wwn[64];

	open_ready(5 * MIB + 77);
	ck_assert(bd_get_info(owner.bd, &info));
	ck_assert_uint_eq(info.size, 5 * MIB + 77);
	ck_assert_uint_eq(info.block_size, 1);
	ck_assert_uint_eq(info.opt_transfer, 256 << 10);
	ck_assert(info.thin && !info.read_only && info.write_cache);
	ck_assert_int_eq(stat(path, &st), 0);
	snprintf(wwn, sizeof(wwn), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	ck_assert_str_eq(info.wwn, wwn);
	ck_assert_str_eq(info.serial, "");
	bd_get_status(owner.bd, &status);
	ck_assert_uint_eq(status.logins, 1);
	ck_assert_str_eq(status.error, "");
	ck_assert_uint_eq(owner.n_identified, 1);
}
END_TEST

START_TEST(what_is_written_is_read_at_any_alignment)
{
	char out[10000], in[10000], end[] = "end";
	struct call c;
	size_t i;
	int fd;

	open_ready(MIB);
	for (i = 0; i < sizeof(out); i++)
		out[i] = i * 7;
	ck_assert_int_eq(call(owner.bd, BD_WRITE, 12345, sizeof(out), out), 0);
	ck_assert_int_eq(call(owner.bd, BD_READ, 12345, sizeof(in), in), 0);
	ck_assert_mem_eq(in, out, sizeof(in));
	call_start(&c, owner.bd, BD_WRITE, BD_FUA, MIB - 3, 3, end);
	ck_assert_int_eq(call_wait(&c), 0);
	ck_assert_int_eq(call(owner.bd, BD_FLUSH, 0, 0, NULL), 0);
	fd = open(path, O_RDONLY);
	ck_assert_int_eq(pread(fd, in, 10, MIB - 3), 3);
	ck_assert_mem_eq(in, "end", 3);
	close(fd);
}
END_TEST

START_TEST(many_requests_at_once_are_all_answered)
{
	enum { N = 64, SIZE = 65536 };
	struct call *calls = calloc(N, sizeof(*calls));
	char *buf = malloc(N * SIZE);
	int i, j;

	open_ready(N * SIZE);
	for (i = 0; i < N; i++) {
		memset(buf + i * SIZE, i, SIZE);
		call_start(&calls[i], owner.bd, BD_WRITE, 0, i * SIZE, SIZE,
			   buf + i * SIZE);
	}
	for (i = 0; i < N; i++)
		ck_assert_int_eq(call_wait(&calls[i]), 0);
	memset(buf, 0xff, N * SIZE);
	for (i = 0; i < N; i++)
		call_start(&calls[i], owner.bd, BD_READ, 0, i * SIZE, SIZE,
			   buf + i * SIZE);
	for (i = 0; i < N; i++) {
		ck_assert_int_eq(call_wait(&calls[i]), 0);
		for (j = 0; j < SIZE; j++)
			ck_assert_int_eq(buf[i * SIZE + j], i);
	}
	free(buf);
	free(calls);
}
END_TEST

START_TEST(a_zeroed_range_reads_as_zeros_and_takes_no_space)
{
	char *buf = malloc(MIB), *zeros = calloc(1, MIB);
	struct call c;
	struct stat before, after;

	open_ready(4 * MIB);
	memset(buf, 'x', MIB);
	ck_assert_int_eq(call(owner.bd, BD_WRITE, MIB, MIB, buf), 0);
	ck_assert_int_eq(call(owner.bd, BD_FLUSH, 0, 0, NULL), 0);
	stat(path, &before);
	/* Unaligned on purpose. */
	call_start(&c, owner.bd, BD_ZERO, BD_FUA, MIB + 1, MIB - 2, NULL);
	ck_assert_int_eq(call_wait(&c), 0);
	stat(path, &after);
	ck_assert_int_lt(after.st_blocks, before.st_blocks);
	ck_assert_int_eq(after.st_size, 4 * MIB);
	ck_assert_int_eq(call(owner.bd, BD_READ, MIB, MIB, buf), 0);
	ck_assert_int_eq(buf[0], 'x');
	ck_assert_int_eq(buf[MIB - 1], 'x');
	ck_assert_mem_eq(buf + 1, zeros, MIB - 2);
	ck_assert_int_eq(call(owner.bd, BD_DISCARD, 0, 4 * MIB, NULL), 0);
	free(buf);
	free(zeros);
}
END_TEST

START_TEST(extents_are_the_files_holes)
{
	struct bd_extent e[BD_MAX_EXTENTS];
	char *buf = calloc(1, MIB);
	struct call c;
	size_t i;

	open_ready(8 * MIB);
	ck_assert_int_eq(call(owner.bd, BD_WRITE, 2 * MIB, MIB, buf), 0);
	ck_assert_int_eq(call(owner.bd, BD_WRITE, 7 * MIB, MIB, buf), 0);
	call_start(&c, owner.bd, BD_EXTENTS, 0, MIB, 7 * MIB, e);
	ck_assert_int_eq(call_wait(&c), 0);
	ck_assert_uint_eq(c.req.n_extents, 4);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(e[i].mapped, i % 2);
	ck_assert_uint_eq(e[0].offset, MIB);
	ck_assert_uint_eq(e[0].length, MIB);
	ck_assert_uint_eq(e[1].offset, 2 * MIB);
	ck_assert_uint_eq(e[1].length, MIB);
	ck_assert_uint_eq(e[2].length, 4 * MIB);
	ck_assert_uint_eq(e[3].length, MIB);
	/* Within one hole. */
	call_start(&c, owner.bd, BD_EXTENTS, 0, 100, 50, e);
	ck_assert_int_eq(call_wait(&c), 0);
	ck_assert_uint_eq(c.req.n_extents, 1);
	ck_assert_uint_eq(e[0].offset, 100);
	ck_assert_uint_eq(e[0].length, 50);
	ck_assert(!e[0].mapped);
	free(buf);
}
END_TEST

START_TEST(more_extents_than_fit_are_cut)
{
	enum { N = BD_MAX_EXTENTS };
	struct bd_extent e[BD_MAX_EXTENTS];
	struct call c;
	uint64_t i;
	char x = 'x';

	open_ready(2 * N * 65536);
	for (i = 0; i < N; i++)
		ck_assert_int_eq(call(owner.bd, BD_WRITE, i * 2 * 65536, 1, &x), 0);
	call_start(&c, owner.bd, BD_EXTENTS, 0, 0, 2 * N * 65536, e);
	ck_assert_int_eq(call_wait(&c), 0);
	ck_assert_uint_eq(c.req.n_extents, N);
	for (i = 0; i < N; i++) {
		ck_assert_uint_eq(e[i].offset, i ? e[i - 1].offset + e[i - 1].length : 0);
		ck_assert_uint_gt(e[i].length, 0);
	}
}
END_TEST

START_TEST(a_file_that_was_cut_reads_as_an_error)
{
	char buf[4096];

	open_ready(MIB);
	ck_assert_int_eq(truncate(path, 1000), 0);
	ck_assert_int_eq(call(owner.bd, BD_READ, 0, 4096, buf), -EIO);
	ck_assert_int_eq(call(owner.bd, BD_READ, 8192, 4096, buf), -EIO);
	ck_assert_int_eq(call(owner.bd, BD_READ, 0, 1000, buf), 0);
}
END_TEST

START_TEST(read_only_devices_take_no_write)
{
	char buf[16] = "";
	struct bd_info info;

	make_file(MIB);
	open_device(true);
	ck_assert(owner_wait_state(&owner, BD_READY));
	ck_assert(bd_get_info(owner.bd, &info));
	ck_assert(info.read_only);
	ck_assert_int_eq(call(owner.bd, BD_WRITE, 0, 16, buf), -EROFS);
	ck_assert_int_eq(call(owner.bd, BD_READ, 0, 16, buf), 0);
}
END_TEST

START_TEST(a_missing_file_is_away_and_found_when_it_comes)
{
	struct bd_status status;
	char buf[16];

	ck_assert_int_eq(loop_new("loop", &loop), 0);
	open_device(false);
	ck_assert(owner_wait_state(&owner, BD_AWAY));
	bd_get_status(owner.bd, &status);
	ck_assert_ptr_nonnull(strstr(status.error, path));
	ck_assert_ptr_nonnull(strstr(status.error, "No such file"));
	ck_assert_int_eq(call(owner.bd, BD_READ, 0, 16, buf), -ENOTCONN);
	make_file(MIB);
	ck_assert(owner_wait_state(&owner, BD_READY));
	bd_get_status(owner.bd, &status);
	ck_assert_str_eq(status.error, "");
	ck_assert_int_eq(call(owner.bd, BD_READ, 0, 16, buf), 0);
}
END_TEST

START_TEST(a_device_that_is_away_closes_at_once)
{
	ck_assert_int_eq(loop_new("loop", &loop), 0);
	open_device(false);
	ck_assert(owner_wait_state(&owner, BD_AWAY));
	owner_close(&owner);
}
END_TEST

START_TEST(closing_right_after_opening_is_fine)
{
	int i;

	ck_assert_int_eq(loop_new("loop", &loop), 0);
	for (i = 0; i < 50; i++) {
		open_device(false);
		owner_close(&owner);
		owner_init(&owner);
	}
}
END_TEST

START_TEST(a_directory_is_refused)
{
	struct bd_status status;

	ck_assert_int_eq(mkdir(path, 0700), 0);
	open_device(false);
	ck_assert(owner_wait_state(&owner, BD_REFUSED));
	bd_get_status(owner.bd, &status);
	ck_assert_ptr_nonnull(strstr(status.error, "neither a file nor a block device"));
}
END_TEST

START_TEST(a_fifo_is_refused_without_waiting_for_its_writer)
{
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	open_device(true);
	ck_assert(owner_wait_state(&owner, BD_REFUSED));
}
END_TEST

START_TEST(an_owner_that_refuses_gets_no_device)
{
	struct bd_status status;
	char buf[16];

	owner.size_wanted = 5;
	make_file(MIB);
	open_device(false);
	ck_assert(owner_wait_state(&owner, BD_REFUSED));
	bd_get_status(owner.bd, &status);
	ck_assert_str_eq(status.error, "db0: size changed to 1048576");
	ck_assert_int_eq(call(owner.bd, BD_READ, 0, 16, buf), -ENOTCONN);
}
END_TEST

START_TEST(requests_under_way_are_answered_when_it_closes)
{
	enum { N = 100 };
	struct call *calls = calloc(N, sizeof(*calls));
	char *buf = calloc(1, MIB);
	int i;

	open_ready(MIB);
	for (i = 0; i < N; i++)
		call_start(&calls[i], owner.bd, BD_WRITE, 0, 0, MIB, buf);
	owner_close(&owner);
	for (i = 0; i < N; i++)
		ck_assert(call_is_done(&calls[i]));
	free(calls);
	free(buf);
}
END_TEST

/* In a file system of 1 MiB; the exit code of a process of its own. */
static int write_to_full_disk(void)
{
	char *buf = malloc(MIB);
	uint64_t i;
	int r = 0;

	/* Before there are threads, which would stay where they are. */
	if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) < 0 ||
	    mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
		return 77;
	setup();
	if (mount("none", dir, "tmpfs", 0, "size=1m") < 0)
		return 77;
	memset(buf, 'x', MIB);
	open_ready(8 * MIB);
	for (i = 0; i < 8 && r == 0; i++)
		r = call(owner.bd, BD_WRITE, i * MIB, MIB, buf);
	free(buf);
	owner_close(&owner);
	umount(dir);
	teardown();
	return r == -ENOSPC ? 0 : 1;
}

START_TEST(a_full_disk_is_enospc)
{
	int status;
	pid_t pid;

	/* Not _exit(), so that libraries clean up before valgrind looks. */
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		exit(write_to_full_disk());
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		puts("skipped: no mount namespace can be made here");
	else
		ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

/* Runs a command and takes the first line it prints; false if it fails. */
static bool run(const char *command, char *line, size_t size)
{
	FILE *f = popen(command, "r");

	line[0] = '\0';
	if (f && fgets(line, size, f))
		line[strcspn(line, "\n")] = '\0';
	return f && pclose(f) == 0;
}

static void test_block_device(const char *device)
{
	struct bd_extent extents[BD_MAX_EXTENTS];
	struct bd_info info;
	struct call c;
	char *buf = malloc(MIB), *zeros = calloc(1, MIB);

	snprintf(path, sizeof(path), "%s", device);
	open_device(false);
	ck_assert(owner_wait_state(&owner, BD_READY));
	ck_assert(bd_get_info(owner.bd, &info));
	ck_assert_uint_eq(info.size, 4 * MIB);
	ck_assert(!info.thin);
	ck_assert_ptr_nonnull(strchr(info.wwn, ':'));
	memset(buf, 'x', MIB);
	call_start(&c, owner.bd, BD_WRITE, BD_FUA, MIB, MIB, buf);
	ck_assert_int_eq(call_wait(&c), 0);
	/* Aligned for a block device, and not. */
	ck_assert_int_eq(call(owner.bd, BD_ZERO, MIB, MIB / 2, NULL), 0);
	ck_assert_int_eq(call(owner.bd, BD_ZERO, MIB / 2 * 3 + 1, MIB / 2 - 2, NULL), 0);
	ck_assert_int_eq(call(owner.bd, BD_DISCARD, 1, 1000, NULL), 0);
	ck_assert_int_eq(call(owner.bd, BD_FLUSH, 0, 0, NULL), 0);
	ck_assert_int_eq(call(owner.bd, BD_READ, MIB, MIB, buf), 0);
	ck_assert_int_eq(buf[MIB / 2], 'x');
	ck_assert_int_eq(buf[MIB - 1], 'x');
	buf[MIB / 2] = buf[MIB - 1] = 0;
	ck_assert_mem_eq(buf, zeros, MIB);
	call_start(&c, owner.bd, BD_EXTENTS, 0, 0, 4 * MIB, extents);
	ck_assert_int_eq(call_wait(&c), 0);
	ck_assert_uint_eq(c.req.n_extents, 1);
	ck_assert(extents[0].mapped);
	owner_close(&owner);
	free(buf);
	free(zeros);
}

START_TEST(a_block_device_works_too)
{
	char command[160], device[64], line[64];

	make_file(4 * MIB);
	snprintf(command, sizeof(command), "losetup -f --show %s 2>/dev/null", path);
	if (geteuid() != 0 || !run(command, device, sizeof(device))) {
		puts("skipped: no loop device can be made here");
		return;
	}
	test_block_device(device);
	snprintf(command, sizeof(command), "losetup -d %s", device);
	ck_assert(run(command, line, sizeof(line)));
	snprintf(path, sizeof(path), "%s/image", dir);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("bd_file");
	TCase *tc = tcase_create("bd_file");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_file_says_what_it_is);
	tcase_add_test(tc, what_is_written_is_read_at_any_alignment);
	tcase_add_test(tc, many_requests_at_once_are_all_answered);
	tcase_add_test(tc, a_zeroed_range_reads_as_zeros_and_takes_no_space);
	tcase_add_test(tc, extents_are_the_files_holes);
	tcase_add_test(tc, more_extents_than_fit_are_cut);
	tcase_add_test(tc, a_file_that_was_cut_reads_as_an_error);
	tcase_add_test(tc, read_only_devices_take_no_write);
	tcase_add_test(tc, a_missing_file_is_away_and_found_when_it_comes);
	tcase_add_test(tc, a_device_that_is_away_closes_at_once);
	tcase_add_test(tc, closing_right_after_opening_is_fine);
	tcase_add_test(tc, a_directory_is_refused);
	tcase_add_test(tc, a_fifo_is_refused_without_waiting_for_its_writer);
	tcase_add_test(tc, an_owner_that_refuses_gets_no_device);
	tcase_add_test(tc, requests_under_way_are_answered_when_it_closes);
	tcase_add_test(tc, a_block_device_works_too);
	suite_add_tcase(s, tc);
	/* Has its own. */
	tc = tcase_create("bd_file_alone");
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, a_full_disk_is_enospc);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
