/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_IMAGE_INT_H
#define LUNFS_IMAGE_INT_H

/*
 * What image.c (files, reads), fill.c (the way of a run of chunks from the
 * source into the file) and copier.c (which run is next) share.
 */

#include "engine/image.h"

enum {
	FILL_BYTES = 1 << 20,  /* the most one fill takes: written in one piece */
	FILL_PART = 256 << 10, /* and read in parts of this: both as measured.  Of
				* less where the source takes less at a time */
	FILL_MAX_PARTS = FILL_BYTES / FILL_PART, /* under way at once */
	IMAGE_MAX_FETCHES = 8, /* fills at once on behalf of readers */
};

/* A run of chunks on its way.  In image->fills from look-up to bit, which makes
 * it the only filler of its chunks (invariant I7). */
struct fill {
	struct image *image; /* with a reference */
	TAILQ_ENTRY(fill) link;
	struct fill *next; /* of those its maker has still to start */
	uint64_t chunk, n; /* chunks */
	uint64_t offset;   /* bytes */
	uint64_t length;
	bool fetch; /* for a reader; else for the copier */
	bool reading; /* counted in copier.n_reading */
	enum bufpool_class class;
	void *buf;
	struct dataop_list waiters; /* image->lock: reads that need it */
	struct volume *source; /* with a reference, once it was started */
	uint64_t part;         /* bytes of a part */
	uint64_t next_part;    /* atomic: where the first one begins that is not made */
	unsigned n_pending; /* atomic: parts without an answer */
	int error;          /* atomic: the first error, of the part `failed` */
	const struct bd_req *failed;
	struct bd_req parts[FILL_MAX_PARTS];
	struct work work;
};

TAILQ_HEAD(fill_list, fill);

/* The copier's part of the image; under image->lock. */
struct copier {
	bool running;  /* image_start_copy() */
	bool stepping; /* a thread is in copier_step() */
	bool again;    /* something happened meanwhile: step once more */
	bool loading;  /* a page of the map is being read */
	bool lost;      /* a fill lost its connection since the last copier_step() */
	bool no_buffer; /* stands in the pool's queue */
	bool finishing; /* the last checkpoint is under way */
	uint64_t cursor; /* chunk */
	unsigned n_fills;
	unsigned n_reading; /* of them: not yet answered by the source */
	struct bufpool_waiter bufs;
	struct work load, finish;

	/* The answer of BD_EXTENTS that the cursor stands in. */
	bool no_extents; /* not asked for: not thin */
	bool asking;
	struct bd_req ask;
	struct bd_extent *extents;
	size_t n_extents;
	uint64_t known_end; /* bytes: extents speak of what lies before */
};

struct image {
	struct dataops *all;
	int refs; /* atomic */
	uint64_t id, size;
	uint32_t chunk_size;
	struct pool *pool;
	int fd;        /* through the page cache */
	int direct_fd; /* O_DIRECT, or -1 */
	struct chunkmap *map;
	struct work destroy, checkpoint_work;
	int sync_error; /* the first of the file; within the map's checkpoint only */

	pthread_mutex_t lock;
	pthread_cond_t quiet; /* in_watcher came to 0 */
	struct volume *source; /* NULL: absent chunks are -EIO */
	char source_name[NAME_ELEMENT_MAX_LEN + 1];
	struct image_watcher watcher;
	unsigned in_watcher;
	bool watched; /* the watcher may be called */
	struct fill_list fills;
	unsigned n_fetches;
	struct dataop_list parked; /* reads that wait for the source, for a
				    * buffer or for a place among the fetches */
	struct bufpool_waiter fetch_bufs;
	struct volume_listener listener;
	bool checkpointing;
	struct copier copier;

	/* Atomic. */
	uint64_t bytes_copied, bytes_skipped, last_progress_ms, allocated;
};

/* fill.c */

/* Registers a fill of n chunks from chunk on, none of which is in another.
 * image->lock is held; the source is there. */
struct fill *fill_new_locked(struct image *image, uint64_t chunk, uint64_t n, bool fetch);
/* Sends it on its way, with its buffer; no lock held. */
void fill_start(struct fill *fill);
/* Gives it up before it was started; no lock held. */
void fill_abandon(struct fill *fill);
/* The fill that holds a chunk, or NULL. */
struct fill *fill_of_chunk_locked(struct image *image, uint64_t chunk);
/* The number of chunks from chunk on, at most n, that no fill holds. */
uint64_t fill_free_run_locked(struct image *image, uint64_t chunk, uint64_t n);
size_t fill_bytes(const struct fill *fill);

/* image.c */

/* For who holds no reference: false if there is none any more, and the image is
 * about to be freed. */
bool image_try_ref(struct image *image);
void image_step_read(struct dataop *op);
void image_run_parked(struct image *image);
void image_report_broken(struct image *image, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void image_report_complete(struct image *image);
uint64_t image_chunk_bytes(const struct image *image, uint64_t chunk, uint64_t n);
int image_sync_data(void *image);

/* copier.c */
void copier_init(struct image *image);
void copier_step(struct image *image);

#endif
