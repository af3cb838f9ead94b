/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CLEANUP_H
#define LUNFS_CLEANUP_H

/*
 * Scope-bound cleanup.  A variable marked with one of these gives up what it
 * owns when its scope ends, on every path; move_ptr() and move_fd() hand the
 * ownership out of the scope.
 */

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_unlock_(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}

static inline pthread_mutex_t *cleanup_lock_(pthread_mutex_t *m)
{
	pthread_mutex_lock(m);
	return m;
}

#define CLEANUP_FREE __attribute__((cleanup(cleanup_free_)))
#define CLEANUP_CLOSE __attribute__((cleanup(cleanup_close_)))

#define CLEANUP_CAT2_(a, b) a##b
#define CLEANUP_CAT_(a, b) CLEANUP_CAT2_(a, b)

/* Holds the mutex until the end of the enclosing scope. */
#define ACQUIRE_LOCK_FOR_CURRENT_SCOPE(mutex)                                    \
	__attribute__((cleanup(cleanup_unlock_), unused)) pthread_mutex_t *      \
	CLEANUP_CAT_(scope_lock_, __LINE__) = cleanup_lock_(mutex)

/* Evaluates to the pointer and leaves NULL behind. */
#define move_ptr(p)                                                              \
	({                                                                       \
		__typeof__(p) moved_ = (p);                                      \
		(p) = NULL;                                                      \
		moved_;                                                          \
	})

/* Evaluates to the descriptor and leaves -1 behind. */
#define move_fd(fd)                                                              \
	({                                                                       \
		int moved_ = (fd);                                               \
		(fd) = -1;                                                       \
		moved_;                                                          \
	})

#endif
