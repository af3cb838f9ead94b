/* SPDX-License-Identifier: BSD-2-Clause */

#include "engine/digests.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef HAVE_XXH_DISPATCH
#include <xxh_x86dispatch.h> /* the same, by what the processor has */
#else
#include <xxhash.h>
#endif

#include "conf/cleanup.h"
#include "engine/bitmap.h"
#include "engine/fullio.h"

enum {
	BLOCK = 4096,
	STATE_OFFSET = 512,
	VERSION = 2,
	NOTE_CHUNKS = 16,
	NOTES_MIN = 64,
	AHEAD = 16, /* regions that are made void with those of who writes on and on */
	AHEAD_AFTER = 4, /* void ones before them */
};

/* All fields of the file are little endian. */
struct header {
	char magic[8];
	uint32_t version;
	uint32_t chunk_size;
	uint64_t id;
	uint64_t generation;
	uint64_t size;
	uint64_t checksum; /* of the fields before it */
};

/* One sector. */
struct state {
	uint64_t sealed; /* 0: not */
	uint64_t base;
	uint64_t skipped;
	uint64_t distrusted; /* 1: it is */
	uint64_t checksum;   /* of the fields before it, and the generation */
};

static const char header_magic[8] = "LUNFSDIG";

/* Of one call of digests_note(). */
struct note {
	uint64_t chunk;
	unsigned n;
	struct digest list[NOTE_CHUNKS];
};

struct digests_batch {
	size_t n, room;
	struct note notes[];
};

struct digests {
	int refs; /* atomic */
	int fd;
	uint64_t generation, n_chunks, n_regions;
	uint64_t entries; /* bytes: where they begin in the file */

	pthread_mutex_t void_lock; /* held across a sync of the file */

	pthread_mutex_t lock; /* protects what follows; the state's sector too */
	uint64_t *is_void;    /* bitmaps of regions */
	uint64_t *wanted;
	bool distrusted;
	bool abandoned; /* its file is gone, durably */
	struct digests_batch *noted;
	int64_t sealed;
	uint64_t base, skipped;
};

static size_t bitmap_words(const struct digests *d)
{
	return (d->n_regions + 63) / 64;
}

/* ---- the file --------------------------------------------------------------------- */

static void header_fill(struct header *h, const struct digests_params *params)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, header_magic, sizeof(h->magic));
	h->version = htole32(VERSION);
	h->chunk_size = htole32(params->chunk_size);
	h->id = htole64(params->id);
	h->generation = htole64(params->generation);
	h->size = htole64(params->size);
	h->checksum = htole64(XXH3_64bits(h, offsetof(struct header, checksum)));
}

static uint64_t state_checksum(const struct state *s, uint64_t generation)
{
	return XXH3_64bits_withSeed(s, offsetof(struct state, checksum), generation);
}

/* The sector's write is in one piece, so that half of one is no state. */
static void write_state_locked(struct digests *d)
{
	struct state s = { .sealed = htole64((uint64_t)d->sealed),
			   .base = htole64(d->base),
			   .skipped = htole64(d->skipped),
			   .distrusted = htole64(d->distrusted) };

	s.checksum = htole64(state_checksum(&s, d->generation));
	if (fullio_write(d->fd, &s, sizeof(s), STATE_OFFSET) < 0)
		d->distrusted = true;
}

static void measure(struct digests *d, const struct digests_params *params)
{
	uint64_t size;

	d->generation = params->generation;
	d->n_chunks = (params->size + params->chunk_size - 1) / params->chunk_size;
	d->n_regions = (d->n_chunks + DIGESTS_REGION_CHUNKS - 1) / DIGESTS_REGION_CHUNKS;
	size = bitmap_words(d) * sizeof(uint64_t);
	d->entries = BLOCK + (size + BLOCK - 1) / BLOCK * BLOCK;
}

