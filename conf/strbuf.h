/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_STRBUF_H
#define LUNFS_STRBUF_H

/*
 * A text that grows.  Initialise with STRBUF_INIT, add, look at .s and .len,
 * end with strbuf_done() (or mark the variable CLEANUP_STRBUF).  .s is always
 * terminated by a NUL that .len does not count, and is "" before the first
 * addition.  When memory runs out, the buffer keeps what it has, .failed is
 * set and further additions do nothing: test it once, at the end.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct strbuf {
	char *s;
	size_t len;
	size_t size; /* bytes allocated; 0 while .s is the static "" */
	bool failed;
};

extern char strbuf_empty_[1];
#define STRBUF_INIT                                                              \
	(struct strbuf)                                                          \
	{                                                                        \
		.s = strbuf_empty_                                               \
	}
#define CLEANUP_STRBUF __attribute__((cleanup(strbuf_done)))

void strbuf_done(struct strbuf *b);
void strbuf_reset(struct strbuf *b); /* empties, keeps the memory */
void strbuf_add(struct strbuf *b, const void *data, size_t len);
void strbuf_adds(struct strbuf *b, const char *s);
void strbuf_addc(struct strbuf *b, char c);
void strbuf_addf(struct strbuf *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void strbuf_vaddf(struct strbuf *b, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

/* The text, to be freed by the caller; the buffer is empty afterwards.  NULL
 * if memory ran out at any time before. */
char *strbuf_steal(struct strbuf *b);

#endif
