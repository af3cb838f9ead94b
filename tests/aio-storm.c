/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * aio-storm write FILE SECONDS SEED LOG: random overlapping writes with O_DIRECT to
 * the first pages of FILE, DEPTH at once, with an fsync now and then; at most SECONDS,
 * or until an error.  Prints "begun" when the first fsync has succeeded; in the end "WRITES writes, FSYNCS fsyncs, ERRNO".
 *
 * aio-storm check FILE LOG acknowledged|synced: FILE holds what it may after that.
 * A write that began after another had been answered stands over it; of two that
 * overlap each other in time, one stands in all of what they share.  "synced": where
 * the first of them counts only once an fsync after it has succeeded.
 *
 * Each sector of a write holds the write's number, from 1 on.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	SECTOR = 512,
	PAGE = 4096,
	PAGES = 256,
	MAX_PAGES = 24, /* of a write */
	DEPTH = 32,
	SYNC_EVERY = 150,
	MAX_WRITES = 1000000,
};

struct write {
	uint32_t page, n_pages;
	uint64_t begin, end; /* turns of a clock of submissions and answers; end 0: none */
	uint64_t synced;     /* 1: an fsync that began after `end` has succeeded */
};

static struct write *writes;
static size_t n_writes;
static uint64_t now;

struct slot {
	struct iocb iocb;
	char *buf;
	size_t write;
	bool busy;
};

static void submit(aio_context_t context, int fd, struct slot *s)
{
	struct write *w = &writes[n_writes];
	struct iocb *list = &s->iocb;
	uint64_t number = n_writes + 1;

	w->n_pages = 1 + (uint32_t)(random() % MAX_PAGES);
	w->page = (uint32_t)(random() % (PAGES - (long)w->n_pages + 1));
	for (size_t i = 0; i < (size_t)w->n_pages * PAGE; i += sizeof(number))
		memcpy(s->buf + i, &number, sizeof(number));
	s->iocb = (struct iocb){
		.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = (unsigned)fd,
		.aio_buf = (uintptr_t)s->buf,
		.aio_nbytes = (uint64_t)w->n_pages * PAGE,
		.aio_offset = (int64_t)w->page * PAGE,
		.aio_data = (uintptr_t)s,
	};
	s->write = n_writes++;
	s->busy = true;
	w->begin = ++now;
	if (syscall(SYS_io_submit, context, 1, &list) != 1)
		err(1, "io_submit");
}

/* An answer; the error. */
static int answered(const struct io_event *event)
{
	struct slot *s = (struct slot *)(uintptr_t)event->data;

	s->busy = false;
	if (event->res != (int64_t)s->iocb.aio_nbytes)
		return event->res < 0 ? (int)-event->res : EIO;
	writes[s->write].end = ++now;
	return 0;
}

static int sync_file(int fd)
{
	size_t n = n_writes;
	uint64_t begin = ++now;

	if (fsync(fd) < 0)
		return errno;
	for (size_t i = n; i-- > 0 && !(writes[i].synced && i + 2 * DEPTH < n);)
		if (writes[i].end && writes[i].end < begin)
			writes[i].synced = 1;
	return 0;
}

