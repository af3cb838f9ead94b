/* SPDX-License-Identifier: BSD-2-Clause */

/* Changes of an image by its users, one rule a test; and reads that go through.
 * Everything at once: check_image_storm.c. */

#include <fcntl.h>
#include <sys/syscall.h>

#include "tests/image_rig.h"

enum { SIZE = 12 * CHUNK + 5120 };

/* ---- disks that fail ------------------------------------------------------------- */

static bool disk_is_full; /* atomic, as the other: a write does half of it */
static bool sync_fails;	  /* the next one only */

ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
	if (!NOW(disk_is_full))
		return syscall(SYS_pwrite64, fd, buf, n, offset);
	if (n > 4096)
		return syscall(SYS_pwrite64, fd, buf, n / 2 / 4096 * 4096, offset);
	errno = ENOSPC;
	return -1;
}

int fdatasync(int fd)
{
	if (__atomic_exchange_n(&sync_fails, false, __ATOMIC_ACQ_REL)) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

/* ---- images ------------------------------------------------------------------------ */

static unsigned n_complete, n_broken, n_written; /* atomic */

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
	__atomic_add_fetch(&n_written, 1, __ATOMIC_RELEASE);
}

static const struct image_watcher watcher = { on_complete, on_broken, on_written, NULL };
static struct image_params params;
static struct point *point;
static struct image *image;

static void open_image(bool keep)
{
	ck_assert_int_eq(image_open(&rig_ops, rig_pool, &params, &image), 0);
	image_set_source(image, point, "lun", keep, &watcher);
}

static void start(bool keep)
{
	rig_start(SIZE, true);
	n_complete = n_broken = n_written = 0;
	params = (struct image_params){
		.id = 1, .size = SIZE, .generation = 1, .written = true
	};
	ck_assert_int_eq(pool_create_image(rig_pool, 1, SIZE, 1, false), 0);
	point = rig_point(2);
	open_image(keep);
}

static void close_image(void)
{
	image_cut_off(image);
	image_unref(image);
}

static void stop(void)
{
	close_image();
	point_remove(point);
	point_unref(point);
	rig_stop();
}

static int change(uint64_t offset, uint64_t len, char byte)
{
	static char buf[1 << 20];

	memset(buf, byte, len < sizeof(buf) ? len : sizeof(buf));
	return do_io(image, byte ? ENGINE_IO_WRITE : ENGINE_IO_ZERO, buf, offset, len);
}

/* Whether [from, to) reads as this byte, or (-1) as the source at the beginning. */
static bool reads_as(uint64_t from, uint64_t to, int byte)
{
	static char buf[1 << 20];

	while (from < to) {
		int n = do_io(image, ENGINE_IO_READ, buf, from,
			      to - from < sizeof(buf) ? to - from : sizeof(buf));

		if (n <= 0)
			return false;
		for (int i = 0; i < n; i++)
			if (buf[i] != (byte < 0 ? source_byte(from + (unsigned)i) : byte))
				return false;
		from += (unsigned)n;
	}
	return true;
}

static uint64_t present(void)
{
	struct image_progress progress;

	image_progress(image, &progress);
	return progress.bytes_present;
}

static void copy(void)
{
	image_start_copy(image);
	WAIT_FOR(NOW(n_complete) == 1);
}

/* ---- one rule a test ----------------------------------------------------------- */

START_TEST(a_change_of_a_part_keeps_the_rest)
{
	for (int keep = 0; keep < 2; keep++) {
		start(keep);
		ck_assert_int_eq(change(100, 1000, 'a'), 1000);
		ck_assert_int_eq(change(3 * CHUNK - 7, CHUNK + 9, 'b'), CHUNK + 9);
		ck_assert_int_eq(change(6 * CHUNK - 7, 3 * CHUNK + 9, 0), 0);
		ck_assert_int_eq(change(SIZE - 50, 100, 'c'), 50);
		ck_assert(reads_as(0, 100, -1));
		ck_assert(reads_as(100, 1100, 'a'));
		ck_assert(reads_as(1100, 3 * CHUNK - 7, -1));
		ck_assert(reads_as(3 * CHUNK - 7, 4 * CHUNK + 2, 'b'));
		ck_assert(reads_as(4 * CHUNK + 2, 6 * CHUNK - 7, -1));
		ck_assert(reads_as(6 * CHUNK - 7, 9 * CHUNK + 2, 0));
		ck_assert(reads_as(9 * CHUNK + 2, SIZE - 50, -1));
		ck_assert(reads_as(SIZE - 50, SIZE, 'c'));
		copy();
		ck_assert(reads_as(4 * CHUNK + 2, 6 * CHUNK - 7, -1));
		ck_assert(reads_as(6 * CHUNK - 7, 9 * CHUNK + 2, 0));
		ck_assert(reads_as(9 * CHUNK + 2, SIZE - 50, -1));
		ck_assert_uint_ne(image_changed_ms(image), 0);
		stop();
	}
}
END_TEST

