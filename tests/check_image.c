/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The data path (dataop, volume, image, fill, copier) over a device made here,
 * which answers late or within submit, loses connections at random, fails, or
 * does not answer at all.  Its bytes are a function of their place, so that
 * every answer can be checked.  The seed is printed; CHECK_IMAGE_SEED repeats it.
 */

#include "tests/unit.h"

#include <errno.h>
#include <pthread.h>

#include "conf/timefmt.h"
#include "engine/engine.h"
#include "engine/image.h"

enum { SIZE = 12 << 20, DEADLINE_S = 60, TIMEOUT_MS = 3000 };
#define STORE_ID "00000000-0000-4000-8000-00000000000a"

static char dir[64];
static struct dataops dataops;
static struct bufpool *bufs;
static struct workers *disk, *wire;
static struct loop *loop;
static struct pool *pool;
static unsigned seed;

/* ---- the device --------------------------------------------------------------- */

struct device {
	struct blockdev base;
	struct volume *volume;
	bool within;	  /* answers within submit */
	bool silent;	  /* does not answer: keeps the requests */
	int error;	  /* what every request gets; atomic */
	int lose;	  /* of 1000 requests, those that lose the connection; atomic */
	unsigned late_us; /* the most an answer takes */
	struct bd_req *kept;
};

struct io {
	struct work work;
	struct device *d;
	struct bd_req *req;
};

static unsigned rnd(void)
{
	static _Thread_local unsigned state;

	if (!state)
		state = seed ^ (unsigned)(uintptr_t)&state;
	return (unsigned)rand_r(&state);
}

