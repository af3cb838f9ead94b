/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Restores of a volume from an image (engine/restore.h) over a device that misbehaves, one
 * behaviour at a time.  All of it at random, with processes that die:
 * check_restore_storm.c.
 *
 * The source consists of chunks of one byte each.  A point P (sequence 1) has an image;
 * chunk 1 was changed since P and is in its store; chunk 3 was written in the image; a
 * point N (sequence 2) holds the even chunks from 4 on.
 *
 * What these lines are for shows when they are broken; then these tests fail:
 *   restore.c, restore_plan(): no image_flush()           what_the_images_users_wrote_...
 *   restore.c, find_or_wait(): `abandoned` not looked at   a_restore_that_is_given_up_...
 *   restore.c, look_locked(): without MAX_MADE             a_long_zero_...
 *   restore_unit.c, drop_stale(): all logins taken         what_was_written_before_a_login_...
 *   restore_unit.c, unit_write(): logins taken in any case what_was_compared_before_a_login_...
 *   restore_unit.c, unit_start(): `same` not forgotten     what_was_compared_before_a_login_...
 *   restore_unit.c, fetched(): any error is that of a loss what_cannot_be_compared_...
 *   handover.c, choose_locked(): without is_kept()         a_point_that_leaves_stays_...
 *   volume_change.c, give_up(): without restore_cancel()   a_change_that_is_given_up_...
 *   chain.c, is_cut_off(): the stop only                   a_read_at_a_newer_point_...
 *   copier.c, must_ask(): without point_awaits_restore()   a_clone_that_is_begun_...
 *   volume_read.c, volume_seek(): asks all the same        nothing_is_a_hole_...
 */

#include "tests/device.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include "conf/cleanup.h"
#include "engine/chain_int.h"
#include "engine/image.h"
#include "engine/restore.h"
#include "engine/volume_int.h"

enum { CHUNK = POOL_CHUNK_SIZE, N = 30, SIZE = N * CHUNK + 4096, SHORT_MS = 600 };
enum { BEFORE = 'a', CHANGED = 'b', WRITTEN = 'c', LATER = 'd' };

static struct device d;
static struct point *p, *n;
static struct image *image;
static struct restore *restore;
static unsigned n_done, n_broken, n_handed; /* atomic */

static void point_broke(void *opaque, uint64_t id, int error, const char *reason)
{
	(void)opaque;
	(void)id;
	(void)error;
	(void)reason;
	ADD(n_broken, 1);
}

static void point_handed(void *opaque, uint64_t id)
{
	(void)opaque;
	(void)id;
	ADD(n_handed, 1);
}

static struct point *take_point(uint64_t sequence)
{
	const struct point_params params = {
		.id = sequence,
		.sequence = sequence,
		.size = SIZE,
		.pool = world.pool,
		.source_name = "lun",
		.watcher = { point_broke, point_handed, NULL },
	};
	struct point *point;

	ck_assert_int_eq(pool_create_point(world.pool, sequence, SIZE), 0);
	ck_assert_int_eq(point_open(d.volume, &params, &point), 0);
	point_arm(point, true);
	return point;
}

static void drop_point(struct point *point)
{
	point_remove(point);
	point_unref(point);
}

static void write_chunk(unsigned chunk, char byte)
{
	static char buf[CHUNK];

	memset(buf, byte, CHUNK);
	ck_assert_int_eq(volume_write(d.volume, chunk * CHUNK, buf, CHUNK), CHUNK);
}

static void read_chunks(unsigned chunk, unsigned count, char *buf)
{
	struct engine_io io = { .op = ENGINE_IO_READ,
				.offset = chunk * CHUNK,
				.len = count * CHUNK,
				.data = buf };

	ck_assert_int_eq(volume_wait_io(d.volume, &io, 60000, NULL), 0);
}

/* ---- the image --------------------------------------------------------------------- */

struct image_call {
	struct engine_io io;
	char buf[CHUNK];
	int error;
	bool done; /* atomic */
};