START_TEST(changes_end_at_the_end)
{
	start(true);
	ck_assert_int_eq(change(SIZE - 1, 4096, 'a'), 1);
	ck_assert_int_eq(change(SIZE, 1, 'a'), -ENOSPC);
	ck_assert_int_eq(change(SIZE + 5, 1, 0), -ENOSPC);
	ck_assert_int_eq(change(SIZE + 5, 0, 'a'), 0);
	ck_assert_int_eq(change(SIZE - CHUNK, UINT64_MAX / 2, 0), 0);
	ck_assert(reads_as(SIZE - CHUNK, SIZE, 0));
	stop();
}
END_TEST

START_TEST(whole_chunks_are_written_without_the_source)
{
	start(false);
	SET(rig.silent, true);
	ck_assert_int_eq(change(CHUNK, 4 * CHUNK, 'a'), 4 * CHUNK);
	ck_assert_int_eq(change(6 * CHUNK, SIZE - 6 * CHUNK, 0), 0);
	ck_assert(reads_as(CHUNK, 5 * CHUNK, 'a'));
	ck_assert(reads_as(6 * CHUNK, SIZE, 0));
	ck_assert_ptr_null(rig.kept);
	stop();
}
END_TEST

START_TEST(overlapping_changes_keep_their_order)
{
	static char a[2 * CHUNK], b[2 * CHUNK];
	struct wait_io w[3];

	start(true);
	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	SET(rig.silent, true);
	wait_io_start(&w[0], image, ENGINE_IO_WRITE, a, 10, CHUNK);
	wait_io_start(&w[1], image, ENGINE_IO_WRITE, b, CHUNK, CHUNK);
	wait_io_start(&w[2], image, ENGINE_IO_ZERO, NULL, CHUNK + 5, 1);
	ck_assert_int_eq(change(4 * CHUNK, CHUNK, 'c'), CHUNK);
	ck_assert(!wait_io_is_done(&w[0]) && !wait_io_is_done(&w[1]));
	WAIT_FOR(NOW(rig.kept));
	SET(rig.silent, false);
	ram_resume(&rig);
	ck_assert_int_eq(wait_io_end(&w[0]), CHUNK);
	ck_assert_int_eq(wait_io_end(&w[1]), CHUNK);
	ck_assert_int_eq(wait_io_end(&w[2]), 0);
	ck_assert(reads_as(10, CHUNK, 'a'));
	ck_assert(reads_as(CHUNK, CHUNK + 5, 'b'));
	ck_assert(reads_as(CHUNK + 5, CHUNK + 6, 0));
	ck_assert(reads_as(CHUNK + 6, 2 * CHUNK, 'b'));
	stop();
}
END_TEST

START_TEST(the_first_change_waits_for_the_owner)
{
	char byte = 'x';
	struct wait_io w[2];

	start(false);
	close_image();
	params.written = false;
	params.clean = true;
	open_image(false);
	ck_assert(reads_as(0, SIZE, -1));
	for (int i = 0; i < 2; i++)
		wait_io_start(&w[i], image, ENGINE_IO_WRITE, &byte, (unsigned)i * CHUNK,
			      1);
	WAIT_FOR(NOW(n_written) == 1);
	usleep(20000);
	ck_assert(!wait_io_is_done(&w[0]) && !wait_io_is_done(&w[1]));
	ck_assert(reads_as(0, SIZE, -1));
	image_set_written(image);
	ck_assert_int_eq(wait_io_end(&w[0]), 1);
	ck_assert_int_eq(wait_io_end(&w[1]), 1);
	ck_assert_int_eq(change(5, 1, 'y'), 1);
	ck_assert_uint_eq(n_written, 1);
	ck_assert(reads_as(0, 1, 'x'));
	stop();
}
END_TEST

