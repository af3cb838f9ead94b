/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/data.h"

/*
 * One request of the kernel is one request of the engine; none waits for another
 * here, and the order of overlapping ones is the engine's.
 *
 * O_SYNC.  Linux sends FSYNC after a write with O_SYNC, O_DSYNC or RWF_DSYNC
 * (generic_write_sync()), but neither where the process does not wait for the
 * write (AIO and io_uring with O_DIRECT), nor on a file that was opened with
 * direct_io.  There the write is flushed here before it is answered.  Synchronous
 * O_DIRECT looks the same from here and is flushed twice.
 *
 * Writes from the page cache (a shared mapping's) come on any handle that the
 * inode was mapped through for writing, without the flags of open.
 *
 * The end.  Nothing extends an element.  The kernel takes a short answer to a part
 * of an O_DIRECT write for EIO, so that one is ENOSPC as a whole.  Where an O_APPEND
 * write begins is the kernel's guess of the size, which may be old, or 0 before the
 * size is known: it is ENOSPC, whatever its offset.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "fs/perm.h"
#include "fs/tree.h"

struct data_file {
	struct engine_handle *handle;
	bool can_write;
	bool is_dsync;		    /* O_SYNC or O_DSYNC */
	bool is_uncached;	    /* direct_io: the size was not known */
	LIST_ENTRY(data_file) link; /* under the lock of data_files */
};

/* What is open, for the end: files may stay open longer than the daemon. */
struct data_files {
	pthread_mutex_t lock;
	LIST_HEAD(, data_file) list;
};

/* A request that waits for the engine. */
struct data_request {
	struct engine_io io;
	fuse_req_t req;

	/* Changes. */
	bool is_write;
	bool flush_after;  /* answered when it is durable */
	bool all_or_error; /* WRITE: a short one is ENOSPC */
	size_t written;
};

static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;
static pthread_key_t buffer_key;
static int buffer_error;

static void make_buffer_key(void)
{
	buffer_error = -pthread_key_create(&buffer_key, free);
}

int data_init(void)
{
	pthread_once(&buffer_once, make_buffer_key);
	return buffer_error;
}

struct data_files *data_files_new(void)
{
	struct data_files *files = calloc(1, sizeof(*files));

	if (!files)
		return NULL;
	pthread_mutex_init(&files->lock, NULL);
	LIST_INIT(&files->list);
	return files;
}

static void file_close(struct data_files *files, struct data_file *f)
{
	pthread_mutex_lock(&files->lock);
	LIST_REMOVE(f, link);
	pthread_mutex_unlock(&files->lock);
	engine_data_close(f->handle);
	free(f);
}

void data_files_free(struct data_files *files)
{
	struct data_file *f;

	if (!files)
		return;
	while ((f = LIST_FIRST(&files->list)))
		file_close(files, f);
	pthread_mutex_destroy(&files->lock);
	free(files);
}

/* The calling thread's, of ENGINE_IO_MAX bytes; NULL: no memory. */
static char *own_buffer(void)
{
	char *buffer = pthread_getspecific(buffer_key);

	if (buffer)
		return buffer;
	buffer = malloc(ENGINE_IO_MAX);
	if (buffer && pthread_setspecific(buffer_key, buffer)) {
		free(buffer);
		buffer = NULL;
	}
	return buffer;
}

/* Other files' fh are addresses too, and even. */
static uint64_t fh_of(const struct data_file *f)
{
	return (uintptr_t)f | 1;
}

bool data_is_file(uint64_t fh)
{
	return fh & 1;
}

static struct data_file *file_of(const struct fuse_file_info *fi)
{
	return (struct data_file *)(uintptr_t)(fi->fh & ~UINT64_C(1));
}

static int open_element(struct fs *fs, const struct node *node, bool write, pid_t pid,
			struct data_file **ret_file, struct fuse_file_info *fi)
{
	struct element_info info;
	struct data_file *f;
	int r;

