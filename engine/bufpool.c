/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * One mapping of `limit` bytes for the life of the pool, cut in blocks of 1 MiB
 * and those in 16 units of 64 KiB.  A block's used units are a mask of 16 bits;
 * a buffer is one unit, an aligned quarter (4 units) or the whole block.  So
 * nothing is mapped or unmapped once the pool exists, each page is faulted in
 * once, and what is kept idle can never exceed the limit.
 *
 * For each buffer size a bitmap tells which blocks have room; the lowest one is
 * taken, which keeps the small buffers together and whole blocks free for the
 * large ones, and leaves memory untouched that is not needed.
 *
 * Waiters.  One thread at a time is the waker: it takes the first waiter that
 * has room, calls it without the lock and looks again; memory that others give
 * back meanwhile is found by that next look.  While a waiter is called it still
 * counts as standing in the queue for everybody else, and its first
 * bufpool_get() goes before those behind it: nobody overtakes.  Since a waiter
 * may give memory back (a request that was answered at once), the nested call
 * finds a waker at work and returns: no recursion.
 */

#include "engine/bufpool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#endif

#include "conf/cleanup.h"

enum {
	BLOCK_SIZE = BUFPOOL_MAX_BUFFER,
	UNIT_SIZE = 64 << 10,
	UNITS_A_BLOCK = BLOCK_SIZE / UNIT_SIZE,
	QUARTER_UNITS = UNITS_A_BLOCK / 4,
	/* The largest buffer must fit in the copiers' three quarters. */
	LIMIT_MIN = 2 * BLOCK_SIZE,
};

_Static_assert(UNITS_A_BLOCK == 16, "a block's units are the bits of an uint16_t");

enum bufpool_size { SIZE_UNIT, SIZE_QUARTER, SIZE_BLOCK, N_SIZES };

static const unsigned size_units[N_SIZES] = { 1, QUARTER_UNITS, UNITS_A_BLOCK };

/* The blocks that have room for a buffer of one size. */
struct room {
	uint64_t *words;
	size_t lowest; /* no word before this one has a bit set */
};

struct waiters {
	struct bufpool_waiter *first;
	struct bufpool_waiter **last;
};

struct bufpool {
	/* Fixed. */
	uint8_t *base;
	uint64_t limit; /* bytes; a multiple of UNIT_SIZE */
	size_t n_blocks;
	size_t n_words; /* of a struct room */

	pthread_mutex_t lock; /* protects what follows */
	uint16_t *used_units; /* a mask a block */
	struct room room[N_SIZES];
	uint64_t used; /* bytes */
	uint64_t used_copy;
	uint64_t peak;
	struct waiters waiters[2]; /* by class */
	bool waking;		   /* `waker` walks the queues */
	pthread_t waker;
	struct bufpool_waiter *called; /* the waiter whose fn runs */
	enum bufpool_class called_class;
	bool called_may_get; /* it has not tried yet */
	pthread_cond_t call_ended;
};

static enum bufpool_size bufpool_size_of(size_t size)
{
	assert(size >= 1 && size <= BUFPOOL_MAX_BUFFER);
	if (size <= UNIT_SIZE)
		return SIZE_UNIT;
	if (size <= UNIT_SIZE * QUARTER_UNITS)
		return SIZE_QUARTER;
	return SIZE_BLOCK;
}

static unsigned mask_of(enum bufpool_size size, unsigned unit)
{
	return ((1U << size_units[size]) - 1) << unit;
}

/* The first unit of a free buffer in a block, or -1.  A single unit is taken
 * from a quarter that is begun, if there is one. */
static int block_find(uint16_t used, enum bufpool_size size)
{
	unsigned unit;
	int found = -1;

	if (size != SIZE_UNIT) {
		for (unit = 0; unit < UNITS_A_BLOCK; unit += size_units[size]) {
			if (!(used & mask_of(size, unit)))
				return unit;
		}
		return -1;
	}
	for (unit = 0; unit < UNITS_A_BLOCK; unit += QUARTER_UNITS) {
		unsigned quarter = used >> unit & 0xf;

		if (quarter == 0xf || (quarter == 0 && found >= 0))
			continue;
		found = unit + __builtin_ctz(~quarter);
		if (quarter)
			break;
	}
	return found;
}

static void room_set(struct room *room, size_t block, bool has_room)
{
	uint64_t bit = UINT64_C(1) << (block % 64);

	if (!has_room) {
		room->words[block / 64] &= ~bit;
		return;
	}
	room->words[block / 64] |= bit;
	if (block / 64 < room->lowest)
		room->lowest = block / 64;
}

