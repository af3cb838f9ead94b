/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Each page has a count of its set bits, always in memory, and its bits, which
 * need not be.  The count tells the page's kind:
 *
 *   zero    count 0            no bits in memory
 *   full    count = all        no bits in memory
 *   mixed   resident           bits in memory
 *           absent             to be read from the file; always clean
 *
 * and two marks, which a page of any kind may have:
 *
 *   dirty   memory has bits that the file lacks
 *   writing a checkpoint has noted its bits and has not ended
 *
 * A page with a mark is never made absent.  A checkpoint (I2) turns dirty into
 * writing and notes the bits, all in one moment; syncs the data without the
 * lock; writes what it noted; syncs the file; and ends writing.  What is set
 * meanwhile makes the page dirty again and waits for the next checkpoint.  A
 * checkpoint that fails makes its pages dirty again.
 *
 * Bits are only ever set, so a page that a power loss cuts in the middle of a
 * write holds, sector by sector, bits of before and after: both are of synced
 * data.
 *
 * The file is chunkmap_file.c's, the pages in memory are chunkmap_pages.c's.
 *
 * The kernel tells only one of those who sync a file that a write of it had failed:
 * a sync that failed while a checkpoint wrote, in a mark's hands, fails the checkpoint.
 *
 * Locks: checkpoint_lock and load_lock (held across disk calls, never both), sync_lock,
 * then map->lock, then that of chunkmap_pages.c (both held for moments).
 * load_lock lets one thread at a time read pages of a map: a page that is absent
 * before and after a read was not changed during it.
 */

#include "engine/chunkmap.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "engine/bitmap.h"
#include "engine/chunkmap_int.h"

enum {
	PAGE_SIZE = CHUNKMAP_PAGE_SIZE,
	PAGE_WORDS = CHUNKMAP_PAGE_WORDS,
	PAGE_CHUNKS = CHUNKMAP_PAGE_CHUNKS,
	/* What one call of chunkmap_load() reads at most, that it does not drop
	 * its own pages. */
	LOAD_PAGES_MAX = CHUNKMAP_CLEAN_PAGES_MIN / 2,
};

/* Pages of a map. */

/* The chunks that a page speaks of: all but the last have PAGE_CHUNKS. */
static unsigned page_n_chunks(const struct chunkmap *map, uint64_t index)
{
	uint64_t left = map->n_chunks - index * PAGE_CHUNKS;

	return left < PAGE_CHUNKS ? left : PAGE_CHUNKS;
}

static bool page_is_full_locked(const struct chunkmap *map, uint64_t index)
{
	return map->counts[index] == page_n_chunks(map, index);
}

static bool page_is_absent_locked(const struct chunkmap *map, uint64_t index)
{
	return map->counts[index] != 0 && !page_is_full_locked(map, index) &&
	       !map->pages[index];
}

static void page_set_dirty_locked(struct chunkmap *map, uint64_t index)
{
	if (bitmap_get(map->dirty, index))
		return;
	bitmap_set(map->dirty, index);
	map->n_dirty++;
	if (map->pages[index])
		chunkmap_page_set_clean(map->pages[index], false);
}

/* Making, opening, closing. */

static struct chunkmap *chunkmap_new(const struct chunkmap_params *params)
{
	struct chunkmap *map = calloc(1, sizeof(*map));

	if (!map)
		return NULL;
	map->fd = -1;
	map->chunk_size = params->chunk_size;
	map->n_chunks = chunkmap_file_n_chunks(params);
	map->n_pages = chunkmap_file_n_pages(params);
	pthread_mutex_init(&map->checkpoint_lock, NULL);
	pthread_mutex_init(&map->load_lock, NULL);
	pthread_mutex_init(&map->sync_lock, NULL);
	pthread_mutex_init(&map->lock, NULL);
	return map;
}

