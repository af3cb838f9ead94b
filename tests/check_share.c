/* SPDX-License-Identifier: BSD-2-Clause */

/* Several images that copy from one point: each gets all of it, and the source is read
 * once, as long as they can keep step. */

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "engine/share.h"
#include "tests/image_rig.h"

enum { SIZE = 24 << 20, MAX = 4, MANY = 20 };

/* A slow disk is that of one image. */
static ino_t slow; /* atomic */

ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
	struct stat st;

	if (NOW(slow) && fstat(fd, &st) == 0 && st.st_ino == NOW(slow))
		usleep(20000);
	return syscall(SYS_pwrite64, fd, buf, n, offset);
}

/* ---- images ------------------------------------------------------------------------ */

static struct copy {
	struct image *image;
	bool complete, broken, wants_written; /* atomic */
	char *model;			      /* what it is to have */
} copies[MANY];

static struct point *point;

static void on_complete(void *opaque)
{
	SET(((struct copy *)opaque)->complete, true);
}

static void on_broken(void *opaque, int error, const char *reason)
{
	printf("broken: %d, %s\n", error, reason);
	SET(((struct copy *)opaque)->broken, true);
}

static void on_written(void *opaque)
{
	SET(((struct copy *)opaque)->wants_written, true);
}

static void open_copy(struct copy *c, uint64_t id, bool lun)
{
	const struct image_watcher watcher = { on_complete, on_broken, on_written, c };
	const struct image_params params = {
		.id = id,
		.size = SIZE,
		.generation = 1,
		.target = lun ? rig_target->volume : NULL,
		.target_name = "t",
		.copy_size = SIZE,
	};

	*c = (struct copy){ .model = malloc(SIZE) };
	memcpy(c->model, rig.bytes, SIZE);
	if (lun)
		ck_assert_int_eq(pool_create_map(rig_pool, id, SIZE, 1), 0);
	else
		ck_assert_int_eq(pool_create_image(rig_pool, id, SIZE, 1, false), 0);
	ck_assert_int_eq(image_open(&rig_ops, rig_pool, &params, &c->image), 0);
	image_set_source(c->image, point, "lun", true, &watcher);
}

/* n images; the last one on a LUN, or not. */
static void setup(unsigned n, bool lun)
{
	rig_memory = 64 << 20;
	rig_start(SIZE, false);
	SET(rig.late_us, 300);
	if (lun)
		rig_start_target(SIZE, 512);
	point = rig_point(100);
	for (unsigned i = 0; i < n; i++)
		open_copy(&copies[i], i + 1, lun && i == n - 1);
}

static void start(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		image_will_copy(copies[i].image);
	for (unsigned i = 0; i < n; i++)
		image_start_copy(copies[i].image);
}

/* What the engine does once a second, and at news. */
static void tend(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (!copies[i].image)
			continue;
		if (__atomic_exchange_n(&copies[i].wants_written, false,
					__ATOMIC_ACQ_REL))
			image_set_written(copies[i].image);
		ck_assert(!NOW(copies[i].broken));
		image_start_copy(copies[i].image);
	}
}

static bool are_complete(unsigned n)
{
	tend(n);
	for (unsigned i = 0; i < n; i++)
		if (copies[i].image && !NOW(copies[i].complete))
			return false;
	return true;
}

static void is_right(struct copy *c)
{
	static char buf[1 << 20];

	for (uint64_t at = 0; at < SIZE; at += sizeof(buf)) {
		ck_assert_int_eq(do_io(c->image, ENGINE_IO_READ, buf, at, sizeof(buf)),
				 (int)sizeof(buf));
		ck_assert_mem_eq(buf, c->model + at, sizeof(buf));
	}
}

static void teardown(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (copies[i].image)
			image_cut_off(copies[i].image);
		image_unref(copies[i].image);
		free(copies[i].model);
		copies[i] = (struct copy){ 0 };
	}
	point_remove(point);
	point_unref(point);
	SET(slow, 0);
	rig_stop();
}

/* ---- tests ------------------------------------------------------------------------- */

static void is_read_once(unsigned n, bool lun)
{
	setup(n, lun);
	start(n);
	WAIT_FOR(are_complete(n));
	for (unsigned i = 0; i < n; i++)
		is_right(&copies[i]);
	ck_assert_uint_eq(NOW(rig.bytes_read), SIZE);
	teardown(n);
}

START_TEST(the_source_is_read_once_for_all)
{
	is_read_once(1, false);
	is_read_once(4, false);
	is_read_once(3, true);
}
END_TEST

/* A disk that is slower than the others sets the pace. */
START_TEST(a_slow_one_is_waited_for)
{
	struct stat st;
	char path[96];

	setup(3, false);
	snprintf(path, sizeof(path), "%s/pool/e2.raw", rig_dir);
	ck_assert_int_eq(stat(path, &st), 0);
	SET(slow, st.st_ino);
	start(3);
	WAIT_FOR(are_complete(3));
	for (unsigned i = 0; i < 3; i++)
		is_right(&copies[i]);
	ck_assert_uint_eq(NOW(rig.bytes_read), SIZE);
	teardown(3);
}
END_TEST

/* One that does not get on at all is left behind, and ends later. */
START_TEST(a_silent_one_holds_up_nobody)
{
	setup(3, true);
	SET(rig_target->silent, true);
	start(3);
	WAIT_FOR(({
		tend(3);
		NOW(copies[0].complete) && NOW(copies[1].complete);
	}));
	ck_assert(!NOW(copies[2].complete));
	is_right(&copies[0]);
	ck_assert_uint_ge(NOW(rig.bytes_read), SIZE);
	ram_resume(rig_target);
	WAIT_FOR(are_complete(3));
	for (unsigned i = 0; i < 3; i++)
		is_right(&copies[i]);
	ck_assert_uint_le(NOW(rig.bytes_read), 2 * SIZE);
	teardown(3);
}
END_TEST

