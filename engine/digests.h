/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_DIGESTS_H
#define LUNFS_DIGESTS_H

/*
 * A digest for each chunk of an image (XXH3, 128 bits), in a file beside its map, so that
 * a new instant in the same image (ResyncReplica) finds what differs without reading what
 * the image has.  A file for each generation: that of the one before is the `base` of a
 * copy, which is looked up; its own takes the digests of what has come.
 *
 * What holds at every moment, and after every crash: a digest that digests_get() gives is
 * that of the bytes that the image has, durably, unless the copy of a newer generation
 * has written over them (see image_digest.c).  For that,
 *
 *   known    the copy notes a digest when the chunk is in the store; it gets into the file
 *            only after a sync that began later than that: digests_take(), sync,
 *            digests_write()
 *   void     before a user's change is sent, the regions (runs of 16 chunks) that it
 *            touches are marked so, durably, for the rest of the generation; what the
 *            file says of a void region does not count
 *   sealed   of a file in a pool: its time of change as LunFS has left it.  Another one,
 *            and nothing counts any more: it is distrusted, for the rest of the generation,
 *            also after a crash of the process.  Changes make regions void all the same
 *
 * File: a header block (magic, version, id, generation, geometry, checksum; in its second
 * sector the seal, the base and a count, overwritten in place), a bitmap of void regions, the
 * digests, 16 bytes each; all zero: not known.  Sparse.  An entry never crosses a sector.
 * Nothing but the bitmap is kept in memory: 128 KiB for 1 TiB.
 *
 * Thread safe; reference counted.  What says "blocks" goes to the disk.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct digests;

enum { DIGESTS_REGION_CHUNKS = 16 };

struct digest {
	unsigned char bytes[16]; /* all zero: not known */
};

struct digests_params {
	uint64_t id;	     /* of the element */
	uint64_t generation; /* of the instant */
	uint64_t size;	     /* bytes of the data */
	uint32_t chunk_size; /* bytes */
};

/* Makes the file (refusing an existing one); nothing is synced.  Blocks; -errno. */
int digests_create(int dirfd, const char *file, const struct digests_params *params);
/* Blocks.  -ESTALE: another id or generation; -EUCLEAN: damaged, of another geometry. */
int digests_open(int dirfd, const char *file, const struct digests_params *params,
		 struct digests **ret_digests);
void digests_ref(struct digests *digests);
void digests_unref(struct digests *digests); /* takes NULL; the last one closes */

void digest_make(const void *buf, size_t len, struct digest *ret_digest);
bool digest_is_known(const struct digest *digest);
bool digest_is_same(const struct digest *a, const struct digest *b); /* both are known */

/* The digests of n chunks from `chunk` on.  Blocks; what cannot be read is not known. */
void digests_get(struct digests *digests, uint64_t chunk, uint64_t n, struct digest *ret);

/* Chunks [chunk, chunk + n) are in the store, with these digests: their bits in the map
 * are set already.  For want of memory, or in a void region, they stay unknown. */
void digests_note(struct digests *digests, uint64_t chunk, unsigned n,
		  const struct digest *list);

/* What has been noted up to now; NULL: nothing. */
struct digests_batch;
struct digests_batch *digests_take(struct digests *digests);
/* Its data is durable: it goes into the file, and is freed.  Blocks.  Takes NULL. */
void digests_write(struct digests *digests, struct digests_batch *batch);
void digests_drop(struct digests_batch *batch); /* takes NULL */

/* Whether all regions of n chunks from `chunk` on are void, durably. */
bool digests_is_void(struct digests *digests, uint64_t chunk, uint64_t n);
/* They are to become so with the next digests_void(); and some behind them, if those
 * before them are void: who writes on and on. */
void digests_want_void(struct digests *digests, uint64_t chunk, uint64_t n);
/* Blocks.  -errno: they are not, and are wanted no more. */
int digests_void(struct digests *digests);

/* Nothing counts any more: somebody else has changed the data.  Written, not synced. */
void digests_distrust(struct digests *digests);
/* Nor is any region to be made void any more: the file was deleted, durably. */
void digests_abandon(struct digests *digests);
bool digests_is_distrusted(struct digests *digests);

/* The time of change (ns) of the data's file, all changes of which are LunFS's own.  It is
 * written (not synced) if it is later than the last. */
void digests_seal(struct digests *digests, int64_t mtime_ns);
bool digests_is_sealed(struct digests *digests, int64_t mtime_ns); /* with that time */

/* Bytes that the copy of this generation has found there already, for who counts them
 * after a crash.  Written, not synced. */
void digests_set_skipped(struct digests *digests, uint64_t bytes);
uint64_t digests_skipped(struct digests *digests);

/* The generation whose digests the copy of this one looks up; 0: none.  Written, not
 * synced: after a crash it may be 0 again. */
void digests_set_base(struct digests *digests, uint64_t generation);
uint64_t digests_base(struct digests *digests);

#endif
