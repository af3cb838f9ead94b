/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TESTS_IMAGE_RIG_H
#define LUNFS_TESTS_IMAGE_RIG_H

/*
 * What stands around an image that is tested: a device in memory, which can be late,
 * lose its connection, fail or be silent; its volume; a pool; another such device, for
 * images that are LUNs; and requests that are waited for.  The seed is printed;
 * CHECK_IMAGE_SEED repeats it.
 */

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/engine.h"
#include "engine/image.h"
#include "tests/unit.h"

enum { CHUNK = POOL_CHUNK_SIZE, RIG_DEADLINE_S = 20, RIG_TIMEOUT_MS = 3000 };

#define NOW(counter) __atomic_load_n(&(counter), __ATOMIC_ACQUIRE)
#define SET(variable, value) __atomic_store_n(&(variable), value, __ATOMIC_RELEASE)
#define WAIT_FOR(condition)                                                             \
	do {                                                                            \
		uint64_t until_ =                                                       \
			timefmt_monotonic_ns() + RIG_DEADLINE_S * UINT64_C(1000000000); \
                                                                                        \
		while (!(condition)) {                                                  \
			ck_assert_msg(timefmt_monotonic_ns() < until_, "never: %s",     \
				      #condition);                                      \
			usleep(1000);                                                   \
		}                                                                       \
	} while (0)

/* ---- random numbers ----------------------------------------------------------- */

static unsigned rig_seed;

static inline unsigned rnd(unsigned below)
{
	static _Thread_local unsigned state;
	static unsigned n_threads;

	if (!state)
		state = rig_seed * 31 +
			__atomic_add_fetch(&n_threads, 1, __ATOMIC_RELAXED);
	return (unsigned)rand_r(&state) % below;
}

/* ---- the device ------------------------------------------------------------------ */

struct ram {
	struct blockdev base;
	struct volume *volume;
	pthread_mutex_t lock; /* of bytes and kept */
	char *bytes;
	char *mapped; /* one a chunk */
	char *durable; /* what it has if it loses its cache; NULL: it does not */
	uint64_t size;
	unsigned session; /* atomic: what was submitted in another is dead */
	bool is_down;	  /* nobody has logged in since its power failed */
	bool dead;	  /* all is -EIO: another has its bytes */
	struct bd_req *kept;
	struct ram *next;

	/* Atomic. */
	bool within; /* answers within submit */
	bool silent; /* keeps the requests */
	int error;
	unsigned lose; /* of 1000 requests */
	unsigned lose_after; /* the same, but they are carried out */
	bool no_zero;	     /* BD_ZERO is -EOPNOTSUPP */
	int sync_error;	     /* what BD_FLUSH gets */
	unsigned n_writes, n_zeros, n_syncs;
	uint64_t longest_write;
	unsigned late_us;
	unsigned n_reads;
	uint64_t bytes_read;
};

static struct workers *rig_wire;

static inline void ram_give_extents(struct ram *d, struct bd_req *req)
{
	uint64_t at = req->offset, end = at + req->length;

	for (req->n_extents = 0; at < end && req->n_extents < BD_MAX_EXTENTS;) {
		uint64_t n = CHUNK - at % CHUNK;

		n = n < end - at ? n : end - at;
		req->extents[req->n_extents++] =
			(struct bd_extent){ at, n, d->mapped[at / CHUNK] };
		at += n;
	}
}

static inline void ram_map(struct ram *d, const struct bd_req *req, bool mapped)
{
	for (uint64_t c = req->offset / CHUNK;
	     c <= (req->offset + req->length - 1) / CHUNK; c++)
		if (mapped || (req->offset <= c * CHUNK &&
			       (c + 1) * CHUNK <= req->offset + req->length))
			d->mapped[c] = mapped;
}

static inline void ram_count(struct ram *d, const struct bd_req *req)
{
	unsigned *n = req->op == BD_WRITE ? &d->n_writes :
		      req->op == BD_ZERO  ? &d->n_zeros :
		      req->op == BD_FLUSH ? &d->n_syncs :
					    NULL;

	if (n)
		__atomic_add_fetch(n, 1, __ATOMIC_RELAXED);
	if (req->op == BD_WRITE && req->length > NOW(d->longest_write))
		SET(d->longest_write, req->length);
}

/* What a flush, or FUA, makes durable. */
static inline void ram_sync(struct ram *d, const struct bd_req *req)
{
	if (d->durable && req->op == BD_FLUSH)
		memcpy(d->durable, d->bytes, d->size);
	else if (d->durable && (req->flags & BD_FUA) && req->op != BD_READ)
		memcpy(d->durable + req->offset, d->bytes + req->offset, req->length);
}

/* session: of its submission. */
static inline int ram_run(struct ram *d, struct bd_req *req, unsigned session)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
	if (d->dead)
		return -EIO;
	if (session != d->session || d->is_down)
		return -ENOTCONN;
	ram_count(d, req);
	switch (req->op) {
	case BD_READ:
		__atomic_add_fetch(&d->n_reads, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&d->bytes_read, req->length, __ATOMIC_RELAXED);
		memcpy(req->buf, d->bytes + req->offset, req->length);
		break;
	case BD_WRITE:
		memcpy(d->bytes + req->offset, req->buf, req->length);
		ram_map(d, req, true);
		break;
	case BD_ZERO:
		memset(d->bytes + req->offset, 0, req->length);
		ram_map(d, req, false);
		break;
	case BD_EXTENTS:
		ram_give_extents(d, req);
		break;
	default:
		break;
	}
	ram_sync(d, req);
	return 0;
}

