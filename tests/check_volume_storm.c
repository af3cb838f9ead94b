/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Everything at once on a volume: changes, reads, flushes and fences, many in flight,
 * over a device that answers late, out of order or within submit, loses connections and
 * fails.  Checked by a model.
 *
 * The model is a log of the changes in the order of their submission.  Let K be the last
 * of them over a byte that was answered without an error before some moment.  Then the
 * byte has, at that moment, the value of K or of one after it (which may be under way, or
 * have failed): nothing before K can come back.  LUNFS_TEST_SECONDS: of each storm (2).
 */

#include "tests/device.h"

#include <semaphore.h>

enum { SIZE = (400 << 10) + 4096, N_LOG = 3000, MAX_LEN = 100000, MAX_OPEN = 100 };

struct change {
	uint64_t begin, end;
	unsigned salt;	  /* of its bytes; 0: zeros */
	uint64_t ok_time; /* atomic: answered without an error then; 0: not */
};

static struct change changes[N_LOG];
static unsigned n_changes; /* atomic */
static char start[SIZE];
static uint64_t time_now; /* atomic: counts submissions and answers */
static unsigned n_open, n_right, n_failed, n_read; /* atomic */
static pthread_mutex_t submit_lock = PTHREAD_MUTEX_INITIALIZER;
static struct device d;
static bool over; /* atomic */

static char byte_of(unsigned salt, uint64_t offset)
{
	uint64_t x = (offset + 1) * (salt * UINT64_C(0x9e3779b97f4a7c15));

	return salt ? (char)(x >> 40) : 0;
}

/* The bytes at offset are right for what was answered before `since` and asked for by
 * now. */
static void check_bytes(const char *bytes, uint64_t offset, size_t len, uint64_t since)
{
	static _Thread_local char state[SIZE]; /* 0 not seen; 1 seen; 2 settled */
	size_t n_settled = 0;

	memset(state, 0, len);
	for (unsigned i = NOW(n_changes); i-- > 0 && n_settled < len;) {
		const struct change *c = &changes[i];
		uint64_t ok_time = NOW(c->ok_time);
		bool settles = ok_time && ok_time < since;
		uint64_t at = c->begin > offset ? c->begin : offset;

		for (; at < c->end && at < offset + len; at++) {
			char *s = &state[at - offset];

			if (*s >= 2)
				continue;
			if (bytes[at - offset] == byte_of(c->salt, at))
				*s = 1;
			if (!settles)
				continue;
			if (*s != 1)
				ck_abort_msg("byte %llu is not of change %u or later",
					     (unsigned long long)at, i);
			*s = 2;
			n_settled++;
		}
	}
	for (size_t i = 0; i < len; i++)
		if (!state[i] && bytes[i] != start[offset + i])
			ck_abort_msg("byte %llu is of no change",
				     (unsigned long long)(offset + i));
}

/* ---- requests -------------------------------------------------------------------- */

struct request {
	struct engine_io io;
	struct change *change;
	uint64_t since;
	unsigned n_flushes;
	char *data;
};

static void answered(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct request *r = (struct request *)io;

	if (!error && r->change)
		SET(r->change->ok_time, ADD(time_now, 1));
	if (!error && io->op == ENGINE_IO_WRITE)
		ck_assert_uint_eq(n, io->len);
	if (!error && io->op == ENGINE_IO_READ) {
		ck_assert_uint_eq(n, io->len);
		check_bytes(buf, io->offset, n, r->since);
		ADD(n_read, 1);
	}
	if (!error && io->op == ENGINE_IO_FLUSH)
		ck_assert_uint_gt(NOW(d.n_flushes), r->n_flushes);
	ck_assert(!error || error == -EIO);
	ADD(*(error ? &n_failed : &n_right), 1);
	__atomic_fetch_sub(&n_open, 1, __ATOMIC_ACQ_REL);
	free(r->data);
	free(r);
}

