/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_ZEROS_H
#define LUNFS_ZEROS_H

#include <stdbool.h>
#include <string.h>

/* Whether len (at least 1) bytes are all zero. */
static inline bool zeros_only(const char *p, size_t len)
{
	static const char zeros[16];

	if (len <= 16)
		return !memcmp(p, zeros, len);
	/* The first bytes decide nearly always; the rest is compared with itself, 16
	 * bytes on. */
	return !memcmp(p, zeros, 16) && !memcmp(p, p + 16, len - 16);
}

#endif
