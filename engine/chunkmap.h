/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CHUNKMAP_H
#define LUNFS_CHUNKMAP_H

/*
 * Which chunks of a store hold their data: one bit a chunk, in a file beside
 * the data, crash-safe (invariant I2: a bit is never durable before the data it
 * speaks of).
 *
 * A bit that is set counts at once for this process (chunkmap_test), and gets
 * durable with the next checkpoint, which syncs the data first.  Bits are never
 * cleared: a new instant makes a new map with a new generation.
 *
 * The map is paged: a page of 4096 bytes speaks of 32768 chunks (2 GiB at
 * 64 KiB).  Pages that are all zero or all one take no memory; mixed ones are
 * kept while they are in use and may be dropped when clean (at most
 * CHUNKMAP_RESIDENT_PAGES over all maps, and more only while more are dirty: a
 * checkpoint bounds them).  What needs a page that is not there
 * answers -EAGAIN: call chunkmap_load() from a worker and try again.
 *
 * File: a header block of 4096 bytes (magic, version, object id, generation,
 * chunk size, number of chunks, checksum), a mark block of 4096 bytes (its
 * first sector is overwritten in place; zero = no mark), then the pages.
 * Created sparse.
 *
 * Thread safe.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chunkmap;

enum { CHUNKMAP_RESIDENT_PAGES = 2048 }; /* 8 MiB in the whole process */

struct chunkmap_params {
	uint64_t id;	     /* of the element whose data it speaks of */
	uint64_t generation; /* of the instant */
	uint64_t size;	     /* bytes of the data */
	uint32_t chunk_size; /* bytes, a power of two 4096..4 MiB */
};

/* Makes the file (refusing an existing one) and syncs it; the directory is the
 * caller's to sync.  -errno. */
int chunkmap_create(int dirfd, const char *file, const struct chunkmap_params *params);

/* Opens and checks it against params.  -ESTALE: another id or generation;
 * -EUCLEAN: damaged or of another geometry.  Reads the whole map once to count
 * (holes are skipped). */
int chunkmap_open(int dirfd, const char *file, const struct chunkmap_params *params,
		  struct chunkmap **ret_map);

/* A map of no file whose chunks are all set: for data that is complete. */
int chunkmap_new_full(const struct chunkmap_params *params, struct chunkmap **ret_map);

void chunkmap_close(struct chunkmap *map); /* no checkpoint; takes NULL */

uint64_t chunkmap_n_chunks(const struct chunkmap *map);
uint32_t chunkmap_chunk_size(const struct chunkmap *map);
uint64_t chunkmap_n_set(struct chunkmap *map); /* volatile ones included */

/* 1, 0, or -EAGAIN. */
int chunkmap_test(struct chunkmap *map, uint64_t chunk);

/* The length of the run of equal bits from chunk on, at most max, and the bit
 * in *ret_set; or -EAGAIN.  Uniform pages are skipped in one step.  The run is
 * cut short before a page that is not there. */
int64_t chunkmap_run(struct chunkmap *map, uint64_t chunk, uint64_t max, bool *ret_set);

/* Sets n bits from chunk on, volatile until the next checkpoint.  0 or
 * -EAGAIN, -ENOMEM (then none is set).  Only the first and the last page of the
 * range can be missed. */
int chunkmap_set(struct chunkmap *map, uint64_t chunk, uint64_t n);

/* Reads the pages of n chunks from chunk on, of a long run the first 128 that
 * are not there.  Blocks; -errno. */
int chunkmap_load(struct chunkmap *map, uint64_t chunk, uint64_t n);

/*
 * Makes all bits durable that were set when it was called: notes which they
 * are, calls sync_data(opaque) (which makes the data durable; -errno ends the
 * checkpoint, the bits stay volatile), writes their pages, syncs the file.
 * Blocks.  One checkpoint of a map runs at a time; a second caller waits.
 * Does nothing, without calling sync_data, when no bit is new.
 */
int chunkmap_checkpoint(struct chunkmap *map, int (*sync_data)(void *opaque),
			void *opaque);

/* The mark sector: a text of at most 500 bytes, durable when it returns; does
 * not wait for a checkpoint.  -EOPNOTSUPP for a map of no file. */
int chunkmap_write_mark(struct chunkmap *map, const char *text);
/* The mark into buf ("" = none), cut to its size; -EUCLEAN if it is damaged. */
int chunkmap_read_mark(struct chunkmap *map, char *buf, size_t size);

#endif
