/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Changes, reads, flushes, seeks and fences of a volume over a device that misbehaves
 * (tests/device.h), one behaviour at a time.  The same at random: check_volume_storm.c.
 */

#include "tests/device.h"

enum { SIZE = 300 << 10 };

static void fill(char *buf, size_t len, unsigned salt)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (char)(i * 31 + i / 251 + salt + 1);
}

/* ---- alignment ------------------------------------------------------------------- */

static const unsigned block_sizes[] = { 1, 512, 4096 };

static void change_and_compare(struct device *d, char *model, uint64_t offset, size_t len,
			       unsigned i)
{
	static char buf[1 << 20];

	if (i % 3) {
		fill(buf, len, i);
		ck_assert_int_eq(volume_write(d->volume, offset, buf, len), (int)len);
		memcpy(model + offset, buf, len);
	} else {
		SET(d->no_zero, i % 2);
		ck_assert_int_eq(volume_zero(d->volume, offset, len), 0);
		memset(model + offset, 0, len);
	}
	ck_assert_msg(!memcmp(d->bytes, model, SIZE), "block size %u, offset %llu, %zu",
		      d->base.info.block_size, (unsigned long long)offset, len);
}

START_TEST(edges_that_are_not_aligned_preserve_their_neighbours)
{
	static const unsigned at[] = { 0, 1, 511, 512, 513, 4095, 4096, 5000, 65536 };
	static const unsigned len[] = { 1, 2, 511, 512, 1024, 4095, 4096, 8191, 70000 };
	static char model[SIZE];
	struct device d;

	for (unsigned b = 0; b < 3; b++) {
		world_start(NULL, 2);
		device_start(&d, SIZE, block_sizes[b], false, NULL);
		fill(d.bytes, SIZE, 77);
		memcpy(model, d.bytes, SIZE);
		for (unsigned i = 0; i < ROWS(at); i++)
			for (unsigned k = 0; k < ROWS(len); k++)
				change_and_compare(&d, model, at[i], len[k], i * 10 + k);
		for (unsigned k = 0; k < ROWS(len); k++)
			change_and_compare(&d, model, SIZE - len[k], len[k], k);
		change_and_compare(&d, model, 1, SIZE - 2, 3);
		device_stop(&d);
		world_end();
		device_free(&d);
	}
}
END_TEST

START_TEST(a_change_ends_at_the_end_of_the_element)
{
	static char buf[8192];
	struct device d;

	world_start(NULL, 2);
	device_start(&d, SIZE, 512, false, NULL);
	fill(buf, sizeof(buf), 1);
	ck_assert_int_eq(volume_write(d.volume, SIZE - 100, buf, 8192), 100);
	ck_assert_int_eq(memcmp(d.bytes + SIZE - 100, buf, 100), 0);
	ck_assert_int_eq(volume_write(d.volume, SIZE, buf, 1), -ENOSPC);
	ck_assert_int_eq(volume_write(d.volume, UINT64_MAX, buf, 1), -ENOSPC);
	ck_assert_int_eq(volume_write(d.volume, UINT64_MAX - 4, buf, 4096), -ENOSPC);
	ck_assert_int_eq(volume_write(d.volume, 100, buf, 0), 0);
	ck_assert_int_eq(volume_write(d.volume, SIZE, buf, 0), -ENOSPC);
	ck_assert_int_eq(volume_zero(d.volume, SIZE, 1), -ENOSPC);
	ck_assert_int_eq(volume_zero(d.volume, UINT64_MAX, UINT64_MAX), -ENOSPC);
	ck_assert_int_eq(volume_zero(d.volume, SIZE - 50, UINT64_MAX), 0);
	ck_assert_int_eq(memcmp(d.bytes + SIZE - 100, buf, 50), 0);
	ck_assert_int_eq(d.bytes[SIZE - 50] | d.bytes[SIZE - 1], 0);
	ck_assert_int_eq(volume_zero(d.volume, 0, 0), 0);
	ck_assert_int_eq(d.bytes[SIZE - 51], buf[49]);
	device_stop(&d);
	world_end();
	device_free(&d);
}
END_TEST

