/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_IMAGE_INT_H
#define LUNFS_IMAGE_INT_H

/*
 * What the files of an image share: image.c (its life), image_io.c (requests, and
 * where they wait), image_read.c, image_write.c, fill.c (the way of a run of chunks
 * from the source into the store), copier.c (which run is next), and the stores:
 * image_file.c, a file in a pool, and image_lun.c, the device of an element;
 * image_digest.c (what of a copy is there already).
 */

#include "engine/digests.h"
#include "engine/engine.h"
#include "engine/image.h"
#include "engine/ranges.h"
#include "engine/share.h"

enum {
	COPIER_READS = 4, /* fills at the source: more only queue there */
	FILL_BYTES = 1 << 20, /* the most one fill takes: written in one piece */
	FILL_CHUNKS = FILL_BYTES / POOL_CHUNK_SIZE,
	IMAGE_MAX_FETCHES = 8, /* fills at once on behalf of users */
	IMAGE_MAX_READS = 16,  /* reads at once that go through to the source */
};

/* Who fills a run of chunks: in image->fillers from look-up to bit, which makes it
 * the only filler of those that are absent (invariant I7). */
struct filler {
	uint64_t chunk, n; /* chunks */
	bool written;	   /* they can be read from the store, but are not durable */
	unsigned logins;   /* of the store when they were */
	TAILQ_ENTRY(filler) link;
	struct dataop_list waiters; /* requests that wait for its end */
};

TAILQ_HEAD(filler_list, filler);

enum fill_for {
	FILL_FOR_COPIER,
	FILL_FOR_READ,
	FILL_FOR_CHANGE, /* of a part of its chunk */
};

/* A buffer that several fills have. */
struct fill_buf {
	unsigned refs; /* atomic */
	void *buf;
	size_t length;
};

/* A run of chunks on its way from the source. */
struct fill {
	struct filler filler;	 /* first */
	struct image *image;	 /* with a reference */
	struct fill *next;	 /* of those its maker has still to start, or riders */
	uint64_t offset, length; /* bytes */
	enum fill_for why;
	bool reading; /* counted in copier.n_reading */
	bool direct;  /* counted in image.n_direct */
	bool zero;    /* is known to be zero: nothing to read, but a hole to make */
	struct priority_ticket ticket; /* of the copier's fetch */
	bool own_buf; /* buf is from malloc */
	void *buf;
	struct fill *riders;	 /* share.h: they get what it reads */
	struct fill_buf *shared; /* whose buf is this one; or NULL */
	struct point_req req; /* its point with a reference */
	bool released;	      /* all it had but its place in image->fillers */

	/* The store's, once it was read. */
	struct work work;
	struct volume_put put;
	uint64_t put_at; /* bytes: what lies before is there */
	TAILQ_ENTRY(fill) store_link;

	/* image_find_same() */
	uint32_t same;	  /* a bit for each chunk: the store has its bytes already */
	uint64_t skipped; /* bytes: of these */
	struct digest digests[FILL_CHUNKS]; /* of what came from the source */
};
_Static_assert(FILL_CHUNKS <= 32, "bits of fill.same");

TAILQ_HEAD(fill_list, fill);

/* A change on its way: image_write.c. */
struct change {
	struct filler filler; /* n 0: of nothing */
	struct range range;
	struct dataop *op;
	uint64_t at;	       /* bytes: what lies before is done */
	uint64_t len;	       /* of the piece that is next, or under way */
	bool needs_fill;       /* what it waits for, and fails with */
	bool needs_sync;       /* for one that is written */
	struct volume_put put; /* the store's */
	uint64_t restored; /* the sequence of the restore that has copied it back, or 0 */
	struct chain_waiter copy_back;
};

/*
 * Where the bytes of present chunks are: the contract of a store.  Its functions are
 * called by any thread, any number at once, with no lock held but where that is said;
 * those that do not say "blocks" return at once and end by calling what they name,
 * once, by any thread, also from within.
 */
struct image_store {
	const char *name; /* "file" */

	/* Takes a request that concerns nothing but the store; false: it does not. */
	bool (*pass)(struct image *image, struct engine_io *io, unsigned timeout_ms);

	/* Whether it can take fills and changes now; image->lock is held. */
	bool (*is_ready)(struct image *image);

	/* What can be read at once and without waiting: the bytes read, all of them
	 * within the image, or -EAGAIN.  The range is present. */
	ssize_t (*try_read)(struct image *image, void *buf, size_t len, uint64_t offset);