START_TEST(a_change_that_waits_for_the_owner_goes_on_when_cut_off)
{
	char byte = 'x';
	struct wait_io w[2];

	start(true);
	copy();
	close_image();
	params.written = false;
	open_image(true);
	for (int i = 0; i < 2; i++)
		wait_io_start(&w[i], image, ENGINE_IO_WRITE, &byte, i ? SIZE - 1 : 0, 1);
	WAIT_FOR(NOW(n_written) == 1);
	image_checkpoint(image);
	image_cut_off(image);
	ck_assert_int_eq(wait_io_end(&w[0]), 1);
	ck_assert_int_eq(wait_io_end(&w[1]), 1);
	stop();
}
END_TEST

START_TEST(a_snapshot_reads_through)
{
	char buf[CHUNK];

	start(false);
	memset(buf, 'z', sizeof(buf));
	ck_assert_int_eq(do_io(NULL, ENGINE_IO_WRITE, buf, 2 * CHUNK, CHUNK), CHUNK);
	ck_assert_int_eq(do_io(NULL, ENGINE_IO_WRITE, buf, 7 * CHUNK + 100, 5), 5);
	ck_assert(reads_as(0, SIZE, -1));
	ck_assert(reads_as(2 * CHUNK - 1, 3 * CHUNK + 1, -1));
	ck_assert(reads_as(SIZE - 3, SIZE, -1));
	ck_assert_uint_eq(present(), 0);
	ck_assert_int_eq(change(2 * CHUNK + 5, 3, 'p'), 3);
	ck_assert(reads_as(CHUNK + 13, 2 * CHUNK + 5, -1));
	ck_assert(reads_as(2 * CHUNK + 5, 2 * CHUNK + 8, 'p'));
	ck_assert_uint_eq(present(), CHUNK);

	/* What the chain's stores hold is read without the source. */
	bd_set_state(&rig.base, BD_AWAY, "away");
	ck_assert(reads_as(7 * CHUNK, 8 * CHUNK, -1));
	ck_assert_int_eq(do_io(image, ENGINE_IO_READ, buf, 0, 1), -EIO);
	bd_set_state(&rig.base, BD_READY, NULL);
	image_keep_reads(image);
	ck_assert(reads_as(0, 2 * CHUNK, -1));
	ck_assert_uint_eq(present(), 3 * CHUNK);
	stop();
}
END_TEST

START_TEST(what_is_unmapped_since_the_point_is_copied)
{
	start(false);
	ck_assert_int_eq(do_io(NULL, ENGINE_IO_ZERO, NULL, 0, 6 * CHUNK), 0);
	copy();
	ck_assert(reads_as(0, SIZE, -1));
	stop();
}
END_TEST

static void litter(void)
{
	static char garbage[SIZE];
	int fd = pool_open_image(rig_pool, 1, O_RDWR);

	memset(garbage, 'g', SIZE);
	ck_assert_int_eq(pwrite(fd, garbage, SIZE, 0), SIZE);
	close(fd);
}

START_TEST(what_an_earlier_generation_left_is_not_seen)
{
	for (int keep = 0; keep < 2; keep++) {
		start(keep);
		litter();
		memset(rig.bytes + 5 * CHUNK, 0, CHUNK);
		memset(rig.bytes + 6 * CHUNK + 4096, 0, CHUNK / 2);
		ck_assert_int_eq(change(CHUNK, CHUNK, 0), 0);
		ck_assert_int_eq(change(3 * CHUNK + 5, 6, 'a'), 6);
		copy();
		ck_assert(reads_as(0, CHUNK, -1));
		ck_assert(reads_as(CHUNK, 2 * CHUNK, 0));
		ck_assert(reads_as(2 * CHUNK, 3 * CHUNK, -1));
		ck_assert(reads_as(3 * CHUNK, 3 * CHUNK + 5, 0));
		ck_assert(reads_as(3 * CHUNK + 11, 4 * CHUNK, 0));
		ck_assert(reads_as(5 * CHUNK, 6 * CHUNK, 0));
		ck_assert(reads_as(6 * CHUNK, 6 * CHUNK + 4096, -1));
		ck_assert(reads_as(6 * CHUNK + 4096, 6 * CHUNK + 4096 + CHUNK / 2, 0));
		ck_assert(reads_as(6 * CHUNK + 4096 + CHUNK / 2, SIZE, -1));
		stop();
	}
}
END_TEST

