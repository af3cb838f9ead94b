/* SPDX-License-Identifier: BSD-2-Clause */

#include "tests/device.h"

#include <semaphore.h>

#include "engine/chain.h"

#define STORE_ID "00000000-0000-4000-8000-00000000000a"

struct world world;
static unsigned seed, n_threads;

/* ---- what stands around ---------------------------------------------------------- */

unsigned rnd(unsigned n)
{
	static _Thread_local struct unit_random state;

	if (!state.state)
		state.state = ((uint64_t)seed << 8 | ADD(n_threads, 1)) * 2 + 1;
	return unit_random_below(&state, n);
}

bool one_in(unsigned n)
{
	return !rnd(n);
}

void world_start(const char *parent, unsigned n_workers)
{
	const char *given = getenv("LUNFS_TEST_SEED");
	char path[96], error[512];

	seed = given ? (unsigned)strtoul(given, NULL, 0) :
		       (unsigned)time(NULL) * 1009 + (unsigned)getpid();
	printf("LUNFS_TEST_SEED=%u\n", seed);
	fflush(stdout);
	ck_assert_int_eq(bufpool_new(8 << 20, &world.bufs), 0);
	ck_assert_int_eq(workers_new("disk", n_workers, &world.disk), 0);
	ck_assert_int_eq(workers_new("wire", 4, &world.wire), 0);
	ck_assert_int_eq(loop_new("loop", &world.loop), 0);
	ck_assert_int_eq(dataops_init(&world.dataops, world.bufs, world.disk, world.loop),
			 0);
	world.pool = NULL;
	if (!parent)
		return;
	snprintf(world.dir, sizeof(world.dir), "%s/lunfs-check.XXXXXX", parent);
	ck_assert_ptr_nonnull(mkdtemp(world.dir));
	snprintf(path, sizeof(path), "%s/pool", world.dir);
	ck_assert_msg(pool_open("p", path, STORE_ID, &world.pool, error, sizeof(error)) >=
			      0,
		      "%s", error);
}

void world_end(void)
{
	char command[96];

	dataops_stop(&world.dataops);
	workers_free(world.wire);
	workers_free(world.disk);
	dataops_done(&world.dataops);
	loop_free(world.loop);
	ck_assert_uint_eq(bufpool_used(world.bufs), 0);
	bufpool_free(world.bufs);
	if (!world.pool)
		return;
	pool_close(world.pool);
	snprintf(command, sizeof(command), "rm -rf %s", world.dir);
	ck_assert_int_eq(system(command), 0);
}

/* ---- the device ------------------------------------------------------------------ */

static bool is_change(const struct bd_req *req)
{
	return req->op == BD_WRITE || req->op == BD_ZERO;
}

/* `length`: of a change that fails in the middle, less than it asks for. */
static void touch_bytes(struct device *d, struct bd_req *req, uint64_t length)
{
	char *at = d->bytes + req->offset;

	pthread_mutex_lock(&d->lock);
	switch (req->op) {
	case BD_READ:
		memcpy(req->buf, at, length);
		break;
	case BD_WRITE:
		memcpy(at, req->buf, length);
		break;
	case BD_ZERO:
		memset(at, 0, length);
		break;
	default:
		break;
	}
	pthread_mutex_unlock(&d->lock);
}

/* A run of 64 KiB that is all zero is not mapped. */
static void give_extents(struct device *d, struct bd_req *req)
{
	static const char zeros[65536];
	uint64_t at = req->offset, end = at + req->length;

	pthread_mutex_lock(&d->lock);
	for (req->n_extents = 0; at < end && req->n_extents < 3; req->n_extents++) {
		uint64_t n = 65536 - at % 65536;

		n = n < end - at ? n : end - at;
		req->extents[req->n_extents] =
			(struct bd_extent){ at, n, memcmp(d->bytes + at, zeros, n) != 0 };
		at += n;
	}
	pthread_mutex_unlock(&d->lock);
}

static void flush(struct device *d)
{
	pthread_mutex_lock(&d->lock);
	if (d->durable)
		memcpy(d->durable, d->bytes, d->size);
	pthread_mutex_unlock(&d->lock);
	ADD(d->n_flushes, 1);
}

static int carry_out(struct device *d, struct bd_req *req)
{
	bool fails = rnd(1000) < NOW(d->fail);

	if (rnd(1000) < NOW(d->lose_before) ||
	    (is_change(req) && rnd(1000) < NOW(d->lose_changes)))
		return -ENOTCONN;
	if (req->op == BD_ZERO && NOW(d->no_zero))
		return -EOPNOTSUPP;
	if (req->op == BD_READ && d->bad && req->offset <= d->bad &&
	    d->bad < req->offset + req->length) {
		req->bad_offset = d->bad / 512 * 512;
		req->bad_length = 512;
		return -ENODATA;
	}
	if (req->op == BD_EXTENTS)
		give_extents(d, req);
	else if (req->op == BD_FLUSH)
		flush(d);
	else
		touch_bytes(d, req, fails ? req->length / 2 : req->length);
	if (rnd(1000) < NOW(d->lose_after))
		return -ENOTCONN;
	return fails ? -EIO : 0;
}

static void answer(struct device *d, struct bd_req *req)
{
	bool change = is_change(req);
	int error = carry_out(d, req);

	if (change)
		__atomic_fetch_sub(&d->n_changing, 1, __ATOMIC_ACQ_REL);
	req->done(req, error);
}

struct io {
	struct work work;
	struct device *d;
	struct bd_req *req;
};

static void io_run(struct work *work)
{
	struct io *io = (struct io *)work;
	unsigned late_us = NOW(io->d->late_us);

	if (late_us)
		usleep(rnd(late_us));
	answer(io->d, io->req);
	free(io);
}