static uint64_t file_size(const struct digests *d)
{
	return d->entries + d->n_chunks * sizeof(struct digest);
}

/* The bitmap is written too: what a full pool refuses is digests, not marks.  Nothing is
 * synced: one that a crash cuts short is refused, or has no digests yet, and the first
 * marks bring the rest of it. */
static int fill_file(int fd, const struct digests_params *params)
{
	struct digests d = { .fd = fd };
	char block[BLOCK] = { 0 };
	int r = 0;

	measure(&d, params);
	if (ftruncate(fd, (off_t)file_size(&d)) < 0)
		return -errno;
	for (uint64_t at = BLOCK; at < d.entries && !r; at += BLOCK)
		r = fullio_write(fd, block, BLOCK, at);
	if (!r) {
		header_fill((struct header *)block, params);
		r = fullio_write(fd, block, BLOCK, 0);
	}
	return r;
}

int digests_create(int dirfd, const char *file, const struct digests_params *params)
{
	CLEANUP_CLOSE int fd = openat(
		dirfd, file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = fill_file(fd, params);
	if (r < 0)
		unlinkat(dirfd, file, 0);
	return r;
}

static int check_header(struct digests *d, const struct digests_params *params)
{
	struct header expected, h;
	struct stat st;
	int r = fullio_read(d->fd, &h, sizeof(h), 0);

	if (r < 0)
		return r;
	if (memcmp(h.magic, header_magic, sizeof(h.magic)) != 0 ||
	    le64toh(h.checksum) != XXH3_64bits(&h, offsetof(struct header, checksum)))
		return -EUCLEAN;
	if (le64toh(h.id) != params->id || le64toh(h.generation) != params->generation)
		return -ESTALE;
	header_fill(&expected, params);
	if (memcmp(&h, &expected, sizeof(h)) != 0)
		return -EUCLEAN;
	if (fstat(d->fd, &st) < 0)
		return -errno;
	return (uint64_t)st.st_size == file_size(d) ? 0 : -EUCLEAN;
}

/* What is none, and was not always so, is not known to be trusted. */
static void take_state(struct digests *d, const struct state *s)
{
	static const struct state never;

	if (le64toh(s->checksum) != state_checksum(s, d->generation)) {
		d->distrusted = memcmp(s, &never, sizeof(never));
		return;
	}
	d->sealed = (int64_t)le64toh(s->sealed);
	d->base = le64toh(s->base);
	d->skipped = le64toh(s->skipped);
	d->distrusted = le64toh(s->distrusted);
}

static int read_file(struct digests *d, const struct digests_params *params)
{
	size_t n = bitmap_words(d);
	struct state s;
	int r = check_header(d, params);

	if (r < 0)
		return r;
	d->is_void = calloc(n + 1, sizeof(uint64_t));
	d->wanted = calloc(n + 1, sizeof(uint64_t));
	if (!d->is_void || !d->wanted)
		return -ENOMEM;
	r = fullio_read(d->fd, d->is_void, n * sizeof(uint64_t), BLOCK);
	for (size_t i = 0; i < n; i++)
		d->is_void[i] = le64toh(d->is_void[i]);
	if (!r)
		r = fullio_read(d->fd, &s, sizeof(s), STATE_OFFSET);
	if (r < 0)
		return r;
	take_state(d, &s);
	return 0;
}

int digests_open(int dirfd, const char *file, const struct digests_params *params,
		 struct digests **ret_digests)
{
	struct digests *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	d->refs = 1;
	pthread_mutex_init(&d->lock, NULL);
	pthread_mutex_init(&d->void_lock, NULL);
	measure(d, params);
	d->fd = openat(dirfd, file, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	r = d->fd < 0 ? -errno : read_file(d, params);
	if (r < 0) {
		digests_unref(d);
		return r;
	}
	*ret_digests = d;
	return 0;
}

void digests_ref(struct digests *d)
{
	__atomic_add_fetch(&d->refs, 1, __ATOMIC_RELAXED);
}

void digests_unref(struct digests *d)
{
	if (!d || __atomic_sub_fetch(&d->refs, 1, __ATOMIC_ACQ_REL))
		return;
	if (d->fd >= 0)
		close(d->fd);
	free(d->is_void);
	free(d->wanted);
	free(d->noted);
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->void_lock);
	free(d);
}

/* ---- digests ---------------------------------------------------------------------- */

void digest_make(const void *buf, size_t len, struct digest *ret)
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(buf, len));
	_Static_assert(sizeof(canonical) == sizeof(*ret), "128 bits");
	memcpy(ret, &canonical, sizeof(*ret));
}