static void storm(const char *path, unsigned seconds, unsigned seed, const char *log)
{
	int fd = open(path, O_RDWR | O_DIRECT), error = 0, busy = 0;
	time_t until = time(NULL) + (time_t)seconds;
	struct slot slots[DEPTH] = { 0 };
	size_t synced_at = 0, syncs = 0;
	struct io_event events[DEPTH];
	aio_context_t context = 0;
	FILE *f;

	if (fd < 0)
		err(1, "%s", path);
	if (syscall(SYS_io_setup, DEPTH, &context) < 0)
		err(1, "io_setup");
	srandom(seed);
	for (int i = 0; i < DEPTH; i++) {
		slots[i].buf = aligned_alloc(PAGE, MAX_PAGES * PAGE);
		if (!slots[i].buf)
			err(1, "memory");
	}
	do {
		for (int i = 0; i < DEPTH && !error && time(NULL) < until &&
				n_writes < MAX_WRITES;
		     i++)
			if (!slots[i].busy) {
				submit(context, fd, &slots[i]);
				busy++;
			}
		long n = busy ? syscall(SYS_io_getevents, context, 1, DEPTH, events, NULL) : 0;

		for (long i = 0; i < n; i++) {
			int r = answered(&events[i]);

			error = error ? error : r;
			busy--;
		}
		if (!error && n_writes >= synced_at + SYNC_EVERY) {
			error = sync_file(fd);
			synced_at = n_writes;
			if (!error && !syncs++) {
				puts("begun");
				fflush(stdout);
			}
		}
	} while (busy || (!error && time(NULL) < until));
	f = fopen(log, "w");
	if (!f || fwrite(writes, sizeof(*writes), n_writes, f) != n_writes || fclose(f))
		err(1, "%s", log);
	printf("%zu writes, %zu fsyncs, %s\n", n_writes, syncs,
	       error ? strerror(error) : "no error");
	for (int i = 0; i < DEPTH; i++)
		free(slots[i].buf);
	syscall(SYS_io_destroy, context);
	close(fd);
}

/* ---- check ----------------------------------------------------------------------- */

static bool covers(const struct write *w, uint32_t page)
{
	return w->page <= page && page < w->page + w->n_pages;
}

/* Whether `old` (NULL: what was there before all) may still be seen where w was. */
static void may_stand(const struct write *old, const struct write *w, bool synced,
		      uint32_t page)
{
	if (old == w || !(synced ? w->synced : w->end))
		return;
	if (!old || (old->end && old->end < w->begin))
		errx(1, "page %u: write %td stands, though %td came after it", page,
		     old ? old - writes + 1 : 0, w - writes + 1);
}

static void check(const char *path, const char *log, bool synced)
{
	static uint64_t pages[PAGES][PAGE / sizeof(uint64_t)] __attribute__((aligned(PAGE)));
	int fd = open(path, O_RDONLY | O_DIRECT);
	FILE *f = fopen(log, "r");

	if (fd < 0 || !f)
		err(1, "%s, %s", path, log);
	n_writes = fread(writes, sizeof(*writes), MAX_WRITES, f);
	fclose(f);
	if (pread(fd, pages, sizeof(pages), 0) != sizeof(pages))
		err(1, "%s", path);
	close(fd);
	for (uint32_t p = 0; p < PAGES; p++) {
		uint64_t number = pages[p][0];
		const struct write *here = number ? &writes[number - 1] : NULL;

		if (number > n_writes || (here && !covers(here, p)))
			errx(1, "page %u holds %llx", p, (unsigned long long)number);
		for (size_t i = 0; i < PAGE / sizeof(uint64_t); i += SECTOR / sizeof(uint64_t))
			if (pages[p][i] != number)
				errx(1, "page %u: %llu and %llu", p,
				     (unsigned long long)number,
				     (unsigned long long)pages[p][i]);
		for (size_t i = 0; i < n_writes; i++)
			if (covers(&writes[i], p))
				may_stand(here, &writes[i], synced, p);
	}
	/* After a crash a write may be there in part. */
	for (uint32_t p = 0; p < PAGES && !synced; p++)
		for (uint32_t q = p + 1; q < PAGES; q++) {
			uint64_t a = pages[p][0], b = pages[q][0];

			if (a != b && a && b && covers(&writes[a - 1], q) &&
			    covers(&writes[b - 1], p))
				errx(1, "pages %u and %u: a mixture of %llu and %llu", p, q,
				     (unsigned long long)a, (unsigned long long)b);
		}
	printf("%zu writes are right\n", n_writes);
}

int main(int argc, char **argv)
{
	writes = calloc(MAX_WRITES, sizeof(*writes));
	if (!writes)
		err(1, "memory");
	if (argc == 6 && !strcmp(argv[1], "write"))
		storm(argv[2], (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]), argv[5]);
	else if (argc == 5 && !strcmp(argv[1], "check"))
		check(argv[2], argv[3], !strcmp(argv[4], "synced"));
	else
		errx(2, "usage: aio-storm write FILE SECONDS SEED LOG | "
			"check FILE LOG acknowledged|synced");
	free(writes);
	return 0;
}
