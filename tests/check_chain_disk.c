/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * What of points in time would be left after a loss of power, and what happens when the
 * pool fails (invariants I1, I2, I5).
 *
 * pwrite, fdatasync and pread of the program come here (--wrap).  For each file of a
 * point there is a copy of what is durable of it: what it held when the last fdatasync
 * that ended well began.  When a map is written, each bit in it must speak of a chunk
 * whose durable data is right (I2: an unsynced write may become durable at any time).
 * When the device is given a change, each point must be whole in what is durable: its
 * chunk in its own durable store or in a newer one's, or its mark (I1, I5).
 *
 * What fails when lines are taken out:
 *   preserve.c, make_durable(): point_sync()             durable_first: I2
 *   preserve.c, make_durable(): point_checkpoint()       durable_first: I1
 *   chain.c, point_sync(): the error that sticks         in_a_storm_...: I2
 *   handover.c, copy_some(): point_sync()                durable_first: I2
 *   handover.c, handover_work(): point_checkpoint()      durable_first: I1
 *   preserve.c, break_point(): chunkmap_write_mark()     a_full_pool: I5
 *   preserve.c, break_points(): going to older ones      a_map_that_cannot_be_synced: I1
 *   preserve.c, load_work(): fail_load()                 a_map_that_cannot_be_read: I5
 *   volume_change.c, give_up(): chain_cancel()           a_change_that_waits_...
 */

#include "tests/device.h"

#include <sys/stat.h>
#include <sys/uio.h>

#include "engine/chain.h"
#include "engine/chunkmap.h"

enum { CHUNK = POOL_CHUNK_SIZE, N_CHUNKS = 6, SIZE = N_CHUNKS * CHUNK - 8192 };
enum { N_POINTS = 5, MAP_SIZE = 3 * 4096, MARK = 4096, PAGE = 8192 };

_Static_assert((int)SIZE > (int)MAP_SIZE, "room for a map");

struct file {
	ino_t ino;
	size_t size;
	char durable[SIZE];
	bool spoilt; /* a sync failed: what was not durable then never is */
};

/* ---- points ---------------------------------------------------------------------- */

static struct device d;
static struct {
	struct point *point;
	bool needed, there; /* the second: its files are */
	char instant[SIZE];
	struct file raw, map;
	bool broken; /* atomic */
	char reason[512];
	bool handed_over; /* atomic */
} points[N_POINTS];
static pthread_mutex_t files_lock = PTHREAD_MUTEX_INITIALIZER; /* all of it */
static bool watching;
static const char *found_wrong; /* the first; atomic */

/* Atomic: what fails. */
static unsigned fail_raw_writes; /* of 1000: -ENOSPC */
static unsigned fail_raw_syncs;	 /* of 1000: -EIO */
static unsigned fail_map_syncs;	 /* so many: -EIO */
static bool fail_marks, fail_map_reads;

static void wrong(const char *what)
{
	const char *none = NULL;

	__atomic_compare_exchange_n(&found_wrong, &none, what, false, __ATOMIC_ACQ_REL,
				    __ATOMIC_RELAXED);
}

static uint64_t chunk_size(unsigned chunk)
{
	return chunk == N_CHUNKS - 1 ? SIZE % CHUNK : CHUNK;
}

static bool durable_bit(unsigned i, unsigned chunk)
{
	return points[i].map.durable[PAGE] >> chunk & 1;
}

static bool durable_data(unsigned i, unsigned of, unsigned chunk)
{
	return !memcmp(points[i].raw.durable + chunk * CHUNK,
		       points[of].instant + chunk * CHUNK, chunk_size(chunk));
}

/* Under files_lock: whether point i would be right about a chunk that now changes. */
static void check_chunk(unsigned i, unsigned chunk)
{
	if (points[i].map.durable[MARK])
		return;
	for (unsigned k = i; k < N_POINTS; k++)
		if (points[k].there && durable_bit(k, chunk)) {
			if (!durable_data(k, i, chunk))
				wrong("a durable bit speaks of other data");
			return;
		}
	wrong("a change was sent before what it destroys was durable");
}