static int chunkmap_allocate_tables(struct chunkmap *map)
{
	size_t n = map->n_pages + 1; /* 0 is a length too */

	map->counts = calloc(n, sizeof(map->counts[0]));
	map->pages = calloc(n, sizeof(map->pages[0]));
	map->dirty = calloc(n / 64 + 1, sizeof(uint64_t));
	map->writing = calloc(n / 64 + 1, sizeof(uint64_t));
	if (!map->counts || !map->pages || !map->dirty || !map->writing)
		return -ENOMEM;
	return 0;
}

/* Takes the count of a page as read from the file. */
static int count_page(struct chunkmap *map, uint64_t index, const uint64_t *words)
{
	unsigned n_chunks = page_n_chunks(map, index);

	if (bitmap_next(words, n_chunks, PAGE_CHUNKS) != PAGE_CHUNKS)
		return -EUCLEAN;
	map->counts[index] = bitmap_count(words, PAGE_WORDS);
	map->n_set += map->counts[index];
	return 0;
}

static int count_pages(struct chunkmap *map, uint64_t index, uint64_t end)
{
	enum { AT_ONCE = 16 };
	uint64_t words[AT_ONCE * PAGE_WORDS];
	uint64_t i, n;
	int r;

	for (; index < end; index += n) {
		n = end - index < AT_ONCE ? end - index : AT_ONCE;
		r = chunkmap_file_read(map->fd, index, n, words);
		for (i = 0; r == 0 && i < n; i++)
			r = count_page(map, index + i, words + i * PAGE_WORDS);
		if (r < 0)
			return r;
	}
	return 0;
}

static int count_file(struct chunkmap *map)
{
	uint64_t index = 0, end = 0;
	int r;

	for (;;) {
		r = chunkmap_file_next_data(map->fd, end, &index, &end);
		if (r <= 0)
			return r;
		r = count_pages(map, index, end);
		if (r < 0)
			return r;
	}
}

static int chunkmap_open_file(struct chunkmap *map, int dirfd, const char *file,
			      const struct chunkmap_params *params)
{
	int r;

	map->fd = chunkmap_file_open(dirfd, file, params);
	if (map->fd < 0)
		return map->fd;
	r = chunkmap_allocate_tables(map);
	if (r < 0)
		return r;
	return count_file(map);
}

int chunkmap_open(int dirfd, const char *file, const struct chunkmap_params *params,
		  struct chunkmap **ret_map)
{
	struct chunkmap *map;
	int r;

	r = chunkmap_file_check_params(params);
	if (r < 0)
		return r;
	map = chunkmap_new(params);
	if (!map)
		return -ENOMEM;
	r = chunkmap_open_file(map, dirfd, file, params);
	if (r < 0) {
		chunkmap_close(map);
		return r;
	}
	*ret_map = map;
	return 0;
}

int chunkmap_new_full(const struct chunkmap_params *params, struct chunkmap **ret_map)
{
	struct chunkmap *map;
	int r;

	r = chunkmap_file_check_params(params);
	if (r < 0)
		return r;
	map = chunkmap_new(params);
	if (!map)
		return -ENOMEM;
	map->n_set = map->n_chunks;
	*ret_map = map;
	return 0;
}

void chunkmap_close(struct chunkmap *map)
{
	uint64_t i;

	if (!map)
		return;
	/* Another map's thread may be dropping pages of this one. */
	pthread_mutex_lock(&map->lock);
	for (i = 0; map->pages && i < map->n_pages; i++)
		chunkmap_page_free(map->pages[i]);
	pthread_mutex_unlock(&map->lock);
	free(map->pages);
	free(map->counts);
	free(map->dirty);
	free(map->writing);
	if (map->fd >= 0)
		close(map->fd);
	pthread_mutex_destroy(&map->lock);
	pthread_mutex_destroy(&map->sync_lock);
	pthread_mutex_destroy(&map->load_lock);
	pthread_mutex_destroy(&map->checkpoint_lock);
	free(map);
}