static void image_answered(struct engine_io *io, int error, const void *buf, size_t len)
{
	struct image_call *c = (struct image_call *)io;

	if (buf)
		memcpy(c->buf, buf, len);
	c->error = error;
	SET(c->done, true);
}

static void image_begin(struct image_call *c, enum engine_io_op op, unsigned chunk,
			char byte)
{
	*c = (struct image_call){ .io = { .op = op,
					  .offset = chunk * CHUNK,
					  .len = CHUNK,
					  .data = op == ENGINE_IO_WRITE ? c->buf : NULL,
					  .done = image_answered } };
	memset(c->buf, byte, CHUNK);
	image_io(image, &c->io, 60000);
}

static void image_write_chunk(unsigned chunk, char byte)
{
	struct image_call c;

	image_begin(&c, ENGINE_IO_WRITE, chunk, byte);
	WAIT_FOR(NOW(c.done));
	ck_assert_int_eq(c.error, 0);
}

static void no_news(void *opaque)
{
	(void)opaque;
}

static void no_break(void *opaque, int error, const char *reason)
{
	(void)opaque;
	(void)error;
	(void)reason;
}

static struct image *open_image(uint64_t id)
{
	const struct image_params params = {
		.id = id, .size = SIZE, .generation = 1, .written = true
	};
	struct image *img;

	ck_assert_int_eq(image_open(&world.dataops, world.pool, &params, &img), 0);
	return img;
}

static void connect_image(struct image *img, struct point *point, bool keep)
{
	const struct image_watcher watcher = { no_news, no_break, no_news, NULL };

	image_set_source(img, point, "lun", keep, &watcher);
}

/* ---- the restore --------------------------------------------------------------------- */

static void is_done(void *opaque)
{
	(void)opaque;
	ADD(n_done, 1);
}

static void setup(bool thin)
{
	world_start("/tmp", 4);
	device_start(&d, SIZE, 512, thin, NULL);
	n_done = n_broken = n_handed = 0;
	memset(d.bytes, BEFORE, SIZE);
	p = take_point(1);
	ck_assert_int_eq(pool_create_image(world.pool, 1, SIZE, 1, false), 0);
	image = open_image(1);
	connect_image(image, p, false);
	write_chunk(1, CHANGED);
	n = take_point(2);
	for (unsigned i = 4; i < N; i += 2)
		write_chunk(i, CHANGED);
	image_write_chunk(3, WRITTEN);
}

static void open_restore(void)
{
	const struct restore_params params = {
		.volume = d.volume,
		.point = p,
		.image = image,
		.pool = world.pool,
		.sequence = 3,
		.size = SIZE,
		.watcher = { is_done, NULL },
	};

	ck_assert_int_eq(pool_create_restore(world.pool, 3, SIZE), 0);
	ck_assert_int_eq(restore_open(&params, &restore), 0);
}

/* Nothing else is under way: as under a fence. */
static void begin_restore(void)
{
	open_restore();
	ck_assert_int_eq(restore_plan(restore), 0);
	restore_attach(restore);
}

static void end_restore(void)
{
	WAIT_FOR(NOW(n_done) == 1);
	restore_detach(restore);
	restore_unref(move_ptr(restore));
}

static void check_source(void)
{
	for (unsigned i = 0; i < N; i++) {
		char want = i == 3 ? WRITTEN : BEFORE;

		ck_assert_msg(d.bytes[i * CHUNK] == want &&
				      d.bytes[(i + 1) * CHUNK - 1] == want,
			      "chunk %u is '%c'", i, d.bytes[i * CHUNK]);
	}
}

static void teardown(void)
{
	image_cut_off(image);
	image_unref(image);
	drop_point(p);
	if (n)
		drop_point(n);
	device_stop(&d);
	world_end();
	device_free(&d);
}

