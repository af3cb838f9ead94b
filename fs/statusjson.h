/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_STATUSJSON_H
#define LUNFS_STATUSJSON_H

/*
 * The objects of status.json, each added to b on one line.  CIM properties have
 * their own names; what is NULL is left out; beside the name of an enumeration
 * `X` stands its number as `XNumber`.  Pure functions; where memory runs out,
 * b->failed is set.
 */

#include "conf/strbuf.h"
#include "engine/engine.h"

enum {
	/* Rises when something that was there is gone or means something else;
	 * what is only added leaves it. */
	STATUSJSON_SCHEMA = 1,
};

void statusjson_element(struct strbuf *b, const struct element_info *info);
void statusjson_group(struct strbuf *b, const struct group_info *info);
void statusjson_job(struct strbuf *b, const struct job_info *info);
void statusjson_pool(struct strbuf *b, const struct pool_info *info);

#endif