static size_t longest; /* atomic: of the changes */

static void note_length(struct device *d, const struct bd_req *req)
{
	(void)d;
	if (req->length > NOW(longest))
		SET(longest, req->length);
}

static void count_put(struct volume_put *put, int error)
{
	ck_assert_int_eq(error, 0);
	ADD(*(unsigned *)put->opaque, 1);
}

static void put_all(struct device *d, char *buf, bool copies, size_t piece)
{
	unsigned n = 0;
	struct volume_put put = { .copies = copies,
				  .offset = 0,
				  .length = SIZE,
				  .buf = buf,
				  .done = count_put,
				  .opaque = &n };

	SET(longest, 0);
	volume_put(d->volume, &put);
	WAIT_FOR(NOW(n));
	ck_assert_uint_eq(NOW(longest), piece);
	ck_assert_mem_eq(d->bytes, buf, SIZE);
}

/* What a user writes goes in parts at once; what a copy writes in one, if that is what
 * the device likes. */
START_TEST(a_copy_writes_in_larger_pieces)
{
	static char buf[SIZE];
	struct device d;

	world_start(NULL, 2);
	device_start(&d, SIZE, 512, false, NULL);
	d.on_change = note_length;
	for (unsigned i = 0; i < 2; i++) {
		d.base.info.opt_copy = i ? 1 << 20 : 0;
		fill(buf, sizeof(buf), i);
		SET(longest, 0);
		ck_assert_int_eq(volume_write(d.volume, 0, buf, SIZE), SIZE);
		ck_assert_uint_eq(NOW(longest), 256 << 10);
		fill(buf, sizeof(buf), 10 + i);
		put_all(&d, buf, true, i ? SIZE : 256 << 10);
		fill(buf, sizeof(buf), 20 + i);
		put_all(&d, buf, false, 256 << 10);
	}
	device_stop(&d);
	world_end();
	device_free(&d);
}
END_TEST

START_TEST(an_error_of_the_device_is_the_users)
{
	char buf[512] = "x";
	struct device d;

	world_start(NULL, 2);
	device_start(&d, SIZE, 512, false, NULL);
	d.fail = 1000;
	ck_assert_int_eq(volume_write(d.volume, 0, buf, 512), -EIO);
	ck_assert_int_eq(volume_zero(d.volume, 0, 512), -EIO);
	ck_assert_int_eq(volume_flush(d.volume), -EIO);
	d.fail = 0;
	d.base.info.read_only = true;
	ck_assert_int_eq(volume_write(d.volume, 0, buf, 512), -EROFS);
	device_stop(&d);
	world_end();
	device_free(&d);
}
END_TEST

/* ---- given up -------------------------------------------------------------------- */

enum { SHORT_MS = 500 };

START_TEST(what_waits_for_a_device_that_is_away_is_given_up_at_its_time)
{
	struct tally late = { 0 }, early = { 0 };
	struct device d;

	world_start(NULL, 2);
	device_start(&d, SIZE, 512, false, NULL);
	/* One that is stuck, of each kind, and one behind it. */
	d.lose_before = 1000;
	tally_io(&early, d.volume, ENGINE_IO_WRITE, 0, 4096, SHORT_MS);
	tally_io(&early, d.volume, ENGINE_IO_WRITE, 8193, 100, SHORT_MS);
	tally_io(&early, d.volume, ENGINE_IO_FLUSH, 0, 0, SHORT_MS);
	WAIT_FOR(NOW(d.n_changes) == 1 && !NOW(d.n_changing));
	device_away(&d);
	tally_io(&early, d.volume, ENGINE_IO_ZERO, 20000, 4096, SHORT_MS);
	tally_io(&early, d.volume, ENGINE_IO_FLUSH, 0, 0, SHORT_MS);
	tally_io(&late, d.volume, ENGINE_IO_WRITE, 20000, 4096, 60000);
	WAIT_FOR(!tally_open(&early));
	ck_assert_uint_eq(early.n_eio, 5);
	ck_assert_uint_eq(tally_open(&late), 1);
	SET(d.lose_before, 0);
	device_back(&d);
	WAIT_FOR(!tally_open(&late));
	ck_assert_uint_eq(late.n_right, 1);
	ck_assert_int_eq(d.bytes[0] | d.bytes[8193], 0);
	ck_assert_int_eq(d.bytes[20000], 'x');
	device_stop(&d);
	world_end();
	device_free(&d);
}
END_TEST