static void on_change(struct device *device, const struct bd_req *req)
{
	(void)device;
	pthread_mutex_lock(&files_lock);
	for (unsigned i = 0; i < N_POINTS; i++)
		for (uint64_t c = req->offset / CHUNK;
		     points[i].needed && c <= (req->offset + req->length - 1) / CHUNK;
		     c++)
			check_chunk(i, (unsigned)c);
	pthread_mutex_unlock(&files_lock);
}

/* ---- the calls that come here ---------------------------------------------------- */

static struct file *file_of(int fd, unsigned *ret_point)
{
	struct stat st;

	if (!watching || fstat(fd, &st) < 0)
		return NULL;
	for (unsigned i = 0; i < N_POINTS; i++) {
		*ret_point = i;
		if (points[i].there && st.st_ino == points[i].raw.ino)
			return &points[i].raw;
		if (points[i].there && st.st_ino == points[i].map.ino)
			return &points[i].map;
	}
	return NULL;
}

static ssize_t do_write(int fd, const void *buf, size_t n, off_t offset)
{
	const struct iovec iov = { (void *)(uintptr_t)buf, n };

	return pwritev(fd, &iov, 1, offset);
}

static ssize_t do_read(int fd, void *buf, size_t n, off_t offset)
{
	const struct iovec iov = { buf, n };

	return preadv(fd, &iov, 1, offset);
}

static int error_of_write(const struct file *f, unsigned i, off_t offset)
{
	if (f == &points[i].raw && rnd(1000) < NOW(fail_raw_writes))
		return ENOSPC;
	if (f == &points[i].map && offset == MARK && NOW(fail_marks))
		return EIO;
	return 0;
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t offset)
{
	ssize_t r;
	struct file *f;
	unsigned i;

	pthread_mutex_lock(&files_lock);
	f = file_of(fd, &i);
	errno = f ? error_of_write(f, i, offset) : 0;
	if (errno) {
		int error = errno;

		pthread_mutex_unlock(&files_lock);
		errno = error;
		return -1;
	}
	if (f == &points[i].map && offset == PAGE)
		for (unsigned c = 0; f && c < N_CHUNKS; c++)
			if ((*(const char *)buf >> c & 1) && !durable_data(i, i, c))
				wrong("a bit was written before its data was durable");
	r = do_write(fd, buf, n, offset);
	pthread_mutex_unlock(&files_lock);
	return r;
}

ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t offset);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t offset)
{
	unsigned i;

	if (NOW(fail_map_reads)) {
		struct file *f;

		pthread_mutex_lock(&files_lock);
		f = file_of(fd, &i);
		pthread_mutex_unlock(&files_lock);
		if (f && f == &points[i].map) {
			errno = EIO;
			return -1;
		}
	}
	return do_read(fd, buf, n, offset);
}

/* What is written while it syncs is not durable. */
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	static _Thread_local char now[sizeof(points[0].raw.durable)];
	struct file *f;
	unsigned i;
	bool fails;

	pthread_mutex_lock(&files_lock);
	f = file_of(fd, &i);
	if (f && do_read(fd, now, f->size, 0) != (ssize_t)f->size)
		wrong("a file is too short");
	fails = f && f == &points[i].raw && rnd(1000) < NOW(fail_raw_syncs);
	if (f && f == &points[i].map && NOW(fail_map_syncs)) {
		fail_map_syncs--;
		fails = true;
	}
	pthread_mutex_unlock(&files_lock);
	if (!f)
		return 0;
	if (one_in(3))
		usleep(rnd(300));
	pthread_mutex_lock(&files_lock);
	/* As Linux: it is told once, and what was not written is forgotten. */
	if (fails)
		f->spoilt = f == &points[i].raw;
	else if (!f->spoilt)
		memcpy(f->durable, now, f->size);
	pthread_mutex_unlock(&files_lock);
	errno = EIO;
	return fails ? -1 : 0;
}

/* ---- points come and go ---------------------------------------------------------- */

