/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The list of points of a volume, and reads at a point.
 *
 * A read goes through its range in runs, one after another: what a store holds is read
 * from that store by a worker, what none holds from the volume.  What came from the
 * volume counts only if, after it came, still no store holds it and the point is not
 * broken (invariant I7): a change of the volume is sent only after the bit of its
 * chunk is set, so a bit that is clear now was clear when the volume was read.  What
 * was preserved meanwhile is read from the store.
 *
 * Locks: chain->lock, then a map's.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "engine/chain_int.h"
#include "engine/restore.h"
#include "engine/zeros.h"

/* ---- life ------------------------------------------------------------------------ */

int chain_new(struct dataops *all, struct volume *volume, struct chain **ret_chain)
{
	struct chain *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->all = all;
	c->volume = volume;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->quiet, NULL);
	TAILQ_INIT(&c->points);
	preserve_init(c);
	*ret_chain = c;
	return 0;
}

void chain_free(struct chain *c)
{
	if (!c)
		return;
	assert(TAILQ_EMPTY(&c->points));
	preserve_done(c);
	pthread_cond_destroy(&c->quiet);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

bool chain_is_empty(const struct chain *c)
{
	return !__atomic_load_n(&c->n_needed, __ATOMIC_ACQUIRE);
}

static void close_files(struct point *p)
{
	chunkmap_close(p->map);
	if (p->fd >= 0)
		close(p->fd);
	pthread_mutex_destroy(&p->sync_lock);
	share_done(&p->share);
	free(p);
}

/* A mark is "ERRNO SENTENCE". */
static int read_mark(struct point *p)
{
	char mark[POINT_REASON_MAX];
	int r = chunkmap_read_mark(p->map, mark, sizeof(mark));
	const char *blank;

	if (r < 0 || !*mark)
		return r;
	blank = strchr(mark, ' ');
	p->broken = true;
	snprintf(p->reason, sizeof(p->reason), "%s", blank ? blank + 1 : mark);
	return 0;
}

static int open_files(struct point *p)
{
	const struct chunkmap_params map = {
		.id = p->params.id,
		.generation = 1,
		.size = p->params.size,
		.chunk_size = POOL_CHUNK_SIZE,
	};
	char file[64];
	int r;

	p->fd = pool_open_point(p->params.pool, p->params.id);
	if (p->fd < 0)
		return p->fd;
	pool_point_map_file(p->params.id, file, sizeof(file));
	r = chunkmap_open(pool_dirfd(p->params.pool), file, &map, &p->map);
	return r < 0 ? r : read_mark(p);
}

static void look_at_allocated(struct point *p)
{
	struct stat st;

	if (p->fd >= 0 && !fstat(p->fd, &st))
		__atomic_store_n(&p->allocated, (uint64_t)st.st_blocks * 512,
				 __ATOMIC_RELAXED);
}

int point_open(struct volume *volume, const struct point_params *params,
	       struct point **ret_point)
{
	struct point *p = calloc(1, sizeof(*p));
	int r = 0;

	if (!p)
		return -ENOMEM;
	p->refs = 1;
	p->params = *params;
	p->fd = -1;
	p->chain = volume_chain(volume);
	pthread_mutex_init(&p->sync_lock, NULL);
	share_init(&p->share);
	TAILQ_INIT(&p->to_sync);
	if (params->pool)
		r = open_files(p);
	if (r < 0) {
		close_files(p);
		return r;
	}
	look_at_allocated(p);
	volume_ref(volume);
	*ret_point = p;
	return 0;
}

void point_ref(struct point *p)
{
	__atomic_add_fetch(&p->refs, 1, __ATOMIC_RELAXED);
}

void point_set_sequence(struct point *p, uint64_t sequence)
{
	p->params.sequence = sequence;
}

/* By a worker: it may take the volume with it. */
static void destroy(struct work *work)
{
	struct point *p =
		(struct point *)((char *)work - offsetof(struct point, destroy));
	struct volume *v = p->chain->volume;

	close_files(p);
	volume_unref(v);
}

void point_unref(struct point *p)
{
	if (!p || __atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL))
		return;
	p->destroy.fn = destroy;
	workers_submit(p->chain->all->workers, &p->destroy);
}