/* Looking. */

uint64_t chunkmap_n_chunks(const struct chunkmap *map)
{
	return map->n_chunks;
}

uint32_t chunkmap_chunk_size(const struct chunkmap *map)
{
	return map->chunk_size;
}

uint64_t chunkmap_n_set(struct chunkmap *map)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&map->lock);

	return map->n_set;
}

int chunkmap_test(struct chunkmap *map, uint64_t chunk)
{
	uint64_t index = chunk / PAGE_CHUNKS;

	assert(chunk < map->n_chunks);
	if (map->fd < 0)
		return 1;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&map->lock);

	if (map->counts[index] == 0)
		return 0;
	if (page_is_full_locked(map, index))
		return 1;
	if (!map->pages[index])
		return -EAGAIN;
	map->pages[index]->looked_at = true;
	return bitmap_get(map->pages[index]->words, chunk % PAGE_CHUNKS);
}

/* The run of bits that equal bit `at` of a page, up to its end. */
static int page_run_locked(struct chunkmap *map, uint64_t index, unsigned at,
			   bool *ret_set)
{
	unsigned n_chunks = page_n_chunks(map, index);
	struct chunkmap_page *page = map->pages[index];

	if (map->counts[index] == 0 || page_is_full_locked(map, index)) {
		*ret_set = map->counts[index] != 0;
		return n_chunks - at;
	}
	if (!page)
		return -EAGAIN;
	page->looked_at = true;
	*ret_set = bitmap_get(page->words, at);
	return bitmap_run(page->words, at, n_chunks);
}

int64_t chunkmap_run(struct chunkmap *map, uint64_t chunk, uint64_t max, bool *ret_set)
{
	uint64_t end, at = chunk;
	bool set = true, first = true;

	assert(chunk < map->n_chunks && max > 0);
	end = max < map->n_chunks - chunk ? chunk + max : map->n_chunks;
	if (map->fd < 0) {
		*ret_set = true;
		return end - chunk;
	}

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&map->lock);

	while (at < end) {
		bool here = false;
		int n = page_run_locked(map, at / PAGE_CHUNKS, at % PAGE_CHUNKS, &here);

		if (n < 0 && first)
			return n;
		if (n < 0 || (!first && here != set))
			break;
		set = here;
		first = false;
		at += n;
		/* It ended within the page. */
		if (at % PAGE_CHUNKS != 0)
			break;
	}
	*ret_set = set;
	return (at < end ? at : end) - chunk;
}

/* Setting. */

/* Sees that a page can take new bits in [at, at + n). */
static int page_prepare_locked(struct chunkmap *map, uint64_t index, unsigned n)
{
	/* What becomes full needs no bits. */
	if (map->pages[index] || page_is_full_locked(map, index) ||
	    n == page_n_chunks(map, index))
		return 0;
	if (map->counts[index] != 0)
		return -EAGAIN;
	map->pages[index] = chunkmap_page_new(map, index);
	return map->pages[index] ? 0 : -ENOMEM;
}

static void page_set_bits_locked(struct chunkmap *map, uint64_t index, unsigned at,
				 unsigned n)
{
	unsigned n_chunks = page_n_chunks(map, index);
	unsigned added;

	if (page_is_full_locked(map, index))
		return;
	if (n == n_chunks)
		added = n_chunks - map->counts[index];
	else
		added = bitmap_set_run(map->pages[index]->words, at, n);
	if (added == 0)
		return;
	map->counts[index] += added;
	map->n_set += added;
	if (map->counts[index] == n_chunks) {
		chunkmap_page_free(map->pages[index]);
		map->pages[index] = NULL;
	} else {
		map->pages[index]->looked_at = true;
	}
	page_set_dirty_locked(map, index);
}