	r = engine_element_info(fs->engine, node->id, &info);
	if (r < 0)
		return r;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	r = engine_data_open(fs->engine, node->id, write, pid, &f->handle);
	if (r < 0) {
		free(f);
		return r;
	}
	/* Others write a `shared` element unseen: nothing cached outlives an
	 * open.  While the size is not known, the kernel must not take it for 0:
	 * without its cache every read gets to the engine, which waits. */
	fi->keep_cache = info.exclusive;
	fi->direct_io = !info.known;
	f->can_write = write;
	f->is_dsync = fi->flags & O_DSYNC;
	f->is_uncached = fi->direct_io;
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&fs->data_files->lock);
	LIST_INSERT_HEAD(&fs->data_files->list, f, link);
	*ret_file = f;
	return 0;
}

void data_open(struct fs *fs, fuse_req_t req, const struct node *node,
	       struct fuse_file_info *fi)
{
	int access = fi->flags & O_ACCMODE;
	bool write = access != O_RDONLY;
	struct data_file *f;
	struct stat st;
	int r;

	tree_mode(fs, node, &st);
	r = perm_check_req(req, &st,
			   (write ? W_OK : 0) | (access == O_WRONLY ? 0 : R_OK));
	if (!r)
		r = open_element(fs, node, write, fuse_req_ctx(req)->pid, &f, fi);
	if (r < 0) {
		/* ESTALE has the kernel look the name up again. */
		fuse_reply_err(req, r == -ENOENT ? ESTALE : -r);
		return;
	}
	fi->fh = fh_of(f);
	if (fuse_reply_open(req, fi) < 0)
		file_close(fs->data_files, f);
}

/* ---- requests ---------------------------------------------------------------- */

/* NULL: no memory, the request has been answered. */
static struct data_request *request_new(fuse_req_t req, struct data_file *f,
					enum engine_io_op op, off_t offset)
{
	struct data_request *d = calloc(1, sizeof(*d));

	if (!d) {
		fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	d->req = req;
	d->io.op = op;
	d->io.handle = f->handle;
	d->io.offset = (uint64_t)offset;
	d->io.opaque = d;
	return d;
}

static void read_done(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct data_request *d = io->opaque;

	if (error)
		fuse_reply_err(d->req, -error);
	else
		fuse_reply_buf(d->req, buf, n);
	free(d);
}

static void submit_read(fuse_req_t req, struct data_file *f, size_t size, off_t offset)
{
	struct data_request *d = request_new(req, f, ENGINE_IO_READ, offset);

	if (!d)
		return;
	d->io.len = size;
	d->io.done = read_done;
	engine_data_submit(&d->io);
}

void data_read(struct fs *fs, fuse_req_t req, size_t size, off_t offset,
	       struct fuse_file_info *fi)
{
	struct data_file *f = file_of(fi);
	char *buffer = own_buffer();
	ssize_t n = -EAGAIN;

	(void)fs;
	if (offset < 0) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	if (size > ENGINE_IO_MAX)
		size = ENGINE_IO_MAX;
	if (buffer)
		n = engine_data_try_read(f->handle, buffer, size, (uint64_t)offset);
	if (n >= 0)
		fuse_reply_buf(req, buffer, (size_t)n);
	else if (n == -EAGAIN)
		submit_read(req, f, size, offset);
	else
		fuse_reply_err(req, (int)-n);
}

static void seek_done(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct data_request *d = io->opaque;

	(void)buf;
	(void)n;
	if (error)
		fuse_reply_err(d->req, -error);
	else
		fuse_reply_lseek(d->req, (off_t)io->result);
	free(d);
}

void data_seek(struct fs *fs, fuse_req_t req, off_t offset, int whence,
	       struct fuse_file_info *fi)
{
	struct data_request *d;