static inline void ram_carry_out(struct ram *d, struct bd_req *req, unsigned session)
{
	int error = NOW(d->error);

	if (!error && rnd(1000) < NOW(d->lose))
		error = -ENOTCONN;
	if (!error && req->op == BD_ZERO && NOW(d->no_zero))
		error = -EOPNOTSUPP;
	if (!error && req->op == BD_FLUSH)
		error = NOW(d->sync_error);
	if (!error)
		error = ram_run(d, req, session);
	if (!error && rnd(1000) < NOW(d->lose_after))
		error = -ENOTCONN;
	req->bad_offset = req->offset;
	req->bad_length = 512;
	req->done(req, error);
}

struct ram_io {
	struct work work;
	struct ram *d;
	struct bd_req *req;
	unsigned session;
};

static inline void ram_io_run(struct work *work)
{
	struct ram_io *io = (struct ram_io *)work;

	if (NOW(io->d->late_us))
		usleep(rnd(NOW(io->d->late_us)));
	ram_carry_out(io->d, io->req, io->session);
	free(io);
}

static inline void ram_submit(struct blockdev *bd, struct bd_req *req)
{
	struct ram *d = (struct ram *)bd;
	struct ram_io *io;

	if (NOW(d->silent)) {
		ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
		req->next = d->kept;
		d->kept = req;
		return;
	}
	if (NOW(d->within)) {
		ram_carry_out(d, req, NOW(d->session));
		return;
	}
	io = malloc(sizeof(*io));
	*io = (struct ram_io){ { .fn = ram_io_run }, d, req, NOW(d->session) };
	workers_submit(rig_wire, &io->work);
}

/* It speaks again. */
static inline void ram_resume(struct ram *d)
{
	unsigned session = NOW(d->session);
	struct bd_req *req;

	SET(d->silent, false);
	for (;;) {
		pthread_mutex_lock(&d->lock);
		req = d->kept;
		d->kept = req ? req->next : NULL;
		pthread_mutex_unlock(&d->lock);
		if (!req)
			break;
		ram_carry_out(d, req, session);
	}
}

static const struct blockdev_ops ram_ops = { .name = "test", .submit = ram_submit };

static inline void ram_changed(void *opaque)
{
	volume_kick(((struct ram *)opaque)->volume);
}

/* ---- all around -------------------------------------------------------------------- */

static char rig_dir[64];
static struct dataops rig_ops;
static struct bufpool *rig_bufs;
static struct workers *rig_disk;
static struct loop *rig_loop;
static struct pool *rig_pool;
static struct ram rig, *rig_target; /* the second only if it was started */
static struct ram *rig_dead;	    /* its predecessors */
static uint64_t rig_size, rig_memory = 4 << 20;

/* What a byte of the source is at the beginning; each fifth chunk is zero, and not
 * mapped. */
static inline char source_byte(uint64_t offset)
{
	if (offset / CHUNK % 5 == 3)
		return 0;
	return (char)((offset / 8 * UINT64_C(0x9e3779b97f4a7c15)) >>
		      (8 + offset % 8 * 7));
}