START_TEST(the_source_is_what_the_image_is)
{
	char *buf = malloc(N * CHUNK);
	struct restore_progress progress;

	setup(false);
	SET(d.silent, true);
	begin_restore();
	restore_progress(restore, &progress);
	ck_assert_uint_eq(progress.bytes_total, 15 * CHUNK);
	ck_assert_uint_eq(progress.bytes_copied, 0);
	device_speak(&d);
	/* At once, whatever was copied back. */
	read_chunks(0, N, buf);
	for (unsigned i = 0; i < N; i++)
		ck_assert_int_eq(buf[i * CHUNK], i == 3 ? WRITTEN : BEFORE);
	WAIT_FOR(NOW(n_done));
	restore_progress(restore, &progress);
	ck_assert_uint_eq(progress.bytes_copied, 15 * CHUNK);
	check_source();
	end_restore();
	free(buf);
	teardown();
}
END_TEST

START_TEST(what_the_images_users_wrote_is_durable_before_the_restore_begins)
{
	struct image *again;
	uint64_t run = 1;
	bool has;

	setup(false);
	open_restore();
	ck_assert_int_eq(restore_plan(restore), 0);
	/* As the next process finds it. */
	again = open_image(1);
	ck_assert_int_eq(image_has_private(again, 3, &run, &has), 0);
	ck_assert(has);
	image_unref(again);
	restore_attach(restore);
	end_restore();
	teardown();
}
END_TEST

static void count_call(struct chain_waiter *w)
{
	(void)w;
	ADD(n_handed, 1);
}

START_TEST(a_restore_that_is_given_up_before_it_begins_copies_nothing)
{
	struct chain_waiter early = { .fn = count_call }, late = { .fn = count_call };
	unsigned n_changes;
	struct image_call c;

	setup(false);
	n_changes = NOW(d.n_changes);
	open_restore();
	ck_assert_int_eq(restore_plan(restore), 0);
	ck_assert(!restore_prepare(restore, 3, 1, &early));
	image_begin(&c, ENGINE_IO_WRITE, 3, LATER);
	ck_assert(!NOW(c.done));
	restore_detach(restore);
	ck_assert_uint_eq(n_handed, 1);
	/* Who had looked it up before. */
	ck_assert(restore_prepare(restore, 3, 1, &late));
	WAIT_FOR(NOW(c.done));
	ck_assert_int_eq(c.error, 0);
	ck_assert_uint_eq(NOW(d.n_changes), n_changes);
	restore_unref(restore);
	teardown();
}
END_TEST

/* ---- the device goes ------------------------------------------------------------------- */

static void on_drained(struct volume_fence *fence)
{
	SET(*(bool *)fence->opaque, true);
}

START_TEST(a_change_that_is_given_up_does_not_hold_up_a_fence)
{
	bool drained = false;
	struct volume_fence fence = { .drained = on_drained, .opaque = &drained };
	struct tally t = { 0 };

	setup(false);
	SET(d.lose_before, 1000);
	begin_restore();
	tally_io(&t, d.volume, ENGINE_IO_WRITE, CHUNK, 4096, SHORT_MS);
	WAIT_FOR(!tally_open(&t));
	ck_assert_uint_eq(t.n_eio, 1);
	volume_close_fence(d.volume, &fence);
	WAIT_FOR(NOW(drained));
	volume_open_fence(d.volume, &fence);
	SET(d.lose_before, 0);
	end_restore();
	check_source();
	teardown();
}
END_TEST

START_TEST(a_read_that_waits_for_a_device_holds_no_buffer)
{
	struct tally t = { 0 };

	setup(false);
	SET(d.lose_before, 1000);
	begin_restore();
	tally_io(&t, d.volume, ENGINE_IO_READ, CHUNK, 4096, 60000);
	device_away(&d);
	WAIT_FOR(!NOW(d.volume->n_reads));
	ck_assert_uint_eq(tally_open(&t), 1);
	SET(d.lose_before, 0);
	device_back(&d);
	WAIT_FOR(!tally_open(&t));
	ck_assert_uint_eq(t.n_right, 1);
	end_restore();
	teardown();
}
END_TEST

struct reading {
	struct point_req req;
	int error;
	bool done; /* atomic */
};