/* Each fifth 512 KiB is zero (and not mapped). */
static uint64_t word_at(uint64_t offset)
{
	if ((offset >> 19) % 5 == 3)
		return 0;
	return offset / 8 * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static void fill(void *buf, uint64_t offset, size_t len)
{
	for (size_t i = 0; i < len / 8; i++)
		((uint64_t *)buf)[i] = word_at(offset + i * 8);
}

static void give_extents(struct bd_req *req)
{
	uint64_t at = req->offset, end = at + req->length;

	for (req->n_extents = 0; at < end && req->n_extents < BD_MAX_EXTENTS;) {
		uint64_t n = (1 << 19) - at % (1 << 19);

		n = n < end - at ? n : end - at;
		req->extents[req->n_extents++] =
			(struct bd_extent){ at, n, (at >> 19) % 5 != 3 };
		at += n;
	}
}

static void carry_out(struct device *d, struct bd_req *req)
{
	int error = __atomic_load_n(&d->error, __ATOMIC_RELAXED);

	if (!error && (int)(rnd() % 1000) < __atomic_load_n(&d->lose, __ATOMIC_RELAXED))
		error = -ENOTCONN;
	if (!error && req->op == BD_READ)
		fill(req->buf, req->offset, req->length);
	if (!error && req->op == BD_EXTENTS)
		give_extents(req);
	req->bad_offset = req->offset;
	req->bad_length = 512;
	req->done(req, error);
}

static void io_run(struct work *work)
{
	struct io *io = (struct io *)work;

	if (io->d->late_us)
		usleep(rnd() % io->d->late_us);
	carry_out(io->d, io->req);
	free(io);
}

static void device_submit(struct blockdev *bd, struct bd_req *req)
{
	struct device *d = (struct device *)bd;
	struct io *io;

	if (d->silent) {
		pthread_mutex_lock(&bd->lock);
		req->next = d->kept;
		d->kept = req;
		pthread_mutex_unlock(&bd->lock);
		return;
	}
	if (d->within) {
		carry_out(d, req);
		return;
	}
	io = malloc(sizeof(*io));
	*io = (struct io){ { .fn = io_run }, d, req };
	workers_submit(wire, &io->work);
}

static const struct blockdev_ops device_ops = { .name = "test", .submit = device_submit };

static void device_changed(void *opaque)
{
	volume_kick(((struct device *)opaque)->volume);
}

static void device_init(struct device *d, bool thin, uint32_t max_transfer)
{
	const struct bd_params params = { .name = "lun",
					  .watcher = { NULL, device_changed, d } };

	memset(d, 0, sizeof(*d));
	ck_assert_int_eq(bd_init(&d->base, &device_ops, &params), 0);
	d->base.info = (struct bd_info){
		.size = SIZE,
		.block_size = 512,
		.max_transfer = max_transfer,
		.opt_transfer = max_transfer < 262144 ? max_transfer : 262144,
		.thin = thin,
	};
	ck_assert_int_eq(volume_new(&dataops, &d->volume), 0);
	volume_attach(d->volume, &d->base);
}

/* ---- what stands around it ------------------------------------------------------ */

static void setup(unsigned memory_mib)
{
	const char *given = getenv("CHECK_IMAGE_SEED");
	char path[96], error[512];

	seed = given ? (unsigned)atoi(given) : (unsigned)time(NULL);
	printf("seed %u\n", seed);
	strcpy(dir, "/tmp/check_image.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/pool", dir);
	ck_assert_msg(pool_open("p", path, STORE_ID, &pool, error, sizeof(error)) >= 0,
		      "%s", error);
	ck_assert_int_eq(bufpool_new((uint64_t)memory_mib << 20, &bufs), 0);
	ck_assert_int_eq(workers_new("disk", 4, &disk), 0);
	ck_assert_int_eq(workers_new("wire", 3, &wire), 0);
	ck_assert_int_eq(loop_new("loop", &loop), 0);
	ck_assert_int_eq(dataops_init(&dataops, bufs, disk, loop), 0);
}

static void teardown(struct device *d)
{
	char command[96];

	dataops_stop(&dataops);
	volume_detach(d->volume);
	volume_unref(d->volume);
	workers_free(wire);
	workers_free(disk);
	dataops_done(&dataops);
	loop_free(loop);
	ck_assert_uint_eq(bufpool_used(bufs), 0);
	bufpool_free(bufs);
	pool_close(pool);
	bd_done(&d->base);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

/* ---- reads ---------------------------------------------------------------------- */

static unsigned n_waiting, n_right, n_eio, n_wrong; /* atomic */

struct reading {
	struct engine_io read;
	int n_answers;
};

static void answered(struct engine_io *read, int error, const void *buf, size_t n)
{
	struct reading *r = (struct reading *)read;
	unsigned *count = error == -EIO ? &n_eio : &n_wrong;

	if (!error && n == read->len) {
		count = &n_right;
		for (size_t i = 0; i < n / 8; i++)
			if (((const uint64_t *)buf)[i] != word_at(read->offset + i * 8))
				count = &n_wrong;
	}
	if (__atomic_fetch_add(&r->n_answers, 1, __ATOMIC_RELAXED))
		count = &n_wrong;
	__atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&n_waiting, 1, __ATOMIC_RELEASE);
	free(r);
}

static struct engine_io *reading(uint64_t offset, size_t len)
{
	struct reading *r = calloc(1, sizeof(*r));

	r->read = (struct engine_io){ .offset = offset, .len = len, .done = answered };
	__atomic_fetch_add(&n_waiting, 1, __ATOMIC_RELAXED);
	return &r->read;
}

static void forget_counts(void)
{
	n_waiting = n_right = n_eio = n_wrong = 0;
}

#define WAIT_FOR(condition)                                                         \
	do {                                                                        \
		uint64_t until_ =                                                   \
			timefmt_monotonic_ns() + DEADLINE_S * UINT64_C(1000000000); \
                                                                                    \
		while (!(condition)) {                                              \
			ck_assert_msg(timefmt_monotonic_ns() < until_, "never: %s", \
				      #condition);                                  \
			usleep(2000);                                               \
		}                                                                   \
	} while (0)
#define NOW(counter) __atomic_load_n(&(counter), __ATOMIC_ACQUIRE)

/* ---- images ---------------------------------------------------------------------- */

static unsigned n_complete, n_broken; /* atomic */
static char reason[IMAGE_REASON_MAX];

static void on_complete(void *opaque)
{
	(void)opaque;
	__atomic_fetch_add(&n_complete, 1, __ATOMIC_RELEASE);
}

static void on_broken(void *opaque, int error, const char *text)
{
	(void)opaque;
	(void)error;
	snprintf(reason, sizeof(reason), "%s", text);
	__atomic_fetch_add(&n_broken, 1, __ATOMIC_RELEASE);
}

static struct image *make_image(uint64_t id, struct device *d)
{
	const struct image_watcher watcher = { on_complete, on_broken, NULL, NULL };
	const struct point_params point_params = { .id = id, .size = SIZE };
	const struct image_params params = {
		.id = id, .size = SIZE, .generation = 1, .clean = true
	};
	struct point *point;
	struct image *image;

	ck_assert_int_eq(pool_create_image(pool, id, SIZE, 1, false), 0);
	ck_assert_int_eq(image_open(&dataops, pool, &params, &image), 0);
	ck_assert_int_eq(point_open(d->volume, &point_params, &point), 0);
	image_set_source(image, point, "lun", true, &watcher);
	point_unref(point);
	return image;
}

static void drop_image(struct image *image)
{
	image_cut_off(image);
	image_unref(image);
}

START_TEST(a_copy_is_right_and_skips_what_is_not_mapped)
{
	struct image_progress progress;
	struct image *image;
	struct device d;

	setup(8);
	forget_counts();
	n_complete = 0;
	device_init(&d, true, 1 << 20);
	bd_set_state(&d.base, BD_READY, NULL);
	image = make_image(1, &d);
	image_start_copy(image);
	WAIT_FOR(NOW(n_complete) == 1);
	image_progress(image, &progress);
	ck_assert_uint_eq(progress.bytes_present, SIZE);
	ck_assert_uint_gt(progress.bytes_skipped, SIZE / 6);
	ck_assert_uint_eq(progress.bytes_copied + progress.bytes_skipped, SIZE);
	for (uint64_t at = 0; at < SIZE; at += 1 << 20)
		image_io(image, reading(at, 1 << 20), TIMEOUT_MS);
	WAIT_FOR(NOW(n_waiting) == 0);
	ck_assert_uint_eq(n_right, SIZE >> 20);
	drop_image(image);
	teardown(&d);
}
END_TEST

START_TEST(a_small_transfer_limit_is_kept)
{
	struct image *image;
	struct device d;

	setup(8);
	forget_counts();
	n_complete = 0;
	device_init(&d, false, 32768);
	bd_set_state(&d.base, BD_READY, NULL);
	image = make_image(1, &d);
	image_start_copy(image);
	WAIT_FOR(NOW(n_complete) == 1);
	image_io(image, reading(4096, 1 << 20), TIMEOUT_MS);
	WAIT_FOR(NOW(n_waiting) == 0);
	ck_assert_uint_eq(n_right, 1);
	drop_image(image);
	teardown(&d);
}
END_TEST

START_TEST(reads_that_waited_by_the_thousand_do_not_nest)
{
	struct device d;

	setup(8);
	forget_counts();
	device_init(&d, false, 1 << 20);
	d.within = true;
	for (unsigned i = 0; i < 60000; i++)
		volume_io(d.volume, reading(i % 1000 * 4096, 4096), 60000);
	bd_set_state(&d.base, BD_READY, NULL);
	WAIT_FOR(NOW(n_waiting) == 0);
	ck_assert_uint_eq(n_right, 60000);
	teardown(&d);
}
END_TEST

START_TEST(a_silent_device_costs_eio_at_the_timeout_and_no_more)
{
	uint64_t begin, took_ms;
	struct image *image;
	struct bd_req *req;
	struct device d;

	setup(8);
	forget_counts();
	n_complete = 0;
	device_init(&d, false, 1 << 20);
	bd_set_state(&d.base, BD_READY, NULL);
	image = make_image(1, &d);
	d.silent = true;
	begin = timefmt_monotonic_ns();
	for (unsigned i = 0; i < 40; i++) {
		image_io(image, reading(i * 65536, 65536), TIMEOUT_MS);
		volume_io(d.volume, reading(i * 4096, 4096), TIMEOUT_MS);
	}
	WAIT_FOR(NOW(n_waiting) == 0);
	took_ms = (timefmt_monotonic_ns() - begin) / 1000000;
	ck_assert_uint_eq(n_eio, 80);
	ck_assert_uint_ge(took_ms, TIMEOUT_MS / 2);
	ck_assert_uint_le(took_ms, TIMEOUT_MS + 500);

	/* It comes to life: late answers do no harm, and the copy goes on. */
	d.silent = false;
	while ((req = d.kept)) {
		d.kept = req->next;
		carry_out(&d, req);
	}
	image_start_copy(image);
	WAIT_FOR(NOW(n_complete) == 1);
	ck_assert_uint_eq(n_wrong, 0);
	drop_image(image);
	teardown(&d);
}
END_TEST

START_TEST(a_medium_error_breaks_the_copy_and_names_the_bytes)
{
	struct image *image;
	struct device d;

	setup(8);
	forget_counts();
	n_broken = 0;
	device_init(&d, false, 1 << 20);
	bd_set_state(&d.base, BD_READY, NULL);
	d.error = -ENODATA;
	image = make_image(1, &d);
	image_start_copy(image);
	WAIT_FOR(NOW(n_broken) == 1);
	ck_assert_ptr_nonnull(strstr(reason, "lun: medium error: bytes "));
	image_io(image, reading(0, 4096), TIMEOUT_MS);
	WAIT_FOR(NOW(n_waiting) == 0);
	ck_assert_uint_eq(n_eio, 1);
	drop_image(image);
	teardown(&d);
}
END_TEST

START_TEST(images_are_dropped_in_mid_copy)
{
	struct image *images[12];
	struct device d;

	setup(3);
	forget_counts();
	device_init(&d, false, 1 << 20);
	d.late_us = 300;
	bd_set_state(&d.base, BD_READY, NULL);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 12; i++) {
			images[i] = make_image(round * 12 + i + 1, &d);
			image_start_copy(images[i]);
			pool_remove_image(pool, round * 12 + i + 1, 1);
		}
		usleep(rnd() % 3000);
		for (unsigned i = 0; i < 12; i++)
			drop_image(images[i]);
	}
	teardown(&d);
}
END_TEST

