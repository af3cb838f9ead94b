/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_WORD_H
#define LUNFS_WORD_H

/* The text of a write, taken apart. */

#include <stdbool.h>
#include <stddef.h>

/* The next word of *text (separated by blanks and newlines) into buf; false at
 * the end.  A word that does not fit is cut to size - 1 bytes, and its length
 * still given in *ret_len. */
bool word_next(const char **text, const char *end, char *buf, size_t size,
	       size_t *ret_len);

/* The whole text without the blanks and newlines around it into buf; false if
 * it does not fit, has a newline or a NUL inside. */
bool word_line(const char *text, size_t len, char *buf, size_t size);

/* "true", "false", "yes", "no", "1", "0", "on", "off": 0 or -EINVAL. */
int word_bool(const char *text, size_t len, bool *ret_value);

#endif
