/* SPDX-License-Identifier: BSD-2-Clause */

/* New instants in the same image, by digests: one rule a test.  Everything at once:
 * check_image_storm.c. */

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "engine/digests.h"
#include "tests/image_rig.h"

enum { N = 40, SIZE = N * CHUNK + 5120, IMAGE = 1, POINT = 10 };

/* ---- the disk ---------------------------------------------------------------------- */

static ino_t raw_inode, digest_inode;	 /* atomic, as all here; 0: not looked at */
static uint64_t raw_written, raw_read;	 /* bytes */
static bool raw_sync_fails, raw_is_full; /* the second: half of a write is done */
static bool digest_dirty;		 /* written since its last sync */
static bool digest_fails;		 /* its writes */
static unsigned n_early;		 /* writes of the raw file while it was */

static ino_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : st.st_ino;
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
	ino_t inode = inode_of(fd);

	if (inode == NOW(digest_inode) && NOW(digest_fails)) {
		errno = EIO;
		return -1;
	}
	if (inode == NOW(digest_inode))
		SET(digest_dirty, true);
	if (inode != NOW(raw_inode))
		return syscall(SYS_pwrite64, fd, buf, n, offset);
	if (NOW(digest_dirty))
		__atomic_add_fetch(&n_early, 1, __ATOMIC_RELAXED);
	if (NOW(raw_is_full) && n <= 4096) {
		errno = ENOSPC;
		return -1;
	}
	if (NOW(raw_is_full))
		n = n / 2 / 4096 * 4096;
	__atomic_add_fetch(&raw_written, n, __ATOMIC_RELAXED);
	return syscall(SYS_pwrite64, fd, buf, n, offset);
}

ssize_t pread(int fd, void *buf, size_t n, off_t offset)
{
	if (inode_of(fd) == NOW(raw_inode))
		__atomic_add_fetch(&raw_read, n, __ATOMIC_RELAXED);
	return syscall(SYS_pread64, fd, buf, n, offset);
}

int fdatasync(int fd)
{
	ino_t inode = inode_of(fd);

	if (inode == NOW(raw_inode) && NOW(raw_sync_fails)) {
		errno = EIO;
		return -1;
	}
	if (inode == NOW(digest_inode))
		SET(digest_dirty, false);
	return (int)syscall(SYS_fdatasync, fd);
}

/* ---- images ------------------------------------------------------------------------ */

static unsigned n_complete, n_broken; /* atomic */
static uint64_t generation;
static struct image *image;
static struct point *point;
static bool lun;

static void on_complete(void *opaque)
{
	(void)opaque;
	__atomic_add_fetch(&n_complete, 1, __ATOMIC_RELEASE);
}

static void on_broken(void *opaque, int error, const char *reason)
{
	(void)opaque;
	(void)error;
	(void)reason;
	__atomic_add_fetch(&n_broken, 1, __ATOMIC_RELEASE);
}

static void on_written(void *opaque)
{
	(void)opaque;
}

static const struct image_watcher watcher = { on_complete, on_broken, on_written, NULL };

static ino_t file_inode(const char *file)
{
	char path[120];
	struct stat st;

	snprintf(path, sizeof(path), "%s/pool/%s", rig_dir, file);
	ck_assert_int_eq(stat(path, &st), 0);
	return st.st_ino;
}

static void look_at_files(void)
{
	char file[64];

	if (!lun)
		SET(raw_inode, file_inode("e1.raw"));
	pool_digest_file(IMAGE, generation, file, sizeof(file));
	SET(digest_inode, file_inode(file));
	raw_written = raw_read = 0;
}

static void open_image(bool complete)
{
	const struct image_params params = {
		.id = IMAGE,
		.size = SIZE,
		.generation = generation,
		.complete = complete,
		.written = true,
		.digests = true,
		.resync = generation > 1,
		.target = lun ? rig_target->volume : NULL,
		.target_name = "t",
		.copy_size = SIZE,
	};

	ck_assert_int_eq(image_open(&rig_ops, rig_pool, &params, &image), 0);
	look_at_files();
}