/* ---- everything at once -------------------------------------------------------- */

enum { N_IMAGES = 6 };

struct storm {
	struct device d;
	struct image *images[N_IMAGES];
	bool over; /* atomic */
};

static void *storm_reader(void *opaque)
{
	struct storm *s = opaque;

	while (!NOW(s->over)) {
		size_t len = (size_t)512 << (rnd() % 12);
		uint64_t offset = rnd() % ((SIZE - len) / 512 + 1) * 512;

		if (NOW(n_waiting) > 200)
			usleep(500);
		else if (rnd() % 2)
			image_io(s->images[rnd() % N_IMAGES], reading(offset, len),
				 TIMEOUT_MS);
		else
			volume_io(s->d.volume, reading(offset, len), TIMEOUT_MS);
	}
	return NULL;
}

static void *storm_weather(void *opaque)
{
	struct storm *s = opaque;

	while (!NOW(s->over)) {
		usleep(rnd() % 60000);
		bd_set_state(&s->d.base, BD_AWAY, "away");
		usleep(rnd() % 30000);
		bd_set_state(&s->d.base, BD_READY, NULL);
	}
	return NULL;
}

static void toss(struct image *image)
{
	switch (rnd() % 5) {
	case 0:
		image_pause_copy(image);
		break;
	case 1:
		image_checkpoint_soon(image);
		break;
	default:
		image_start_copy(image);
	}
}

