/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * `null:SIZE`: reads are zeros, writes vanish, everything is answered before
 * the submission returns.  For tests and to measure what is above.  The login
 * and the end are works where there are workers, else done on the spot.
 */

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/blockdev.h"
#include "engine/workers.h"

enum {
	MAX_TRANSFER = 1 << 20,
	OPT_TRANSFER = 256 << 10,
};

struct bd_null {
	struct blockdev base; /* first */
	struct workers *workers;
	uint64_t size;
	bool read_only;
	atomic_uint refs; /* the open device, the login */
	struct work login;
	struct work end;
	void (*closed)(void *opaque);
	void *closed_opaque;
};

#define CONTAINER(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static void bd_null_unref(struct bd_null *b)
{
	void (*closed)(void *);
	void *opaque;

	if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) > 1)
		return;
	closed = b->closed;
	opaque = b->closed_opaque;
	bd_done(&b->base);
	free(b);
	if (closed)
		closed(opaque);
}

static void run_or_submit(struct bd_null *b, struct work *work)
{
	if (b->workers)
		workers_submit(b->workers, work);
	else
		work->fn(work);
}

static void login_run(struct work *work)
{
	struct bd_null *b = CONTAINER(work, struct bd_null, login);
	struct bd_info info = {
		.size = b->size,
		.block_size = 1,
		.max_transfer = MAX_TRANSFER,
		.opt_transfer = OPT_TRANSFER,
		.thin = true,
		.read_only = b->read_only,
		.product = "null",
	};
	char error[BD_ERROR_MAX] = "";

	if (bd_identify(&b->base, &info, error, sizeof(error)) == 0) {
		bd_count_login(&b->base);
		bd_set_state(&b->base, BD_READY, NULL);
	} else {
		bd_set_state(&b->base, BD_REFUSED, "%s", error);
	}
	bd_null_unref(b);
}

static void bd_null_submit(struct blockdev *bd, struct bd_req *req)
{
	if (req->op == BD_READ)
		memset(req->buf, 0, req->length);
	if (req->op == BD_EXTENTS) {
		req->extents[0] = (struct bd_extent){ req->offset, req->length, false };
		req->n_extents = 1;
	}
	req->done(req, 0);
}

static void end_run(struct work *work)
{
	bd_null_unref(CONTAINER(work, struct bd_null, end));
}

static void bd_null_close(struct blockdev *bd, bool release, void (*closed)(void *opaque),
			  void *opaque)
{
	struct bd_null *b = (struct bd_null *)bd;

	b->closed = closed;
	b->closed_opaque = opaque;
	run_or_submit(b, &b->end);
}

static const struct blockdev_ops bd_null_ops = {
	.name = "null",
	.submit = bd_null_submit,
	.close = bd_null_close,
};

int bd_null_open(const struct bd_params *p, struct blockdev **ret, char *err, size_t n)
{
	struct bd_null *b = calloc(1, sizeof(*b));

	if (!b || bd_init(&b->base, &bd_null_ops, p) < 0) {
		snprintf(err, n, "%s: open: out of memory", p->name);
		free(b);
		return -ENOMEM;
	}
	b->workers = p->workers;
	b->size = p->url->size;
	b->read_only = p->read_only;
	b->login.fn = login_run;
	b->end.fn = end_run;
	atomic_init(&b->refs, 2);
	*ret = &b->base;
	run_or_submit(b, &b->login);
	return 0;
}
