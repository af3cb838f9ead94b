/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_RESTORE_INT_H
#define LUNFS_RESTORE_INT_H

/*
 * What restore.c (life, the plan, who needs what, the walk in the background) and
 * restore_unit.c (the way of a run of chunks back to the volume) share.
 *
 * Locks: a volume's, then r->lock, then a chain's, then a map's.
 */

#include <pthread.h>

#include "engine/chunkmap.h"
#include "engine/restore.h"

enum {
	RESTORE_RUN_CHUNKS = (1 << 20) / POOL_CHUNK_SIZE, /* at most, of one unit */
	RESTORE_PARTS = 4,				  /* at the device at once */
};

/* Chunks of a unit, in a row, that are to be preserved. */
struct unit_run {
	struct unit *unit;
	uint64_t chunk, n;
	struct chain_waiter waiter;
};

/* A run of chunks on its way back. */
struct unit {
	struct restore *restore; /* with a reference */
	uint64_t chunk, n;
	char *buf;
	size_t size;
	bool background;
	struct priority_ticket ticket;
	unsigned logins; /* of the device, when it was sent */
	struct work work;
	struct unit_run runs[(RESTORE_RUN_CHUNKS + 1) / 2];
	unsigned n_preparing; /* atomic */
	bool cut;	      /* atomic: the engine stops, and they are not preserved */

	/* Without a point: what the volume has, and which chunks are the same (bits). */
	struct volume_fetch fetch;
	char *old;
	uint32_t same;

	/* What is at the device. */
	uint64_t part, next_part; /* the second atomic */
	unsigned n_pending;	  /* atomic */
	int error;		  /* atomic */
	struct bd_req parts[RESTORE_PARTS];

	/* r->lock */
	TAILQ_ENTRY(unit) link;
	TAILQ_ENTRY(unit) sync_link;
	struct unit *next; /* of those that their maker has still to start */
	bool lost;	   /* waits for the next kick */
	struct chain_waiters waiters;
};

_Static_assert(RESTORE_RUN_CHUNKS <= 32, "bits of unit.same");

TAILQ_HEAD(unit_list, unit);

struct restore {
	int refs; /* atomic */
	struct restore_params params;
	struct dataops *all;
	struct chain *chain;
	struct chunkmap *map;
	uint64_t n_chunks, n_to_do; /* chunks, as of the opening or the plan */
	struct dataop_retry retry;
	struct priority_flow flow; /* asked before each unit in the background */

	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t quiet; /* in_watcher became false */
	struct unit_list units, to_sync;
	struct unit_list syncing; /* while is_syncing: of who syncs */
	bool is_syncing;
	struct bd_req flush;
	struct work sync_work;
	unsigned n_background;
	uint64_t cursor;
	uint64_t n_same;		/* chunks copied back that were the same */
	struct chain_waiters unplanned; /* until the plan is made */
	struct chain_waiters stalled;	/* the map cannot be read, or no memory */
	bool planned, attached, loading, told, in_watcher;
	bool abandoned; /* it was detached before it was attached: it is none */
	struct work load;
	char error[RESTORE_REASON_MAX];
};

/* restore.c */

/* Takes the waiters of a list; the lock is held. */
void restore_take_waiters(struct chain_waiters *from, struct chain_waiters *to);
void restore_wake(struct chain_waiters *waiters); /* no lock held */
void restore_set_error(struct restore *restore, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int restore_set_bits(struct restore *restore, uint64_t chunk, uint64_t n);
int restore_checkpoint(struct restore *restore);
/* Makes the units of the background that there is room for. */
void restore_background(struct restore *restore);

/* restore_unit.c */

/* A unit of n chunks, registered; the lock is held.  NULL: no memory. */
struct unit *unit_new_locked(struct restore *restore, uint64_t chunk, uint64_t n);
void unit_start(struct unit *unit);
void unit_end(struct unit *unit);

#endif
