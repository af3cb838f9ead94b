/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_IMAGE_H
#define LUNFS_IMAGE_H

/*
 * An image: a target element.  Its file in a pool and map are the private store:
 * what its users wrote and what was copied from its source, a point in time of
 * another element (chain.h).  A LUN can be in the file's place.
 *
 * It can be read and written at any time.  What is not in the private store comes
 * from the point: an image that is being copied (a Clone, or a Snapshot that
 * detaches) fetches it into its store first (struct fill, the unit of work that
 * copier and users share); a Snapshot reads through, and fetches only what a write
 * does not cover.  Filling in the background is the copier's, which is part of the
 * image.
 *
 * Thread safe; reference counted.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/chain.h"
#include "engine/chunkmap.h"
#include "engine/dataop.h"
#include "engine/pool.h"
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
	/* A user's first change has come where image_params.written was false, also
	 * after the two above; it and all others wait for image_set_written(),
	 * which says that this is known durably.  Called once. */
	void (*written)(void *opaque);
	void *opaque;
};

struct image_params {
	uint64_t id;	     /* of the element */
	uint64_t size;	     /* bytes */
	uint64_t generation; /* of the map */
	bool complete;	     /* has no map: all there */
	bool written;	     /* its users have written to it, as is known durably */
	bool clean;	     /* no clear bit of the map has anything but a hole under
			      * it, unless its users have written since: the file
			      * was made for this generation */
	bool reserved;	     /* its space stays allocated, also where it is zero */
	bool digests;	     /* of its chunks are kept, if it has a file for them: a
			      * Clone's */
	bool resync;	     /* image_take_base() may come */

	/* Of one that is a LUN, whose map is in the pool: the rest of the target, behind
	 * copy_size, is its users' alone.  copy_size is a multiple of its blocks. */
	struct volume *target;	 /* NULL: a file in the pool */
	const char *target_name; /* of the element */
	uint64_t copy_size;	 /* bytes: of the source */
};

/* Opens files that pool_create_image() has made (of a LUN: pool_create_map()).  Blocks.  -ESTALE or -EUCLEAN:
 * the map cannot be used. */
int image_open(struct dataops *dataops, struct pool *pool,
	       const struct image_params *params, struct image **ret_image);
void image_ref(struct image *image);
void image_unref(struct image *image); /* takes NULL; the last one closes */

/*
 * Gives the image its source (of which it takes a reference), whose name messages
 * use.  From here on absent chunks can be fetched, until image_cut_off().  watcher
 * is copied.  keep: what is read is kept (a Clone); else only the copier and partial
 * writes fill (a Snapshot).  source NULL: of an image that is complete already, whose
 * watcher is still to be told of the first write.
 */
void image_set_source(struct image *image, struct point *source, const char *source_name,
		      bool keep, const struct image_watcher *watcher);
/* What is read is kept from here on. */
void image_keep_reads(struct image *image);

/* What its background copy makes way for, and its limit; NULL: nothing, and none. */
void image_set_priority(struct image *image, struct priority_group *group);

/* The changes that wait for it go on. */
void image_set_written(struct image *image);

/*
 * The image is the source of others from here on: reads and writes through it go to
 * `volume`, a volume over the same file (a reference is taken).  The image is
 * complete, and image_set_written() or image_cut_off() was called, if it had a
 * watcher.  Blocks: waits for the changes that are under way in the file.  What the
 * page cache has, image_try_read() still reads from the file.
 */
void image_redirect(struct image *image, struct volume *volume);

/*
 * The file is another image's from here on (a new generation): nothing more is written
 * into it, changes are -EIO.  Blocks: waits for the calls of the file that are under
 * way.  After image_cut_off().  retired false: takes that back.
 */
void image_retire(struct image *image, bool retired);

/*
 * What of the generation before is in the file, or on the LUN, and has not changed in the
 * source, is not copied again, by its digests.  before: the image of that generation,
 * retired; NULL: it was not open.  The new one, of the next generation, has no source yet,
 * and is to get one with a store (chain.h).
 */
