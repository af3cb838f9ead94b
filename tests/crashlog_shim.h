/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TESTS_CRASHLOG_SHIM_H
#define LUNFS_TESTS_CRASHLOG_SHIM_H

/* What the parts of libcrashlog.so share; crashlog.c says how it works. */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "tests/crashlog.h"

/* The calls that programs see; all else is hidden. */
#define EXPORT __attribute__((visibility("default")))

extern pthread_mutex_t shim_lock; /* over a change and its record */
extern int shim_log_fd;		  /* -1: nothing is recorded */

/* Appends, or ends the process.  errno is kept. */
void shim_append_locked(struct crashlog_record *r, const char *path, const char *path2,
			const void *data, size_t size);
uint64_t shim_token_locked(void);

/* A record with dev, ino, mode and size of *st; path may be NULL. */
void shim_log_inode_locked(unsigned type, const struct stat *st, const char *path);
void shim_set_inode(struct crashlog_record *r, const struct stat *st);

/* Notes a change that cannot be followed; takes the lock. */
void shim_unseen(const char *what, const char *path);

/* Is it a file or directory that is recorded?  Then *st and path (PATH_MAX bytes, may
 * be NULL) tell which. */
bool shim_is_logged_fd(int fd, struct stat *st, char *path);

/* The real path of a name (its last part is not followed) into path, PATH_MAX bytes;
 * true if it is to be recorded. */
bool shim_is_logged_name(int dirfd, const char *name, char *path);

#endif
