/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * An image that is a LUN, one behaviour at a time: what arrives, when a bit is set, what
 * a lost connection and a lost cache take back and what not, and who waits for a target
 * that does not answer.  The same at random: check_image_storm.c.
 */

#include <inttypes.h>

#include "tests/image_rig.h"

enum { SIZE = 40 * CHUNK + 8192, MORE = 3 * CHUNK / 2, IMAGE = 1, POINT = 2 };

static struct image *image;
static struct point *point;
static unsigned n_complete, n_broken; /* atomic */
static char reason[IMAGE_REASON_MAX];
static char instant[SIZE], old[SIZE + MORE];

static void on_complete(void *opaque)
{
	(void)opaque;
	__atomic_add_fetch(&n_complete, 1, __ATOMIC_RELEASE);
}

static void on_broken(void *opaque, int error, const char *text)
{
	(void)opaque;
	(void)error;
	snprintf(reason, sizeof(reason), "%s", text);
	__atomic_add_fetch(&n_broken, 1, __ATOMIC_RELEASE);
}

static void on_written(void *opaque)
{
	(void)opaque;
}

static const struct image_watcher watcher = { on_complete, on_broken, on_written, NULL };

static void open_image(void)
{
	const struct image_params params = {
		.id = IMAGE,
		.size = rig_target->size,
		.generation = 1,
		.written = true,
		.target = rig_target->volume,
		.target_name = "t",
		.copy_size = SIZE,
	};

	ck_assert_int_eq(image_open(&rig_ops, rig_pool, &params, &image), 0);
	image_set_source(image, point, "lun", true, &watcher);
}

static void start(uint32_t block_size)
{
	n_complete = n_broken = 0;
	rig_start(SIZE, true);
	rig_start_target(SIZE + MORE, block_size);
	memcpy(instant, rig.bytes, SIZE);
	memcpy(old, rig_target->bytes, SIZE + MORE);
	ck_assert_int_eq(pool_create_map(rig_pool, IMAGE, SIZE, 1), 0);
	point = rig_point(POINT);
	open_image();
}

static void stop(void)
{
	image_cut_off(image);
	image_unref(move_ptr(image));
	point_remove(point);
	point_unref(point);
	rig_stop();
}

static bool is_complete(void)
{
	image_start_copy(image);
	return NOW(n_complete);
}

/* The target holds the instant, and behind it what it had. */
static void check_target(const char *what)
{
	ck_assert_msg(!memcmp(rig_target->bytes, instant, SIZE), "%s: not the instant",
		      what);
	ck_assert_msg(!memcmp(rig_target->bytes + SIZE, old + SIZE, MORE),
		      "%s: the rest of the target was changed", what);
	ck_assert_msg(!memcmp(rig_target->durable, rig_target->bytes, SIZE + MORE),
		      "%s: not durable", what);
}

START_TEST(all_arrives_on_a_target_full_of_old_data)
{
	static const uint32_t block_sizes[] = { 1, 512, 4096 };
	char what[64];

	for (unsigned i = 0; i < 6; i++) {
		start(block_sizes[i / 2]);
		/* Zeros within chunks, too. */
		memset(rig.bytes + 5 * CHUNK + 4096, 0, 8192);
		memset(rig.bytes + 9 * CHUNK + 20000, 0, 3 * CHUNK);
		memcpy(instant, rig.bytes, SIZE);
		SET(rig_target->no_zero, i % 2);
		snprintf(what, sizeof(what), "blocks of %u, %s", block_sizes[i / 2],
			 i % 2 ? "zeros are written" : "zeros are unmapped");
		WAIT_FOR(is_complete());
		check_target(what);
		ck_assert_msg((rig_target->n_zeros > 0) == !(i % 2), "%s: %u", what,
			      rig_target->n_zeros);
		stop();
	}
}
END_TEST

START_TEST(a_copy_writes_in_larger_pieces_than_its_users)
{
	static char buf[1 << 20];

	start(512);
	memset(rig.mapped, 1, SIZE / CHUNK + 1);
	memset(rig.bytes, 1, SIZE);
	memcpy(instant, rig.bytes, SIZE);
	rig_target->base.info.opt_copy = 1 << 20;
	WAIT_FOR(is_complete());
	check_target("in pieces of 1 MiB");
	ck_assert_uint_eq(NOW(rig_target->longest_write), 1 << 20);
	SET(rig_target->longest_write, 0);
	memset(buf, 2, sizeof(buf));
	ck_assert_int_eq(do_io(image, ENGINE_IO_WRITE, buf, 0, sizeof(buf)), sizeof(buf));
	ck_assert_uint_eq(NOW(rig_target->longest_write), 256 << 10);
	stop();
}
END_TEST

