/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CONTENT_H
#define LUNFS_CONTENT_H

/*
 * The text of control files as it is at this moment: asks the engine, renders,
 * and keeps renderings of counters and progress for one second, so that a stat
 * and the read after it agree.  Any thread; waits for nothing.
 */

#include <stdint.h>

#include "conf/strbuf.h"
#include "fs/face.h"
#include "fs/node.h"

struct content *content_new(void); /* NULL: no memory */
void content_free(struct content *content);

/*
 * Adds the text of a control file to b.  *ret_time_ms: since when the object (or
 * this text) is there, for st_mtime.  0; -ENOENT the object is gone; -ENOMEM.
 */
int content_get(struct fs *fs, const struct node *node, struct strbuf *b,
		int64_t *ret_time_ms);

/* The target of a symlink; -ENOENT also where there is none. */
int content_link(struct fs *fs, const struct node *node, struct strbuf *b,
		 int64_t *ret_time_ms);

/* What was kept of this file is no longer so. */
void content_drop(struct fs *fs, const struct node *node);

#endif