START_TEST(what_is_read_while_copying_in_a_storm_is_right)
{
	static struct storm s;
	pthread_t threads[3];
	uint64_t end;

	setup(8);
	forget_counts();
	n_complete = n_broken = 0;
	device_init(&s.d, true, 1 << 20);
	s.d.late_us = 400;
	s.d.lose = 5;
	bd_set_state(&s.d.base, BD_READY, NULL);
	for (unsigned i = 0; i < N_IMAGES; i++)
		s.images[i] = make_image(i + 1, &s.d);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL,
						i ? storm_reader : storm_weather, &s),
				 0);
	end = timefmt_monotonic_ns() + UINT64_C(4000000000);
	while (timefmt_monotonic_ns() < end) {
		for (unsigned i = 0; i < N_IMAGES; i++)
			toss(s.images[i]);
		usleep(20000);
	}
	__atomic_store_n(&s.over, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	__atomic_store_n(&s.d.lose, 0, __ATOMIC_RELAXED);
	WAIT_FOR(({
		for (unsigned i = 0; i < N_IMAGES; i++)
			image_start_copy(s.images[i]);
		NOW(n_complete) == N_IMAGES;
	}));
	WAIT_FOR(NOW(n_waiting) == 0);
	ck_assert_uint_eq(n_wrong, 0);
	ck_assert_uint_eq(n_broken, 0);
	ck_assert_uint_gt(n_right, 100);
	for (unsigned i = 0; i < N_IMAGES; i++)
		drop_image(s.images[i]);
	teardown(&s.d);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_copy_is_right_and_skips_what_is_not_mapped,
		a_small_transfer_limit_is_kept,
		reads_that_waited_by_the_thousand_do_not_nest,
		a_silent_device_costs_eio_at_the_timeout_and_no_more,
		a_medium_error_breaks_the_copy_and_names_the_bytes,
		images_are_dropped_in_mid_copy,
		what_is_read_while_copying_in_a_storm_is_right,
	};

	return unit_main("image", tests, ROWS(tests));
}