static int read_chunk(uint64_t chunk)
{
	static char buf[CHUNK];
	int r = do_io(image, ENGINE_IO_READ, buf, chunk * CHUNK, CHUNK);

	if (r == CHUNK)
		ck_assert_msg(!memcmp(buf, instant + chunk * CHUNK, CHUNK),
			      "chunk %" PRIu64 " is not that of the instant", chunk);
	return r;
}

static uint64_t n_present(void)
{
	struct image_progress progress;

	image_progress(image, &progress);
	return progress.bytes_present / CHUNK;
}

static bool has_synced(uint64_t n)
{
	image_checkpoint_soon(image);
	return n_present() == n;
}

START_TEST(a_bit_is_set_after_the_sync_only)
{
	start(512);
	SET(rig_target->sync_error, -ENOTCONN);
	ck_assert_int_eq(read_chunk(2), CHUNK);
	ck_assert_int_eq(read_chunk(2), CHUNK);
	ck_assert_uint_eq(n_present(), 0);
	SET(rig_target->sync_error, 0);
	ck_assert_int_eq(read_chunk(2), CHUNK);
	WAIT_FOR(has_synced(1));
	ck_assert_int_eq(
		memcmp(rig_target->durable + 2 * CHUNK, instant + 2 * CHUNK, CHUNK), 0);
	stop();
}
END_TEST

/* A login that nobody tells of, as the device is ready before and after it. */
static void log_in_again(void)
{
	pthread_mutex_lock(&rig_target->lock);
	__atomic_add_fetch(&rig_target->session, 1, __ATOMIC_RELEASE);
	memcpy(rig_target->bytes, rig_target->durable, rig_target->size);
	pthread_mutex_unlock(&rig_target->lock);
	bd_count_login(&rig_target->base);
}

START_TEST(what_was_not_synced_before_a_new_login_is_copied_again)
{
	start(512);
	ck_assert_int_eq(read_chunk(2), CHUNK);
	log_in_again();
	ck_assert_int_eq(read_chunk(2), CHUNK);
	ck_assert_int_eq(read_chunk(4), CHUNK);
	log_in_again();
	WAIT_FOR(has_synced(0));
	WAIT_FOR(NOW(rig_target->n_syncs) > 1);
	ck_assert_uint_eq(n_present(), 0);
	WAIT_FOR(is_complete());
	check_target("after logins");
	stop();
}
END_TEST

START_TEST(a_read_that_a_new_login_has_overtaken_is_done_again)
{
	static char buf[CHUNK];
	struct wait_io w;

	start(512);
	ck_assert_int_eq(read_chunk(2), CHUNK);
	SET(rig_target->silent, true);
	wait_io_start(&w, image, ENGINE_IO_READ, buf, 2 * CHUNK, CHUNK);
	WAIT_FOR(NOW(rig_target->kept));
	log_in_again();
	ram_resume(rig_target);
	ck_assert_int_eq(wait_io_end(&w), CHUNK);
	ck_assert_int_eq(memcmp(buf, instant + 2 * CHUNK, CHUNK), 0);
	stop();
}
END_TEST