/* The lowest block that has room, or -1. */
static ssize_t room_find(struct room *room, size_t n_words)
{
	while (room->lowest < n_words && room->words[room->lowest] == 0)
		room->lowest++;
	if (room->lowest == n_words)
		return -1;
	return room->lowest * 64 + __builtin_ctzll(room->words[room->lowest]);
}

static void bufpool_set_block(struct bufpool *pool, size_t block, uint16_t used)
{
	unsigned size;

	pool->used_units[block] = used;
	for (size = 0; size < N_SIZES; size++)
		room_set(&pool->room[size], block, block_find(used, size) >= 0);
}

static int bufpool_allocate(struct bufpool *pool)
{
	unsigned i;

	pool->used_units = calloc(pool->n_blocks, sizeof(pool->used_units[0]));
	if (!pool->used_units)
		return -ENOMEM;
	for (i = 0; i < N_SIZES; i++) {
		pool->room[i].words = calloc(pool->n_words, sizeof(uint64_t));
		if (!pool->room[i].words)
			return -ENOMEM;
	}
	pool->base = mmap(NULL, pool->limit, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (pool->base == MAP_FAILED) {
		pool->base = NULL;
		return -errno;
	}
	ASAN_POISON_MEMORY_REGION(pool->base, pool->limit);
	return 0;
}

int bufpool_new(uint64_t limit_bytes, struct bufpool **ret_pool)
{
	struct bufpool *pool;
	unsigned tail;
	size_t i;
	int r;

	if (limit_bytes < LIMIT_MIN)
		return -EINVAL;
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->call_ended, NULL);
	for (i = 0; i < 2; i++)
		pool->waiters[i].last = &pool->waiters[i].first;
	pool->limit = limit_bytes - limit_bytes % UNIT_SIZE;
	pool->n_blocks = (pool->limit + BLOCK_SIZE - 1) / BLOCK_SIZE;
	pool->n_words = (pool->n_blocks + 63) / 64;
	r = bufpool_allocate(pool);
	if (r < 0) {
		bufpool_free(pool);
		return r;
	}
	for (i = 0; i < pool->n_blocks; i++)
		bufpool_set_block(pool, i, 0);
	/* What the last block lacks is used for ever. */
	tail = pool->limit % BLOCK_SIZE / UNIT_SIZE;
	if (tail)
		bufpool_set_block(pool, pool->n_blocks - 1, 0xffffU << tail);
	*ret_pool = pool;
	return 0;
}

void bufpool_free(struct bufpool *pool)
{
	unsigned i;

	if (!pool)
		return;
	assert(pool->used == 0);
	assert(!pool->waiters[0].first && !pool->waiters[1].first && !pool->called);
	if (pool->base) {
		ASAN_UNPOISON_MEMORY_REGION(pool->base, pool->limit);
		munmap(pool->base, pool->limit);
	}
	for (i = 0; i < N_SIZES; i++)
		free(pool->room[i].words);
	free(pool->used_units);
	pthread_cond_destroy(&pool->call_ended);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static bool bufpool_fits_locked(struct bufpool *pool, enum bufpool_class class,
				enum bufpool_size size)
{
	uint64_t bytes = (uint64_t)size_units[size] * UNIT_SIZE;

	if (class == BUFPOOL_COPY && pool->used_copy + bytes > pool->limit / 4 * 3)
		return false;
	return room_find(&pool->room[size], pool->n_words) >= 0;
}

/* Does anybody stand before a bufpool_get() of the calling thread? */
static bool bufpool_must_wait_locked(struct bufpool *pool, enum bufpool_class class)
{
	if (pool->called && pthread_equal(pool->waker, pthread_self()) &&
	    pool->called_may_get && pool->called_class == class) {
		pool->called_may_get = false;
		return false;
	}
	if (pool->waiters[BUFPOOL_REQUEST].first)
		return true;
	if (class == BUFPOOL_COPY)
		return pool->waiters[BUFPOOL_COPY].first || pool->called;
	return pool->called && pool->called_class == BUFPOOL_REQUEST;
}

static void *bufpool_take_locked(struct bufpool *pool, enum bufpool_class class,
				 enum bufpool_size size)
{
	uint64_t bytes = (uint64_t)size_units[size] * UNIT_SIZE;
	size_t block = room_find(&pool->room[size], pool->n_words);
	unsigned unit = block_find(pool->used_units[block], size);

	bufpool_set_block(pool, block, pool->used_units[block] | mask_of(size, unit));
	pool->used += bytes;
	if (class == BUFPOOL_COPY)
		pool->used_copy += bytes;
	if (pool->used > pool->peak)
		pool->peak = pool->used;
	return pool->base + block * BLOCK_SIZE + unit * UNIT_SIZE;
}

void *bufpool_get(struct bufpool *pool, enum bufpool_class class, size_t size)
{
	enum bufpool_size s = bufpool_size_of(size);
	void *buf;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&pool->lock);

	if (bufpool_must_wait_locked(pool, class) || !bufpool_fits_locked(pool, class, s))
		return NULL;
	buf = bufpool_take_locked(pool, class, s);
	ASAN_UNPOISON_MEMORY_REGION(buf, size);
	return buf;
}