static void connect_image(void)
{
	image_set_source(image, point, "lun", true, &watcher);
}

static void copy(void)
{
	n_complete = 0;
	image_start_copy(image);
	WAIT_FOR(NOW(n_complete) == 1);
	ck_assert_uint_eq(n_broken, 0);
}

/* As the process that ends, or the last handle. */
static void close_image(void)
{
	image_cut_off(image);
	image_unref(image);
	image = NULL;
}

static void start(void)
{
	rig_start(SIZE, false);
	n_complete = n_broken = n_early = 0;
	generation = 1;
	if (lun) {
		rig_start_target(SIZE, 512);
		ck_assert_int_eq(pool_create_map(rig_pool, IMAGE, SIZE, 1), 0);
	} else {
		ck_assert_int_eq(pool_create_image(rig_pool, IMAGE, SIZE, 1, false), 0);
	}
	ck_assert_int_eq(pool_create_digest(rig_pool, IMAGE, SIZE, 1), 0);
	point = rig_point(POINT);
	open_image(false);
	connect_image();
	copy();
}

static void stop(void)
{
	close_image();
	point_remove(point);
	point_unref(point);
	rig_stop();
	SET(raw_inode, 0);
	SET(digest_inode, 0);
	lun = raw_sync_fails = raw_is_full = digest_fails = false;
}

static bool is_written_late; /* the image, when its new generation is open already */

/* A new instant in the image, whose copy is not begun yet. */
static void resync(void)
{
	static char late[CHUNK];
	struct image *before = move_ptr(image);
	struct point *old = point;

	generation++;
	ck_assert_int_eq(pool_create_map(rig_pool, IMAGE, SIZE, generation), 0);
	ck_assert_int_eq(pool_create_digest(rig_pool, IMAGE, SIZE, generation), 0);
	point = rig_point(POINT + generation);
	open_image(false);
	if (is_written_late)
		ck_assert_int_eq(do_io(before, ENGINE_IO_WRITE, late, 20 * CHUNK, CHUNK),
				 CHUNK);
	if (before) {
		image_cut_off(before);
		image_retire(before, true);
	}
	image_own_file(image);
	image_take_base(image, before);
	image_unref(before);
	connect_image();
	point_remove(old);
	point_unref(old);
}

static void source_of(uint64_t chunk, char byte)
{
	static char buf[CHUNK];
	uint64_t len = chunk < N ? CHUNK : SIZE - chunk * CHUNK;

	memset(buf, byte, sizeof(buf));
	ck_assert_int_eq(do_io(NULL, ENGINE_IO_WRITE, buf, chunk * CHUNK, len), (int)len);
}

static int write_image(uint64_t offset, uint64_t len)
{
	static char buf[1 << 20];

	memset(buf, 'u', sizeof(buf));
	return do_io(image, ENGINE_IO_WRITE, buf, offset, len);
}

static void check_equal(void)
{
	static char buf[SIZE];

	for (uint64_t at = 0; at < SIZE; at += ENGINE_IO_MAX) {
		uint64_t n = SIZE - at < ENGINE_IO_MAX ? SIZE - at : ENGINE_IO_MAX;

		ck_assert_int_eq(do_io(image, ENGINE_IO_READ, buf + at, at, n), (int)n);
	}
	ck_assert(!memcmp(buf, rig.bytes, SIZE));
}

static uint64_t copied(void)
{
	struct image_progress progress;

	image_progress(image, &progress);
	ck_assert_uint_eq(progress.bytes_copied + progress.bytes_skipped, SIZE);
	ck_assert_uint_eq(progress.bytes_present, SIZE);
	return progress.bytes_copied;
}

