/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TESTS_CRASHLOG_H
#define LUNFS_TESTS_CRASHLOG_H

/*
 * The log of what processes changed on disk: written by the shim libcrashlog.so
 * (crashlog.c) and by whoever adds marks, read by crashplay.  A row of records,
 * each appended by one write() to a file opened with O_APPEND, so that several
 * processes share one log.  The number of a record is its place, from 1.
 *
 * Order: one process changes things and appends under one lock, so its records
 * stand in the order in which the changes took effect.  What a process does
 * because it knows of another's change (an answer, a mark) stands after it.
 *
 * A write is recorded before it is made, so that nothing that follows from it can
 * stand before it; if it then fails or is short, CRASHLOG_RESULT says so.  All other
 * changes are recorded when they have succeeded.  A sync has two records: it covers
 * what stands before its begin, and that is durable from its end on.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CRASHLOG_MAGIC = 0x4c43464c };

enum crashlog_type {
	CRASHLOG_FILE = 1,   /* was there when the log began: path, ino, mode, size */
	CRASHLOG_CREATE,     /* path is a new file, directory or symbolic link (data) */
	CRASHLOG_UNLINK,     /* path, a file or a directory */
	CRASHLOG_RENAME,     /* path to path2 */
	CRASHLOG_LINK,	     /* path2, a further name of ino */
	CRASHLOG_WRITE,	     /* data at offset of ino; its token for RESULT, SYNC_* */
	CRASHLOG_RESULT,     /* the write `token` wrote `size` bytes only */
	CRASHLOG_TRUNCATE,   /* ino to size; by O_TRUNC: path */
	CRASHLOG_FALLOCATE,  /* ino, mode, offset, size */
	CRASHLOG_CHMOD,	     /* ino, mode */
	CRASHLOG_SYNC_BEGIN, /* of ino; token */
	CRASHLOG_SYNC_END,   /* the sync `token` has succeeded */
	CRASHLOG_WRITE_SYNC, /* the write `token` (O_DSYNC, RWF_DSYNC) is durable */
	CRASHLOG_ALL_BEGIN,  /* sync(), syncfs(): of everything; token */
	CRASHLOG_MARK,	     /* a test's word: path is the text */
	CRASHLOG_UNSEEN,     /* a change that cannot be followed: path says which */
};

/* path, path2 (each with its NUL) and data follow, zeros up to length. */
struct crashlog_record {
	uint32_t magic;
	uint32_t length; /* of all of it, a multiple of 8 */
	uint32_t type;
	uint32_t pid;
	uint64_t dev, ino;
	uint64_t token;
	uint64_t offset;
	uint64_t size;
	uint32_t mode;
	uint32_t path_len, path2_len; /* with the NUL; 0 = none */
	uint32_t data_len;
};

/* Appends a record; path, path2 and data may be NULL.  0 or -errno. */
static inline int crashlog_append(int fd, struct crashlog_record *r, const char *path,
				  const char *path2, const void *data, uint32_t data_len)
{
	static const char zeros[8];
	struct iovec v[5] = { { r, sizeof(*r) } };
	uint32_t length = sizeof(*r);
	ssize_t n;

	r->magic = CRASHLOG_MAGIC;
	r->pid = (uint32_t)getpid();
	r->path_len = path ? (uint32_t)strlen(path) + 1 : 0;
	r->path2_len = path2 ? (uint32_t)strlen(path2) + 1 : 0;
	r->data_len = data_len;
	v[1] = (struct iovec){ (void *)(uintptr_t)path, r->path_len };
	v[2] = (struct iovec){ (void *)(uintptr_t)path2, r->path2_len };
	v[3] = (struct iovec){ (void *)(uintptr_t)data, data_len };
	length += r->path_len + r->path2_len + data_len;
	v[4] = (struct iovec){ (void *)(uintptr_t)zeros, -length & 7 };
	r->length = length + (-length & 7);
	do {
		n = writev(fd, v, 5);
	} while (n < 0 && errno == EINTR);
	return n == r->length ? 0 : n < 0 ? -errno : -ENOSPC;
}

static inline int crashlog_open(const char *log)
{
	return open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

/* A test's word, after everything that it knows to have happened. */
static inline int crashlog_mark(int fd, const char *text)
{
	struct crashlog_record r = { .type = CRASHLOG_MARK };

	return crashlog_append(fd, &r, text, NULL, NULL, 0);
}

#endif
