/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/data.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "fs/perm.h"
#include "fs/tree.h"

enum {
	READ_MAX = 1024 * 1024, /* what the kernel asks for at most */
};

struct data_file {
	struct engine_handle *handle;
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

/* The calling thread's, of READ_MAX bytes; NULL: no memory. */
static char *own_buffer(void)
{
	char *buffer = pthread_getspecific(buffer_key);

	if (buffer)
		return buffer;
	buffer = malloc(READ_MAX);
	if (buffer && pthread_setspecific(buffer_key, buffer)) {
		free(buffer);
		buffer = NULL;
	}
	return buffer;
}

static struct data_file *file_of(const struct fuse_file_info *fi)
{
	return (struct data_file *)(uintptr_t)fi->fh;
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
	fi->fh = (uintptr_t)f;
	if (fuse_reply_open(req, fi) < 0)
		file_close(fs->data_files, f);
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

/* What takes longer than a look at memory. */
static void submit(fuse_req_t req, struct data_file *f, const struct engine_io *io)
{
	struct data_request *d = calloc(1, sizeof(*d));

	if (!d) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	d->req = req;
	d->io = *io;
	d->io.handle = f->handle;
	d->io.opaque = d;
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
	if (size > READ_MAX)
		size = READ_MAX;
	if (buffer)
		n = engine_data_try_read(f->handle, buffer, size, (uint64_t)offset);
	if (n >= 0)
		fuse_reply_buf(req, buffer, (size_t)n);
	else if (n == -EAGAIN)
		submit(req, f,
		       &(struct engine_io){ .op = ENGINE_IO_READ,
					    .offset = (uint64_t)offset,
					    .len = size,
					    .done = read_done });
	else
		fuse_reply_err(req, (int)-n);
}

void data_seek(struct fs *fs, fuse_req_t req, off_t offset, int whence,
	       struct fuse_file_info *fi)
{
	(void)fs;
	if (offset < 0) {
		fuse_reply_err(req, ENXIO);
		return;
	}
	submit(req, file_of(fi),
	       &(struct engine_io){ .op = whence == SEEK_DATA ? ENGINE_IO_SEEK_DATA :
								ENGINE_IO_SEEK_HOLE,
				    .offset = (uint64_t)offset,
				    .done = seek_done });
}

void data_release(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi)
{
	file_close(fs->data_files, file_of(fi));
	fuse_reply_err(req, 0);
}

int data_truncate(const struct stat *st, off_t size)
{
	return size == st->st_size ? 0 : -EROFS;
}