	/* Answers a READ whose chunks are all present, or written, and drops the op's
	 * reference. */
	void (*read)(struct dataop *op);
	bool reads_into_buffer; /* op->buf, which the op has then */

	/* Carries out a piece of a change, [at, at + len), and sets the bits of its
	 * filler.  It may change the store (image_enter_file_locked()), and leaves it.
	 * Ends by image_change_done(), or image_change_lost(). */
	void (*change)(struct change *change);

	/* Brings the bytes of a fill into the store, or makes the range zero, and sets
	 * the bits; as with change, it leaves the store.  Ends by fill_end(), before
	 * which it may be filler.written for a time. */
	void (*fill)(struct fill *fill);

	/* Sees that all that are written end soon. */
	void (*drain)(struct image *image);

	unsigned window; /* the copier's fills at once that are not written */

	/* Answers the ops of image->flushes (those that came meanwhile, too) when all
	 * that was answered before is durable, bits included. */
	void (*flush)(struct image *image);

	/* Answers SEEK_DATA or SEEK_HOLE of an offset within the image, and drops the
	 * op's reference. */
	void (*seek)(struct dataop *op);

	/* Blocks.  Makes the bytes durable that set bits speak of; -errno, which stays. */
	int (*sync)(struct image *image);

	/* Blocks, for a moment.  Looks at how much it occupies: image->allocated. */
	void (*refresh_allocated)(struct image *image);

	void (*close)(struct image *image); /* blocks */
};

extern const struct image_store image_file_store, image_lun_store;

/* image_lun.c; under image->lock. */
struct lun_store {
	struct fill_list written; /* not at a sync yet */
	struct fill_list synced;  /* at the one that is under way */
	uint64_t bytes;		  /* of written */
	bool syncing;
	bool again; /* then another */
	struct bd_req sync;
	struct work sync_work;
	int sync_error;
	unsigned sync_logins;
	struct volume_listener listener; /* of the target */
};

/* The copier's part of the image; under image->lock. */
struct copier {
	bool running;	 /* image_start_copy() */
	bool stepping;	 /* a thread is in copier_step() */
	bool again;	 /* something happened meanwhile: step once more */
	bool loading;	 /* a page of a map is being read */
	bool lost;	 /* a fill lost its connection since the last copier_step() */
	bool no_buffer;	 /* stands in the pool's queue */
	bool finishing;	 /* the last checkpoint is under way */
	bool busy;	 /* nothing is to be read now: share_is_busy() */
	uint64_t lead_max; /* chunks: the most that a fill takes */
	bool waits;	 /* atomic: something would have been */
	uint64_t moved_ns; /* when a fill ended, or the first of those under way began */
	uint64_t cursor; /* chunk */
	unsigned n_fills;
	unsigned n_reading; /* of them: not yet answered by the source */
	struct priority_flow flow; /* asked before each fetch */
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
	const struct image_store *store;
	int refs; /* atomic */
	uint64_t id, size;
	uint64_t copy_size; /* bytes: what the map speaks of, and the source has */
	uint32_t chunk_size;
	bool reserved;
	struct pool *pool;
	struct volume *target; /* with a reference; NULL: a file */
	char target_name[NAME_ELEMENT_MAX_LEN + 1];
	struct lun_store lun;
	int fd;	       /* through the page cache */
	int direct_fd; /* O_DIRECT, or -1 */
	struct chunkmap *map;
	struct digests *digests; /* of the own generation; NULL: none are kept */
	struct digests *base;	 /* of the one before, that are right; or NULL */
	struct digests *offered; /* the same, of which that is to be found out */
	uint64_t skipped_before; /* bytes: by processes before this one */
	uint64_t generation;	 /* of a copy with digests */
	struct work void_work;
	struct work destroy, checkpoint_work, flush_work, trim_work;
	uint64_t trim_at; /* chunk; trim_work's */

	pthread_mutex_t sync_lock; /* held across a sync of the file */
	int sync_error;		   /* the first */

	pthread_mutex_t lock; /* protects all that follows but what is atomic */
	pthread_cond_t quiet; /* in_watcher, n_changes or n_calls came to 0 */

	struct point *source; /* NULL: absent chunks are -EIO */
	TAILQ_ENTRY(image) share_link; /* among those of its source; share->lock */
	char source_name[NAME_ELEMENT_MAX_LEN + 1];
	bool keep; /* what is read */
	struct volume_listener listener;