static bool keep(struct device *d, struct bd_req *req)
{
	bool kept;

	pthread_mutex_lock(&d->lock);
	kept = NOW(d->silent);
	if (kept) {
		req->next = d->kept;
		d->kept = req;
		ADD(d->n_kept, 1);
	}
	pthread_mutex_unlock(&d->lock);
	return kept;
}

static void device_submit(struct blockdev *bd, struct bd_req *req)
{
	struct device *d = (struct device *)bd;
	struct io *io;

	if (is_change(req)) {
		ADD(d->n_changes, 1);
		ADD(d->n_changing, 1);
		if (NOW(d->n_fences))
			ADD(d->n_wrong, 1);
		if (d->on_change)
			d->on_change(d, req);
	}
	if (NOW(d->silent) && keep(d, req))
		return;
	if (rnd(1000) < NOW(d->within)) {
		answer(d, req);
		return;
	}
	io = malloc(sizeof(*io));
	*io = (struct io){ { .fn = io_run }, d, req };
	workers_submit(world.wire, &io->work);
}

static const struct blockdev_ops device_ops = { .name = "test", .submit = device_submit };

static void device_changed(void *opaque)
{
	volume_kick(((struct device *)opaque)->volume);
}

void device_start(struct device *d, uint64_t size, uint32_t block_size, bool thin,
		  char *bytes)
{
	const struct bd_params params = { .name = "lun",
					  .watcher = { NULL, device_changed, d } };
	uint32_t max = block_size == 4096 ? 65536 : 1 << 20;

	memset(d, 0, sizeof(*d));
	d->size = size;
	d->own = bytes ? NULL : calloc(1, size);
	d->bytes = bytes ? bytes : d->own;
	ck_assert_ptr_nonnull(d->bytes);
	pthread_mutex_init(&d->lock, NULL);
	ck_assert_int_eq(bd_init(&d->base, &device_ops, &params), 0);
	d->base.info = (struct bd_info){
		.size = size,
		.block_size = block_size,
		.max_transfer = max,
		.opt_transfer = block_size == 4096 ? 16384 : 262144,
		.thin = thin,
	};
	ck_assert_int_eq(volume_new(&world.dataops, &d->volume), 0);
	volume_attach(d->volume, &d->base);
	bd_set_state(&d->base, BD_READY, NULL);
}

void device_stop(struct device *d)
{
	device_speak(d);
	volume_detach(d->volume);
	volume_unref(d->volume);
}

void device_free(struct device *d)
{
	ck_assert_uint_eq(d->n_wrong, 0);
	bd_done(&d->base);
	pthread_mutex_destroy(&d->lock);
	free(d->own);
}

void device_away(struct device *d)
{
	bd_set_state(&d->base, BD_AWAY, "away");
}

void device_back(struct device *d)
{
	bd_count_login(&d->base);
	bd_set_state(&d->base, BD_READY, NULL);
}

void device_speak(struct device *d)
{
	struct bd_req *kept, *req;

	pthread_mutex_lock(&d->lock);
	SET(d->silent, false);
	kept = d->kept;
	d->kept = NULL;
	SET(d->n_kept, 0);
	pthread_mutex_unlock(&d->lock);
	while ((req = kept)) {
		kept = req->next;
		answer(d, req);
	}
}

/* ---- requests that are waited for ------------------------------------------------ */

struct waited {
	struct engine_io *io;
	sem_t done;
	int error;
	size_t n;
};

static void waited_done(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct waited *w = io->opaque;

	if (!error && io->op == ENGINE_IO_READ)
		memcpy((void *)(uintptr_t)io->data, buf, n);
	w->error = error;
	w->n = n;
	sem_post(&w->done);
}

int volume_wait_io(struct volume *v, struct engine_io *io, unsigned timeout_ms,
		   size_t *ret_n)
{
	struct waited w = { .io = io };

	sem_init(&w.done, 0, 0);
	io->done = waited_done;
	io->opaque = &w;
	volume_io(v, io, timeout_ms);
	while (sem_wait(&w.done) < 0)
		;
	/* The poster may still be in sem_post(). */
	sem_destroy(&w.done);
	if (ret_n)
		*ret_n = w.n;
	return w.error;
}

int volume_write(struct volume *v, uint64_t offset, const void *buf, size_t len)
{
	struct engine_io io = {
		.op = ENGINE_IO_WRITE, .offset = offset, .len = len, .data = buf
	};
	size_t n;
	int r = volume_wait_io(v, &io, 60000, &n);

	return r ? r : (int)n;
}

int volume_zero(struct volume *v, uint64_t offset, uint64_t len)
{
	struct engine_io io = { .op = ENGINE_IO_ZERO, .offset = offset, .len = len };

	return volume_wait_io(v, &io, 60000, NULL);
}

int volume_flush(struct volume *v)
{
	struct engine_io io = { .op = ENGINE_IO_FLUSH };

	return volume_wait_io(v, &io, 60000, NULL);
}

static void tally_done(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct tally *t = io->opaque;

	(void)buf;
	(void)n;
	free(io);
	ADD(*(!error ? &t->n_right : error == -EIO ? &t->n_eio : &t->n_other), 1);
}

void tally_io(struct tally *t, struct volume *v, enum engine_io_op op, uint64_t offset,
	      uint64_t len, unsigned timeout_ms)
{
	char *data = op == ENGINE_IO_WRITE ? malloc(len) : NULL;
	struct engine_io *io = calloc(1, sizeof(*io));

	if (data)
		memset(data, 'x', len);
	*io = (struct engine_io){ .op = op,
				  .offset = offset,
				  .len = len,
				  .data = data,
				  .done = tally_done,
				  .opaque = t };
	ADD(t->n_asked, 1);
	volume_io(v, io, timeout_ms);
	free(data);
}