/* Calls for each page of [chunk, chunk + n) what the two above do. */
static int chunkmap_set_locked(struct chunkmap *map, uint64_t chunk, uint64_t n,
			       bool prepare)
{
	while (n > 0) {
		uint64_t index = chunk / PAGE_CHUNKS;
		unsigned at = chunk % PAGE_CHUNKS;
		unsigned here = n < PAGE_CHUNKS - at ? n : PAGE_CHUNKS - at;
		int r = 0;

		if (prepare)
			r = page_prepare_locked(map, index, here);
		else
			page_set_bits_locked(map, index, at, here);
		if (r < 0)
			return r;
		chunk += here;
		n -= here;
	}
	return 0;
}

int chunkmap_set(struct chunkmap *map, uint64_t chunk, uint64_t n)
{
	int r;

	assert(chunk <= map->n_chunks && n <= map->n_chunks - chunk);
	if (map->fd < 0)
		return 0;
	pthread_mutex_lock(&map->lock);
	r = chunkmap_set_locked(map, chunk, n, true);
	if (r == 0)
		chunkmap_set_locked(map, chunk, n, false);
	pthread_mutex_unlock(&map->lock);
	chunkmap_pages_trim();
	return r;
}

/* Loading. */

static bool chunkmap_is_absent(struct chunkmap *map, uint64_t index)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&map->lock);

	return page_is_absent_locked(map, index);
}

static int page_load(struct chunkmap *map, uint64_t index)
{
	struct chunkmap_page *page = chunkmap_page_new(map, index);
	int r;

	if (!page)
		return -ENOMEM;
	r = chunkmap_file_read(map->fd, index, 1, page->words);
	pthread_mutex_lock(&map->lock);
	/* It may have become full meanwhile. */
	if (r == 0 && page_is_absent_locked(map, index)) {
		if (bitmap_count(page->words, PAGE_WORDS) == map->counts[index]) {
			map->pages[index] = page;
			chunkmap_page_set_clean(page, true);
			page = NULL;
		} else {
			r = -EUCLEAN;
		}
	}
	pthread_mutex_unlock(&map->lock);
	chunkmap_page_free(page);
	return r;
}

int chunkmap_load(struct chunkmap *map, uint64_t chunk, uint64_t n)
{
	uint64_t index = chunk / PAGE_CHUNKS;
	unsigned n_loaded = 0;
	int r = 0;

	assert(chunk <= map->n_chunks && n <= map->n_chunks - chunk);
	if (map->fd < 0 || n == 0)
		return 0;
	pthread_mutex_lock(&map->load_lock);
	for (; r == 0 && index <= (chunk + n - 1) / PAGE_CHUNKS; index++) {
		if (!chunkmap_is_absent(map, index))
			continue;
		if (n_loaded++ == LOAD_PAGES_MAX)
			break;
		r = page_load(map, index);
	}
	pthread_mutex_unlock(&map->load_lock);
	chunkmap_pages_trim();
	return r;
}

/* Checkpoints. */

/* A page as it was when the checkpoint began. */
struct noted {
	uint64_t index;
	uint64_t *words; /* NULL: full */
};

struct notes {
	struct noted *noted;
	size_t n;
};

static void notes_done(struct notes *notes)
{
	size_t i;

	for (i = 0; i < notes->n; i++)
		free(notes->noted[i].words);
	free(notes->noted);
}

static int note_page_locked(struct chunkmap *map, uint64_t index, struct notes *notes)
{
	struct noted *noted = &notes->noted[notes->n];

	noted->index = index;
	noted->words = NULL;
	if (!page_is_full_locked(map, index)) {
		noted->words = malloc(PAGE_SIZE);
		if (!noted->words)
			return -ENOMEM;
		memcpy(noted->words, map->pages[index]->words, PAGE_SIZE);
	}
	notes->n++;
	return 0;
}

