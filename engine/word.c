/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/word.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool word_next(const char **text, const char *end, char *buf, size_t size,
	       size_t *ret_len)
{
	const char *p = *text, *from;
	size_t n;

	while (p < end && is_blank(*p))
		p++;
	from = p;
	while (p < end && !is_blank(*p))
		p++;
	*text = p;
	*ret_len = (size_t)(p - from);
	n = *ret_len < size - 1 ? *ret_len : size - 1;
	memcpy(buf, from, n);
	buf[n] = '\0';
	return *ret_len > 0;
}

bool word_line(const char *text, size_t len, char *buf, size_t size)
{
	const char *end = text + len;

	while (text < end && is_blank(*text))
		text++;
	while (end > text && is_blank(end[-1]))
		end--;
	len = (size_t)(end - text);
	if (len >= size || memchr(text, '\n', len) || memchr(text, '\0', len))
		return false;
	memcpy(buf, text, len);
	buf[len] = '\0';
	return true;
}

int word_bool(const char *text, size_t len, bool *ret_value)
{
	static const char *const words[2][4] = { { "false", "no", "0", "off" },
						 { "true", "yes", "1", "on" } };
	char word[8];

	if (!word_line(text, len, word, sizeof(word)))
		return -EINVAL;
	for (int value = 0; value < 2; value++)
		for (int i = 0; i < 4; i++)
			if (!strcasecmp(word, words[value][i])) {
				*ret_value = value;
				return 0;
			}
	return -EINVAL;
}