START_TEST(what_a_silent_device_has_holds_its_blocks_until_it_ends)
{
	struct tally early = { 0 }, late = { 0 };
	struct device d;

	world_start(NULL, 2);
	device_start(&d, SIZE, 512, false, NULL);
	SET(d.silent, true);
	tally_io(&early, d.volume, ENGINE_IO_WRITE, 0, 4096, SHORT_MS);
	tally_io(&early, d.volume, ENGINE_IO_WRITE, 8193, 10, SHORT_MS); /* its edges */
	tally_io(&early, d.volume, ENGINE_IO_FLUSH, 0, 0, SHORT_MS);
	WAIT_FOR(!tally_open(&early));
	ck_assert_uint_eq(early.n_eio, 3);
	tally_io(&late, d.volume, ENGINE_IO_ZERO, 100, 1000, 60000);
	tally_io(&late, d.volume, ENGINE_IO_ZERO, 8000, 1000, 60000);
	usleep(300000);
	ck_assert_uint_eq(NOW(d.n_changes), 1);
	device_speak(&d);
	WAIT_FOR(!tally_open(&late));
	ck_assert_uint_eq(late.n_right, 2);
	ck_assert_int_eq(d.bytes[99], 'x');
	ck_assert_int_eq(d.bytes[100], 0);
	/* Given up after its edges came: nothing of it was sent. */
	ck_assert_uint_eq(NOW(d.n_changes), 1 + 3 + 3);
	device_stop(&d);
	world_end();
	device_free(&d);
}
END_TEST

START_TEST(the_end_of_the_engine_ends_all)
{
	struct tally t = { 0 };
	struct device d;

	world_start(NULL, 2);
	device_start(&d, SIZE, 512, false, NULL);
	d.lose_before = 1000;
	for (unsigned i = 0; i < 20; i++)
		tally_io(&t, d.volume, i % 5 ? ENGINE_IO_WRITE : ENGINE_IO_FLUSH,
			 i % 3 * 4000, i % 5 ? 4096 : 0, 60000);
	dataops_stop(&world.dataops);
	ck_assert_uint_eq(tally_open(&t), 0);
	tally_io(&t, d.volume, ENGINE_IO_WRITE, 0, 10, 60000);
	tally_io(&t, d.volume, ENGINE_IO_FLUSH, 0, 0, 60000);
	ck_assert_uint_eq(t.n_other, 22);
	device_away(&d);
	device_stop(&d);
	world_end();
	device_free(&d);
}
END_TEST

/* ---- fences ---------------------------------------------------------------------- */

struct fence {
	struct volume_fence fence;
	struct device *d;
	bool drained; /* atomic */
};

static void on_drained(struct volume_fence *fence)
{
	struct fence *f = (struct fence *)fence;

	ck_assert(!NOW(f->drained));
	ck_assert_uint_eq(NOW(f->d->n_changing), 0);
	ADD(f->d->n_fences, 1);
	SET(f->drained, true);
}

static void close_fence(struct fence *f, struct device *d)
{
	*f = (struct fence){ .fence.drained = on_drained, .d = d };
	volume_close_fence(d->volume, &f->fence);
}

static void open_fence(struct fence *f)
{
	if (NOW(f->drained))
		__atomic_fetch_sub(&f->d->n_fences, 1, __ATOMIC_ACQ_REL);
	volume_open_fence(f->d->volume, &f->fence);
}

