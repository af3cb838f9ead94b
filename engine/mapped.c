/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * How much of a thin LUN is mapped, for the file `allocated`: after each login
 * its extents are asked for once, one answer after another, in the background.
 * A LUN in very many pieces is not counted to its end: after MAX_ANSWERS it
 * counts as allocated as a whole, as it does until the count is done.
 */

#include "engine/model.h"

#include <stdlib.h>

#include "conf/cleanup.h"

enum { MAX_ANSWERS = 65536 };

struct mapped_scan {
	struct message m;
	struct engine *engine;
	struct volume *volume; /* with a reference */
	uint64_t element;
	uint64_t size, offset, mapped;
	unsigned n_answers;
	struct work next; /* so that answers that come at once do not nest */
	struct bd_req req;
	struct bd_extent extents[BD_MAX_EXTENTS];
};

static void take_result(struct engine *e, struct message *m)
{
	struct mapped_scan *scan = (struct mapped_scan *)m;
	struct element *el;

	engine_lock(e);
	el = object_by_id(e, ENGINE_ELEMENT, scan->element);
	if (el) {
		el->mapped = scan->mapped;
		el->mapped_known = scan->offset >= scan->size;
		el->mapped_scanning = false;
	}
	engine_unlock(e);
	volume_unref(scan->volume);
	free(scan);
}

static void ask(struct work *work);

static void answered(struct bd_req *req, int error)
{
	struct mapped_scan *scan = req->opaque;

	for (size_t i = 0; !error && i < req->n_extents; i++) {
		scan->offset = req->extents[i].offset + req->extents[i].length;
		if (req->extents[i].mapped)
			scan->mapped += req->extents[i].length;
	}
	if (!error && req->n_extents && scan->offset < scan->size &&
	    ++scan->n_answers < MAX_ANSWERS) {
		scan->next.fn = ask;
		workers_submit(scan->engine->workers, &scan->next);
		return;
	}
	scan->m.fn = take_result;
	engine_post(scan->engine, &scan->m);
}

static void ask(struct work *work)
{
	struct mapped_scan *scan =
		(struct mapped_scan *)((char *)work - offsetof(struct mapped_scan, next));

	scan->req = (struct bd_req){
		.op = BD_EXTENTS,
		.offset = scan->offset,
		.length = scan->size - scan->offset,
		.extents = scan->extents,
		.done = answered,
		.opaque = scan,
	};
	volume_submit(scan->volume, &scan->req);
}

void mapped_count(struct element *el)
{
	struct mapped_scan *scan;

	if (!el->info.thin || el->mapped_scanning || !el->info.size)
		return;
	scan = calloc(1, sizeof(*scan));
	if (!scan)
		return;
	el->mapped_scanning = true;
	volume_ref(el->volume);
	scan->engine = el->engine;
	scan->volume = el->volume;
	scan->element = el->obj.id;
	scan->size = el->info.size;
	ask(&scan->next);
}
