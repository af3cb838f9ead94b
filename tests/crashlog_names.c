/* SPDX-License-Identifier: BSD-2-Clause */

/* libcrashlog.so: the calls that make, move and remove names. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/crashlog_shim.h"

/* ---- names ---- */

static int log_open(int dirfd, const char *name, int flags, mode_t mode)
{
	struct stat before, st;
	char path[PATH_MAX];
	bool existed;
	int fd;

	if (!(flags & (O_CREAT | O_TRUNC | __O_TMPFILE)) ||
	    !shim_is_logged_name(dirfd, name, path))
		return (int)syscall(SYS_openat, dirfd, name, flags, mode);
	if ((flags & O_TMPFILE) == O_TMPFILE)
		shim_unseen("O_TMPFILE", path);
	pthread_mutex_lock(&shim_lock);
	existed = fstatat(dirfd, name, &before, 0) == 0;
	fd = (int)syscall(SYS_openat, dirfd, name, flags, mode);
	if (fd >= 0 && fstat(fd, &st) == 0) {
		if (!existed)
			shim_log_inode_locked(CRASHLOG_CREATE, &st, path);
		else if ((flags & O_TRUNC) && before.st_size > 0)
			shim_log_inode_locked(CRASHLOG_TRUNCATE, &st, path);
	}
	pthread_mutex_unlock(&shim_lock);
	return fd;
}

#define OPEN_MODE(flags)                                 \
	({                                               \
		mode_t mode_ = 0;                        \
		va_list ap_;                             \
                                                         \
		if ((flags) & (O_CREAT | __O_TMPFILE)) { \
			va_start(ap_, flags);            \
			mode_ = va_arg(ap_, mode_t);     \
			va_end(ap_);                     \
		}                                        \
		mode_;                                   \
	})

EXPORT int open(const char *name, int flags, ...)
{
	return log_open(AT_FDCWD, name, flags, OPEN_MODE(flags));
}

EXPORT int open64(const char *name, int flags, ...)
{
	return log_open(AT_FDCWD, name, flags, OPEN_MODE(flags));
}

EXPORT int openat(int dirfd, const char *name, int flags, ...)
{
	return log_open(dirfd, name, flags, OPEN_MODE(flags));
}

EXPORT int openat64(int dirfd, const char *name, int flags, ...)
{
	return log_open(dirfd, name, flags, OPEN_MODE(flags));
}

