/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_IMAGE_H
#define LUNFS_IMAGE_H

/*
 * An image: a target element in a pool, that is filled from a source.
 *
 * It is readable at any time: a chunk that has not come yet is fetched first
 * (struct fill, the unit of work that copier and readers share).  Filling in
 * the background is the copier's (copier.h), which is part of the image.
 *
 * Thread safe; reference counted.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/chunkmap.h"
#include "engine/pool.h"
#include "engine/dataop.h"
#include "engine/volume.h"

struct image;

/* Why filling ended; the sentence names member and cause. */
enum { IMAGE_REASON_MAX = 512 };

/* What the owner (the pair) wants to know; called by any thread with no lock
 * held, must not block. */
struct image_watcher {
	/* All chunks are there and durable. */
	void (*complete)(void *opaque);
	/* Filling cannot go on; called once.  Nothing more is filled. */
	void (*broken)(void *opaque, int error, const char *reason);
	void *opaque;
};

struct image_params {
	uint64_t id;         /* of the element */
	uint64_t size;       /* bytes */
	uint64_t generation; /* of the map */
	bool complete;       /* has no map: all there */
};

/* Opens files that pool_create_image() has made.  Blocks.  -ESTALE or -EUCLEAN:
 * the map cannot be used. */
int image_open(struct dataops *dataops, struct pool *pool,
	       const struct image_params *params, struct image **ret_image);
void image_ref(struct image *image);
void image_unref(struct image *image); /* takes NULL; the last one closes */

/*
 * Gives the image its source, whose name messages use.  From here on absent
 * chunks can be fetched, until image_cut_off().  watcher is copied.
 */
void image_set_source(struct image *image, struct volume *source,
		      const char *source_name, const struct image_watcher *watcher);

/* Starts the background copy, or goes on with it; stops it (fetching goes on).
 * Both return at once. */
void image_start_copy(struct image *image);
void image_pause_copy(struct image *image);

/* No more filling of any kind, no call of the watcher afterwards: reads of
 * absent chunks are -EIO.  What is under way at the LUN ends by itself; its
 * data is not used.  Returns at once, except that a call of the watcher that is
 * under way is waited for. */
void image_cut_off(struct image *image);

/* Makes what has come durable.  Blocks. */
int image_checkpoint(struct image *image);

/* Starts a checkpoint on a worker unless one is under way. */
void image_checkpoint_soon(struct image *image);

struct image_progress {
	uint64_t bytes_total;
	uint64_t bytes_present; /* of the chunks that are there */
	uint64_t bytes_copied;  /* read from the source by this process */
	uint64_t bytes_skipped; /* known to be unmapped by this process */
	uint64_t last_progress_ms; /* since 1970; 0 = none by this process */
};
void image_progress(struct image *image, struct image_progress *ret_progress);
bool image_is_complete(struct image *image);

/* Bytes allocated in the pool, as of the last second or so. */
uint64_t image_allocated(struct image *image);
void image_refresh_allocated(struct image *image); /* fstat */

/* As engine_data_try_read() and engine_data_submit(). */
ssize_t image_try_read(struct image *image, void *buf, size_t len, uint64_t offset);
void image_io(struct image *image, struct engine_io *io, unsigned timeout_ms);

#endif
