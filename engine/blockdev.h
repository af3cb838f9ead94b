/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_BLOCKDEV_H
#define LUNFS_BLOCKDEV_H

/*
 * A block device: the bytes behind an element, whatever carries them.
 *
 * The ops struct below is the contract of a back end; users call the bd_*
 * functions of blockdev.c, which check range and state and then call the ops.
 * Requests are asynchronous.  A back end never waits for a lost connection on
 * behalf of a request: it answers -ENOTCONN at once, tells of its new state
 * through the watcher, and gets its connection back by itself.  Waiting,
 * deadlines and re-issuing are the volume's (volume.h).
 *
 * Threads: bd_submit() may be called by any thread.  `done` and the watcher's
 * functions are called by a thread of the back end (a loop or a worker) with no
 * lock held, must not block, and may submit.  `done` may be called before
 * bd_submit() returns.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>

#include "conf/config.h"
#include "conf/strbuf.h"

struct loop;
struct workers;
struct blockdev;

enum bd_op {
	BD_READ,
	BD_WRITE,
	BD_ZERO,    /* the range reads as zeros afterwards; unmapped where it can be */
	BD_DISCARD, /* a hint: content of the range becomes undefined or zero */
	BD_FLUSH,   /* all writes that were answered before it are durable after it */
	BD_EXTENTS, /* what of the range is mapped: see bd_req.extents */
};

enum {
	BD_FUA = 1, /* flag of BD_WRITE and BD_ZERO: durable when answered */
};

/* A run of bytes in the answer to BD_EXTENTS.  Unmapped means: reads as zeros
 * for certain (SBC-3 4.7.4.4: LBPRZ), and takes no space. */
struct bd_extent {
	uint64_t offset;
	uint64_t length;
	bool mapped;
};

enum { BD_MAX_EXTENTS = 256 };

struct bd_req {
	/* Set by the submitter; untouched by the back end. */
	enum bd_op op;
	unsigned flags;
	uint64_t offset; /* bytes; any alignment is taken where the info's
			  * block_size is 1, else multiples of it */
	uint64_t length; /* bytes; 0 only for BD_FLUSH; BD_READ and BD_WRITE at
			  * most info.max_transfer; BD_EXTENTS any */
	void *buf;       /* BD_READ, BD_WRITE: owned by the submitter, left alone by
			  * the back end once done was called */
	struct bd_extent *extents; /* BD_EXTENTS: room for BD_MAX_EXTENTS */
	/*
	 * 0, or -errno:
	 *  -ENOTCONN  no connection, or lost before the answer: the request may
	 *             or may not have been carried out
	 *  -ENODATA   medium error; bad_offset and bad_length give the range,
	 *             narrowed down to the blocks that cannot be read
	 *  -EIO       the target failed it for another reason
	 *  -ENOSPC    the file system or the thin pool behind it is full
	 *  -EROFS, -EACCES (reservation conflict), -EOPNOTSUPP, -ENOMEM
	 *  -EINVAL    a range or an alignment that this struct does not allow
	 * A read that brought fewer bytes than asked is -EIO, never 0.
	 */
	void (*done)(struct bd_req *req, int error);
	void *opaque;

	/* Set by the back end before done. */
	size_t n_extents;      /* BD_EXTENTS: runs in order, without gaps, from
				* offset on; may cover less than length, not 0 */
	uint64_t bad_offset;   /* bytes */
	uint64_t bad_length;

	/* The back end's while the request is under way. */
	struct blockdev *bd;
	struct bd_req *next;
	void *priv;
};

/* What a device says of itself; valid from the first time it is ready. */
struct bd_info {
	uint64_t size;        /* bytes */
	uint32_t block_size;  /* bytes; 1 for files that take any alignment */
	uint32_t max_transfer; /* bytes, a multiple of block_size */
	uint32_t opt_transfer; /* bytes; the size to prefer: 256 KiB unless the
				* Block Limits page says less */
	uint32_t opt_copy;     /* the same, of the WRITEs of a copy, of which several
				* are under way; 0: opt_transfer */
	bool thin;      /* LBPME: has extents worth asking for */
	bool read_only;
	bool write_cache; /* WCE of mode page 8 */
	char vendor[9], product[17], revision[5]; /* standard INQUIRY, trimmed */
	char serial[253];  /* VPD 0x80, trimmed; "" if none */
	char wwn[260];     /* VPD 0x83: "naa.…", "eui.…" or "t10.…"; "" if none.
			    * file: "dev:ino" */
};