	struct image_watcher watcher;
	unsigned in_watcher;
	bool attached; /* from image_set_source() to image_cut_off() */
	bool watched;  /* of the watcher, complete or broken may be called */
	bool told;     /* watcher.written was called */

	bool written;
	bool changed;	   /* by a user, since it was opened: no direct writes any more */
	unsigned n_direct; /* fills that may write directly */
	unsigned n_changes;	 /* of users, from their submission to their answer */
	uint64_t change_count;	 /* of their beginnings and ends, never less */
	bool retired;		 /* image_retire() */
	struct restore *restore; /* with a reference; also looked at without the lock */
	unsigned n_calls;	 /* of changes and fills, that change the file */
	int64_t own_mtime;	 /* ns; of the file, as of the last of these */
	bool sealing; /* its digests are sealed with that, whenever it is quiet */
	bool voiding; /* void_work is under way */
	struct dataop_list unvoided; /* changes, for their regions to be void */
	struct range_list order;
	struct range *freed; /* by others that left, still to be started */
	bool starting;	     /* a thread starts them */

	struct filler_list fillers;
	unsigned n_fetches, n_reads;
	struct dataop_list parked;    /* wait for the source or a buffer */
	struct dataop_list for_place; /* for a place among the fetches or reads */
	struct dataop_list unwritten; /* changes, for the owner or direct writes */
	struct dataop_list flushes;
	bool serving; /* a thread is in image_serve() */
	bool flushing, checkpointing;
	struct bufpool_waiter bufs;
	struct copier copier;

	/* Atomic. */
	bool clean;		 /* absent chunks are holes */
	struct volume *redirect; /* set once, with a reference */
	uint64_t bytes_copied, bytes_skipped, last_progress_ms, allocated, changed_ms;
};

/* What a look at the map says of a request. */
enum step {
	STEP_GO,
	STEP_LOAD,	   /* a page of the map is not in memory */
	STEP_ABSENT,	   /* a chunk is, and cannot be had */
	STEP_THROUGH,	   /* a read: to the source */
	STEP_WAITS,	   /* queued */
	STEP_WANTS_BUFFER, /* queued, and a buffer is wanted */
};

/* image.c */

/* For who holds no reference: false if there is none any more, and the image is
 * about to be freed. */