void image_take_base(struct image *image, struct image *before);
/* Before that, and where no base is taken, too: nobody else changes its file any more. */
void image_own_file(struct image *image);

struct restore;
/*
 * Its source is being restored from it: what a change touches is copied back first.
 * NULL: no more.  Blocks: waits for the changes of the file that are under way.
 */
void image_set_restore(struct image *image, struct restore *restore);

/* Makes durable what its users were answered.  Blocks; -errno, which stays. */
int image_flush(struct image *image);

/* For restore.c.  Blocking.  Whether the private store has chunks from `chunk` on: for
 * *run chunks, at most as given.  0 or -errno. */
int image_has_private(struct image *image, uint64_t chunk, uint64_t *run,
		      bool *ret_has);
/* The same, from memory: the length of the run, or -EAGAIN. */
int64_t image_peek_private(struct image *image, uint64_t chunk, uint64_t max,
			   bool *ret_has);
/* Reads a chunk of the private store: 1; 0: it does not have it; -errno. */
int image_read_private(struct image *image, uint64_t chunk, char *buf);

/* Gives back to the pool, in the background, what the file holds of an earlier
 * generation, if nothing of that is used again (digests are kept).  Once, after
 * image_open(). */
void image_trim(struct image *image);

/* Starts the background copy, or goes on with it; stops it (fetching goes on).
 * Both return at once.  Images that have one point as their source copy together: it is
 * read once (share.h). */
void image_start_copy(struct image *image);
void image_pause_copy(struct image *image);
/* Before the first of those is started: they begin together. */
void image_will_copy(struct image *image);

/* The image is complete and needs its source no more.  Its watcher is told of the
 * first write still; not of anything else. */
void image_drop_source(struct image *image);

/* No more filling of any kind, no call of the watcher afterwards: reads and changes
 * of absent chunks are -EIO; changes that wait for image_set_written() go on.  What is under way at the LUN ends by itself; its
 * data is not used.  Returns at once, except that a call of the watcher that is
 * under way is waited for. */
void image_cut_off(struct image *image);

/* Makes durable what has come: chunks that are new since the last one, with all
 * data of the file.  Blocks. */
int image_checkpoint(struct image *image);

/* Starts a checkpoint on a worker unless one is under way. */
void image_checkpoint_soon(struct image *image);

struct image_progress {
	uint64_t bytes_total;
	uint64_t bytes_present;	   /* of the chunks that are there */
	uint64_t bytes_copied;	   /* brought from the source by this process */
	uint64_t bytes_skipped;	   /* found to be unmapped, or there, by this process */
	uint64_t last_progress_ms; /* since 1970; 0 = none by this process */
};
void image_progress(struct image *image, struct image_progress *ret_progress);
/* Bytes skipped of this generation, those by earlier processes included as far as they are
 * known (of a copy with digests); 0: nothing is known. */
uint64_t image_all_skipped(struct image *image);
bool image_is_complete(struct image *image);

/* Bytes allocated in the pool, as of the last second or so. */
uint64_t image_allocated(struct image *image);
void image_refresh_allocated(struct image *image); /* fstat */

/* CLOCK_REALTIME ms of the last change by its users; 0 = none by this process. */
uint64_t image_changed_ms(struct image *image);

/* Rises when a change by its users begins, and when it ends: what was read between two
 * equal counts is of one content, and still there.  Of this image object. */
uint64_t image_change_count(struct image *image);

/* As engine_data_try_read() and engine_data_submit().  An image without a source
 * (not yet, or cut off) answers -EIO for chunks that are absent, reads as well as
 * changes.  A medium error of a read that is not kept is that read's -EIO, no more. */
ssize_t image_try_read(struct image *image, void *buf, size_t len, uint64_t offset);
void image_io(struct image *image, struct engine_io *io, unsigned timeout_ms);

#endif