/* The waiter whose turn it is, out of its queue, or NULL. */
static struct bufpool_waiter *bufpool_next_waiter_locked(struct bufpool *pool)
{
	struct waiters *queue = &pool->waiters[BUFPOOL_REQUEST];
	struct bufpool_waiter *waiter;
	size_t size;

	if (!queue->first)
		queue = &pool->waiters[BUFPOOL_COPY];
	waiter = queue->first;
	if (!waiter)
		return NULL;
	size = __atomic_load_n(&waiter->size, __ATOMIC_RELAXED);
	if (!bufpool_fits_locked(pool, waiter->class, bufpool_size_of(size)))
		return NULL;
	queue->first = waiter->next;
	if (!queue->first)
		queue->last = &queue->first;
	waiter->queued = 0;
	return waiter;
}

static void bufpool_wake_locked(struct bufpool *pool)
{
	struct bufpool_waiter *waiter;

	if (pool->waking)
		return;
	pool->waking = true;
	pool->waker = pthread_self();
	while ((waiter = bufpool_next_waiter_locked(pool))) {
		pool->called = waiter;
		pool->called_class = waiter->class;
		pool->called_may_get = true;
		pthread_mutex_unlock(&pool->lock);
		waiter->fn(waiter); /* may free the waiter */
		pthread_mutex_lock(&pool->lock);
		pool->called = NULL;
		pthread_cond_broadcast(&pool->call_ended);
	}
	pool->waking = false;
}

void bufpool_put(struct bufpool *pool, enum bufpool_class class, void *buf, size_t size)
{
	enum bufpool_size s = bufpool_size_of(size);
	uint64_t bytes = (uint64_t)size_units[s] * UNIT_SIZE;
	size_t offset = (uint8_t *)buf - pool->base;
	size_t block = offset / BLOCK_SIZE;
	unsigned mask;

	assert(offset < pool->limit && offset % bytes == 0);
	mask = mask_of(s, offset % BLOCK_SIZE / UNIT_SIZE);

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&pool->lock);

	assert((pool->used_units[block] & mask) == mask);
	ASAN_POISON_MEMORY_REGION(buf, bytes);
	bufpool_set_block(pool, block, pool->used_units[block] & ~mask);
	pool->used -= bytes;
	if (class == BUFPOOL_COPY) {
		assert(pool->used_copy >= bytes);
		pool->used_copy -= bytes;
	}
	bufpool_wake_locked(pool);
}

void bufpool_wait(struct bufpool *pool, struct bufpool_waiter *waiter)
{
	struct waiters *queue = &pool->waiters[waiter->class];

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&pool->lock);

	if (!waiter->queued) {
		waiter->queued = 1;
		waiter->next = NULL;
		*queue->last = waiter;
		queue->last = &waiter->next;
	}
	bufpool_wake_locked(pool);
}

static bool bufpool_dequeue_locked(struct bufpool *pool, struct bufpool_waiter *waiter)
{
	struct waiters *queue = &pool->waiters[waiter->class];
	struct bufpool_waiter **at;

	if (!waiter->queued)
		return false;
	for (at = &queue->first; *at != waiter; at = &(*at)->next)
		;
	*at = waiter->next;
	if (!*at)
		queue->last = at;
	waiter->queued = 0;
	return true;
}

void bufpool_cancel(struct bufpool *pool, struct bufpool_waiter *waiter)
{
	bool dequeued;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&pool->lock);

	dequeued = bufpool_dequeue_locked(pool, waiter);
	while (pool->called == waiter && !pthread_equal(pool->waker, pthread_self())) {
		pthread_cond_wait(&pool->call_ended, &pool->lock);
		/* Its fn may have queued it again. */
		dequeued |= bufpool_dequeue_locked(pool, waiter);
	}
	/* The one behind it may fit where this one did not. */
	if (dequeued)
		bufpool_wake_locked(pool);
}

uint64_t bufpool_used(struct bufpool *pool)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&pool->lock);

	return pool->used;
}

uint64_t bufpool_peak(struct bufpool *pool)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&pool->lock);

	return pool->peak;
}