/* What they have under way stays within bounds, however many they are: changes of the
 * source wait for the same workers. */
START_TEST(many_leave_the_disk_to_others)
{
	unsigned most = 0;

	setup(MANY, false);
	start(MANY);
	WAIT_FOR(({
		unsigned n = NOW(point_share(point)->n_fills);

		most = n > most ? n : most;
		are_complete(MANY);
	}));
	for (unsigned i = 0; i < MANY; i++)
		is_right(&copies[i]);
	ck_assert_uint_eq(NOW(rig.bytes_read), SIZE);
	ck_assert_uint_ge(most, MANY);
	ck_assert_uint_lt(most, SHARE_FILLS + MANY);
	ck_assert_uint_eq(NOW(point_share(point)->n_fills), 0);
	ck_assert_uint_eq(NOW(point_share(point)->n_reading), 0);
	teardown(MANY);
}
END_TEST

START_TEST(one_that_goes_takes_nothing_from_the_others)
{
	setup(4, false);
	SET(rig.late_us, 3000);
	start(4);
	WAIT_FOR(NOW(rig.bytes_read) > SIZE / 4);
	image_cut_off(copies[1].image);
	image_unref(move_ptr(copies[1].image));
	WAIT_FOR(are_complete(4));
	for (unsigned i = 0; i < 4; i++)
		if (copies[i].image)
			is_right(&copies[i]);
	ck_assert_uint_eq(NOW(rig.bytes_read), SIZE);
	teardown(4);
}
END_TEST

START_TEST(a_medium_error_breaks_each_of_them)
{
	setup(3, false);
	SET(rig.error, -ENODATA);
	start(3);
	WAIT_FOR(({
		for (unsigned i = 0; i < 3; i++)
			image_start_copy(copies[i].image);
		NOW(copies[0].broken) && NOW(copies[1].broken) && NOW(copies[2].broken);
	}));
	teardown(3);
}
END_TEST

/* ---- a storm ------------------------------------------------------------------------ */

static bool over; /* atomic */

/* Calm comes after some time, for slow builds to end. */
static void *weather_thread(void *opaque)
{
	uint64_t until = timefmt_monotonic_ns() + UINT64_C(2000000000);

	while (!NOW(over) && timefmt_monotonic_ns() < until) {
		struct ram *d = rnd(2) ? rig_target : &rig;

		usleep(rnd(20000));
		SET(d->lose, rnd(3) ? 0 : 50);
		if (!rnd(4)) {
			ram_away(d);
			usleep(rnd(10000));
			ram_back(d);
		}
		if (!rnd(4))
			image_pause_copy(copies[rnd(MAX)].image);
	}
	SET(rig.lose, 0);
	SET(rig_target->lose, 0);
	return opaque;
}

/* Writes and reads of its image, one at a time. */
static void *user_thread(void *opaque)
{
	struct copy *c = opaque;
	static _Thread_local char buf[2 * CHUNK];

	while (!NOW(over)) {
		uint64_t len = 1 + rnd(sizeof(buf)), at = rnd(SIZE - (unsigned)len);
		char byte = (char)rnd(256);
		int r;

		usleep(rnd(3000));
		if (rnd(2)) {
			r = do_io(c->image, ENGINE_IO_READ, buf, at, len);
			if (r >= 0 && memcmp(buf, c->model + at, len))
				ck_abort_msg("a read of %" PRIu64 " at %" PRIu64
					     " is wrong",
					     len, at);
			continue;
		}
		memset(buf, byte, len);
		do
			r = do_io(c->image, ENGINE_IO_WRITE, buf, at, len);
		while (r < 0);
		memset(c->model + at, byte, len);
	}
	return NULL;
}

static void *source_thread(void *opaque)
{
	static char buf[3 * CHUNK];

	memset(buf, 's', sizeof(buf));
	while (!NOW(over)) {
		uint64_t len = 1 + rnd(sizeof(buf)), at = rnd(SIZE - (unsigned)len);

		usleep(1000 + rnd(3000));
		do_io(NULL, ENGINE_IO_WRITE, buf, at, len);
	}
	return opaque;
}

START_TEST(in_a_storm_each_of_them_is_right)
{
	pthread_t threads[MAX + 2];

	setup(MAX, true);
	SET(rig.late_us, 2000);
	SET(rig_target->late_us, 1000);
	SET(over, false);
	start(MAX);
	for (unsigned i = 0; i < MAX; i++)
		pthread_create(&threads[i], NULL, user_thread, &copies[i]);
	pthread_create(&threads[MAX], NULL, weather_thread, NULL);
	pthread_create(&threads[MAX + 1], NULL, source_thread, NULL);
	WAIT_FOR(are_complete(MAX));
	SET(over, true);
	for (unsigned i = 0; i < ROWS(threads); i++) {
		WAIT_FOR(({
			tend(MAX);
			pthread_tryjoin_np(threads[i], NULL) == 0;
		}));
	}
	for (unsigned i = 0; i < MAX; i++)
		is_right(&copies[i]);
	teardown(MAX);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		the_source_is_read_once_for_all,
		a_slow_one_is_waited_for,
		a_silent_one_holds_up_nobody,
		many_leave_the_disk_to_others,
		one_that_goes_takes_nothing_from_the_others,
		a_medium_error_breaks_each_of_them,
		in_a_storm_each_of_them_is_right,
	};

	return unit_main("share", tests, ROWS(tests));
}
