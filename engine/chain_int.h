/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CHAIN_INT_H
#define LUNFS_CHAIN_INT_H

/*
 * What chain.c (the list, reads), preserve.c (copy before write) and handover.c
 * (leaving points) share.
 *
 * The states of a point, under chain->lock:
 *
 *   opened     not in the chain
 *   armed      in the chain: changes copy into the newest of these
 *   broken     something it needs could not be kept; its store is still read through
 *              by older points
 *   leaving    nobody needs it; its store is still read through by older points
 *   removed    out of the chain
 *
 * needed = armed, not broken, not leaving.
 */

#include <pthread.h>

#include "engine/chain.h"
#include "engine/chunkmap.h"
#include "engine/share.h"

struct preserve;
TAILQ_HEAD(preserve_list, preserve);
TAILQ_HEAD(point_list, point);

struct point {
	int refs; /* atomic */
	struct chain *chain;
	struct point_params params;
	int fd;		      /* -1: no store */
	struct chunkmap *map; /* NULL: no store */
	uint64_t allocated;   /* atomic */
	struct share share;
	struct work destroy;

	pthread_mutex_t sync_lock; /* held while the file is synced */
	int sync_error;		   /* the first, which sticks */

	/* chain->lock */
	TAILQ_ENTRY(point) link;
	bool armed, broken, leaving, removed;
	char reason[POINT_REASON_MAX];
	unsigned n_preserves;	      /* under way into its store */
	struct preserve_list to_sync; /* in the file, not durable, the bit not set */
	bool syncing;
	bool told; /* handed_over was called */
};

struct chain {
	struct dataops *all;
	struct volume *volume; /* which owns the chain */
	unsigned n_needed;     /* also read without the lock */

	pthread_mutex_t lock;
	pthread_cond_t quiet;		/* in_watcher became NULL */
	struct point_list points;	/* oldest first */
	struct preserve_list preserves; /* under way: the only fillers of their chunks */
	const struct point *in_watcher;
	struct dataop_retry retry; /* preserves that lost their connection or failed */

	/* handover.c */
	uint64_t keep_from, keep_until; /* chain_keep() */
	bool handing;		 /* a work is under way */
	bool failed;		 /* the last one failed: point_tick() tries again */
	struct point *from, *to; /* with references, while handing */
	uint64_t cursor;	 /* chunk */
	struct work handover;
};

static inline bool point_is_needed(const struct point *p)
{
	return p->armed && !p->broken && !p->leaving;
}

/* Its bytes can be had: changes do not pass it by. */
static inline bool point_is_whole(const struct point *p)
{
	return !p->broken && !p->leaving && !p->removed;
}

/* The newest needed point of a sequence below `before`, or NULL. */
struct point *chain_newest_needed_locked(struct chain *chain, uint64_t before);

/*
 * Who holds `chunk` for a reader of `from` (itself or a newer one): *ret_holder, NULL
 * if nobody, for how many chunks on (at most max) that is so.  -EAGAIN.
 */
int64_t chain_holder_locked(struct chain *chain, struct point *from, uint64_t chunk,
			    uint64_t max, struct point **ret_holder);
/* Loads the pages that chain_holder_locked() needs.  Blocks; no lock held. */
int chain_load(struct chain *chain, struct point *from, uint64_t chunk, uint64_t n);

uint64_t point_n_chunks(const struct point *point);
/* Bytes of n chunks from chunk on: fewer at the end. */
uint64_t point_bytes(const struct point *point, uint64_t chunk, uint64_t n);

/* Writes what is not zero; 0 or -errno.  The range is a hole before. */
int point_write_store(struct point *point, const char *buf, size_t len, uint64_t offset);
int point_read_store(struct point *point, char *buf, size_t len, uint64_t offset);
/* Makes what was written durable.  Bits are set after it only (I2): so readers and
 * changes never find a chunk of which a failing disk may yet lose the data. */
int point_sync(struct point *point);
int point_test_bit(struct point *point, uint64_t chunk);
int point_set_bits(struct point *point, uint64_t chunk, uint64_t n);
int point_checkpoint(struct point *point); /* makes the bits durable */

/* The watcher may be called: until chain_leave_watcher() no point_remove() of it
 * returns. */
bool chain_enter_watcher(struct point *point);
void chain_leave_watcher(struct point *point);

/* preserve.c */
void preserve_init(struct chain *chain);
void preserve_done(struct chain *chain);
void preserve_kick(struct chain *chain);

/* handover.c: starts what can be handed over. */
void handover_run(struct chain *chain);

#endif
