/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * crashtoy: small programs for the tests of libcrashlog.so and crashplay; each says in
 * the log (CRASHLOG_FILE) what it takes for done.
 *
 *	crashtoy calls DIR	  every call that the shim knows
 *	crashtoy escape DIR	  a write that it cannot see
 *	crashtoy threads DIR	  threads that write over each other
 *	crashtoy map DIR good|bad [ROUNDS]
 *		data blocks and a map of bits: a bit may be durable only after its
 *		data.  bad: data and bits are synced, the data last.
 *	crashtoy check-map DIR	  exit 1: a bit without its data; prints the bits
 *	crashtoy replace DIR good|no-data-sync|no-dir-sync [ROUNDS]
 *		a new file is renamed over the old one, again and again
 *	crashtoy check-replace DIR  prints the number in it; exit 1: it is none
 */

#include <err.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/crashlog.h"
#include "tests/tool.h"

enum { BLOCK = 4096, MAP_BLOCKS = 64, WRITES = 2000, THREADS = 4, THREAD_FILE = 65536 };

/* Ends the program if it was not done, and its name says what. */
#define DO(call)                       \
	do {                           \
		if ((call) < 0)        \
			err(3, #call); \
	} while (0)

static void mark(const char *what, unsigned n)
{
	static int fd = -1;
	char text[64];

	if (fd < 0 && getenv("CRASHLOG_FILE"))
		fd = crashlog_open(getenv("CRASHLOG_FILE"));
	snprintf(text, sizeof(text), "%s %u", what, n);
	if (fd >= 0)
		DO(crashlog_mark(fd, text));
}

static int make_file(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0640);

	if (fd < 0)
		err(3, "%s", name);
	return fd;
}

/* ---- every call ---- */

