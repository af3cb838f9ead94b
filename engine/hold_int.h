/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_HOLD_INT_H
#define LUNFS_HOLD_INT_H

/* What the files of holds share; for hold*.c only. */

#include "engine/hold.h"

/* The row's texts are copied; room for n members. */
struct hold *hold_new(struct engine *e, const struct store_hold *row,
		      const char *quiesce_command, size_t n);
void hold_free(struct hold *h);
void hold_add(struct hold *h);
/* A stop waits for it no more; the next start goes on with it. */
void hold_leave(struct hold *h);
bool hold_quiesces(const struct hold *h);

/* TAKING: the first reason not to be HELD. */
void hold_fail(struct hold *h, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* TAKING: all has answered.  It is HELD, or what was done is undone. */
void hold_taken(struct hold *h);
void hold_begin_ending(struct hold *h);
/* ENDING: all is undone.  The hold goes with a message of its own: nobody up the
 * stack finds it gone. */
void hold_finish(struct hold *h, const char *thaw_error);

/* hold_reserve.c: asks the members' devices for what is still to be done. */
void hold_pump(struct hold *h);
/* HELD: are the reservations still there? */
void hold_check(struct hold *h);

#endif