static int note_dirty_locked(struct chunkmap *map, struct notes *notes)
{
	uint64_t index;
	size_t i;
	int r;

	notes->noted = calloc(map->n_dirty, sizeof(notes->noted[0]));
	if (!notes->noted)
		return -ENOMEM;
	for (index = bitmap_next(map->dirty, 0, map->n_pages); index < map->n_pages;
	     index = bitmap_next(map->dirty, index + 1, map->n_pages)) {
		r = note_page_locked(map, index, notes);
		if (r < 0)
			return r;
	}
	assert(notes->n == map->n_dirty);
	for (i = 0; i < notes->n; i++) {
		bitmap_clear(map->dirty, notes->noted[i].index);
		bitmap_set(map->writing, notes->noted[i].index);
	}
	map->n_dirty = 0;
	return 0;
}

static unsigned count_failed(struct chunkmap *map)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&map->sync_lock);

	return map->n_failed;
}

/* n_failed: as it was before the first write that is to be synced. */
static int sync_file(struct chunkmap *map, unsigned n_failed)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&map->sync_lock);
	int r = chunkmap_file_sync(map->fd);

	if (r < 0)
		map->n_failed++;
	else if (map->n_failed != n_failed)
		r = -EIO;
	return r;
}

static int write_noted(struct chunkmap *map, const struct notes *notes)
{
	unsigned n_failed = count_failed(map);
	uint64_t full[PAGE_WORDS];
	size_t i;
	int r;

	for (i = 0; i < notes->n; i++) {
		const struct noted *noted = &notes->noted[i];

		if (!noted->words) {
			memset(full, 0, sizeof(full));
			bitmap_set_run(full, 0, page_n_chunks(map, noted->index));
		}
		r = chunkmap_file_write(map->fd, noted->index,
					noted->words ? noted->words : full);
		if (r < 0)
			return r;
	}
	return sync_file(map, n_failed);
}

static void end_writing(struct chunkmap *map, const struct notes *notes, bool failed)
{
	size_t i;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&map->lock);

	for (i = 0; i < notes->n; i++) {
		uint64_t index = notes->noted[i].index;

		bitmap_clear(map->writing, index);
		if (failed)
			page_set_dirty_locked(map, index);
		if (map->pages[index] && !bitmap_get(map->dirty, index))
			chunkmap_page_set_clean(map->pages[index], true);
	}
}

static int checkpoint_locked(struct chunkmap *map, int (*sync_data)(void *opaque),
			     void *opaque)
{
	__attribute__((cleanup(notes_done))) struct notes notes = { 0 };
	int r = 0;

	pthread_mutex_lock(&map->lock);
	if (map->n_dirty > 0)
		r = note_dirty_locked(map, &notes);
	pthread_mutex_unlock(&map->lock);
	if (r < 0 || notes.n == 0)
		return r;
	r = sync_data(opaque);
	if (r == 0)
		r = write_noted(map, &notes);
	end_writing(map, &notes, r < 0);
	return r;
}

int chunkmap_checkpoint(struct chunkmap *map, int (*sync_data)(void *opaque),
			void *opaque)
{
	int r;

	if (map->fd < 0)
		return 0;
	pthread_mutex_lock(&map->checkpoint_lock);
	r = checkpoint_locked(map, sync_data, opaque);
	pthread_mutex_unlock(&map->checkpoint_lock);
	chunkmap_pages_trim();
	return r;
}

/* The mark. */

int chunkmap_write_mark(struct chunkmap *map, const char *text)
{
	int r;

	if (map->fd < 0)
		return -EOPNOTSUPP;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&map->sync_lock);

	r = chunkmap_file_write_mark(map->fd, text);
	if (r < 0)
		map->n_failed++;
	return r;
}

int chunkmap_read_mark(struct chunkmap *map, char *buf, size_t size)
{
	if (map->fd < 0) {
		buf[0] = '\0';
		return 0;
	}

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&map->sync_lock);

	return chunkmap_file_read_mark(map->fd, buf, size);
}
