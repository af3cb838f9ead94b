/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/name.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	COMPARED_MAX = 64, /* letters of a name that are compared */
};

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

int name_check(const char *name, size_t max_len)
{
	size_t len = strlen(name);

	if (!len || name[0] == '.' || name[0] == '-' || name[strspn(name, LETTERS)])
		return -EINVAL;
	return len > max_len ? -ENAMETOOLONG : 0;
}

/* Lower-case letters without blanks, `-` and `_`; 0 for a text without
 * letters or with too many. */
static unsigned fold(const char *text, char folded[static COMPARED_MAX + 1])
{
	unsigned len = 0;

	for (; *text; text++) {
		if (strchr(" \t-_", *text))
			continue;
		if (len == COMPARED_MAX)
			return 0;
		folded[len++] = (char)tolower((unsigned char)*text);
	}
	folded[len] = '\0';
	return len;
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Insertions, deletions, changes and swaps of neighbours from a to b. */
static unsigned distance(const char *a, unsigned a_len, const char *b, unsigned b_len)
{
	unsigned rows[3][COMPARED_MAX + 1];
	unsigned *before = rows[0], *above = rows[1], *row = rows[2];

	for (unsigned j = 0; j <= b_len; j++)
		above[j] = j;
	for (unsigned i = 1; i <= a_len; i++) {
		unsigned *spare = before;

		row[0] = i;
		for (unsigned j = 1; j <= b_len; j++) {
			unsigned change = a[i - 1] != b[j - 1];

			row[j] = least(least(above[j], row[j - 1]) + 1,
				       above[j - 1] + change);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1])
				row[j] = least(row[j], before[j - 2] + 1);
		}
		before = above;
		above = row;
		row = spare;
	}
	return above[b_len];
}

const char *name_nearest(const char *name, const char *const *candidates, size_t n)
{
	char wanted[COMPARED_MAX + 1], folded[COMPARED_MAX + 1];
	unsigned wanted_len = fold(name, wanted);
	const char *nearest = NULL;
	unsigned best = COMPARED_MAX;

	for (size_t i = 0; wanted_len && i < n; i++) {
		unsigned len = fold(candidates[i], folded);
		unsigned limit = ((len > wanted_len ? len : wanted_len) + 1) / 3;
		unsigned d;

		if (!len)
			continue;
		d = distance(wanted, wanted_len, folded, len);
		if (d > limit && wanted_len >= 3 && !strncmp(wanted, folded, wanted_len))
			d = limit; /* the beginning of a candidate */
		if (d <= limit && d < best) {
			best = d;
			nearest = candidates[i];
		}
	}
	return nearest;
}

struct name_hint name_hint(const char *name, const char *const *candidates, size_t n)
{
	const char *nearest = name_nearest(name, candidates, n);
	struct name_hint hint = { "there is none" };
	size_t len = 0;

	if (nearest) {
		snprintf(hint.s, sizeof(hint.s), "did you mean %s?",
			 name_quote(nearest).s);
		return hint;
	}
	for (size_t i = 0; i < n; i++) {
		const char *before = i ? ", " : "valid: ";

		if (len + strlen(before) + strlen(candidates[i]) + sizeof(", ...") >
		    sizeof(hint.s)) {
			snprintf(hint.s + len, sizeof(hint.s) - len, ", ...");
			break;
		}
		len += (size_t)snprintf(hint.s + len, sizeof(hint.s) - len, "%s%s",
					before, candidates[i]);
	}
	return hint;
}

struct name_quoted name_quote(const char *text)
{
	/* Room for the longest piece, the dots, a quote and the NUL. */
	const size_t end = NAME_QUOTED_SIZE - sizeof("\\xNN...\"");
	struct name_quoted quoted;
	char *s = quoted.s;
	size_t len = 0;

	s[len++] = '"';
	for (; *text && len < end; text++) {
		unsigned char c = (unsigned char)*text;

		if (c >= 0x20 && c < 0x7f)
			s[len++] = (char)c;
		else
			len += (size_t)snprintf(s + len, sizeof("\\xNN"), "\\x%02x", c);
	}
	snprintf(s + len, NAME_QUOTED_SIZE - len, *text ? "...\"" : "\"");
	return quoted;
}
