/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TOUCH_H
#define LUNFS_TOUCH_H

/*
 * inotify for changes that the engine makes: a helper process of the daemon
 * opens the file through the mount, writes one byte and closes it, which gives
 * IN_MODIFY and IN_CLOSE_WRITE.  The handlers know the helpers by their process
 * ids, let them pass whatever the mode says, and ignore the byte.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "fs/face.h"
#include "fs/node.h"

/* Forks the helpers: while the process has one thread.  -errno. */
int touch_new(struct fs *fs, struct touch **ret_touch);

/* Takes NULL.  The helpers end too. */
void touch_free(struct touch *touch);

int touch_start(struct touch *touch); /* its threads; -errno */

/* The rest from any thread. */

/* Touches soon; is_state: before those of mere progress. */
void touch_add(struct touch *touch, const struct node *node, bool is_state);

/* For the open handler: whether this is a helper's. */
bool touch_is_own(struct touch *touch, pid_t pid);

/*
 * A user's write to this file is parked, and answered.  In between the kernel
 * holds the file's lock: a touch would sleep as long, so it is put off until
 * then.
 */
void touch_park(struct touch *touch, uint64_t ino);
void touch_unpark(struct touch *touch, uint64_t ino);

/* No further touches.  Does not wait for those under way. */
void touch_stop(struct touch *touch);

#endif
