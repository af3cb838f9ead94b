/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_RESOLVER_H
#define LUNFS_RESOLVER_H

/*
 * Host names to addresses, outside the event loops: getaddrinfo() may block
 * for as long as a name server is silent.  At most RESOLVER_THREADS look-ups
 * run at once, by threads that exist only while there is something to do.
 */

#include <stdbool.h>

#include "engine/loop.h"

enum { RESOLVER_THREADS = 4, RESOLVER_ADDRESSES = 8 };

struct resolver_job;

/*
 * Looks host up and calls fn once, on the loop.  In fn, and until fn returns,
 * the resolver_* accessors below may be used; then the job is gone.
 * 0, or -ENOMEM and the like: then fn is not called.
 */
int resolver_start(const char *host, struct loop *loop,
		   void (*fn)(struct resolver_job *job, void *opaque), void *opaque,
		   struct resolver_job **ret_job);

/* The loop's thread.  True: fn will not be called, the job is gone.  False: the
 * look-up has ended, fn is on its way and cannot be stopped any more. */
bool resolver_cancel(struct resolver_job *job);

/* NULL if the name was found, else why not. */
const char *resolver_error(const struct resolver_job *job);
/* At least one when there is no error; numeric, in the resolver's order. */
unsigned resolver_count(const struct resolver_job *job);
const char *resolver_address(const struct resolver_job *job, unsigned i);

#endif