bool digest_is_known(const struct digest *digest)
{
	static const struct digest unknown;

	return memcmp(digest, &unknown, sizeof(unknown));
}

bool digest_is_same(const struct digest *a, const struct digest *b)
{
	return digest_is_known(a) && !memcmp(a, b, sizeof(*a));
}

static bool is_void_locked(const struct digests *d, uint64_t chunk)
{
	return d->distrusted || bitmap_get(d->is_void, chunk / DIGESTS_REGION_CHUNKS);
}

void digests_get(struct digests *d, uint64_t chunk, uint64_t n, struct digest *ret)
{
	assert(chunk <= d->n_chunks && n <= d->n_chunks - chunk);
	if (fullio_read(d->fd, ret, n * sizeof(*ret), d->entries + chunk * sizeof(*ret)) <
	    0)
		memset(ret, 0, n * sizeof(*ret));

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	for (uint64_t i = 0; i < n; i++)
		if (is_void_locked(d, chunk + i))
			memset(&ret[i], 0, sizeof(*ret));
}

/* ---- what the copy notes ---------------------------------------------------------- */

static struct note *new_note_locked(struct digests *d)
{
	struct digests_batch *b = d->noted;
	size_t room = b && b->n < b->room ? b->room : b ? b->room * 2 : NOTES_MIN;

	if (!b || room > b->room) {
		b = realloc(b, sizeof(*b) + room * sizeof(b->notes[0]));
		if (!b)
			return NULL;
		b->n = d->noted ? b->n : 0;
		b->room = room;
		d->noted = b;
	}
	return &b->notes[b->n++];
}

void digests_note(struct digests *d, uint64_t chunk, unsigned n,
		  const struct digest *list)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	while (n && !d->distrusted) {
		unsigned here = n < NOTE_CHUNKS ? n : NOTE_CHUNKS;
		struct note *note = new_note_locked(d);

		if (!note)
			return;
		note->chunk = chunk;
		note->n = here;
		memcpy(note->list, list, here * sizeof(*list));
		chunk += here;
		list += here;
		n -= here;
	}
}

struct digests_batch *digests_take(struct digests *d)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	return move_ptr(d->noted);
}

void digests_drop(struct digests_batch *batch)
{
	free(batch);
}

void digests_write(struct digests *d, struct digests_batch *b)
{
	for (size_t i = 0; b && i < b->n; i++) {
		const struct note *note = &b->notes[i];

		/* One that is lost, or half of it, is unknown, or nobody's. */
		if (fullio_write(d->fd, note->list, note->n * sizeof(note->list[0]),
			       d->entries + note->chunk * sizeof(note->list[0])) < 0)
			break;
	}
	digests_drop(b);
}

/* ---- void regions ------------------------------------------------------------------ */

static uint64_t region_end(const struct digests *d, uint64_t chunk, uint64_t n)
{
	uint64_t end = (chunk + n - 1) / DIGESTS_REGION_CHUNKS + 1;

	return end < d->n_regions ? end : d->n_regions;
}

bool digests_is_void(struct digests *d, uint64_t chunk, uint64_t n)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
	uint64_t end = region_end(d, chunk, n);

	for (uint64_t i = chunk / DIGESTS_REGION_CHUNKS; i < end && !d->abandoned; i++)
		if (!bitmap_get(d->is_void, i))
			return false;
	return true;
}