static void have_read(struct point_req *req, int error)
{
	struct reading *r = (struct reading *)req;

	r->error = error;
	SET(r->done, true);
}

static int read_point(struct point *point, unsigned chunk, char *buf)
{
	struct reading r = { .req = { .point = point,
				      .offset = chunk * CHUNK,
				      .length = CHUNK,
				      .buf = buf,
				      .done = have_read } };

	point_read(&r.req);
	WAIT_FOR(NOW(r.done));
	return r.error;
}

START_TEST(a_read_at_a_newer_point_does_not_wait_for_a_device)
{
	static char buf[CHUNK];
	struct point *x;

	setup(false);
	SET(d.lose_before, 1000);
	begin_restore();
	x = take_point(4);
	device_away(&d);
	ck_assert_int_eq(read_point(x, 1, buf), -ENOTCONN);
	/* An older one has it in its store. */
	ck_assert_int_eq(read_point(p, 1, buf), 0);
	ck_assert_int_eq(buf[0], BEFORE);
	SET(d.lose_before, 0);
	device_back(&d);
	ck_assert_int_eq(read_point(x, 1, buf), 0);
	ck_assert_int_eq(buf[0], BEFORE);
	ck_assert_int_eq(read_point(x, 3, buf), 0);
	ck_assert_int_eq(buf[0], WRITTEN);
	ck_assert_int_eq(read_point(n, 4, buf), 0);
	ck_assert_int_eq(buf[0], BEFORE);
	ck_assert_int_eq(read_point(n, 1, buf), 0);
	ck_assert_int_eq(buf[0], CHANGED);
	end_restore();
	drop_point(x);
	teardown();
}
END_TEST

static unsigned n_logins; /* that are still to come */

static void log_in(struct device *device, const struct bd_req *req)
{
	(void)req;
	if (n_logins) {
		n_logins--;
		bd_count_login(&device->base);
	}
}

/* There are 14 runs of chunks.  The target may have lost its cache, with what was written before. */
START_TEST(what_was_written_before_a_login_is_written_again)
{
	unsigned n_changes;

	setup(false);
	open_restore();
	ck_assert_int_eq(restore_plan(restore), 0);
	n_changes = NOW(d.n_changes);
	n_logins = 3;
	d.on_change = log_in;
	restore_attach(restore);
	end_restore();
	ck_assert_uint_ge(NOW(d.n_changes), n_changes + 14 + 3);
	check_source();
	teardown();
}
END_TEST

/* ---- of a complete image --------------------------------------------------------- */

static bool loses_cache; /* atomic: at the next sync of a file of ours */

int fdatasync(int fd)
{
	if (__atomic_exchange_n(&loses_cache, false, __ATOMIC_ACQ_REL)) {
		pthread_mutex_lock(&d.lock);
		memset(d.bytes + 2 * CHUNK, LATER, CHUNK);
		pthread_mutex_unlock(&d.lock);
		bd_count_login(&d.base);
	}
	return (int)syscall(SYS_fdatasync, fd);
}

/* The same content as that of the other one, in which two chunks differ from the source's:
 * 1 and 3; the rest of it is what the source has. */
static void setup_clone(void)
{
	static char buf[SIZE];
	const struct image_params params = {
		.id = 2, .size = SIZE, .generation = 1, .complete = true, .written = true
	};
	int fd;

	world_start("/tmp", 4);
	device_start(&d, SIZE, 512, false, NULL);
	n_done = n_broken = n_handed = 0;
	memset(buf, BEFORE, SIZE);
	memset(buf + 3 * CHUNK, WRITTEN, CHUNK);
	memset(d.bytes, BEFORE, SIZE);
	memset(d.bytes + CHUNK, CHANGED, CHUNK);
	p = NULL;
	n = take_point(2);
	ck_assert_int_eq(pool_create_image(world.pool, 2, SIZE, 1, false), 0);
	fd = pool_open_image(world.pool, 2, O_WRONLY);
	ck_assert_int_eq(pwrite(fd, buf, SIZE, 0), SIZE);
	close(fd);
	ck_assert_int_eq(image_open(&world.dataops, world.pool, &params, &image), 0);
	connect_image(image, NULL, true);
}

