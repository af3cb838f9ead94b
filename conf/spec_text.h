/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_SPEC_TEXT_H
#define LUNFS_SPEC_TEXT_H

/*
 * The two forms of the text written to `spec`, as a list of names and values:
 * what the names and values mean is spec.c's.
 */

#include <stddef.h>

#include "conf/outcome.h"

enum spec_section {
	SPEC_PARAMETERS, /* the method's parameters */
	SPEC_SETTING,	 /* [ReplicationSettingData] */
	SPEC_GOAL,	 /* [TargetSettingGoal] */
};

struct spec_item {
	enum spec_section section;
	char *name;
	char *value;
	unsigned line; /* 0 in a one-line text */
};

struct spec_text {
	struct spec_item *items;
	size_t n_items;
};

enum {
	SPEC_TEXT_MAX = 64 * 1024, /* bytes of a whole text */
};

/*
 * Splits a text.  0 with *ret_text (spec_text_done()), or -errno with the
 * reason in *outcome.  A text that is not whole, because it was sent in pieces,
 * is refused here.
 */
int spec_text_parse(const char *text, size_t len, struct spec_text *ret_text,
		    struct outcome *outcome);
void spec_text_done(struct spec_text *text);

/* "ReplicationSettingData"; "" for the parameters. */
const char *spec_section_name(enum spec_section section);

#endif
