/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * aio-write FILE N [OFFSET [dsync]]: writes N pages with O_DIRECT, from OFFSET on,
 * all at once, and waits for all; with dsync O_DSYNC too.  Page i is full of the
 * byte i.  Prints "submitted N", then "written N", or the first error.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096 };

static aio_context_t make_context(unsigned n)
{
	aio_context_t context = 0;

	if (syscall(SYS_io_setup, n, &context) < 0)
		err(1, "io_setup");
	return context;
}

static void submit(aio_context_t context, int fd, char *pages, unsigned n,
		   uint64_t offset)
{
	for (unsigned i = 0; i < n; i++) {
		struct iocb iocb = { 0 }, *list = &iocb;

		memset(pages + (size_t)i * PAGE, (int)i, PAGE);
		iocb.aio_lio_opcode = IOCB_CMD_PWRITE;
		iocb.aio_fildes = (unsigned)fd;
		iocb.aio_buf = (uintptr_t)pages + (uint64_t)i * PAGE;
		iocb.aio_nbytes = PAGE;
		iocb.aio_offset = (int64_t)(offset + (uint64_t)i * PAGE);
		if (syscall(SYS_io_submit, context, 1L, &list) != 1)
			err(1, "io_submit");
	}
	printf("submitted %u\n", n);
	fflush(stdout);
}

static void wait_for_all(aio_context_t context, unsigned n)
{
	int error = 0;

	for (unsigned i = 0; i < n; i++) {
		struct io_event event;

		if (syscall(SYS_io_getevents, context, 1L, 1L, &event, NULL) != 1)
			err(1, "io_getevents");
		if (event.res < 0 && !error)
			error = (int)-event.res;
		else if (event.res >= 0 && event.res != PAGE)
			errx(1, "a short write: %lld", (long long)event.res);
	}
	if (error)
		errx(1, "%s", strerror(error));
	printf("written %u\n", n);
}

int main(int argc, char **argv)
{
	unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
	uint64_t offset = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;
	int flags = argc > 4 ? O_DSYNC : 0;
	aio_context_t context;
	char *pages;
	int fd;

	if (!n)
		errx(2, "usage: aio-write FILE N [OFFSET [dsync]]");
	fd = open(argv[1], O_WRONLY | O_DIRECT | flags);
	if (fd < 0)
		err(1, "%s", argv[1]);
	pages = aligned_alloc(PAGE, (size_t)n * PAGE);
	if (!pages)
		err(1, "%u pages", n);
	context = make_context(n);
	submit(context, fd, pages, n, offset);
	wait_for_all(context, n);
	free(pages);
	return 0;
}