static inline void ram_start(struct ram *d, uint64_t size, uint32_t block_size, bool thin)
{
	const struct bd_params params = { .name = "lun",
					  .watcher = { NULL, ram_changed, d } };

	memset(d, 0, sizeof(*d));
	pthread_mutex_init(&d->lock, NULL);
	d->size = size;
	d->bytes = malloc(size);
	d->mapped = malloc(size / CHUNK + 1);
	for (uint64_t i = 0; i < size; i++)
		d->bytes[i] = source_byte(i);
	for (uint64_t c = 0; c <= size / CHUNK; c++)
		d->mapped[c] = c % 5 != 3;
	ck_assert_int_eq(bd_init(&d->base, &ram_ops, &params), 0);
	d->base.info = (struct bd_info){ .size = size,
					 .block_size = block_size,
					 .max_transfer = 1 << 20,
					 .opt_transfer = 262144,
					 .thin = thin };
	ck_assert_int_eq(volume_new(&rig_ops, &d->volume), 0);
	volume_attach(d->volume, &d->base);
	bd_set_state(&d->base, BD_READY, NULL);
}

/* The target of an image that is a LUN: full of old data, which is durable. */
static inline void ram_start_target(struct ram *d, uint64_t size, uint32_t block_size)
{
	ram_start(d, size, block_size, false);
	d->durable = malloc(size);
	for (uint64_t i = 0; i < size; i++)
		d->bytes[i] = (char)(i * 7 + i / 256 + 1);
	memcpy(d->durable, d->bytes, size);
}

static inline void ram_away(struct ram *d)
{
	bd_set_state(&d->base, BD_AWAY, "away");
}

/* A new login: nothing of the session before is carried out any more. */
static inline void ram_back(struct ram *d)
{
	pthread_mutex_lock(&d->lock);
	__atomic_add_fetch(&d->session, 1, __ATOMIC_RELEASE);
	d->is_down = false;
	pthread_mutex_unlock(&d->lock);
	bd_count_login(&d->base);
	bd_set_state(&d->base, BD_READY, NULL);
}

/* It loses what is not durable, each sector or not. */
static inline void ram_lose_cache(struct ram *d)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
	unsigned bias = rnd(5);

	for (uint64_t at = 0; at < d->size; at += 512)
		if (rnd(4) < bias)
			memcpy(d->bytes + at, d->durable + at, 512);
	memcpy(d->durable, d->bytes, d->size);
}

/* Its power fails, with the same: nothing is carried out until somebody has logged in
 * anew, also if it was submitted before its owner knew. */
static inline void ram_fail(struct ram *d)
{
	pthread_mutex_lock(&d->lock);
	d->is_down = true;
	pthread_mutex_unlock(&d->lock);
	ram_lose_cache(d);
}

/* Its volume lets go of it; ram_free() once all has ended. */
static inline void ram_stop(struct ram *d)
{
	ram_resume(d);
	volume_detach(d->volume);
	volume_kick(d->volume);
	volume_unref(d->volume);
}

static inline void ram_free(struct ram *d)
{
	bd_done(&d->base);
	pthread_mutex_destroy(&d->lock);
	free(d->bytes);
	free(d->mapped);
	free(d->durable);
}

static inline void rig_start(uint64_t size, bool thin)
{
	const char *given = getenv("CHECK_IMAGE_SEED");
	const char *parent = getenv("CHECK_IMAGE_DIR");
	char path[96], error[512];

	rig_size = size;
	rig_seed = given ? (unsigned)atoi(given) : (unsigned)time(NULL);
	printf("CHECK_IMAGE_SEED=%u\n", rig_seed);
	fflush(stdout);
	snprintf(rig_dir, sizeof(rig_dir), "%.32s/check_image.XXXXXX",
		 parent ? parent : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(rig_dir));
	snprintf(path, sizeof(path), "%s/pool", rig_dir);
	ck_assert_msg(pool_open("p", path, "00000000-0000-4000-8000-00000000000a",
				&rig_pool, error, sizeof(error)) >= 0,
		      "%s", error);
	ck_assert_int_eq(bufpool_new(rig_memory, &rig_bufs), 0);
	ck_assert_int_eq(workers_new("disk", 4, &rig_disk), 0);
	ck_assert_int_eq(workers_new("wire", 3, &rig_wire), 0);
	ck_assert_int_eq(loop_new("loop", &rig_loop), 0);
	ck_assert_int_eq(dataops_init(&rig_ops, rig_bufs, rig_disk, rig_loop), 0);
	ram_start(&rig, rig_size, 512, thin);
}