static void log_change(struct request *r)
{
	unsigned i = n_changes;

	changes[i] =
		(struct change){ .begin = r->io.offset, .end = r->io.offset + r->io.len };
	if (r->io.op == ENGINE_IO_WRITE) {
		changes[i].salt = rnd(1 << 30) + 1;
		r->data = malloc(r->io.len);
		for (uint64_t k = 0; k < r->io.len; k++)
			r->data[k] = byte_of(changes[i].salt, r->io.offset + k);
		r->io.data = r->data;
	}
	r->change = &changes[i];
	SET(n_changes, i + 1);
}

static void range(struct engine_io *io)
{
	uint64_t unit = one_in(2) ? 1 : one_in(2) ? 512 : 4096;

	io->len = 1 + rnd(one_in(4) ? MAX_LEN : 9000);
	io->offset = rnd(SIZE - io->len);
	io->len = (io->len + unit - 1) / unit * unit;
	io->offset = io->offset / unit * unit;
	if (io->offset + io->len > SIZE)
		io->len = SIZE - io->offset;
}

/* False: the log is full. */
static bool ask(void)
{
	struct request *r = calloc(1, sizeof(*r));
	unsigned kind = rnd(20);
	bool full;

	r->io.done = answered;
	r->io.op = kind < 9  ? ENGINE_IO_WRITE :
		   kind < 13 ? ENGINE_IO_ZERO :
		   kind < 19 ? ENGINE_IO_READ :
			       ENGINE_IO_FLUSH;
	if (r->io.op != ENGINE_IO_FLUSH)
		range(&r->io);
	r->n_flushes = NOW(d.n_flushes);
	/* The order of the log is the order of submission. */
	pthread_mutex_lock(&submit_lock);
	full = n_changes == N_LOG;
	if (!full) {
		ADD(n_open, 1);
		if (r->io.op == ENGINE_IO_WRITE || r->io.op == ENGINE_IO_ZERO)
			log_change(r);
		r->since = ADD(time_now, 1);
		volume_io(d.volume, &r->io, one_in(8) ? 400 + rnd(400) : 60000);
	}
	pthread_mutex_unlock(&submit_lock);
	if (full)
		free(r);
	return !full;
}

static void *ask_thread(void *opaque)
{
	unsigned pause = 0;

	(void)opaque;
	while (!NOW(over)) {
		if (NOW(n_open) > MAX_OPEN || (pause && pause--))
			usleep(rnd(300));
		else if (!ask())
			break;
		if (one_in(500))
			pause = rnd(100);
	}
	return NULL;
}

/* ---- fences and weather ---------------------------------------------------------- */

struct fence {
	struct volume_fence fence;
	pthread_mutex_t lock;
	bool drained, opening;
};

static unsigned n_drained; /* atomic */

static void on_drained(struct volume_fence *fence)
{
	struct fence *f = (struct fence *)fence;

	ck_assert_uint_eq(NOW(d.n_changing), 0);
	pthread_mutex_lock(&f->lock);
	if (!f->opening)
		ADD(d.n_fences, 1);
	f->drained = true;
	pthread_mutex_unlock(&f->lock);
	ADD(n_drained, 1);
}

static bool is_drained(struct fence *f)
{
	bool drained;

	pthread_mutex_lock(&f->lock);
	drained = f->drained;
	pthread_mutex_unlock(&f->lock);
	return drained;
}

static void open_fence(struct fence *f)
{
	pthread_mutex_lock(&f->lock);
	if (f->drained)
		__atomic_fetch_sub(&d.n_fences, 1, __ATOMIC_ACQ_REL);
	f->opening = true;
	pthread_mutex_unlock(&f->lock);
	volume_open_fence(d.volume, &f->fence);
	pthread_mutex_destroy(&f->lock);
}

static void *fence_thread(void *opaque)
{
	static struct fence fences[4];

	(void)opaque;
	while (!NOW(over)) {
		unsigned n = 1 + rnd(ROWS(fences));

		usleep(rnd(one_in(4) ? 30000 : 3000));
		for (unsigned i = 0; i < n; i++) {
			fences[i] = (struct fence){ .fence.drained = on_drained };
			pthread_mutex_init(&fences[i].lock, NULL);
			volume_close_fence(d.volume, &fences[i].fence);
			if (one_in(2))
				usleep(rnd(300));
		}
		for (unsigned i = 0; i < n; i++) {
			/* Some are opened before they are drained. */
			while (!is_drained(&fences[i]) && !one_in(100))
				usleep(50);
			open_fence(&fences[i]);
		}
	}
	return NULL;
}

