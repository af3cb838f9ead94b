/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_FULLIO_H
#define LUNFS_FULLIO_H

/* pread() and pwrite() of all that was asked for.  They block.  0 or -errno. */

#include <stddef.h>
#include <stdint.h>

/* -EUCLEAN: the file ends before that. */
int fullio_read(int fd, void *buf, size_t size, uint64_t offset);
int fullio_write(int fd, const void *buf, size_t size, uint64_t offset);

#endif
