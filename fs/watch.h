/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_WATCH_H
#define LUNFS_WATCH_H

/*
 * From the engine's events to those who watch: drops what was rendered, wakes
 * polls and reads of wait/, has files touched (inotify) and names and pages
 * forgotten by the kernel.
 */

#include "fs/face.h"

struct watch *watch_new(struct fs *fs); /* NULL: no memory */
int watch_start(struct watch *watch);	/* -errno */

/* What engine_subscribe() gets, with a struct fs: notes the event. */
void watch_on_event(void *opaque, const struct engine_event *event);

/* Has the notifier look at wait_answer_interrupted(). */
void watch_wake(struct watch *watch);

void watch_stop(struct watch *watch);
int watch_join(struct watch *watch, const struct timespec *deadline); /* -ETIMEDOUT */
void watch_free(struct watch *watch);				      /* takes NULL */

#endif