enum bd_state {
	BD_DORMANT,    /* opened, no attempt has ended yet */
	BD_READY,      /* requests are taken */
	BD_AWAY,       /* the connection is lost or cannot be made; tried again and
			* again.  Nothing is known to be wrong with the device */
	BD_REFUSED,    /* login refused (CHAP, unknown target or LUN), foreign
			* reservation, or the identity was refused by the watcher:
			* tried again every 30 s, ready when it succeeds */
};

/* What the owner of a device wants to know.  Both may be NULL. */
struct bd_watcher {
	/* After each login, before the device is ready: is this the device
	 * that the owner knows?  0; or -errno and a sentence, without the
	 * device's name, in error: the device becomes BD_REFUSED with that sentence and nothing is written
	 * to it. */
	int (*identify)(void *opaque, const struct bd_info *info, char *error,
			size_t error_size);
	/* The state, the error or the sessions changed. */
	void (*changed)(void *opaque);
	void *opaque;
};

enum { BD_ERROR_MAX = 320 };

struct bd_status {
	enum bd_state state;
	char error[BD_ERROR_MAX]; /* the last error as a sentence; "" if none since
				   * the device became ready */
	uint64_t since_ns;        /* CLOCK_MONOTONIC: in this state since then */
	bool reserved; /* LunFS holds the persistent reservation on every session */
	bool hold_lost; /* the one of bd_reserve() was found to be gone */
	unsigned logins;
};

/* How to open one; copied, except for the pointers marked so. */
struct bd_params {
	const char *name;               /* for messages: the element's name */
	const struct config_url *url;   /* only read during the open */
	const struct config_access_point *access_point; /* NULL = none; only read
							 * during the open */
	const char *initiator_name;
	uint64_t isid_seed;   /* the daemon's and the element's: the same after a
			       * restart; each session derives its ISID from it */
	uint64_t pr_key;      /* reservation key; 0 = access is shared */
	bool read_only;       /* open file: devices read-only */
	bool reserved;	      /* file: its space stays allocated, also where it is zero */
	struct loop **loops;  /* iscsi: sessions are spread over them; kept */
	unsigned n_loops;
	struct workers *workers; /* file: kept */
	struct bd_watcher watcher;
};

/*
 * A reservation for the time of a copy, of a device that others write: SPC-4
 * 5.13, type Write Exclusive, which lets nobody write but the session that holds
 * it, not even who registers meanwhile (as the Registrants Only types do), and
 * everybody read.  It outlives that session: a new one looks whether it is still
 * there, and status.hold_lost tells when it is not.
 */
enum bd_reserve_op {
	BD_RESERVE_TAKE,  /* or find that it was taken with this key already */
	BD_RESERVE_CHECK, /* is it there? From here on new sessions look for it */
	BD_RESERVE_RELEASE, /* it, and every registration of the key */
};

struct bd_reserve {
	/* Set by the caller. */
	enum bd_reserve_op op;
	uint64_t key; /* not 0 */
	/*
	 * As bd_req.done.  0, or with a sentence in error, without the device's
	 * name:
	 *  -ENOTCONN    no connection: it may or may not have been carried out
	 *  -EBUSY       TAKE: another host has registered or reserved
	 *  -ESTALE      CHECK: it is not there, or not ours
	 *  -EOPNOTSUPP  the device has no reservations
	 *  -EIO         the target failed it for another reason
	 */
	void (*done)(struct bd_reserve *reserve, int error);
	void *opaque;

	char error[BD_ERROR_MAX];
	struct bd_reserve *next; /* the back end's */
};

struct blockdev_ops {
	const char *name; /* "iscsi" */

