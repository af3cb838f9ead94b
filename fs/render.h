/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_RENDER_H
#define LUNFS_RENDER_H

/*
 * The text of the control files, out of what the engine tells: pure functions
 * that add to b.  One value a file, closed by a newline; NULL is no text; an
 * enumeration is its ValueMap name; sizes are bytes, rates bytes per second,
 * times RFC 3339 in UTC, durations seconds (interface section 2).
 *
 * Files whose text is the engine's own (engine_list_text()), links and
 * directories add nothing.
 */

#include "conf/strbuf.h"
#include "engine/engine.h"

void render_element(struct strbuf *b, const struct element_info *info,
		    enum element_file file);
void render_group(struct strbuf *b, const struct group_info *info, enum group_file file);
void render_pair(struct strbuf *b, const struct pair_info *info, enum pair_file file);
void render_job(struct strbuf *b, const struct job_info *info, enum job_file file);
void render_pool(struct strbuf *b, const struct pool_info *info, enum pool_file file);

/*
 * `result`: code and name; after a failure its sentence; time and pid of the
 * writer.  Nothing where nothing was written yet.
 */
void render_result(struct strbuf *b, const struct engine_result *result);

/* The target of a link, or no text where its object does not exist. */
void render_element_link(struct strbuf *b, const struct element_info *info,
			 enum element_file file);
void render_group_link(struct strbuf *b, const struct group_info *info,
		       enum group_file file);
void render_pair_link(struct strbuf *b, const struct pair_info *info,
		      enum pair_file file);
void render_job_link(struct strbuf *b, const struct job_info *info, enum job_file file);

#endif