static void *weather_thread(void *opaque)
{
	(void)opaque;
	while (!NOW(over)) {
		SET(d.within, one_in(3) ? rnd(1000) : 0);
		SET(d.lose_before, one_in(2) ? rnd(60) : 0);
		SET(d.lose_after, one_in(2) ? rnd(60) : 0);
		SET(d.fail, one_in(3) ? rnd(60) : 0);
		SET(d.late_us, one_in(8) ? rnd(3000) : rnd(100));
		SET(d.no_zero, one_in(2));
		for (unsigned n = rnd(20); n > 0; n--) {
			usleep(rnd(4000));
			device_away(&d);
			usleep(rnd(one_in(200) ? 600000 : 2000));
			device_back(&d);
		}
		if (one_in(10)) {
			SET(d.silent, true);
			usleep(rnd(one_in(8) ? 900000 : 20000));
			device_speak(&d);
		}
	}
	return NULL;
}

static void calm(void)
{
	SET(d.lose_before, 0);
	SET(d.lose_after, 0);
	SET(d.fail, 0);
	SET(d.late_us, 0);
	device_speak(&d);
	device_back(&d);
	WAIT_FOR(!NOW(n_open) && !NOW(d.n_changing));
}

/* Until the log is full; then all must have ended as the model says. */
static void round_of_storm(void)
{
	void *(*const run[])(void *) = { ask_thread, ask_thread, weather_thread,
					 fence_thread };
	pthread_t threads[ROWS(run)];
	static char now[SIZE];
	struct engine_io whole = { .op = ENGINE_IO_READ, .len = SIZE, .data = now };

	memcpy(start, d.bytes, SIZE);
	n_changes = 0;
	SET(over, false);
	for (unsigned i = 0; i < ROWS(run); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, run[i], NULL), 0);
	for (unsigned i = 0; i < 30 && NOW(n_changes) < N_LOG; i++)
		usleep(50000);
	SET(over, true);
	for (unsigned i = 0; i < ROWS(run); i++)
		pthread_join(threads[i], NULL);
	calm();
	/* What was given up may still be carried out: a change over all waits for it. */
	ck_assert_int_eq(volume_wait_io(d.volume, &whole, 60000, NULL), 0);
	check_bytes(now, 0, SIZE, ADD(time_now, 1));
}

static void storm(unsigned block_size)
{
	const char *seconds = getenv("LUNFS_TEST_SECONDS");
	uint64_t end = timefmt_monotonic_ns() +
		       (seconds ? strtoull(seconds, NULL, 0) : 2) * UINT64_C(1000000000);

	world_start(NULL, 3);
	device_start(&d, SIZE, block_size, false, NULL);
	n_right = n_failed = n_read = n_drained = 0;
	do
		round_of_storm();
	while (timefmt_monotonic_ns() < end);
	printf("block size %u: %u right (%u reads), %u failed, %u fences\n", block_size,
	       n_right, n_read, n_failed, n_drained);
	ck_assert_uint_gt(n_read, 20);
	device_stop(&d);
	world_end();
	device_free(&d);
}

START_TEST(in_a_storm_the_bytes_are_right_with_any_alignment)
{
	storm(1);
}
END_TEST

START_TEST(in_a_storm_the_bytes_are_right_with_blocks_of_512)
{
	storm(512);
}
END_TEST

START_TEST(in_a_storm_the_bytes_are_right_with_blocks_of_4096)
{
	storm(4096);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		in_a_storm_the_bytes_are_right_with_any_alignment,
		in_a_storm_the_bytes_are_right_with_blocks_of_512,
		in_a_storm_the_bytes_are_right_with_blocks_of_4096,
	};

	return unit_main("volume_storm", tests, ROWS(tests));
}