/* Another device, of any size. */
static inline void rig_start_target(uint64_t size, uint32_t block_size)
{
	rig_target = malloc(sizeof(*rig_target));
	ram_start_target(rig_target, size, block_size);
}

/* As a process does that dies: nothing that uses it now changes anything any more, and
 * what it has is that of another. */
static inline void rig_replace_target(void)
{
	struct ram *old = rig_target, *new = malloc(sizeof(*new));

	ram_start(new, old->size, old->base.info.block_size, false);
	free(new->bytes);
	free(new->mapped);
	pthread_mutex_lock(&old->lock);
	old->dead = true;
	new->bytes = move_ptr(old->bytes);
	new->mapped = move_ptr(old->mapped);
	new->durable = move_ptr(old->durable);
	pthread_mutex_unlock(&old->lock);
	new->no_zero = old->no_zero;
	new->late_us = old->late_us;
	old->next = rig_dead;
	rig_dead = old;
	SET(rig_target, new);
}

static inline void rig_stop(void)
{
	char command[96];
	struct ram *d;

	dataops_stop(&rig_ops);
	ram_stop(&rig);
	if (rig_target)
		ram_stop(rig_target);
	for (d = rig_dead; d; d = d->next)
		ram_stop(d);
	workers_free(rig_wire);
	workers_free(rig_disk);
	dataops_done(&rig_ops);
	loop_free(rig_loop);
	ck_assert_uint_eq(bufpool_used(rig_bufs), 0);
	bufpool_free(rig_bufs);
	pool_close(rig_pool);
	ram_free(&rig);
	if (rig_target)
		ram_free(rig_target);
	free(rig_target);
	rig_target = NULL;
	while ((d = rig_dead)) {
		rig_dead = d->next;
		ram_free(d);
		free(d);
	}
	snprintf(command, sizeof(command), "rm -rf %s", rig_dir);
	ck_assert_int_eq(system(command), 0);
}

/* The point of the source's present bytes. */
static inline struct point *rig_point(uint64_t id)
{
	const struct point_params params = {
		.id = id, .sequence = id, .size = rig_size, .pool = rig_pool
	};
	struct point *point;

	ck_assert_int_eq(pool_create_point(rig_pool, id, rig_size), 0);
	ck_assert_int_eq(point_open(rig.volume, &params, &point), 0);
	point_arm(point, true);
	return point;
}

static inline void rig_drop_point(struct point *point)
{
	point_leave(point);
	point_remove(point);
	point_unref(point);
}

/* ---- requests that are waited for ------------------------------------------------ */

struct wait_io {
	struct engine_io io;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	int error;
	size_t n;
	void *to;
};

static inline void wait_io_done(struct engine_io *io, int error, const void *buf,
				size_t n)
{
	struct wait_io *w = (struct wait_io *)io;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&w->lock);
	if (w->done)
		ck_abort_msg("answered twice");
	w->done = true;
	w->error = error;
	w->n = n;
	if (buf && w->to)
		memcpy(w->to, buf, n);
	pthread_cond_signal(&w->cond);
}

static inline void wait_io_start(struct wait_io *w, struct image *image,
				 enum engine_io_op op, void *buf, uint64_t offset,
				 uint64_t len)
{
	*w = (struct wait_io){ .io = { .op = op,
				       .offset = offset,
				       .len = len,
				       .data = op == ENGINE_IO_WRITE ? buf : NULL,
				       .done = wait_io_done },
			       .lock = PTHREAD_MUTEX_INITIALIZER,
			       .cond = PTHREAD_COND_INITIALIZER,
			       .to = op == ENGINE_IO_READ ? buf : NULL };
	if (image)
		image_io(image, &w->io, RIG_TIMEOUT_MS);
	else
		volume_io(rig.volume, &w->io, RIG_TIMEOUT_MS);
}

static inline bool wait_io_is_done(struct wait_io *w)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&w->lock);

	return w->done;
}

static inline int wait_io_end(struct wait_io *w)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&w->lock);

	while (!w->done)
		pthread_cond_wait(&w->cond, &w->lock);
	return w->error ? w->error : (int)w->n;
}

/* The number of bytes, or -errno; image NULL: of the source. */
static inline int do_io(struct image *image, enum engine_io_op op, void *buf,
			uint64_t offset, uint64_t len)
{
	struct wait_io w;

	wait_io_start(&w, image, op, buf, offset, len);
	return wait_io_end(&w);
}

#endif