START_TEST(a_change_that_was_answered_outlives_a_lost_cache_or_connection)
{
	static char mine[2 * CHUNK], buf[2 * CHUNK];

	start(512);
	memset(mine, 'm', sizeof(mine));
	/* The whole of two chunks, then parts of chunks that had to be filled. */
	ck_assert_int_eq(do_io(image, ENGINE_IO_WRITE, mine, 10 * CHUNK, 2 * CHUNK),
			 2 * CHUNK);
	ck_assert_int_eq(memcmp(rig_target->durable + 10 * CHUNK, mine, 2 * CHUNK), 0);
	ck_assert_int_eq(do_io(image, ENGINE_IO_ZERO, NULL, 14 * CHUNK, CHUNK), 0);
	ck_assert_int_eq(do_io(image, ENGINE_IO_WRITE, mine, 20 * CHUNK + 100, 5000),
			 5000);
	ck_assert_int_eq(
		memcmp(rig_target->durable + 20 * CHUNK, instant + 20 * CHUNK, 100), 0);
	ck_assert_int_eq(do_io(image, ENGINE_IO_FLUSH, NULL, 0, 0), 0);
	ram_away(rig_target);
	log_in_again();
	ram_back(rig_target);
	memcpy(instant + 10 * CHUNK, mine, 2 * CHUNK);
	memset(instant + 14 * CHUNK, 0, CHUNK);
	memcpy(instant + 20 * CHUNK + 100, mine, 5000);
	ck_assert_int_eq(do_io(image, ENGINE_IO_READ, buf, 10 * CHUNK, 2 * CHUNK),
			 2 * CHUNK);
	ck_assert_int_eq(memcmp(buf, mine, 2 * CHUNK), 0);
	/* Those that are under way wait for the next login. */
	SET(rig_target->lose_after, 1000);
	{
		struct wait_io w;

		wait_io_start(&w, image, ENGINE_IO_WRITE, mine, 30 * CHUNK, CHUNK);
		usleep(50000);
		ck_assert(!wait_io_is_done(&w));
		SET(rig_target->lose_after, 0);
		ram_away(rig_target);
		ram_back(rig_target);
		ck_assert_int_eq(wait_io_end(&w), CHUNK);
	}
	memcpy(instant + 30 * CHUNK, mine, CHUNK);
	WAIT_FOR(is_complete());
	ck_assert_int_eq(do_io(image, ENGINE_IO_FLUSH, NULL, 0, 0), 0);
	check_target("after changes");
	stop();
}
END_TEST

START_TEST(what_was_flushed_is_there_after_the_process_has_died)
{
	static char mine[CHUNK];

	start(512);
	memset(mine, 'm', sizeof(mine));
	ck_assert_int_eq(do_io(image, ENGINE_IO_WRITE, mine, 10 * CHUNK, CHUNK), CHUNK);
	ck_assert_int_eq(do_io(image, ENGINE_IO_FLUSH, NULL, 0, 0), 0);
	image_cut_off(image);
	image_unref(move_ptr(image));
	rig_replace_target();
	open_image();
	memcpy(instant + 10 * CHUNK, mine, CHUNK);
	ck_assert_int_eq(read_chunk(10), CHUNK);
	ck_assert_uint_eq(n_present(), 1);
	WAIT_FOR(is_complete());
	check_target("in the end");
	stop();
}
END_TEST

START_TEST(what_lies_behind_the_source_is_its_users)
{
	static char buf[CHUNK + MORE], mine[2 * CHUNK];

	start(512);
	memset(mine, 'm', sizeof(mine));
	/* The source is not needed for it. */
	ram_away(&rig);
	ck_assert_int_eq(do_io(image, ENGINE_IO_READ, buf, SIZE, MORE), MORE);
	ck_assert_int_eq(memcmp(buf, old + SIZE, MORE), 0);
	ck_assert_int_eq(do_io(image, ENGINE_IO_WRITE, mine, SIZE + 512, 700), 700);
	ram_back(&rig);
	/* Over its end: both sides of it. */
	ck_assert_int_eq(do_io(image, ENGINE_IO_WRITE, mine, SIZE - 1000, 1300), 1300);
	ck_assert_int_eq(do_io(image, ENGINE_IO_READ, buf, SIZE - CHUNK, CHUNK + MORE),
			 CHUNK + MORE);
	memcpy(instant + SIZE - 1000, mine, 1000);
	memcpy(old + SIZE, mine, 300);
	memcpy(old + SIZE + 512, mine, 700);
	ck_assert_int_eq(memcmp(buf, instant + SIZE - CHUNK, CHUNK), 0);
	ck_assert_int_eq(memcmp(buf + CHUNK, old + SIZE, MORE), 0);
	ck_assert_int_eq(do_io(image, ENGINE_IO_WRITE, mine, SIZE + MORE, 1), -ENOSPC);
	ck_assert_int_eq(do_io(image, ENGINE_IO_READ, buf, SIZE + MORE, 1), 0);
	WAIT_FOR(is_complete());
	ck_assert_int_eq(do_io(image, ENGINE_IO_FLUSH, NULL, 0, 0), 0);
	check_target("in the end");
	stop();
}
END_TEST