/* By somebody who goes round LunFS. */
static void touch_backing(uint64_t offset)
{
	struct timespec later[2] = { { .tv_nsec = UTIME_OMIT },
				     { .tv_sec = 4000000000 } };
	int fd = pool_open_image(rig_pool, IMAGE, O_WRONLY);

	ck_assert_int_eq(syscall(SYS_pwrite64, fd, "foreign", 7, offset), 7);
	ck_assert_int_eq(futimens(fd, later), 0);
	close(fd);
}

/* ---- one rule a test ----------------------------------------------------------------- */

START_TEST(only_what_differs_is_written)
{
	for (int closed = 0; closed < 2; closed++) {
		start();
		/* Its zeros are holes already. */
		ck_assert_uint_eq(copied(), SIZE - N / 5 * CHUNK);
		if (closed)
			close_image();
		source_of(5, 'a');
		source_of(N, 'b');
		resync();
		copy();
		ck_assert_uint_eq(copied(), CHUNK + 5120);
		ck_assert_uint_eq(raw_written, CHUNK + 5120);
		ck_assert_uint_eq(raw_read, 0);
		check_equal();
		/* And again, by the digests that this one has kept. */
		source_of(6, 'c');
		resync();
		copy();
		ck_assert_uint_eq(raw_written, CHUNK);
		ck_assert_uint_eq(raw_read, 0);
		check_equal();
		stop();
	}
}
END_TEST

START_TEST(what_is_not_decided_reads_as_the_new_instant)
{
	char buf[CHUNK];

	start();
	source_of(7, 'n');
	resync();
	for (uint64_t c = 6; c < 9; c++) {
		ck_assert_int_eq(
			do_io(image, ENGINE_IO_READ, buf, c * CHUNK, sizeof(buf)), CHUNK);
		ck_assert(!memcmp(buf, rig.bytes + c * CHUNK, CHUNK));
	}
	copy();
	ck_assert_uint_eq(copied(), CHUNK);
	check_equal();
	stop();
}
END_TEST

START_TEST(a_copy_goes_on_by_digests_after_a_restart)
{
	char buf[CHUNK];

	start();
	source_of(3, 'a');
	source_of(30, 'b');
	resync();
	ck_assert_int_eq(do_io(image, ENGINE_IO_READ, buf, 3 * CHUNK, CHUNK), CHUNK);
	ck_assert_int_eq(image_checkpoint(image), 0);
	close_image();
	open_image(false);
	connect_image();
	copy();
	ck_assert_uint_eq(raw_written, CHUNK);
	ck_assert_uint_eq(raw_read, 0);
	check_equal();
	stop();
}
END_TEST

START_TEST(what_users_wrote_is_found)
{
	for (int closed = 0; closed < 2; closed++) {
		start();
		ck_assert_int_eq(write_image(20 * CHUNK + 5, 7), 7);
		if (closed) {
			close_image();
			open_image(true);
			image_set_source(image, NULL, "lun", true, &watcher);
			ck_assert_int_eq(write_image(37 * CHUNK, 1), 1);
			close_image();
		}
		source_of(1, 'a');
		resync();
		copy();
		ck_assert_uint_eq(copied(), (2 + closed) * CHUNK);
		ck_assert_uint_eq(raw_written, (2 + closed) * CHUNK);
		/* Of their regions only. */
		ck_assert_uint_le(raw_read, (16 + closed * 8) * CHUNK + 5120);
		check_equal();
		/* They have digests again. */
		resync();
		copy();
		ck_assert_uint_eq(copied(), 0);
		ck_assert_uint_eq(raw_read, 0);
		stop();
	}
}
END_TEST

