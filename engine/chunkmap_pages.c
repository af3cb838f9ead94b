/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The pages in memory, of all maps.  The clean ones stand in one queue.  When
 * more pages than CHUNKMAP_RESIDENT_PAGES are in memory, clean ones are dropped
 * from its head; one that was looked at since it last stood there goes to the
 * tail instead.
 *
 * Locks: map->lock, then resident.lock.  The dropping goes the other way round
 * and so tries only.  A page that stands in the queue has its map: closing takes
 * the pages out of it first.
 */

#include "engine/chunkmap_int.h"

#include <stdlib.h>

#include "conf/cleanup.h"

static struct {
	pthread_mutex_t lock;
	struct chunkmap_page clean; /* the queue's head: .next is the first to go */
	unsigned n_clean;	    /* in the queue */
	unsigned n_pages;	    /* all that are resident; atomic */
} resident = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.clean = { .next = &resident.clean, .prev = &resident.clean },
};

static void clean_remove_locked(struct chunkmap_page *page)
{
	if (!page->next)
		return;
	page->prev->next = page->next;
	page->next->prev = page->prev;
	page->next = page->prev = NULL;
	resident.n_clean--;
}

static void clean_append_locked(struct chunkmap_page *page)
{
	page->next = &resident.clean;
	page->prev = resident.clean.prev;
	page->prev->next = page;
	resident.clean.prev = page;
	resident.n_clean++;
}

void chunkmap_page_set_clean(struct chunkmap_page *page, bool clean)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&resident.lock);

	clean_remove_locked(page);
	if (clean)
		clean_append_locked(page);
}

struct chunkmap_page *chunkmap_page_new(struct chunkmap *map, uint64_t index)
{
	struct chunkmap_page *page = calloc(1, sizeof(*page));

	if (!page)
		return NULL;
	page->map = map;
	page->index = index;
	page->looked_at = true;
	__atomic_add_fetch(&resident.n_pages, 1, __ATOMIC_RELAXED);
	return page;
}

static void page_free_locked(struct chunkmap_page *page)
{
	clean_remove_locked(page);
	free(page);
	__atomic_sub_fetch(&resident.n_pages, 1, __ATOMIC_RELAXED);
}

void chunkmap_page_free(struct chunkmap_page *page)
{
	if (!page)
		return;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&resident.lock);

	page_free_locked(page);
}

/* Takes a page of the queue away, or puts it off. */
static void page_drop_locked(struct chunkmap_page *page)
{
	struct chunkmap *map = page->map;
	bool keep = true;

	if (pthread_mutex_trylock(&map->lock) == 0) {
		keep = page->looked_at;
		page->looked_at = false;
		if (!keep) {
			map->pages[page->index] = NULL;
			page_free_locked(page);
		}
		pthread_mutex_unlock(&map->lock);
	}
	if (keep) {
		clean_remove_locked(page);
		clean_append_locked(page);
	}
}

void chunkmap_pages_trim(void)
{
	unsigned n = __atomic_load_n(&resident.n_pages, __ATOMIC_RELAXED);
	unsigned tries = 2 * n;

	if (n <= CHUNKMAP_RESIDENT_PAGES)
		return;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&resident.lock);

	while (tries-- > 0 && resident.n_clean > CHUNKMAP_CLEAN_PAGES_MIN &&
	       __atomic_load_n(&resident.n_pages, __ATOMIC_RELAXED) >
		       CHUNKMAP_RESIDENT_PAGES)
		page_drop_locked(resident.clean.next);
}