/* ---- the list -------------------------------------------------------------------- */

void point_arm(struct point *p, bool needed)
{
	struct chain *c = p->chain;
	struct point *at;

	if (!p->map)
		return;
	point_ref(p);
	pthread_mutex_lock(&c->lock);
	TAILQ_FOREACH(at, &c->points, link)
		if (at->params.sequence > p->params.sequence)
			break;
	if (at)
		TAILQ_INSERT_BEFORE(at, p, link);
	else
		TAILQ_INSERT_TAIL(&c->points, p, link);
	p->armed = true;
	p->leaving = !needed;
	if (point_is_needed(p))
		__atomic_add_fetch(&c->n_needed, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&c->lock);
	/* One that is leaving waits for point_tick(): older ones that need what it holds
	 * may be armed after it. */
}

void point_leave(struct point *p)
{
	struct chain *c = p->chain;

	pthread_mutex_lock(&c->lock);
	if (point_is_needed(p))
		__atomic_sub_fetch(&c->n_needed, 1, __ATOMIC_RELEASE);
	p->leaving = true;
	pthread_mutex_unlock(&c->lock);
	if (p->map)
		handover_run(c);
}

void point_remove(struct point *p)
{
	struct chain *c = p->chain;
	bool was_armed;

	pthread_mutex_lock(&c->lock);
	was_armed = p->armed && !p->removed;
	if (point_is_needed(p))
		__atomic_sub_fetch(&c->n_needed, 1, __ATOMIC_RELEASE);
	p->armed = false;
	p->removed = true;
	if (was_armed)
		TAILQ_REMOVE(&c->points, p, link);
	while (c->in_watcher == p)
		pthread_cond_wait(&c->quiet, &c->lock);
	pthread_mutex_unlock(&c->lock);
	if (!was_armed)
		return;
	handover_run(c);
	point_unref(p);
}

uint64_t chain_newest_sequence(struct chain *c)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
	const struct point *p = TAILQ_LAST(&c->points, point_list);

	return p ? p->params.sequence : 0;
}

struct share *point_share(struct point *p)
{
	return &p->share;
}

uint64_t point_id(const struct point *p)
{
	return p->params.id;
}

uint64_t point_sequence(const struct point *p)
{
	return p->params.sequence;
}

struct volume *point_volume(struct point *p)
{
	return p->chain->volume;
}

bool point_is_broken(struct point *p, char *reason, size_t size)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->chain->lock);

	if (p->broken && reason)
		snprintf(reason, size, "%s", p->reason);
	return p->broken;
}

uint64_t point_allocated(struct point *p)
{
	return __atomic_load_n(&p->allocated, __ATOMIC_RELAXED);
}

void point_tick(struct point *p)
{
	struct chain *c = p->chain;
	bool again;

	look_at_allocated(p);
	pthread_mutex_lock(&c->lock);
	again = p->armed && p->leaving && !p->told;
	if (again)
		c->failed = false;
	pthread_mutex_unlock(&c->lock);
	if (again)
		handover_run(c);
}

bool chain_enter_watcher(struct point *p)
{
	struct chain *c = p->chain;
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	while (c->in_watcher)
		pthread_cond_wait(&c->quiet, &c->lock);
	if (p->removed)
		return false;
	c->in_watcher = p;
	return true;
}

void chain_leave_watcher(struct point *p)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->chain->lock);

	p->chain->in_watcher = NULL;
	pthread_cond_broadcast(&p->chain->quiet);
}

/* ---- who holds what -------------------------------------------------------------- */

uint64_t point_n_chunks(const struct point *p)
{
	return (p->params.size + POOL_CHUNK_SIZE - 1) / POOL_CHUNK_SIZE;
}

uint64_t point_bytes(const struct point *p, uint64_t chunk, uint64_t n)
{
	uint64_t from = chunk * POOL_CHUNK_SIZE, to = (chunk + n) * POOL_CHUNK_SIZE;

	return (to < p->params.size ? to : p->params.size) - from;
}

struct point *chain_newest_needed_locked(struct chain *c, uint64_t before)
{
	struct point *p;

