/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_INSTANT_H
#define LUNFS_INSTANT_H

/*
 * The taking of an instant: points in time of several elements, as one (Sequential
 * Consistency) or each on its own.  CreateGroupReplica, Activate and ResyncReplica
 * share it.
 *
 *   rows    the owner's transaction: a row for each point, not counting yet
 *   FILES   point, image and map files are made, synced and opened   (a worker)
 *   FENCE   closed over all members, drained; past fence_timeout: -ETIMEDOUT
 *   COMMIT  the owner's transaction, with instant_store(); then the points are armed,
 *           the fence opens                                          (at once)
 *
 * That is invariant I9: until the second transaction nothing of it counts, and what a
 * crash leaves before it (rows of sequence 0, files of no row) goes at the next start.
 * Each on its own: each member is fenced, armed and opened in turn, then all are
 * committed.
 *
 * All by the engine's thread.
 */

#include "engine/model.h"

enum instant_image {
	INSTANT_IMAGE_NONE, /* nothing is made for the target */
	INSTANT_IMAGE_NEW,  /* its files, of generation 1 */
	INSTANT_IMAGE_MAP,  /* the map of a new generation, and the image is opened */
};

struct instant_member {
	/* Set by the owner. */
	struct element *source;
	struct pool_object *pool;
	uint64_t size;
	enum instant_image make;
	uint64_t target, generation;
	bool digests; /* are kept of what is copied: a Clone */
	bool resync;  /* INSTANT_IMAGE_MAP: what is the same is not copied again */
	bool reserve; /* an image's space is allocated, and stays so */
	/* Of a target that is a LUN (target_set_member()); size is the source's. */
	struct volume *lun;
	const char *lun_name;
	uint64_t lun_size;

	/* Made.  NULL: the source is not written through LunFS, and needs no point.
	 * The engine's after the commit. */
	struct point_object *point;
	bool shares_point; /* it is that of a member before, whose source is the same */
	struct image *image; /* INSTANT_IMAGE_MAP: the owner's, once done says 0 */
};

struct instant {
	/* Set by the owner. */
	struct engine *engine;
	struct instant_member *members;
	size_t n;
	bool no_points;	  /* only the files of images are made; there is no instant */
	bool one_instant; /* Sequential Consistency */
	/* Within the fence: the owner's transaction, begun and committed by it.  0 or
	 * -errno: nothing was changed. */
	int (*commit)(struct instant *instant);
	/* The end: 0; -ETIMEDOUT (the fence), -ENOTCONN (the engine stops), or what
	 * failed, named in `what`.  Nothing is left of it unless 0.  The owner frees. */
	void (*done)(struct instant *instant, int error);
	void *opaque;

	/* Set for the owner. */
	const char *what;      /* of an error: "files" or "state store" */
	const char *pool_name; /* with "files" */
	int64_t when_ms;       /* in commit: the instant */

	/* The instant's. */
	struct message m;
	struct work work;
	int files_result;
	struct fence_set *fence;
	struct volume **volumes;
	size_t next;		   /* each on its own: the member whose turn it is */
	TAILQ_ENTRY(instant) link; /* engine->instants */
};

/* Whether all members are of one instant: with Sequential Consistency, or as the lines of
 * a setting ask for (ConsistentPointInTime). */
bool instant_is_one(unsigned consistency, const char *setting);

/* target.c: the target of a member is a LUN. */
void target_set_member(struct instant_member *member, const struct element *el,
		       uint64_t copy_size, uint64_t generation);

/* In the owner's first transaction: makes the rows of points.  Errors stick to the
 * transaction, -ENOMEM besides. */
int instant_add_rows(struct instant *instant);

/* Goes its way from FILES on; done is called later, never from within this. */
void instant_run(struct instant *instant);

/* In the owner's commit: the rows of the points get their sequence. */
void instant_store(struct instant *instant);

/* In the owner's commit, which is durable: the points are there, and in the chain. */
void instant_arm(struct instant *instant);

/* Frees what instant_add_rows() has made, after a failed first transaction. */
void instant_drop_rows(struct instant *instant);

/* The engine stops: those that wait for their fence end with -ENOTCONN. */
void instant_stop_all(struct engine *e);

#endif