static bool goes_on_locked(const struct digests *d, uint64_t region)
{
	for (unsigned i = 1; i <= AHEAD_AFTER; i++)
		if (region < i || !bitmap_get(d->is_void, region - i))
			return false;
	return true;
}

void digests_want_void(struct digests *d, uint64_t chunk, uint64_t n)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
	uint64_t end = region_end(d, chunk, n);

	chunk /= DIGESTS_REGION_CHUNKS;
	if (goes_on_locked(d, chunk))
		end += AHEAD;
	for (uint64_t i = chunk; i < end && i < d->n_regions; i++)
		bitmap_set(d->wanted, i);
}

/* The words of the bitmap as they are to be, into a copy (NULL: they are only forgotten),
 * and [*from, *to) of them that differ. */
static void take_wanted(struct digests *d, uint64_t *words, size_t *from, size_t *to)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
	size_t n = bitmap_words(d);

	*from = n;
	*to = 0;
	for (size_t i = 0; words && i < n; i++) {
		words[i] = d->is_void[i] | d->wanted[i];
		if (words[i] == d->is_void[i])
			continue;
		*from = *from < i ? *from : i;
		*to = i + 1;
	}
	memset(d->wanted, 0, n * sizeof(*d->wanted));
}

static int write_words(struct digests *d, const uint64_t *words, size_t from, size_t to)
{
	uint64_t le[512];
	int r = 0;

	while (from < to && !r) {
		size_t n = to - from < 512 ? to - from : 512;

		for (size_t i = 0; i < n; i++)
			le[i] = htole64(words[from + i]);
		r = fullio_write(d->fd, le, n * sizeof(le[0]),
			       BLOCK + from * sizeof(le[0]));
		from += n;
	}
	if (!r && fdatasync(d->fd) < 0)
		r = -errno;
	return r;
}

int digests_void(struct digests *d)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->void_lock);
	size_t from, to;
	CLEANUP_FREE uint64_t *words = calloc(bitmap_words(d) + 1, sizeof(*words));
	int r = words ? 0 : -ENOMEM;

	take_wanted(d, words, &from, &to);
	if (!r && from < to)
		r = write_words(d, words, from, to);
	/* The error may be that of a digest, which the kernel has told of by now. */
	if (r < 0 && words)
		r = write_words(d, words, from, to);
	if (r < 0)
		return r;
	pthread_mutex_lock(&d->lock);
	for (size_t i = from; i < to; i++)
		d->is_void[i] |= words[i];
	pthread_mutex_unlock(&d->lock);
	return 0;
}

/* ---- whose data it is -------------------------------------------------------------- */

void digests_distrust(struct digests *d)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	if (d->distrusted)
		return;
	d->distrusted = true;
	write_state_locked(d);
}

void digests_abandon(struct digests *d)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	d->distrusted = d->abandoned = true;
}

bool digests_is_distrusted(struct digests *d)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	return d->distrusted;
}

void digests_seal(struct digests *d, int64_t mtime_ns)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	if (mtime_ns <= d->sealed || d->distrusted)
		return;
	d->sealed = mtime_ns;
	write_state_locked(d);
}

bool digests_is_sealed(struct digests *d, int64_t mtime_ns)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	return !d->distrusted && d->sealed && d->sealed == mtime_ns;
}

void digests_set_skipped(struct digests *d, uint64_t bytes)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	if (bytes == d->skipped)
		return;
	d->skipped = bytes;
	write_state_locked(d);
}

uint64_t digests_skipped(struct digests *d)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	return d->skipped;
}

void digests_set_base(struct digests *d, uint64_t generation)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	d->base = generation;
	write_state_locked(d);
}

uint64_t digests_base(struct digests *d)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	return d->base;
}
