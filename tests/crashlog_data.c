/* SPDX-License-Identifier: BSD-2-Clause */

/* libcrashlog.so: the calls that change what is in a file. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/crashlog_shim.h"

enum { PIECE = 1 << 20 };

/* ---- writes ---- */

struct wanted_write {
	int fd;
	const struct iovec *iov;
	int n;
	off_t offset; /* -1: where the descriptor stands */
	int flags;    /* RWF_* */
};

static ssize_t make_write(const struct wanted_write *w)
{
	if (w->offset < 0 && !w->flags)
		return syscall(SYS_writev, w->fd, w->iov, w->n);
	return syscall(SYS_pwritev2, w->fd, w->iov, (long)w->n, (long)w->offset, 0L,
		       w->flags);
}

static char *gather(const struct iovec *iov, int n, size_t *ret_size)
{
	size_t size = 0;
	char *buf, *p;

	for (int i = 0; i < n; i++)
		size += iov[i].iov_len;
	buf = p = malloc(size + 1);
	if (!buf)
		abort();
	for (int i = 0; i < n; i++) {
		if (iov[i].iov_len)
			memcpy(p, iov[i].iov_base, iov[i].iov_len);
		p += iov[i].iov_len;
	}
	*ret_size = size;
	return buf;
}

static ssize_t write_locked(const struct wanted_write *w, struct stat *st,
			    const char *data, size_t size)
{
	int flags = (int)syscall(SYS_fcntl, w->fd, F_GETFL);
	bool append = (flags & O_APPEND) || (w->flags & RWF_APPEND);
	struct crashlog_record r = { .type = CRASHLOG_WRITE }, after = { 0 };
	off_t at = w->offset >= 0 ? w->offset : lseek(w->fd, 0, SEEK_CUR);
	ssize_t n;

	fstat(w->fd, st);
	shim_set_inode(&r, st);
	r.size = 0;
	r.token = shim_token_locked();
	r.offset = (uint64_t)(append ? st->st_size : at);
	shim_append_locked(&r, NULL, NULL, data, size);
	n = make_write(w);
	after.token = r.token;
	after.size = n < 0 ? 0 : (uint64_t)n;
	if (n != (ssize_t)size) {
		after.type = CRASHLOG_RESULT;
		shim_append_locked(&after, NULL, NULL, NULL, 0);
	}
	if (n > 0 && ((flags & O_DSYNC) || (w->flags & (RWF_DSYNC | RWF_SYNC)))) {
		after.type = CRASHLOG_WRITE_SYNC;
		shim_append_locked(&after, NULL, NULL, NULL, 0);
	}
	return n;
}

static ssize_t log_write(struct wanted_write w)
{
	struct stat st;
	ssize_t n;
	size_t size;
	char *data;

	if (!shim_is_logged_fd(w.fd, &st, NULL))
		return make_write(&w);
	data = gather(w.iov, w.n, &size);
	pthread_mutex_lock(&shim_lock);
	n = write_locked(&w, &st, data, size);
	pthread_mutex_unlock(&shim_lock);
	free(data);
	return n;
}

/* What the kernel itself has written to fd (copies and clones), read back. */
static void log_range_locked(int fd, off_t offset, off_t end)
{
	struct crashlog_record r = { .type = CRASHLOG_WRITE };
	char *buf = malloc(PIECE);
	int saved = errno, from;
	struct stat st;
	char link[32];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	from = (int)syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC);
	if (!buf || from < 0 || fstat(from, &st) < 0)
		abort();
	while (offset < end) {
		ssize_t n = pread(from, buf,
				  end - offset < PIECE ? (size_t)(end - offset) : PIECE,
				  offset);

		if (n <= 0)
			break;
		shim_set_inode(&r, &st);
		r.size = 0;
		r.token = shim_token_locked();
		r.offset = (uint64_t)offset;
		shim_append_locked(&r, NULL, NULL, buf, (size_t)n);
		offset += n;
	}
	syscall(SYS_close, from);
	free(buf);
	errno = saved;
}

EXPORT ssize_t write(int fd, const void *buf, size_t size)
{
	struct iovec iov = { (void *)(uintptr_t)buf, size };
	struct stat st;

	if (!shim_is_logged_fd(fd, &st, NULL))
		return syscall(SYS_write, fd, buf, size);
	return log_write((struct wanted_write){ fd, &iov, 1, -1, 0 });
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
	return log_write((struct wanted_write){ fd, iov, n, -1, 0 });
}