START_TEST(fences_wait_for_what_has_begun_and_hold_up_what_has_not)
{
	struct tally t = { 0 };
	struct fence a, b, c;
	struct device d;

	world_start(NULL, 2);
	device_start(&d, SIZE, 512, false, NULL);
	SET(d.silent, true);
	tally_io(&t, d.volume, ENGINE_IO_WRITE, 0, 4096, 60000);
	close_fence(&a, &d);
	close_fence(&b, &d);
	tally_io(&t, d.volume, ENGINE_IO_WRITE, 8192, 4096, 60000);
	ck_assert(!NOW(a.drained) && !NOW(b.drained));
	/* One that is opened before it is drained hears nothing. */
	open_fence(&a);
	device_speak(&d);
	WAIT_FOR(NOW(b.drained));
	ck_assert(!NOW(a.drained));
	close_fence(&c, &d);
	ck_assert(NOW(c.drained));
	ck_assert_int_eq(volume_flush(d.volume), 0);
	open_fence(&b);
	usleep(20000);
	ck_assert_uint_eq(tally_open(&t), 1);
	open_fence(&c);
	WAIT_FOR(!tally_open(&t));
	ck_assert_uint_eq(t.n_right, 2);
	device_stop(&d);
	world_end();
	device_free(&d);
}
END_TEST

START_TEST(a_long_zero_lets_a_fence_through)
{
	enum { LONG = 16 << 20 };
	struct tally t = { 0 }, given_up = { 0 };
	struct fence a, b;
	struct device d;

	world_start(NULL, 2);
	device_start(&d, LONG, 512, false, NULL);
	memset(d.bytes, 'y', LONG);
	d.no_zero = true;
	d.late_us = 4000;
	tally_io(&t, d.volume, ENGINE_IO_ZERO, 100, LONG - 200, 60000);
	WAIT_FOR(NOW(d.n_changes) > 4);
	close_fence(&a, &d);
	WAIT_FOR(NOW(a.drained));
	ck_assert_uint_eq(tally_open(&t), 1);
	ck_assert_int_eq(d.bytes[4096], 0);
	ck_assert_int_eq(d.bytes[LONG - 4096], 'y');
	/* It holds its blocks. */
	tally_io(&t, d.volume, ENGINE_IO_WRITE, 0, 4096, 60000);
	open_fence(&a);
	close_fence(&b, &d);
	WAIT_FOR(NOW(b.drained));
	ck_assert_uint_eq(tally_open(&t), 2);
	open_fence(&b);
	WAIT_FOR(!tally_open(&t));
	ck_assert_int_eq(d.bytes[0] | d.bytes[4095], 'x');
	ck_assert_int_eq(d.bytes[4096] | d.bytes[LONG - 101], 0);
	ck_assert_int_eq(d.bytes[LONG - 100], 'y');

	/* Parked, it is given up: the fence stays drained, and the blocks are free. */
	tally_io(&given_up, d.volume, ENGINE_IO_ZERO, 0, LONG, SHORT_MS);
	WAIT_FOR(NOW(d.n_changes) > 30);
	close_fence(&a, &d);
	WAIT_FOR(!tally_open(&given_up));
	ck_assert_uint_eq(given_up.n_eio, 1);
	WAIT_FOR(NOW(a.drained));
	close_fence(&b, &d);
	ck_assert(NOW(b.drained));
	open_fence(&a);
	open_fence(&b);
	tally_io(&t, d.volume, ENGINE_IO_WRITE, 0, 4096, 60000);
	WAIT_FOR(!tally_open(&t));
	ck_assert_uint_eq(t.n_right, 3);
	device_stop(&d);
	world_end();
	device_free(&d);
}
END_TEST

/* ---- seeks ----------------------------------------------------------------------- */

static int64_t seek(struct volume *v, bool data, uint64_t offset)
{
	struct engine_io io = { .op = data ? ENGINE_IO_SEEK_DATA : ENGINE_IO_SEEK_HOLE,
				.offset = offset };
	int r = volume_wait_io(v, &io, 60000, NULL);

	return r ? r : (int64_t)io.result;
}