	(void)fs;
	if (offset < 0) {
		fuse_reply_err(req, ENXIO);
		return;
	}
	d = request_new(req, file_of(fi),
			whence == SEEK_DATA ? ENGINE_IO_SEEK_DATA : ENGINE_IO_SEEK_HOLE,
			offset);
	if (!d)
		return;
	d->io.done = seek_done;
	engine_data_submit(&d->io);
}

/* ---- changes ----------------------------------------------------------------- */

static void answer_change(struct data_request *d, int error)
{
	if (error)
		fuse_reply_err(d->req, -error);
	else if (d->is_write)
		fuse_reply_write(d->req, d->written);
	else
		fuse_reply_err(d->req, 0);
	free(d);
}

static void flush_done(struct engine_io *io, int error, const void *buf, size_t n)
{
	(void)buf;
	(void)n;
	answer_change(io->opaque, error);
}

/* Makes a change that has been carried out durable, then answers it. */
static void flush_change(struct data_request *d)
{
	d->io = (struct engine_io){ .op = ENGINE_IO_FLUSH,
				    .handle = d->io.handle,
				    .done = flush_done,
				    .opaque = d };
	engine_data_submit(&d->io);
}

static void change_done(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct data_request *d = io->opaque;

	(void)buf;
	if (!error && d->all_or_error && n < io->len)
		error = -ENOSPC;
	d->written = n;
	if (!error && d->flush_after)
		flush_change(d);
	else
		answer_change(d, error);
}

static bool flushes_write(const struct data_file *f, const struct fuse_file_info *fi)
{
	return fi->flags & O_DSYNC && (fi->flags & O_DIRECT || f->is_uncached);
}

static int check_write(const struct data_file *f, off_t offset,
		       const struct fuse_file_info *fi)
{
	if (!f->can_write)
		return -EBADF;
	if (offset < 0)
		return -EINVAL;
	return fi->flags & O_APPEND ? -ENOSPC : 0;
}

void data_write(struct fs *fs, fuse_req_t req, const char *buf, size_t size, off_t offset,
		struct fuse_file_info *fi)
{
	struct data_file *f = file_of(fi);
	struct data_request *d;
	int r = check_write(f, offset, fi);

	(void)fs;
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	d = request_new(req, f, ENGINE_IO_WRITE, offset);
	if (!d)
		return;
	d->io.len = size;
	d->io.data = buf;
	d->io.done = change_done;
	d->is_write = true;
	d->flush_after = flushes_write(f, fi);
	d->all_or_error = fi->flags & O_DIRECT;
	engine_data_submit(&d->io);
}

void data_fsync(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi)
{
	struct data_request *d = request_new(req, file_of(fi), ENGINE_IO_FLUSH, 0);

	(void)fs;
	if (!d)
		return;
	d->io.done = flush_done;
	engine_data_submit(&d->io);
}

/*
 * As on a block device: zeros within the size, where KEEP_SIZE cuts a range at the
 * end.  Space cannot be promised ahead (posix_fallocate(3) then writes); to ask for
 * more than there is has its own answer.  A size that is not known is the engine's
 * to check.
 */
static int check_fallocate(const struct element_info *info, int mode, uint64_t offset,
			   uint64_t length)
{
	bool keeps_size = mode & FALLOC_FL_KEEP_SIZE;
	bool is_past_end = info->known && offset + length > info->size;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
		return is_past_end && !keeps_size ? -ENOSPC : -EOPNOTSUPP;
	return is_past_end && (!keeps_size || offset >= info->size) ? -EINVAL : 0;
}

void data_fallocate(struct fs *fs, fuse_req_t req, const struct node *node, int mode,
		    off_t offset, off_t length, struct fuse_file_info *fi)
{
	struct data_file *f = file_of(fi);
	struct element_info info;
	struct data_request *d;
	int r = f->can_write ? 0 : -EBADF;

	if (!r && (offset < 0 || length <= 0))
		r = -EINVAL;
	if (!r)
		r = engine_element_info(fs->engine, node->id, &info);
	if (!r)
		r = check_fallocate(&info, mode, (uint64_t)offset, (uint64_t)length);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	d = request_new(req, f, ENGINE_IO_ZERO, offset);
	if (!d)
		return;
	d->io.len = (uint64_t)length;
	d->io.done = change_done;
	d->flush_after = f->is_dsync;
	engine_data_submit(&d->io);
}

void data_release(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi)
{
	file_close(fs->data_files, file_of(fi));
	fuse_reply_err(req, 0);
}

int data_truncate(const struct stat *st, off_t size)
{
	return !size || size == st->st_size ? 0 : -EINVAL;
}
