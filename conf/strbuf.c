/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char strbuf_empty_[1];

void strbuf_done(struct strbuf *b)
{
	if (b->size)
		free(b->s);
	*b = STRBUF_INIT;
}

void strbuf_reset(struct strbuf *b)
{
	b->len = 0;
	if (b->size)
		b->s[0] = '\0';
}

static bool reserve(struct strbuf *b, size_t more)
{
	size_t size = b->size ? b->size : 64;
	char *s;

	if (b->failed)
		return false;
	while (size - b->len <= more)
		size *= 2;
	if (size == b->size)
		return true;
	s = realloc(b->size ? b->s : NULL, size);
	if (!s) {
		b->failed = true;
		return false;
	}
	if (!b->size)
		s[0] = '\0';
	b->s = s;
	b->size = size;
	return true;
}

void strbuf_add(struct strbuf *b, const void *data, size_t len)
{
	if (!len || !reserve(b, len))
		return;
	memcpy(b->s + b->len, data, len);
	b->len += len;
	b->s[b->len] = '\0';
}

void strbuf_adds(struct strbuf *b, const char *s)
{
	strbuf_add(b, s, strlen(s));
}

void strbuf_addc(struct strbuf *b, char c)
{
	strbuf_add(b, &c, 1);
}

void strbuf_vaddf(struct strbuf *b, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n <= 0 || !reserve(b, (size_t)n))
		return;
	vsnprintf(b->s + b->len, (size_t)n + 1, fmt, ap);
	b->len += (size_t)n;
}

void strbuf_addf(struct strbuf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strbuf_vaddf(b, fmt, ap);
	va_end(ap);
}

char *strbuf_steal(struct strbuf *b)
{
	char *s = NULL;

	if (!b->failed)
		s = b->size ? b->s : strdup("");
	if (b->size && !s)
		free(b->s);
	*b = STRBUF_INIT;
	return s;
}