START_TEST(seeks_find_data_and_holes_of_a_thin_device)
{
	enum { CHUNK = 65536, N = 12, THIN = N * CHUNK + 512 };
	static const char has[] = "0010001111011"; /* by chunk; the last one is short */
	struct device d;

	world_start(NULL, 2);
	device_start(&d, THIN, 512, true, NULL);
	for (unsigned i = 0; i <= N; i++)
		d.bytes[i < N ? (i + 1) * CHUNK - 1 : THIN - 1] = has[i] == '1';
	for (unsigned i = 0; i <= N; i++) {
		uint64_t at = i * CHUNK + (i == N ? 7 : 700), to = i;

		while (to <= N && has[to] != '1')
			to++;
		ck_assert_int_eq(seek(d.volume, true, at), to > N  ? -ENXIO :
							   to == i ? (int64_t)at :
								     (int64_t)to * CHUNK);
		for (to = i; to <= N && has[to] != '0';)
			to++;
		ck_assert_int_eq(seek(d.volume, false, at), to > N ? THIN :
							    to == i ?
								     (int64_t)at :
								     (int64_t)to * CHUNK);
	}
	ck_assert_int_eq(seek(d.volume, true, THIN), -ENXIO);
	ck_assert_int_eq(seek(d.volume, false, UINT64_MAX), -ENXIO);
	/* What is not known is data. */
	d.fail = 1000;
	SET(d.lose_before, 1000);
	ck_assert_int_eq(seek(d.volume, true, 0), 0);
	ck_assert_int_eq(seek(d.volume, false, 0), THIN);
	device_stop(&d);
	world_end();
	device_free(&d);
}
END_TEST

static void seek_done(struct engine_io *io, int error, const void *buf, size_t n)
{
	(void)buf;
	(void)n;
	SET(*(int *)io->opaque, error ? error : 1 + (int)io->result);
}

START_TEST(a_seek_knows_the_size_of_a_device_that_goes)
{
	int data = 0, hole = 0;
	struct engine_io seeks[] = {
		{ .op = ENGINE_IO_SEEK_DATA,
		  .offset = 700,
		  .done = seek_done,
		  .opaque = &data },
		{ .op = ENGINE_IO_SEEK_HOLE,
		  .offset = 700,
		  .done = seek_done,
		  .opaque = &hole },
	};
	struct blockdev *bd;
	struct device d;

	world_start(NULL, 2);
	device_start(&d, SIZE, 512, true, NULL);
	SET(d.silent, true);
	volume_io(d.volume, &seeks[0], 60000);
	volume_io(d.volume, &seeks[1], 60000);
	WAIT_FOR(NOW(d.n_kept) == 2);
	d.lose_before = 1000;
	bd = volume_detach(d.volume);
	ck_assert_ptr_eq(bd, &d.base);
	device_speak(&d);
	WAIT_FOR(NOW(data) && NOW(hole));
	ck_assert_int_eq(data, 1 + 700);
	ck_assert_int_eq(hole, 1 + SIZE);
	device_stop(&d);
	world_end();
	device_free(&d);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		edges_that_are_not_aligned_preserve_their_neighbours,
		a_change_ends_at_the_end_of_the_element,
		a_copy_writes_in_larger_pieces,
		an_error_of_the_device_is_the_users,
		what_waits_for_a_device_that_is_away_is_given_up_at_its_time,
		what_a_silent_device_has_holds_its_blocks_until_it_ends,
		the_end_of_the_engine_ends_all,
		fences_wait_for_what_has_begun_and_hold_up_what_has_not,
		a_long_zero_lets_a_fence_through,
		seeks_find_data_and_holes_of_a_thin_device,
		a_seek_knows_the_size_of_a_device_that_goes,
	};

	return unit_main("volume", tests, ROWS(tests));
}
