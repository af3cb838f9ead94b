/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CHAIN_H
#define LUNFS_CHAIN_H

/*
 * The points in time of a volume, oldest first, and the bytes that the volume had
 * at each of them.
 *
 * A point has a store (in a pool: a sparse file and its chunk map) that holds what
 * was copied before the volume changed.  A change copies each chunk it touches
 * once, into the store of the newest point that is still needed; an older point is
 * read through its own store, then those of the newer ones in order, then the
 * volume.  So the cost of a change does not grow with the number of points.
 *
 * A point that is needed no more stays as a store (a "leaving" point) until what
 * it holds for the next older needed one was handed to that, durably.  A point that
 * cannot be kept breaks, durably, before the change that breaks it is sent
 * (invariant I5), and never the change fails.
 *
 * A point without a store reads the volume as it is now: for sources that nobody
 * writes through LunFS.
 *
 * Thread safe.  Points are reference counted.  chain.c: the list and reads;
 * preserve.c: copy before write; handover.c: what leaving points hand on.
 */

#include <stdbool.h>
#include <stdint.h>

#include "engine/pool.h"
#include "engine/volume.h"

struct chain;
struct chain_waiter;
struct point;
struct restore;
struct share;

TAILQ_HEAD(chain_waiters, chain_waiter);

enum { POINT_REASON_MAX = 512 };

/* The owner's (the engine's): called by any thread with no lock held, must not
 * block. */
struct point_watcher {
	/* The point broke: durably marked; reads of it are -EIO from here on. */
	void (*broken)(void *opaque, uint64_t point, int error, const char *reason);
	/* A leaving point holds nothing any more that others need: take it out of
	 * the state store, then call point_remove(). */
	void (*handed_over)(void *opaque, uint64_t point);
	void *opaque;
};

struct point_params {
	uint64_t id;	   /* of the state store; its files' name, never used again */
	uint64_t sequence; /* rises with the instants of a volume */
	uint64_t size;	   /* bytes */
	struct pool *pool; /* NULL: no store */
	char source_name[NAME_ELEMENT_MAX_LEN + 1]; /* for messages */
	struct point_watcher watcher;
};

/*
 * Opens the files that pool_create_point() has made.  Blocks.  The point belongs to
 * the volume's chain but counts only once it was armed.  -ESTALE or -EUCLEAN: the
 * files cannot be used.  One that has broken before (its mark) is opened, is broken
 * and has its reason.
 */
int point_open(struct volume *volume, const struct point_params *params,
	       struct point **ret_point);
void point_ref(struct point *point);
void point_unref(struct point *point); /* takes NULL; the last one closes the files */
void point_set_sequence(struct point *point, uint64_t sequence); /* before it is armed */

/*
 * Puts the point into the chain, in the order of sequences: from here on changes of
 * the volume copy into it what they would destroy.  The volume's fence is closed and
 * drained, or no change was taken yet.  needed: false for one that was leaving
 * already when the process ended; it hands over from its next point_tick() on, by when
 * all points of the volume are armed, in any order.
 */
void point_arm(struct point *point, bool needed);

/* The point is needed no more (durably so in the state store): reads of it fail from
 * here on, also those under way.  Its chunks are handed on in the background, then
 * watcher.handed_over is called. */
void point_leave(struct point *point);

/* Once a second: what could not be handed over, or was not begun, is tried again, and
 * allocated is looked at anew. */
void point_tick(struct point *point);

/* Takes a point out of the chain whose handing over is done, or that was armed under
 * the fence that is closed still, or not at all.  No call of the watcher afterwards, and
 * none running (so not from within one).  Its files are the caller's to delete. */
void point_remove(struct point *point);

/* Of the images whose source the point is (share.h). */
struct share *point_share(struct point *point);

uint64_t point_id(const struct point *point);
uint64_t point_sequence(const struct point *point);
struct volume *point_volume(struct point *point);
bool point_is_broken(struct point *point, char *reason, size_t size);
/* Bytes allocated by its store, as of the last change of a second or so. */
uint64_t point_allocated(struct point *point);

/* Someone who waits for chunks to be preserved, or copied back. */
struct chain_waiter {
	void (*fn)(struct chain_waiter *waiter); /* by any thread, no lock held */