static ssize_t log_pwrite(int fd, const void *buf, size_t size, off_t offset)
{
	struct iovec iov = { (void *)(uintptr_t)buf, size };

	if (offset < 0)
		return errno = EINVAL, -1;
	return log_write((struct wanted_write){ fd, &iov, 1, offset, 0 });
}

static ssize_t log_pwritev(int fd, const struct iovec *iov, int n, off_t offset,
			   int flags)
{
	if (offset < -1)
		return errno = EINVAL, -1;
	return log_write((struct wanted_write){ fd, iov, n, offset, flags });
}

EXPORT ssize_t pwrite(int fd, const void *buf, size_t size, off_t offset)
{
	return log_pwrite(fd, buf, size, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *buf, size_t size, off64_t offset)
{
	return log_pwrite(fd, buf, size, offset);
}

EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	return log_pwritev(fd, iov, n, offset, 0);
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *iov, int n, off64_t offset)
{
	return log_pwritev(fd, iov, n, offset, 0);
}

EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	return log_pwritev(fd, iov, n, offset, flags);
}

EXPORT ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off64_t offset,
			   int flags)
{
	return log_pwritev(fd, iov, n, offset, flags);
}

EXPORT ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at,
			       size_t size, unsigned flags)
{
	struct stat st;
	off_t at;
	ssize_t n;

	if (!shim_is_logged_fd(out, &st, NULL))
		return syscall(SYS_copy_file_range, in, in_at, out, out_at, size, flags);
	pthread_mutex_lock(&shim_lock);
	at = out_at ? *out_at : lseek(out, 0, SEEK_CUR);
	n = syscall(SYS_copy_file_range, in, in_at, out, out_at, size, flags);
	if (n > 0)
		log_range_locked(out, at, at + n);
	pthread_mutex_unlock(&shim_lock);
	return n;
}

static ssize_t log_sendfile(int out, int in, off_t *in_at, size_t size)
{
	struct stat st;
	off_t at;
	ssize_t n;

	if (!shim_is_logged_fd(out, &st, NULL))
		return syscall(SYS_sendfile, out, in, in_at, size);
	pthread_mutex_lock(&shim_lock);
	at = lseek(out, 0, SEEK_CUR);
	n = syscall(SYS_sendfile, out, in, in_at, size);
	if (n > 0)
		log_range_locked(out, at, at + n);
	pthread_mutex_unlock(&shim_lock);
	return n;
}

EXPORT ssize_t sendfile(int out, int in, off_t *in_at, size_t size)
{
	return log_sendfile(out, in, in_at, size);
}

EXPORT ssize_t sendfile64(int out, int in, off64_t *in_at, size_t size)
{
	return log_sendfile(out, in, in_at, size);
}

EXPORT ssize_t splice(int in, off64_t *in_at, int out, off64_t *out_at, size_t size,
		      unsigned flags)
{
	char path[PATH_MAX];
	struct stat st;

	if (shim_is_logged_fd(out, &st, path))
		shim_unseen("splice", path);
	return syscall(SYS_splice, in, in_at, out, out_at, size, flags);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	struct stat st;
	va_list ap;
	void *arg;
	int r;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if ((request != FICLONE && request != FICLONERANGE) ||
	    !shim_is_logged_fd(fd, &st, NULL))
		return (int)syscall(SYS_ioctl, fd, request, arg);
	pthread_mutex_lock(&shim_lock);
	r = (int)syscall(SYS_ioctl, fd, request, arg);
	if (r == 0 && fstat(fd, &st) == 0) {
		const struct file_clone_range *c = request == FICLONE ? NULL : arg;
		off_t from = c ? (off_t)c->dest_offset : 0;

		log_range_locked(fd, from,
				 c && c->src_length ? from + (off_t)c->src_length :
						      st.st_size);
	}
	pthread_mutex_unlock(&shim_lock);
	return r;
}

static void *log_mmap(void *addr, size_t size, int prot, int flags, int fd, off_t offset)
{
	char path[PATH_MAX];
	struct stat st;
	size_t n;

	if (fd >= 0 && (prot & PROT_WRITE) && (flags & MAP_TYPE) != MAP_PRIVATE &&
	    shim_is_logged_fd(fd, &st, path)) {
		n = strlen(path);
		if (n < 4 || strcmp(path + n - 4, "-shm"))
			shim_unseen("mmap", path);
	}
	return (void *)syscall(SYS_mmap, addr, size, prot, flags, fd, offset);
}

