/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TESTS_TOOL_H
#define LUNFS_TESTS_TOOL_H

/* What the tools of the shell tests share: numbers, time, whole reads and writes,
 * random numbers that are the same for the same seed, memory for O_DIRECT. */

#include <err.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TOOL_WRONG = 1, TOOL_USAGE = 2, TOOL_IO = 3 }; /* exit codes */

/* "12", "64K", "1M", "2G". */
static inline uint64_t tool_number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 0);

	if (end != text && *end && strchr("KMG", *end)) {
		n <<= *end == 'G' ? 30 : *end == 'M' ? 20 : 10;
		end++;
	}
	if (*end || end == text)
		errx(TOOL_USAGE, "%s: not a number", text);
	return n;
}

static inline double tool_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* 0 or -errno; an end of file within the range is -ENODATA. */
static inline int tool_pread(int fd, void *buf, size_t size, uint64_t offset)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(fd, (char *)buf + done, size - done,
				  (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		done += (size_t)n;
	}
	return 0;
}

static inline int tool_pwrite(int fd, const void *buf, size_t size, uint64_t offset)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pwrite(fd, (const char *)buf + done, size - done,
				   (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

/* One step of splitmix64: a good hash of x, and by adding a generator. */
static inline uint64_t tool_mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

struct tool_random {
	uint64_t state;
};

static inline uint64_t tool_random(struct tool_random *r)
{
	r->state += UINT64_C(0x9e3779b97f4a7c15);
	return tool_mix(r->state);
}

/* 0 .. n - 1 */
static inline uint64_t tool_random_below(struct tool_random *r, uint64_t n)
{
	return n ? tool_random(r) % n : 0;
}

static inline void *tool_alloc(size_t size)
{
	void *p;

	if (posix_memalign(&p, 4096, size ? size : 1))
		errx(TOOL_IO, "out of memory");
	memset(p, 0, size);
	return p;
}

#endif