bool image_try_ref(struct image *image);
void image_report_broken(struct image *image, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A checkpoint has failed: breaks the image, unless there was only no space for the
 * map, which the next one tries again. */
void image_report_checkpoint(struct image *image, int error);
bool image_is_full(int error); /* of the pool */
void image_report_complete(struct image *image);
/* Tells the owner of the first change. */
void image_report_written(struct image *image);
struct restore *image_get_restore(struct image *image); /* with a reference, or NULL */
/* The right to change the file, until image_leave_file(): false once it is retired. */
bool image_enter_file_locked(struct image *image);
void image_leave_file(struct image *image);
uint64_t image_chunk_bytes(const struct image *image, uint64_t chunk, uint64_t n);

/* image_digest.c */

int image_open_digests(struct image *image, const struct image_params *params);
void image_close_digests(struct image *image);
/* The first of the calls that change the file is about to; and the last has ended: true:
 * then image_seal(), with no lock held. */
void image_look_at_file_locked(struct image *image);
bool image_note_file_locked(struct image *image);
void image_seal(struct image *image);
/* All is there, durably, and what was noted is in the file of digests.  Blocks. */
void image_finish_digests(struct image *image);
/* Of a fill that has its bytes: finds out which chunks the store has.  Blocks. */
void image_find_same(struct fill *fill);
/* The next run of bytes from *at on that the store does not have: [*at, *ret_end); false:
 * there is none any more. */
bool image_next_differing(const struct fill *fill, uint64_t *at, uint64_t *ret_end);
/* Its bits are set. */
void image_note_digests(struct fill *fill);
/* Whether a change of these bytes may reach the store.  False: the op waits, and steps
 * again. */
bool image_is_void(struct image *image, struct dataop *op, uint64_t offset, uint64_t len);

/* image_lun.c */

void image_open_lun(struct image *image, struct volume *target);
void image_listen_lun(struct image *image); /* the last of the opening */

/* image_file.c: blocking calls of the file and the map; -errno */

int image_open_file(struct image *image, bool complete);
int image_read_file(struct image *image, void *buf, size_t len, uint64_t offset);
/* Makes a range zero that may hold anything. */
int image_zero_file(struct image *image, uint64_t offset, uint64_t len);
int image_set_bits(struct image *image, uint64_t chunk, uint64_t n);

/* image_io.c */

extern const struct dataop_container image_ops;
/* Lets a request that has left its queue look again. */
void image_step(struct dataop *op);
/* What is queued is forgotten if the reaper has answered it before it stood in the
 * queue.  No lock held; with a reference on the op. */
void image_check_queued(struct dataop *op);
/* Parks a request whose connection was lost; the reaper lets it look again. */
void image_park_lost(struct dataop *op);
/* The chunk of a byte; of one behind copy_size, one behind those of the map. */
uint64_t image_chunk_of(const struct image *image, uint64_t offset);
/* As chunkmap_run(), also of chunks behind those of the map, which are set. */
int64_t image_run(struct image *image, uint64_t chunk, uint64_t max, bool *ret_set);
/* Whether all chunks of a range are set, as far as memory knows. */
bool image_range_is_set(struct image *image, uint64_t offset, size_t len);
/* A page of the map is read by a worker, then the op steps. */
void image_load_for(struct dataop *op);
/* All that waits for the source or a buffer, or for a place, looks again. */
void image_run_parked(struct image *image);
/* Those that wait for a place take those that are free. */
void image_serve(struct image *image);
void image_run_unwritten(struct image *image);
void image_want_buffer(struct image *image);
/* Those that wait for a sync, into ret_ops. */
void image_take_flushes(struct image *image, struct dataop_list *ret_ops);
/* They are answered; true if others came meanwhile, which are to be flushed too. */
bool image_flushed(struct image *image, struct dataop_list *ops, int error);
/*
 * Whether the source can give chunks from chunk on now, at most *n, which is made
 * smaller.  image->lock is held; the source is there.
 */
bool image_source_gives_locked(struct image *image, uint64_t chunk, uint64_t *n);

/* image_read.c */
void image_step_read(struct dataop *op);

/* image_write.c */
void image_submit_change(struct image *image, struct engine_io *io, unsigned timeout_ms);
void image_step_change(struct dataop *op);
/* Ends a change that is not under way at a worker. */
void image_drop_change(struct dataop *op);
/* The bytes that it does next. */
void image_change_piece(struct dataop *op, uint64_t *ret_offset, uint64_t *ret_len);
/* Whether a change that a fill was made for ends with its error. */
bool image_change_needs_fill(struct dataop *op);
/* The store has carried out a piece: 0, or the -errno of its medium. */
void image_change_done(struct change *change, int error);
/* The store has lost its connection: it is tried again. */
void image_change_lost(struct change *change);

/* fill.c */

/* Registers a filler of n chunks from chunk on; those that are absent are in no
 * other.  image->lock is held. */
void filler_enter_locked(struct image *image, struct filler *filler, uint64_t chunk,
			 uint64_t n);
/* Out of the list; its waiters move to ret_waiters. */
void filler_leave_locked(struct image *image, struct filler *filler,
			 struct dataop_list *ret_waiters);
/* The first filler that holds a chunk of a run, or NULL. */
struct filler *filler_of_run_locked(struct image *image, uint64_t chunk, uint64_t n);
/* The number of chunks from chunk on, at most n, that no filler holds. */
uint64_t filler_free_run_locked(struct image *image, uint64_t chunk, uint64_t n);
/* Registers a fill; the source is there. */
struct fill *fill_new_locked(struct image *image, uint64_t chunk, uint64_t n,
			     enum fill_for why);
/* Sends it on its way, with its buffer; no lock held. */
void fill_start(struct fill *fill);
/* Gives it up before it was started; no lock held. */
void fill_abandon(struct fill *fill);
/* It is written: it keeps nothing but its place in image->fillers. */
void fill_give_back(struct fill *fill);
/* The store has it, bits included, or failed (-errno).  The fill is freed. */
void fill_end(struct fill *fill, int error);
/* The bytes of zeros that a run begins with, and of data, which goes on over short
 * runs of zeros. */
size_t fill_zeros(const char *buf, size_t len);
size_t fill_data(const char *buf, size_t len);
/* Those who waited for a filler look again. */
void filler_wake(struct dataop_list *waiters);

/* copier.c */
void copier_init(struct image *image);
void copier_step(struct image *image);

#endif