static void teardown_clone(void)
{
	image_cut_off(image);
	image_unref(image);
	drop_point(n);
	device_stop(&d);
	world_end();
	device_free(&d);
}

START_TEST(of_a_complete_image_only_what_differs_is_written)
{
	struct restore_progress progress;
	unsigned n_changes;
	char *buf = malloc(N * CHUNK);

	setup_clone();
	n_changes = NOW(d.n_changes);
	begin_restore();
	read_chunks(0, N, buf);
	for (unsigned i = 0; i < N; i++)
		ck_assert_int_eq(buf[i * CHUNK], i == 3 ? WRITTEN : BEFORE);
	WAIT_FOR(NOW(n_done));
	ck_assert_uint_eq(NOW(d.n_changes), n_changes + 2);
	restore_progress(restore, &progress);
	ck_assert_uint_eq(progress.bytes_total, (N + 1) * CHUNK);
	ck_assert_uint_eq(progress.bytes_copied, 2 * CHUNK);
	ck_assert_uint_eq(progress.bytes_skipped, (N - 1) * CHUNK);
	end_restore();
	check_source();
	/* The point has what was replaced. */
	ck_assert_int_eq(read_point(n, 1, buf), 0);
	ck_assert_int_eq(buf[0], CHANGED);
	ck_assert_int_eq(read_point(n, 3, buf), 0);
	ck_assert_int_eq(buf[0], BEFORE);
	free(buf);
	teardown_clone();
}
END_TEST

/* It was the same, and the target has lost it since. */
START_TEST(what_was_compared_before_a_login_is_compared_again)
{
	setup_clone();
	open_restore();
	ck_assert_int_eq(restore_plan(restore), 0);
	SET(loses_cache, true);
	restore_attach(restore);
	end_restore();
	ck_assert(!NOW(loses_cache));
	check_source();
	teardown_clone();
}
END_TEST

START_TEST(what_cannot_be_compared_is_written)
{
	setup_clone();
	drop_point(n);
	n = NULL;
	SET(d.bad, 5 * CHUNK + 7);
	begin_restore();
	end_restore();
	SET(d.bad, 0);
	check_source();
	n = take_point(4);
	teardown_clone();
}
END_TEST

START_TEST(the_end_of_the_engine_ends_all_that_waits)
{
	struct image_call c;
	struct tally t = { 0 };

	setup(false);
	SET(d.lose_before, 1000);
	begin_restore();
	tally_io(&t, d.volume, ENGINE_IO_READ, CHUNK, 4096, 60000);
	tally_io(&t, d.volume, ENGINE_IO_WRITE, 2 * CHUNK, 4 * CHUNK, 60000);
	image_begin(&c, ENGINE_IO_WRITE, 3, LATER);
	device_away(&d);
	dataops_stop(&world.dataops);
	volume_detach(d.volume);
	volume_kick(d.volume);
	restore_detach(restore);
	restore_kick(restore);
	restore_unref(move_ptr(restore));
	ck_assert_uint_eq(t.n_other, 2);
	WAIT_FOR(NOW(c.done));
	ck_assert_int_eq(c.error, -ENOTCONN);
	teardown();
}
END_TEST

/* ---- points, and what a thin device tells ----------------------------------------------- */

/* A medium error under what the restore replaces: P and N cannot keep it, and break; N's
 * pair lets go of N, whose chunks the restore still needs. */
START_TEST(a_point_that_leaves_stays_while_the_restore_reads_it)
{
	setup(false);
	d.bad = 3 * CHUNK + 700;
	SET(d.late_us, 20000);
	begin_restore();
	WAIT_FOR(NOW(n_broken) == 2);
	point_leave(n);
	point_tick(n);
	WAIT_FOR(NOW(n_done));
	ck_assert_uint_eq(NOW(n_handed), 0);
	check_source();
	end_restore();
	WAIT_FOR(NOW(n_handed) == 1);
	teardown();
}
END_TEST