static void broken(void *opaque, uint64_t id, int error, const char *reason)
{
	(void)opaque;
	(void)error;
	if (NOW(points[id - 1].broken))
		wrong("a point was said to be broken twice");
	snprintf(points[id - 1].reason, sizeof(points[0].reason), "%s", reason);
	SET(points[id - 1].broken, true);
}

static void handed_over(void *opaque, uint64_t id)
{
	(void)opaque;
	/* From here on the others have to do without it. */
	pthread_mutex_lock(&files_lock);
	points[id - 1].there = false;
	pthread_mutex_unlock(&files_lock);
	SET(points[id - 1].handed_over, true);
}

static void open_point(unsigned i)
{
	const struct point_params params = {
		.id = i + 1,
		.sequence = i + 1,
		.size = SIZE,
		.pool = world.pool,
		.source_name = "lun",
		.watcher = { broken, handed_over, NULL },
	};

	ck_assert_int_eq(point_open(d.volume, &params, &points[i].point), 0);
}

static void watch_file(struct file *f, const char *name, size_t size)
{
	struct stat st;

	ck_assert_int_eq(fstatat(pool_dirfd(world.pool), name, &st, 0), 0);
	memset(f, 0, sizeof(*f));
	f->ino = st.st_ino;
	f->size = size;
}

static void on_drained(struct volume_fence *fence)
{
	SET(*(bool *)fence->opaque, true);
}

static void take_point(unsigned i)
{
	bool drained = false;
	struct volume_fence fence = { .drained = on_drained, .opaque = &drained };
	char name[64];

	ck_assert_int_eq(pool_create_point(world.pool, i + 1, SIZE), 0);
	open_point(i);
	volume_close_fence(d.volume, &fence);
	WAIT_FOR(NOW(drained));
	pthread_mutex_lock(&files_lock);
	snprintf(name, sizeof(name), "p%u.raw", i + 1);
	watch_file(&points[i].raw, name, SIZE);
	pool_point_map_file(i + 1, name, sizeof(name));
	watch_file(&points[i].map, name, MAP_SIZE);
	pthread_mutex_lock(&d.lock);
	memcpy(points[i].instant, d.bytes, SIZE);
	pthread_mutex_unlock(&d.lock);
	points[i].broken = points[i].handed_over = false;
	points[i].needed = points[i].there = true;
	pthread_mutex_unlock(&files_lock);
	point_arm(points[i].point, true);
	volume_open_fence(d.volume, &fence);
}

static void drop_point(unsigned i)
{
	if (!points[i].point)
		return;
	pthread_mutex_lock(&files_lock);
	points[i].needed = points[i].there = false;
	pthread_mutex_unlock(&files_lock);
	point_remove(points[i].point);
	point_unref(points[i].point);
	points[i].point = NULL;
}

static void leave_point(unsigned i)
{
	pthread_mutex_lock(&files_lock);
	points[i].needed = false;
	pthread_mutex_unlock(&files_lock);
	point_leave(points[i].point);
	WAIT_FOR(({
		point_tick(points[i].point);
		NOW(points[i].handed_over);
	}));
	drop_point(i);
	ck_assert_int_eq(pool_remove_point(world.pool, i + 1), 0);
}

/* ---- reads ----------------------------------------------------------------------- */

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

static int read_point(unsigned i)
{
	static char buf[SIZE];
	struct reading r = { .req = { .point = points[i].point,
				      .length = SIZE,
				      .buf = buf,
				      .done = have_read } };

	point_read(&r.req);
	WAIT_FOR(NOW(r.done));
	if (!r.error)
		ck_assert(!memcmp(buf, points[i].instant, SIZE));
	return r.error;
}

/* ---- setting up ------------------------------------------------------------------ */

static void setup(void)
{
	world_start("/tmp", 4);
	device_start(&d, SIZE, 512, false, NULL);
	for (unsigned i = 0; i < SIZE; i++)
		d.bytes[i] = (char)(i * 7 + i / 1000 + 1);
	memset(points, 0, sizeof(points));
	fail_raw_writes = fail_raw_syncs = fail_map_syncs = 0;
	fail_marks = fail_map_reads = false;
	found_wrong = NULL;
	d.on_change = on_change;
	watching = true;
}

