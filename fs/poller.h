/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_POLLER_H
#define LUNFS_POLLER_H

/*
 * Polls that sleep on an open file.  The kernel's handle is good for one
 * notification; then it polls anew.  An open file has at most one.  poller_add()
 * and poller_take() need the lock of the file's table, poller_wake() must not
 * have it.
 */

#include <fuse_lowlevel.h>

struct poller {
	struct poller *next;
	struct fuse_pollhandle *ph;
};

/* Remembers ph in *slot, in place of an earlier one.  -ENOMEM: ph is destroyed. */
int poller_add(struct poller **slot, struct fuse_pollhandle *ph);

/* Moves what is in *slot, if anything, to a list. */
void poller_take(struct poller **slot, struct poller **list);

void poller_wake(struct poller *list); /* and frees it */
void poller_free(struct poller *list);

#endif
