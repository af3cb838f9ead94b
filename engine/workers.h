/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_WORKERS_H
#define LUNFS_WORKERS_H

/*
 * A fixed set of threads for calls that block on a disk: reads, writes and
 * syncs of files.  Work is taken in the order it was submitted, by whichever
 * thread is free.
 */

struct workers;

struct work {
	void (*fn)(struct work *work); /* may free the work or submit it again */
	struct work *next;	       /* the queue's */
};

/* n_threads: 1..64.  name: of the threads, at most 12 bytes.  -errno. */
int workers_new(const char *name, unsigned n_threads, struct workers **ret_workers);

/* Finishes everything submitted, also what that submits, then joins.  Takes
 * NULL. */
void workers_free(struct workers *workers);

/* Any thread, also from within fn. */
void workers_submit(struct workers *workers, struct work *work);

#endif