	TAILQ_FOREACH_REVERSE (p, &c->points, point_list, link)
		if (point_is_needed(p) && p->params.sequence < before)
			return p;
	return NULL;
}

int64_t chain_holder_locked(struct chain *c, struct point *from, uint64_t chunk,
			    uint64_t max, struct point **ret_holder)
{
	uint64_t n = max;
	struct point *p;

	(void)c;
	*ret_holder = NULL;
	for (p = from; p; p = TAILQ_NEXT(p, link)) {
		bool set;
		int64_t run = chunkmap_run(p->map, chunk, n, &set);

		if (run < 0)
			return run;
		n = (uint64_t)run;
		if (set) {
			*ret_holder = p;
			break;
		}
	}
	return (int64_t)n;
}

int chain_load(struct chain *c, struct point *from, uint64_t chunk, uint64_t n)
{
	struct point *p = from, *next;
	int r = 0;

	point_ref(p);
	while (p && r >= 0) {
		r = chunkmap_load(p->map, chunk, n);
		pthread_mutex_lock(&c->lock);
		next = p->armed ? TAILQ_NEXT(p, link) : NULL;
		if (next)
			point_ref(next);
		pthread_mutex_unlock(&c->lock);
		point_unref(p);
		p = next;
	}
	point_unref(p);
	return r;
}

int64_t point_run(struct point *p, uint64_t chunk, uint64_t max, bool *ret_preserved)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->chain->lock);
	struct point *holder = NULL;
	int64_t n = (int64_t)max;

	/* A read of one that is not whole fails: nothing is to be skipped. */
	if (p->map && point_is_whole(p))
		n = chain_holder_locked(p->chain, p, chunk, max, &holder);
	*ret_preserved = holder || !point_is_whole(p);
	return n;
}

int point_has_store(struct point *p, uint64_t chunk, uint64_t *run, bool *ret_held)
{
	struct chain *c = p->chain;

	for (;;) {
		struct point *holder;
		int64_t n;
		int r;

		pthread_mutex_lock(&c->lock);
		n = p->removed ? -EIO : chain_holder_locked(c, p, chunk, *run, &holder);
		pthread_mutex_unlock(&c->lock);
		if (n > 0) {
			*run = (uint64_t)n;
			*ret_held = holder;
			return 0;
		}
		r = n == -EAGAIN ? chain_load(c, p, chunk, *run) : (int)n;
		if (r < 0)
			return r;
	}
}

int point_read_held(struct point *p, uint64_t chunk, uint64_t before, char *buf)
{
	struct chain *c = p->chain;
	struct point *holder = NULL;
	int r = 0;

	while (!holder && r >= 0) {
		int64_t n;

		pthread_mutex_lock(&c->lock);
		n = p->removed ? -EIO : chain_holder_locked(c, p, chunk, 1, &holder);
		if (holder && holder->params.sequence >= before)
			holder = NULL;
		if (holder)
			point_ref(holder);
		pthread_mutex_unlock(&c->lock);
		r = n == -EAGAIN ? chain_load(c, p, chunk, 1) : n < 0 ? (int)n :
		    holder	 ? 0 :
				   -ENODATA;
	}
	if (r >= 0)
		r = point_read_store(holder, buf, point_bytes(p, chunk, 1),
				     chunk * POOL_CHUNK_SIZE);
	point_unref(holder);
	return r;
}

int point_load(struct point *p, uint64_t chunk, uint64_t n)
{
	return p->map ? chain_load(p->chain, p, chunk, n) : 0;
}

/* ---- stores ---------------------------------------------------------------------- */

