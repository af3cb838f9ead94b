/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Points in time in a storm: a source that changes with many changes in flight, points
 * that come under fences (several at once), are read all the time and leave in any
 * order, over a device that answers late and loses connections, with chunk maps whose
 * pages are thrown out of memory again and again.  Every read must bring the bytes that
 * the device had at the point's instant: they are recorded when the fence is drained.
 * LUNFS_TEST_SECONDS: of the storm (5).
 */

#include "tests/device.h"

#include "conf/cleanup.h"
#include "engine/chain_int.h"

enum { SIZE = (3 << 20) + 12288, N_SLOTS = 8, MAX_OPEN = 48 };

static struct device d;
static bool over;		   /* atomic */
static unsigned n_open, n_changed; /* atomic: changes */
static unsigned n_read, n_lost, n_left, n_points;

struct slot {
	pthread_rwlock_t lock; /* readers hold it while they read */
	struct point *point;
	uint64_t id;
	bool leaving;
	char *instant;
};
static struct slot slots[N_SLOTS];
static uint64_t last_id, last_sequence;

/* Ids whose handing over is done, for the thread that removes. */
static struct {
	pthread_mutex_t lock;
	uint64_t ids[4 * N_SLOTS];
	unsigned n;
} gone = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- changes --------------------------------------------------------------------- */

static void changed(struct engine_io *io, int error, const void *buf, size_t n)
{
	(void)buf;
	(void)n;
	ck_assert(!error || error == -EIO);
	free((void *)(uintptr_t)io->data);
	free(io);
	ADD(n_changed, 1);
	__atomic_fetch_sub(&n_open, 1, __ATOMIC_ACQ_REL);
}

static void change(void)
{
	struct engine_io *io = calloc(1, sizeof(*io));
	char *data = NULL;

	io->op = one_in(4) ? ENGINE_IO_ZERO : ENGINE_IO_WRITE;
	io->len = 1 + rnd(one_in(6) ? 400000 : 20000);
	io->offset = rnd(SIZE - io->len);
	if (io->op == ENGINE_IO_WRITE) {
		data = malloc(io->len);
		memset(data, 1 + (int)rnd(255), io->len);
		for (unsigned i = 0; i < io->len; i += 500)
			data[i] = (char)rnd(256);
		io->data = data;
	}
	io->done = changed;
	ADD(n_open, 1);
	volume_io(d.volume, io, one_in(20) ? 400 + rnd(300) : 60000);
}

static void *change_thread(void *opaque)
{
	(void)opaque;
	while (!NOW(over)) {
		if (NOW(n_open) < MAX_OPEN)
			change();
		else
			usleep(rnd(300));
		/* Now and then nothing changes for a while. */
		if (one_in(300))
			usleep(rnd(60000));
	}
	return NULL;
}

/* ---- readers --------------------------------------------------------------------- */

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

static int read_point(struct point *point, void *buf, uint64_t offset, uint64_t length)
{
	struct reading r = { .req = { .point = point,
				      .offset = offset,
				      .length = length,
				      .buf = buf,
				      .done = have_read } };

	point_read(&r.req);
	while (!NOW(r.done))
		usleep(20);
	return r.error;
}

static void read_slot(struct slot *s, char *buf)
{
	uint64_t begin = rnd(SIZE / 65536 + 1) * UINT64_C(65536);
	uint64_t length = (1 + rnd(one_in(3) ? 16 : 3)) * UINT64_C(65536);
	int r;

	if (one_in(5))
		begin += rnd(15) * 4096;
	if (begin >= SIZE)
		return;
	length = length < SIZE - begin ? length : SIZE - begin;
	length = length < 1 << 20 ? length : 1 << 20;
	r = read_point(s->point, buf, begin, length);
	if (r == -ENOTCONN) {
		ADD(n_lost, 1);
		return;
	}
	ck_assert_int_eq(r, 0);
	for (uint64_t i = 0; i < length; i++)
		if (buf[i] != s->instant[begin + i])
			ck_abort_msg("point %llu: byte %llu of chunk %llu is wrong",
				     (unsigned long long)s->id, (unsigned long long)i,
				     (unsigned long long)((begin + i) / 65536));
	ADD(n_read, 1);
}

