/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_INVAL_H
#define LUNFS_INVAL_H

/*
 * Makes the kernel forget what it has cached and no longer holds: pages and
 * attributes of an element's data, names of objects that the engine has
 * removed.  A thread of its own, since the kernel may make it wait for requests
 * that are parked.  inval_data() and inval_object() only queue.
 */

#include "fs/face.h"

struct inval *inval_new(struct fs *fs); /* NULL: no memory */
int inval_start(struct inval *inval);	/* -errno */

void inval_data(struct inval *inval, uint64_t element);

/* An object that nobody's rmdir removed; gives IN_DELETE_SELF. */
void inval_object(struct inval *inval, enum engine_class class, uint64_t id,
		  uint64_t parent, const char *name);

/* Begins nothing more.  Does not wait for the one under way. */
void inval_stop(struct inval *inval);
int inval_join(struct inval *inval, const struct timespec *deadline); /* -ETIMEDOUT */
void inval_free(struct inval *inval);				      /* takes NULL */

#endif