static void write_calls(int fd)
{
	char buf[3000];
	struct iovec iov[2] = { { buf, 1000 }, { buf + 1000, 2000 } };

	memset(buf, 'a', sizeof(buf));
	DO(write(fd, buf, 100));
	DO(writev(fd, iov, 2));
	memset(buf, 'b', sizeof(buf));
	DO(pwrite(fd, buf, 10, 5000));
	DO(pwritev(fd, iov, 2, 7000));
	DO(pwritev2(fd, iov, 2, 9000, RWF_DSYNC));
	DO(pwritev2(fd, iov, 1, -1, 0));
	DO(fallocate(fd, 0, 0, 20000));
	DO(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
	if (posix_fallocate(fd, 20000, 2000))
		errx(3, "posix_fallocate");
	DO(ftruncate(fd, 15000));
	DO(fchmod(fd, 0600));
	DO(fsync(fd));
	DO(fdatasync(fd));
	DO(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
}

static void copy_calls(int fd)
{
	int copy = make_file("copy"), from = open("file", O_RDONLY | O_CLOEXEC);
	off_t at = 0;

	DO(from);
	DO(copy_file_range(fd, &at, copy, NULL, 3000, 0));
	DO(sendfile(copy, from, NULL, 2000));
	if (ioctl(copy, FICLONE, fd) < 0 && errno != EOPNOTSUPP && errno != ENOTTY)
		err(3, "FICLONE");
	close(from);
	close(copy);
}

static void name_calls(void)
{
	char buf[10] = "appended";
	int dir, fd;

	DO(mkdir("dir", 0750));
	dir = open("dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DO(dir);
	fd = openat(dir, "in", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	DO(write(fd, buf, 8));
	DO(lseek(fd, 0, SEEK_SET));
	DO(write(fd, buf, 8));
	close(fd);
	DO(linkat(dir, "in", dir, "second", 0));
	DO(renameat(dir, "in", dir, "third"));
	DO(symlink("third", "dir/link"));
	DO(fsync(dir));
	DO(rename("dir/second", "out"));
	DO(mkdirat(dir, "empty", 0700));
	DO(unlinkat(dir, "empty", AT_REMOVEDIR));
	DO(mkdir("gone", 0700));
	DO(rmdir("gone"));
	fd = creat("again", 0600);
	DO(write(fd, buf, 8));
	close(fd);
	fd = open("again", O_WRONLY | O_TRUNC | O_CLOEXEC);
	DO(write(fd, buf, 3));
	DO(syncfs(fd));
	close(fd);
	DO(truncate("again", 1));
	DO(chmod("again", 0400));
	DO(link("again", "copy2"));
	DO(unlink("copy2"));
	DO(remove("out"));
	close(dir);
}

static int calls(void)
{
	int fd = make_file("file"), open_fd;

	write_calls(fd);
	copy_calls(fd);
	name_calls();
	open_fd = make_file("unlinked");
	DO(unlink("unlinked"));
	DO(write(open_fd, "x", 1));
	close(open_fd);
	fd = dup(fd);
	DO(pwrite(fd, "dup", 3, 0));
	return 0;
}

static int escape(void)
{
	DO(syscall(SYS_pwrite64, make_file("escaped"), "x", 1, 0));
	return 0;
}

/* ---- threads ---- */

static void *thread_main(void *opaque)
{
	struct tool_random random = { (uint64_t)(uintptr_t)opaque };
	unsigned char buf[BLOCK];
	int fd = make_file("threads");

	for (int i = 0; i < WRITES; i++) {
		size_t size = 1 + tool_random_below(&random, BLOCK);

		memset(buf, (int)tool_random(&random), size);
		DO(pwrite(fd, buf, size, (off_t)tool_random_below(&random, THREAD_FILE)));
		if (i % 100 == 0)
			DO(fdatasync(fd));
		if (i % 50 == 0)
			DO(ftruncate(fd, (off_t)tool_random_below(&random, THREAD_FILE)));
	}
	close(fd);
	return NULL;
}

static int threads(void)
{
	pthread_t t[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++) {
		if (pthread_create(&t[i], NULL, thread_main, (void *)(i + 1)))
			errx(3, "pthread_create");
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	return 0;
}

/* ---- a map of bits ---- */

static void make_data(unsigned char *buf, unsigned i)
{
	for (unsigned k = 0; k < BLOCK; k++)
		buf[k] = (unsigned char)(i + 1 + k / 512);
}

static int write_map(bool good, unsigned rounds)
{
	int dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int data = make_file("data"), map = make_file("map");
	unsigned char buf[BLOCK], bits[MAP_BLOCKS] = { 0 };

	DO(ftruncate(data, MAP_BLOCKS * BLOCK));
	DO(pwrite(map, bits, sizeof(bits), 0));
	DO(fsync(data));
	DO(fsync(map));
	DO(fsync(dir));
	for (unsigned i = 0; i < rounds && i < MAP_BLOCKS; i++) {
		make_data(buf, i);
		DO(pwrite(data, buf, BLOCK, (off_t)i * BLOCK));
		if (good)
			DO(fdatasync(data));
		bits[i] = 1;
		DO(pwrite(map, bits + i, 1, i));
		DO(fdatasync(map));
		if (!good)
			DO(fdatasync(data));
		mark("map", i + 1);
	}
	return 0;
}

static int check_map(void)
{
	unsigned char buf[BLOCK], wanted[BLOCK], bits[MAP_BLOCKS] = { 0 };
	int data = open("data", O_RDONLY | O_CLOEXEC);
	int map = open("map", O_RDONLY | O_CLOEXEC);
	unsigned n = 0;

	if (map < 0 || tool_pread(map, bits, sizeof(bits), 0) < 0)
		memset(bits, 0, sizeof(bits));
	for (unsigned i = 0; i < MAP_BLOCKS; i++) {
		if (!bits[i])
			continue;
		n++;
		make_data(wanted, i);
		if (data < 0 || tool_pread(data, buf, BLOCK, (uint64_t)i * BLOCK) < 0 ||
		    memcmp(buf, wanted, BLOCK)) {
			printf("bit %u is set, its data is not there\n", i);
			return 1;
		}
	}
	printf("%u\n", n);
	return 0;
}

/* ---- a file that is replaced ---- */

static int replace(const char *how, unsigned rounds)
{
	int dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char text[5000];

	for (unsigned i = 1; i <= rounds; i++) {
		int fd = open("new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		memset(text, 0, sizeof(text));
		snprintf(text, sizeof(text), "number %u", i);
		text[sizeof(text) - 1] = (char)i;
		DO(fd);
		DO(write(fd, text, sizeof(text)));
		if (strcmp(how, "no-data-sync"))
			DO(fsync(fd));
		close(fd);
		DO(rename("new", "current"));
		if (strcmp(how, "no-dir-sync"))
			DO(fsync(dir));
		mark("replace", i);
	}
	return 0;
}

static int check_replace(void)
{
	int fd = open("current", O_RDONLY | O_CLOEXEC);
	char text[5000] = "";
	unsigned n = 0;

	if (fd >= 0 && (tool_pread(fd, text, sizeof(text), 0) < 0 ||
			sscanf(text, "number %u", &n) != 1 ||
			(unsigned char)text[sizeof(text) - 1] != n % 256)) {
		printf("current is not whole\n");
		return 1;
	}
	printf("%u\n", n);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "", *how = argc > 3 ? argv[3] : "";
	unsigned rounds = argc > 4 ? (unsigned)tool_number(argv[4]) : 10;

	if (argc < 3 || chdir(argv[2]) < 0)
		err(2, "crashtoy: see the head of crashtoy.c");
	if (!strcmp(what, "calls"))
		return calls();
	if (!strcmp(what, "escape"))
		return escape();
	if (!strcmp(what, "threads"))
		return threads();
	if (!strcmp(what, "map"))
		return write_map(!strcmp(how, "good"), rounds);
	if (!strcmp(what, "check-map"))
		return check_map();
	if (!strcmp(what, "replace"))
		return replace(how, rounds);
	if (!strcmp(what, "check-replace"))
		return check_replace();
	errx(2, "crashtoy: %s is not known", what);
}
