/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_INIFILE_H
#define LUNFS_INIFILE_H

/*
 * A strict reader of INI text over inih, the only place that includes
 * <ini.h>.  Debian's inih cuts lines of 200 bytes and section names of 50
 * without a word, takes an indented line for the value before it, ends at a
 * NUL, and takes a `;` after a blank for a comment: all of these are looked
 * for first and refused (or, the `;` in a value, kept whole).
 */

#include <stddef.h>

enum {
	INIFILE_MAX_LINE = 199,	  /* bytes, without the newline */
	INIFILE_MAX_SECTION = 49, /* bytes, without the brackets */
};

/*
 * Called for each `key = value`, and once for each `[section]` line with key
 * and value NULL.  Anything but 0 ends the reading with that value.
 */
typedef int (*inifile_handler)(void *opaque, const char *section, const char *key,
			       const char *value, unsigned line);

/*
 * Reads `text`.  0; what the handler returned, with error empty; or -EINVAL for
 * text that is no INI, before any call of the handler, with a sentence (what
 * and remedy, without file and line) in error.  *ret_line is the line, unless
 * 0 is returned.  Comment lines begin with `#` or `;`.
 */
int inifile_parse(const char *text, size_t len, inifile_handler handler, void *opaque,
		  unsigned *ret_line, char *error, size_t error_size);

#endif
