/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_POOL_H
#define LUNFS_POOL_H

/*
 * A resource pool of type dir: a directory that target elements are drawn
 * from.  In it:
 *   lunfs.pool      names the state store that owns the pool (its id, a text);
 *                   held by flock() while a daemon has the pool open
 *   e<ID>.raw       the bytes of element ID, sparse
 *   e<ID>.map       its chunk map (chunkmap.h), while it is not complete;
 *   e<ID>.<GEN>.map that of a later generation (a new instant in the same image)
 *   e<ID>.<GEN>.digest  the digests of its chunks as of that generation (digests.h)
 *   p<ID>.raw       the store of point ID (chain.h), sparse, and
 *   p<ID>.map       its chunk map
 *   r<SEQ>.map      the chunk map of the restore of that sequence (restore.h)
 * ID is the element's or the point's id in the state store and never used again, so
 * that a file without a row is left-over and goes at start (pool_sweep).
 *
 * All functions that touch the disk block: call them from a worker, or before
 * the threads start.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/name.h"

enum { POOL_CHUNK_SIZE = 65536 };

struct pool;

/*
 * Opens a pool, making the directory (0700) if its parent is there.  Refuses,
 * with a sentence that names pool, path and remedy: a pool of another state
 * store, one that another daemon has open, a path that lies on a LunFS mount or
 * on a loop device over a file on one (memory would deadlock), a file system
 * that is read-only or does not do sparse files.
 */
int pool_open(const char *name, const char *path, const char *state_id,
	      struct pool **ret_pool, char *error, size_t error_size);
void pool_close(struct pool *pool); /* takes NULL */
/* Whether a pool was ever opened at that path: without one pool_open() begins a new one,
 * also where its file system is not mounted. */
bool pool_exists(const char *path);

/* The same check for a path that is no pool: state_dir, a `file:` element.  0,
 * or -EINVAL with a sentence; a path that does not exist is judged by its
 * nearest existing parent. */
int pool_refuse_own_mount(const char *what, const char *path, char *error,
			  size_t error_size);

const char *pool_name(const struct pool *pool);
const char *pool_path(const struct pool *pool);

/*
 * Makes e<id>.raw (size bytes, all hole; with reserve the space is allocated
 * now or -ENOSPC) and e<id>.map with that generation, and syncs both.  Files of
 * that id left by a crash are replaced.  After a failure neither exists.
 * Follow with one pool_sync() for all images of a group.
 */
int pool_create_image(struct pool *pool, uint64_t id, uint64_t size, uint64_t generation,
		      bool reserve);

/* Makes the raw file all hole; with reserve all zero, and its space stays allocated. */
int pool_empty_image(struct pool *pool, uint64_t id, uint64_t size, bool reserve);

/* Syncs the directory. */
int pool_sync(struct pool *pool);

/* Opens the raw file, also a published one for writing: flags as of open(2)
 * (O_RDWR, O_DIRECT, …).  A file descriptor, or -errno. */
int pool_open_image(struct pool *pool, uint64_t id, int flags);
/* Whether it is not there; what cannot be found out is not that. */
bool pool_has_lost_image(struct pool *pool, uint64_t id);

/* "e12.raw", "e12.map", "e12.3.map": relative to the pool's directory. */
void pool_image_file(uint64_t id, char *buf, size_t size);
void pool_map_file(uint64_t id, uint64_t generation, char *buf, size_t size);

/* Makes, in place of one left by a crash, the map of a new generation of an image, and
 * syncs it.  Follow with pool_sync(). */
int pool_create_map(struct pool *pool, uint64_t id, uint64_t size, uint64_t generation);

/* "e12.3.digest" (digests.h): the same, not synced. */
void pool_digest_file(uint64_t id, uint64_t generation, char *buf, size_t size);
int pool_create_digest(struct pool *pool, uint64_t id, uint64_t size,
		       uint64_t generation);
int pool_remove_digest(struct pool *pool, uint64_t id, uint64_t generation);

/* Makes p<id>.raw and p<id>.map as pool_create_image() does for an image. */
int pool_create_point(struct pool *pool, uint64_t id, uint64_t size);
int pool_open_point(struct pool *pool, uint64_t id); /* a descriptor, or -errno */
void pool_point_map_file(uint64_t id, char *buf, size_t size);
int pool_remove_point(struct pool *pool, uint64_t id);
int pool_dirfd(const struct pool *pool);

/* Does its file system take O_DIRECT?  (Tried once, at the opening.) */
bool pool_has_direct_io(const struct pool *pool);

/* Sets mode, owner and group of the raw file (0440, for `backing`). */
int pool_publish_image(struct pool *pool, uint64_t id, unsigned uid, unsigned gid);

/* Deletes the map of a generation of an image. */
int pool_remove_map(struct pool *pool, uint64_t id, uint64_t generation);

/* r<ID>.map, of a restore of that sequence (restore.h): as for a new generation. */
int pool_create_restore(struct pool *pool, uint64_t sequence, uint64_t size);
void pool_restore_file(uint64_t sequence, char *buf, size_t size);
int pool_remove_restore(struct pool *pool, uint64_t sequence);

/* Deletes both files, and the digests of this generation and the one before; one that is
 * not there is no error. */
int pool_remove_image(struct pool *pool, uint64_t id, uint64_t generation);

/* A file of a pool, by its name. */
struct pool_entry {
	bool is_point, is_restore; /* else an image's */
	bool is_digest;		   /* and that */
	uint64_t id;
	uint64_t generation; /* of an image's map or digest; 0 for all else */
};

/* Deletes every file for which known(opaque, file) is false.  Other files than those
 * named above are left alone.  The number deleted, or -errno. */
int pool_sweep(struct pool *pool,
	       bool (*known)(void *opaque, const struct pool_entry *file), void *opaque);

/* Total and free bytes of the file system (free: what an unprivileged user
 * gets, f_bavail). */
int pool_space(struct pool *pool, uint64_t *ret_total, uint64_t *ret_free);

#endif