int point_read_store(struct point *p, char *buf, size_t len, uint64_t offset)
{
	while (len) {
		ssize_t n = pread(p->fd, buf, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		buf += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_all(int fd, const char *buf, size_t len, uint64_t offset)
{
	while (len) {
		ssize_t n = pwrite(fd, buf, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		buf += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Chunk by chunk, joined where neither is zero. */
int point_write_store(struct point *p, const char *buf, size_t len, uint64_t offset)
{
	size_t at = 0, from;
	int r = 0;

	while (at < len && !r) {
		for (from = at; at < len; at += POOL_CHUNK_SIZE) {
			size_t n =
				len - at < POOL_CHUNK_SIZE ? len - at : POOL_CHUNK_SIZE;

			if (zeros_only(buf + at, n))
				break;
		}
		if (at > len)
			at = len;
		if (at > from)
			r = write_all(p->fd, buf + from, at - from, offset + from);
		if (at < len)
			at += POOL_CHUNK_SIZE;
	}
	return r;
}

int point_test_bit(struct point *p, uint64_t chunk)
{
	int r = chunkmap_test(p->map, chunk);

	while (r == -EAGAIN) {
		r = chunkmap_load(p->map, chunk, 1);
		if (r >= 0)
			r = chunkmap_test(p->map, chunk);
	}
	return r;
}

int point_set_bits(struct point *p, uint64_t chunk, uint64_t n)
{
	int r = chunkmap_set(p->map, chunk, n);

	while (r == -EAGAIN) {
		r = chunkmap_load(p->map, chunk, n);
		if (r >= 0)
			r = chunkmap_set(p->map, chunk, n);
	}
	return r;
}

/* The kernel tells of a write that failed once, and forgets it: no later sync is
 * believed, by whomever (invariant I2). */
int point_sync(struct point *p)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->sync_lock);

	if (!p->sync_error && fdatasync(p->fd) < 0)
		p->sync_error = -errno;
	return p->sync_error;
}

/* Of all bits that are set. */
static int data_is_durable(void *opaque)
{
	(void)opaque;
	return 0;
}

int point_checkpoint(struct point *p)
{
	return chunkmap_checkpoint(p->map, data_is_durable, NULL);
}

/* ---- reads ----------------------------------------------------------------------- */

enum { READ_LOOK, READ_VERIFY, READ_STORE };

static void go_on(struct point_req *req);

static void fetched(struct volume_fetch *f, int error)
{
	struct point_req *req = f->opaque;

	req->error = error;
	req->step = READ_VERIFY;
	go_on(req);
}

static uint64_t chunks_of(uint64_t from, uint64_t to)
{
	return (to - 1) / POOL_CHUNK_SIZE - from / POOL_CHUNK_SIZE + 1;
}

static void copied_back(struct chain_waiter *waiter)
{
	go_on((struct point_req *)((char *)waiter - offsetof(struct point_req, waiter)));
}

/* The restore under way that a point sees the volume after, with a reference; or NULL. */
static struct restore *restore_before(struct point *p)
{
	struct restore *r = volume_get_restore(p->chain->volume);

	if (r && restore_sequence(r) > p->params.sequence) {
		restore_unref(r);
		r = NULL;
	}
	return r;
}

bool point_awaits_restore(struct point *p)
{
	struct restore *r = restore_before(p);

	restore_unref(r);
	return r;
}

/* A copy-back waits for the connection, and a read does not. */
static bool is_cut_off(const struct point_req *req)
{
	const struct chain *c = req->point->chain;

	return dataops_is_stopping(c->all) ||
	       (point_awaits_restore(req->point) && !volume_is_ready(c->volume));
}

/* What is read has been copied back.  False: it waits for that. */
static bool is_restored(struct point_req *req)
{
	struct restore *r = restore_before(req->point);
	bool ready = true;

	if (r) {
		req->waiter.fn = copied_back;
		ready = restore_prepare(r, req->at / POOL_CHUNK_SIZE,
					chunks_of(req->at, req->until), &req->waiter);
	}
	restore_unref(r);
	return ready;
}

static void read_volume(struct point_req *req)
{
	struct volume_fetch *f = &req->fetch;

	f->volume = req->point->chain->volume;
	f->offset = req->at;
	f->length = req->until - req->at;
	f->buf = (char *)req->buf + (req->at - req->offset);
	f->done = fetched;
	f->opaque = req;
	volume_fetch(f);
}

static void read_store(struct work *work)
{
	struct point_req *req =
		(struct point_req *)((char *)work - offsetof(struct point_req, work));

	req->error =
		point_read_store(req->holder, (char *)req->buf + (req->at - req->offset),
				 req->until - req->at, req->at);
	if (req->error)
		req->error = -EIO;
	go_on(req);
}

static void load_pages(struct work *work)
{
	struct point_req *req =
		(struct point_req *)((char *)work - offsetof(struct point_req, work));
	int r = point_load(req->point, req->at / POOL_CHUNK_SIZE,
			   chunks_of(req->at, req->until));

	if (r < 0) {
		req->error = -EIO;
		req->step = READ_STORE;
	}
	go_on(req);
}

static void to_worker(struct point_req *req, void (*fn)(struct work *work))
{
	req->work.fn = fn;
	workers_submit(req->point->chain->all->workers, &req->work);
}

static void end_of(const struct point_req *req, uint64_t chunks, uint64_t *until)
{
	uint64_t to = (req->at / POOL_CHUNK_SIZE + chunks) * POOL_CHUNK_SIZE;

	if (to < *until)
		*until = to;
}

/* Finds the next run; -EAGAIN, or -EIO of a point that is not whole. */
static int look(struct point_req *req)
{
	struct point *p = req->point, *holder = NULL;
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->chain->lock);
	int64_t n = 0;

	req->until = req->offset + req->length;
	if (!point_is_whole(p))
		return -EIO;
	if (p->map)
		n = chain_holder_locked(p->chain, p, req->at / POOL_CHUNK_SIZE,
					chunks_of(req->at, req->until), &holder);
	if (n < 0)
		return (int)n;
	if (p->map)
		end_of(req, (uint64_t)n, &req->until);
	req->holder = holder;
	if (holder)
		point_ref(holder);
	return 0;
}

/* Whether what came from the volume counts: moves `at` over what does. */
static int verify(struct point_req *req)
{
	struct point *p = req->point, *holder = NULL;
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->chain->lock);

	if (!point_is_whole(p))
		return -EIO;
	while (p->map && req->at < req->until) {
		int64_t n = chain_holder_locked(p->chain, p, req->at / POOL_CHUNK_SIZE,
						chunks_of(req->at, req->until), &holder);
		uint64_t to = req->until;

		if (n < 0)
			return (int)n;
		if (holder)
			return 0;
		end_of(req, (uint64_t)n, &to);
		req->at = to;
	}
	req->at = req->until;
	return 0;
}

static bool finish(struct point_req *req, int error)
{
	if (error == -ENODATA) {
		req->bad_offset = req->fetch.bad_offset;
		req->bad_length = req->fetch.bad_length;
	}
	req->done(req, error);
	return false;
}

/* Does what can be done now; false: it has ended. */
static bool read_step(struct point_req *req)
{
	int r;

	for (;;) {
		switch (req->step) {
		case READ_VERIFY:
			r = req->error ? 0 : verify(req);
			if (r == -EAGAIN) {
				to_worker(req, load_pages);
				return true;
			}
			if (r || req->error)
				return finish(req, r ? r : req->error);
			break;
		case READ_STORE:
			if (req->holder)
				point_unref(move_ptr(req->holder));
			if (req->error)
				return finish(req, req->error);
			req->at = req->until;
			break;
		case READ_LOOK:
			break;
		}
		if (req->at == req->offset + req->length)
			return finish(req, 0);
		req->step = READ_LOOK;
		r = look(req);
		if (r == -EAGAIN) {
			to_worker(req, load_pages);
			return true;
		}
		if (r)
			return finish(req, r);
		if (req->holder) {
			req->step = READ_STORE;
			to_worker(req, read_store);
		} else if (is_cut_off(req)) {
			return finish(req, -ENOTCONN);
		} else if (is_restored(req)) {
			read_volume(req);
		}
		return true;
	}
}

static void go_on(struct point_req *req)
{
	if (__atomic_fetch_add(&req->turns, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	do {
		if (!read_step(req))
			return;
	} while (__atomic_sub_fetch(&req->turns, 1, __ATOMIC_ACQ_REL) > 0);
}

void point_read(struct point_req *req)
{
	req->at = req->offset;
	req->step = READ_LOOK;
	req->holder = NULL;
	req->error = 0;
	req->turns = 0;
	go_on(req);
}
