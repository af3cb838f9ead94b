/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TESTS_DEVICE_H
#define LUNFS_TESTS_DEVICE_H

/*
 * A block device in memory that misbehaves as it is told, and what stands around a
 * volume: for tests of the data path.
 */

#include "tests/unit.h"

#include <errno.h>
#include <pthread.h>

#include "conf/timefmt.h"
#include "engine/dataop.h"
#include "engine/pool.h"
#include "engine/volume.h"

enum { DEADLINE_S = 60 };

#define NOW(counter) __atomic_load_n(&(counter), __ATOMIC_ACQUIRE)
#define SET(counter, value) __atomic_store_n(&(counter), (value), __ATOMIC_RELEASE)
#define ADD(counter, n) __atomic_fetch_add(&(counter), (n), __ATOMIC_ACQ_REL)

#define WAIT_FOR(condition)                                                         \
	do {                                                                        \
		uint64_t until_ =                                                   \
			timefmt_monotonic_ns() + DEADLINE_S * UINT64_C(1000000000); \
                                                                                    \
		while (!(condition)) {                                              \
			ck_assert_msg(timefmt_monotonic_ns() < until_, "never: %s", \
				      #condition);                                  \
			usleep(500);                                                \
		}                                                                   \
	} while (0)

/* ---- what stands around ---------------------------------------------------------- */

struct world {
	struct dataops dataops;
	struct bufpool *bufs;
	struct workers *disk, *wire;
	struct loop *loop;
	struct pool *pool; /* if asked for */
	char dir[64];
};
extern struct world world;

/* Takes and prints the seed, LUNFS_TEST_SEED repeats it; the pool's directory is made
 * under `parent` (NULL: no pool). */
void world_start(const char *parent, unsigned n_workers);
/* All references given back: waits until everything is freed. */
void world_end(void);

/* A number below n, of this thread. */
unsigned rnd(unsigned n);
bool one_in(unsigned n);

/* ---- the device ------------------------------------------------------------------ */

struct device {
	struct blockdev base;
	struct volume *volume;
	char *bytes, *own;
	uint64_t size;

	/* Atomic; of 1000 requests: */
	unsigned within;      /* answered within submit */
	unsigned lose_before; /* the connection is lost: it was not carried out */
	unsigned lose_changes; /* the same, of changes only */
	unsigned lose_after;  /*                          it was */
	unsigned fail;	      /* -EIO; changes may be carried out in part */
	unsigned late_us;     /* the most an answer takes */
	bool no_zero;	      /* BD_ZERO is -EOPNOTSUPP */
	bool silent;	      /* requests are kept until device_speak() */
	uint64_t bad;	      /* reads of this byte are -ENODATA; 0: none */
	/* Called for each change before it is carried out. */
	void (*on_change)(struct device *d, const struct bd_req *req);

	unsigned n_fences;   /* closed and drained: a change that comes now is wrong */
	unsigned n_changes;  /* that came */
	unsigned n_changing; /* without an answer */
	unsigned n_flushes;  /* carried out */
	unsigned n_kept;
	unsigned n_wrong;

	char *durable; /* if set, gets what a flush makes durable; under the lock */

	pthread_mutex_t lock; /* bytes, and what follows */
	struct bd_req *kept;
};

/* A device that is ready, attached to a new volume; bytes NULL: its own, zeros. */
void device_start(struct device *d, uint64_t size, uint32_t block_size, bool thin,
		  char *bytes);
/* Detaches it and drops the volume; device_free() after world_end(). */
void device_stop(struct device *d);
void device_free(struct device *d);
void device_away(struct device *d);
void device_back(struct device *d);
void device_speak(struct device *d); /* no longer silent: what was kept is answered */

/* ---- requests that are waited for ------------------------------------------------ */

/* The error; *ret_n what was done, *ret_result of a seek. */
int volume_wait_io(struct volume *v, struct engine_io *io, unsigned timeout_ms,
		   size_t *ret_n);
int volume_write(struct volume *v, uint64_t offset, const void *buf, size_t len);
int volume_zero(struct volume *v, uint64_t offset, uint64_t len);
int volume_flush(struct volume *v);

/* One that is not waited for, freed when it is answered. */
struct tally {
	unsigned n_asked, n_right, n_eio, n_other; /* atomic */
};
void tally_io(struct tally *t, struct volume *v, enum engine_io_op op, uint64_t offset,
	      uint64_t len, unsigned timeout_ms);
static inline unsigned tally_open(struct tally *t)
{
	return NOW(t->n_asked) - NOW(t->n_right) - NOW(t->n_eio) - NOW(t->n_other);
}

#endif