static int64_t seek(bool data, uint64_t offset)
{
	struct engine_io io = { .op = data ? ENGINE_IO_SEEK_DATA : ENGINE_IO_SEEK_HOLE,
				.offset = offset };
	int r = volume_wait_io(d.volume, &io, 60000, NULL);

	return r ? r : (int64_t)io.result;
}

START_TEST(nothing_is_a_hole_while_it_is_restored)
{
	setup(true);
	ck_assert_int_eq(volume_zero(d.volume, 10 * CHUNK, 4 * CHUNK), 0);
	ck_assert_int_eq(seek(false, 0), 10 * CHUNK);
	ck_assert_int_eq(seek(true, 11 * CHUNK), 14 * CHUNK);
	SET(d.lose_changes, 1000);
	begin_restore();
	ck_assert_int_eq(seek(false, 0), SIZE);
	ck_assert_int_eq(seek(true, 11 * CHUNK), 11 * CHUNK);
	SET(d.lose_changes, 0);
	end_restore();
	check_source();
	teardown();
}
END_TEST

START_TEST(a_clone_that_is_begun_meanwhile_is_of_the_restored_content)
{
	struct image *clone;
	struct point *x;
	char *bytes = malloc(SIZE);
	int fd;

	setup(true);
	ck_assert_int_eq(volume_zero(d.volume, 8 * CHUNK, (N - 8) * CHUNK), 0);
	ck_assert_int_eq(pool_create_image(world.pool, 2, SIZE, 1, false), 0);
	SET(d.lose_changes, 1000);
	begin_restore();
	x = take_point(4);
	clone = open_image(2);
	connect_image(clone, x, true);
	image_start_copy(clone);
	usleep(50000); /* it may do what it would do wrong */
	SET(d.lose_changes, 0);
	image_start_copy(clone);
	WAIT_FOR(image_is_complete(clone));
	fd = pool_open_image(world.pool, 2, 0);
	ck_assert_int_eq(pread(fd, bytes, SIZE, 0), SIZE);
	close(fd);
	end_restore();
	check_source();
	ck_assert(!memcmp(bytes, d.bytes, SIZE));
	image_cut_off(clone);
	image_unref(clone);
	drop_point(x);
	free(bytes);
	teardown();
}
END_TEST

START_TEST(a_long_zero_makes_few_units_at_once)
{
	struct tally t = { 0 };

	setup(false);
	SET(d.silent, true);
	begin_restore();
	/* Four of the background, and four of the change. */
	tally_io(&t, d.volume, ENGINE_IO_ZERO, 0, SIZE, 60000);
	usleep(100000);
	ck_assert_uint_le(NOW(d.n_kept), 8);
	device_speak(&d);
	WAIT_FOR(!tally_open(&t));
	ck_assert_uint_eq(t.n_right, 1);
	end_restore();
	for (unsigned i = 0; i < SIZE; i++)
		ck_assert_int_eq(d.bytes[i], 0);
	teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		the_source_is_what_the_image_is,
		what_the_images_users_wrote_is_durable_before_the_restore_begins,
		a_restore_that_is_given_up_before_it_begins_copies_nothing,
		a_change_that_is_given_up_does_not_hold_up_a_fence,
		a_read_that_waits_for_a_device_holds_no_buffer,
		a_read_at_a_newer_point_does_not_wait_for_a_device,
		what_was_written_before_a_login_is_written_again,
		of_a_complete_image_only_what_differs_is_written,
		what_was_compared_before_a_login_is_compared_again,
		what_cannot_be_compared_is_written,
		the_end_of_the_engine_ends_all_that_waits,
		a_point_that_leaves_stays_while_the_restore_reads_it,
		nothing_is_a_hole_while_it_is_restored,
		a_clone_that_is_begun_meanwhile_is_of_the_restored_content,
		a_long_zero_makes_few_units_at_once,
	};

	return unit_main("restore", tests, ROWS(tests));
}