EXPORT int creat(const char *name, mode_t mode)
{
	return log_open(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

EXPORT int creat64(const char *name, mode_t mode)
{
	return log_open(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* What -D_FORTIFY_SOURCE makes of an open without a mode. */
EXPORT int __open_2(const char *name, int flags);
EXPORT int __open64_2(const char *name, int flags);
EXPORT int __openat_2(int dirfd, const char *name, int flags);
EXPORT int __openat64_2(int dirfd, const char *name, int flags);

int __open_2(const char *name, int flags)
{
	return log_open(AT_FDCWD, name, flags, 0);
}

int __open64_2(const char *name, int flags)
{
	return log_open(AT_FDCWD, name, flags, 0);
}

int __openat_2(int dirfd, const char *name, int flags)
{
	return log_open(dirfd, name, flags, 0);
}

int __openat64_2(int dirfd, const char *name, int flags)
{
	return log_open(dirfd, name, flags, 0);
}

EXPORT int mkdirat(int dirfd, const char *name, mode_t mode)
{
	char path[PATH_MAX];
	struct stat st;
	bool logged = shim_is_logged_name(dirfd, name, path);
	int r;

	pthread_mutex_lock(&shim_lock);
	r = (int)syscall(SYS_mkdirat, dirfd, name, mode);
	if (r == 0 && logged && fstatat(dirfd, name, &st, 0) == 0)
		shim_log_inode_locked(CRASHLOG_CREATE, &st, path);
	pthread_mutex_unlock(&shim_lock);
	return r;
}

EXPORT int mkdir(const char *name, mode_t mode)
{
	return mkdirat(AT_FDCWD, name, mode);
}

EXPORT int symlinkat(const char *target, int dirfd, const char *name)
{
	struct crashlog_record rec = { .type = CRASHLOG_CREATE };
	char path[PATH_MAX];
	struct stat st;
	bool logged = shim_is_logged_name(dirfd, name, path);
	int r;

	pthread_mutex_lock(&shim_lock);
	r = (int)syscall(SYS_symlinkat, target, dirfd, name);
	if (r == 0 && logged && fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		shim_set_inode(&rec, &st);
		shim_append_locked(&rec, path, NULL, target, strlen(target) + 1);
	}
	pthread_mutex_unlock(&shim_lock);
	return r;
}

EXPORT int symlink(const char *target, const char *name)
{
	return symlinkat(target, AT_FDCWD, name);
}

EXPORT int unlinkat(int dirfd, const char *name, int flags)
{
	struct stat st = { 0 };
	char path[PATH_MAX];
	bool logged = shim_is_logged_name(dirfd, name, path);
	int r;

	pthread_mutex_lock(&shim_lock);
	if (logged)
		fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW);
	r = (int)syscall(SYS_unlinkat, dirfd, name, flags);
	if (r == 0 && logged)
		shim_log_inode_locked(CRASHLOG_UNLINK, &st, path);
	pthread_mutex_unlock(&shim_lock);
	return r;
}

EXPORT int unlink(const char *name)
{
	return unlinkat(AT_FDCWD, name, 0);
}

EXPORT int rmdir(const char *name)
{
	return unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
}

EXPORT int remove(const char *name)
{
	int r = unlink(name);

	return r < 0 && errno == EISDIR ? rmdir(name) : r;
}

/* A rename or a link: both names are below the directories, or what came from
 * outside cannot be followed, and what went outside is gone. */
static void log_two_names_locked(unsigned type, int dirfd, const char *name, bool from,
				 bool to, const char *path, const char *path2)
{
	struct crashlog_record r = { .type = type };
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		abort();
	shim_set_inode(&r, &st);
	if (from && to) {
		shim_append_locked(&r, path, path2, NULL, 0);
	} else if (from && type == CRASHLOG_RENAME) {
		r.type = CRASHLOG_UNLINK;
		shim_append_locked(&r, path, NULL, NULL, 0);
	} else if (to) {
		r.type = CRASHLOG_UNSEEN;
		shim_append_locked(&r, path2, NULL, NULL, 0);
	}
}

EXPORT int renameat2(int fd, const char *name, int fd2, const char *name2, unsigned flags)
{
	char path[PATH_MAX], path2[PATH_MAX];
	bool from = shim_is_logged_name(fd, name, path),
	     to = shim_is_logged_name(fd2, name2, path2);
	int r;

	if ((from || to) && (flags & ~RENAME_NOREPLACE))
		shim_unseen("renameat2", path);
	pthread_mutex_lock(&shim_lock);
	r = (int)syscall(SYS_renameat2, fd, name, fd2, name2, flags);
	if (r == 0 && (from || to))
		log_two_names_locked(CRASHLOG_RENAME, fd2, name2, from, to, path, path2);
	pthread_mutex_unlock(&shim_lock);
	return r;
}

EXPORT int renameat(int fd, const char *name, int fd2, const char *name2)
{
	return renameat2(fd, name, fd2, name2, 0);
}

EXPORT int rename(const char *name, const char *name2)
{
	return renameat2(AT_FDCWD, name, AT_FDCWD, name2, 0);
}

EXPORT int linkat(int fd, const char *name, int fd2, const char *name2, int flags)
{
	char path[PATH_MAX], path2[PATH_MAX];
	bool from = shim_is_logged_name(fd, name, path),
	     to = shim_is_logged_name(fd2, name2, path2);
	int r;

	pthread_mutex_lock(&shim_lock);
	r = (int)syscall(SYS_linkat, fd, name, fd2, name2, flags);
	if (r == 0 && to)
		log_two_names_locked(CRASHLOG_LINK, fd2, name2, from, to, path, path2);
	pthread_mutex_unlock(&shim_lock);
	return r;
}

EXPORT int link(const char *name, const char *name2)
{
	return linkat(AT_FDCWD, name, AT_FDCWD, name2, 0);
}