static void *read_thread(void *opaque)
{
	char *buf = aligned_alloc(4096, 1 << 20);

	(void)opaque;
	while (!NOW(over)) {
		struct slot *s = &slots[rnd(N_SLOTS)];

		pthread_rwlock_rdlock(&s->lock);
		if (s->point && !s->leaving)
			read_slot(s, buf);
		pthread_rwlock_unlock(&s->lock);
		if (one_in(4))
			usleep(rnd(500));
	}
	free(buf);
	return NULL;
}

/* ---- points come and go ---------------------------------------------------------- */

static void broken(void *opaque, uint64_t id, int error, const char *reason)
{
	(void)opaque;
	ck_abort_msg("point %llu broke: %s (%d)", (unsigned long long)id, reason, error);
}

static void handed_over(void *opaque, uint64_t id)
{
	(void)opaque;
	pthread_mutex_lock(&gone.lock);
	ck_assert_uint_lt(gone.n, ROWS(gone.ids));
	gone.ids[gone.n++] = id;
	pthread_mutex_unlock(&gone.lock);
}

static struct point *open_point(uint64_t id, uint64_t sequence)
{
	const struct point_params params = {
		.id = id,
		.sequence = sequence,
		.size = SIZE,
		.pool = world.pool,
		.source_name = "lun",
		.watcher = { broken, handed_over, NULL },
	};
	struct point *point;

	ck_assert_int_eq(point_open(d.volume, &params, &point), 0);
	return point;
}

static bool drained; /* atomic */

static void on_drained(struct volume_fence *fence)
{
	(void)fence;
	ck_assert_uint_eq(NOW(d.n_changing), 0);
	SET(drained, true);
}

static void record(struct slot *s)
{
	pthread_mutex_lock(&d.lock);
	memcpy(s->instant, d.bytes, SIZE);
	pthread_mutex_unlock(&d.lock);
}

/* Up to three at once, of the same instant or not. */
static void take_points(void)
{
	struct volume_fence fence = { .drained = on_drained };
	unsigned n = 1 + rnd(3);
	struct slot *taken[3];
	unsigned n_taken = 0;

	for (unsigned i = 0; i < N_SLOTS && n_taken < n; i++)
		if (!slots[i].point) {
			ck_assert_int_eq(pool_create_point(world.pool, ++last_id, SIZE),
					 0);
			pthread_rwlock_wrlock(&slots[i].lock);
			slots[i].id = last_id;
			slots[i].point = open_point(last_id, ++last_sequence);
			slots[i].leaving = true; /* not to be read yet */
			pthread_rwlock_unlock(&slots[i].lock);
			taken[n_taken++] = &slots[i];
		}
	SET(drained, false);
	volume_close_fence(d.volume, &fence);
	while (!NOW(drained))
		usleep(50);
	for (unsigned i = 0; i < n_taken; i++) {
		struct slot *s = taken[i];

		pthread_rwlock_wrlock(&s->lock);
		record(s);
		point_arm(s->point, true);
		s->leaving = false;
		pthread_rwlock_unlock(&s->lock);
		n_points++;
	}
	/* One that is found to be wanted by nobody, before the fence opens. */
	if (n_taken && one_in(5)) {
		struct slot *s = taken[n_taken - 1];

		pthread_rwlock_wrlock(&s->lock);
		point_remove(s->point);
		point_unref(move_ptr(s->point));
		ck_assert_int_eq(pool_remove_point(world.pool, s->id), 0);
		pthread_rwlock_unlock(&s->lock);
	}
	volume_open_fence(d.volume, &fence);
}

static void leave(struct slot *s)
{
	pthread_rwlock_wrlock(&s->lock);
	if (s->point && !s->leaving) {
		s->leaving = true;
		point_leave(s->point);
	}
	pthread_rwlock_unlock(&s->lock);
}