START_TEST(a_target_that_fails_breaks_the_copy_and_is_named)
{
	start(512);
	SET(rig_target->sync_error, -EIO);
	WAIT_FOR((image_start_copy(image), NOW(n_broken)));
	ck_assert_str_eq(reason,
			 "target t: its cache cannot be synced: Input/output error");
	ck_assert_uint_eq(n_complete, 0);
	ck_assert_uint_eq(n_present(), 0);
	stop();
	start(512);
	SET(rig_target->error, -EIO);
	WAIT_FOR((image_start_copy(image), NOW(n_broken)));
	ck_assert_msg(!strncmp(reason, "target t: writing bytes ", 24) &&
			      strstr(reason, " failed: Input/output error"),
		      "%s", reason);
	stop();
	start(512);
	SET(rig_target->error, -EACCES);
	WAIT_FOR((image_start_copy(image), NOW(n_broken)));
	ck_assert_msg(strstr(reason, "another initiator has reserved it"), "%s", reason);
	stop();
}
END_TEST

/* More requests than there are workers, of a target that does not answer: each ends by
 * its time, and a worker is free meanwhile. */
START_TEST(a_target_that_is_silent_holds_nobody_else)
{
	enum { N = 6 };
	static struct wait_io reads[N], writes[N];
	static char bufs[N][CHUNK], buf[CHUNK];
	uint64_t from;

	start(512);
	SET(rig_target->silent, true);
	image_start_copy(image);
	from = timefmt_monotonic_ns();
	for (unsigned i = 0; i < N; i++) {
		wait_io_start(&reads[i], image, ENGINE_IO_READ, bufs[i], i * CHUNK,
			      CHUNK);
		wait_io_start(&writes[i], image, ENGINE_IO_WRITE, bufs[i], i * CHUNK + 7,
			      100);
	}
	/* The source, by the same workers and memory; a point of it is preserved. */
	ck_assert_int_eq(do_io(NULL, ENGINE_IO_WRITE, buf, 30 * CHUNK, CHUNK), CHUNK);
	ck_assert_int_eq(do_io(NULL, ENGINE_IO_READ, buf, 30 * CHUNK, CHUNK), CHUNK);
	ck_assert(timefmt_monotonic_ns() - from < 2 * UINT64_C(1000000000));
	for (unsigned i = 0; i < N; i++) {
		ck_assert_int_eq(wait_io_end(&reads[i]), -EIO);
		ck_assert_int_eq(wait_io_end(&writes[i]), -EIO);
	}
	ck_assert(timefmt_monotonic_ns() - from <
		  (RIG_TIMEOUT_MS + 1000) * UINT64_C(1000000));
	ck_assert_uint_eq(n_broken, 0);
	ram_resume(rig_target);
	WAIT_FOR(is_complete());
	stop();
}
END_TEST

/* What an image that is retired has on its way comes before all of its successor. */
START_TEST(an_image_that_is_retired_writes_nothing_more)
{
	static char mine[CHUNK];
	struct image *before;
	struct wait_io w;

	start(512);
	memset(mine, 'm', sizeof(mine));
	ck_assert_int_eq(read_chunk(2), CHUNK);
	WAIT_FOR(has_synced(1));
	SET(rig_target->silent, true);
	image_start_copy(image);
	wait_io_start(&w, image, ENGINE_IO_WRITE, mine, 39 * CHUNK, CHUNK);
	WAIT_FOR(NOW(rig_target->kept));
	before = move_ptr(image);
	image_cut_off(before);
	image_retire(before, true);
	ck_assert_int_eq(pool_remove_map(rig_pool, IMAGE, 1), 0);
	ck_assert_int_eq(pool_create_map(rig_pool, IMAGE, SIZE, 1), 0);
	open_image();
	ram_resume(rig_target);
	/* Of a chunk that it has. */
	ck_assert_int_eq(do_io(before, ENGINE_IO_WRITE, mine, 2 * CHUNK, CHUNK), -EIO);
	wait_io_end(&w);
	image_unref(before);
	WAIT_FOR(is_complete());
	check_target("of the new generation");
	stop();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		all_arrives_on_a_target_full_of_old_data,
		a_copy_writes_in_larger_pieces_than_its_users,
		a_bit_is_set_after_the_sync_only,
		what_was_not_synced_before_a_new_login_is_copied_again,
		a_read_that_a_new_login_has_overtaken_is_done_again,
		a_change_that_was_answered_outlives_a_lost_cache_or_connection,
		what_was_flushed_is_there_after_the_process_has_died,
		what_lies_behind_the_source_is_its_users,
		a_target_that_fails_breaks_the_copy_and_is_named,
		a_target_that_is_silent_holds_nobody_else,
		an_image_that_is_retired_writes_nothing_more,
	};

	return unit_main("image_lun", tests, ROWS(tests));
}
