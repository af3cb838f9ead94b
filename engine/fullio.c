/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/fullio.h"

#include <errno.h>
#include <unistd.h>

int fullio_read(int fd, void *buf, size_t size, uint64_t offset)
{
	while (size > 0) {
		ssize_t n = pread(fd, buf, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EUCLEAN;
		buf = (char *)buf + n;
		size -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int fullio_write(int fd, const void *buf, size_t size, uint64_t offset)
{
	while (size > 0) {
		ssize_t n = pwrite(fd, buf, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		buf = (const char *)buf + n;
		size -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}