EXPORT void *mmap(void *addr, size_t size, int prot, int flags, int fd, off_t offset)
{
	return log_mmap(addr, size, prot, flags, fd, offset);
}

EXPORT void *mmap64(void *addr, size_t size, int prot, int flags, int fd, off64_t offset)
{
	return log_mmap(addr, size, prot, flags, fd, offset);
}

/* ---- sizes, space, modes ---- */

static int log_size(int fd, off_t size)
{
	struct stat st;
	int r;

	if (!shim_is_logged_fd(fd, &st, NULL))
		return (int)syscall(SYS_ftruncate, fd, size);
	pthread_mutex_lock(&shim_lock);
	r = (int)syscall(SYS_ftruncate, fd, size);
	st.st_size = size;
	if (r == 0)
		shim_log_inode_locked(CRASHLOG_TRUNCATE, &st, NULL);
	pthread_mutex_unlock(&shim_lock);
	return r;
}

EXPORT int ftruncate(int fd, off_t size)
{
	return log_size(fd, size);
}

EXPORT int ftruncate64(int fd, off64_t size)
{
	return log_size(fd, size);
}

static int log_size_of_name(const char *name, off_t size)
{
	int fd = open(name, O_WRONLY | O_CLOEXEC), r, saved;

	if (fd < 0)
		return -1;
	r = log_size(fd, size);
	saved = errno;
	syscall(SYS_close, fd);
	errno = saved;
	return r;
}

EXPORT int truncate(const char *name, off_t size)
{
	return log_size_of_name(name, size);
}

EXPORT int truncate64(const char *name, off64_t size)
{
	return log_size_of_name(name, size);
}

static int log_space(int fd, int mode, off_t offset, off_t size)
{
	struct crashlog_record rec = { .type = CRASHLOG_FALLOCATE };
	struct stat st;
	int r;

	if (!shim_is_logged_fd(fd, &st, NULL))
		return (int)syscall(SYS_fallocate, fd, mode, offset, size);
	pthread_mutex_lock(&shim_lock);
	r = (int)syscall(SYS_fallocate, fd, mode, offset, size);
	if (r == 0) {
		shim_set_inode(&rec, &st);
		rec.mode = (uint32_t)mode;
		rec.offset = (uint64_t)offset;
		rec.size = (uint64_t)size;
		shim_append_locked(&rec, NULL, NULL, NULL, 0);
	}
	pthread_mutex_unlock(&shim_lock);
	return r;
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t size)
{
	return log_space(fd, mode, offset, size);
}

EXPORT int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
	return log_space(fd, mode, offset, size);
}

/* Not what the C library does where the file system cannot: that would be writes. */
EXPORT int posix_fallocate(int fd, off_t offset, off_t size)
{
	return log_space(fd, 0, offset, size) < 0 ? errno : 0;
}

EXPORT int posix_fallocate64(int fd, off64_t offset, off64_t size)
{
	return log_space(fd, 0, offset, size) < 0 ? errno : 0;
}

EXPORT int fchmod(int fd, mode_t mode)
{
	struct stat st;
	bool logged = shim_is_logged_fd(fd, &st, NULL);
	int r;

	pthread_mutex_lock(&shim_lock);
	r = (int)syscall(SYS_fchmod, fd, mode);
	st.st_mode = mode;
	if (r == 0 && logged)
		shim_log_inode_locked(CRASHLOG_CHMOD, &st, NULL);
	pthread_mutex_unlock(&shim_lock);
	return r;
}

EXPORT int fchmodat(int dirfd, const char *name, mode_t mode, int flags)
{
	char path[PATH_MAX];
	struct stat st;
	bool logged = shim_is_logged_name(dirfd, name, path);
	int r;

	pthread_mutex_lock(&shim_lock);
	/* The flags are the C library's work; no file system has links with modes. */
	r = flags ? (errno = EOPNOTSUPP, -1) :
		    (int)syscall(SYS_fchmodat, dirfd, name, mode);
	if (r == 0 && logged && fstatat(dirfd, name, &st, 0) == 0) {
		st.st_mode = mode;
		shim_log_inode_locked(CRASHLOG_CHMOD, &st, NULL);
	}
	pthread_mutex_unlock(&shim_lock);
	return r;
}

EXPORT int chmod(const char *name, mode_t mode)
{
	return fchmodat(AT_FDCWD, name, mode, 0);
}
