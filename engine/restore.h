/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_RESTORE_H
#define LUNFS_RESTORE_H

/*
 * The restore of a volume from an image of it (RestoreFromReplica): from its instant
 * on the volume reads as the image does, and what differs is copied back behind.
 *
 * Of an image with a point (a Snapshot's), what differs is known at the instant, under the
 * fence: the chunks that the image's users wrote, and those that a point's store holds
 * since the image's instant.  Of one that is complete (a Clone's) nothing is known: each
 * chunk is compared when its turn comes, and only what differs is written.  A chunk map
 * (`r<SEQUENCE>.map` in the image's pool) has a bit for every other chunk, and gets one for
 * each that was copied back, durably: a restart goes on with the rest.
 *
 * Whoever needs a chunk of the volume (reads and changes of users, reads at points that
 * are newer than the restore, changes of the image) sees first that it is copied back,
 * by restore_prepare(); in the background all others follow.  Points that are older
 * than the restore read the volume as it is, and what a copy-back replaces is
 * preserved for them first (chain_prepare()).
 *
 * Thread safe; reference counted.
 */

#include <stdbool.h>
#include <stdint.h>

#include "engine/chain.h"
#include "engine/image.h"
#include "engine/volume.h"

struct restore;

enum { RESTORE_REASON_MAX = 320 };

/* Called by any thread with no lock held; must not block. */
struct restore_watcher {
	void (*done)(void *opaque); /* all is copied back, durably */
	void *opaque;
};

struct restore_params {
	struct volume *volume;
	struct point *point; /* the image's; NULL: the image is complete, in a file */
	struct image *image;
	struct pool *pool;
	uint64_t sequence; /* rises with the instants of the volume, as the points' do */
	uint64_t size;	   /* bytes */
	struct priority_group
		*priority; /* of what is copied in the background; or NULL */
	struct restore_watcher watcher;
};

/* Opens the map that pool_create_restore() has made.  Blocks.  Takes references. */
int restore_open(const struct restore_params *params, struct restore **ret_restore);
void restore_ref(struct restore *restore);
void restore_unref(struct restore *restore); /* takes NULL */

/* Finds out what differs, and makes that durable, and the image.  Blocks; with the
 * volume's fence closed.  Changes of the image wait from here on.  -errno. */
int restore_plan(struct restore *restore);

/* The map is of a plan that was made before the process started. */
void restore_resume(struct restore *restore);

/* The volume reads as the image from here on (with the fence still closed, or before
 * the first request); the copying back begins. */
void restore_attach(struct restore *restore);
/* It is done, or was not begun, or the engine stops and the device is closed: the watcher
 * is not called any more, and not running; nothing is begun in the background.  One that
 * was never attached copies nothing: who waits for it goes on. */
void restore_detach(struct restore *restore);

uint64_t restore_sequence(const struct restore *restore);

/*
 * Sees that n chunks from `chunk` on are copied back.  True: they are.  False:
 * waiter->fn will be called once; then call again.  Ends early for who has nobody to
 * answer when the engine stops.
 */
bool restore_prepare(struct restore *restore, uint64_t chunk, uint64_t n,
		     struct chain_waiter *waiter);

/* The waiter is given up.  True: its fn is not called; false: it stood in no queue. */
bool restore_cancel(struct restore *restore, struct chain_waiter *waiter);

/* The volume's device is ready again, or its state changed. */
void restore_kick(struct restore *restore);

struct restore_progress {
	uint64_t bytes_total;  /* of what differed, at the instant or the last start */
	uint64_t bytes_copied; /* of them, written back */
	uint64_t bytes_skipped;		/* of them, found to be the same */
	char error[RESTORE_REASON_MAX]; /* why nothing moves; "" */
};
void restore_progress(struct restore *restore, struct restore_progress *ret_progress);

#endif
