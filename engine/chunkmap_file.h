/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CHUNKMAP_FILE_H
#define LUNFS_CHUNKMAP_FILE_H

/*
 * The file of a chunk map: header block, mark, pages (layout in chunkmap.h).
 * For chunkmap*.c only.  All functions block and return -errno; a page's words
 * are in the machine's byte order outside, little endian in the file.
 */

#include <stddef.h>
#include <stdint.h>

#include "engine/chunkmap.h"

enum {
	CHUNKMAP_PAGE_SIZE = 4096,
	CHUNKMAP_PAGE_WORDS = CHUNKMAP_PAGE_SIZE / 8,
	CHUNKMAP_PAGE_CHUNKS = CHUNKMAP_PAGE_SIZE * 8,
};

int chunkmap_file_check_params(const struct chunkmap_params *params);
uint64_t chunkmap_file_n_chunks(const struct chunkmap_params *params);
uint64_t chunkmap_file_n_pages(const struct chunkmap_params *params);

/* A descriptor; -ESTALE and -EUCLEAN as chunkmap_open(). */
int chunkmap_file_open(int dirfd, const char *file, const struct chunkmap_params *params);

/* n pages from index on, into words[n * CHUNKMAP_PAGE_WORDS]. */
int chunkmap_file_read(int fd, uint64_t index, size_t n, uint64_t *words);

/* Writes one page without a sync; words are left as they are. */
int chunkmap_file_write(int fd, uint64_t index, const uint64_t *words);

int chunkmap_file_sync(int fd);

/* The first run of pages from index on that is not a hole; 0, or 1 with the
 * run in [*ret_index, *ret_end). */
int chunkmap_file_next_data(int fd, uint64_t index, uint64_t *ret_index,
			    uint64_t *ret_end);

int chunkmap_file_write_mark(int fd, const char *text);
int chunkmap_file_read_mark(int fd, char *buf, size_t size);

#endif
