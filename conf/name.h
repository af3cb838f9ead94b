/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_NAME_H
#define LUNFS_NAME_H

/* Names of the objects a user makes, and the nearest valid name for a
 * message about an invalid one. */

#include <stddef.h>

enum {
	NAME_MAX_LEN = 32, /* groups, pools, settings, access points, relationships */
	NAME_ELEMENT_MAX_LEN = 40, /* elements, so that `<32>_<n>` fits */
	NAME_QUOTED_SIZE = 88,
	NAME_HINT_SIZE = 320,
};

/*
 * Checks a name: 1 to max_len of `A-Z a-z 0-9 . _ -`, not beginning with `.`
 * or `-`.  0, -EINVAL, or -ENAMETOOLONG.
 */
int name_check(const char *name, size_t max_len);

/*
 * The candidate that `name` was most likely meant to be (edit distance,
 * ignoring case), or NULL if none is near.  The result is one of candidates.
 */
const char *name_nearest(const char *name, const char *const *candidates, size_t n);

/*
 * The remedy of a message about an unknown name: `did you mean "x"?` if one is
 * near, else `valid: a, b, c`, which ends in `...` where it does not fit.  By
 * value, for use as an argument: name_hint(...).s
 */
struct name_hint {
	char s[NAME_HINT_SIZE];
};
struct name_hint name_hint(const char *name, const char *const *candidates, size_t n);

/*
 * Any text as part of a one-line message: in double quotes, bytes that are not
 * printable ASCII as \xNN, a long one ended by `...`.
 */
struct name_quoted {
	char s[NAME_QUOTED_SIZE];
};
struct name_quoted name_quote(const char *text);

#endif