static void teardown(void)
{
	for (unsigned i = 0; i < N_POINTS; i++)
		drop_point(i);
	device_stop(&d);
	world_end();
	watching = false;
	device_free(&d);
	ck_assert_msg(!found_wrong, "%s", found_wrong);
}

static void change_at_random(struct tally *t, unsigned n)
{
	while (n-- > 0) {
		uint64_t len = 1 + rnd(one_in(4) ? 200000 : 9000);

		while (tally_open(t) > 30)
			usleep(100);
		tally_io(t, d.volume, one_in(3) ? ENGINE_IO_ZERO : ENGINE_IO_WRITE,
			 rnd(SIZE - len), len, 60000);
	}
}

/* Other bytes than the time before. */
static void write_chunk(unsigned chunk)
{
	static char buf[4096];
	static unsigned byte;

	byte = (byte + 1 + rnd(255)) % 256;
	memset(buf, (int)byte, sizeof(buf));
	ck_assert_int_eq(volume_write(d.volume, chunk * CHUNK + 100, buf, 4096), 4096);
}

/* ---- what is durable ------------------------------------------------------------- */

START_TEST(durable_first)
{
	uint64_t end = timefmt_monotonic_ns() + UINT64_C(3000000000);
	unsigned n = 0;

	setup();
	for (; timefmt_monotonic_ns() < end; n++) {
		struct tally t = { 0 };
		unsigned leaves = 1 + rnd(N_POINTS - 1);

		SET(d.late_us, rnd(200));
		for (unsigned i = 0; i < N_POINTS; i++) {
			take_point(i);
			change_at_random(&t, 3 + rnd(12));
		}
		leave_point(leaves);
		change_at_random(&t, 10);
		WAIT_FOR(!tally_open(&t));
		ck_assert_uint_eq(t.n_right, t.n_asked);
		for (unsigned i = 0; i < N_POINTS; i++)
			if (points[i].point)
				ck_assert_int_eq(read_point(i), 0);
		for (unsigned i = N_POINTS; i-- > 0;)
			if (points[i].point)
				leave_point(i);
		ck_assert_msg(!found_wrong, "%s", found_wrong);
	}
	printf("%u rounds\n", n);
	teardown();
}
END_TEST

/* ---- pools that fail ------------------------------------------------------------- */

/* Points 0 and 1; the older one holds chunk 0 itself.  Then the pool begins to fail,
 * and a change of chunk 0 breaks the newer one alone, of chunk 1 both. */
static void break_both(const char *reason)
{
	static char before[SIZE];

	take_point(0);
	write_chunk(0);
	take_point(1);
	memcpy(before, d.bytes, SIZE);
	if (!strcmp(reason, "medium error"))
		d.bad = 5000;
	else if (!strcmp(reason, "is full"))
		SET(fail_raw_writes, 1000);
	else
		SET(fail_raw_syncs, 1000);
	write_chunk(0);
	ck_assert(memcmp(before, d.bytes, SIZE));
	ck_assert(!points[0].broken && points[1].broken);
	ck_assert_msg(strstr(points[1].reason, reason), "%s", points[1].reason);
	ck_assert_int_eq(read_point(1), -EIO);
	d.bad = 0;
	ck_assert_int_eq(read_point(0), 0);
}

static void check_reopened(unsigned i, const char *reason)
{
	char text[512] = "";

	drop_point(i);
	open_point(i);
	point_arm(points[i].point, true);
	ck_assert(point_is_broken(points[i].point, text, sizeof(text)));
	ck_assert_msg(strstr(text, reason), "%s", text);
	ck_assert_int_eq(read_point(i), -EIO);
}

START_TEST(a_full_pool)
{
	setup();
	break_both("is full");
	write_chunk(1);
	ck_assert(points[0].broken);
	check_reopened(0, "is full");
	check_reopened(1, "is full");
	write_chunk(2);
	teardown();
}
END_TEST

/* The error is told once: what comes later is not believed. */
START_TEST(a_failed_sync)
{
	setup();
	break_both("could not be kept");
	check_reopened(1, "could not be kept");
	SET(fail_raw_syncs, 0);
	write_chunk(1);
	ck_assert(!points[0].broken);
	ck_assert_int_eq(read_point(0), 0);
	teardown();
}
END_TEST

