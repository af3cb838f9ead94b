/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_SHARE_H
#define LUNFS_SHARE_H

/*
 * The images that have one point as their source: what the copier of one of them reads,
 * all are given that lack it and copy, so that the source is read once for all.
 *
 *   lead    a fill of the copier whose range is about to be read
 *   riders  fills of the others, of the same range, or its beginning, as far as it is
 *           absent there: registered together with the lead, so that no copier reads
 *           what another one does; each goes its own way from the moment the bytes
 *           are there, which are in the lead's buffer until the last of them has ended
 *
 * So that they stay together, nothing is read while one of them has as many fills as its
 * store takes - unless none of these has ended for a while (SHARE_PATIENCE_NS, or twice
 * the longest that one has taken so far): such a one is left behind, and reads for itself
 * what it lacks later.
 *
 * Others need the disk too: all of them together have SHARE_FILLS under way before another
 * lead is read, and a lead is the shorter the more ride with it (SHARE_BYTES).
 *
 * A rider whose lead fails is given up as if its connection were lost: it finds out for
 * itself.
 *
 * Locks: share->lock, then image->lock of one image.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "engine/workers.h"

struct fill;
struct image;
struct point;

#define SHARE_PATIENCE_NS UINT64_C(1000000000)
#define SHARE_PATIENCE_MAX_NS UINT64_C(10000000000)
enum {
	SHARE_FILLS = 48,	/* of all images */
	SHARE_BYTES = 16 << 20, /* that one lead brings to all of them */
};

/* Part of a point, which the images hold. */
struct share {
	pthread_mutex_t lock;
	TAILQ_HEAD(share_images, image) images;
	unsigned n;	/* of them; also read without the lock */
	bool is_shared; /* by several, once; the same */
	bool stepping; /* a thread, or the work, lets those step that wait */
	bool again;    /* it has to look once more */
	struct work work;
	struct point *point; /* the work's, with a reference */

	/* Atomic: of all copiers. */
	unsigned n_fills, n_reading; /* not given back; and not answered by the source */
	uint64_t moved_ns;	     /* when the last fill ended */
	uint64_t gap_ns;	     /* the longest that one was waited for */
};

void share_init(struct share *share);
void share_done(struct share *share); /* nobody is in it */

/* The image has the point as its source; no lock held. */
void share_join(struct point *point, struct image *image);
void share_leave(struct point *point, struct image *image);

/* Those that have waited for an image of the share copy on; no lock held.  The caller
 * holds the point. */
void share_step(struct point *point);

/* ---- for fill.c; the lock of the fill's image is held -------------------------------- */

/* A fill of the copier is there (1), or gives its place back (-1). */
void share_count_locked(struct fill *fill, int by);
void share_count_read_locked(struct fill *fill); /* the source has answered it, or its lead */
void share_note_moved_locked(const struct fill *fill); /* the store has it */

/* ---- for copier.c: around the look at what is next ---------------------------------- */

/* The source's share, locked, where others have that source too; with a reference on
 * the point.  NULL: the image is alone. */
struct point *share_enter(struct image *image);
/* The most that a fill of one of them takes. */
uint64_t share_lead_bytes(struct point *point);
/* Whether the others have to get on before something is read for the image. */
bool share_is_busy(struct point *point, const struct image *image);
/* The others ride with a fill that is to be started next. */
void share_add_riders(struct point *point, struct fill *lead);
void share_exit(struct point *point); /* takes NULL */

#endif