	/* The chain's: its place in a queue, or the pages that a worker loads for it. */
	struct preserve *preserve; /* in whose queue it stands; NULL at first */
	TAILQ_ENTRY(chain_waiter) link;
	struct work load;
	struct point *point;
	uint64_t chunk, n;

	/* The restore's: the queue it stands in; or the restore whose pages it loads. */
	struct chain_waiters *queue;
	struct restore *restore;
};

/*
 * A read of the bytes at a point: whole chunks, or up to the volume's end.
 * Never waits for a connection: -ENOTCONN when bytes are needed from a volume that
 * is not ready; else the errors of struct bd_req; -EIO of a point that broke or left.
 */
struct point_req {
	/* Set by the caller. */
	struct point *point; /* with a reference of the caller's until done */
	uint64_t offset;     /* a multiple of the block size (best: of the chunk size) */
	uint64_t length; /* bytes, 1 .. 1 MiB; as offset, or ends at the volume's end */
	void *buf;	 /* aligned to 4096 for speed */
	/* Called once, by any thread, also from within point_read(). */
	void (*done)(struct point_req *req, int error);
	void *opaque;

	/* Set before done when error is -ENODATA: the range that cannot be read. */
	uint64_t bad_offset, bad_length;

	/* The chain's. */
	uint64_t at, until;   /* what lies before is read; end of the run under way */
	struct point *holder; /* whose store it is read from; NULL: the volume */
	int error;	      /* of the run */
	int step, turns;
	struct volume_fetch fetch;
	struct chain_waiter waiter; /* for a copy-back */
	struct work work;
};

void point_read(struct point_req *req);

/*
 * How many chunks from `chunk` on, at most max, the volume itself still holds for
 * the point (ret_preserved false), or stores of the chain hold (true).  -EAGAIN: a
 * page of a map is not in memory; point_load() brings it.
 */
int64_t point_run(struct point *point, uint64_t chunk, uint64_t max, bool *ret_preserved);
/* The volume is being restored since before the point: what its device tells of its
 * extents is not true of the point. */
bool point_awaits_restore(struct point *point);
int point_load(struct point *point, uint64_t chunk, uint64_t n); /* blocks; -errno */

/* For restore.c.  Blocking.  Whether a store of the point or a newer one holds chunks
 * from `chunk` on: for *run chunks, at most as given.  0 or -errno. */
int point_has_store(struct point *point, uint64_t chunk, uint64_t *run, bool *ret_held);
/* Reads a chunk that a store of the point or a newer one, of a sequence below `before`,
 * holds; also of a point that is broken or leaving.  -ENODATA: none holds it. */
int point_read_held(struct point *point, uint64_t chunk, uint64_t before, char *buf);

/* Leaving points of a sequence from `from` on and below `until` are not handed over: a
 * restore reads what they hold, also when the point that it is for is broken, and so
 * takes nothing over.  Both 0: no more. */
void chain_keep(struct chain *chain, uint64_t from, uint64_t until);
/* The sequence of the newest point that is armed; 0: there is none. */
uint64_t chain_newest_sequence(struct chain *chain);

/* ---- for volume.c ---------------------------------------------------------------- */

int chain_new(struct dataops *all, struct volume *volume, struct chain **ret_chain);
void chain_free(struct chain *chain); /* no points, nothing under way; takes NULL */

/*
 * Sees that a change of n chunks from `chunk` on may be sent (invariant I1), as far as
 * points of a sequence below `before` need what is there (UINT64_MAX: all).  True:
 * it may, at once.  False: waiter->fn will be called once; then call again.
 */
bool chain_prepare(struct chain *chain, uint64_t chunk, uint64_t n, uint64_t before,
		   struct chain_waiter *waiter);

/* The change is given up: takes the waiter out of the queue it stands in.  True: its fn
 * is not called; false: it stood in none.  Follow with a chain_kick(). */
bool chain_cancel(struct chain *chain, struct chain_waiter *waiter);

/* No point needs anything now.  Only good while a change is active. */
bool chain_is_empty(const struct chain *chain);

/* The volume's device is ready again, or its state changed, or a waiter went. */
void chain_kick(struct chain *chain);

#endif