static void remove_id(uint64_t id)
{
	for (unsigned i = 0; i < N_SLOTS; i++) {
		struct slot *s = &slots[i];

		if (!s->point || s->id != id)
			continue;
		pthread_rwlock_wrlock(&s->lock);
		point_remove(s->point);
		point_unref(move_ptr(s->point));
		ck_assert_int_eq(pool_remove_point(world.pool, id), 0);
		pthread_rwlock_unlock(&s->lock);
		n_left++;
	}
}

static void remove_gone(void)
{
	uint64_t id;

	do {
		pthread_mutex_lock(&gone.lock);
		id = gone.n ? gone.ids[--gone.n] : 0;
		pthread_mutex_unlock(&gone.lock);
		if (id)
			remove_id(id);
	} while (id);
}

static void *point_thread(void *opaque)
{
	(void)opaque;
	while (!NOW(over)) {
		usleep(rnd(20000));
		if (one_in(2))
			take_points();
		else
			leave(&slots[rnd(N_SLOTS)]);
		for (unsigned i = 0; i < N_SLOTS; i++)
			if (slots[i].point)
				point_tick(slots[i].point);
		remove_gone();
	}
	return NULL;
}

/* ---- maps that are not in memory ------------------------------------------------- */

/* A map of so many mixed pages that those of all others are thrown out. */
static struct chunkmap *big;

static int nothing(void *opaque)
{
	(void)opaque;
	return 0;
}

static void fill_big_map(void)
{
	enum { PAGES = CHUNKMAP_RESIDENT_PAGES + 600 };
	const struct chunkmap_params params = { .id = 1,
						.generation = 1,
						.size = PAGES * UINT64_C(32768) * 4096,
						.chunk_size = 4096 };

	ck_assert_int_eq(chunkmap_create(pool_dirfd(world.pool), "big", &params), 0);
	ck_assert_int_eq(chunkmap_open(pool_dirfd(world.pool), "big", &params, &big), 0);
	for (uint64_t i = 0; i < PAGES; i++)
		ck_assert_int_eq(chunkmap_set(big, i * 32768 + 5, 1), 0);
	ck_assert_int_eq(chunkmap_checkpoint(big, nothing, NULL), 0);
}

static void *memory_thread(void *opaque)
{
	uint64_t i = 0;

	(void)opaque;
	while (!NOW(over)) {
		for (unsigned n = 0; n < 40; n++, i++) {
			uint64_t chunk = i % (chunkmap_n_chunks(big) / 32768) * 32768;

			ck_assert_int_ge(chunkmap_load(big, chunk, 1), 0);
		}
		usleep(1000);
	}
	return NULL;
}

/* ---- all of it ------------------------------------------------------------------- */

static void *weather_thread(void *opaque)
{
	(void)opaque;
	while (!NOW(over)) {
		SET(d.within, one_in(4) ? rnd(1000) : 0);
		SET(d.lose_before, one_in(2) ? rnd(30) : 0);
		SET(d.lose_after, one_in(2) ? rnd(30) : 0);
		SET(d.late_us, one_in(6) ? rnd(3000) : rnd(200));
		SET(d.no_zero, one_in(2));
		usleep(rnd(10000));
		if (one_in(4))
			device_away(&d);
		usleep(rnd(one_in(100) ? 800000 : 2000));
		device_back(&d);
	}
	return NULL;
}

static void calm(void)
{
	SET(d.lose_before, 0);
	SET(d.lose_after, 0);
	SET(d.late_us, 0);
	device_back(&d);
	WAIT_FOR(!NOW(n_open) && !NOW(d.n_changing));
}

static void read_all_points(void)
{
	char *buf = aligned_alloc(4096, 1 << 20);

	for (unsigned i = 0; i < N_SLOTS; i++)
		for (uint64_t at = 0; slots[i].point && !slots[i].leaving && at < SIZE;
		     at += 1 << 20) {
			size_t n = SIZE - at < 1 << 20 ? SIZE - at : 1 << 20;

			ck_assert_int_eq(read_point(slots[i].point, buf, at, n), 0);
			ck_assert(!memcmp(buf, slots[i].instant + at, n));
		}
	free(buf);
}

static bool have_left(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < N_SLOTS; i++)
		n += slots[i].point != NULL;
	return !n;
}