START_TEST(a_full_pool_fails_the_change_and_breaks_nothing)
{
	start(false);
	close_image();
	params.written = false;
	params.clean = true;
	open_image(false);
	image_set_written(image);
	SET(disk_is_full, true);
	ck_assert_int_eq(change(3 * CHUNK, CHUNK, 'a'), -ENOSPC);
	ck_assert_int_eq(change(5 * CHUNK + 1, 1, 'a'), -ENOSPC);
	SET(disk_is_full, false);
	ck_assert_uint_eq(n_broken, 0);
	ck_assert_uint_eq(present(), 0);
	copy();
	ck_assert(reads_as(0, SIZE, -1));
	ck_assert_int_eq(change(5 * CHUNK + 1, 1, 'b'), 1);
	stop();
}
END_TEST

START_TEST(a_sync_that_failed_is_never_forgotten)
{
	start(true);
	ck_assert_int_eq(change(0, CHUNK, 'a'), CHUNK);
	ck_assert_int_eq(do_io(image, ENGINE_IO_FLUSH, NULL, 0, 0), 0);
	ck_assert_int_eq(change(5, 5, 'b'), 5);
	SET(sync_fails, true);
	ck_assert_int_eq(do_io(image, ENGINE_IO_FLUSH, NULL, 0, 0), -EIO);
	ck_assert_int_eq(do_io(image, ENGINE_IO_FLUSH, NULL, 0, 0), -EIO);
	ck_assert_uint_eq(n_broken, 1);
	stop();
}
END_TEST

START_TEST(a_flush_without_space_for_the_map_is_tried_again)
{
	start(true);
	ck_assert_int_eq(change(0, CHUNK, 'a'), CHUNK);
	SET(disk_is_full, true);
	ck_assert_int_eq(do_io(image, ENGINE_IO_FLUSH, NULL, 0, 0), -ENOSPC);
	SET(disk_is_full, false);
	ck_assert_uint_eq(n_broken, 0);
	ck_assert_int_eq(do_io(image, ENGINE_IO_FLUSH, NULL, 0, 0), 0);
	close_image();
	open_image(true);
	ck_assert_uint_eq(present(), CHUNK);
	stop();
}
END_TEST

START_TEST(what_was_flushed_is_there_after_a_crash)
{
	start(false);
	ck_assert_int_eq(change(0, 2 * CHUNK, 'a'), 2 * CHUNK);
	ck_assert_int_eq(change(4 * CHUNK + 1, 1, 'b'), 1);
	ck_assert_int_eq(do_io(image, ENGINE_IO_FLUSH, NULL, 0, 0), 0);
	ck_assert_int_eq(change(7 * CHUNK, CHUNK, 'c'), CHUNK);
	close_image();
	open_image(false);
	ck_assert_uint_eq(present(), 3 * CHUNK);
	ck_assert(reads_as(0, 2 * CHUNK, 'a'));
	ck_assert(reads_as(4 * CHUNK + 1, 4 * CHUNK + 2, 'b'));
	ck_assert(reads_as(7 * CHUNK, 8 * CHUNK, -1));
	copy();
	ck_assert(reads_as(7 * CHUNK, 8 * CHUNK, -1));
	stop();
}
END_TEST

START_TEST(without_a_source_absent_chunks_are_eio)
{
	char byte;

	start(true);
	ck_assert_int_eq(change(0, CHUNK, 'a'), CHUNK);
	image_cut_off(image);
	ck_assert_int_eq(change(5, 1, 'b'), 1);
	ck_assert_int_eq(change(CHUNK, CHUNK, 'b'), -EIO);
	ck_assert_int_eq(change(CHUNK, 1, 'b'), -EIO);
	ck_assert_int_eq(change(0, SIZE, 0), -EIO);
	ck_assert_int_eq(do_io(image, ENGINE_IO_READ, &byte, CHUNK, 1), -EIO);
	ck_assert_int_eq(do_io(image, ENGINE_IO_READ, &byte, 5, 1), 1);
	ck_assert_uint_eq(present(), CHUNK);
	stop();
}
END_TEST

