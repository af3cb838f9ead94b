/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CHUNKMAP_INT_H
#define LUNFS_CHUNKMAP_INT_H

/* What chunkmap.c and chunkmap_pages.c share; for them only. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/chunkmap.h"
#include "engine/chunkmap_file.h"

/* Clean pages that are kept even when all that may be resident is dirty, or
 * nobody would find the page that he has loaded. */
enum { CHUNKMAP_CLEAN_PAGES_MIN = CHUNKMAP_RESIDENT_PAGES / 8 };

/* The bits of a mixed page. */
struct chunkmap_page {
	uint64_t words[CHUNKMAP_PAGE_WORDS];
	struct chunkmap *map;
	uint64_t index;
	bool looked_at; /* map->lock */
	/* Place in the queue of clean pages; chunkmap_pages.c's.  next NULL: dirty
	 * or being written, so not in it. */
	struct chunkmap_page *next, *prev;
};

struct chunkmap {
	/* Fixed. */
	int fd; /* -1: a map of no file, all set */
	uint32_t chunk_size;
	uint64_t n_chunks;
	uint64_t n_pages;

	pthread_mutex_t checkpoint_lock;
	pthread_mutex_t load_lock;

	pthread_mutex_t sync_lock; /* held while the file is synced or marked */
	unsigned n_failed;	   /* syncs that failed */

	pthread_mutex_t lock; /* protects what follows */
	uint64_t n_set;
	uint64_t n_dirty; /* pages */
	uint16_t *counts; /* these four: one for each page */
	struct chunkmap_page **pages;
	uint64_t *dirty; /* bitmaps */
	uint64_t *writing;
};

/* A page of zeros in no map yet, or NULL.  Called with or without map->lock. */
struct chunkmap_page *chunkmap_page_new(struct chunkmap *map, uint64_t index);
void chunkmap_page_free(struct chunkmap_page *page); /* takes NULL */

/* Clean pages of a map may be dropped, others may not.  Under map->lock. */
void chunkmap_page_set_clean(struct chunkmap_page *page, bool clean);

/* Drops pages when there are too many.  Called with no lock held. */
void chunkmap_pages_trim(void);

#endif