START_TEST(what_others_wrote_to_the_file_is_found)
{
	for (int open = 0; open < 3; open++) {
		start();
		if (open != 1)
			close_image();
		touch_backing(25 * CHUNK + 100);
		if (open == 2) {
			open_image(true);
			image_set_source(image, NULL, "lun", true, &watcher);
			ck_assert_int_eq(write_image(2 * CHUNK, CHUNK), CHUNK);
		}
		resync();
		copy();
		ck_assert_uint_eq(copied(), (open == 2 ? 2 : 1) * CHUNK);
		ck_assert_uint_ge(raw_read, (N * 4 / 5 - 1) * CHUNK);
		check_equal();
		stop();
	}
}
END_TEST

/* Up to the fence it is LunFS that writes the file. */
START_TEST(what_is_written_up_to_the_instant_is_own)
{
	start();
	is_written_late = true;
	resync();
	is_written_late = false;
	copy();
	ck_assert_uint_le(raw_read, 16 * CHUNK);
	check_equal();
	resync();
	copy();
	ck_assert_uint_eq(copied(), 0);
	ck_assert_uint_eq(raw_read, 0);
	stop();
}
END_TEST

/* What the last checkpoint has left of the map of generation 2, in a file that nobody has
 * open. */
static void map_file(const char *command)
{
	char text[320];

	snprintf(text, sizeof(text), "cd %s/pool && %s", rig_dir, command);
	ck_assert_int_eq(system(text), 0);
}

/* Somebody wrote to the file, and users write on; then LunFS dies, and with it what its
 * memory has of the map. */
START_TEST(what_is_distrusted_is_so_after_a_crash)
{
	start();
	resync();
	map_file("cp e1.2.map saved");
	touch_backing(25 * CHUNK + 100);
	/* The first one finds that out. */
	ck_assert_int_eq(write_image(2 * CHUNK, CHUNK), CHUNK);
	ck_assert_int_eq(write_image(20 * CHUNK, CHUNK), CHUNK);
	close_image();
	map_file("mv saved e1.2.map");
	open_image(false);
	connect_image();
	copy();
	resync();
	copy();
	check_equal();
	stop();
}
END_TEST

/* A file of digests that fails is done without. */
START_TEST(users_write_on_without_digests)
{
	start();
	SET(digest_fails, true);
	ck_assert_int_eq(write_image(20 * CHUNK, CHUNK), CHUNK);
	ck_assert_int_eq(write_image(4 * CHUNK, CHUNK), CHUNK);
	map_file("test ! -e e1.1.digest");
	SET(digest_fails, false);
	resync();
	copy();
	check_equal();
	ck_assert_uint_ge(raw_read, (N * 4 / 5 - 1) * CHUNK);
	stop();
	/* One that cannot be used when the image is opened, too. */
	start();
	close_image();
	map_file("truncate -s 100 e1.1.digest");
	digest_inode = 0;
	resync();
	copy();
	check_equal();
	stop();
}
END_TEST

START_TEST(a_change_is_void_before_it_is_written)
{
	struct digest digests[16];
	struct digests *d;
	const struct digests_params params = { IMAGE, 1, SIZE, CHUNK };

	start();
	n_early = 0;
	for (uint64_t c = 0; c < N; c += 5) {
		digest_dirty = false;
		ck_assert_int_eq(write_image(c * CHUNK + 3, 9), 9);
	}
	ck_assert_uint_eq(n_early, 0);
	ck_assert_int_eq(digests_open(pool_dirfd(rig_pool), "e1.1.digest", &params, &d),
			 0);
	digests_get(d, 16, 16, digests);
	for (int i = 0; i < 16; i++)
		ck_assert(!digest_is_known(&digests[i]));
	digests_unref(d);
	stop();
}
END_TEST