START_TEST(holes_are_found)
{
	struct wait_io w;

	start(true);
	ck_assert_int_eq(change(CHUNK, 2 * CHUNK, 0), 0);
	wait_io_start(&w, image, ENGINE_IO_SEEK_HOLE, NULL, 0, 0);
	ck_assert_int_eq(wait_io_end(&w), 0);
	ck_assert_uint_eq(w.io.result, CHUNK);
	wait_io_start(&w, image, ENGINE_IO_SEEK_DATA, NULL, CHUNK + 1, 0);
	ck_assert_int_eq(wait_io_end(&w), 0);
	ck_assert_uint_eq(w.io.result, 3 * CHUNK);
	ck_assert_int_eq(change(11 * CHUNK, SIZE, 0), 0);
	ck_assert_int_eq(do_io(image, ENGINE_IO_SEEK_DATA, NULL, 11 * CHUNK, 0), -ENXIO);
	ck_assert_int_eq(do_io(image, ENGINE_IO_SEEK_HOLE, NULL, SIZE, 0), -ENXIO);
	stop();
}
END_TEST

START_TEST(a_redirected_image_is_its_volume)
{
	char byte = 'r';

	start(true);
	copy();
	image_redirect(image, rig.volume);
	ck_assert_int_eq(change(5, 1, 'q'), 1);
	ck_assert_int_eq(rig.bytes[5], 'q');
	rig.bytes[6] = byte;
	ck_assert(reads_as(6, 7, byte));
	stop();
}
END_TEST

/* ---- many ------------------------------------------------------------------------- */

enum { MANY = 5000 };

START_TEST(changes_behind_a_late_one_do_not_nest)
{
	struct wait_io *w = calloc(MANY, sizeof(*w));
	char byte = 'm';

	start(true);
	SET(rig.silent, true);
	for (unsigned i = 0; i < MANY; i++)
		wait_io_start(&w[i], image, ENGINE_IO_WRITE, &byte, 5, 1);
	for (unsigned i = 0; i < MANY; i++)
		ck_assert_int_eq(wait_io_end(&w[i]), -EIO);
	ram_resume(&rig);
	WAIT_FOR(change(5, 1, 'n') == 1);
	ck_assert(reads_as(5, 6, 'n'));
	stop();
	free(w);
}
END_TEST

START_TEST(reads_that_go_through_by_the_thousand_do_not_nest)
{
	struct wait_io *w = calloc(MANY, sizeof(*w));

	start(false);
	bd_set_state(&rig.base, BD_AWAY, "away");
	SET(rig.within, true);
	for (unsigned i = 0; i < MANY; i++)
		wait_io_start(&w[i], image, ENGINE_IO_READ, NULL, i % 700 * 1000, 1000);
	bd_set_state(&rig.base, BD_READY, NULL);
	for (unsigned i = 0; i < MANY; i++)
		ck_assert_int_eq(wait_io_end(&w[i]), 1000);
	stop();
	free(w);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_change_of_a_part_keeps_the_rest,
		changes_end_at_the_end,
		whole_chunks_are_written_without_the_source,
		overlapping_changes_keep_their_order,
		the_first_change_waits_for_the_owner,
		a_change_that_waits_for_the_owner_goes_on_when_cut_off,
		a_snapshot_reads_through,
		what_is_unmapped_since_the_point_is_copied,
		what_an_earlier_generation_left_is_not_seen,
		a_full_pool_fails_the_change_and_breaks_nothing,
		a_sync_that_failed_is_never_forgotten,
		a_flush_without_space_for_the_map_is_tried_again,
		what_was_flushed_is_there_after_a_crash,
		without_a_source_absent_chunks_are_eio,
		holes_are_found,
		a_redirected_image_is_its_volume,
		changes_behind_a_late_one_do_not_nest,
		reads_that_go_through_by_the_thousand_do_not_nest,
	};

	return unit_main("image_write", tests, ROWS(tests));
}