START_TEST(a_medium_error)
{
	setup();
	break_both("medium error");
	check_reopened(1, "medium error: bytes 4608 to 5119");
	write_chunk(1);
	ck_assert_int_eq(read_point(0), 0);
	teardown();
}
END_TEST

/* The bit of the newer one is set, but nothing may rely on it. */
START_TEST(a_map_that_cannot_be_synced)
{
	setup();
	take_point(0);
	take_point(1);
	take_point(2);
	SET(fail_map_syncs, 1);
	write_chunk(3);
	for (unsigned i = 0; i < 3; i++)
		ck_assert(points[i].broken);
	teardown();
}
END_TEST

START_TEST(a_full_pool_breaks_all_that_need_the_chunk)
{
	setup();
	for (unsigned i = 0; i < 3; i++)
		take_point(i);
	SET(fail_raw_writes, 1000);
	write_chunk(3);
	for (unsigned i = 0; i < 3; i++)
		ck_assert(points[i].broken);
	teardown();
}
END_TEST

START_TEST(in_a_storm_with_a_pool_that_fails_no_change_does)
{
	setup();
	for (unsigned n = 0; n < 12; n++) {
		struct tally t = { 0 };

		for (unsigned i = 0; i < N_POINTS; i++) {
			take_point(i);
			SET(fail_raw_writes, one_in(2) ? rnd(200) : 0);
			SET(fail_raw_syncs, one_in(3) ? rnd(200) : 0);
			change_at_random(&t, 3 + rnd(10));
		}
		WAIT_FOR(!tally_open(&t));
		ck_assert_uint_eq(t.n_right, t.n_asked);
		for (unsigned i = 0; i < N_POINTS; i++)
			ck_assert_int_eq(read_point(i), points[i].broken ? -EIO : 0);
		SET(fail_raw_writes, 0);
		SET(fail_raw_syncs, 0);
		for (unsigned i = 0; i < N_POINTS; i++)
			drop_point(i);
		ck_assert_msg(!found_wrong, "%s", found_wrong);
	}
	teardown();
}
END_TEST

START_TEST(a_mark_that_cannot_be_written_makes_the_change_wait)
{
	struct tally early = { 0 }, late = { 0 };
	bool drained = false;
	struct volume_fence fence = { .drained = on_drained, .opaque = &drained };
	unsigned n_changes;

	setup();
	take_point(0);
	SET(fail_raw_writes, 1000);
	SET(fail_marks, true);
	n_changes = NOW(d.n_changes);
	tally_io(&early, d.volume, ENGINE_IO_WRITE, 0, 4096, 600);
	tally_io(&late, d.volume, ENGINE_IO_WRITE, 8192, 4096, 60000);
	WAIT_FOR(!tally_open(&early));
	ck_assert_uint_eq(early.n_eio, 1);
	ck_assert_uint_eq(NOW(d.n_changes), n_changes);
	ck_assert(!NOW(points[0].broken));
	ck_assert_int_eq(read_point(0), 0);
	SET(fail_marks, false);
	WAIT_FOR(!tally_open(&late));
	ck_assert_uint_eq(late.n_right, 1);
	ck_assert(NOW(points[0].broken));
	/* What was given up holds up no fence. */
	volume_close_fence(d.volume, &fence);
	WAIT_FOR(NOW(drained));
	volume_open_fence(d.volume, &fence);
	teardown();
}
END_TEST

START_TEST(a_change_that_waits_for_a_volume_that_is_away_is_given_up)
{
	struct tally early = { 0 };
	bool drained = false;
	struct volume_fence fence = { .drained = on_drained, .opaque = &drained };

	setup();
	take_point(0);
	d.lose_before = 1000;
	tally_io(&early, d.volume, ENGINE_IO_WRITE, 0, 4096, 600);
	tally_io(&early, d.volume, ENGINE_IO_WRITE, 8192, 4096, 600);
	usleep(20000);
	device_away(&d);
	WAIT_FOR(!tally_open(&early));
	ck_assert_uint_eq(early.n_eio, 2);
	volume_close_fence(d.volume, &fence);
	WAIT_FOR(NOW(drained));
	volume_open_fence(d.volume, &fence);
	ck_assert_int_eq(read_point(0), -ENOTCONN);
	SET(d.lose_before, 0);
	device_back(&d);
	write_chunk(0);
	ck_assert_int_eq(read_point(0), 0);
	teardown();
}
END_TEST