/* They leave in any order, and those that are left stay right. */
static void all_leave(void)
{
	for (unsigned i = N_SLOTS; i-- > 0;) {
		leave(&slots[i * 3 % N_SLOTS]);
		WAIT_FOR(({
			remove_gone();
			!slots[i * 3 % N_SLOTS].point || one_in(50);
		}));
		read_all_points();
	}
	WAIT_FOR(({
		remove_gone();
		have_left();
	}));
}

static bool no_point_is_known(void *opaque, const struct pool_entry *file)
{
	(void)opaque;
	return !file->is_point;
}

/* What was begun for changes that were given up goes on by itself. */
static bool chain_is_quiet(void)
{
	struct chain *c = volume_chain(d.volume);
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	return TAILQ_EMPTY(&c->preserves) && !c->handing && !c->in_watcher;
}

/* The end of a process and the next one: all points are opened again. */
static void reopen(void)
{
	struct point *points[N_SLOTS];

	WAIT_FOR(chain_is_quiet());
	for (unsigned i = 0; i < N_SLOTS; i++)
		if (slots[i].point) {
			point_remove(slots[i].point);
			point_unref(slots[i].point);
		}
	for (unsigned i = 0; i < N_SLOTS; i++) {
		points[i] = NULL;
		/* Its id rises with its sequence, too. */
		if (slots[i].point)
			points[i] = open_point(slots[i].id, slots[i].id);
	}
	for (unsigned i = N_SLOTS; i-- > 0;) {
		slots[i].point = points[i];
		if (points[i])
			point_arm(points[i], !slots[i].leaving);
	}
}

static void storm(unsigned block_size, uint64_t ms)
{
	void *(*const run[])(void *) = { change_thread, change_thread, read_thread,
					 read_thread,	point_thread,  memory_thread,
					 weather_thread };
	pthread_t threads[ROWS(run)];

	SET(over, false);
	for (unsigned i = 0; i < ROWS(run); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, run[i], NULL), 0);
	usleep((unsigned)ms * 1000);
	SET(over, true);
	for (unsigned i = 0; i < ROWS(run); i++)
		pthread_join(threads[i], NULL);
	calm();
	printf("block size %u: %u changes, %u points, %u left, %u reads, %u lost\n",
	       block_size, n_changed, n_points, n_left, n_read, n_lost);
}

static void storms(unsigned block_size)
{
	const char *seconds = getenv("LUNFS_TEST_SECONDS");
	uint64_t ms = (seconds ? strtoull(seconds, NULL, 0) : 5) * 1000 / 2;

	world_start(getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", 4);
	device_start(&d, SIZE, block_size, false, NULL);
	for (uint64_t i = 0; i < SIZE; i++)
		d.bytes[i] = i / 65536 % 5 == 4 ? 0 : (char)(i * 7 + i / 4096);
	fill_big_map();
	last_id = last_sequence = 0;
	n_changed = n_points = n_left = n_read = n_lost = 0;
	for (unsigned i = 0; i < N_SLOTS; i++) {
		pthread_rwlock_init(&slots[i].lock, NULL);
		slots[i].instant = malloc(SIZE);
	}
	storm(block_size, ms);
	read_all_points();
	reopen();
	read_all_points();
	storm(block_size, ms);
	all_leave();
	ck_assert_int_eq(pool_sweep(world.pool, no_point_is_known, NULL), 0);
	for (unsigned i = 0; i < N_SLOTS; i++) {
		pthread_rwlock_destroy(&slots[i].lock);
		free(slots[i].instant);
	}
	chunkmap_close(big);
	device_stop(&d);
	world_end();
	device_free(&d);
}

START_TEST(points_keep_their_bytes_in_a_storm)
{
	storms(512);
}
END_TEST

START_TEST(points_keep_their_bytes_in_a_storm_with_blocks_of_4096)
{
	storms(4096);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		points_keep_their_bytes_in_a_storm,
		points_keep_their_bytes_in_a_storm_with_blocks_of_4096,
	};

	return unit_main("chain", tests, ROWS(tests));
}
