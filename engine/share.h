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
 * store takes - unless none of these has ended for a while (SHARE_PATIENCE_NS): such a
 * one is left behind, and reads for itself what it lacks later.
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

struct fill;
struct image;
struct point;

#define SHARE_PATIENCE_NS UINT64_C(1000000000)

/* Part of a point, which the images hold. */
struct share {
	pthread_mutex_t lock;
	TAILQ_HEAD(share_images, image) images;
	unsigned n;	/* of them; also read without the lock */
	bool is_shared; /* by several, once; the same */
	bool stepping; /* a thread is in share_step() */
	bool again;    /* it has to look once more */
};

void share_init(struct share *share);
void share_done(struct share *share); /* nobody is in it */

/* The image has the point as its source; no lock held. */
void share_join(struct point *point, struct image *image);
void share_leave(struct point *point, struct image *image);

/* Those that have waited for an image of the share copy on; no lock held.  The caller
 * holds the point. */
void share_step(struct point *point);

/* ---- for copier.c: around the look at what is next ---------------------------------- */

/* The source's share, locked, where others have that source too; with a reference on
 * the point.  NULL: the image is alone. */
struct point *share_enter(struct image *image);
/* Whether the others have to get on before something is read for the image. */
bool share_is_busy(struct point *point, const struct image *image);
/* The others ride with a fill that is to be started next. */
void share_add_riders(struct point *point, struct fill *lead);
void share_exit(struct point *point); /* takes NULL */

#endif