START_TEST(digests_are_of_durable_bytes)
{
	struct digest digests[N];
	const struct digests_params params = { IMAGE, 2, SIZE, CHUNK };
	unsigned n_known = 0;
	struct digests *d;
	char buf[CHUNK];

	start();
	source_of(3, 'a');
	resync();
	SET(raw_sync_fails, true);
	for (uint64_t c = 0; c < N; c++)
		ck_assert_int_eq(do_io(image, ENGINE_IO_READ, buf, c * CHUNK, CHUNK),
				 CHUNK);
	ck_assert_int_eq(image_checkpoint(image), -EIO);
	ck_assert_int_eq(image_checkpoint(image), -EIO);
	ck_assert_int_eq(digests_open(pool_dirfd(rig_pool), "e1.2.digest", &params, &d),
			 0);
	digests_get(d, 0, N, digests);
	for (int i = 0; i < N; i++)
		n_known += digest_is_known(&digests[i]);
	ck_assert_uint_eq(n_known, 0);
	digests_unref(d);
	stop();
}
END_TEST

START_TEST(half_of_a_change_is_found)
{
	start();
	resync();
	SET(raw_is_full, true);
	ck_assert_int_eq(write_image(4 * CHUNK, CHUNK), -ENOSPC);
	SET(raw_is_full, false);
	copy();
	check_equal();
	stop();
}
END_TEST

/* What the copy that was given up had written is not what the one before had. */
START_TEST(a_copy_that_does_not_end_is_no_base_of_the_next)
{
	static char first[CHUNK];
	char buf[CHUNK];

	for (int durable = 0; durable < 2; durable++) {
		start();
		memcpy(first, rig.bytes + 4 * CHUNK, CHUNK);
		source_of(4, 'x');
		resync();
		ck_assert_int_eq(do_io(image, ENGINE_IO_READ, buf, 4 * CHUNK, CHUNK),
				 CHUNK);
		if (durable)
			ck_assert_int_eq(image_checkpoint(image), 0);
		ck_assert_int_eq(do_io(NULL, ENGINE_IO_WRITE, first, 4 * CHUNK, CHUNK),
				 CHUNK);
		resync();
		copy();
		ck_assert_uint_eq(copied(), CHUNK);
		check_equal();
		stop();
	}
}
END_TEST

START_TEST(without_digests_what_is_there_is_compared)
{
	start();
	close_image();
	ck_assert_int_eq(pool_remove_digest(rig_pool, IMAGE, 1), 0);
	source_of(9, 'a');
	resync();
	copy();
	ck_assert_uint_eq(copied(), CHUNK);
	ck_assert_uint_eq(raw_written, CHUNK);
	check_equal();
	stop();
}
END_TEST

START_TEST(a_lun_is_written_only_where_it_differs)
{
	unsigned n_writes, n_zeros;

	lun = true;
	start();
	source_of(5, 'a');
	resync();
	n_writes = NOW(rig_target->n_writes);
	n_zeros = NOW(rig_target->n_zeros);
	copy();
	ck_assert_uint_eq(NOW(rig_target->n_writes) - n_writes, 1);
	ck_assert_uint_eq(NOW(rig_target->n_zeros), n_zeros);
	ck_assert_uint_eq(copied(), CHUNK);
	check_equal();
	/* What users wrote is written, with the region around it. */
	ck_assert_int_eq(write_image(20 * CHUNK, 512), 512);
	resync();
	copy();
	ck_assert_uint_eq(copied(), 16 * CHUNK);
	check_equal();
	stop();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		only_what_differs_is_written,
		what_is_not_decided_reads_as_the_new_instant,
		a_copy_goes_on_by_digests_after_a_restart,
		what_users_wrote_is_found,
		what_others_wrote_to_the_file_is_found,
		what_is_written_up_to_the_instant_is_own,
		what_is_distrusted_is_so_after_a_crash,
		users_write_on_without_digests,
		a_change_is_void_before_it_is_written,
		digests_are_of_durable_bytes,
		half_of_a_change_is_found,
		a_copy_that_does_not_end_is_no_base_of_the_next,
		without_digests_what_is_there_is_compared,
		a_lun_is_written_only_where_it_differs,
	};

	return unit_main("image_digest", tests, ROWS(tests));
}
