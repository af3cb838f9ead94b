/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_STATUS_H
#define LUNFS_STATUS_H

/*
 * What the whole daemon shows at the root of the tree: README, `status` for
 * people and `status.json` for programs.
 */

#include "conf/strbuf.h"
#include "engine/engine.h"

extern const char status_readme[];

/* 0 or -ENOMEM. */
int status_table(struct engine *e, struct strbuf *b);
int status_json(struct engine *e, struct strbuf *b);

/* The head of the table, and a group's line in it; names are padded to name_width.
 * Pure. */
void status_add_head(struct strbuf *b, int name_width);
void status_add_line(struct strbuf *b, const struct group_info *info, int name_width);

#endif