	/* Takes a request that was checked by blockdev.c.  Never fails: an error
	 * goes to req->done.  Any number concurrently. */
	void (*submit)(struct blockdev *bd, struct bd_req *req);

	/* One line a session, for the file `sessions`; appended to b.  NULL: the
	 * device has no sessions. */
	void (*sessions)(struct blockdev *bd, struct strbuf *b);

	/* Any number concurrently; they are carried out one after the other, in
	 * order.  Only for a device that was opened without a pr_key.  NULL:
	 * -EOPNOTSUPP. */
	void (*reserve)(struct blockdev *bd, struct bd_reserve *reserve);

	/*
	 * Begins the end: requests under way are answered (-ENOTCONN at worst)
	 * within 2 s, sessions log out; with release the persistent reservation,
	 * also that of reserve(), is given up first.  Then closed(opaque) is called once, the device is
	 * freed, and the watcher is not called any more.
	 */
	void (*close)(struct blockdev *bd, bool release, void (*closed)(void *opaque),
		      void *opaque);
};

/* The base struct; a back end embeds it first. */
struct blockdev {
	const struct blockdev_ops *ops;
	char name[NAME_ELEMENT_MAX_LEN + 1];
	struct bd_watcher watcher;
	pthread_mutex_t lock; /* protects what follows; held for moments only */
	struct bd_info info;
	struct bd_status status;
	bool was_ready;
	bool closing; /* bd_close() was called */
};

/* Opens by the URL's scheme.  Returns at once with a dormant device, whose
 * login follows; -errno with a sentence only for what can be seen at once. */
int bd_open(const struct bd_params *params, struct blockdev **ret_bd, char *error,
	    size_t error_size);
int bd_iscsi_open(const struct bd_params *p, struct blockdev **ret, char *err, size_t n);
int bd_file_open(const struct bd_params *p, struct blockdev **ret, char *err, size_t n);
int bd_null_open(const struct bd_params *p, struct blockdev **ret, char *err, size_t n);
int bd_fault_open(const struct bd_params *p, struct blockdev **ret, char *err, size_t n);

void bd_submit(struct blockdev *bd, struct bd_req *req);
void bd_close(struct blockdev *bd, bool release, void (*closed)(void *opaque),
	      void *opaque);
void bd_sessions(struct blockdev *bd, struct strbuf *b);
void bd_reserve(struct blockdev *bd, struct bd_reserve *reserve);

/* Snapshots; any thread. */
void bd_get_status(struct blockdev *bd, struct bd_status *ret_status);
/* False before the first time the device was ready. */
bool bd_get_info(struct blockdev *bd, struct bd_info *ret_info);

/* What is asked for with each request. */
bool bd_is_ready(struct blockdev *bd);
struct bd_geometry {
	bool ready; /* takes requests now */
	bool known; /* the others are: it was ready once */
	uint64_t size;
	uint32_t block_size, max_transfer, opt_transfer, opt_copy;
};
void bd_get_geometry(struct blockdev *bd, struct bd_geometry *ret_geometry);

/* For back ends. */
int bd_init(struct blockdev *bd, const struct blockdev_ops *ops,
	    const struct bd_params *params);
void bd_done(struct blockdev *bd);
/* The one door for a device's state: sets it, and calls watcher.changed if
 * anything is new.  fmt NULL: clears the error. */
void bd_set_state(struct blockdev *bd, enum bd_state state, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same under bd->lock, for a back end that decides under it: true = call
 * bd_changed() once it is unlocked.  error NULL: stays as it is. */
bool bd_set_state_locked(struct blockdev *bd, enum bd_state state, const char *error);
/* Calls watcher.changed: the sessions changed in a way no other call told. */
void bd_changed(struct blockdev *bd);
/* status.logins and status.reserved. */
void bd_count_login(struct blockdev *bd);
void bd_set_reserved(struct blockdev *bd, bool reserved);
/* Asks watcher.identify; what it accepts becomes the device's info.  0, or its
 * -errno with the sentence. */
int bd_identify(struct blockdev *bd, const struct bd_info *info, char *error,
		size_t error_size);

#endif