struct patient {
	struct chain_waiter waiter;
	bool called; /* atomic */
};

static void call(struct chain_waiter *waiter)
{
	SET(((struct patient *)waiter)->called, true);
}

/* One that nobody gives up, as a restore's. */
START_TEST(the_end_of_the_engine_ends_what_waits)
{
	struct patient p = { .waiter.fn = call };

	setup();
	take_point(0);
	device_away(&d);
	ck_assert(!chain_prepare(volume_chain(d.volume), 0, 1, UINT64_MAX, &p.waiter));
	volume_kick(d.volume);
	usleep(300000);
	ck_assert(!NOW(p.called));
	dataops_stop(&world.dataops);
	volume_kick(d.volume);
	WAIT_FOR(NOW(p.called));
	teardown();
}
END_TEST

START_TEST(a_map_that_cannot_be_read_breaks_the_point)
{
	setup();
	take_point(0);
	write_chunk(0);
	/* Opened again, it has its page on the disk only. */
	point_remove(points[0].point);
	point_unref(points[0].point);
	open_point(0);
	point_arm(points[0].point, true);
	SET(fail_map_reads, true);
	write_chunk(1);
	ck_assert(points[0].broken);
	ck_assert_int_eq(read_point(0), -EIO);
	SET(fail_map_reads, false);
	check_reopened(0, "could not be kept");
	teardown();
}
END_TEST

/* As at a start: it waits until all are armed. */
START_TEST(a_leaving_point_may_be_armed_before_those_it_hands_to)
{
	setup();
	take_point(0);
	take_point(1);
	write_chunk(0);
	for (unsigned i = 0; i < 2; i++) {
		point_remove(points[i].point);
		point_unref(points[i].point);
		open_point(i);
	}
	points[1].needed = false;
	point_arm(points[1].point, false);
	usleep(20000);
	point_arm(points[0].point, true);
	ck_assert_int_eq(read_point(0), 0);
	WAIT_FOR(({
		point_tick(points[1].point);
		NOW(points[1].handed_over);
	}));
	drop_point(1);
	ck_assert_int_eq(read_point(0), 0);
	teardown();
}
END_TEST

START_TEST(a_handover_that_fails_is_tried_again)
{
	setup();
	take_point(0);
	take_point(1);
	write_chunk(0);
	SET(fail_raw_writes, 1000);
	pthread_mutex_lock(&files_lock);
	points[1].needed = false;
	pthread_mutex_unlock(&files_lock);
	point_leave(points[1].point);
	usleep(50000);
	ck_assert(!NOW(points[1].handed_over));
	ck_assert_int_eq(read_point(0), 0);
	SET(fail_raw_writes, 0);
	WAIT_FOR(({
		point_tick(points[1].point);
		NOW(points[1].handed_over);
	}));
	drop_point(1);
	ck_assert_int_eq(read_point(0), 0);
	write_chunk(0);
	ck_assert_int_eq(read_point(0), 0);
	teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		durable_first,
		a_full_pool,
		a_failed_sync,
		a_medium_error,
		a_map_that_cannot_be_synced,
		a_full_pool_breaks_all_that_need_the_chunk,
		in_a_storm_with_a_pool_that_fails_no_change_does,
		a_mark_that_cannot_be_written_makes_the_change_wait,
		a_change_that_waits_for_a_volume_that_is_away_is_given_up,
		the_end_of_the_engine_ends_what_waits,
		a_map_that_cannot_be_read_breaks_the_point,
		a_leaving_point_may_be_armed_before_those_it_hands_to,
		a_handover_that_fails_is_tried_again,
	};

	return unit_main("chain_disk", tests, ROWS(tests));
}
